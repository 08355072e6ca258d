//! Labeling as a job: what the request becomes, and what becomes of the result.
//!
//! The job makes label layers over the parts of a data set; registered, they are a version of
//! another data set that shares those parts, with a note of what it was labeled from and by. If a
//! model was trained on them in the same job, it is registered after that.

use std::collections::BTreeMap;

use corral_data::Manifest;
use corral_datasets::{Datasets, OpenSet};
use corral_jobs::{CompletionError, FinishedWork, JobRequest};
use corral_labeling::LabelOptions;
use corral_types::{
    BlobHash, Caller, DatasetId, ErrorKind, Explain, Failure, JobId, MIB, Name, Scopes,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::state::Stores;
use crate::training_job::{self, TrainPayload};

/// The kind under which labeling is handed to workers.
pub const LABEL_KIND: &str = "label";

/// The output with the manifest of the labeled version; its layers are outputs that begin with
/// the other name.
pub const MANIFEST_OUTPUT: &str = "manifest";
pub const LAYER_OUTPUT: &str = "layer-";

/// What a job process takes beside votes and label models: code, a part that is being read.
const BASE_MEMORY_BYTES: u64 = 256 * MIB;
/// What votes and patterns of a row and a function take at most, in bits, about.
const BITS_PER_VOTE: u64 = 24;

/// Labeling is done again from the start after a death of its process.
const MAX_LABEL_ATTEMPTS: u32 = 5;
/// The most cores that it asks for.
const MAX_MILLI_CPU: u32 = 16_000;

/// The payload of a labeling job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabelPayload {
    /// What is labeled: name, id, version.
    pub dataset: (Name, DatasetId, u32),
    pub manifest: BlobHash,
    /// The version of its functions, and their document.
    pub functions: (u32, BlobHash),
    /// The taxonomy that functions take their classes from.
    pub taxonomy: Option<(Name, BlobHash)>,
    pub encoder: Option<BlobHash>,
    /// Models that functions ask, by how they name them.
    pub models: BTreeMap<String, BlobHash>,
    pub options: LabelOptions,
    /// The data set that the labeled rows become the next version of.
    pub to: Name,
    /// What is trained on them in the same job.
    pub train: Option<TrainPayload>,
}

/// What the job is submitted as.
pub struct LabelOrder {
    pub payload: LabelPayload,
    pub function_count: u64,
    pub memory_bytes: Option<u64>,
    pub time_limit_ms: Option<u64>,
    pub milli_cpu: u32,
    /// The request of the training that follows, if one does.
    pub training: Option<JobRequest>,
}

impl LabelOrder {
    /// The job's request.
    pub fn into_request(self, set: &OpenSet) -> JobRequest {
        let votes = set.manifest.rows().saturating_mul(self.function_count);
        let memory_bytes = BASE_MEMORY_BYTES + votes.saturating_mul(BITS_PER_VOTE) / 8;
        let payload = serde_json::to_value(&self.payload).expect("plain fields");
        let name = format!("{} into {}", set.record.name, self.payload.to);
        let mut request = JobRequest::new(LABEL_KIND, name, payload);
        request.inputs.extend([set.version.manifest, self.payload.functions.1]);
        request.inputs.extend(self.payload.taxonomy.iter().map(|(_, document)| *document));
        request.inputs.extend(self.payload.encoder);
        request.inputs.extend(self.payload.models.values());
        request.inputs.extend(set.manifest.blobs());
        request.milli_cpu = self.milli_cpu.clamp(100, MAX_MILLI_CPU);
        request.memory_request_bytes = memory_bytes;
        request.time_limit_ms = self.time_limit_ms;
        request.max_attempts = MAX_LABEL_ATTEMPTS;
        if let Some(training) = self.training {
            request.inputs.extend(training.inputs);
            request.memory_request_bytes += training.memory_request_bytes;
            request.time_limit_ms = request.time_limit_ms.or(training.time_limit_ms);
        }
        request.inputs.sort_unstable();
        request.inputs.dedup();
        if let Some(memory_bytes) = self.memory_bytes {
            request.memory_request_bytes = memory_bytes;
        }
        request
    }
}

/// What the notes of labeled versions of a data set begin with.
fn note_begins(dataset: &Name) -> String {
    format!("labeled from {dataset}@")
}

