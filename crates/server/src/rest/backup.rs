//! `/v1/backup`: everything the server keeps, as one archive.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::answer::Answer;
use super::upload;
use crate::auth::Admin;
use crate::state::App;

/// A tar archive of catalog, jobs and every blob they refer to, for `corral restore`.
#[utoipa::path(get, path = "/v1/backup", tag = "instance",
    responses((status = 200, body = Vec<u8>, content_type = "application/x-tar")))]
pub async fn backup(State(app): State<App>, Admin(_caller): Admin) -> Answer<Response> {
    let prepared = crate::backup::prepare(&app).await?;
    let body = upload::written_by(move |writer| prepared.write_to(writer));
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], body).into_response())
}
