//! Training as a job: what the request becomes, and what becomes of the result.
//!
//! Names are resolved to hashes when the job is submitted, so that what it reads is what
//! was there then. The worker that runs it knows nothing of workspaces and records.

use corral_catalog::{
    Catalog, CatalogError, EncoderRecord, Lineage, NewModelVersion, NewRecord, RunRecord, RunStatus,
};
use corral_data::{LabelArity, Manifest};
use corral_datasets::{LoadedTaxonomy, OpenSet};
use corral_jobs::{CompletionError, FinishedWork, JobRequest};
use corral_training::{
    EmbeddingWidths, LabelKind, Metric, Plan, Report, TaskShape, TrainError, TrainOptions,
    TrialEnding, TrialReport, labelling_memory_bytes, most_unlabelled_rows,
};
use corral_types::{
    BlobHash, DatasetId, ErrorKind, Explain, Failure, MIB, ModelId, Name, TaxonomyId, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::state::Stores;

/// The kind under which training jobs are handed to workers.
pub const TRAIN_KIND: &str = "train";

/// Names of the outputs of a training job.
pub const MODEL_OUTPUT: &str = "model";
pub const REPORT_OUTPUT: &str = "report";

/// What a job process takes beside the features: code, heap slack, the mapped data set.
const BASE_MEMORY_BYTES: u64 = 192 * MIB;
/// What a search gets at least when nobody said how much: candidates that need much for a fit
/// are left out where there is little, and texts richer than expected make more features.
const LEAST_SEARCH_BYTES: u64 = 768 * MIB;
/// What is looked for at most by itself; no worker has as much.
const MOST_SEARCH_BYTES: u64 = 1 << 44;

/// How much longer than one embedding all layers of a network are, in the encoder that is
/// installed by default; a search's lease is reckoned for others as if they were like it.
const LAYERS_PER_EMBEDDING: usize = 14;

fn expected_widths(encoder: &EncoderRecord) -> EmbeddingWidths {
    let pooled = encoder.dimension as usize;
    EmbeddingWidths { pooled: Some(pooled), layers: Some(LAYERS_PER_EMBEDDING * pooled) }
}

/// How often a search may be cut off by the death of its process or worker: it goes on from a
/// checkpoint, so that a further attempt costs little.
const MAX_TRAINING_ATTEMPTS: u32 = 20;
/// The most cores that a search asks for: its trials share rows, and more gain little.
pub const MAX_MILLI_CPU: u32 = 8_000;

/// What rows with several labels mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelTask {
    /// By the data set: all of them hold where rows have several, unless shares say how likely
    /// each is.
    #[default]
    Auto,
    /// One class is right; any that the row names is.
    AnyOf,
    /// Every label holds by itself: multi-label.
    AllOf,
}

impl std::str::FromStr for LabelTask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "any-of" => Ok(Self::AnyOf),
            "all-of" => Ok(Self::AllOf),
            _ => Err(format!("`{text}` is not a task; the tasks are auto, any-of and all-of")),
        }
    }
}

/// The payload of a training job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainPayload {
    pub model: Name,
    /// Without a data set the taxonomy is all there is.
    pub dataset: Option<(DatasetId, u32)>,
    pub manifest: Option<BlobHash>,
    pub taxonomy: Option<(TaxonomyId, u32, BlobHash)>,
    pub encoder: Option<BlobHash>,
    pub task: LabelTask,
    pub options: TrainOptions,
}

impl TrainPayload {
    /// Whether rows of a data set, if there is one, may have several labels that all hold.
    /// Shares say how likely each of them is to be the right one.
    pub fn label_kind(&self, manifest: Option<&Manifest>) -> LabelKind {
        let all_hold = |manifest: &Manifest| {
            manifest.labels.arity == LabelArity::Multi && !manifest.has_shares()
        };
        match self.task {
            LabelTask::AllOf => LabelKind::MultiLabel,
            LabelTask::Auto if manifest.is_some_and(all_hold) => LabelKind::MultiLabel,
            LabelTask::Auto | LabelTask::AnyOf => LabelKind::SingleChoice,
        }
    }
}

/// What the job is submitted as.
pub struct TrainOrder {
    pub payload: TrainPayload,
    pub memory_bytes: Option<u64>,
    pub time_limit_ms: u64,
    pub milli_cpu: u32,
}

