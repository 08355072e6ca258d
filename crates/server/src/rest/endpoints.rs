//! `/v1/endpoints`.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use corral_serving::{Deployment, Endpoint, Mirror, RoutingError, Selector};
use corral_types::{Caller, ErrorKind, Failure};

use super::answer::{Answer, ApiError, Body, Query, name, page_of, page_request, versioned};
use super::lines;
use crate::api::{
    AliasRequest, DeployRequest, DriftDetail, EndpointDetail, FixedLabelBody, KeepWarmBody,
    MirrorBody, Page, PageQuery, PredictAnswer, PredictLine, PredictQuery, PredictRequest,
    PredictedLine, Prediction, RequestCounts, TrafficBody,
};
use crate::asking::{Addressed, ask};
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

/// Where an endpoint sends its requests, and what its versions were asked.
#[utoipa::path(get, path = "/v1/endpoints/{name}", tag = "endpoints",
    params(("name" = String, Path)), responses((status = 200, body = EndpointDetail)))]
pub async fn show(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
) -> Answer<Json<EndpointDetail>> {
    let endpoint = app.serving.endpoint(&caller, name(&text)?).await?;
    let mut detail = detail(&endpoint);
    for version in &mut detail.versions {
        let reading = app.serving.observer().reading(endpoint.record.id, version.number);
        version.counts = reading.map(RequestCounts::from);
        version.drift =
            app.serving.drift(endpoint.record.id, version.number).map(DriftDetail::from);
    }
    Ok(Json(detail))
}

/// Adds a version to an endpoint; makes the endpoint if it is not there. It gets the endpoint's
/// requests at once, unless its traffic was led elsewhere.
#[utoipa::path(put, path = "/v1/endpoints/{name}", tag = "endpoints",
    params(("name" = String, Path)), request_body = DeployRequest,
    responses((status = 200, body = EndpointDetail)))]
pub async fn deploy(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
    Body(request): Body<DeployRequest>,
) -> Answer<Json<EndpointDetail>> {
    let deployment = match (request.model, request.answer) {
        (Some(model), None) => {
            let (name, version) = versioned(&model)?;
            Deployment::Model { name, version }
        }
        (None, Some(labels)) => Deployment::Fixed(FixedLabelBody::answer(labels)),
        _ => return Err(invalid("a version answers with a `model` or with an `answer`")),
    };
    let alias = request.alias.as_deref().map(corral_serving::alias).transpose()?;
    shown(app.serving.deploy(&caller, name(&text)?, deployment, alias).await?)
}

/// Removes an endpoint with its versions; models stay.
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

/// Points an alias at a version, at once; makes it if it is not there.
#[utoipa::path(put, path = "/v1/endpoints/{name}/aliases/{alias}", tag = "endpoints",
    params(("name" = String, Path), ("alias" = String, Path)), request_body = AliasRequest,
    responses((status = 200, body = EndpointDetail)))]
pub async fn set_alias(
    State(app): State<App>,
    Writer(caller): Writer,
    Path((endpoint, alias)): Path<(String, String)>,
    Body(request): Body<AliasRequest>,
) -> Answer<Json<EndpointDetail>> {
    let alias = corral_serving::alias(&alias)?;
    let version: Selector = request.version.parse()?;
    let changed = app.serving.change(&caller, name(&endpoint)?, |routing, versions| {
        let number = routing.number(&version, versions)?;
        routing.aliases.insert(alias.clone(), number);
        Ok(())
    });
    shown(changed.await?)
}

/// Removes an alias that no traffic is led by.
#[utoipa::path(delete, path = "/v1/endpoints/{name}/aliases/{alias}", tag = "endpoints",
    params(("name" = String, Path), ("alias" = String, Path)),
    responses((status = 200, body = EndpointDetail)))]
pub async fn remove_alias(
    State(app): State<App>,
    Writer(caller): Writer,
    Path((endpoint, alias)): Path<(String, String)>,
) -> Answer<Json<EndpointDetail>> {
    let alias = corral_serving::alias(&alias)?;
    let changed = app.serving.change(&caller, name(&endpoint)?, |routing, versions| {
        // Refuses an alias that is not there.
        routing.number(&Selector::Alias(alias.clone()), versions)?;
        routing.aliases.remove(&alias);
        Ok(())
    });
    shown(changed.await?)
}

/// Leads the requests that name no version.
#[utoipa::path(put, path = "/v1/endpoints/{name}/traffic", tag = "endpoints",
    params(("name" = String, Path)), request_body = TrafficBody,
    responses((status = 200, body = EndpointDetail)))]
pub async fn set_traffic(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(endpoint): Path<String>,
    Body(request): Body<TrafficBody>,
) -> Answer<Json<EndpointDetail>> {
    let changed = app.serving.change(&caller, name(&endpoint)?, |routing, versions| {
        routing.traffic = request.clone().traffic(routing, versions)?;
        Ok(())
    });
    shown(changed.await?)
}

/// Has a version asked as well, whose answers are compared and thrown away.
#[utoipa::path(put, path = "/v1/endpoints/{name}/mirror", tag = "endpoints",
    params(("name" = String, Path)), request_body = MirrorBody,
    responses((status = 200, body = EndpointDetail)))]
pub async fn set_mirror(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(endpoint): Path<String>,
    Body(request): Body<MirrorBody>,
) -> Answer<Json<EndpointDetail>> {
    let version: Selector = request.version.parse()?;
    let share = request.share.unwrap_or(1.0);
    change_mirror(&app, &caller, &endpoint, Some(Mirror { version, share })).await
}

