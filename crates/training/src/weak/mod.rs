//! Labels where people gave few or none.
//!
//! Where **some** rows to learn from have a label, [`self_training`] makes labels for the
//! others, and they are used if that helps on labelled rows that it did not know. Where
//! **none** has, [`prototypes`] makes labels from what the taxonomy says of its classes. Where
//! there are **no rows at all**, the texts of the classes are the rows, and all that is done
//! here is to find out how far to trust that.
//!
//! Everything is computed from features that exist already, in a fixed order, and takes
//! memory for one graph of neighbours and a few matrices of rows × classes: see
//! [`memory_bytes`].

mod balance;
mod graph;
mod labels;
mod projection;
mod prototypes;
mod self_training;
mod trust;

use corral_classifier::{DenseRows, EmbeddingView};

use self::graph::NeighbourGraph;
use self::labels::push_distribution;
use self::prototypes::{agreement, agreement_of_halves, centred, label_by_prototypes, mean};
use self::self_training::SelfTraining;
use crate::error::TrainError;
use crate::features::{FeatureBlocks, FeaturizerSettings};
use crate::folds::ALWAYS_FITTED;
use crate::metrics::likeliest;
use crate::prepare::Prepared;
use crate::report::{Regime, WeakMethod, WeakSummary};
use crate::targets::Targets;
use crate::task_shape::TaskShape;

/// Rows without label that are used: more of them cost time, since each is compared with each,
/// and next to nothing is learnt from the twenty-thousand-and-first.
const MOST_UNLABELLED_ROWS: usize = 20_000;
/// Beyond so many labelled rows the others are left alone: labels of one's own making do not
/// add to that many made by people.
const MOST_LABELLED_ROWS: usize = 20_000;
/// The values of a matrix of rows × classes: 64 MiB of each.
const MOST_LABEL_VALUES: usize = 16 << 20;
/// Matrices of rows × classes at once: scores before and after, labels, and two while
/// labels spread.
const LABEL_MATRICES: usize = 5;

/// How rows are labelled.
pub struct Labelling<'a> {
    /// Of the cross-validation that follows: self-training is judged on the same.
    pub folds: usize,
    pub seed: u64,
    /// What may be held in memory.
    pub memory_bytes: u64,
    /// Asked now and then whether to give up.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// How many rows without label are used beside so many with one.
pub fn most_unlabelled_rows(labelled: usize, classes: usize) -> usize {
    if labelled > MOST_LABELLED_ROWS {
        return 0;
    }
    let most_values = (MOST_LABEL_VALUES / classes.max(1)).saturating_sub(labelled);
    MOST_UNLABELLED_ROWS.min(most_values)
}

/// What labelling takes beside the features, in bytes, for an embedding (or the projection
/// that stands in for it) so wide.
pub fn memory_bytes(rows: usize, embedding_width: Option<usize>, classes: usize) -> usize {
    let width = embedding_width.unwrap_or(projection::WIDTH);
    // All, and those without the texts of classes.
    let rows_compared = 2 * rows * width * size_of::<f32>();
    rows_compared
        + NeighbourGraph::memory_bytes(rows, width, prototypes::NEIGHBOURS)
        + LABEL_MATRICES * rows * classes * size_of::<f32>()
}

/// Products of two numbers, and weighted sums over neighbours, that a core does in a second.
const PRODUCTS_PER_SECOND: f64 = 1e10;
const SUMS_PER_SECOND: f64 = 1.5e9;

/// The seconds of CPU that labelling is expected to take, where self-training is judged by so
/// many folds.
pub fn cpu_seconds(prepared: &Prepared<'_>, shape: &TaskShape, folds: usize) -> f64 {
    let (rows, classes) = (shape.texts as f64, shape.classes as f64);
    let width = shape.widths.pooled.unwrap_or(projection::WIDTH);
    let graph = rows * rows * width as f64 / PRODUCTS_PER_SECOND;
    let spread = |neighbours: usize| {
        let steps = prototypes::SMOOTHING.steps * 2 * neighbours;
        steps as f64 * rows * classes / SUMS_PER_SECOND
    };
    match prepared.regime {
        Regime::Labelled | Regime::TaxonomyOnly => 0.0,
        // One of all columns and two of half of them.
        Regime::Unlabelled => {
            let rounds = 3.0 * (prototypes::ROUNDS + 1) as f64;
            2.0 * graph + rounds * spread(prototypes::NEIGHBOURS)
        }
        Regime::PartlyLabelled if prepared.unlabelled().is_empty() => 0.0,
        Regime::PartlyLabelled => {
            let fit = self_training::fit_seconds(shape);
            let spread = spread(self_training::NEIGHBOURS);
            graph + ((folds + 1) * (self_training::ROUNDS + 1)) as f64 * (fit + spread)
        }
    }
}

