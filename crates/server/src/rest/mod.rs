//! The REST API: one file a noun, each handler a translation between bodies and services.

mod admin;
mod answer;
mod app_logs;
mod apps;
mod backup;
mod batch;
mod calls;
mod containers;
mod datasets;
mod endpoints;
mod functions;
mod health;
mod idempotency;
mod jobs;
mod labeling;
mod labeling_functions;
mod lines;
mod models;
mod observing;
mod openapi;
mod pages;
mod registry;
mod split_lines;
mod taxonomies;
mod train;
mod upload;
mod usage;

pub use answer::{Answer, ApiError, Query, id, unread, versioned};
pub use upload::{cut_off, reader, receive_blob};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{delete, get, patch, post, put};
use corral_types::{ErrorKind, Failure};

use crate::encoding;
use crate::state::App;

/// The largest body that is read into memory; uploads are streamed and have limits of
/// their own.
pub const MAX_BODY_BYTES: usize = 32 << 20;

/// Every path of the API.
pub fn router(app: App) -> Router {
    let posts_that_create = Router::new()
        .route("/v1/train", post(train::train))
        .route("/v1/predict", post(batch::predict))
        .route("/v1/label", post(labeling::label))
        .route("/v1/jobs/probe", post(jobs::probe))
        .route("/v1/workspaces", post(admin::create_workspace))
        .route("/v1/tokens", post(admin::create_token))
        .route("/v1/endpoints/{name}/log/dataset", post(observing::log_dataset))
        .route("/v1/apps/{app}/rollback", post(apps::rollback))
        .route_layer(middleware::from_fn_with_state(app.clone(), idempotency::once));
    let uploads = Router::new()
        .route("/v1/datasets/{name}/import", post(datasets::import))
        .route("/v1/models/{name}/import", post(models::import))
        .route("/v1/encoders", post(models::add_encoder))
        .route_layer(middleware::from_fn_with_state(app.clone(), idempotency::once_upload))
        .layer(DefaultBodyLimit::disable());
    let predictions = Router::new()
        .route("/v1/endpoints/{name}/predict", post(endpoints::predict))
        .route("/v1/endpoints/{name}/{version}/predict", post(endpoints::predict_version))
        .route_layer(middleware::from_fn(encoding::negotiate));
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::serve))
        .route("/v1/whoami", get(admin::whoami))
        .route("/v1/datasets", get(datasets::list))
        .route("/v1/datasets/{name}", get(datasets::show))
        .route("/v1/datasets/{name}", delete(datasets::remove))
        .route("/v1/datasets/{name}/rows", get(datasets::head))
        .route("/v1/datasets/{name}/export", get(datasets::export))
        .route("/v1/datasets/{name}/functions", get(labeling_functions::list))
        .route("/v1/datasets/{name}/functions", put(labeling_functions::import))
        .route("/v1/datasets/{name}/functions/{function}", get(labeling_functions::show))
        .route("/v1/datasets/{name}/functions/{function}", put(labeling_functions::put))
        .route("/v1/datasets/{name}/functions/{function}", delete(labeling_functions::remove))
        .route("/v1/datasets/{name}/labeling", get(labeling::statistics))
        .route("/v1/datasets/{name}/labeling/events", get(labeling::events))
        .route("/v1/datasets/{name}/labeling/rows", get(labeling::rows))
        .route("/v1/datasets/{name}/labeling/suggestions", get(labeling::suggestions))
        .route("/v1/datasets/{name}/labeling/test", post(labeling::test))
        .route("/v1/taxonomies", get(taxonomies::list))
        .route("/v1/taxonomies/{name}", get(taxonomies::show))
        .route("/v1/taxonomies/{name}", delete(taxonomies::remove))
        .route("/v1/taxonomies/{name}/import", post(taxonomies::import))
        .route("/v1/taxonomies/{name}/match", get(taxonomies::matches))
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}/logs", get(jobs::logs))
        .route("/v1/jobs/{id}/events", get(jobs::events))
        .route("/v1/jobs/{id}/runs", get(jobs::runs))
        .route("/v1/jobs/{id}/outputs/{name}", get(jobs::output))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/finish", post(jobs::finish))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{name}", get(models::show))
        .route("/v1/models/{name}", delete(models::remove))
        .route("/v1/models/{name}/export", get(models::export))
        .route("/v1/models/{name}/notes", patch(models::note))
        .route("/v1/models/{name}/report", get(models::report))
        .route("/v1/models/{name}/report.html", get(models::report_page))
        .route("/v1/encoders", get(models::list_encoders))
        .route("/v1/encoders/{name}", delete(models::remove_encoder))
        .route("/v1/endpoints", get(endpoints::list))
        .route("/v1/endpoints/{name}", get(endpoints::show))
        .route("/v1/endpoints/{name}", put(endpoints::deploy))
        .route("/v1/endpoints/{name}", delete(endpoints::remove))
        .route("/v1/endpoints/{name}/aliases/{alias}", put(endpoints::set_alias))
        .route("/v1/endpoints/{name}/aliases/{alias}", delete(endpoints::remove_alias))
        .route("/v1/endpoints/{name}/traffic", put(endpoints::set_traffic))
        .route("/v1/endpoints/{name}/keep-warm", put(endpoints::set_keep_warm))
        .route("/v1/endpoints/{name}/keep-warm", delete(endpoints::remove_keep_warm))
        .route("/v1/endpoints/{name}/mirror", put(endpoints::set_mirror))
        .route("/v1/endpoints/{name}/mirror", delete(endpoints::remove_mirror))
        .route("/v1/endpoints/{name}/log", put(observing::set_log))
        .route("/v1/endpoints/{name}/log", delete(observing::remove_log))
        .route("/v1/endpoints/{name}/drift", put(observing::set_drift))
        .route("/v1/endpoints/{name}/drift", delete(observing::remove_drift))
        .route("/v1/endpoints/{name}/versions/{number}", delete(endpoints::remove_version))
        .route("/v1/usage", get(usage::usage))
        .route("/v1/environments", get(apps::environments))
        .route("/v1/apps", get(apps::list))
        .route("/v1/apps/{app}", get(apps::show))
        .route("/v1/apps/{app}/history", get(apps::history))
        .route("/v1/apps/{app}/logs", get(app_logs::of_app))
        .route("/v1/apps/{app}/stop", post(apps::stop))
        .route("/v1/functions", get(functions::list))
        .route("/v1/functions/{app}/{function}", get(functions::show))
        .route("/v1/functions/{app}/{function}/calls", post(calls::create))
        .route("/v1/calls/{id}", get(calls::show))
        .route("/v1/calls/{id}/cancel", post(calls::cancel))
        .route("/v1/containers", get(containers::list))
        .route("/v1/containers/{id}", get(containers::show))
        .route("/v1/containers/{id}/logs", get(app_logs::of_container))
        .route("/v1/containers/{id}/stop", post(containers::stop))
        .route("/v1/workspaces", get(admin::list_workspaces))
        .route("/v1/workspaces/{name}/limits", put(admin::set_workspace_limits))
        .route("/v1/workspaces/{name}/limits", delete(admin::remove_workspace_limits))
        .route("/v1/tokens", get(admin::list_tokens))
        .route("/v1/tokens/{id}", delete(admin::revoke_token))
        .route("/v1/tokens/{id}/limits", put(admin::set_token_limits))
        .route("/v1/tokens/{id}/limits", delete(admin::remove_token_limits))
        .route("/v1/workers", get(admin::workers))
        .route("/v1/backup", get(backup::backup))
        .route("/v1/gc", post(admin::collect))
        .merge(posts_that_create)
        .merge(predictions)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .merge(uploads)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(app)
}

async fn no_such_path(uri: axum::http::Uri) -> impl IntoResponse {
    ApiError(
        Failure::new(ErrorKind::NotFound, format!("there is nothing at {}", uri.path()))
            .with_hint("/openapi.json lists every path"),
    )
}

async fn no_such_method(method: axum::http::Method, uri: axum::http::Uri) -> impl IntoResponse {
    let failure =
        Failure::new(ErrorKind::Invalid, format!("{} does not take {method}", uri.path()));
    let mut response =
        ApiError(failure.with_hint("/openapi.json lists every path")).into_response();
    *response.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    response
}
