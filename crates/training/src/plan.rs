//! Which candidates are tried, and what that will take.

use corral_classifier::EmbeddingView;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::features::FeaturizerSettings;
use crate::folds::MAX_FOLDS;
use crate::learner::{LANES, LearnerSettings};
use crate::lexicons::LexiconSettings;
use crate::metrics::RankedRows;
use crate::options::TrainOptions;
use crate::rows::LabelKind;

/// A featurizer and a learner with their settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub featurizer: FeaturizerSettings,
    pub learner: LearnerSettings,
}

impl Candidate {
    /// A name for people, such as `words 1-2 chars 3-5 & pooled×2 + linear_svm C=0.3`.
    pub fn name(&self) -> String {
        format!("{} + {}", self.featurizer, self.learner)
    }
}

/// What is known of a task before its features are computed, or after.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskShape {
    pub kind: LabelKind,
    /// Texts to learn from.
    pub texts: usize,
    pub classes: usize,
    /// Entries and columns of the lexical rows.
    pub entries: usize,
    pub columns: usize,
    /// The length of an embedding; `None` without an encoder.
    pub embedding_width: Option<usize>,
    /// Bytes of the texts.
    pub text_bytes: usize,
}

/// Lexical entries for each byte of text, and columns for texts of `b` bytes as
/// `COLUMNS_FACTOR · b^COLUMNS_EXPONENT` (Heaps' law), fitted to Banking77; the estimate is
/// made anew once the features are counted.
const ENTRIES_PER_BYTE: f64 = 2.2;
const COLUMNS_FACTOR: f64 = 7.6;
const COLUMNS_EXPONENT: f64 = 0.65;

impl TaskShape {
    /// The shape to expect of a task with texts of `text_bytes` in all.
    pub fn expected(
        kind: LabelKind,
        texts: usize,
        text_bytes: usize,
        classes: usize,
        embedding_width: Option<usize>,
    ) -> Self {
        let bytes = text_bytes as f64;
        Self {
            kind,
            texts,
            classes,
            entries: (ENTRIES_PER_BYTE * bytes) as usize,
            columns: (COLUMNS_FACTOR * bytes.powf(COLUMNS_EXPONENT)) as usize,
            embedding_width,
            text_bytes,
        }
    }

    fn columns_of(&self, featurizer: &FeaturizerSettings) -> usize {
        let lexical = if featurizer.reads_lexicon() { self.columns } else { 0 };
        lexical + self.width_of(featurizer)
    }

    fn width_of(&self, featurizer: &FeaturizerSettings) -> usize {
        if featurizer.reads_encoder() { self.embedding_width.unwrap_or(0) } else { 0 }
    }

    /// The seconds of CPU that one fit on a share of the rows takes.
    fn fit_seconds(&self, candidate: &Candidate, share: f64) -> f64 {
        let sparse = if candidate.featurizer.reads_lexicon() { self.entries } else { 0 };
        let dense = self.texts * self.width_of(&candidate.featurizer);
        let blocks = self.classes.div_ceil(LANES) as f64;
        let nanos = candidate.learner.cpu_nanos();
        share * blocks * (sparse as f64 * nanos.sparse + dense as f64 * nanos.dense) / 1e9
    }
}

/// Seconds of CPU to embed a text of a sentence's length.
const EMBED_SECONDS: f64 = 1.3e-3;
/// Seconds of CPU to count and weigh a byte of text.
const LEXICON_SECONDS: f64 = 1.5e-7;
/// Seconds of CPU that a search may take by estimate when nobody said how many trials to run.
const DEFAULT_SEARCH_CPU_SECONDS: f64 = 150.0;
/// Trials that are run in any case, so that there is something to choose from.
const LEAST_TRIALS: usize = 2;
/// Folds where a fit is quick, and where it is not.
const USUAL_FOLDS: usize = 5;
const FEW_FOLDS: usize = 3;
/// Rows times blocks of classes from which there are few folds.
const FEW_FOLDS_FROM: usize = 500_000;

/// The process itself: its code, its allocator's slack, the encoder's buffers.
const PROCESS_BYTES: usize = 64 << 20;

/// What a run is expected to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub trials: usize,
    pub folds: usize,
    pub cpu_seconds: f64,
    pub wall_seconds: f64,
    pub memory_bytes: u64,
}

/// The candidates of a run and what they are expected to take.
#[derive(Clone, Debug)]
pub struct Plan {
    pub candidates: Vec<Candidate>,
    pub folds: usize,
    /// Trials that are cross-validated side by side.
    pub trials_at_once: usize,
    pub estimate: Estimate,
    /// CPU seconds by phase: features, search, refit. Progress is told by their shares.
    pub phase_seconds: [f64; 3],
}

