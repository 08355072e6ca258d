//! Local models: a choice among the parents of classes, and under each parent one among its
//! children.
//!
//! A classifier for each parent node (Silla, Freitas, Data Mining and Knowledge Discovery 2011)
//! in two tiers. A row is compared with the parents and with its siblings' classes instead of
//! with all classes, and the rows under a parent hold a part of the features only: with a
//! thousand classes a fit takes a tenth of the time.
//!
//! Machines know nothing of probabilities, and the two tiers must be weighed against each other,
//! so each tier's scores are multiplied by one number: that by which the rows fitted are
//! likeliest, each scored without what its own dual variable gives the weights. That is
//! a lower bound of its margin had it been left out (Jaakkola, Haussler, AISTATS 1999).

use std::collections::BTreeMap;
use std::time::Duration;

use corral_classifier::{HeadError, LinearHead, LocalHead};
use rayon::prelude::*;

use super::lanes::LANES;
use super::linear_head::{build_head, build_sparse_head};
use super::rows::{DenseView, FeatureRows, SparseView};
use super::softmax::{SoftmaxSettings, SoftmaxWeights};
use super::svm::{BlockWeights, SvmSettings};
use super::{Fitted, HeadBudget, Problem, one_vs_rest, regression};
use crate::calibrate::fit_temperature;
use crate::clock::ThreadCpuClock;
use crate::parents::Parents;
use crate::targets::Targets;

/// What chooses, in both tiers.
#[derive(Clone, Copy, Debug)]
pub enum Chooser {
    Machines(SvmSettings),
    Regression(SoftmaxSettings),
}

impl Chooser {
    const fn is_machine(&self) -> bool {
        matches!(self, Self::Machines(_))
    }
}

/// Rows of a tier by which its scores are weighed, at most: it is one number.
const MAX_WEIGHED_ROWS: usize = 10_000;

/// Fits both tiers; `None` when the problem was stopped.
pub fn fit(
    problem: &Problem<'_>,
    parents: &Parents,
    chooser: &Chooser,
    budget: HeadBudget,
) -> Result<Option<Fitted>, HeadError> {
    let clock = ThreadCpuClock::start();
    let labels = TierLabels::of(problem, parents, chooser);
    let labelled = clock.elapsed();
    let stride = |rows: usize| rows.div_ceil(MAX_WEIGHED_ROWS).max(1);
    let below = stride(labels.rows_below.iter().map(Vec::len).sum());
    let upper = || {
        let upper = Problem {
            class_count: parents.count(),
            targets: &labels.parents,
            row_weights: &labels.row_weights,
            class_weights: &vec![1.0; parents.count()],
            parents: None,
            ..*problem
        };
        let columns = (0..problem.features.sparse_columns() as u32).collect();
        Choice::fit(&upper, columns, chooser, stride(problem.rows.len()))
    };
    let lower = || -> Option<Vec<Choice>> {
        let choose = |parent: u32| choose_child(problem, parents, &labels, parent, chooser, below);
        (0..parents.count() as u32).into_par_iter().map(choose).collect()
    };
    let (Some(upper), Some(lower)) = rayon::join(upper, lower) else { return Ok(None) };
    let fitted: Duration = lower.iter().map(|choice| choice.cpu).sum();

    let clock = ThreadCpuClock::start();
    let tier = Tier { parents, choices: &lower };
    let first = upper.head(problem, scale([&upper], chooser), budget)?;
    let left = HeadBudget { bytes: budget.bytes.saturating_sub(first.memory_bytes()) };
    let head = LocalHead::new(
        first,
        tier.head(problem, scale(&lower, chooser), left)?,
        (0..parents.class_count() as u32).map(|class| parents.of_class(class) as u16).collect(),
    )?;
    Ok(Some(Fitted {
        head: head.into(),
        cpu: labelled + upper.cpu + fitted + clock.elapsed(),
        passes: lower.iter().map(|choice| choice.passes).fold(upper.passes, usize::max),
    }))
}

/// The right answers of a problem's rows in the upper tier, and which rows the choices of the
/// lower one are fitted on.
struct TierLabels {
    /// Of all rows; empty for those that are not fitted.
    parents: Targets,
    /// Of all rows, with what an example of each row's classes counts.
    row_weights: Vec<f32>,
    /// By parent: its rows, each with the share of them that is below it.
    rows_below: Vec<Vec<(u32, f32)>>,
}

