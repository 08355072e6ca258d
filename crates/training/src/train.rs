//! A whole run: from rows to a model file and a report.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corral_classifier::model::Scratch;
use corral_classifier::{Encoder, Model, SparseRows, Tempering};
use corral_taxonomy::Taxonomy;
use corral_types::{BlobHash, Timestamp};
use rayon::prelude::*;
use serde_json::json;

use crate::analysis;
use crate::candidate::Candidate;
use crate::checkpoint;
use crate::clock::process_cpu_time;
use crate::ensemble::{self, Limits};
use crate::error::TrainError;
use crate::features::{BlocksNeeded, FeatureBlocks, FeaturizerSettings, embed, lexical_block};
use crate::fingerprint::fingerprint;
use crate::latency;
use crate::learner::HeadBudget;
use crate::memory::peak_memory_bytes;
use crate::metrics::{self, Decisions, DetailedEvaluation, Levels, RankedRows};
use crate::multi_label;
use crate::observer::Observer;
use crate::options::{Metric, TrainOptions};
use crate::plan::{Plan, Schedule};
use crate::prepare::{ClassTextRows, HeldOut, Prepared, prepare};
use crate::progress::Progress;
use crate::refit::Refit;
use crate::refusal;
use crate::report::{self, Actual, Regime, Report, ReportParts, Warning, WarningKind};
use crate::rows::{LabelKind, TrainingRows};
use crate::search::{self, Ending, SearchContext};
use crate::space::Space;
use crate::task_shape::{EmbeddingWidths, TaskShape};
use crate::trial::{Trial, Workbench};
use crate::weak::{self, Labelling};

/// The model's name in the folder of a run.
pub const MODEL_FILE: &str = "model.corral";

/// A finished run.
#[derive(Clone, Debug)]
pub struct TrainOutcome {
    pub model_path: PathBuf,
    pub model_hash: BlobHash,
    pub report_path: PathBuf,
    pub report: Report,
}

/// The phases that progress is told of: features, search, refit.
const FEATURE_PHASE: usize = 0;
const REFIT_PHASE: usize = 2;
/// Heads of an ensemble share the room of the model file; an ensemble has at most two large
/// ones in practice, since those of embeddings alone are small.
const LARGE_HEADS: u64 = 2;
/// Texts of the test split that are embedded at once.
const TEST_TEXTS_AT_ONCE: usize = 1024;

/// Trains a classifier: searches for the best candidates by cross-validation on the train and
/// valid splits, fits them on all of both, and writes one calibrated model and a report
/// into `out_dir`. The test split is scored once, with the finished file.
///
/// `checkpoint` is the last state that an earlier run of the same rows and options handed to
/// its observer. With the same rows, options and seed the model has the same bytes for any
/// number of threads and across resumption, unless the clock or `finish_now` cut the search.
///
/// # Errors
/// When the rows cannot be learnt from, the run cannot fit the memory it was given, it was
/// cancelled, or its files cannot be written.
pub fn train(
    rows: &TrainingRows<'_>,
    taxonomy: Option<&Taxonomy>,
    options: &TrainOptions,
    encoder: Option<&dyn Encoder>,
    observer: &dyn Observer,
    checkpoint: Option<&[u8]>,
    out_dir: &Path,
) -> Result<TrainOutcome, TrainError> {
    let threads = options
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    if threads == 0 {
        return Err(TrainError::ZeroOption { option: "threads" });
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("train-{index}"))
        .build()
        .map_err(|source| TrainError::Threads { threads, source })?;
    pool.install(|| {
        Run { options, encoder, observer, out_dir, threads }.execute(rows, taxonomy, checkpoint)
    })
}

struct Run<'a> {
    options: &'a TrainOptions,
    encoder: Option<&'a dyn Encoder>,
    observer: &'a dyn Observer,
    out_dir: &'a Path,
    threads: usize,
}

