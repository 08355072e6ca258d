//! Health and metrics: what load balancers and Prometheus ask, without a token.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use crate::api::Health;
use crate::state::App;

/// The process answers.
pub async fn healthz() -> Json<Health> {
    Json(Health { status: "ok".to_owned() })
}

/// The catalog answers and a worker is here, so that whatever is asked can be done.
pub async fn readyz(State(app): State<App>) -> impl IntoResponse {
    let catalog = app.catalog.setting("instance".to_owned()).await;
    let (status, word) = match catalog {
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the catalog does not answer"),
        Ok(_) if !crate::worker::is_any_here(&app).await => {
            (StatusCode::SERVICE_UNAVAILABLE, "no worker is here")
        }
        Ok(_) => (StatusCode::OK, "ok"),
    };
    (status, Json(Health { status: word.to_owned() }))
}

pub async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render())
}
