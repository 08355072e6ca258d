//! Errors as other protocols write them: `{"error": "one line of text"}`.
//!
//! Handlers and extractors fail as they do in our own API, and every such answer carries its
//! failure along; this takes the failure and writes the line.

use axum::Json;
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use corral_types::{ErrorKind, Failure};
use serde::Serialize;

use crate::rest::ApiError;

#[derive(Serialize)]
struct Line {
    error: String,
}

/// Rewrites an answer of ours that is an error; for `middleware::map_response`.
pub async fn plain(mut response: Response) -> Response {
    let Some(failure) = response.extensions_mut().remove::<Failure>() else { return response };
    let (parts, _) = response.into_parts();
    let (status, mut headers) = (parts.status, parts.headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONTENT_TYPE);
    (status, headers, Json(Line { error: one_line(&failure) })).into_response()
}

/// The answer where a protocol has no such path.
pub async fn no_such_path(uri: Uri) -> ApiError {
    ApiError(Failure::new(ErrorKind::NotFound, format!("there is nothing at {}", uri.path())))
}

/// A failure with its causes and its hint in one line.
pub fn one_line(failure: &Failure) -> String {
    let mut line = failure.message.clone();
    for cause in &failure.causes {
        line.push_str(": ");
        line.push_str(cause);
    }
    if let Some(hint) = &failure.hint {
        line.push_str("; ");
        line.push_str(hint);
    }
    line.replace(['\n', '\r'], " ")
}