impl TierLabels {
    fn of(problem: &Problem<'_>, parents: &Parents, chooser: &Chooser) -> Self {
        let mut labels = Self {
            parents: Targets::new(),
            row_weights: problem.row_weights.to_vec(),
            rows_below: vec![Vec::new(); parents.count()],
        };
        let mut shares_of_parents = BTreeMap::new();
        let mut fitted = problem.rows.iter().copied().collect::<Vec<u32>>();
        fitted.sort_unstable();
        fitted.dedup();
        let mut next = fitted.into_iter().peekable();
        for row in 0..problem.targets.len() as u32 {
            shares_of_parents.clear();
            if next.next_if_eq(&row).is_some() {
                let mut counts = 0.0;
                for (class, share) in shares(problem, row, chooser) {
                    let of_parent = shares_of_parents.entry(parents.of_class(class));
                    // A machine takes all parents of an ambiguous row for right.
                    let sum = of_parent.or_insert(0f32);
                    *sum = if chooser.is_machine() { 1.0 } else { *sum + share };
                    counts += share * problem.class_weights[class as usize];
                }
                labels.row_weights[row as usize] *= counts;
            }
            let mut of_row: Vec<(u32, f32)> =
                shares_of_parents.iter().map(|(&parent, &share)| (parent, share)).collect();
            labels.parents.push(&mut of_row);
        }
        for &row in problem.rows {
            let (of_row, shares) = labels.parents.row(row as usize);
            for (&parent, &share) in of_row.iter().zip(shares) {
                labels.rows_below[parent as usize].push((row, share));
            }
        }
        labels
    }
}

/// A row's classes and its shares in them, which sum to 1: as given, or the same for all that
/// count as right.
fn shares(problem: &Problem<'_>, row: u32, chooser: &Chooser) -> Vec<(u32, f32)> {
    let row = row as usize;
    let mut shares: Vec<(u32, f32)> = match chooser {
        Chooser::Machines(_) => problem.targets.right(row).map(|class| (class, 1.0)).collect(),
        Chooser::Regression(_) => {
            let (classes, shares) = problem.targets.row(row);
            classes.iter().copied().zip(shares.iter().copied()).collect()
        }
    };
    let total: f32 = shares.iter().map(|(_, share)| share).sum();
    shares.iter_mut().for_each(|(_, share)| *share /= total);
    shares
}

/// Fits the choice among the children of a parent; `None` when it was stopped.
fn choose_child(
    problem: &Problem<'_>,
    parents: &Parents,
    labels: &TierLabels,
    parent: u32,
    chooser: &Chooser,
    stride: usize,
) -> Option<Choice> {
    let clock = ThreadCpuClock::start();
    let children = parents.children(parent);
    let below = &labels.rows_below[parent as usize];
    if children.len() < 2 || below.is_empty() {
        return Some(Choice::nothing(children.len()));
    }
    let rows: Vec<u32> = below.iter().map(|(row, _)| *row).collect();
    let gathered = Gathered::of(problem, &rows);
    let mut targets = Targets::new();
    let mut row_weights = Vec::with_capacity(below.len());
    for &(row, share) in below {
        let mut of_row: Vec<(u32, f32)> = shares(problem, row, chooser)
            .into_iter()
            .filter_map(|(class, of_class)| {
                let child = children.binary_search(&class).ok()?;
                Some((child as u32, of_class / share))
            })
            .collect();
        targets.push(&mut of_row);
        // A machine takes an ambiguous row as one of each class in full.
        let part = if chooser.is_machine() { 1.0 } else { share };
        row_weights.push(problem.row_weights[row as usize] * part);
    }
    let class_weights: Vec<f32> =
        children.iter().map(|&class| problem.class_weights[class as usize]).collect();
    let all: Vec<u32> = (0..rows.len() as u32).collect();
    let own = Problem {
        features: gathered.features(problem),
        squared_norms: &gathered.squared_norms,
        rows: &all,
        class_count: children.len(),
        targets: &targets,
        row_weights: &row_weights,
        class_weights: &class_weights,
        parents: None,
        // Apart from the seeds of blocks, which are further left.
        seed: problem.seed ^ (u64::from(parent) + 1) << 12,
        ..*problem
    };
    let gathering = clock.elapsed();
    let mut choice = Choice::fit(&own, gathered.columns.clone(), chooser, stride)?;
    choice.cpu += gathering;
    Some(choice)
}

/// Some rows of a problem, without the sparse columns that none of them has.
struct Gathered {
    /// The columns that are left, in rising order.
    columns: Vec<u32>,
    offsets: Vec<usize>,
    /// Places in `columns`.
    places: Vec<u32>,
    values: Vec<f32>,
    dense: Vec<f32>,
    squared_norms: Vec<f32>,
}

