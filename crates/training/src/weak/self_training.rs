//! Labels for unlabelled rows from labelled ones.

use corral_classifier::head::FeatureRow;
use corral_classifier::{DenseRows, EmbeddingView, Link};

use super::balance::{balance, logarithms};
use super::graph::NeighbourGraph;
use super::labels::push_label;
use super::prototypes::{BALANCE_STRENGTH, SMOOTHING};
use crate::candidate::Candidate;
use crate::error::TrainError;
use crate::features::FeaturizerSettings;
use crate::learner::{FeatureRows, FitEffort, HeadBudget, LearnerSettings, Problem};
use crate::lexicons::LexiconSettings;
use crate::targets::Targets;
use crate::task_shape::TaskShape;

/// Fits of the classifier after the first. The second moves few labels, a third next to none.
pub const ROUNDS: usize = 2;
/// The cost of the classifier's loss: few rows in many columns want little regularisation.
const COST: f32 = 30.0;
/// Neighbours that a row hears of labels from: fewer than where no row has a label, for there the
/// first labels are worse and need more voices.
pub const NEIGHBOURS: usize = 10;
/// What a row that nobody labelled counts at most, against one for a labelled row.
pub const UNLABELLED_WEIGHT: f32 = 0.3;
/// The least that such a row counts, so that none is without weight.
const LEAST_WEIGHT: f32 = 0.01;

/// The seconds of CPU that a fit on all rows takes, by estimate.
pub fn fit_seconds(shape: &TaskShape) -> f64 {
    let featurizer = match shape.widths.pooled {
        Some(_) => FeaturizerSettings::embedding(EmbeddingView::Pooled),
        None => FeaturizerSettings::lexical(LexiconSettings::WORDS_AND_CHARACTERS),
    };
    shape.fit_seconds(
        &Candidate { featurizer, learner: LearnerSettings::Softmax { cost: COST } },
        1.0,
    )
}

/// Self-training: a classifier fitted on the labelled rows labels the others, its labels are
/// balanced and spread over neighbours, the classifier is fitted again on all of them.
pub struct SelfTraining<'a, R> {
    pub features: FeatureRows<'a>,
    pub squared_norms: &'a [f32],
    /// The same rows one by one.
    pub row: R,
    pub graph: &'a NeighbourGraph,
    /// Of all rows; those of rows without label are not read.
    pub targets: &'a Targets,
    pub weights: &'a [f32],
    pub class_weights: &'a [f32],
    pub class_count: usize,
    /// Whether a row's target is known.
    pub is_known: &'a [bool],
    /// Whether a row is a text like those to come; texts of classes are not.
    pub is_text: &'a [bool],
    pub seed: u64,
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// What self-training finds.
pub struct SelfTrained {
    /// The distribution of every row that took part.
    pub labels: DenseRows,
    /// The scores of all rows by the classifier of labelled rows alone, and by the last one.
    pub scores_before: DenseRows,
    pub scores_after: DenseRows,
}

