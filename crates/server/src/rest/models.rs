//! `/v1/models` and `/v1/encoders`.

use axum::Json;
use axum::body::Body as RawBody;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use corral_catalog::{
    CatalogError, EncoderRecord, Lineage, ModelRecord, ModelVersion, NewEncoder, NewModelVersion,
    NewRecord, PageRequest, RecordKind, VersionChoice, all_pages,
};
use corral_classifier::{Encoder, Model};
use corral_encoder::MiniLm;
use corral_training::Report;
use corral_types::{Caller, ErrorKind, Failure, ModelId, Timestamp};
use tokio_util::io::ReaderStream;

use super::answer::{Answer, ApiError, Body, Query, invalid, name, page_request, time};
use super::registry;
use super::upload::{cut_off, receive_blob};
use crate::api::{
    EncoderDetail, ModelDetail, ModelExportQuery, ModelListQuery, ModelNotes, ModelSummary, Page,
    PageQuery, VersionQuery,
};
use crate::auth::{Reader, Writer};
use crate::state::App;

/// The largest model file that is taken in.
const MAX_MODEL_BYTES: u64 = 4 << 30;

/// The largest encoder file that is taken in.
const MAX_ENCODER_BYTES: u64 = 2 << 30;

/// The models of the workspace.
#[utoipa::path(get, path = "/v1/models", tag = "models", params(ModelListQuery),
    responses((status = 200, body = Page<ModelSummary>)))]
pub async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    Query(query): Query<ModelListQuery>,
) -> Answer<Json<Page<ModelSummary>>> {
    let page = page_request(&PageQuery { after: query.after, limit: query.limit })?;
    let page = app.catalog.list_models(caller.workspace, page).await?;
    let mut items = Vec::new();
    for record in page.items {
        let Some(latest) = record.latest else { continue };
        let notes = app.catalog.model_notes(caller.workspace, record.id).await?;
        let tags = registry::tags_of(&notes, latest.number);
        if !query.tag.as_deref().is_none_or(|wanted| registry::has_tag(&tags, wanted)) {
            continue;
        }
        items.push(ModelSummary {
            name: record.name.to_string(),
            id: record.id.to_string(),
            version: latest.number,
            bytes: latest.bytes,
            created: time(latest.created),
            metrics: registry::metrics(&latest, &notes),
            tags,
        });
    }
    Ok(Json(Page { items, next: page.next.map(|cursor| cursor.to_string()) }))
}

/// A version's size, accuracy and origin.
#[utoipa::path(get, path = "/v1/models/{name}", tag = "models",
    params(("name" = String, Path), VersionQuery),
    responses((status = 200, body = ModelDetail)))]
pub async fn show(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<VersionQuery>,
) -> Answer<Json<ModelDetail>> {
    let (record, version) = find(&app, &caller, &text, query.version).await?;
    Ok(Json(detail(&app, &caller, record, version).await?))
}

/// A version's file: the model as Corral reads it, or its heads as a graph of ONNX.
#[utoipa::path(get, path = "/v1/models/{name}/export", tag = "models",
    params(("name" = String, Path), ModelExportQuery),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub async fn export(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<ModelExportQuery>,
) -> Answer<Response> {
    let (_, version) = find(&app, &caller, &text, query.version).await?;
    match query.format.as_deref() {
        None | Some("corral") => {}
        Some("onnx") => return registry::as_onnx(&app, &version).await,
        Some(other) => return Err(invalid(format!("`format` is corral or onnx, not `{other}`"))),
    }
    let file = tokio::fs::File::from_std(app.blobs.open_file(&version.file)?);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, version.bytes.to_string()),
    ];
    Ok((headers, RawBody::from_stream(ReaderStream::new(file))).into_response())
}

/// Sets and takes away tags and metrics of a version, all or none.
#[utoipa::path(patch, path = "/v1/models/{name}/notes", tag = "models",
    params(("name" = String, Path), VersionQuery), request_body = ModelNotes,
    responses((status = 200, body = ModelDetail)))]
pub async fn note(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
    Query(query): Query<VersionQuery>,
    Body(notes): Body<ModelNotes>,
) -> Answer<Json<ModelDetail>> {
    let (record, version) = find(&app, &caller, &text, query.version).await?;
    let changes = registry::changes(notes)?;
    let (workspace, number) = (caller.workspace, version.number);
    app.catalog.change_model_notes(workspace, record.id, number, changes).await?;
    Ok(Json(detail(&app, &caller, record, version).await?))
}