/// Makes labels for the rows of `prepared` that have none, or finds that they are better left
/// alone, and notes what was done.
///
/// # Errors
/// When it was stopped, or a classifier cannot be built.
pub fn label_rows(
    prepared: &mut Prepared<'_>,
    blocks: &FeatureBlocks,
    labelling: &Labelling<'_>,
) -> Result<(), TrainError> {
    check_memory(prepared, blocks, labelling)?;
    match prepared.regime {
        Regime::Labelled => {}
        Regime::PartlyLabelled => {
            if prepared.unlabelled().is_empty() {
                return Ok(());
            }
            let (summary, labels) = self_train(prepared, blocks, labelling)?;
            prepared.weak = Some(summary);
            match labels {
                Some(labels) => {
                    (prepared.targets, prepared.weights) = labels.of_all;
                    prepared.without_fold = labels.without_fold;
                }
                None => prepared.forget_unlabelled(),
            }
        }
        Regime::Unlabelled => label_by_class_texts(prepared, blocks, labelling)?,
        Regime::TaxonomyOnly => {
            let rows = similarity_rows(prepared, blocks);
            prepared.weak = Some(trust::of_class_texts(prepared, rows));
        }
    }
    Ok(())
}

/// Refuses what cannot fit before it begins.
fn check_memory(
    prepared: &Prepared<'_>,
    blocks: &FeatureBlocks,
    labelling: &Labelling<'_>,
) -> Result<(), TrainError> {
    let is_labelled = match prepared.regime {
        Regime::Labelled | Regime::TaxonomyOnly => true,
        Regime::PartlyLabelled => prepared.unlabelled().is_empty(),
        Regime::Unlabelled => false,
    };
    let (rows, classes) = (prepared.texts.len(), prepared.outputs.len());
    let width = blocks.embeddings.view(EmbeddingView::Pooled).map(DenseRows::width);
    let needed = memory_bytes(rows, width, classes) as u64;
    if is_labelled || needed <= labelling.memory_bytes {
        return Ok(());
    }
    Err(TrainError::Memory {
        needed,
        limit: labelling.memory_bytes,
        shape: format!("{rows} rows are to be labelled among {classes} classes"),
    })
}

/// The rows by which likeness is judged: embeddings, or lexical rows projected to few columns.
fn similarity_rows(prepared: &Prepared<'_>, blocks: &FeatureBlocks) -> DenseRows {
    let texts = prepared.texts.len();
    if let Some(rows) = blocks.embeddings.view(EmbeddingView::Pooled) {
        debug_assert_eq!(rows.rows(), texts);
        return rows.clone();
    }
    let lexical = blocks.lexicons.values().next();
    lexical.map_or_else(|| DenseRows::zeros(texts, 1), |block| projection::project(&block.rows))
}

/// Whether the class that scores highest is right.
fn is_right(targets: &Targets, row: usize, scores: &[f32]) -> bool {
    let class = likeliest(scores);
    targets.right(row).any(|right| right == class)
}

/// What self-training reads: embeddings where there are any, else words and characters. Both
/// together label worse: what few rows say of words is mostly chance.
fn self_training_features(blocks: &FeatureBlocks) -> FeaturizerSettings {
    let view = EmbeddingView::Pooled;
    match (blocks.embeddings.view(view), blocks.lexicons.keys().next()) {
        (Some(_), _) => FeaturizerSettings::embedding(view),
        (None, Some(&lexicon)) => FeaturizerSettings::lexical(lexicon),
        (None, None) => FeaturizerSettings { lexicon: None, embedding: None },
    }
}

