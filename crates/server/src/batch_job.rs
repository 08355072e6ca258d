//! Batches of predictions as a job: what the request becomes, and what becomes of the result.
//!
//! As in training, names are resolved to hashes when the job is submitted: whatever is deployed
//! while it runs, all its rows are answered by one version of one model.

use std::sync::Arc;

use corral_batch::{AnswerColumns, BatchOptions};
use corral_classifier::Model;
use corral_data::{
    ColumnChoice, ExportFormat, ImportOptions, LABEL_COLUMN, LayerKind, Manifest, NoProgress,
    RoleNames, SHARES_COLUMN, SPLIT_COLUMN, Source, TextName, WEIGHT_COLUMN, text_column_name,
};
use corral_datasets::{Datasets, DatasetsError, ImportMode, OpenSet};
use corral_jobs::{CompletionError, FinishedWork, JobRequest};
use corral_serving::Pinned;
use corral_types::{BlobHash, Caller, DatasetId, ErrorKind, Explain, Failure, MIB, Name, Scopes};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::state::Stores;

/// The kind under which batches are handed to workers.
pub const BATCH_KIND: &str = "batch";

/// The name of the output with the rows and their answers.
pub const PREDICTIONS_OUTPUT: &str = "predictions";

/// What a job process takes beside the model and the encoder: code, a chunk of rows with their
/// answers, and what a writer of Parquet gathers before it writes.
const BASE_MEMORY_BYTES: u64 = 256 * MIB;

/// How often a batch may be cut off by the death of its process or worker: it goes on where the
/// last checkpoint was, so that a further attempt costs little.
const MAX_BATCH_ATTEMPTS: u32 = 20;

/// The most cores that a batch asks for: beyond, reading and writing rows takes most of the time.
const MAX_MILLI_CPU: u32 = 16_000;

/// The payload of a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchPayload {
    pub endpoint: Name,
    pub endpoint_version: u32,
    pub model: (Name, u32),
    pub file: BlobHash,
    pub encoder: Option<BlobHash>,
    pub dataset: (DatasetId, u32),
    pub manifest: BlobHash,
    pub options: BatchOptions,
    pub output: BatchOutput,
}

/// What the rows and their answers become.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchOutput {
    /// A file in this format, kept with the job.
    File { format: String },
    /// A data set of this name.
    Dataset { name: Name },
}

impl BatchOutput {
    /// The format in which the job writes: a data set is made from a file of Arrow.
    pub fn format(&self) -> Option<ExportFormat> {
        match self {
            Self::File { format } => format.parse().ok(),
            Self::Dataset { .. } => Some(ExportFormat::Arrow),
        }
    }
}

/// What the job is submitted as.
pub struct BatchOrder {
    pub endpoint: Name,
    pub pinned: Pinned,
    pub options: BatchOptions,
    pub output: BatchOutput,
    pub memory_bytes: Option<u64>,
    pub time_limit_ms: Option<u64>,
    pub milli_cpu: u32,
}

impl BatchOrder {
    /// The job's request.
    ///
    /// # Errors
    /// When an option is out of its range, no class begins with the prefix, or a column of the
    /// data set has the name of one of the answers'.
    pub fn into_request(
        self,
        set: &OpenSet,
        model: &Model,
        encoder_bytes: u64,
    ) -> Result<JobRequest, Failure> {
        self.options.check()?;
        if let Some(format) = self.output.format() {
            format.check_rows(set.manifest.rows())?;
        }
        self.options.subset(model)?;
        AnswerColumns::check_names(model, &self.options, &set.manifest)?;
        let Pinned { endpoint_version, model: named, file, encoder } = self.pinned;
        let name = format!("{} on {}", self.endpoint, set.record.name);
        let payload = BatchPayload {
            endpoint: self.endpoint,
            endpoint_version,
            model: named,
            file,
            encoder,
            dataset: (set.record.id, set.version.number),
            manifest: set.version.manifest,
            options: self.options,
            output: self.output,
        };
        let payload = serde_json::to_value(&payload).expect("plain fields");
        let mut request = JobRequest::new(BATCH_KIND, name, payload);
        request.inputs.extend([set.version.manifest, file]);
        request.inputs.extend(encoder);
        request.inputs.extend(set.manifest.blobs());
        request.memory_request_bytes = self
            .memory_bytes
            .unwrap_or(BASE_MEMORY_BYTES + model.info().file_bytes + encoder_bytes);
        request.milli_cpu = self.milli_cpu.clamp(100, MAX_MILLI_CPU);
        request.time_limit_ms = self.time_limit_ms;
        request.max_attempts = MAX_BATCH_ATTEMPTS;
        Ok(request)
    }
}