/// What the training of a version found out. A client that accepts `text/html` gets it as a
/// page, others as JSON.
#[utoipa::path(get, path = "/v1/models/{name}/report", tag = "models",
    params(("name" = String, Path), VersionQuery),
    responses((status = 200, content(
        (Value = "application/json"), (String = "text/html; charset=utf-8")))))]
pub async fn report(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<VersionQuery>,
    headers: HeaderMap,
) -> Answer<Response> {
    let bytes = read_report(&app, &caller, &text, query.version).await?;
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut response = if accepted.into_iter().any(|types| types.contains("text/html")) {
        page_of_report(bytes).await?
    } else {
        ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
    };
    response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("accept"));
    Ok(response)
}

/// The same as a page, whatever the client accepts.
#[utoipa::path(get, path = "/v1/models/{name}/report.html", tag = "models",
    params(("name" = String, Path), VersionQuery),
    responses((status = 200, body = String, content_type = "text/html; charset=utf-8")))]
pub async fn report_page(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<VersionQuery>,
) -> Answer<Response> {
    page_of_report(read_report(&app, &caller, &text, query.version).await?).await
}

/// Takes in a model file as the model's first or next version.
#[utoipa::path(post, path = "/v1/models/{name}/import", tag = "models",
    params(("name" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = ModelDetail)))]
pub async fn import(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
    body: RawBody,
) -> Answer<Json<ModelDetail>> {
    let name = name(&text)?;
    let put = receive_blob(&app.blobs, body, MAX_MODEL_BYTES).await?;
    let path = app.blobs.local_path(&put.hash)?;
    // The whole of a foreign file is checked once, here; opening it later checks its header.
    let encoder = tokio::task::spawn_blocking(move || -> Answer<_> {
        Model::verify(&path)?;
        Ok(Model::open(&path)?.encoder().map(|need| need.hash))
    });
    let encoder = encoder.await.map_err(|_| cut_off())??;
    let now = Timestamp::now();
    let version = NewModelVersion {
        file: put.hash,
        bytes: put.bytes,
        lineage: Lineage::default(),
        metrics_json: "{}".to_owned(),
        encoder,
        report: None,
        created: now,
    };
    let new = NewRecord { id: ModelId::generate(), name: name.clone(), created: now };
    let version = app.catalog.add_model_version(caller.workspace, new, version).await?;
    let record = app.catalog.model_named(caller.workspace, name).await?;
    Ok(Json(detail(&app, &caller, record, version).await?))
}

/// Removes a version, or the model with all of them.
#[utoipa::path(delete, path = "/v1/models/{name}", tag = "models",
    params(("name" = String, Path), VersionQuery), responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
    Query(query): Query<VersionQuery>,
) -> Answer<StatusCode> {
    let record = app.catalog.model_named(caller.workspace, name(&text)?).await?;
    match query.version {
        None => app.catalog.remove_model(caller.workspace, record.id).await?,
        Some(number) => {
            let now = Timestamp::now();
            app.catalog.remove_model_version(caller.workspace, record.id, number, now).await?
        }
    };
    Ok(StatusCode::NO_CONTENT)
}

/// The encoders of the workspace.
#[utoipa::path(get, path = "/v1/encoders", tag = "models", params(PageQuery),
    responses((status = 200, body = Page<EncoderDetail>)))]
pub async fn list_encoders(
    State(app): State<App>,
    Reader(caller): Reader,
) -> Answer<Json<Page<EncoderDetail>>> {
    let encoders = app.catalog.list_encoders(caller.workspace).await?;
    Ok(Json(Page { items: encoders.iter().map(encoder_detail).collect(), next: None }))
}

/// Takes in a converted encoder's file.
#[utoipa::path(post, path = "/v1/encoders", tag = "models",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = EncoderDetail)))]
pub async fn add_encoder(
    State(app): State<App>,
    Writer(caller): Writer,
    body: RawBody,
) -> Answer<Json<EncoderDetail>> {
    let put = receive_blob(&app.blobs, body, MAX_ENCODER_BYTES).await?;
    let path = app.blobs.local_path(&put.hash)?;
    let opened = tokio::task::spawn_blocking(move || MiniLm::open_verified(&path, put.hash));
    let encoder = opened.await.map_err(|_| cut_off())??;
    let new = NewEncoder {
        file: put.hash,
        name: name(&encoder.name().to_lowercase())?,
        dimension: u32::try_from(encoder.shape().hidden).expect("a file's header holds 32 bits"),
        bytes: put.bytes,
        created: Timestamp::now(),
    };
    let record = app.catalog.add_encoder(caller.workspace, new).await?;
    Ok(Json(encoder_detail(&record)))
}