impl Gathered {
    fn of(problem: &Problem<'_>, rows: &[u32]) -> Self {
        let features = &problem.features;
        let mut places = vec![u32::MAX; features.sparse_columns()];
        for &row in rows {
            features.sparse_row(row as usize).0.iter().for_each(|&at| places[at as usize] = 0);
        }
        let mut columns = Vec::new();
        for (column, place) in (0u32..).zip(&mut places) {
            if *place == 0 {
                *place = columns.len() as u32;
                columns.push(column);
            }
        }
        let mut gathered = Self {
            columns,
            offsets: vec![0],
            places: Vec::new(),
            values: Vec::new(),
            dense: Vec::with_capacity(rows.len() * features.dense_columns()),
            squared_norms: Vec::with_capacity(rows.len()),
        };
        for &row in rows {
            let (columns, values) = features.sparse_row(row as usize);
            gathered.places.extend(columns.iter().map(|&column| places[column as usize]));
            gathered.values.extend_from_slice(values);
            gathered.offsets.push(gathered.places.len());
            gathered.dense.extend_from_slice(features.dense_row(row as usize));
            gathered.squared_norms.push(problem.squared_norms[row as usize]);
        }
        gathered
    }

    fn features(&self, problem: &Problem<'_>) -> FeatureRows<'_> {
        let sparse = problem.features.sparse.map(|_| SparseView {
            row_offsets: &self.offsets,
            columns: &self.places,
            values: &self.values,
            column_count: self.columns.len(),
        });
        let dense = problem
            .features
            .dense
            .map(|view| DenseView { values: &self.dense, column_count: view.column_count });
        FeatureRows {
            sparse,
            sparse_scale: problem.features.sparse_scale,
            dense,
            dense_scale: problem.features.dense_scale,
        }
    }
}

/// A fitted choice among some classes.
struct Choice {
    /// The sparse columns that have weights, in rising order.
    columns: Vec<u32>,
    classes: usize,
    /// Column after column, one a class: those of `columns`, then the dense ones.
    weights: Vec<f32>,
    bias: Vec<f32>,
    sample: Sample,
    passes: usize,
    cpu: Duration,
}

/// Scores of some rows as if they had been left out, with their answers.
struct Sample {
    scores: Vec<f32>,
    targets: Targets,
    row_weights: Vec<f32>,
}

impl Sample {
    fn empty() -> Self {
        Self { scores: Vec::new(), targets: Targets::new(), row_weights: Vec::new() }
    }

    /// The scores of every `stride`th row by machines, without its own part in the weights.
    fn of(problem: &Problem<'_>, machines: &[BlockWeights], stride: usize) -> Self {
        let features = &problem.features;
        let dense_start = features.sparse_columns();
        let mut sample = Self::empty();
        for (place, &row) in problem.rows.iter().enumerate().step_by(stride) {
            let row = row as usize;
            let own = problem.squared_norms[row] + 1.0;
            let first = sample.scores.len();
            for block in machines {
                let [score] = features.sparse_dot::<false, 1>(row, &block.weights, 1, 0);
                let dense = features.dense_dot::<false>(row, &block.weights[dense_start..]);
                let score = score.plus(dense).plus(block.intercepts);
                let alphas = &block.alphas[place];
                sample.scores.extend(score.map2(*alphas, |score, alpha| score + own * alpha).0);
            }
            sample.scores.truncate(first + problem.class_count);
            for class in problem.targets.right(row) {
                let alphas = &machines[class as usize / LANES].alphas[place];
                // Of a right answer the row's part is above zero.
                sample.scores[first + class as usize] -=
                    2.0 * own * alphas.0[class as usize % LANES];
            }
            sample.targets.push_from(problem.targets, row);
            sample.row_weights.push(problem.row_weights[row]);
        }
        sample
    }
}

impl Choice {
    /// A choice that has nothing to go by.
    fn nothing(classes: usize) -> Self {
        Self {
            columns: Vec::new(),
            classes,
            weights: Vec::new(),
            bias: vec![0.0; classes],
            sample: Sample::empty(),
            passes: 0,
            cpu: Duration::ZERO,
        }
    }

    /// Fits a problem whose sparse columns are those `columns` of another.
    fn fit(
        problem: &Problem<'_>,
        columns: Vec<u32>,
        chooser: &Chooser,
        stride: usize,
    ) -> Option<Self> {
        match chooser {
            Chooser::Machines(settings) => {
                let (machines, cpu) = one_vs_rest::fit_weights(problem, settings)?;
                let clock = ThreadCpuClock::start();
                let mut choice = Self::of_machines(problem, columns, &machines);
                choice.sample = Sample::of(problem, &machines, stride);
                choice.cpu = cpu + clock.elapsed();
                Some(choice)
            }
            Chooser::Regression(settings) => {
                let (fitted, cpu) = regression::fit_weights(problem, settings)?;
                let mut choice = Self::of_regression(problem, columns, &fitted);
                choice.cpu = cpu;
                Some(choice)
            }
        }
    }