/// Makes the data set, where one was asked for. May be called again for the same job.
///
/// # Errors
/// When the output is not what a batch makes, the name was taken meanwhile, or a store fails.
pub async fn register(stores: &Stores, work: FinishedWork) -> Result<Value, CompletionError> {
    let never =
        |message: String| CompletionError::Never(Failure::new(ErrorKind::Internal, message));
    let payload: BatchPayload = serde_json::from_value(work.payload.clone())
        .map_err(|error| never(format!("read the job's own request: {error}")))?;
    let output = work.outputs.iter().find(|output| output.name == PREDICTIONS_OUTPUT);
    let output = output.ok_or_else(|| never("the job made no predictions".to_owned()))?;
    let mut result = work.result.clone();
    result["job"] = json!(work.job.to_string());
    match &payload.output {
        BatchOutput::File { format } => {
            result["format"] = json!(format);
            result["bytes"] = json!(output.bytes);
            result["hash"] = json!(output.blob.to_string());
        }
        BatchOutput::Dataset { name } => {
            let made = make_dataset(stores, &work, &payload, name, output.blob).await;
            let version = made.map_err(later_or_never)?;
            result["dataset"] = json!(name.to_string());
            result["version"] = json!(version);
        }
    }
    Ok(result)
}

async fn make_dataset(
    stores: &Stores,
    work: &FinishedWork,
    payload: &BatchPayload,
    name: &Name,
    file: BlobHash,
) -> Result<u32, DatasetsError> {
    let datasets = Datasets::new(stores.catalog.clone(), stores.blobs.clone());
    let caller = Caller { workspace: work.workspace, token: None, scopes: Scopes::NONE };
    // The version says which job made it: a second delivery finds it so.
    if let Ok(there) = datasets.load(&caller, name.clone(), Some(1)).await
        && there.version.note == Datasets::note_of(work.job)
    {
        return Ok(there.version.number);
    }
    let (blobs, hash) = (stores.blobs.clone(), payload.manifest);
    let manifest = tokio::task::spawn_blocking(move || {
        let bytes = blobs.read(&hash)?;
        Ok::<_, DatasetsError>(Manifest::parse(&bytes)?)
    });
    let manifest = manifest.await.map_err(|_| DatasetsError::CutOff)??;
    let source = Source {
        file_name: "predictions.arrow".to_owned(),
        reader: Box::new(stores.blobs.open_file(&file)?),
        split: None,
    };
    let options = import_options(&manifest);
    let mode = ImportMode::MadeBy(work.job);
    let progress = Arc::new(NoProgress);
    let made =
        datasets.import(&caller, name.clone(), mode, vec![source], options, progress).await?;
    Ok(made.set.version.number)
}

/// The roles that columns had go on, under the names that exports give them; columns of answers
/// get none, whatever they are called.
fn import_options(manifest: &Manifest) -> ImportOptions {
    let role = |name: &str, is_there: bool| match is_there {
        true => ColumnChoice::Named(name.to_owned()),
        false => ColumnChoice::Absent,
    };
    ImportOptions {
        text: Some(text_column_name(manifest, TextName::AsImported).to_owned()),
        label: role(LABEL_COLUMN, !manifest.labels.names.is_empty()),
        shares: role(SHARES_COLUMN, manifest.has_shares()),
        split: role(SPLIT_COLUMN, !manifest.splits.is_empty()),
        weight: role(WEIGHT_COLUMN, manifest.layer(LayerKind::Weight).is_some()),
        role_names: RoleNames::Free,
        ..ImportOptions::default()
    }
}

fn later_or_never(error: DatasetsError) -> CompletionError {
    match error.kind() {
        ErrorKind::Internal | ErrorKind::Unavailable | ErrorKind::Exhausted => {
            CompletionError::Later(error.into())
        }
        _ => CompletionError::Never(error.into()),
    }
}
