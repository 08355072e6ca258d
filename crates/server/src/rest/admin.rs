//! Workspaces, tokens, workers and collection of garbage.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use corral_catalog::{NewRecord, NewToken, SecretHash, TokenRecord, WorkspaceRecord, all_pages};
use corral_serving::Subject;
use corral_types::{Caller, ErrorKind, Failure, Scope, Scopes, Timestamp, TokenId, WorkspaceId};

use super::answer::{
    Answer, ApiError, Body, Query, id, invalid, name, page_of, page_request, time,
};
use crate::api::{
    CollectAnswer, CreateTokenRequest, CreateWorkspaceRequest, LimitsBody, Page, PageQuery,
    TokenDetail, WhoAmI, WorkerDetail, WorkspaceDetail,
};
use crate::auth::{self, Anyone};
use crate::state::App;

/// Who the token says the caller is.
#[utoipa::path(get, path = "/v1/whoami", tag = "instance",
    responses((status = 200, body = WhoAmI)))]
pub async fn whoami(State(app): State<App>, Anyone(caller): Anyone) -> Answer<Json<WhoAmI>> {
    let workspace = app.catalog.workspace(caller.workspace).await?;
    Ok(Json(WhoAmI {
        workspace: workspace.name.to_string(),
        scopes: caller.scopes.iter().map(|scope| scope.to_string()).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }))
}

/// All workspaces.
#[utoipa::path(get, path = "/v1/workspaces", tag = "instance", params(PageQuery),
    responses((status = 200, body = Page<WorkspaceDetail>)))]
pub async fn list_workspaces(
    State(app): State<App>,
    auth::Admin(_caller): auth::Admin,
    Query(query): Query<PageQuery>,
) -> Answer<Json<Page<WorkspaceDetail>>> {
    let page = app.catalog.list_workspaces(page_request(&query)?).await?;
    Ok(page_of(page, |record| workspace_detail(&app, record)))
}

/// Creates a workspace.
#[utoipa::path(post, path = "/v1/workspaces", tag = "instance",
    request_body = CreateWorkspaceRequest, responses((status = 200, body = WorkspaceDetail)))]
pub async fn create_workspace(
    State(app): State<App>,
    auth::Admin(_caller): auth::Admin,
    Body(request): Body<CreateWorkspaceRequest>,
) -> Answer<Json<WorkspaceDetail>> {
    let new = NewRecord {
        id: WorkspaceId::generate(),
        name: name(&request.name)?,
        created: Timestamp::now(),
    };
    let record = app.catalog.create_workspace(new).await?;
    Ok(Json(workspace_detail(&app, &record)))
}

/// The tokens of the caller's workspace, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", tag = "instance", params(PageQuery),
    responses((status = 200, body = Page<TokenDetail>)))]
pub async fn list_tokens(
    State(app): State<App>,
    auth::Admin(caller): auth::Admin,
    Query(query): Query<PageQuery>,
) -> Answer<Json<Page<TokenDetail>>> {
    let workspace = app.catalog.workspace(caller.workspace).await?;
    let page = app.catalog.list_tokens(caller.workspace, page_request(&query)?).await?;
    Ok(page_of(page, |record| token_detail(&app, record, &workspace, None)))
}

/// Creates a token. The answer is the only place where its secret stands.
#[utoipa::path(post, path = "/v1/tokens", tag = "instance",
    request_body = CreateTokenRequest, responses((status = 200, body = TokenDetail)))]
pub async fn create_token(
    State(app): State<App>,
    auth::Admin(caller): auth::Admin,
    Body(request): Body<CreateTokenRequest>,
) -> Answer<Json<TokenDetail>> {
    let words = request.scopes.iter().map(|word| word.parse::<Scope>());
    let scopes: Scopes = words.collect::<Result<_, _>>().map_err(invalid)?;
    if scopes == Scopes::NONE {
        return Err(invalid("a token needs a scope: read, write, predict or admin"));
    }
    let workspace = match &request.workspace {
        None => app.catalog.workspace(caller.workspace).await?,
        Some(workspace) => app.catalog.workspace_named(name(workspace)?).await?,
    };
    let now = Timestamp::now();
    let secret = auth::new_token_secret();
    let new = NewToken {
        id: TokenId::generate(),
        name: name(&request.name)?,
        scopes,
        secret: SecretHash::of(&secret),
        created: now,
        expires: request.expires_in_seconds.map(|s| now.plus(Duration::from_secs(s))),
    };
    let record = app.catalog.create_token(workspace.id, new).await?;
    Ok(Json(token_detail(&app, &record, &workspace, Some(secret))))
}

/// Revokes a token; requests that show it are refused from now on.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "instance",
    params(("id" = String, Path)), responses((status = 204)))]
pub async fn revoke_token(
    State(app): State<App>,
    auth::Admin(caller): auth::Admin,
    Path(text): Path<String>,
) -> Answer<StatusCode> {
    let token: TokenId = id(&text, "token")?;
    if caller.token == Some(token) {
        return Err(ApiError(
            Failure::new(ErrorKind::Conflict, "this is the token that the request itself shows")
                .with_hint("revoke it by another admin token"),
        ));
    }
    app.catalog.revoke_token(caller.workspace, token, Timestamp::now()).await?;
    app.tokens.forget();
    Ok(StatusCode::NO_CONTENT)
}