    fn of_machines(problem: &Problem<'_>, columns: Vec<u32>, machines: &[BlockWeights]) -> Self {
        let classes = problem.class_count;
        let all_columns = problem.features.column_count();
        let mut weights = Vec::with_capacity(all_columns * classes + LANES);
        for column in 0..all_columns {
            for block in machines {
                weights.extend_from_slice(&block.weights[column].0);
            }
            weights.truncate((column + 1) * classes);
        }
        let mut bias: Vec<f32> = machines.iter().flat_map(|block| block.intercepts.0).collect();
        bias.truncate(classes);
        let passes = machines.iter().map(|block| block.passes).max().unwrap_or(0);
        Self { columns, weights, bias, passes, ..Self::nothing(classes) }
    }

    fn of_regression(problem: &Problem<'_>, columns: Vec<u32>, fitted: &SoftmaxWeights) -> Self {
        let classes = problem.class_count;
        let mut weights = Vec::with_capacity(problem.features.column_count() * classes + LANES);
        for column in 0..problem.features.column_count() {
            regression::extend_column(problem, fitted, column, &mut weights);
            weights.truncate((column + 1) * classes);
        }
        let mut bias: Vec<f32> = fitted.intercepts.iter().flat_map(|lanes| lanes.0).collect();
        bias.truncate(classes);
        Self { columns, weights, bias, passes: fitted.passes, ..Self::nothing(classes) }
    }

    /// The weights of a column of the whole problem, where there are such.
    fn column(&self, problem: &Problem<'_>, column: usize) -> Option<&[f32]> {
        let sparse_columns = problem.features.sparse_columns();
        let place = match column.checked_sub(sparse_columns) {
            None => self.columns.binary_search(&(column as u32)).ok()?,
            Some(dense) => self.columns.len() + dense,
        };
        self.weights.get(place * self.classes..(place + 1) * self.classes)
    }

    /// The choice as a head, all weights times `scale`.
    fn head(
        &self,
        problem: &Problem<'_>,
        scale: f32,
        budget: HeadBudget,
    ) -> Result<LinearHead<'static>, HeadError> {
        let bias = self.bias.iter().map(|bias| bias * scale).collect();
        build_head(problem.features.column_count(), bias, budget, |column, out| {
            out.clear();
            match self.column(problem, column) {
                Some(weights) => out.extend(weights.iter().map(|weight| weight * scale)),
                None => out.resize(self.classes, 0.0),
            }
        })
    }
}

/// The choices of the lower tier, by parent.
struct Tier<'a> {
    parents: &'a Parents,
    choices: &'a [Choice],
}

impl Tier<'_> {
    /// All choices as one head, all weights times `scale`.
    fn head(
        &self,
        problem: &Problem<'_>,
        scale: f32,
        budget: HeadBudget,
    ) -> Result<LinearHead<'static>, HeadError> {
        let mut bias = vec![0.0; self.parents.class_count()];
        for (parent, choice) in (0u32..).zip(self.choices) {
            for (&class, own) in self.parents.children(parent).iter().zip(&choice.bias) {
                bias[class as usize] = own * scale;
            }
        }
        let entries = self.choices.iter().map(|choice| choice.weights.len()).sum();
        build_sparse_head(problem.features.column_count(), entries, bias, budget, |column, out| {
            out.clear();
            for (parent, choice) in (0u32..).zip(self.choices) {
                let Some(weights) = choice.column(problem, column) else { continue };
                let children = self.parents.children(parent).iter().copied();
                out.extend(children.zip(weights.iter().map(|weight| weight * scale)));
            }
            out.sort_unstable_by_key(|entry| entry.0);
        })
    }
}

/// What the scores of a tier are multiplied by to be logarithms of probabilities.
fn scale<'c>(choices: impl IntoIterator<Item = &'c Choice>, chooser: &Chooser) -> f32 {
    if !chooser.is_machine() {
        return 1.0;
    }
    let (mut scores, mut targets, mut row_weights) = (Vec::new(), Targets::new(), Vec::new());
    for choice in choices {
        let sample = &choice.sample;
        scores.extend(sample.scores.chunks_exact(choice.classes.max(1)));
        (0..sample.targets.len()).for_each(|row| targets.push_from(&sample.targets, row));
        row_weights.extend_from_slice(&sample.row_weights);
    }
    let rows: Vec<u32> = (0..scores.len() as u32).collect();
    fit_temperature(&scores, &rows, &targets, &row_weights).recip()
}
