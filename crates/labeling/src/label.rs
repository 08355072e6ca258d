//! Labels made of votes: a version of the data set whose rows say how likely each class is.
//!
//! Rows that people labelled keep their labels, those of the split `test` whatever they have.
//! Every other row that a function votes on gets probabilities from the label model; what becomes
//! of ties and of rows without a vote is said in the options.

use std::collections::BTreeMap;
use std::sync::Arc;

use corral_data::{Dataset, LabelArity as Arity, Limits, Manifest, NewLabels, PartStore, relabel};
use corral_labels::{
    Basis, Choice, Evidence, FitOptions, Gold, LabelArity, LabelModel, MIN_GOLD_ROWS, Method,
    MethodScore, VoteCounts, VoteTable, choose, fit, fit_multi_label,
};
use serde::{Deserialize, Serialize};

use crate::classes::Classes;
use crate::error::LabelingError;
use crate::votes::{Rows, TEST_SPLIT};

/// Classes less likely than this part of the likeliest are left out of a row's labels.
const LEAST_PART: f32 = 0.01;
/// Classes that a row's labels name at most.
const MAX_NAMED: usize = 20;
/// Of several classes that may hold, those at least so likely are labels.
const HOLDS: f32 = 0.5;

/// What becomes of rows that nothing is voted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uncovered {
    /// They stay without a label.
    #[default]
    Leave,
    /// They get how frequent each class is.
    Prior,
}

/// What becomes of rows whose likeliest classes are equally likely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// They have equal shares.
    #[default]
    Share,
    /// The row stays without a label.
    Leave,
    /// The class that comes first.
    First,
}

/// How labels are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelOptions {
    /// The label model; chosen where none is named.
    pub model: Option<Method>,
    pub arity: LabelArity,
    /// How frequent each class is, by name. By gold rows where there are enough, else alike.
    pub prior: BTreeMap<String, f64>,
    pub uncovered: Uncovered,
    pub ties: Ties,
}

/// What was labeled, and by what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelReport {
    pub model: Method,
    /// Why this model, as a sentence.
    pub reason: String,
    pub basis: Basis,
    pub judged: u64,
    pub scores: Vec<MethodScore>,
    pub rows: u64,
    /// Rows that functions labeled, that people had labelled, and that stay without a label.
    pub labeled: u64,
    pub gold: u64,
    pub unlabeled: u64,
    /// Of the labeled ones, those whose likeliest classes tie.
    pub ties: u64,
    /// Expected rows by class, of those that functions labeled.
    pub classes: BTreeMap<String, f64>,
}

/// A version with labels, not yet a record.
pub struct Labeled {
    pub manifest: Manifest,
    pub report: LabelReport,
}

/// A fitted label model, whichever way classes hold.
pub enum Fitted {
    Single(Choice),
    Multi(corral_labels::MultiLabelModel, Method),
}

/// Fits the label model.
///
/// # Errors
/// When there are no votes to fit, or a model would be too large.
pub fn fit_labels(
    table: &VoteTable,
    counts: VoteCounts,
    gold: &Gold,
    classes: &Classes,
    options: &LabelOptions,
) -> Result<Fitted, LabelingError> {
    if options.arity == LabelArity::Multi {
        let method = options.model.unwrap_or(Method::Weighted);
        let fit_options = FitOptions::default();
        return Ok(Fitted::Multi(fit_multi_label(table, method, &fit_options)?, method));
    }
    let prior = prior(&counts, classes, options)?;
    let fit_options = FitOptions { prior, ..FitOptions::default() };
    let evidence = Evidence::of_counts(table, counts)?;
    Ok(Fitted::Single(match options.model {
        None => choose(&evidence, gold, &fit_options)?,
        Some(method) => Choice {
            model: fit(&evidence, method, &fit_options)?,
            basis: Basis::Asked,
            judged: 0,
            scores: Vec::new(),
        },
    }))
}

fn prior(
    counts: &VoteCounts,
    classes: &Classes,
    options: &LabelOptions,
) -> Result<Option<Vec<f64>>, LabelingError> {
    if options.prior.is_empty() {
        let has_enough = counts.gold_rows >= MIN_GOLD_ROWS;
        // A row more of each class: none is ruled out.
        let of_gold = counts.gold_of_class.iter().map(|rows| *rows as f64 + 1.0);
        return Ok(has_enough.then(|| of_gold.collect()));
    }
    let mut prior = vec![0.0; classes.len()];
    for (name, share) in &options.prior {
        let class = classes.position(name).ok_or_else(|| LabelingError::UnknownClass {
            function: "prior".to_owned(),
            class: name.clone(),
            taxonomy: "the labeling".to_owned(),
            nearest: Vec::new(),
        })?;
        prior[class as usize] = *share;
    }
    Ok(Some(prior))
}

