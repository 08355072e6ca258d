//! The job kind `label`: runs labeling functions over a data set, makes labels of their votes,
//! and trains on them where that was asked for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use corral_classifier::{Encoder, Model};
use corral_data::{Manifest, PartStore};
use corral_encoder::MiniLm;
use corral_labeling::{
    Classes, FunctionSet, LabelReport, Labeled, LabelingError, Program, Resources, Rows, VoteCache,
    Watch, exact, fit_labels, label_rows, used_labels,
};
use corral_server::label_job::{LAYER_OUTPUT, LabelPayload, MANIFEST_OUTPUT};
use corral_taxonomy::Taxonomy;
use corral_types::{BlobHash, display_count};
use corral_worker::{JobContext, JobFailure, JobHandler, JobOutput};
use serde_json::json;

use crate::job_inputs::{Inputs, read};
use crate::train_job::train_on;

/// The part of the whole that voting is; the rest is fitting and writing.
const VOTING_FRACTION: f64 = 0.8;

/// Handles jobs of kind `label`.
pub struct LabelJob;

impl JobHandler for LabelJob {
    fn run(&self, context: &JobContext) -> Result<JobOutput, JobFailure> {
        let payload: LabelPayload = serde_json::from_value(context.payload().clone())
            .map_err(|error| JobFailure::from_error(&error))?;
        let store = Made::new(context);
        let Labeled { manifest, report } = label(context, &payload, &store)?;
        context.log(describe(&report));
        let path = context.work_dir().join(MANIFEST_OUTPUT);
        std::fs::write(&path, manifest.to_bytes())
            .map_err(|error| JobFailure::retryable(format!("write {}: {error}", path.display())))?;
        let mut outputs = vec![(MANIFEST_OUTPUT.to_owned(), path)];
        for (number, (_, path)) in store.files().into_iter().enumerate() {
            outputs.push((format!("{LAYER_OUTPUT}{number}"), path));
        }
        let mut result = json!({ "labels": report });
        if let Some(train) = payload.train {
            let trained = train_on(context, train, Some(manifest), &store)?;
            result["train"] = trained.result;
            outputs.extend(trained.outputs);
        }
        Ok(JobOutput { result, outputs })
    }
}

fn label(
    context: &JobContext,
    payload: &LabelPayload,
    store: &Made<'_>,
) -> Result<Labeled, JobFailure> {
    let manifest = Arc::new(Manifest::parse(&read(context.input_path(payload.manifest)?)?)?);
    let functions = FunctionSet::from_bytes(&read(context.input_path(payload.functions.1)?)?)?;
    let definitions = functions.definitions();
    let classes = match &payload.taxonomy {
        None => Classes::implied(&definitions, used_labels(&manifest)),
        Some((name, document)) => {
            let taxonomy = Taxonomy::from_json(&read(context.input_path(*document)?)?)?;
            Classes::of_taxonomy(name.as_str(), &taxonomy)
        }
    };
    let mut resources = Resources::default();
    if let Some(file) = payload.encoder {
        let opened = MiniLm::open_verified(context.input_path(file)?, file)?;
        resources.encoder = Some(Arc::new(opened) as Arc<dyn Encoder>);
    }
    for (reference, file) in &payload.models {
        let model = Model::open(context.input_path(*file)?)?;
        resources.models.insert(reference.clone(), (*file, Arc::new(model)));
    }
    let program = Program::new(&definitions, classes, resources)?;
    let rows = Rows { manifest, store };
    let found = exact(&program, &rows, functions.arity, &VoteCache::new(None), &Watched(context))
        .map_err(|error| match error {
        // The worker knows why it asked; this only ends the attempt.
        LabelingError::Superseded => JobFailure::retryable("the attempt was asked to end"),
        error => error.into(),
    })?;
    context.progress(
        VOTING_FRACTION as f32,
        format!("{} functions voted; labeling", program.functions.len()),
        json!({ "functions": program.functions.len() }),
    );
    let options = &payload.options;
    let fitted = fit_labels(&found.table, found.counts, &found.gold, &program.classes, options)?;
    Ok(label_rows(&rows, &found.table, &fitted, &program.classes, options, store)?)
}

fn describe(report: &LabelReport) -> String {
    format!(
        "labeled {} of {} rows ({} gold, {} left) by {}: {}",
        display_count(report.labeled),
        display_count(report.rows),
        display_count(report.gold),
        display_count(report.unlabeled),
        report.model,
        report.reason
    )
}

/// The job's inputs, and beside them the layers that it makes.
struct Made<'a> {
    inputs: Inputs<'a>,
    folder: PathBuf,
    files: Mutex<Vec<(BlobHash, PathBuf)>>,
}

impl<'a> Made<'a> {
    fn new(context: &'a JobContext) -> Self {
        let folder = context.work_dir().to_owned();
        Self { inputs: Inputs { context }, folder, files: Mutex::default() }
    }

    fn files(&self) -> Vec<(BlobHash, PathBuf)> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl PartStore for Made<'_> {
    fn put_file(&self, path: &Path, hash: &BlobHash) -> io::Result<()> {
        let kept = self.folder.join(hash.to_string());
        std::fs::rename(path, &kept)?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if !files.iter().any(|(known, _)| known == hash) {
            files.push((*hash, kept));
        }
        Ok(())
    }

    fn local_path(&self, hash: &BlobHash) -> io::Result<PathBuf> {
        match self.files().into_iter().find(|(known, _)| known == hash) {
            Some((_, path)) => Ok(path),
            None => self.inputs.local_path(hash),
        }
    }

    fn scratch_dir(&self) -> &Path {
        &self.folder
    }
}

/// Tells the worker how far the votes are.
struct Watched<'a>(&'a JobContext);

impl Watch for Watched<'_> {
    fn advance(&self, parts: usize, of: usize) {
        self.0.progress(
            (parts as f64 / of.max(1) as f64 * VOTING_FRACTION) as f32,
            format!("voted on {parts} of {of} parts"),
            json!({ "parts": parts, "of": of }),
        );
    }

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}
