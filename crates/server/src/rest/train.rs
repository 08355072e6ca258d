//! `/v1/train`.

use axum::Json;
use axum::extract::State;
use corral_catalog::EncoderRecord;
use corral_datasets::{LoadedTaxonomy, OpenSet};
use corral_training::{
    Candidate, ClassWeighting, Price, Report, TrainOptions, TrialEnding, TrialReport,
};
use corral_types::{Caller, ErrorKind, Failure};

use super::answer::{Answer, ApiError, Body, invalid, name, versioned};
use super::jobs::read;
use super::models::read_report;
use crate::api::{JobDetail, TrainRequest};
use crate::auth::Writer;
use crate::state::App;
use crate::training_job::{LabelTask, MAX_MILLI_CPU, TrainOrder, TrainPayload};

/// How long a training job may take when nothing is said: a day.
const DEFAULT_TIME_LIMIT_SECONDS: u64 = 24 * 3600;

/// The most that a request tells of a model's origin: a page or two, and a quarter of what the
/// head of a model's file holds.
const MAX_PROVENANCE_BYTES: usize = 16 * 1024;

/// Candidates of one request, so that a list is not longer than any search.
const MOST_CANDIDATES: usize = 1000;

/// Trains a model in the background. The answer is the job.
#[utoipa::path(post, path = "/v1/train", tag = "jobs", request_body = TrainRequest,
    responses((status = 200, body = JobDetail)))]
pub async fn train(
    State(app): State<App>,
    Writer(caller): Writer,
    Body(request): Body<TrainRequest>,
) -> Answer<Json<JobDetail>> {
    let set = match &request.dataset {
        None => None,
        Some(text) => {
            let (dataset, version) = versioned(text)?;
            Some(app.datasets.load(&caller, dataset, version).await?)
        }
    };
    let Prepared { order, taxonomy, encoder } =
        prepare(&app, &caller, &request, set.as_ref()).await?;
    let job_request =
        order.into_request(set.as_ref(), taxonomy.as_ref(), encoder.as_ref()).map_err(ApiError)?;
    let job = app.jobs.submit(&caller, job_request).await?;
    read(&app, &caller, job).await
}

/// A training whose names are resolved.
pub struct Prepared {
    pub order: TrainOrder,
    pub taxonomy: Option<LoadedTaxonomy>,
    pub encoder: Option<EncoderRecord>,
}

/// Resolves the names of a request for a training on the rows of `set`.
pub async fn prepare(
    app: &App,
    caller: &Caller,
    request: &TrainRequest,
    set: Option<&OpenSet>,
) -> Answer<Prepared> {
    let model = name(&request.model)?;
    let taxonomy = match &request.taxonomy {
        None => None,
        Some(text) => {
            let (taxonomy, version) = versioned(text)?;
            Some(app.taxonomies.load(caller, taxonomy, version).await?)
        }
    };
    let encoder = choose_encoder(app, caller, request.encoder.as_deref()).await?;
    let metric = request.metric.as_deref().map(str::parse).transpose().map_err(invalid)?;
    let replay = match &request.replay {
        None => Vec::new(),
        Some(text) => candidates_of(app, caller, text).await?,
    };
    check_provenance(request)?;
    let usual = TrainOptions::default();
    let options = TrainOptions {
        name: model.to_string(),
        metric,
        trials: request.trials.map(|trials| trials as usize),
        budget_ms: request.budget_seconds.map(|seconds| seconds.saturating_mul(1000)),
        stop_after_ms: request.stop_after_seconds.map(|seconds| seconds.saturating_mul(1000)),
        replay,
        candidates: listed_candidates(&request.candidates)?,
        members: request.members.map_or(usual.members, |members| members as usize),
        model_bytes: request.model_bytes.unwrap_or(usual.model_bytes),
        max_latency_us: request.max_latency_us,
        class_weighting: if request.balanced {
            ClassWeighting::Balanced
        } else {
            usual.class_weighting
        },
        none_label: request.none_label.clone(),
        refusal_cost: request.refusal_cost.unwrap_or(usual.refusal_cost),
        seed: request.seed,
        price: price(request)?,
        provenance: set
            .iter()
            .flat_map(|set| {
                [
                    ("dataset", format!("{}@{}", set.record.name, set.version.number)),
                    ("manifest", set.version.manifest.to_string()),
                ]
            })
            .chain(taxonomy.iter().map(|loaded| {
                ("taxonomy", format!("{}@{}", loaded.record.name, loaded.version.number))
            }))
            .map(|(key, value)| (key.to_owned(), value))
            .chain(request.provenance.clone())
            .collect(),
        ..usual
    };
    let task: LabelTask = request.task.as_deref().unwrap_or("auto").parse().map_err(invalid)?;
    let payload = TrainPayload {
        model,
        dataset: set.map(|set| (set.record.id, set.version.number)),
        manifest: set.map(|set| set.version.manifest),
        taxonomy: taxonomy
            .as_ref()
            .map(|loaded| (loaded.record.id, loaded.version.number, loaded.version.document)),
        encoder: encoder.as_ref().map(|encoder| encoder.file),
        task,
        options,
    };
    // What a worker has decides how wide a search is, not what it finds.
    let largest = app.jobs.workers().await.iter().map(|worker| worker.capacity.milli_cpu).max();
    let order = TrainOrder {
        milli_cpu: largest.unwrap_or(1000).clamp(100, MAX_MILLI_CPU),
        payload,
        memory_bytes: request.memory_bytes,
        time_limit_ms: request
            .time_limit_seconds
            .unwrap_or(DEFAULT_TIME_LIMIT_SECONDS)
            .saturating_mul(1000),
    };
    Ok(Prepared { order, taxonomy, encoder })
}