impl TrainOrder {
    /// The job's request, with the memory that the search is expected to take.
    ///
    /// # Errors
    /// When the data cannot be trained on, or not within the memory asked for.
    pub fn into_request(
        mut self,
        set: Option<&OpenSet>,
        taxonomy: Option<&LoadedTaxonomy>,
        encoder: Option<&EncoderRecord>,
    ) -> Result<JobRequest, Failure> {
        refuse_unlabelled(set, taxonomy)?;
        let none_label = self.payload.options.none_label.as_deref();
        refuse_none_label(set, none_label)?;
        if let (Some(set), Some(loaded)) = (set, taxonomy) {
            refuse_unknown_labels(set, loaded, none_label)?;
        }
        let manifest = set.map(|set| &set.manifest);
        let names = manifest.map_or(0, |manifest| manifest.labels.names.len());
        let classes = taxonomy.map_or(names, |loaded| loaded.taxonomy.len());
        let size = LearntSize::of(manifest, taxonomy, classes);
        let embedding_width = encoder.map(|encoder| encoder.dimension as usize);
        let shape = TaskShape::expected(
            self.payload.label_kind(manifest),
            size.rows,
            size.text_bytes,
            classes,
            encoder.map_or_else(EmbeddingWidths::default, expected_widths),
        )
        .within(self.payload.options.max_latency_us.filter(|_| size.unlabelled_rows == 0));
        let labelling_bytes = if size.unlabelled_rows == 0 {
            0
        } else {
            labelling_memory_bytes(size.rows, embedding_width, classes) as u64
        };
        // Without a wish the search gets what it is expected to take; with one, it must fit.
        let mut options = self.payload.options.clone();
        options.memory_bytes = self.memory_bytes.map_or(options.memory_bytes, |bytes| {
            bytes.saturating_sub(BASE_MEMORY_BYTES + labelling_bytes)
        });
        let threads = self.milli_cpu.div_ceil(1000) as usize;
        let mut plan = Plan::for_task(&shape, size.rows, threads, &options);
        // Nobody said how much it may be: more than is usual, then.
        while self.memory_bytes.is_none()
            && matches!(plan, Err(TrainError::Memory { .. }))
            && options.memory_bytes < MOST_SEARCH_BYTES
        {
            options.memory_bytes *= 2;
            plan = Plan::for_task(&shape, size.rows, threads, &options);
        }
        let plan = plan.map_err(Failure::from)?;
        let encoder_bytes = encoder.map_or(0, |encoder| encoder.bytes);
        let search_bytes = plan.estimate.memory_bytes.max(LEAST_SEARCH_BYTES);
        let memory_bytes = self
            .memory_bytes
            .unwrap_or(search_bytes + labelling_bytes + encoder_bytes + BASE_MEMORY_BYTES);
        self.payload.options.memory_bytes = memory_bytes - BASE_MEMORY_BYTES.min(memory_bytes);
        let payload = serde_json::to_value(&self.payload)
            .expect("a payload has texts, numbers and hashes only");
        let mut request = JobRequest::new(TRAIN_KIND, self.payload.model.to_string(), payload);
        request.inputs.extend(self.payload.manifest);
        request.inputs.extend(manifest.into_iter().flat_map(Manifest::blobs));
        request.inputs.extend(self.payload.taxonomy.map(|(_, _, document)| document));
        request.inputs.extend(self.payload.encoder);
        request.memory_request_bytes = memory_bytes;
        request.milli_cpu = self.milli_cpu;
        request.time_limit_ms = Some(self.time_limit_ms);
        request.max_attempts = MAX_TRAINING_ATTEMPTS;
        Ok(request)
    }
}

/// Without labels it takes a taxonomy to say what the classes are.
fn refuse_unlabelled(
    set: Option<&OpenSet>,
    taxonomy: Option<&LoadedTaxonomy>,
) -> Result<(), Failure> {
    if taxonomy.is_some() {
        return Ok(());
    }
    let Some(set) = set else {
        return Err(Failure::new(ErrorKind::Invalid, "there is nothing to learn from")
            .with_hint("name a data set, a taxonomy, or both"));
    };
    let statistics = &set.manifest.statistics;
    if statistics.weightless_rows == statistics.rows {
        return Err(TrainError::NoWeight { rows: statistics.rows as usize }.into());
    }
    if statistics.rows > statistics.unlabelled_rows {
        return Ok(());
    }
    Err(Failure::new(
        ErrorKind::Invalid,
        format!("no row of {}@{} has a label", set.record.name, set.version.number),
    )
    .with_hint(
        "name the label column when importing, by --label, or name a taxonomy, whose names, \
         descriptions and examples then say what the classes are",
    ))
}