fn label_by_class_texts(
    prepared: &mut Prepared<'_>,
    blocks: &FeatureBlocks,
    labelling: &Labelling<'_>,
) -> Result<(), TrainError> {
    let scored = prepared.scored;
    let rows = similarity_rows(prepared, blocks);
    let mean = mean(&rows, 0..scored);
    let all = centred(rows, &mean);
    let texts = all.select(&prepared.class_texts.clone().collect::<Vec<_>>());
    let rows = all.select(&(0..scored).collect::<Vec<_>>());
    drop(all);
    let classes: Vec<u32> =
        prepared.class_texts.clone().filter_map(|row| prepared.targets.first(row)).collect();
    let texts = prototypes::prototypes(&texts, &classes, prepared.outputs.len());
    let stop = labelling.stop;
    let of_halves = agreement_of_halves(&rows, &texts, stop).ok_or(TrainError::Cancelled)?;
    let neighbours = prototypes::NEIGHBOURS;
    let graph = NeighbourGraph::build(&rows, neighbours, stop).ok_or(TrainError::Cancelled)?;
    let found = label_by_prototypes(&rows, &graph, &texts, stop).ok_or(TrainError::Cancelled)?;
    let last: Vec<u32> = found.labels.iter().map(likeliest).collect();

    let mut targets = Targets::new();
    for (row, label) in found.labels.iter().enumerate() {
        prepared.weights[row] *= push_distribution(&mut targets, label);
    }
    for row in prepared.class_texts.clone() {
        targets.push_from(&prepared.targets, row);
    }
    prepared.targets = targets;
    prepared.weak = Some(WeakSummary {
        estimated_accuracy: Some(found.confidence.min(of_halves)),
        rounds: Some(prototypes::ROUNDS as u32),
        kept_labels: Some(agreement(&found.first, &last)),
        view_agreement: Some(of_halves),
        ..WeakSummary::new(WeakMethod::Prototypes, scored)
    });
    Ok(())
}

/// Targets and weights of all rows, those that were made among them.
struct MadeLabels {
    of_all: (Targets, Vec<f32>),
    without_fold: Vec<(Targets, Vec<f32>)>,
}

/// Labels rows by self-training: once without each fold, to find whether that helps and so
/// that no fit of a fold knows of the labels it is scored on, and once for good.
fn self_train(
    prepared: &Prepared<'_>,
    blocks: &FeatureBlocks,
    labelling: &Labelling<'_>,
) -> Result<(WeakSummary, Option<MadeLabels>), TrainError> {
    let rows = similarity_rows(prepared, blocks);
    let mean = mean(&rows, 0..rows.rows());
    let rows = centred(rows, &mean);
    let neighbours = self_training::NEIGHBOURS;
    let graph = NeighbourGraph::build(&rows, neighbours, labelling.stop);
    let graph = graph.ok_or(TrainError::Cancelled)?;
    drop(rows);
    let count = prepared.texts.len();
    let unlabelled = prepared.unlabelled();
    let featurizer = self_training_features(blocks);
    let features = blocks.rows(&featurizer);
    let squared_norms = features.squared_norms();
    let is_known: Vec<bool> = (0..count).map(|row| !unlabelled.contains(&row)).collect();
    let is_text: Vec<bool> = (0..count).map(|row| !prepared.class_texts.contains(&row)).collect();
    let training = SelfTraining {
        features,
        squared_norms: &squared_norms,
        row: blocks.feature_rows(&featurizer),
        graph: &graph,
        targets: &prepared.targets,
        weights: &prepared.weights,
        class_weights: &prepared.class_weights,
        class_count: prepared.outputs.len(),
        is_known: &is_known,
        is_text: &is_text,
        seed: labelling.seed,
        stop: labelling.stop,
    };
    let folds = prepared.folds(labelling.folds, labelling.seed);
    let mut without_fold = Vec::with_capacity(folds.count);
    let (mut before, mut after) = (0usize, 0usize);
    for fold in 0..folds.count {
        let is_held_out = |&of_row: &u8| of_row != ALWAYS_FITTED && usize::from(of_row) == fold;
        let held_out: Vec<bool> = folds.of_row.iter().map(is_held_out).collect();
        let found = training.run(&held_out)?;
        for row in (0..count).filter(|&row| held_out[row]) {
            before += usize::from(is_right(&prepared.targets, row, found.scores_before.row(row)));
            after += usize::from(is_right(&prepared.targets, row, found.scores_after.row(row)));
        }
        without_fold.push(training.joined(&found.labels));
    }
    let scored = prepared.scored.max(1) as f64;
    let used = after > before;
    let summary = WeakSummary {
        used,
        held_out_rows: prepared.scored as u64,
        accuracy_without: Some(before as f64 / scored),
        accuracy_with: Some(after as f64 / scored),
        ..WeakSummary::new(WeakMethod::SelfTraining, unlabelled.len())
    };
    if !used {
        return Ok((summary, None));
    }
    let found = training.run(&vec![false; count])?;
    let of_unlabelled = |scores: &DenseRows| -> Vec<u32> {
        unlabelled.clone().map(|row| likeliest(scores.row(row))).collect()
    };
    let (first, last) = (of_unlabelled(&found.scores_before), of_unlabelled(&found.labels));
    let summary = WeakSummary {
        rounds: Some(self_training::ROUNDS as u32),
        kept_labels: Some(agreement(&first, &last)),
        ..summary
    };
    let of_all = training.joined(&found.labels);
    Ok((summary, Some(MadeLabels { of_all, without_fold })))
}
