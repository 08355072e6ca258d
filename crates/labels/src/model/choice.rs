//! Which label model is used, and why.
//!
//! Most votes are the floor. Another model takes their place only where it does better by what
//! can be seen: by gold rows if there are enough, else by how well the model foresees each
//! function's vote from those of the others.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Evidence, FitError, FitOptions, LabelModel, Method, fit, share_of_most};
use crate::gold::Gold;
use crate::vote::Vote;

/// Covered gold rows from which on they decide.
pub const MIN_GOLD_ROWS: u64 = 100;

/// By gold rows, a model must be better than most votes by so many standard errors of the
/// difference.
const GOLD_ERRORS: f64 = 2.0;
/// By agreement it takes more: functions may agree because they err alike.
const AGREEMENT_ERRORS: f64 = 4.0;
/// Without gold rows, a model that moves more than this share of the rows to other classes than
/// most votes do is not believed: models that collapse agree with themselves.
const MAX_MOVED: f64 = 0.1;

/// Patterns that agreement is measured on at most, spread evenly.
const MAX_AGREEMENT_PATTERNS: usize = 20_000;

/// What a model was judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// How often it is right on gold rows that are covered.
    Gold,
    /// How often what the other functions say is what a function votes.
    Agreement,
    /// It was asked for.
    Asked,
}

/// What a method reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodScore {
    pub method: Method,
    /// From 0 to 1.
    pub score: f64,
    /// By how much it is above most votes, and the standard error of that.
    pub gain: f64,
    pub gain_error: f64,
}

/// The model that is used, and why.
#[derive(Clone, Debug)]
pub struct Choice {
    pub model: LabelModel,
    pub basis: Basis,
    /// Rows, or held-out votes, that the scores are of.
    pub judged: u64,
    pub scores: Vec<MethodScore>,
}

impl Choice {
    /// The reason as a sentence.
    pub fn reason(&self) -> String {
        let method = self.model.method;
        let of = |wanted: Method| self.scores.iter().find(|score| score.method == wanted);
        let by = match self.basis {
            Basis::Asked => return format!("{method} was asked for"),
            Basis::Gold => format!("on {} gold rows", self.judged),
            Basis::Agreement => format!("by the agreement of {} held-out votes", self.judged),
        };
        let percent = |score: f64| format!("{:.1} %", 100.0 * score);
        let (Some(floor), Some(chosen)) = (of(Method::Majority), of(method)) else {
            return format!("{method} {by}");
        };
        if method == Method::Majority {
            let best = self.scores.iter().filter(|score| score.method != Method::Majority);
            let best = best.max_by(|a, b| a.score.total_cmp(&b.score));
            return match best {
                Some(best) => format!(
                    "majority vote has {} {by}, and no model is better beyond chance; nearest: {} \
                     with {}",
                    percent(floor.score),
                    best.method,
                    percent(best.score)
                ),
                None => format!("majority vote has {} {by}", percent(floor.score)),
            };
        }
        format!(
            "{method} has {} {by}, majority vote {} (difference {:.1} ± {:.1} points)",
            percent(chosen.score),
            percent(floor.score),
            100.0 * chosen.gain,
            100.0 * chosen.gain_error
        )
    }
}

/// Fits all methods and takes the best that is above most votes beyond chance.
///
/// # Errors
/// When the prior is none.
pub fn choose(
    evidence: &Evidence<'_>,
    gold: &Gold,
    options: &FitOptions,
) -> Result<Choice, FitError> {
    let models: Vec<LabelModel> = Method::ALL
        .iter()
        .map(|&method| fit(evidence, method, options))
        .collect::<Result<_, _>>()?;
    let on_gold = judge_by_gold(evidence, &models, gold);
    let (basis, judged) = if on_gold.rows >= MIN_GOLD_ROWS as f64 {
        (Basis::Gold, on_gold)
    } else {
        (Basis::Agreement, judge_by_agreement(evidence, &models))
    };
    let scores = judged.scores();
    let floor = models[0].balance(evidence);
    let is_believed = |at: usize, score: &MethodScore| match basis {
        Basis::Agreement => {
            let balance = models[at].balance(evidence);
            let moved: f64 =
                floor.iter().zip(&balance).map(|(one, other)| (one - other).abs() / 2.0).sum();
            score.gain > AGREEMENT_ERRORS * score.gain_error && moved <= MAX_MOVED
        }
        Basis::Gold | Basis::Asked => score.gain > GOLD_ERRORS * score.gain_error,
    };
    let best = scores
        .iter()
        .enumerate()
        .filter(|(at, score)| score.gain > 0.0 && is_believed(*at, score))
        .max_by(|(_, a), (_, b)| a.score.total_cmp(&b.score))
        .map_or(0, |(at, _)| at);
    let model = models.into_iter().nth(best).expect("a model for each method");
    Ok(Choice { model, basis, judged: judged.rows as u64, scores })
}

