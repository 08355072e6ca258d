//! `/v1/functions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use corral_apps::{AppPhase, AppRecord, FunctionRole, ResolvedFunction};
use corral_functions::{FunctionSettings, FunctionStats};
use corral_modal_api::{DataFormat, Function, Message};
use corral_types::{Caller, ErrorKind, Failure, FunctionId};

use super::answer::{Answer, ApiError, Query};
use super::apps;
use super::pages::{Place, newest_first};
use crate::api::{
    EnvironmentQuery, FunctionDetail, FunctionListQuery, FunctionNow, FunctionSettingsDetail, Page,
};
use crate::auth::Reader;
use crate::modal::function_settings;
use crate::state::App;

/// The name in an app of all methods of a class together ends with this.
const ALL_METHODS: &str = ".*";

/// The functions of apps that have not ended, those of the newest app first.
#[utoipa::path(get, path = "/v1/functions", tag = "functions", params(FunctionListQuery),
    responses((status = 200, body = Page<FunctionDetail>)))]
pub async fn list(
    State(app): State<App>,
    Reader(caller): Reader,
    Query(query): Query<FunctionListQuery>,
) -> Answer<Json<Page<FunctionDetail>>> {
    let environment = query.environment.as_deref();
    let records = match &query.app {
        Some(text) => vec![apps::find(&app, &caller, environment, text).await?],
        None => app.apps.apps(&caller, apps::environment(environment)).await?,
    };
    let mut found = Vec::new();
    for record in records.iter().filter(|record| record.phase != AppPhase::Stopped) {
        let layout = app.apps.layout(&caller, record).await?;
        found.extend(layout.functions.values().map(|placed| (placed.id, record)));
    }
    let place = |(id, of): &(FunctionId, &AppRecord)| Place::new(of.created, *id);
    let page = newest_first(found, place, query.after.as_deref(), query.limit)?;
    let mut items = Vec::with_capacity(page.items.len());
    for (id, record) in page.items {
        let function = app.apps.function(&caller, id).await?;
        items.push(detail(&app, &caller, record, &function).await?);
    }
    Ok(Json(Page { items, next: page.next }))
}

/// One function: what it asks for and how it is doing.
#[utoipa::path(get, path = "/v1/functions/{app}/{function}", tag = "functions",
    params(("app" = String, Path), ("function" = String, Path), EnvironmentQuery),
    responses((status = 200, body = FunctionDetail)))]
pub async fn show(
    State(app): State<App>,
    Reader(caller): Reader,
    Path((of, name)): Path<(String, String)>,
    Query(query): Query<EnvironmentQuery>,
) -> Answer<Json<FunctionDetail>> {
    let record = apps::find(&app, &caller, query.environment.as_deref(), &of).await?;
    let Callee { function, .. } = find(&app, &caller, &record, &name).await?;
    Ok(Json(detail(&app, &caller, &record, &function).await?))
}

/// A function as it is called by name.
pub struct Callee {
    pub function: Arc<ResolvedFunction>,
    /// The method, where the name was that of one.
    pub method: Option<String>,
}

/// The function of this name in an app; of a class `NAME`, `NAME.*` and `NAME.METHOD`.
pub async fn find(app: &App, caller: &Caller, record: &AppRecord, name: &str) -> Answer<Callee> {
    let layout = app.apps.layout(caller, record).await?;
    let whole_class = format!("{name}{ALL_METHODS}");
    let of_class = name.rsplit_once('.');
    let tries = [Some((name.to_owned(), None)), Some((whole_class, None)), of_class.map(of_method)];
    for (tag, method) in tries.into_iter().flatten() {
        if let Some(placed) = layout.functions.get(&tag) {
            let function = app.apps.function(caller, placed.id).await?;
            return Ok(Callee { function, method });
        }
    }
    let names = layout.functions.keys().map(String::as_str);
    let near = corral_types::nearest(name, names, 3);
    let title = record.name.as_deref().unwrap_or(&record.description);
    let message = format!("there is no function `{name}` in the app `{title}`");
    Err(ApiError(Failure::new(ErrorKind::NotFound, message).with_hint(match near.first() {
        Some(close) => format!("did you mean `{close}`? `corral function ls` lists the functions"),
        None => "`corral function ls` lists the functions".to_owned(),
    })))
}