fn note_of(payload: &LabelPayload, job: JobId) -> String {
    let (name, _, version) = &payload.dataset;
    let begin = note_begins(name);
    format!("{begin}{version} by functions@{}, {}", payload.functions.0, Datasets::note_of(job))
}

/// Refuses to make a labeled version of what is something else.
///
/// # Errors
/// When the data set is there and its newest version was not labeled from `dataset`.
pub fn refuse_other(target: Option<&OpenSet>, dataset: &Name) -> Result<(), Failure> {
    match target {
        Some(target) if !target.version.note.starts_with(&note_begins(dataset)) => {
            let name = &target.record.name;
            let message =
                format!("the data set {name} is there and was not labeled from {dataset}");
            Err(Failure::new(ErrorKind::Conflict, message)
                .with_hint("name another by `to`, or remove it"))
        }
        _ => Ok(()),
    }
}

/// Registers what a labeling job made. May be called again for the same job.
///
/// # Errors
/// When the outputs are not what such a job makes, or a store fails.
pub async fn register(stores: &Stores, work: FinishedWork) -> Result<Value, CompletionError> {
    let never =
        |message: String| CompletionError::Never(Failure::new(ErrorKind::Internal, message));
    let payload: LabelPayload = serde_json::from_value(work.payload.clone())
        .map_err(|error| never(format!("read the job's own request: {error}")))?;
    let output = work.outputs.iter().find(|output| output.name == MANIFEST_OUTPUT);
    let output = output.ok_or_else(|| never("the job labeled nothing".to_owned()))?;
    let (blobs, hash) = (stores.blobs.clone(), output.blob);
    let read = tokio::task::spawn_blocking(move || blobs.read(&hash)).await;
    let bytes = read
        .map_err(|_| CompletionError::Later(Failure::new(ErrorKind::Unavailable, "cut off")))?
        .map_err(|error| CompletionError::Later(error.into()))?;
    let manifest = Manifest::parse(&bytes).map_err(|error| CompletionError::Never(error.into()))?;
    check_files(stores, &work, &payload, &manifest).await?;

    let caller = Caller { workspace: work.workspace, token: None, scopes: Scopes::NONE };
    let datasets = Datasets::new(stores.catalog.clone(), stores.blobs.clone());
    let note = note_of(&payload, work.job);
    let kept = datasets.keep(&caller, payload.to.clone(), manifest, note).await;
    let set = kept.map_err(|error| match error.kind() {
        ErrorKind::Internal
        | ErrorKind::Unavailable
        | ErrorKind::Exhausted
        | ErrorKind::Conflict => CompletionError::Later(error.into()),
        _ => CompletionError::Never(error.into()),
    })?;
    let mut result = json!({
        "job": work.job.to_string(),
        "dataset": set.record.name.to_string(),
        "version": set.version.number,
        "labels": work.result["labels"],
    });
    if let Some(mut train) = payload.train {
        train.dataset = Some((set.record.id, set.version.number));
        train.manifest = Some(set.version.manifest);
        let payload = serde_json::to_value(&train).expect("plain fields");
        let trained = FinishedWork { payload, result: work.result["train"].clone(), ..work };
        result["train"] = training_job::register(stores, trained).await?;
    }
    Ok(result)
}

/// A manifest may name nothing but the parts it was made from and what the job handed in.
async fn check_files(
    stores: &Stores,
    work: &FinishedWork,
    payload: &LabelPayload,
    manifest: &Manifest,
) -> Result<(), CompletionError> {
    let (blobs, hash) = (stores.blobs.clone(), payload.manifest);
    let read = tokio::task::spawn_blocking(move || blobs.read(&hash)).await;
    let bytes = read
        .map_err(|_| CompletionError::Later(Failure::new(ErrorKind::Unavailable, "cut off")))?
        .map_err(|error| CompletionError::Later(error.into()))?;
    let source = Manifest::parse(&bytes).map_err(|error| CompletionError::Never(error.into()))?;
    let mut known = source.blobs();
    known.extend(work.outputs.iter().map(|output| output.blob));
    let foreign = manifest.blobs().into_iter().find(|blob| !known.contains(blob));
    match foreign {
        None => Ok(()),
        Some(blob) => Err(CompletionError::Never(Failure::new(
            ErrorKind::Internal,
            format!("the labeled version names {}, which the job did not make", blob.short()),
        ))),
    }
}
