//! The job kind `train`: opens the data set, the taxonomy and the encoder among the job's
//! inputs and runs the search over them.

use corral_classifier::Encoder;
use corral_data::{Dataset, Manifest, PartStore};
use corral_encoder::MiniLm;
use corral_server::training_job::{MODEL_OUTPUT, REPORT_OUTPUT, TrainPayload};
use corral_taxonomy::Taxonomy;
use corral_training::{BlockCache, Observer, Split, TrainError, TrainingRows};
use corral_worker::{JobContext, JobFailure, JobHandler, JobOutput};
use serde_json::{Value, json};

use crate::job_inputs::{Inputs, read};

/// What a workspace's embeddings may take on a worker's disk: those of some million short
/// texts.
const EMBEDDINGS_CACHE_BYTES: u64 = 2 << 30;

/// Handles jobs of kind `train`.
pub struct TrainJob;

impl JobHandler for TrainJob {
    fn run(&self, context: &JobContext) -> Result<JobOutput, JobFailure> {
        let payload: TrainPayload = serde_json::from_value(context.payload().clone())
            .map_err(|error| JobFailure::from_error(&error))?;
        let manifest = match payload.manifest {
            None => None,
            Some(manifest) => Some(Manifest::parse(&read(context.input_path(manifest)?)?)?),
        };
        train_on(context, payload, manifest, &Inputs { context })
    }
}

/// Trains on the rows of a version, if there is one, whose files lie in `store`.
///
/// # Errors
/// When an input cannot be read, or the search fails.
pub fn train_on(
    context: &JobContext,
    payload: TrainPayload,
    manifest: Option<Manifest>,
    store: &dyn PartStore,
) -> Result<JobOutput, JobFailure> {
    let dataset = match manifest {
        None => None,
        Some(manifest) => Some(Dataset::open(manifest, store)?),
    };
    let taxonomy = match payload.taxonomy {
        None => None,
        Some((_, _, document)) => Some(Taxonomy::from_json(&read(context.input_path(document)?)?)?),
    };
    let encoder = match payload.encoder {
        None => None,
        Some(file) => Some(MiniLm::open_verified(context.input_path(file)?, file)?),
    };
    let batches: Vec<_> = dataset.iter().flat_map(Dataset::iter).collect::<Result<_, _>>()?;
    let rows = match &dataset {
        Some(dataset) => {
            let kind = payload.label_kind(Some(dataset.manifest()));
            training_rows(dataset.manifest(), &batches, kind)
        }
        None => TrainingRows::none(payload.label_kind(None)),
    };
    let mut options = payload.options;
    options.threads = Some(context.thread_count());
    options.block_cache = Some(BlockCache {
        folder: context.cache_dir().join("embeddings"),
        quota_bytes: EMBEDDINGS_CACHE_BYTES,
    });
    let outcome = corral_training::train(
        &rows,
        taxonomy.as_ref(),
        &options,
        encoder.as_ref().map(|encoder| encoder as &dyn Encoder),
        &Watched { context },
        context.checkpoint_bytes()?.as_deref(),
        context.work_dir(),
    )
    .map_err(|error| match error {
        // The worker knows why it asked; this only ends the attempt.
        TrainError::Cancelled => JobFailure::retryable("the attempt was asked to end"),
        error => error.into(),
    })?;
    Ok(JobOutput {
        result: json!({
            "model": outcome.model_hash.to_string(),
            "code": env!("CARGO_PKG_VERSION"),
        }),
        outputs: vec![
            (MODEL_OUTPUT.to_owned(), outcome.model_path),
            (REPORT_OUTPUT.to_owned(), outcome.report_path),
        ],
    })
}

/// The rows as training wants them; texts and labels stay where they are mapped.
fn training_rows<'a>(
    manifest: &Manifest,
    batches: &'a [corral_data::Batch],
    kind: corral_training::LabelKind,
) -> TrainingRows<'a> {
    let (valid, test) = (manifest.split_code("valid"), manifest.split_code("test"));
    let mut rows = TrainingRows::none(kind);
    rows.label_names = manifest.labels.names.clone();
    let mut weights = (manifest.statistics.weighted_rows > 0).then(Vec::new);
    for batch in batches {
        for row in 0..batch.len() {
            rows.texts.push(batch.text(row));
            match (batch.labels().codes(row), batch.shares(row)) {
                ([], _) => rows.labels.push_unlabelled(),
                (codes, Some(shares)) => {
                    let shares: Vec<_> =
                        codes.iter().copied().zip(shares.iter().copied()).collect();
                    rows.labels.push_shares(&shares);
                }
                ([code], None) => rows.labels.push_one(*code),
                (codes, None) => rows.labels.push_several(codes),
            }
            if let Some(weights) = &mut weights {
                weights.push(batch.weight(row).unwrap_or(1.0));
            }
            let split = batch.split(row);
            rows.splits.push(match split {
                Some(_) if split == test => Split::Test,
                Some(_) if split == valid => Split::Valid,
                _ => Split::Train,
            });
            rows.row_ids.push(batch.row_id(row));
        }
    }
    rows.weights = weights;
    rows
}

/// Tells the worker what the search tells.
struct Watched<'a> {
    context: &'a JobContext,
}

impl Observer for Watched<'_> {
    fn progress(&self, fraction: f32, message: &str, mut detail: Value) {
        // The lease may grow and shrink while the search runs.
        detail["memory_lease_bytes"] = json!(self.context.limits().memory_request_bytes);
        self.context.progress(fraction, message, detail);
    }

    fn log(&self, line: &str) {
        self.context.log(line);
    }

    fn is_cancelled(&self) -> bool {
        self.context.is_cancelled()
    }

    fn finish_now(&self) -> bool {
        self.context.finish_now_requested()
    }

    fn checkpoint(&self, state: &[u8]) {
        // Without the checkpoint a later attempt does this part again, and that is all.
        if let Err(failure) = self.context.checkpoint(state) {
            self.context.log(format!("the checkpoint was not kept: {}", failure.message));
        }
    }
}
