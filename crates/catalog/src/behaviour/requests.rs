//! Requests with an idempotency key.

use std::sync::Arc;

use corral_types::WorkspaceId;

use super::{absent, at, blob, too_large, two_workspaces};
use crate::{
    BeginRequest, Begun, Catalog, CatalogError, DEFAULT_WORKSPACE, MAX_KEY_BYTES,
    MAX_STORED_RESPONSE_BYTES, StoredResponse,
};

const W: WorkspaceId = DEFAULT_WORKSPACE;

fn begin(key: &str, route: &str, body: &str, begun: u64) -> BeginRequest {
    BeginRequest {
        key: key.to_owned(),
        route: route.to_owned(),
        request: blob(body),
        begun: at(begun),
        expires: at(begun + 100),
    }
}

fn response(text: &str) -> StoredResponse {
    StoredResponse { status: 201, body: text.as_bytes().to_vec() }
}

#[track_caller]
fn reused<T: std::fmt::Debug>(answer: Result<T, CatalogError>) {
    assert!(matches!(answer, Err(CatalogError::KeyReused { .. })), "{answer:?}");
}

#[track_caller]
fn in_progress<T: std::fmt::Debug>(answer: Result<T, CatalogError>) {
    assert!(matches!(answer, Err(CatalogError::KeyInProgress { .. })), "{answer:?}");
}

pub async fn keys_are_done_once(catalog: Arc<dyn Catalog>) {
    let key = || "k".to_owned();
    assert_eq!(
        catalog.begin_request(W, begin("k", "POST /a", "x", 0)).await.unwrap(),
        Begun::Fresh
    );
    in_progress(catalog.begin_request(W, begin("k", "POST /a", "x", 1)).await);
    reused(catalog.begin_request(W, begin("k", "POST /b", "x", 1)).await);
    reused(catalog.begin_request(W, begin("k", "POST /a", "y", 1)).await);
    catalog.finish_request(W, key(), response("done")).await.unwrap();
    let again = catalog.begin_request(W, begin("k", "POST /a", "x", 2)).await.unwrap();
    assert_eq!(again, Begun::Done(response("done")));
    reused(catalog.begin_request(W, begin("k", "POST /a", "y", 2)).await);
    absent(catalog.finish_request(W, key(), response("other")).await);
    absent(catalog.finish_request(W, "never".to_owned(), response("other")).await);
    // What is finished cannot be abandoned.
    catalog.abandon_request(W, key()).await.unwrap();
    let again = catalog.begin_request(W, begin("k", "POST /a", "x", 3)).await.unwrap();
    assert_eq!(again, Begun::Done(response("done")));

    too_large(catalog.begin_request(W, begin(&"k".repeat(MAX_KEY_BYTES + 1), "r", "x", 0)).await);
    catalog.begin_request(W, begin("big", "r", "x", 0)).await.unwrap();
    let big = StoredResponse { status: 200, body: vec![0; MAX_STORED_RESPONSE_BYTES + 1] };
    too_large(catalog.finish_request(W, "big".to_owned(), big).await);
}

pub async fn unfinished_and_expired_keys_are_given_back(catalog: Arc<dyn Catalog>) {
    let fresh = async |request| {
        assert_eq!(catalog.begin_request(W, request).await.unwrap(), Begun::Fresh);
    };
    fresh(begin("a", "r", "x", 0)).await;
    catalog.abandon_request(W, "a".to_owned()).await.unwrap();
    fresh(begin("a", "r", "y", 1)).await;
    fresh(begin("b", "r", "x", 1)).await;
    catalog.finish_request(W, "b".to_owned(), response("b")).await.unwrap();
    assert_eq!(catalog.abandon_unfinished_requests().await.unwrap(), 1);
    fresh(begin("a", "r", "z", 2)).await;
    let again = catalog.begin_request(W, begin("b", "r", "x", 100)).await.unwrap();
    assert_eq!(again, Begun::Done(response("b")));
    // From its expiry on a key is as good as new, whatever it was used for.
    fresh(begin("b", "other", "y", 101)).await;
    assert_eq!(catalog.forget_expired_requests(at(101)).await.unwrap(), 0);
    assert_eq!(catalog.forget_expired_requests(at(102)).await.unwrap(), 1);
    in_progress(catalog.begin_request(W, begin("b", "other", "y", 150)).await);
}

pub async fn keys_stay_in_their_workspace(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    for workspace in [first, second] {
        let begun = catalog.begin_request(workspace, begin("k", "r", "x", 0)).await.unwrap();
        assert_eq!(begun, Begun::Fresh);
    }
    catalog.finish_request(first, "k".to_owned(), response("first")).await.unwrap();
    in_progress(catalog.begin_request(second, begin("k", "r", "x", 1)).await);
    catalog.abandon_request(second, "k".to_owned()).await.unwrap();
    let again = catalog.begin_request(first, begin("k", "r", "x", 1)).await.unwrap();
    assert_eq!(again, Begun::Done(response("first")));
}