/// Labels the rows of a version. The new layers go into `store`.
///
/// # Errors
/// When files cannot be read or written.
pub fn label_rows(
    rows: &Rows<'_>,
    table: &VoteTable,
    fitted: &Fitted,
    classes: &Classes,
    options: &LabelOptions,
    store: &dyn PartStore,
) -> Result<Labeled, LabelingError> {
    let dataset = Dataset::open(Arc::clone(&rows.manifest), rows.store)?;
    let test = rows.manifest.split_code(TEST_SPLIT);
    let mut report = empty_report(fitted, rows.manifest.rows());
    let mut expected = vec![0.0f64; classes.len()];
    let mut blocks = Blocks { table, fitted, positions: table.blocks(), next: 0, at: None };
    let manifest =
        relabel(&dataset, store, &Limits::default(), Arity::Multi, &mut |batch, row| {
            let probabilities = blocks.probabilities(batch.first_row(), batch.len(), row);
            let is_test = test.is_some() && batch.split(row) == test;
            if is_test || !batch.labels().codes(row).is_empty() {
                report.gold += u64::from(!is_test);
                return NewLabels::Keep;
            }
            let labels = match fitted {
                Fitted::Single(choice) => {
                    single(probabilities, &choice.model, classes, options, &mut report.ties)
                }
                Fitted::Multi(..) => several(probabilities, classes),
            };
            match (&labels, probabilities) {
                (NewLabels::Unlabelled, _) => report.unlabeled += 1,
                (_, probabilities) => {
                    report.labeled += 1;
                    for (sum, probability) in expected.iter_mut().zip(probabilities.unwrap_or(&[]))
                    {
                        *sum += f64::from(*probability);
                    }
                }
            }
            labels
        })?;
    let named = classes.names().iter().cloned().zip(expected);
    report.classes = named.filter(|(_, rows)| *rows > 0.0).collect();
    Ok(Labeled { manifest, report })
}

fn empty_report(fitted: &Fitted, rows: u64) -> LabelReport {
    let (model, reason, basis, judged, scores) = match fitted {
        Fitted::Single(choice) => (
            choice.model.method,
            choice.reason(),
            choice.basis,
            choice.judged,
            choice.scores.clone(),
        ),
        Fitted::Multi(_, method) => {
            let reason = format!("each class by itself, by {method}");
            (*method, reason, Basis::Asked, 0, Vec::new())
        }
    };
    LabelReport {
        model,
        reason,
        basis,
        judged,
        scores,
        rows,
        labeled: 0,
        gold: 0,
        unlabeled: 0,
        ties: 0,
        classes: BTreeMap::new(),
    }
}

fn single(
    probabilities: Option<&[f32]>,
    model: &LabelModel,
    classes: &Classes,
    options: &LabelOptions,
    ties: &mut u64,
) -> NewLabels {
    let mut of_prior;
    let probabilities = match (probabilities, options.uncovered) {
        (Some(probabilities), _) => probabilities,
        (None, Uncovered::Leave) => return NewLabels::Unlabelled,
        (None, Uncovered::Prior) => {
            of_prior = vec![0.0; classes.len()];
            model.posterior(&[], &mut of_prior);
            &of_prior
        }
    };
    let most = probabilities.iter().copied().fold(0.0f32, f32::max);
    let is_most = |probability: f32| probability >= most * (1.0 - 1e-4);
    let is_tie = probabilities.iter().filter(|&&probability| is_most(probability)).count() > 1;
    *ties += u64::from(is_tie);
    if is_tie && options.ties == Ties::Leave {
        return NewLabels::Unlabelled;
    }
    if is_tie && options.ties == Ties::First {
        let first = probabilities.iter().position(|&probability| is_most(probability)).unwrap_or(0);
        return NewLabels::Shares(vec![(classes.name(first as u32).to_owned(), 1.0)]);
    }
    let mut shares: Vec<(usize, f32)> = probabilities
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, probability)| *probability >= LEAST_PART * most)
        .collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    shares.truncate(MAX_NAMED);
    let named = shares.into_iter().map(|(at, share)| (classes.name(at as u32).to_owned(), share));
    NewLabels::Shares(named.collect())
}

fn several(probabilities: Option<&[f32]>, classes: &Classes) -> NewLabels {
    let Some(probabilities) = probabilities else { return NewLabels::Unlabelled };
    let holding =
        probabilities.iter().enumerate().filter(|(_, probability)| **probability >= HOLDS);
    let names: Vec<String> =
        holding.map(|(class, _)| classes.name(class as u32).to_owned()).collect();
    if names.is_empty() { NewLabels::Unlabelled } else { NewLabels::Several(names) }
}

/// Goes through the blocks of a table as rows are asked for in order.
struct Blocks<'a> {
    table: &'a VoteTable,
    fitted: &'a Fitted,
    positions: Vec<(usize, usize)>,
    next: usize,
    at: Option<Answers>,
}

/// What is known of the rows of a block.
struct Answers {
    first_row: u64,
    covered: Vec<bool>,
    probabilities: Vec<f32>,
}

impl Blocks<'_> {
    /// The probabilities of a row of the batch that begins at `first_row`; `None` where nothing
    /// was voted.
    fn probabilities(&mut self, first_row: u64, rows: usize, row: usize) -> Option<&[f32]> {
        // Parts are opened one by one, and rows count from 0 in each: what changes is the batch.
        if row == 0 || self.at.is_none() {
            let (part, block) = self.positions[self.next];
            self.next += 1;
            self.at = Some(answers(self.table, self.fitted, part, block, first_row));
        }
        let answers = self.at.as_ref()?;
        debug_assert_eq!((answers.first_row, answers.covered.len()), (first_row, rows));
        let classes = self.table.classes();
        answers.covered[row].then(|| &answers.probabilities[row * classes..(row + 1) * classes])
    }
}

fn answers(
    table: &VoteTable,
    fitted: &Fitted,
    part: usize,
    block: usize,
    first_row: u64,
) -> Answers {
    let votes = table.rows_of_block(part, block);
    let covered: Vec<bool> = votes.iter().map(|items| !items.is_empty()).collect();
    let classes = table.classes();
    let probabilities = match fitted {
        Fitted::Multi(model, _) => model.probabilities(table, part, block),
        Fitted::Single(choice) => {
            let mut probabilities = vec![0.0; votes.len() * classes];
            for (items, row) in votes.iter().zip(probabilities.chunks_mut(classes)) {
                if !items.is_empty() {
                    choice.model.posterior(items, row);
                }
            }
            probabilities
        }
    };
    Answers { first_row, covered, probabilities }
}
