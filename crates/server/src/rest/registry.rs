//! What is known of models beside their files: tags, metrics, lineage, and other forms of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use corral_catalog::{
    CatalogError, ModelNote, ModelRecord, ModelVersion, NoteChange, NoteKind, Served, all_pages,
};
use corral_classifier::Model;
use corral_types::Caller;
use serde_json::{Value, json};

use super::answer::{Answer, invalid};
use super::upload::{cut_off, written_by};
use crate::api::ModelNotes;
use crate::state::App;

/// The name in `metrics` under which those stand that people noted.
const NOTED: &str = "noted";

/// The tags of a version.
pub fn tags_of(notes: &[ModelNote], number: u32) -> BTreeMap<String, String> {
    let own = notes.iter().filter(|note| note.number == number && note.kind == NoteKind::Tag);
    own.map(|note| (note.name.clone(), note.value.clone())).collect()
}

/// Whether a tag is there: `NAME`, or `NAME=VALUE`.
pub fn has_tag(tags: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => tags.get(name).is_some_and(|found| found == value),
        None => tags.contains_key(wanted),
    }
}

/// What training found of a version, and what people noted.
pub fn metrics(version: &ModelVersion, notes: &[ModelNote]) -> Value {
    let mut metrics: Value = serde_json::from_str(&version.metrics_json).unwrap_or_default();
    let of_version =
        notes.iter().filter(|note| note.number == version.number && note.kind == NoteKind::Metric);
    let noted: serde_json::Map<String, Value> = of_version
        .filter_map(|note| Some((note.name.clone(), json!(note.value.parse::<f64>().ok()?))))
        .collect();
    if let (false, Some(metrics)) = (noted.is_empty(), metrics.as_object_mut()) {
        metrics.insert(NOTED.to_owned(), Value::Object(noted));
    }
    metrics
}

/// The changes that a request asks for.
pub fn changes(notes: ModelNotes) -> Answer<Vec<NoteChange>> {
    let names = || notes.tags.keys().chain(notes.metrics.keys());
    if names().next().is_none() {
        return Err(invalid("the request notes nothing: name `tags` or `metrics`"));
    }
    if let Some(name) = names().find(|name| name.is_empty() || name.contains(['=', '\n'])) {
        return Err(invalid(format!("`{name}` names no note: a name has a letter and no `=`")));
    }
    let tags = notes.tags.into_iter().map(|(name, value)| (NoteKind::Tag, name, value));
    let metrics = notes
        .metrics
        .into_iter()
        .map(|(name, value)| (NoteKind::Metric, name, value.map(|value| value.to_string())));
    let change = |(kind, name, value)| NoteChange { kind, name, value };
    Ok(tags.chain(metrics).map(change).collect())
}

/// Where a version comes from and where it went. What was removed since has its id alone.
pub async fn lineage(
    app: &App,
    caller: &Caller,
    record: &ModelRecord,
    version: &ModelVersion,
) -> Answer<Value> {
    let workspace = caller.workspace;
    let lineage = &version.lineage;
    let dataset = match lineage.dataset {
        None => None,
        Some((id, number)) => {
            let named = there(app.catalog.dataset(workspace, id).await)?;
            named.map(|dataset| format!("{}@{number}", dataset.name))
        }
    };
    let taxonomy = match lineage.taxonomy {
        None => None,
        Some((id, number)) => {
            let named = there(app.catalog.taxonomy(workspace, id).await)?;
            named.map(|taxonomy| format!("{}@{number}", taxonomy.name))
        }
    };
    let endpoints = all_pages(|page| app.catalog.list_endpoints(workspace, page)).await?;
    let serves = |served: &Served| {
        matches!(served, Served::Model { name, version: served }
            if *name == record.name && served.number == version.number)
    };
    let served: Vec<String> = endpoints
        .iter()
        .flat_map(|endpoint| endpoint.versions.iter().map(move |version| (endpoint, version)))
        .filter(|(_, version)| serves(&version.serves))
        .map(|(endpoint, version)| format!("{}/{}", endpoint.name, version.number))
        .collect();
    Ok(json!({
        "job": lineage.job.map(|job| job.to_string()),
        "dataset": lineage.dataset.map(|(id, number)| format!("{id}@{number}")),
        "dataset_name": dataset,
        "taxonomy": lineage.taxonomy.map(|(id, number)| format!("{id}@{number}")),
        "taxonomy_name": taxonomy,
        "code": lineage.code,
        "endpoints": served,
    }))
}

/// What a record names, unless it was removed.
fn there<T>(found: Result<T, CatalogError>) -> Result<Option<T>, CatalogError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(CatalogError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The model as a file of ONNX, made while it is sent.
pub async fn as_onnx(app: &App, version: &ModelVersion) -> Answer<Response> {
    let path = app.blobs.local_path(&version.file)?;
    let opened = tokio::task::spawn_blocking(move || -> Answer<Arc<Model>> {
        let model = Model::open(&path)?;
        // Said now: once the first bytes are sent there is no other answer.
        model.check_onnx()?;
        Ok(Arc::new(model))
    });
    let model = opened.await.map_err(|_| cut_off())??;
    let body = written_by(move |writer| model.write_onnx(writer));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}