impl Plan {
    /// Chooses candidates and folds by the task's shape and the options, and refuses what
    /// cannot fit into the memory allowed.
    pub fn for_task(
        shape: &TaskShape,
        distinct_texts: usize,
        threads: usize,
        options: &TrainOptions,
    ) -> Result<Self, TrainError> {
        let folds = fold_count(shape, distinct_texts, options)?;
        let fitted_share = 1.0 - 1.0 / folds as f64;
        let mut candidates = candidates(shape);
        let seconds_of =
            |candidate: &Candidate| folds as f64 * shape.fit_seconds(candidate, fitted_share);
        match options.trials {
            Some(0) => return Err(TrainError::ZeroOption { option: "trials" }),
            Some(trials) => candidates.truncate(trials),
            None => {
                let mut spent = 0.0;
                let mut count = 0;
                candidates.retain(|candidate| {
                    let seconds = seconds_of(candidate);
                    let stays =
                        count < LEAST_TRIALS || spent + seconds <= DEFAULT_SEARCH_CPU_SECONDS;
                    if stays {
                        spent += seconds;
                        count += 1;
                    }
                    stays
                });
            }
        }
        let limit = options.memory_bytes;
        let mut trials_at_once = threads.clamp(1, candidates.len());
        while trials_at_once > 1
            && memory_bytes(shape, &candidates, trials_at_once, threads) > limit
        {
            trials_at_once -= 1;
        }
        let needed = memory_bytes(shape, &candidates, trials_at_once, threads);
        if needed > limit {
            let TaskShape { texts, classes, columns, .. } = shape;
            let shape = format!("{texts} texts × {columns} features × {classes} classes");
            return Err(TrainError::Memory { needed, limit, shape });
        }
        let lexicon = shape.text_bytes as f64 * LEXICON_SECONDS;
        let embedding = if candidates.iter().any(|candidate| candidate.featurizer.reads_encoder()) {
            shape.texts as f64 * EMBED_SECONDS
        } else {
            0.0
        };
        let search: f64 = candidates.iter().map(seconds_of).sum();
        let mut refits: Vec<f64> =
            candidates.iter().map(|candidate| shape.fit_seconds(candidate, 1.0)).collect();
        refits.sort_by(|a, b| b.total_cmp(a));
        let refit: f64 = refits.iter().take(options.members).sum();
        let phase_seconds = [lexicon + embedding, search, refit];
        let cpu_seconds: f64 = phase_seconds.iter().sum();
        let estimate = Estimate {
            trials: candidates.len(),
            folds,
            cpu_seconds,
            wall_seconds: cpu_seconds / threads as f64,
            memory_bytes: needed,
        };
        Ok(Self { candidates, folds, trials_at_once, estimate, phase_seconds })
    }
}

fn fold_count(
    shape: &TaskShape,
    distinct_texts: usize,
    options: &TrainOptions,
) -> Result<usize, TrainError> {
    let most = MAX_FOLDS.min(distinct_texts);
    match options.folds {
        Some(folds) if (2..=most).contains(&folds) => Ok(folds),
        Some(folds) => Err(TrainError::Folds { folds, most }),
        None => {
            let large = shape.texts * shape.classes.div_ceil(LANES) >= FEW_FOLDS_FROM;
            Ok(if large { FEW_FOLDS } else { USUAL_FOLDS }.min(most))
        }
    }
}

/// The grid, the most promising first: a search that may run few trials runs these.
fn candidates(shape: &TaskShape) -> Vec<Candidate> {
    let svm =
        |featurizer, cost| Candidate { featurizer, learner: LearnerSettings::LinearSvm { cost } };
    let softmax =
        |featurizer, cost| Candidate { featurizer, learner: LearnerSettings::Softmax { cost } };
    let lexicon = LexiconSettings::WORDS_AND_CHARACTERS.for_texts(shape.texts);
    let lexical = FeaturizerSettings::lexical(lexicon);
    let embedding = FeaturizerSettings::embedding(EmbeddingView::Pooled);
    let joined = |scale| FeaturizerSettings::joined(lexicon, EmbeddingView::Pooled, scale);
    let mut grid = match shape.embedding_width {
        None => vec![
            svm(lexical, 0.5),
            softmax(lexical, 10.0),
            svm(lexical, 1.0),
            softmax(lexical, 30.0),
            svm(lexical, 0.2),
            svm(lexical, 2.0),
            softmax(lexical, 3.0),
            svm(lexical, 0.1),
        ],
        Some(_) => vec![
            svm(joined(2.0), 0.3),
            softmax(embedding, 10.0),
            softmax(lexical, 10.0),
            svm(joined(1.0), 0.5),
            softmax(joined(2.0), 10.0),
            svm(lexical, 0.5),
            softmax(embedding, 30.0),
            svm(joined(3.0), 0.1),
            softmax(joined(1.0), 10.0),
            svm(joined(1.0), 1.0),
            softmax(joined(2.0), 30.0),
            svm(joined(3.0), 0.3),
        ],
    };
    if shape.kind == LabelKind::MultiLabel {
        grid.retain(|candidate| candidate.learner.abilities().multi_label);
    }
    grid
}

/// What a run holds at its peak: features, the predictions of finished trials, and the fits
/// and scores of those that run.
fn memory_bytes(
    shape: &TaskShape,
    candidates: &[Candidate],
    at_once: usize,
    threads: usize,
) -> u64 {
    let texts = 3 * shape.text_bytes;
    let lexical = shape.entries * 8 + shape.columns * 24;
    let embeddings = shape.texts * shape.embedding_width.unwrap_or(0) * 4;
    let predictions = candidates.len() * RankedRows::bytes_for(shape.texts, shape.classes);
    let scores = at_once * 2 * shape.texts * shape.classes * 4;
    let largest_fit = candidates
        .iter()
        .map(|candidate| {
            let columns = shape.columns_of(&candidate.featurizer);
            // The head is built beside the weights it is made of.
            columns * shape.classes
                + candidate.learner.memory_bytes(columns, shape.texts, shape.classes, threads)
        })
        .max()
        .unwrap_or(0);
    // Each thread works on the fold of one trial; the analysis comes after them.
    let search = scores + threads * largest_fit;
    let after = crate::analysis::memory_bytes(shape.texts);
    (PROCESS_BYTES + texts + lexical + embeddings + predictions + search.max(after)) as u64
}