/// What is added to the bytes of class texts: in so few texts most n-grams are new, and how many
/// columns they make is not to be had from their bytes.
const FEW_TEXTS_BYTES: usize = 64 << 10;

/// How much there is to learn from.
struct LearntSize {
    /// Labelled rows and those that get labels made for them; without a data set, the texts of
    /// the classes.
    rows: usize,
    unlabelled_rows: usize,
    text_bytes: usize,
}

impl LearntSize {
    fn of(manifest: Option<&Manifest>, taxonomy: Option<&LoadedTaxonomy>, classes: usize) -> Self {
        if let Some(statistics) = manifest.map(|manifest| &manifest.statistics) {
            let labelled = (statistics.rows - statistics.unlabelled_rows) as usize;
            let unlabelled_rows =
                (statistics.unlabelled_rows as usize).min(most_unlabelled_rows(labelled, classes));
            let rows = labelled + unlabelled_rows;
            return Self { rows, unlabelled_rows, text_bytes: statistics.text_bytes as usize };
        }
        let classes = taxonomy.map_or(&[][..], |loaded| loaded.taxonomy.classes());
        let bytes = |class: &corral_taxonomy::Class| {
            let texts = class.examples.iter().chain(&class.description);
            // A name stands by itself and in a few phrases.
            4 * (class.name.len() + 32) + texts.map(String::len).sum::<usize>()
        };
        let texts = |class: &corral_taxonomy::Class| 4 + class.examples.len();
        Self {
            rows: classes.iter().map(texts).sum(),
            unlabelled_rows: 0,
            text_bytes: FEW_TEXTS_BYTES + classes.iter().map(bytes).sum::<usize>(),
        }
    }
}

/// The label of rows of no class is one that rows carry.
fn refuse_none_label(set: Option<&OpenSet>, none_label: Option<&str>) -> Result<(), Failure> {
    let Some(label) = none_label else { return Ok(()) };
    let mut labels = set.iter().flat_map(|set| &set.manifest.labels.names);
    if labels.any(|name| name.trim() == label.trim()) {
        return Ok(());
    }
    let message = format!("no row carries the label `{label}`, named as that of rows of no class");
    let hint = "`corral dataset show NAME` lists the labels of a data set";
    Err(Failure::new(ErrorKind::Invalid, message).with_hint(hint))
}

/// Labels that are no class would fail the job minutes later: they fail it now, all listed.
fn refuse_unknown_labels(
    set: &OpenSet,
    loaded: &LoadedTaxonomy,
    none_label: Option<&str>,
) -> Result<(), Failure> {
    const LISTED: usize = 20;
    let labels = set.manifest.labels.names.iter().map(String::as_str);
    // Labels that rows had once, or have with a share of zero, are none.
    let used = labels.zip(set.manifest.class_rows()).filter(|(_, rows)| *rows > 0);
    let of_classes =
        used.filter(|(label, _)| none_label.is_none_or(|none| label.trim() != none.trim()));
    let matched = loaded.taxonomy.match_labels(of_classes);
    if matched.unknown.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::new(
        ErrorKind::Invalid,
        format!(
            "{} labels of {}@{} are no class of the taxonomy {}",
            matched.unknown.len(),
            set.record.name,
            set.version.number,
            loaded.record.name
        ),
    );
    failure.causes = matched
        .unknown
        .iter()
        .take(LISTED)
        .map(|unknown| {
            let near = if unknown.nearest.is_empty() {
                String::new()
            } else {
                format!("; nearest: {}", unknown.nearest.join(", "))
            };
            format!("`{}` on {} rows{near}", unknown.label, unknown.count)
        })
        .collect();
    let command = format!(
        "`corral taxonomy match {} --dataset {}` lists all of them",
        loaded.record.name, set.record.name
    );
    Err(failure.with_hint(command))
}

