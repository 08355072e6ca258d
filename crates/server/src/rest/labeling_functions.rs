//! `/v1/datasets/NAME/functions`: labeling functions as records.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use corral_catalog::CatalogError;
use corral_datasets::OpenSet;
use corral_labeling::{
    Changes, Function, FunctionSet, LabelingError, Labelings, LoadedSet, VersionedFunction,
    from_yaml, read_file,
};
use corral_types::{Caller, ErrorKind, Explain};
use serde_json::Value;

use super::answer::{Answer, ApiError, Body, Query, invalid, name};
use crate::api::{
    LabelingFunctionChanges, LabelingFunctionDetail, LabelingFunctionList, LabelingFunctionQuery,
};
use crate::auth::{Reader, Writer};
use crate::labeling::{classes_of, compile, find_needs};
use crate::state::App;

/// The labeling functions of a data set.
#[utoipa::path(get, path = "/v1/datasets/{name}/functions", tag = "labeling",
    params(("name" = String, Path), LabelingFunctionQuery),
    responses((status = 200, body = LabelingFunctionList)))]
pub async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    Path(text): Path<String>,
    Query(query): Query<LabelingFunctionQuery>,
) -> Answer<Json<LabelingFunctionList>> {
    let set = app.datasets.load(&caller, name(&text)?, None).await?;
    let loaded = app.labelings.load(&caller, set.record.id, query.version).await?;
    let needs = find_needs(&app, &caller, &loaded.set).await?;
    let definitions = loaded.set.definitions();
    let classes = classes_of(&definitions, &set.manifest, needs.taxonomy.as_ref());
    Ok(Json(LabelingFunctionList {
        dataset: set.record.name.to_string(),
        version: loaded.version,
        taxonomy: loaded.set.taxonomy.clone(),
        multi_label: loaded.set.arity == corral_labels::LabelArity::Multi,
        classes: classes.names().to_vec(),
        functions: loaded.set.functions.iter().map(detail).collect(),
    }))
}

/// Makes the functions those of a file, in YAML or JSON: new, changed, gone. All or none.
#[utoipa::path(put, path = "/v1/datasets/{name}/functions", tag = "labeling",
    params(("name" = String, Path)),
    request_body(content = String, content_type = "application/yaml"),
    responses((status = 200, body = LabelingFunctionChanges)))]
pub async fn import(
    State(app): State<App>,
    Writer(caller): Writer,
    Path(text): Path<String>,
    body: Bytes,
) -> Answer<Json<LabelingFunctionChanges>> {
    let written = std::str::from_utf8(&body).map_err(|_| invalid("the file is not UTF-8"))?;
    let file = read_file(from_yaml(written)?)?;
    edit(&app, &caller, &text, |functions| {
        functions.taxonomy.clone_from(&file.taxonomy);
        functions.arity = file.arity;
        functions.replace(file.functions.clone())
    })
    .await
}

/// One function.
#[utoipa::path(get, path = "/v1/datasets/{name}/functions/{function}", tag = "labeling",
    params(("name" = String, Path), ("function" = String, Path), LabelingFunctionQuery),
    responses((status = 200, body = LabelingFunctionDetail)))]
pub async fn show(
    State(app): State<App>,
    Reader(caller): Reader,
    Path((text, function)): Path<(String, String)>,
    Query(query): Query<LabelingFunctionQuery>,
) -> Answer<Json<LabelingFunctionDetail>> {
    let set = app.datasets.load(&caller, name(&text)?, None).await?;
    let loaded = app.labelings.load(&caller, set.record.id, query.version).await?;
    Ok(Json(detail(loaded.set.required(&function)?)))
}

/// Adds a function, or makes it what the body says.
#[utoipa::path(put, path = "/v1/datasets/{name}/functions/{function}", tag = "labeling",
    params(("name" = String, Path), ("function" = String, Path)),
    request_body = Value, responses((status = 200, body = LabelingFunctionChanges)))]
pub async fn put(
    State(app): State<App>,
    Writer(caller): Writer,
    Path((text, function)): Path<(String, String)>,
    Body(mut definition): Body<Value>,
) -> Answer<Json<LabelingFunctionChanges>> {
    let named = definition.as_object_mut().ok_or_else(|| invalid("a function is an object"))?;
    match named.get("name") {
        None => drop(named.insert("name".to_owned(), function.into())),
        Some(Value::String(name)) if *name == function => {}
        Some(_) => return Err(invalid("the body's `name` is not the one in the path")),
    }
    let function = Function::from_value(definition)?;
    edit(&app, &caller, &text, |functions| Ok(functions.put(function.clone()))).await
}

/// Removes a function.
#[utoipa::path(delete, path = "/v1/datasets/{name}/functions/{function}", tag = "labeling",
    params(("name" = String, Path), ("function" = String, Path)),
    responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    Writer(caller): Writer,
    Path((text, function)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let gone = |functions: &mut FunctionSet| {
        functions.remove(&function)?;
        Ok(Changes { removed: vec![function.clone()], ..Changes::default() })
    };
    let Json(_changes) = edit(&app, &caller, &text, gone).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Edits the functions of a data set: what comes of it must compile. Where somebody else edits at
/// the same moment, it is done again on what they made.
async fn edit(
    app: &App,
    caller: &Caller,
    dataset: &str,
    change: impl Fn(&mut FunctionSet) -> Result<Changes, LabelingError>,
) -> Answer<Json<LabelingFunctionChanges>> {
    let set = app.datasets.load(caller, name(dataset)?, None).await?;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let base = app.labelings.load(caller, set.record.id, None).await?;
        let mut edited = base.set.clone();
        let changes = change(&mut edited)?;
        let program = compile(app, caller, &edited, &set.manifest).await?;
        corral_labeling::check_columns(&program, &set.manifest)?;
        let classes = program.classes.names().to_vec();
        match app.labelings.save(caller, set.record.id, &base, edited, &changes).await {
            Err(LabelingError::Catalog(error @ CatalogError::HeadMoved { .. })) => {
                debug_assert_eq!(error.kind(), ErrorKind::Conflict);
                if attempts == Labelings::edit_attempts() {
                    return Err(ApiError::from(error));
                }
            }
            saved => return Ok(Json(told(&set, &saved?, changes, classes))),
        }
    }
}

fn told(
    set: &OpenSet,
    saved: &LoadedSet,
    changes: Changes,
    classes: Vec<String>,
) -> LabelingFunctionChanges {
    LabelingFunctionChanges {
        dataset: set.record.name.to_string(),
        version: saved.version,
        added: changes.added,
        changed: changes.changed,
        removed: changes.removed,
        unchanged: changes.unchanged as u64,
        classes,
    }
}

pub fn detail(versioned: &VersionedFunction) -> LabelingFunctionDetail {
    let function = &versioned.function;
    LabelingFunctionDetail {
        name: function.name.clone(),
        version: versioned.version,
        kind: function.rule.kind().to_owned(),
        classes: function.classes(),
        definition: function.to_value(),
    }
}
