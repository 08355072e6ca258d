//! References to blobs.

use std::sync::Arc;

use super::{absent, blob, dataset, id, model, taxonomy, too_large, two_workspaces};
use crate::{BlobOwner, Catalog, CatalogError, DEFAULT_WORKSPACE, MAX_REFERENCES_PER_CALL};

pub async fn references_decide_what_a_workspace_may_read(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let upload = BlobOwner::Upload(id(1));
    catalog.add_references(first, upload, vec![blob("a"), blob("b")]).await.unwrap();
    assert!(catalog.has_reference(first, blob("a")).await.unwrap());
    // The bytes are on this machine, and yet not there for another workspace.
    assert!(!catalog.has_reference(second, blob("a")).await.unwrap());
    absent(catalog.add_references(id(77), upload, vec![blob("a")]).await);

    // The same owner in another workspace is another owner.
    assert_eq!(catalog.remove_references(second, upload).await.unwrap(), []);
    assert!(catalog.has_reference(first, blob("a")).await.unwrap());
}

pub async fn removal_releases_what_nothing_else_refers_to(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let (upload, job) = (BlobOwner::Upload(id(1)), BlobOwner::Job(id(1)));
    let list = |names: &[&str]| names.iter().map(|text| blob(text)).collect::<Vec<_>>();
    catalog.add_references(first, upload, list(&["a", "b", "c", "d"])).await.unwrap();
    catalog.add_references(first, upload, list(&["a", "b"])).await.unwrap();
    catalog.add_references(first, job, list(&["b"])).await.unwrap();
    catalog.add_references(second, job, list(&["c"])).await.unwrap();
    let mut free = catalog.remove_references(first, upload).await.unwrap();
    free.sort();
    let mut expect = list(&["a", "d"]);
    expect.sort();
    assert_eq!(free, expect);
    assert!(!catalog.has_reference(first, blob("c")).await.unwrap());
    assert!(catalog.has_reference(second, blob("c")).await.unwrap());
    let unreferenced = catalog.unreferenced_blobs(list(&["a", "b", "c", "x"])).await.unwrap();
    assert_eq!(unreferenced, list(&["a", "x"]));
    assert_eq!(catalog.remove_references(first, upload).await.unwrap(), []);
}

pub async fn owners_that_are_records_must_be_there(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    dataset(&catalog, first, 1, "d").await;
    taxonomy(&catalog, first, 2, "t").await;
    model(&catalog, first, 3, "m", "file").await;
    let owners = [
        (BlobOwner::Dataset(id(1)), true),
        (BlobOwner::Taxonomy(id(2)), true),
        (BlobOwner::ModelVersion(id(3), 1), true),
        (BlobOwner::ModelVersion(id(3), 2), false),
        (BlobOwner::Dataset(id(3)), false),
        (BlobOwner::Encoder(blob("e")), false),
    ];
    for (owner, there) in owners {
        let added = catalog.add_references(first, owner, vec![blob("layer")]).await;
        assert_eq!(added.is_ok(), there, "{owner:?}: {added:?}");
        absent(catalog.add_references(second, owner, vec![blob("layer")]).await);
        let removed = catalog.remove_references(first, owner).await;
        assert!(matches!(removed, Err(CatalogError::OwnedByRecord { .. })), "{removed:?}");
    }
    assert!(!catalog.has_reference(second, blob("layer")).await.unwrap());
    let many = vec![blob("x"); MAX_REFERENCES_PER_CALL + 1];
    too_large(catalog.add_references(first, BlobOwner::Job(id(1)), many).await);
}

pub async fn referenced_blobs_come_in_order_and_once(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    let blobs: Vec<_> = (0..25).map(|i| blob(&i.to_string())).collect();
    let job = BlobOwner::Job(id(1));
    catalog.add_references(first, job, blobs[..20].to_vec()).await.unwrap();
    catalog.add_references(second, job, blobs[10..].to_vec()).await.unwrap();
    catalog.add_references(DEFAULT_WORKSPACE, job, blobs[5..6].to_vec()).await.unwrap();
    let mut listed = Vec::new();
    loop {
        let next = catalog.referenced_blobs(listed.last().copied(), 7).await.unwrap();
        assert!(next.len() <= 7);
        if next.is_empty() {
            break;
        }
        listed.extend(next);
    }
    let mut expect = blobs;
    expect.sort();
    assert_eq!(listed, expect);
}