/// Registers the model that a training job made. May be called again for the same job.
///
/// # Errors
/// When the outputs are not what a training job makes, or the catalog fails.
pub async fn register(stores: &Stores, work: FinishedWork) -> Result<Value, CompletionError> {
    let never =
        |message: String| CompletionError::Never(Failure::new(ErrorKind::Internal, message));
    let payload: TrainPayload = serde_json::from_value(work.payload.clone())
        .map_err(|error| never(format!("read the job's own request: {error}")))?;
    let output = |name: &str| {
        let found = work.outputs.iter().find(|output| output.name == name);
        found.ok_or_else(|| never(format!("the job made no `{name}`")))
    };
    let (model, report) = (output(MODEL_OUTPUT)?, output(REPORT_OUTPUT)?);
    let (blobs, hash) = (stores.blobs.clone(), report.blob);
    let read = tokio::task::spawn_blocking(move || blobs.read(&hash));
    let bytes = read
        .await
        .map_err(|_| CompletionError::Later(Failure::new(ErrorKind::Unavailable, "cut off")))?
        .map_err(|error| CompletionError::Later(error.into()))?;
    let parsed: Report = serde_json::from_slice(&bytes)
        .map_err(|error| never(format!("read the report: {error}")))?;

    let now = Timestamp::now();
    let metrics = json!({"cv": parsed.cv, "test": parsed.test});
    let version = NewModelVersion {
        file: model.blob,
        bytes: model.bytes,
        lineage: Lineage {
            job: Some(work.job),
            dataset: payload.dataset,
            taxonomy: payload.taxonomy.map(|(id, number, _)| (id, number)),
            code: work.result["code"].as_str().map(str::to_owned),
        },
        metrics_json: metrics.to_string(),
        encoder: payload.encoder.filter(|_| parsed.model.encoder.is_some()),
        created: now,
        report: Some(report.blob),
    };
    let catalog = stores.catalog.as_ref();
    record_trials(catalog, &work, &parsed).await.map_err(later_or_never)?;
    let new = NewRecord { id: ModelId::generate(), name: payload.model.clone(), created: now };
    let version =
        catalog.add_model_version(work.workspace, new, version).await.map_err(later_or_never)?;
    let mut result = json!({
        "job": work.job.to_string(),
        "model": payload.model.to_string(),
        "version": version.number,
        "cv": parsed.cv,
        "summary": parsed.render_text(),
    });
    if let Some(test) = &parsed.test {
        result["test"] = json!(test);
    }
    Ok(result)
}

/// What a trial is worth and what it took; of one that was stopped early, on the folds it saw.
fn run_metrics(report: &Report, trial: &TrialReport) -> Value {
    let mut metrics = json!({
        report.metric.as_str(): trial.score,
        "folds": trial.fold_scores.len(),
        "head_bytes": trial.head_bytes,
        "fit_cpu_seconds": trial.fit_cpu_seconds,
        "wall_seconds": trial.wall_seconds,
    });
    if let Some(evaluation) = &trial.evaluation {
        for metric in [Metric::Accuracy, Metric::MacroF1, Metric::Top5, Metric::LogLoss] {
            metrics[metric.as_str()] = json!(metric.value(evaluation));
        }
        metrics["ece"] = json!(evaluation.ece);
    }
    metrics
}

async fn record_trials(
    catalog: &dyn Catalog,
    work: &FinishedWork,
    report: &Report,
) -> Result<(), CatalogError> {
    let runs: Vec<RunRecord> = report
        .trials
        .iter()
        .map(|trial| RunRecord {
            number: u32::try_from(trial.number).unwrap_or(u32::MAX),
            status: match trial.ending {
                TrialEnding::Complete => RunStatus::Finished,
                TrialEnding::StoppedEarly => RunStatus::Stopped,
            },
            params_json: json!({"name": trial.candidate.name(), "candidate": trial.candidate})
                .to_string(),
            metrics_json: run_metrics(report, trial).to_string(),
            started: trial.started_at,
            ended: Some(trial.ended_at),
        })
        .collect();
    for runs in runs.chunks(corral_catalog::MAX_RUNS_PER_CALL) {
        catalog.record_runs(work.workspace, work.job, runs.to_vec()).await?;
    }
    Ok(())
}

fn later_or_never(error: CatalogError) -> CompletionError {
    // What the catalog refuses it refuses again; a disk that fails may come back.
    match error.kind() {
        ErrorKind::Internal | ErrorKind::Unavailable | ErrorKind::Exhausted => {
            CompletionError::Later(error.into())
        }
        _ => CompletionError::Never(error.into()),
    }
}
