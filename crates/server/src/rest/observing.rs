//! What is kept of an endpoint's requests, and whether they drift: `/v1/endpoints/{name}/log` and
//! `/drift`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use corral_data::{ColumnChoice, Format, ImportOptions, NoProgress, Source};
use corral_datasets::ImportMode;

use super::answer::{Answer, Body, invalid, name};
use super::datasets;
use crate::api::{DriftBody, EndpointDetail, ImportAnswer, LogBody, LogDatasetRequest};
use crate::auth::Writer;
use crate::state::App;

/// Says what is kept of an endpoint's requests and answers; what the body does not say stays as
/// it is. With a sample of 0 nothing is kept any more, and what there is stays for its time.
#[utoipa::path(put, path = "/v1/endpoints/{name}/log", tag = "endpoints",
    params(("name" = String, Path)), request_body = LogBody,
    responses((status = 200, body = EndpointDetail)))]
pub async fn set_log(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(endpoint): Path<String>,
    Body(body): Body<LogBody>,
) -> Answer<Json<EndpointDetail>> {
    let changed = app.serving.change_observing(&caller, name(&endpoint)?, |observing| {
        observing.log = Some(body.clone().over(observing.log.clone().unwrap_or_default())?);
        Ok(())
    });
    Ok(Json(EndpointDetail::from(&changed.await?)))
}

/// Ends the log of an endpoint and removes what there is of it.
#[utoipa::path(delete, path = "/v1/endpoints/{name}/log", tag = "endpoints",
    params(("name" = String, Path)), responses((status = 200, body = EndpointDetail)))]
pub async fn remove_log(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(endpoint): Path<String>,
) -> Answer<Json<EndpointDetail>> {
    let changed = app.serving.change_observing(&caller, name(&endpoint)?, |observing| {
        observing.log = None;
        Ok(())
    });
    Ok(Json(EndpointDetail::from(&changed.await?)))
}

/// Makes a data set of the log, a row for each text. It stays when rows of the log go.
#[utoipa::path(post, path = "/v1/endpoints/{name}/log/dataset", tag = "endpoints",
    params(("name" = String, Path)), request_body = LogDatasetRequest,
    responses((status = 200, body = ImportAnswer)))]
pub async fn log_dataset(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(endpoint): Path<String>,
    Body(request): Body<LogDatasetRequest>,
) -> Answer<Json<ImportAnswer>> {
    let label = match request.label.as_deref() {
        None => ColumnChoice::Absent,
        Some("answer") => ColumnChoice::Named("answer".to_owned()),
        Some(other) => {
            return Err(invalid(format!("`label` is `answer` or absent, not `{other}`")));
        }
    };
    let dataset = name(&request.dataset)?;
    let files = app.serving.log_files(&caller, name(&endpoint)?).await?;
    let source = |(file_name, file)| Source { file_name, reader: Box::new(file), split: None };
    let options = ImportOptions {
        format: Some(Format::ArrowFile),
        text: Some("text".to_owned()),
        label,
        split: ColumnChoice::Absent,
        weight: ColumnChoice::Absent,
        shares: ColumnChoice::Absent,
        ..ImportOptions::default()
    };
    let sources = files.into_iter().map(source).collect();
    let mode = if request.append { ImportMode::Append } else { ImportMode::Create };
    let imported =
        app.datasets.import(&caller, dataset, mode, sources, options, Arc::new(NoProgress)).await?;
    let report = datasets::import_report(&imported);
    let dataset = datasets::detail(&app.datasets, &caller, &imported.set).await?;
    Ok(Json(ImportAnswer { dataset, report }))
}

/// Watches for drift: whether texts and answers are still like those of the model's training. What
/// the body does not say stays as it is.
#[utoipa::path(put, path = "/v1/endpoints/{name}/drift", tag = "endpoints",
    params(("name" = String, Path)), request_body = DriftBody,
    responses((status = 200, body = EndpointDetail)))]
pub async fn set_drift(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(endpoint): Path<String>,
    Body(body): Body<DriftBody>,
) -> Answer<Json<EndpointDetail>> {
    let changed = app.serving.change_observing(&caller, name(&endpoint)?, |observing| {
        let before = observing.drift.clone().unwrap_or_default();
        observing.drift = Some(body.clone().over(before)?);
        Ok(())
    });
    Ok(Json(EndpointDetail::from(&changed.await?)))
}

/// Watches for drift no more.
#[utoipa::path(delete, path = "/v1/endpoints/{name}/drift", tag = "endpoints",
    params(("name" = String, Path)), responses((status = 200, body = EndpointDetail)))]
pub async fn remove_drift(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(endpoint): Path<String>,
) -> Answer<Json<EndpointDetail>> {
    let changed = app.serving.change_observing(&caller, name(&endpoint)?, |observing| {
        observing.drift = None;
        Ok(())
    });
    Ok(Json(EndpointDetail::from(&changed.await?)))
}
