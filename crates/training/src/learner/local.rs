//! Local models: a choice among the parents of classes, and under each parent one among its
//! children.
//!
//! A classifier for each parent node (Silla, Freitas, Data Mining and Knowledge Discovery 2011)
//! in two tiers. A row is compared with the parents and with its siblings' classes instead of
//! with all classes, and the rows under a parent hold a part of the features only: with a
//! thousand classes a fit takes a tenth of the time.
//!
//! How far each tier's scores are to be trusted is found on rows that a first fit left out; see
//! [`scales`].

mod gathered;
mod scales;

use std::collections::BTreeMap;
use std::time::Duration;

use corral_classifier::{DenseRows, HeadError, LocalHead};
use rayon::prelude::*;

use self::gathered::Gathered;
use self::scales::Scales;
use super::lanes::LANES;
use super::linear_head::{build_head, build_sparse_head};
use super::softmax::{SoftmaxSettings, SoftmaxWeights};
use super::svm::{BlockWeights, SvmSettings};
use super::{Fitted, HeadBudget, Problem, one_vs_rest, regression};
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

/// Fits both tiers; `None` when the problem was stopped.
pub fn fit(
    problem: &Problem<'_>,
    parents: &Parents,
    chooser: &Chooser,
    budget: HeadBudget,
) -> Result<Option<Fitted>, HeadError> {
    let clock = ThreadCpuClock::start();
    let labels = TierLabels::of(problem, parents, chooser);
    let mut cpu = clock.elapsed();
    let (kept, held_out) = scales::hold_out(problem.rows, problem.seed);
    let scales = if held_out.is_empty() {
        Scales::NONE
    } else {
        let part = Problem { rows: &kept, ..*problem };
        let Some(tiers) = Tiers::fit(&part, parents, &labels, chooser) else { return Ok(None) };
        let clock = ThreadCpuClock::start();
        let scales = Scales::fit(problem, parents, &tiers, &labels.parents, &held_out);
        cpu += tiers.cpu + clock.elapsed();
        scales
    };
    let Some(tiers) = Tiers::fit(problem, parents, &labels, chooser) else { return Ok(None) };
    let clock = ThreadCpuClock::start();
    let head = tiers.head(problem, parents, scales, budget)?;
    Ok(Some(Fitted {
        head: head.into(),
        cpu: cpu + tiers.cpu + clock.elapsed(),
        passes: tiers.passes,
    }))
}

/// The memory that scores of the rows held out take, in bytes: of parents and classes, as they
/// are and joined.
pub fn memory_bytes(rows: usize, classes: usize) -> usize {
    3 * rows.min(scales::MOST_HELD_OUT as usize) * classes * size_of::<f32>()
}

/// The right answers of a problem's rows in the upper tier.
struct TierLabels {
    /// Of all rows; empty for those that are not fitted.
    parents: Targets,
    /// Of all rows, with what an example of each row's classes counts.
    row_weights: Vec<f32>,
}

impl TierLabels {
    fn of(problem: &Problem<'_>, parents: &Parents, chooser: &Chooser) -> Self {
        let mut labels =
            Self { parents: Targets::new(), row_weights: problem.row_weights.to_vec() };
        let mut shares_of_parents = BTreeMap::new();
        let mut fitted = problem.rows.to_vec();
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
        labels
    }

    /// By parent: which of some rows lie below it, each with its share there.
    fn rows_below(&self, rows: &[u32], parents: usize) -> Vec<Vec<(u32, f32)>> {
        let mut below = vec![Vec::new(); parents];
        for &row in rows {
            let (of_row, shares) = self.parents.row(row as usize);
            for (&parent, &share) in of_row.iter().zip(shares) {
                below[parent as usize].push((row, share));
            }
        }
        below
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
    parent: u32,
    below: &[(u32, f32)],
    chooser: &Chooser,
) -> Option<Choice> {
    let clock = ThreadCpuClock::start();
    let children = parents.children(parent);
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
    let mut choice = Choice::fit(&own, gathered.columns.clone(), chooser)?;
    choice.cpu += gathering;
    Some(choice)
}

/// A fitted choice among some classes.
struct Choice {
    /// The sparse columns that have weights, in rising order.
    columns: Vec<u32>,
    classes: usize,
    /// Column after column, one a class: those of `columns`, then the dense ones.
    weights: Vec<f32>,
    bias: Vec<f32>,
    passes: usize,
    cpu: Duration,
}

impl Choice {
    /// A choice that has nothing to go by.
    fn nothing(classes: usize) -> Self {
        Self {
            columns: Vec::new(),
            classes,
            weights: Vec::new(),
            bias: vec![0.0; classes],
            passes: 0,
            cpu: Duration::ZERO,
        }
    }