fn of_method((class, method): (&str, &str)) -> (String, Option<String>) {
    (format!("{class}{ALL_METHODS}"), Some(method.to_owned()))
}

/// What the client said of a function when it defined it.
pub fn definition(function: &ResolvedFunction) -> Answer<Function> {
    Function::decode(function.definition.as_slice()).map_err(|error| {
        let message = format!("the stored definition of {} cannot be read", function.record.id);
        let mut failure = Failure::new(ErrorKind::DataLoss, message);
        failure.causes.push(error.to_string());
        ApiError(failure)
    })
}

/// Whether these formats of arguments have the one that JSON is put into.
pub fn has_cbor(formats: &[i32]) -> bool {
    formats.contains(&(DataFormat::Cbor as i32))
}

async fn detail(
    app: &App,
    caller: &Caller,
    record: &AppRecord,
    function: &ResolvedFunction,
) -> Answer<FunctionDetail> {
    let definition = definition(function)?;
    let takes_json = has_cbor(&definition.supported_input_formats)
        || definition
            .method_definitions
            .values()
            .any(|method| has_cbor(&method.supported_input_formats));
    // Scaling may have been changed since it was defined.
    let settings = app.functions.settings(function.record.id).await;
    let settings = settings.unwrap_or_else(|| function_settings(function));
    Ok(FunctionDetail {
        app: record.name.clone().unwrap_or_else(|| record.description.clone()),
        name: function.record.tag.clone(),
        id: function.record.id.to_string(),
        kind: match function.spec.role {
            FunctionRole::Cls => "cls",
            FunctionRole::Function | FunctionRole::ImageBuild => "function",
        }
        .to_owned(),
        client_version: function.spec.client_version.clone(),
        takes_json,
        settings: settings_detail(function, &settings),
        now: now(app, caller, record, function).await?,
    })
}

fn settings_detail(
    function: &ResolvedFunction,
    settings: &FunctionSettings,
) -> FunctionSettingsDetail {
    let resources = &function.spec.resources;
    let seconds = |milliseconds: u64| milliseconds as f64 / 1e3;
    FunctionSettingsDetail {
        cpu: resources.milli_cpu.map(|milli| f64::from(milli) / 1e3),
        memory_request_bytes: resources.memory_request_bytes,
        memory_limit_bytes: resources.memory_limit_bytes,
        gpus: resources.gpu.as_ref().map_or(0, |gpu| gpu.count),
        timeout_seconds: seconds(settings.timeout_ms),
        min_containers: settings.scaling.min_containers,
        max_containers: settings.scaling.max_containers,
        buffer_containers: settings.scaling.buffer_containers,
        scaledown_window_seconds: seconds(settings.scaling.scaledown_window_ms),
        max_concurrent_inputs: settings.max_concurrent_inputs,
        batch_max_size: settings.batching.map(|batching| batching.max_size),
        retries: settings.retries.retries,
        snapshot: function.spec.snapshot,
    }
}

/// Sums over the function and the same with other parameters.
async fn now(
    app: &App,
    caller: &Caller,
    record: &AppRecord,
    function: &ResolvedFunction,
) -> Answer<FunctionNow> {
    let mut sum = FunctionNow::default();
    for id in app.apps.counting_functions(caller, record).await? {
        let is_this = id == function.record.id
            || app.apps.function(caller, id).await?.base() == function.record.id;
        if !is_this {
            continue;
        }
        // One that nobody has called with these parameters yet is not known there.
        let Ok(stats) = app.functions.stats(id).await else { continue };
        let FunctionStats {
            backlog,
            running_inputs,
            containers,
            starting_containers,
            idle_containers,
            ..
        } = stats;
        sum.backlog += backlog;
        sum.running_inputs += running_inputs;
        sum.containers += containers;
        sum.starting_containers += starting_containers;
        sum.idle_containers += idle_containers;
    }
    Ok(sum)
}