/// Limits what a token may ask of endpoints.
#[utoipa::path(put, path = "/v1/tokens/{id}/limits", tag = "instance",
    params(("id" = String, Path)), request_body = LimitsBody,
    responses((status = 200, body = LimitsBody)))]
pub async fn set_token_limits(
    State(app): State<App>,
    auth::Admin(caller): auth::Admin,
    Path(text): Path<String>,
    Body(limits): Body<LimitsBody>,
) -> Answer<Json<LimitsBody>> {
    let token = token_of(&app, &caller, &text).await?;
    set_limits(&app, Subject::Token(token), limits).await
}

/// Ends the limits of a token.
#[utoipa::path(delete, path = "/v1/tokens/{id}/limits", tag = "instance",
    params(("id" = String, Path)), responses((status = 204)))]
pub async fn remove_token_limits(
    State(app): State<App>,
    auth::Admin(caller): auth::Admin,
    Path(text): Path<String>,
) -> Answer<StatusCode> {
    let token = token_of(&app, &caller, &text).await?;
    app.serving.set_limit(Subject::Token(token), None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Limits what all tokens of a workspace together may ask of endpoints.
#[utoipa::path(put, path = "/v1/workspaces/{name}/limits", tag = "instance",
    params(("name" = String, Path)), request_body = LimitsBody,
    responses((status = 200, body = LimitsBody)))]
pub async fn set_workspace_limits(
    State(app): State<App>,
    auth::Admin(_caller): auth::Admin,
    Path(text): Path<String>,
    Body(limits): Body<LimitsBody>,
) -> Answer<Json<LimitsBody>> {
    let workspace = app.catalog.workspace_named(name(&text)?).await?;
    set_limits(&app, Subject::Workspace(workspace.id), limits).await
}

/// Ends the limits of a workspace.
#[utoipa::path(delete, path = "/v1/workspaces/{name}/limits", tag = "instance",
    params(("name" = String, Path)), responses((status = 204)))]
pub async fn remove_workspace_limits(
    State(app): State<App>,
    auth::Admin(_caller): auth::Admin,
    Path(text): Path<String>,
) -> Answer<StatusCode> {
    let workspace = app.catalog.workspace_named(name(&text)?).await?;
    app.serving.set_limit(Subject::Workspace(workspace.id), None).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_limits(app: &App, subject: Subject, limits: LimitsBody) -> Answer<Json<LimitsBody>> {
    if limits == LimitsBody::default() {
        return Err(invalid("a limit is of `requests_per_second`, of `texts_per_second`, or both"));
    }
    app.serving.set_limit(subject, Some(limits.into())).await?;
    Ok(Json(limits))
}

/// A token of the caller's workspace.
async fn token_of(app: &App, caller: &Caller, text: &str) -> Answer<TokenId> {
    let token: TokenId = id(text, "token")?;
    let tokens = all_pages(|page| app.catalog.list_tokens(caller.workspace, page)).await?;
    if tokens.iter().any(|record| record.id == token) {
        return Ok(token);
    }
    Err(ApiError(
        Failure::new(ErrorKind::NotFound, format!("there is no token `{text}`"))
            .with_hint("`corral token ls` lists the tokens there are"),
    ))
}

/// The workers that are connected, or were.
#[utoipa::path(get, path = "/v1/workers", tag = "instance",
    responses((status = 200, body = Page<WorkerDetail>)))]
pub async fn workers(
    State(app): State<App>,
    auth::Admin(_caller): auth::Admin,
) -> Answer<Json<Page<WorkerDetail>>> {
    Ok(Json(Page { items: crate::worker::details(&app).await, next: None }))
}

/// Removes stored bytes that nothing refers to any more.
#[utoipa::path(post, path = "/v1/gc", tag = "instance",
    responses((status = 200, body = CollectAnswer)))]
pub async fn collect(
    State(app): State<App>,
    auth::Admin(_caller): auth::Admin,
) -> Answer<Json<CollectAnswer>> {
    let swept = crate::collect::collect(&app).await?;
    Ok(Json(CollectAnswer {
        removed_blobs: swept.deleted_blobs,
        removed_bytes: swept.deleted_bytes,
        kept_blobs: swept.kept_blobs + swept.spared_blobs,
    }))
}

fn workspace_detail(app: &App, record: &WorkspaceRecord) -> WorkspaceDetail {
    WorkspaceDetail {
        name: record.name.to_string(),
        id: record.id.to_string(),
        created: time(record.created),
        limits: app.serving.limit(Subject::Workspace(record.id)).map(LimitsBody::from),
    }
}

fn token_detail(
    app: &App,
    record: &TokenRecord,
    workspace: &WorkspaceRecord,
    secret: Option<String>,
) -> TokenDetail {
    TokenDetail {
        id: record.id.to_string(),
        name: record.name.to_string(),
        workspace: workspace.name.to_string(),
        scopes: record.scopes.iter().map(|scope| scope.to_string()).collect(),
        created: time(record.created),
        expires: record.expires.map(time),
        revoked: record.revoked.is_some(),
        limits: app.serving.limit(Subject::Token(record.id)).map(LimitsBody::from),
        secret,
    }
}
