//! `/v1/endpoints`.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use corral_catalog::EndpointRecord;
use corral_serving::{Question, Refusals};

use super::answer::{Answer, Body, Query, name, page_of, page_request, time, versioned};
use crate::api::{
    DeployRequest, EndpointDetail, Page, PageQuery, PredictAnswer, PredictRequest, Prediction,
};
use crate::auth::{Asker, Reader, Writer};
use crate::state::App;

/// The endpoints of the workspace.
#[utoipa::path(get, path = "/v1/endpoints", tag = "endpoints", params(PageQuery),
    responses((status = 200, body = Page<EndpointDetail>)))]
pub async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    Query(query): Query<PageQuery>,
) -> Answer<Json<Page<EndpointDetail>>> {
    let page = app.serving.endpoints(&caller, page_request(&query)?).await?;
    Ok(page_of(page, detail))
}

/// Where an endpoint sends its requests.
#[utoipa::path(get, path = "/v1/endpoints/{name}", tag = "endpoints",
    params(("name" = String, Path)), responses((status = 200, body = EndpointDetail)))]
pub async fn show(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
) -> Answer<Json<EndpointDetail>> {
    let record = app.serving.endpoint(&caller, name(&text)?).await?;
    Ok(Json(detail(&record)))
}

/// Points an endpoint at a model version; makes the endpoint if it is not there.
#[utoipa::path(put, path = "/v1/endpoints/{name}", tag = "endpoints",
    params(("name" = String, Path)), request_body = DeployRequest,
    responses((status = 200, body = EndpointDetail)))]
pub async fn deploy(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
    Body(request): Body<DeployRequest>,
) -> Answer<Json<EndpointDetail>> {
    let (model, version) = versioned(&request.model)?;
    let record = app.serving.deploy(&caller, name(&text)?, model, version).await?;
    Ok(Json(detail(&record)))
}

/// Removes an endpoint; its model stays.
#[utoipa::path(delete, path = "/v1/endpoints/{name}", tag = "endpoints",
    params(("name" = String, Path)), responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
) -> Answer<StatusCode> {
    app.serving.remove(&caller, name(&text)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The most probable classes of each text.
#[utoipa::path(post, path = "/v1/endpoints/{name}/predict", tag = "endpoints",
    params(("name" = String, Path)), request_body = PredictRequest,
    responses((status = 200, body = PredictAnswer)))]
pub async fn predict(
    State(app): State<App>,
    Asker(caller): Asker,
    Path(text): Path<String>,
    Body(request): Body<PredictRequest>,
) -> Answer<Json<PredictAnswer>> {
    let question = Question {
        texts: request.texts,
        top_k: request.top_k.unwrap_or(1),
        threshold: request.threshold,
        prefix: request.prefix,
        back_off: request.back_off,
        refusals: if request.answer_all { Refusals::Ignore } else { Refusals::Apply },
    };
    let answered = app.serving.predict(&caller, &name(&text)?, question).await?;
    let predictions = answered.predictions.into_iter().map(Prediction::from);
    Ok(Json(PredictAnswer {
        model: answered.model.to_string(),
        version: answered.version,
        predictions: predictions.collect(),
    }))
}

fn detail(record: &EndpointRecord) -> EndpointDetail {
    EndpointDetail {
        name: record.name.to_string(),
        id: record.id.to_string(),
        model: record.model_name.to_string(),
        version: record.serves.number,
        created: time(record.created),
        updated: time(record.updated),
        path: format!("/v1/endpoints/{}/predict", record.name),
    }
}