/// The candidates of a model's search that went over all folds: what its ensemble was chosen
/// among.
async fn candidates_of(app: &App, caller: &Caller, text: &str) -> Answer<Vec<Candidate>> {
    let (model, version) = versioned(text)?;
    let bytes = read_report(app, caller, model.as_str(), version).await?;
    let report: Report = serde_json::from_slice(&bytes).map_err(|error| {
        ApiError(Failure::new(ErrorKind::Internal, format!("read the report of {text}: {error}")))
    })?;
    let complete = |trial: &&TrialReport| trial.ending == TrialEnding::Complete;
    Ok(report.trials.iter().filter(complete).map(|trial| trial.candidate).collect())
}

/// What a request tells of a model's origin goes into the head of the model's file.
fn check_provenance(request: &TrainRequest) -> Answer<()> {
    let bytes: usize = request.provenance.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_PROVENANCE_BYTES {
        return Err(invalid(format!(
            "`provenance` has {bytes} bytes; it has at most {MAX_PROVENANCE_BYTES}"
        )));
    }
    Ok(())
}

/// The candidates that a request lists itself.
fn listed_candidates(listed: &[serde_json::Value]) -> Answer<Vec<Candidate>> {
    if listed.len() > MOST_CANDIDATES {
        let found = listed.len();
        return Err(invalid(format!(
            "{found} candidates are listed; {MOST_CANDIDATES} can be tried in one search"
        )));
    }
    let read = |(number, value): (usize, &serde_json::Value)| {
        let featurizer = value.get("featurizer").cloned().unwrap_or_default();
        let learner = value.get("learner").cloned().unwrap_or_default();
        let candidate = serde_json::json!({ "featurizer": featurizer, "learner": learner });
        serde_json::from_value(candidate)
            .map_err(|error| invalid(format!("read candidate {number}: {error}")))
    };
    (1..).zip(listed).map(read).collect()
}

async fn choose_encoder(
    app: &App,
    caller: &Caller,
    wish: Option<&str>,
) -> Answer<Option<EncoderRecord>> {
    match wish {
        Some("none") => Ok(None),
        None | Some("auto") => Ok(app.catalog.default_encoder(caller.workspace).await?),
        Some(text) => Ok(Some(app.catalog.encoder_named(caller.workspace, name(text)?).await?)),
    }
}

/// What the machine costs, if the request says so.
fn price(request: &TrainRequest) -> Answer<Option<Price>> {
    let (cpu_hour, gib_hour) = (request.cpu_hour_price, request.gib_hour_price);
    for (field, price) in [("cpu_hour_price", cpu_hour), ("gib_hour_price", gib_hour)] {
        if price.is_some_and(|price| !(price.is_finite() && price >= 0.0)) {
            return Err(invalid(format!("`{field}` is no price: it is zero or more")));
        }
    }
    let is_given = cpu_hour.is_some() || gib_hour.is_some();
    Ok(is_given.then(|| Price {
        cpu_hour: cpu_hour.unwrap_or_default(),
        gib_hour: gib_hour.unwrap_or_default(),
    }))
}