/// Keeps the models of an endpoint's traffic open though nobody asks, always or in parts of the
/// week.
#[utoipa::path(put, path = "/v1/endpoints/{name}/keep-warm", tag = "endpoints",
    params(("name" = String, Path)), request_body = KeepWarmBody,
    responses((status = 200, body = EndpointDetail)))]
pub async fn set_keep_warm(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(endpoint): Path<String>,
    Body(request): Body<KeepWarmBody>,
) -> Answer<Json<EndpointDetail>> {
    let keep_warm = request.read()?;
    let changed = app.serving.change(&caller, name(&endpoint)?, |routing, _| {
        routing.keep_warm = Some(keep_warm.clone());
        Ok(())
    });
    shown(changed.await?)
}

/// Opens the models of an endpoint's traffic when it is asked, which is the default.
#[utoipa::path(delete, path = "/v1/endpoints/{name}/keep-warm", tag = "endpoints",
    params(("name" = String, Path)), responses((status = 200, body = EndpointDetail)))]
pub async fn remove_keep_warm(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(endpoint): Path<String>,
) -> Answer<Json<EndpointDetail>> {
    let changed = app.serving.change(&caller, name(&endpoint)?, |routing, _| {
        routing.keep_warm = None;
        Ok(())
    });
    shown(changed.await?)
}

/// Ends mirroring.
#[utoipa::path(delete, path = "/v1/endpoints/{name}/mirror", tag = "endpoints",
    params(("name" = String, Path)), responses((status = 200, body = EndpointDetail)))]
pub async fn remove_mirror(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(endpoint): Path<String>,
) -> Answer<Json<EndpointDetail>> {
    change_mirror(&app, &caller, &endpoint, None).await
}

async fn change_mirror(
    app: &App,
    caller: &Caller,
    endpoint: &str,
    mirror: Option<Mirror>,
) -> Answer<Json<EndpointDetail>> {
    let changed = app.serving.change(caller, name(endpoint)?, |routing, _| {
        routing.mirror = mirror.clone();
        Ok(())
    });
    shown(changed.await?)
}

/// Removes a version that nothing is sent to, so that its model's version may be removed.
#[utoipa::path(delete, path = "/v1/endpoints/{name}/versions/{number}", tag = "endpoints",
    params(("name" = String, Path), ("number" = u32, Path)),
    responses((status = 200, body = EndpointDetail)))]
pub async fn remove_version(
    State(app): State<App>,
    Writer(caller): Writer,
    Path((endpoint, number)): Path<(String, String)>,
) -> Answer<Json<EndpointDetail>> {
    let number = number.parse().map_err(|_| RoutingError::NoVersion(number))?;
    shown(app.serving.remove_version(&caller, name(&endpoint)?, number).await?)
}

/// The most probable classes of each text, by the version that the endpoint's traffic leads to;
/// in one answer or, for a body of content type `application/x-ndjson`, line by line.
#[utoipa::path(post, path = "/v1/endpoints/{name}/predict", tag = "endpoints",
    params(("name" = String, Path), PredictQuery),
    request_body(content(
        (PredictRequest = "application/json"),
        (PredictLine = "application/x-ndjson"))),
    responses((status = 200, content(
        (PredictAnswer = "application/json"),
        (PredictedLine = "application/x-ndjson")))))]
pub async fn predict(
    State(app): State<App>,
    Asker(caller): Asker,
    Path(endpoint): Path<String>,
    asked: Asked,
) -> Answer<Response> {
    answer(app, caller, Addressed::read(&endpoint, None)?, asked).await
}

/// The same by a version that is named: `latest`, a number, or an alias.
#[utoipa::path(post, path = "/v1/endpoints/{name}/{version}/predict", tag = "endpoints",
    params(("name" = String, Path), ("version" = String, Path), PredictQuery),
    request_body(content(
        (PredictRequest = "application/json"),
        (PredictLine = "application/x-ndjson"))),
    responses((status = 200, content(
        (PredictAnswer = "application/json"),
        (PredictedLine = "application/x-ndjson")))))]
pub async fn predict_version(
    State(app): State<App>,
    Asker(caller): Asker,
    Path((endpoint, version)): Path<(String, String)>,
    asked: Asked,
) -> Answer<Response> {
    answer(app, caller, Addressed::read(&endpoint, Some(&version))?, asked).await
}

async fn answer(app: App, caller: Caller, addressed: Addressed, asked: Asked) -> Answer<Response> {
    let (options, texts) = match asked {
        Asked::Lines(query, body) => {
            return lines::answer(app, caller, addressed, query, body).await;
        }
        Asked::Once(request) => request.into_parts(),
    };
    let answered = ask(&app, &caller, &addressed, options.question(texts)).await?;
    let predictions = answered.predictions.into_iter().map(Prediction::from);
    let (model, version) = answered.model.unzip();
    let answer = PredictAnswer {
        model: model.map(|name| name.to_string()),
        version,
        endpoint_version: Some(answered.endpoint_version),
        predictions: predictions.collect(),
    };
    Ok(Json(answer).into_response())
}

/// A request for predictions, by its content type.
pub enum Asked {
    Once(PredictRequest),
    Lines(PredictQuery, axum::body::Body),
}

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !lines::are_meant_by(content_type) {
            let Body(request) = Body::from_request(request, state).await?;
            return Ok(Self::Once(request));
        }
        let (mut parts, body) = request.into_parts();
        let Query(query) = Query::from_request_parts(&mut parts, state).await?;
        Ok(Self::Lines(query, body))
    }
}

fn detail(endpoint: &Endpoint) -> EndpointDetail {
    EndpointDetail::from(endpoint)
}

fn shown(endpoint: Endpoint) -> Answer<Json<EndpointDetail>> {
    Ok(Json(detail(&endpoint)))
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError(Failure::new(ErrorKind::Invalid, message))
}