    /// Fits a problem whose sparse columns are those `columns` of another.
    fn fit(problem: &Problem<'_>, columns: Vec<u32>, chooser: &Chooser) -> Option<Self> {
        match chooser {
            Chooser::Machines(settings) => {
                let (machines, cpu) = one_vs_rest::fit_weights(problem, settings)?;
                let clock = ThreadCpuClock::start();
                let mut choice = Self::of_machines(problem, columns, &machines);
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

    /// The scores of rows, one a class.
    fn scores(&self, problem: &Problem<'_>, rows: &[u32]) -> DenseRows {
        let features = &problem.features;
        let mut places = vec![u32::MAX; features.sparse_columns()];
        (0..).zip(&self.columns).for_each(|(place, &column)| places[column as usize] = place);
        let mut scores = DenseRows::zeros(rows.len(), self.classes);
        for (at, &row) in rows.iter().enumerate() {
            let (columns, values) = features.sparse_row(row as usize);
            let sparse = columns.iter().zip(values).map(|(&column, value)| {
                (places[column as usize] as usize, value * features.sparse_scale)
            });
            let dense = features.dense_row(row as usize).iter().enumerate();
            let dense = dense
                .map(|(column, value)| (self.columns.len() + column, value * features.dense_scale));
            let out = scores.row_mut(at);
            out.copy_from_slice(&self.bias);
            for (place, value) in sparse.chain(dense) {
                let weights = self.weights.get(place * self.classes..(place + 1) * self.classes);
                let weights = weights.unwrap_or_default();
                out.iter_mut().zip(weights).for_each(|(score, weight)| *score += value * weight);
            }
        }
        scores
    }
}

/// The choices of both tiers.
pub(super) struct Tiers {
    upper: Choice,
    /// By parent.
    lower: Vec<Choice>,
    cpu: Duration,
    passes: usize,
}

impl Tiers {
    fn fit(
        problem: &Problem<'_>,
        parents: &Parents,
        labels: &TierLabels,
        chooser: &Chooser,
    ) -> Option<Self> {
        let clock = ThreadCpuClock::start();
        let rows_below = labels.rows_below(problem.rows, parents.count());
        let sorted = clock.elapsed();
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
            Choice::fit(&upper, columns, chooser)
        };
        let lower = || -> Option<Vec<Choice>> {
            let numbered: Vec<(u32, Vec<(u32, f32)>)> = (0u32..).zip(rows_below).collect();
            numbered
                .par_iter()
                .map(|(parent, below)| choose_child(problem, parents, *parent, below, chooser))
                .collect()
        };
        let (Some(upper), Some(lower)) = rayon::join(upper, lower) else { return None };
        let all = || lower.iter().chain([&upper]);
        let cpu = sorted + all().map(|choice| choice.cpu).sum::<Duration>();
        let passes = all().map(|choice| choice.passes).max().unwrap_or(0);
        Some(Self { upper, lower, cpu, passes })
    }

    /// The scores of rows among the parents and, by class, among each parent's children: row
    /// after row.
    pub(super) fn scores(
        &self,
        problem: &Problem<'_>,
        parents: &Parents,
        rows: &[u32],
    ) -> (DenseRows, DenseRows) {
        let lower: Vec<DenseRows> =
            self.lower.par_iter().map(|choice| choice.scores(problem, rows)).collect();
        let mut classes = DenseRows::zeros(rows.len(), parents.class_count());
        for (parent, scores) in (0u32..).zip(&lower) {
            for (row, scores) in scores.iter().enumerate() {
                let of_row = classes.row_mut(row);
                for (&class, &score) in parents.children(parent).iter().zip(scores) {
                    of_row[class as usize] = score;
                }
            }
        }
        (self.upper.scores(problem, rows), classes)
    }

    /// Both tiers as a head, their weights times the scales.
    fn head(
        &self,
        problem: &Problem<'_>,
        parents: &Parents,
        scales: Scales,
        budget: HeadBudget,
    ) -> Result<LocalHead<'static>, HeadError> {
        let Scales { parents: scale, children: child_scale, sharpness } = scales;
        let all_columns = problem.features.column_count();
        let bias = self.upper.bias.iter().map(|bias| bias * scale).collect();
        let upper = build_head(all_columns, bias, budget, |column, out| {
            out.clear();
            let weights = self.upper.column(problem, column).unwrap_or_default();
            out.extend(weights.iter().map(|weight| weight * scale));
        })?;
        let mut bias = vec![0.0; parents.class_count()];
        for (parent, choice) in (0u32..).zip(&self.lower) {
            for (&class, own) in parents.children(parent).iter().zip(&choice.bias) {
                bias[class as usize] = own * child_scale;
            }
        }
        let entries = self.lower.iter().map(|choice| choice.weights.len()).sum();
        let left = HeadBudget { bytes: budget.bytes.saturating_sub(upper.memory_bytes()) };
        let lower = build_sparse_head(all_columns, entries, bias, left, |column, out| {
            out.clear();
            for (parent, choice) in (0u32..).zip(&self.lower) {
                let Some(weights) = choice.column(problem, column) else { continue };
                let children = parents.children(parent).iter().copied();
                out.extend(children.zip(weights.iter().map(|weight| weight * child_scale)));
            }
            out.sort_unstable_by_key(|entry| entry.0);
        })?;
        LocalHead::new(upper, lower, parents.of_classes(), sharpness)
    }
}
