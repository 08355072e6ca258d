//! How the REST API answers: errors as one JSON shape, bodies and queries read strictly.

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::{HeaderValue, StatusCode, header, request::Parts};
use axum::response::{IntoResponse, Response};
use corral_catalog::{Cursor, PageRequest};
use corral_types::{ErrorKind, Failure, Name, Timestamp};
use serde::de::DeserializeOwned;

use crate::api::{DEFAULT_PAGE, ErrorBody, MAX_PAGE, Page, PageQuery};

/// An error on its way to a client.
#[derive(Debug)]
pub struct ApiError(pub Failure);

/// What every handler returns.
pub type Answer<T> = Result<T, ApiError>;

impl<E> From<E> for ApiError
where
    Failure: From<E>,
{
    fn from(error: E) -> Self {
        Self(Failure::from(error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self(failure) = self;
        // Said once, here, where it is handled: a client's own mistakes are not ours to log.
        if matches!(failure.kind, ErrorKind::Internal | ErrorKind::DataLoss) {
            let causes = failure.causes.join(": ");
            tracing::error!(message = failure.message, causes, "a request failed");
        }
        let status = StatusCode::from_u16(failure.kind.http_status())
            .expect("the table holds HTTP statuses");
        let body = axum::Json(ErrorBody::from(&failure));
        let mut response = (status, body).into_response();
        if failure.kind == ErrorKind::Unauthenticated {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if failure.kind.is_retryable() {
            // Whole seconds, as HTTP has it.
            let seconds = failure.retry_after.map_or(1, |wait| wait.as_secs() + 1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // For edges that word their errors otherwise.
        response.extensions_mut().insert(failure);
        response
    }
}

/// A refusal of kind `Invalid`.
pub fn invalid(message: impl Into<String>) -> ApiError {
    ApiError(Failure::new(ErrorKind::Invalid, message))
}

/// A JSON body; what is wrong with it is said as an error of ours.
pub struct Body<T>(pub T);

impl<T, S> FromRequest<S> for Body<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        // curl sends forms unless told otherwise; what is asked for is JSON all the same.
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|rejection| unread(&rejection))?;
        match axum::Json::<T>::from_bytes(&bytes) {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError(json_failure(&rejection))),
        }
    }
}

/// Why a body could not be read whole.
pub fn unread(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let limit = corral_types::display_bytes(super::MAX_BODY_BYTES as u64);
        return ApiError(
            Failure::new(ErrorKind::TooLarge, format!("the request has more than {limit}"))
                .with_hint("send it in several requests"),
        );
    }
    invalid(rejection.body_text())
}

fn json_failure(rejection: &JsonRejection) -> Failure {
    let mut failure = Failure::new(ErrorKind::Invalid, "the body is not the JSON expected here");
    failure.causes = corral_types::source_chain(rejection);
    failure.causes.dedup();
    failure.with_hint("/openapi.json describes every body")
}

/// The query of a request, unknown keys refused.
pub struct Query<T>(pub T);

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection: QueryRejection| invalid(rejection.body_text()))
    }
}

/// A name taken from a path or a body.
pub fn name(text: &str) -> Answer<Name> {
    text.parse().map_err(|error: corral_types::NameError| invalid(error.to_string()))
}

/// An id taken from a path: one that cannot be read names nothing.
pub fn id<K: corral_types::Kind>(text: &str, what: &str) -> Answer<corral_types::Id<K>> {
    text.parse().map_err(|_| {
        ApiError(Failure::new(ErrorKind::NotFound, format!("there is no {what} `{text}`")))
    })
}

/// A name with an optional `@version`.
pub fn versioned(text: &str) -> Answer<(Name, Option<u32>)> {
    match text.split_once('@') {
        None => Ok((name(text)?, None)),
        Some((left, right)) => {
            let number = right.parse().map_err(|_| {
                invalid(format!("`{right}` after `@` is not a version number, as in {left}@3"))
            })?;
            Ok((name(left)?, Some(number)))
        }
    }
}

/// A time as the API writes it.
pub fn time(timestamp: Timestamp) -> String {
    timestamp.to_string()
}

/// Which page of a catalog's list is asked for.
pub fn page_request(query: &PageQuery) -> Answer<PageRequest> {
    let after = query.after.as_deref().map(str::parse::<Cursor>).transpose()?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(invalid(format!("`limit` is {limit}; a page has 1 to {MAX_PAGE} entries")));
    }
    Ok(PageRequest::new(after, limit))
}

/// A page of the catalog's as the API answers it.
pub fn page_of<T, U>(page: corral_catalog::Page<T>, detail: impl FnMut(&T) -> U) -> Json<Page<U>> {
    let items = page.items.iter().map(detail).collect();
    Json(Page { items, next: page.next.map(|cursor| cursor.to_string()) })
}