impl<'a, R> SelfTraining<'a, R>
where
    R: Fn(usize) -> FeatureRow<'a> + Sync,
{
    /// Runs without the rows that are `held_out`, which are only scored.
    ///
    /// # Errors
    /// When it was stopped, or a head cannot be built.
    pub fn run(&self, held_out: &[bool]) -> Result<SelfTrained, TrainError> {
        let rows = self.is_known.len();
        let fixed: Vec<bool> = (0..rows).map(|row| self.is_known[row] && !held_out[row]).collect();
        let present: Vec<bool> = (0..rows).map(|row| self.is_text[row] && !held_out[row]).collect();
        let prior = self.prior(&fixed);
        let known: Vec<u32> = (0..rows as u32).filter(|&row| fixed[row as usize]).collect();
        let scores_before = self.scores(&known, self.targets, self.weights)?;
        let everything: Vec<u32> =
            (0..rows as u32).filter(|&row| fixed[row as usize] || present[row as usize]).collect();
        let mut scores_after = scores_before.clone();
        let mut labels = self.spread(scores_before.clone(), &prior, &present, &fixed);
        for _ in 0..ROUNDS {
            let (targets, weights) = self.joined(&labels);
            scores_after = self.scores(&everything, &targets, &weights)?;
            labels = self.spread(scores_after.clone(), &prior, &present, &fixed);
        }
        Ok(SelfTrained { labels, scores_before, scores_after })
    }

    /// Balances scores and lets them spread from the rows that are known.
    fn spread(
        &self,
        mut scores: DenseRows,
        prior: &[f32],
        present: &[bool],
        fixed: &[bool],
    ) -> DenseRows {
        balance(&mut scores, prior, BALANCE_STRENGTH, present);
        self.fix(&mut scores, fixed);
        let mut labels = self.graph.smooth(&scores, present, fixed, SMOOTHING);
        drop(scores);
        logarithms(&mut labels);
        balance(&mut labels, prior, BALANCE_STRENGTH, present);
        self.fix(&mut labels, fixed);
        labels
    }

    fn fix(&self, labels: &mut DenseRows, fixed: &[bool]) {
        for row in (0..fixed.len()).filter(|&row| fixed[row]) {
            let out = labels.row_mut(row);
            out.fill(0.0);
            let (classes, shares) = self.targets.row(row);
            classes.iter().zip(shares).for_each(|(&class, &share)| out[class as usize] = share);
        }
    }

    /// Known targets and weights, and those that labels make for the other rows.
    pub fn joined(&self, labels: &DenseRows) -> (Targets, Vec<f32>) {
        let mut targets = Targets::new();
        let mut weights = Vec::with_capacity(labels.rows());
        for (row, label) in labels.iter().enumerate() {
            if self.is_known[row] {
                targets.push_from(self.targets, row);
                weights.push(self.weights[row]);
            } else {
                let confidence = push_label(&mut targets, label);
                weights.push((UNLABELLED_WEIGHT * confidence).max(LEAST_WEIGHT));
            }
        }
        (targets, weights)
    }

    /// Fits the classifier and scores all rows.
    fn scores(
        &self,
        rows: &[u32],
        targets: &Targets,
        weights: &[f32],
    ) -> Result<DenseRows, TrainError> {
        let problem = Problem {
            features: self.features,
            squared_norms: self.squared_norms,
            rows,
            class_count: self.class_count,
            link: Link::Softmax,
            targets,
            row_weights: weights,
            class_weights: self.class_weights,
            parents: None,
            seed: self.seed,
            stop: self.stop,
        };
        let learner = LearnerSettings::Softmax { cost: COST };
        // Its head is never written, so nothing bounds it but memory, which was planned for.
        let budget = HeadBudget { bytes: usize::MAX };
        let fitted = learner
            .fit(&problem, FitEffort::Full, budget)
            .map_err(TrainError::SelfTraining)?
            .ok_or(TrainError::Cancelled)?;
        Ok(fitted.head.score_rows(self.is_known.len(), |row| (self.row)(row)))
    }

    /// The shares of classes among the known rows, one more of each for good measure.
    fn prior(&self, fixed: &[bool]) -> Vec<f32> {
        let mut counts = vec![1f32; self.class_count];
        for row in (0..fixed.len()).filter(|&row| fixed[row] && self.is_text[row]) {
            let (classes, shares) = self.targets.row(row);
            let shared = classes.iter().zip(shares);
            shared.for_each(|(&class, share)| counts[class as usize] += self.weights[row] * share);
        }
        let total: f32 = counts.iter().sum();
        counts.iter().map(|count| count / total).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::FeatureBlocks;
    use crate::random::Random;

    /// Rows around one direction for each of three classes.
    fn clusters(rows: usize) -> DenseRows {
        let mut random = Random::new(3, 3);
        let mut values = Vec::with_capacity(rows * 8);
        for row in 0..rows {
            let noise = |random: &mut Random| random.below(1000) as f32 / 1500.0;
            values.extend((0..8).map(|column| {
                let own = if column == row % 3 { 1.0 } else { 0.0 };
                own + noise(&mut random)
            }));
        }
        let mut rows = DenseRows::from_values(values, 8);
        rows.normalise();
        rows
    }

    #[test]
    fn labels_do_not_depend_on_those_of_rows_held_out() {
        let rows = clusters(90);
        let graph = NeighbourGraph::build(&rows, NEIGHBOURS, &|| false).unwrap();
        let embeddings = [(EmbeddingView::Pooled, rows)].into_iter().collect();
        let blocks = FeatureBlocks { embeddings, ..FeatureBlocks::default() };
        let featurizer = FeaturizerSettings::embedding(EmbeddingView::Pooled);
        let features = blocks.rows(&featurizer);
        let squared_norms = features.squared_norms();
        let is_known: Vec<bool> = (0..90).map(|row| row < 12).collect();
        let held_out: Vec<bool> = (0..90).map(|row| row < 3).collect();
        let labels_with = |of_held_out: u32| {
            let mut targets = Targets::new();
            for row in 0..90u32 {
                let class = if row < 3 { (row + of_held_out) % 3 } else { row % 3 };
                targets.push(&mut [(class, 1.0)]);
            }
            let training = SelfTraining {
                features,
                squared_norms: &squared_norms,
                row: blocks.feature_rows(&featurizer),
                graph: &graph,
                targets: &targets,
                weights: &[1.0; 90],
                class_weights: &[1.0; 3],
                class_count: 3,
                is_known: &is_known,
                is_text: &[true; 90],
                seed: 1,
                stop: &|| false,
            };
            training.run(&held_out).unwrap()
        };
        let (right, wrong) = (labels_with(0), labels_with(1));
        assert_eq!(right.labels.values()[3 * 3..], wrong.labels.values()[3 * 3..]);
        assert_eq!(right.scores_after, wrong.scores_after);
        let best = |row: usize| {
            let label = right.labels.row(row);
            (0..3).max_by(|&a, &b| label[a].total_cmp(&label[b])).unwrap()
        };
        let hits = (12..90).filter(|&row| best(row) == row % 3).count();
        assert!(hits >= 74, "{hits} of 78");
    }
}