/// Sums over what was judged, by method.
struct Judged {
    rows: f64,
    weight: f64,
    right: Vec<f64>,
    /// Of the differences to the first method: sums, and sums with the weights squared.
    gains: Vec<f64>,
    squared_weight: f64,
    squared_gains: Vec<f64>,
    squares: Vec<f64>,
}

impl Judged {
    fn new(methods: usize) -> Self {
        let zeros = || vec![0.0; methods];
        Self {
            rows: 0.0,
            weight: 0.0,
            right: zeros(),
            gains: zeros(),
            squared_weight: 0.0,
            squared_gains: zeros(),
            squares: zeros(),
        }
    }

    /// Adds `rows` on which the methods are as often right, each of which counts `weight`.
    fn add(&mut self, right: &[f64], rows: f64, weight: f64) {
        self.rows += rows;
        self.weight += rows * weight;
        self.squared_weight += rows * weight * weight;
        for (at, value) in right.iter().enumerate() {
            let gain = value - right[0];
            self.right[at] += rows * weight * value;
            self.gains[at] += rows * weight * gain;
            self.squared_gains[at] += rows * weight * weight * gain;
            self.squares[at] += rows * weight * weight * gain * gain;
        }
    }

    fn merge(mut self, other: Self) -> Self {
        let add = |mine: &mut [f64], theirs: &[f64]| {
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        };
        self.rows += other.rows;
        self.weight += other.weight;
        self.squared_weight += other.squared_weight;
        add(&mut self.right, &other.right);
        add(&mut self.gains, &other.gains);
        add(&mut self.squared_gains, &other.squared_gains);
        add(&mut self.squares, &other.squares);
        self
    }

    fn scores(&self) -> Vec<MethodScore> {
        let weight = self.weight.max(1e-12);
        let score = |at: usize| {
            let gain = self.gains[at] / weight;
            // The weighted sum of squared differences from the mean.
            let spread = self.squares[at] - 2.0 * gain * self.squared_gains[at]
                + gain * gain * self.squared_weight;
            MethodScore {
                method: Method::ALL[at],
                score: self.right[at] / weight,
                gain,
                gain_error: spread.max(0.0).sqrt() / weight,
            }
        };
        (0..self.right.len()).map(score).collect()
    }
}

fn judge_by_gold(evidence: &Evidence<'_>, models: &[LabelModel], gold: &Gold) -> Judged {
    let table = evidence.table;
    let mut judged = Judged::new(models.len());
    let mut probabilities = vec![0.0; table.classes()];
    for (part, block) in table.blocks() {
        let Some(gold) = gold.block(part, block) else { continue };
        let votes = table.rows_of_block(part, block);
        for (row, classes) in gold.iter().filter(|(row, _)| !votes.row(*row).is_empty()) {
            let right: Vec<f64> = models
                .iter()
                .map(|model| {
                    model.posterior(votes.row(row), &mut probabilities);
                    share_of_most(&probabilities, |class| classes.contains(&(class as u32)))
                })
                .collect();
            judged.add(&right, 1.0, 1.0);
        }
    }
    judged
}

/// Votes on each class, or set of classes, count the same in all: a model that gives the most
/// frequent class whenever in doubt would agree with most votes.
fn judge_by_agreement(evidence: &Evidence<'_>, models: &[LabelModel]) -> Judged {
    let votes: Vec<&Vote> = evidence.votes();
    let step = evidence.patterns.len().div_ceil(MAX_AGREEMENT_PATTERNS).max(1);
    let several = |at: &usize| evidence.patterns.pattern(*at).0.len() > 1;
    let taken: Vec<usize> = (0..evidence.patterns.len()).step_by(step).filter(several).collect();
    let mut held_out: HashMap<&Vote, f64> = HashMap::new();
    for &at in &taken {
        let (items, rows) = evidence.patterns.pattern(at);
        for &item in items {
            *held_out.entry(votes[item as usize]).or_default() +=
                f64::from(rows) / items.len() as f64;
        }
    }
    let judge = |lot: &[usize]| {
        let mut judged = Judged::new(models.len());
        let mut probabilities = vec![0.0; evidence.table.classes()];
        for &at in lot {
            let (items, rows) = evidence.patterns.pattern(at);
            for (left_out, &item) in items.iter().enumerate() {
                let vote = votes[item as usize];
                let right: Vec<f64> = models
                    .iter()
                    .map(|model| {
                        model.posterior_without(items, left_out, &mut probabilities);
                        share_of_most(&probabilities, |class| vote.allows(class as u32))
                    })
                    .collect();
                judged.add(&right, f64::from(rows) / items.len() as f64, 1.0 / held_out[vote]);
            }
        }
        judged
    };
    // In lots of fixed size and order, so that threads do not change the sums.
    let lots: Vec<Judged> = taken.par_chunks(1024).map(judge).collect();
    lots.into_iter().fold(Judged::new(models.len()), Judged::merge)
}
