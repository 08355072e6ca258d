//! Health and metrics: what load balancers and Prometheus ask, without a token.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use corral_catalog::all_pages;

use super::answer::Answer;
use super::upload::cut_off;
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

/// The process's metrics, and those of every endpoint that was asked.
pub async fn metrics(State(app): State<App>) -> Answer<impl IntoResponse> {
    let workspaces = all_pages(|page| app.catalog.list_workspaces(page)).await?;
    let workspaces = workspaces.into_iter().map(|record| (record.id, record.name)).collect();
    // Thousands of endpoints make megabytes of text.
    let page = tokio::task::spawn_blocking(move || {
        let series = app.serving.observer().all();
        let mut page = app.metrics.render();
        page.push_str(&corral_observation::page(
            series.iter().map(|it| &**it),
            &workspaces,
            app.serving.drift_readings(),
        ));
        page
    });
    let page = page.await.map_err(|_| cut_off())?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page))
}
