//! Workspaces, tokens and settings.

use std::sync::Arc;

use corral_types::{Scope, Scopes, TokenId, WorkspaceId};

use super::{absent, at, id, name, new, taken, two_workspaces};
use crate::{
    Catalog, DEFAULT_WORKSPACE, NewToken, PageRequest, SecretHash, TokenRecord, all_pages,
};

pub async fn the_default_workspace_is_there(catalog: Arc<dyn Catalog>) {
    let default = catalog.workspace_named(name("default")).await.unwrap();
    assert_eq!(default.id, DEFAULT_WORKSPACE);
    assert_eq!(catalog.workspace(DEFAULT_WORKSPACE).await.unwrap(), default);
    let all = catalog.list_workspaces(PageRequest::default()).await.unwrap();
    assert_eq!(all.items, [default]);
}

pub async fn workspaces_have_unique_names(catalog: Arc<dyn Catalog>) {
    let made = catalog.create_workspace(new(7, "team")).await.unwrap();
    assert_eq!((made.id, made.name.as_str(), made.created), (id(7), "team", at(7)));
    taken(catalog.create_workspace(new(8, "team")).await);
    taken(catalog.create_workspace(new(7, "other")).await);
    assert_eq!(catalog.workspace(id(7)).await.unwrap(), made);
    absent(catalog.workspace(id(8)).await);
    absent(catalog.workspace_named(name("other")).await);
    let all = all_pages(|page| catalog.list_workspaces(page)).await.unwrap();
    assert_eq!(all.len(), 2);
}

fn token(value: u128, secret: &str) -> NewToken {
    NewToken {
        id: id(value),
        name: name("laptop"),
        scopes: [Scope::Read, Scope::Predict].into_iter().collect(),
        secret: SecretHash::of(secret),
        created: at(1),
        expires: Some(at(100)),
    }
}

async fn found(catalog: &Arc<dyn Catalog>, secret: &str) -> Option<TokenRecord> {
    catalog.token_by_secret(SecretHash::of(secret)).await.unwrap()
}

pub async fn tokens_are_found_by_their_secret(catalog: Arc<dyn Catalog>) {
    let made = catalog.create_token(DEFAULT_WORKSPACE, token(1, "s1")).await.unwrap();
    assert_eq!(made.workspace, DEFAULT_WORKSPACE);
    assert_eq!(made.scopes.to_string(), "read,predict");
    assert_eq!(found(&catalog, "s1").await, Some(made.clone()));
    assert_eq!(found(&catalog, "S1").await, None);
    taken(catalog.create_token(DEFAULT_WORKSPACE, token(1, "s2")).await);
    taken(catalog.create_token(DEFAULT_WORKSPACE, token(2, "s1")).await);

    assert!(made.is_valid_at(at(99)));
    assert!(!made.is_valid_at(at(100)));
    let revoked = catalog.revoke_token(DEFAULT_WORKSPACE, id(1), at(50)).await.unwrap();
    assert_eq!(revoked.revoked, Some(at(50)));
    assert!(!revoked.is_valid_at(at(2)));
    // Revoked once for all: a second time changes nothing.
    let again = catalog.revoke_token(DEFAULT_WORKSPACE, id(1), at(60)).await.unwrap();
    assert_eq!(again, revoked);
    assert_eq!(found(&catalog, "s1").await, Some(revoked));

    let forever = NewToken { expires: None, scopes: Scopes::NONE, ..token(3, "s3") };
    let forever = catalog.create_token(DEFAULT_WORKSPACE, forever).await.unwrap();
    assert!(forever.is_valid_at(at(u64::MAX)));
    assert_eq!(found(&catalog, "s3").await, Some(forever));
}

pub async fn tokens_stay_in_their_workspace(catalog: Arc<dyn Catalog>) {
    let (first, second) = two_workspaces(&catalog).await;
    catalog.create_token(first, token(1, "s1")).await.unwrap();
    catalog.create_token(second, token(2, "s2")).await.unwrap();
    let ids = async |workspace: WorkspaceId| -> Vec<TokenId> {
        let tokens = catalog.list_tokens(workspace, PageRequest::default()).await.unwrap();
        tokens.items.into_iter().map(|token| token.id).collect()
    };
    assert_eq!(ids(first).await, [id(1)]);
    assert_eq!(ids(second).await, [id(2)]);
    absent(catalog.revoke_token(second, id(1), at(9)).await);
    assert_eq!(found(&catalog, "s1").await.unwrap().revoked, None);
    absent(catalog.create_token(id(77), token(3, "s3")).await);
}

pub async fn uses_of_tokens_only_move_forward(catalog: Arc<dyn Catalog>) {
    catalog.create_token(DEFAULT_WORKSPACE, token(1, "s1")).await.unwrap();
    let last_used = async || found(&catalog, "s1").await.unwrap().last_used;
    assert_eq!(last_used().await, None);
    catalog.record_token_uses(vec![(id(1), at(20)), (id(5), at(20))]).await.unwrap();
    assert_eq!(last_used().await, Some(at(20)));
    catalog.record_token_uses(vec![(id(1), at(10))]).await.unwrap();
    assert_eq!(last_used().await, Some(at(20)));
    catalog.record_token_uses(vec![(id(1), at(30)), (id(1), at(25))]).await.unwrap();
    assert_eq!(last_used().await, Some(at(30)));
}

pub async fn settings_are_kept(catalog: Arc<dyn Catalog>) {
    let key = || "instance".to_owned();
    assert_eq!(catalog.setting(key()).await.unwrap(), None);
    assert_eq!(catalog.setting_or_insert(key(), "a".to_owned()).await.unwrap(), "a");
    assert_eq!(catalog.setting_or_insert(key(), "b".to_owned()).await.unwrap(), "a");
    catalog.put_setting(key(), "c".to_owned()).await.unwrap();
    assert_eq!(catalog.setting(key()).await.unwrap().as_deref(), Some("c"));
}
