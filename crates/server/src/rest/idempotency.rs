//! `Idempotency-Key`: a request that creates something, repeated, creates it once.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use corral_catalog::{BeginRequest, Begun, MAX_KEY_BYTES, StoredResponse};
use corral_types::{BlobHash, Timestamp};

use super::MAX_BODY_BYTES;
use super::answer::{ApiError, invalid};
use crate::auth::Anyone;
use crate::state::App;

/// How long a key is remembered.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// What of a request must be the same for it to be the same request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sameness {
    WithBody,
    /// Uploads are too large to be read before they are done: their path and query count.
    WithoutBody,
}

/// Answers a repeated request as the first time.
pub async fn once(State(app): State<App>, request: Request, next: Next) -> Response {
    answer(app, request, next, Sameness::WithBody).await.unwrap_or_else(ApiError::into_response)
}

/// The same for uploads.
pub async fn once_upload(State(app): State<App>, request: Request, next: Next) -> Response {
    answer(app, request, next, Sameness::WithoutBody).await.unwrap_or_else(ApiError::into_response)
}

async fn answer(
    app: App,
    request: Request,
    next: Next,
    sameness: Sameness,
) -> Result<Response, ApiError> {
    let Some(key) = request.headers().get("idempotency-key") else {
        return Ok(next.run(request).await);
    };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= MAX_KEY_BYTES);
    let key = key.map(str::to_owned).ok_or_else(|| {
        invalid(format!("an Idempotency-Key has 1 to {MAX_KEY_BYTES} ASCII characters"))
    })?;
    let (mut parts, body) = request.into_parts();
    let Anyone(caller) = Anyone::from_request_parts(&mut parts, &app).await?;
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let (request, body) = match sameness {
        Sameness::WithoutBody => (BlobHash::of(query), body),
        Sameness::WithBody => {
            let bytes = axum::body::to_bytes(body, MAX_BODY_BYTES)
                .await
                .map_err(|_| invalid("the body is too large, or broke off"))?;
            (BlobHash::of(&[query, &bytes].concat()), Body::from(bytes))
        }
    };
    let now = Timestamp::now();
    let begin = BeginRequest {
        key: key.clone(),
        route: format!("{} {}", parts.method, parts.uri.path()),
        request,
        begun: now,
        expires: now.plus(KEPT),
    };
    if let Begun::Done(stored) = app.catalog.begin_request(caller.workspace, begin).await? {
        return Ok(replayed(stored));
    }
    // Finished even if the client goes away meanwhile: a key must not stay in between.
    let finish = tokio::spawn(async move {
        let response = next.run(Request::from_parts(parts, body)).await;
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, MAX_BODY_BYTES).await.unwrap_or_default();
        let stored = if parts.status.is_success() {
            let response =
                StoredResponse { status: parts.status.as_u16(), body: without_secret(&body) };
            app.catalog.finish_request(caller.workspace, key, response).await
        } else {
            app.catalog.abandon_request(caller.workspace, key).await
        };
        stored.map(|()| Response::from_parts(parts, Body::from(body)))
    });
    let response = finish.await.map_err(|_| super::upload::cut_off())?;
    Ok(response?)
}

/// The answer as it is kept: the secret of a token is shown once and never stored.
fn without_secret(body: &[u8]) -> Vec<u8> {
    let mut answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let secret = answer.as_object_mut().and_then(|fields| fields.remove("secret"));
    match secret {
        Some(_) => answer.to_string().into_bytes(),
        None => body.to_vec(),
    }
}

fn replayed(stored: StoredResponse) -> Response {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    let mut response = (status, stored.body).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    response
}
