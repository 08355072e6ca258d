//! The job kind `batch`: asks a model for every row of a data set, and writes rows and answers
//! into one file.

use std::cell::RefCell;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use corral_batch::{
    AnswerColumns, AnswerFile, AnswerReader, Asking, BatchError, Watch, answer_rows,
};
use corral_classifier::{Encoder, Model};
use corral_data::{Dataset, ExportOptions, Manifest, TextName, export_with};
use corral_encoder::MiniLm;
use corral_server::batch_job::{BatchPayload, PREDICTIONS_OUTPUT};
use corral_types::display_count;
use corral_worker::{JobContext, JobFailure, JobHandler, JobOutput};
use serde_json::json;

use crate::job_inputs::{Inputs, read};

/// How often the answers so far are kept: what a kill costs at most, beside the next limit.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(250);
/// Keeping them may take a twentieth of the time: of many rows they are kept less often.
const LEAST_WORK_PER_CHECKPOINT: u32 = 20;
/// The part of the whole that answering is; the rest is writing.
const ANSWERING_FRACTION: f64 = 0.95;

/// Handles jobs of kind `batch`.
pub struct BatchJob;

impl JobHandler for BatchJob {
    fn run(&self, context: &JobContext) -> Result<JobOutput, JobFailure> {
        let payload: BatchPayload = serde_json::from_value(context.payload().clone())
            .map_err(|error| JobFailure::from_error(&error))?;
        let format = payload.output.format().ok_or_else(|| {
            JobFailure::permanent("this worker cannot write the format that is asked for")
        })?;
        let manifest = Arc::new(Manifest::parse(&read(context.input_path(payload.manifest)?)?)?);
        let model = Model::open(context.input_path(payload.file)?)?;
        let encoder = match payload.encoder {
            None => None,
            Some(file) => Some(MiniLm::open_verified(context.input_path(file)?, file)?),
        };
        let encoder = encoder.as_ref().map(|encoder| encoder as &dyn Encoder);
        let inputs = Inputs { context };
        let path = context.work_dir().join("answers");
        let mut answers = match context.checkpoint_path() {
            Some(kept) => AnswerFile::resume(kept, &path)?,
            None => AnswerFile::create(&path)?,
        };
        let resumed_from = answers.rows();
        if resumed_from > 0 {
            context.log(format!("goes on after {} rows", display_count(resumed_from)));
        }
        let begun = Instant::now();
        let watched = Watched { context, begun, resumed_from, kept: RefCell::new(Kept::new()) };
        let options = &payload.options;
        let asking = Asking { model: &model, encoder, options, threads: context.thread_count() };
        answer_rows(&asking, &manifest, &inputs, &mut answers, &watched).map_err(failure)?;
        let answering_ms = begun.elapsed().as_millis() as u64;

        let rows = answers.rows();
        context.progress(
            ANSWERING_FRACTION as f32,
            format!("writing {} rows as {format}", display_count(rows)),
            json!({"rows": rows}),
        );
        let dataset = Dataset::open(manifest, &inputs)?;
        let reader = AnswerReader::open(answers.path())?;
        let mut columns = AnswerColumns::new(&model, options, reader);
        let written = context.work_dir().join(PREDICTIONS_OUTPUT);
        let mut file = File::create(&written).map_err(|error| {
            JobFailure::retryable(format!("make {}: {error}", written.display()))
        })?;
        let shape = ExportOptions { text_name: TextName::AsImported, ..ExportOptions::default() };
        export_with(&dataset, &mut columns, format, &shape, &mut file)?;
        let (model_name, model_version) = &payload.model;
        Ok(JobOutput {
            result: json!({
                "endpoint": payload.endpoint,
                "endpoint_version": payload.endpoint_version,
                "model": model_name,
                "model_version": model_version,
                "rows": rows,
                "resumed_from": resumed_from,
                "answering_ms": answering_ms,
                "writing_ms": begun.elapsed().as_millis() as u64 - answering_ms,
            }),
            outputs: vec![(PREDICTIONS_OUTPUT.to_owned(), written)],
        })
    }
}

fn failure(error: BatchError) -> JobFailure {
    match error {
        // The worker knows why it asked; this only ends the attempt.
        BatchError::Cancelled => JobFailure::retryable("the attempt was asked to end"),
        error => error.into(),
    }
}

/// Tells the worker how far the answers are, and keeps them from time to time.
struct Watched<'a> {
    context: &'a JobContext,
    begun: Instant,
    resumed_from: u64,
    kept: RefCell<Kept>,
}

/// When the answers were last kept, and how long that took.
struct Kept {
    at: Instant,
    took: Duration,
}

impl Kept {
    fn new() -> Self {
        Self { at: Instant::now(), took: Duration::ZERO }
    }

    fn is_due(&self) -> bool {
        let pause = CHECKPOINT_INTERVAL.max(self.took * LEAST_WORK_PER_CHECKPOINT);
        self.at.elapsed() >= pause
    }
}

impl Watch for Watched<'_> {
    fn advance(&self, answers: &mut AnswerFile, rows: u64) -> Result<(), BatchError> {
        let done = answers.rows();
        let seconds = self.begun.elapsed().as_secs_f64();
        let rate = (done - self.resumed_from) as f64 / seconds.max(1e-9);
        self.context.progress(
            (done as f64 / rows.max(1) as f64 * ANSWERING_FRACTION) as f32,
            format!("{} of {} rows", display_count(done), display_count(rows)),
            json!({
                "rows": done,
                "rows_per_s": rate,
                "seconds_left": (rows - done) as f64 / rate.max(1e-9),
            }),
        );
        let mut kept = self.kept.borrow_mut();
        if !kept.is_due() {
            return Ok(());
        }
        let begun = Instant::now();
        answers.flush()?;
        // Without it a later attempt answers these rows again, and that is all.
        if let Err(failure) = self.context.checkpoint_file(answers.path()) {
            self.context.log(format!("the checkpoint was not kept: {}", failure.message));
        }
        *kept = Kept { at: Instant::now(), took: begun.elapsed() };
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.context.is_cancelled()
    }
}