/// Removes an encoder that no model needs.
#[utoipa::path(delete, path = "/v1/encoders/{name}", tag = "models",
    params(("name" = String, Path)), responses((status = 204)))]
pub async fn remove_encoder(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
) -> Answer<StatusCode> {
    let record = app.catalog.encoder_named(caller.workspace, name(&text)?).await?;
    app.catalog.remove_encoder(caller.workspace, record.file).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The model of this name, and the version asked for if it is not removed.
async fn find(
    app: &App,
    caller: &Caller,
    text: &str,
    number: Option<u32>,
) -> Answer<(ModelRecord, ModelVersion)> {
    let record = app.catalog.model_named(caller.workspace, name(text)?).await?;
    let choice = number.map_or(VersionChoice::Latest, VersionChoice::Number);
    let version = app.catalog.model_version(caller.workspace, record.id, choice).await?;
    if version.removed.is_some() {
        let name = format!("{text}@{}", version.number);
        let (what, nearest) = (RecordKind::ModelVersion, Vec::new());
        return Err(CatalogError::NotFound { what, name, nearest }.into());
    }
    Ok((record, version))
}

/// The bytes of a version's report.
pub async fn read_report(
    app: &App,
    caller: &Caller,
    text: &str,
    number: Option<u32>,
) -> Answer<Vec<u8>> {
    let (record, version) = find(app, caller, text, number).await?;
    let Some(hash) = version.report else {
        let name = format!("{}@{}", record.name, version.number);
        return Err(ApiError(
            Failure::new(ErrorKind::NotFound, format!("{name} has no report"))
                .with_hint("models that were imported have none; training makes one"),
        ));
    };
    let blobs = app.blobs.clone();
    let read = tokio::task::spawn_blocking(move || blobs.read(&hash));
    Ok(read.await.map_err(|_| cut_off())??)
}

/// What a page of ours may do in a browser: show itself and sort its tables. It holds texts of
/// others, so that nothing it holds may ask anything of this server.
const PAGE_POLICY: &str = "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

async fn page_of_report(bytes: Vec<u8>) -> Answer<Response> {
    let rendered = tokio::task::spawn_blocking(move || {
        serde_json::from_slice::<Report>(&bytes).map(|report| report.render_html())
    });
    let page = rendered.await.map_err(|_| cut_off())?.map_err(|error| {
        let failure = Failure::new(ErrorKind::Internal, format!("read the report: {error}"));
        ApiError(failure.with_hint("another version of Corral wrote it; ask for it as JSON"))
    })?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, page).into_response())
}

async fn detail(
    app: &App,
    caller: &Caller,
    record: ModelRecord,
    version: ModelVersion,
) -> Answer<ModelDetail> {
    let versions = all_pages(|page: PageRequest| {
        app.catalog.list_model_versions(caller.workspace, record.id, page)
    })
    .await?;
    let path = app.blobs.local_path(&version.file)?;
    let info = tokio::task::spawn_blocking(move || Model::open(&path).map(|model| model.info()));
    let info = info.await.map_err(|_| cut_off())?.map_err(|error| {
        let mut failure = Failure::from(error);
        failure.kind = ErrorKind::DataLoss;
        ApiError(failure)
    })?;
    let notes = app.catalog.model_notes(caller.workspace, record.id).await?;
    let lineage = registry::lineage(app, caller, &record, &version).await?;
    Ok(ModelDetail {
        name: record.name.to_string(),
        id: record.id.to_string(),
        version: version.number,
        hash: version.file.to_string(),
        bytes: version.bytes,
        created: time(version.created),
        classes: info.classes as u64,
        members: info.members.len() as u64,
        encoder: info.encoder.map(|need| need.name),
        metrics: registry::metrics(&version, &notes),
        tags: registry::tags_of(&notes, version.number),
        lineage,
        metadata: info.metadata,
        versions: versions
            .iter()
            .filter(|version| version.removed.is_none())
            .map(|version| version.number)
            .collect(),
    })
}

fn encoder_detail(record: &EncoderRecord) -> EncoderDetail {
    EncoderDetail {
        name: record.name.to_string(),
        hash: record.file.to_string(),
        dimension: record.dimension.into(),
        bytes: record.bytes,
        default: record.is_default,
        created: time(record.created),
    }
}