impl Run<'_> {
    fn execute(
        &self,
        rows: &TrainingRows<'_>,
        taxonomy: Option<&Taxonomy>,
        checkpoint: Option<&[u8]>,
    ) -> Result<TrainOutcome, TrainError> {
        let (started_at, started) = (Timestamp::now(), Instant::now());
        let cpu_before = process_cpu_time();
        let options = self.options;
        let mut actual = Actual::default();
        let class_texts = ClassTextRows::of(taxonomy, options.class_texts);
        let mut prepared = prepare(rows, taxonomy, &class_texts, options)?;
        check_metric(prepared.metric(options), prepared.kind)?;
        let expected = self.expected_shape(&prepared);
        let space = Space::for_task(&expected, options.memory_bytes);
        let texts = prepared.distinct_texts();
        let plan = Plan::for_task(&expected, texts, self.threads, options)?;
        let labelling_seconds = weak::cpu_seconds(&prepared, &expected, plan.folds);
        let plan = plan.with_labelling(labelling_seconds, self.threads);
        let progress = Progress::new(self.observer, &plan.phase_seconds, started);

        let candidates = candidates(&plan, &space);
        check_latency(&candidates, &expected, options.max_latency_us)?;
        let featurizers: Vec<FeaturizerSettings> =
            candidates.iter().map(|candidate| candidate.featurizer).collect();
        let blocks = self.compute_features(&prepared, &featurizers, &progress, &mut actual)?;
        let lexical_rows = || blocks.lexicons.values().map(|block| &block.rows);
        // Now that the features are counted: refused if they are more than expected.
        let shape = TaskShape {
            entries: lexical_rows().map(SparseRows::entries).max().unwrap_or(0),
            columns: lexical_rows().map(SparseRows::columns).max().unwrap_or(0),
            ..expected
        };
        let plan = plan.with_counted(&shape, self.threads, options)?;
        let space = Space::for_task(&shape, options.memory_bytes);

        let stop = || self.observer.is_cancelled();
        let labelling = Labelling {
            folds: plan.folds,
            seed: options.seed,
            memory_bytes: options.memory_bytes,
            stop: &stop,
        };
        if labelling_seconds > 0.0 {
            let detail = json!({ "phase": "features" });
            progress.within(FEATURE_PHASE, 1.0, "labelling rows", detail);
        }
        let labelling_started = Instant::now();
        weak::label_rows(&mut prepared, &blocks, &labelling)?;
        actual.labelling_seconds = labelling_started.elapsed().as_secs_f64();
        let folds = prepared.folds(plan.folds, options.seed);
        let levels = match prepared.kind {
            LabelKind::SingleChoice => Levels::of(&prepared.taxonomy, &prepared.outputs),
            LabelKind::MultiLabel => None,
        };
        let deadline =
            options.stop_after_ms.map(|stop_after| started + Duration::from_millis(stop_after));
        let ending = Ending::new(self.observer, deadline);
        let stop = || ending.is_due();
        let bench = Workbench {
            prepared: &prepared,
            blocks: &blocks,
            folds: &folds,
            levels: levels.as_ref(),
            metric: prepared.metric(options),
            seed: options.seed,
            head_budget: HeadBudget { bytes: (options.model_bytes / LARGE_HEADS) as usize },
            stop: &stop,
        };
        let fingerprint = fingerprint(&prepared, &plan, options, self.encoder);
        let finished = self.restore(checkpoint, fingerprint);
        let context = SearchContext {
            plan: &plan,
            space: &space,
            shape: &shape,
            observer: self.observer,
            progress: &progress,
            checkpoint_every: Duration::from_millis(options.checkpoint_every_ms),
            fingerprint,
            ending: &ending,
        };
        let limits = Limits {
            members: options.members,
            model_bytes: options.model_bytes,
            max_latency_us: options.max_latency_us,
            text_bytes: shape.mean_text_bytes(),
        };
        let search_started = Instant::now();
        let found = search::run(&bench, &context, finished)?;
        let members = ensemble::select(&bench, &found.trials, &limits)?;
        let joined = (prepared.kind == LabelKind::MultiLabel).then(|| {
            let members = ensemble::weighted(&found.trials, &members);
            let members: Vec<(&RankedRows, f32)> =
                members.into_iter().map(|(_, ranked, weight)| (ranked, weight)).collect();
            multi_label::join(&bench, &members)
        });
        let (held_out, tempering, cv) = match &joined {
            Some(joined) => (joined.held_out.clone(), Tempering::NONE, joined.cv.clone()),
            None => {
                let (held_out, tempering) = ensemble::predictions(&bench, &found.trials, &members);
                let cv = bench.evaluate(&held_out);
                (held_out, tempering, cv)
            }
        };
        actual.search_seconds = search_started.elapsed().as_secs_f64();

        let refit_started = Instant::now();
        progress.within(REFIT_PHASE, 0.0, "fitting on all rows", json!({ "phase": "refit" }));
        let refit = Refit {
            bench: &bench,
            trials: &found.trials,
            members: &members,
            tempering,
            options,
            encoder: self.encoder,
        };
        let (mut spec, member_reports) = refit.fit(HeldOut::Nothing)?;
        if let Some(joined) = &joined {
            joined.put_into(&mut spec);
        }
        let mut refusals = match &prepared.none {
            None => None,
            Some(none) => {
                let message = "learning what is none of the classes";
                progress.within(REFIT_PHASE, 0.5, message, json!({ "phase": "refusals" }));
                let learnt = refusal::learn(&refit, none, self.observer)?;
                spec.thresholds.refusal = Some(learnt.refusal);
                Some(learnt.summary)
            }
        };
        let model_path = self.out_dir.join(MODEL_FILE);
        let model_hash = spec.write(&model_path).map_err(TrainError::WriteModel)?;
        actual.refit_seconds = refit_started.elapsed().as_secs_f64();
        drop(spec);

        let test_started = Instant::now();
        let test = self.test(&prepared, &model_path, levels.as_ref())?;
        if let (Some(summary), Some(none)) = (&mut refusals, &prepared.none) {
            summary.test =
                refusal::test(&model_path, &prepared.test, none, self.encoder, self.observer)?;
        }
        actual.test_seconds = test_started.elapsed().as_secs_f64();

        let analysis_started = Instant::now();
        let findings = analysis::analyse(&analysis::Finished {
            bench: &bench,
            held_out: &held_out,
            cv: &cv,
            trials: found.trials.iter().map(|trial| &trial.report).collect(),
            members: ensemble::weighted(&found.trials, &members),
            model_path: &model_path,
            encoder: self.encoder,
            observer: self.observer,
        })?;

        let first = ensemble::outcome(&found.trials[members[0].trial]);
        let ece_uncalibrated = bench.ece_uncalibrated(first);
        actual.analysis_seconds = analysis_started.elapsed().as_secs_f64();
        actual.cpu_seconds = process_cpu_time().saturating_sub(cpu_before).as_secs_f64();
        actual.wall_seconds = started.elapsed().as_secs_f64();
        actual.peak_memory_bytes = peak_memory_bytes();
        actual.fit_cpu_seconds =
            found.trials.iter().map(|trial| trial.report.fit_cpu_seconds).sum::<f64>()
                + member_reports.iter().map(|member| member.fit_cpu_seconds).sum::<f64>();
        if found.left_out > 0 {
            prepared.warnings.push(Warning::rows(
                WarningKind::CutShort,
                found.left_out,
                Vec::new(),
            ));
        }
        let report = report::build(ReportParts {
            options,
            encoder: self.encoder,
            started_at,
            prepared: &prepared,
            plan: &plan,
            found: &found,
            estimated_latency_us: limits.latency_us(&found.trials, &members),
            members: member_reports,
            ece_uncalibrated,
            cv,
            held_out: &held_out,
            findings,
            refusals,
            test,
            actual,
            model_path: &model_path,
            model_hash,
        });
        let report_path = report::write(&report, self.out_dir)?;
        self.observer.progress(1.0, "done", json!({ "phase": "done" }));
        Ok(TrainOutcome { model_path, model_hash, report_path, report })
    }

    fn expected_shape(&self, prepared: &Prepared<'_>) -> TaskShape {
        TaskShape::expected(
            prepared.kind,
            prepared.texts.len(),
            prepared.texts.iter().map(|text| text.len()).sum(),
            prepared.outputs.len(),
            self.encoder.map_or_else(EmbeddingWidths::default, EmbeddingWidths::of_encoder),
        )
        .under(prepared.parents.as_ref())
        // Rows without label are labelled by embeddings also for a model that has no time for them.
        .within(self.options.max_latency_us.filter(|_| prepared.regime == Regime::Labelled))
    }

    fn compute_features(
        &self,
        prepared: &Prepared<'_>,
        featurizers: &[FeaturizerSettings],
        progress: &Progress<'_>,
        actual: &mut Actual,
    ) -> Result<FeatureBlocks, TrainError> {
        let mut blocks = FeatureBlocks::default();
        let needed = BlocksNeeded::by(featurizers.iter().copied());
        let clock = Instant::now();
        for settings in &needed.lexicons {
            progress.within(FEATURE_PHASE, 0.0, "counting words", json!({ "phase": "features" }));
            blocks.lexicons.insert(*settings, lexical_block(&prepared.texts, settings)?);
        }
        actual.lexicon_seconds = clock.elapsed().as_secs_f64();
        let clock = Instant::now();
        if let Some(encoder) = self.encoder.filter(|_| !needed.views.is_empty()) {
            let report = |fraction: f32| {
                let detail = json!({ "phase": "features", "texts": prepared.texts.len() });
                progress.within(FEATURE_PHASE, fraction, "embedding texts", detail);
            };
            let cache = self.options.block_cache.as_ref();
            blocks.embeddings =
                embed(encoder, &prepared.texts, &needed.views, cache, self.observer, &report)?;
        }
        actual.embedding_seconds = clock.elapsed().as_secs_f64();
        Ok(blocks)
    }

    /// The trials of a checkpoint, if it is of this run.
    fn restore(&self, checkpoint: Option<&[u8]>, fingerprint: BlobHash) -> Vec<Trial> {
        let Some(bytes) = checkpoint else { return Vec::new() };
        match checkpoint::read(bytes, fingerprint) {
            Some(trials) => {
                self.observer.log(&format!("resumed with {} finished trials", trials.len()));
                trials
            }
            None => {
                self.observer.log("the checkpoint is of other rows or options: starting anew");
                Vec::new()
            }
        }
    }

    /// Scores the test split with the model file, as it will be served.
    fn test(
        &self,
        prepared: &Prepared<'_>,
        model_path: &Path,
        levels: Option<&Levels>,
    ) -> Result<Option<DetailedEvaluation>, TrainError> {
        if prepared.test.texts.is_empty() {
            return Ok(None);
        }
        let model = Model::open(model_path).map_err(TrainError::OpenModel)?;
        let classes = prepared.outputs.len();
        let mut ranked = RankedRows::new(classes);
        for texts in prepared.test.texts.chunks(TEST_TEXTS_AT_ONCE) {
            if self.observer.is_cancelled() {
                return Err(TrainError::Cancelled);
            }
            let embeddings = model.encode(texts, self.encoder).map_err(TrainError::Predict)?;
            let probabilities: Vec<Vec<f32>> = texts
                .par_iter()
                .enumerate()
                .map_init(Scratch::default, |scratch, (at, text)| {
                    model
                        .probabilities(text, embeddings.text(at), scratch)
                        .map(<[f32]>::to_vec)
                        .map_err(TrainError::Predict)
                })
                .collect::<Result<_, TrainError>>()?;
            probabilities.iter().for_each(|row| ranked.push(row));
        }
        let rows: Vec<u32> = (0..prepared.test.texts.len() as u32).collect();
        Ok(Some(match prepared.kind {
            LabelKind::SingleChoice => {
                metrics::evaluate(&ranked, &rows, prepared.test.answers(), levels)
            }
            LabelKind::MultiLabel => {
                let decisions =
                    model.output_thresholds().map_or(Decisions::Even, Decisions::PerOutput);
                metrics::evaluate_multi_label(&ranked, &rows, prepared.test.answers(), decisions)
            }
        }))
    }
}

