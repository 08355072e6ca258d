//! Modelbit's request format: `POST /v1/NAME/VERSION` with `{"data": …}`.
//!
//! The same path begins with `/v1` as our own API does. Where both could be meant, ours is:
//! an endpoint that has the name of one of our nouns is asked under `/modelbit/v1/…`, where
//! every endpoint answers.

mod request;

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json, Router, middleware};
use corral_types::{Caller, ErrorKind, Failure};
use serde::Serialize;

use self::request::{Inference, RowId, Shape};
use crate::api::{PredictQuery, Prediction};
use crate::asking::{Addressed, ask};
use crate::auth::Asker;
use crate::rest::{Answer, ApiError, MAX_BODY_BYTES, Query, unread};
use crate::state::App;
use crate::{encoding, plain_error};

/// The words after `/v1/` that begin paths of our own API.
const OWN_NOUNS: [&str; 21] = [
    "apps",
    "backup",
    "calls",
    "containers",
    "datasets",
    "encoders",
    "endpoints",
    "environments",
    "functions",
    "gc",
    "jobs",
    "label",
    "models",
    "predict",
    "taxonomies",
    "tokens",
    "train",
    "usage",
    "whoami",
    "workers",
    "workspaces",
];

/// The paths of the format.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/v1/{name}/{version}", any(beside_ours))
        .route("/modelbit/v1/{name}/{version}", post(infer))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn(encoding::negotiate))
        .layer(middleware::map_response(plain_error::plain))
        .with_state(app)
}

async fn infer(
    State(app): State<App>,
    Asker(caller): Asker,
    Path((name, version)): Path<(String, String)>,
    Query(options): Query<PredictQuery>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let body = body.map_err(|rejection| unread(&rejection))?;
    answer(&app, &caller, &Addressed::read(&name, Some(&version))?, &options, &body).await
}

/// The same beside our own paths, which are passed on to nobody here.
async fn beside_ours(
    state: State<App>,
    method: Method,
    uri: Uri,
    path: Path<(String, String)>,
    asker: Result<Asker, ApiError>,
    options: Result<Query<PredictQuery>, ApiError>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    if OWN_NOUNS.contains(&path.0.0.as_str()) {
        let message = format!("there is nothing at {}", uri.path());
        let failure = Failure::new(ErrorKind::NotFound, message);
        let hint = format!("an endpoint of this name answers at /modelbit{}", uri.path());
        return Err(ApiError(failure.with_hint(hint)));
    }
    if method != Method::POST {
        let message = format!("{} takes POST, not {method}", uri.path());
        let mut refused = ApiError(Failure::new(ErrorKind::Invalid, message)).into_response();
        *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return Ok(refused);
    }
    infer(state, asker?, path, options?, body).await
}

#[derive(Serialize)]
struct Results<T> {
    data: T,
}

/// Answers a body in this format, whatever path named the endpoint.
///
/// # Errors
/// When the body is not of this format, or the endpoint cannot answer it.
pub async fn answer(
    app: &App,
    caller: &Caller,
    addressed: &Addressed,
    options: &PredictQuery,
    body: &[u8],
) -> Answer<Response> {
    let Inference { texts, shape, timeout } = Inference::read(body)?;
    let answering = ask(app, caller, addressed, options.question(texts));
    let answered = tokio::time::timeout(timeout, answering);
    let answered = answered.await.map_err(|_| timed_out(timeout))??;
    let mut results = answered.predictions.into_iter().map(Prediction::from);
    Ok(match shape {
        Shape::Single => {
            let data = results.next().expect("a text has an answer");
            Json(Results { data }).into_response()
        }
        Shape::Batch(ids) => {
            let data: Vec<(RowId, Prediction)> = ids.into_iter().zip(results).collect();
            Json(Results { data }).into_response()
        }
    })
}

fn timed_out(timeout: Duration) -> ApiError {
    let message = format!("the inference took longer than {} seconds", timeout.as_secs_f64());
    let failure = Failure::new(ErrorKind::Timeout, message);
    ApiError(failure.with_hint("send fewer rows, or give more `timeout_seconds`"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_nouns_are_those_of_our_own_paths() {
        let source = include_str!("../rest/mod.rs");
        let nouns = source.split(".route(\"/v1/").skip(1);
        let nouns = nouns.map(|rest| rest.split(['/', '"']).next().unwrap());
        assert_eq!(nouns.collect::<BTreeSet<_>>(), OWN_NOUNS.into_iter().collect());
    }
}