/// The plan's candidates, or samples of those that it may try: they read all features.
fn candidates(plan: &Plan, space: &Space) -> Vec<Candidate> {
    match &plan.schedule {
        Schedule::Search { .. } => space.samples(),
        Schedule::List { candidates, .. } => candidates.clone(),
    }
}

/// Refuses a limit within which no candidate's features are ready.
fn check_latency(
    candidates: &[Candidate],
    shape: &TaskShape,
    limit_us: Option<u64>,
) -> Result<(), TrainError> {
    let micros = |candidate: &Candidate| {
        let alone = std::iter::once((candidate.featurizer, 0.0));
        latency::ensemble_micros(alone, shape.mean_text_bytes())
    };
    let timed = candidates.iter().map(|candidate| (micros(candidate), candidate));
    let fastest = timed.min_by(|a, b| a.0.total_cmp(&b.0));
    match (fastest, limit_us) {
        (Some((micros, candidate)), Some(limit_us)) if micros > limit_us as f64 => {
            let (fastest_us, name) = (micros.ceil() as u64, candidate.name());
            Err(TrainError::Latency { limit_us, fastest_us, name })
        }
        _ => Ok(()),
    }
}

fn check_metric(metric: Metric, kind: LabelKind) -> Result<(), TrainError> {
    if kind == LabelKind::MultiLabel && metric == Metric::LogLoss {
        return Err(TrainError::MetricUndefined { metric, kind });
    }
    Ok(())
}
