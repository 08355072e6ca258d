//! Label models: from the votes of a row to probabilities of its classes.
//!
//! Every model ends as the same thing: a base for each class and a weight for each item and
//! class. What a row says is the sum over its items, so labeling costs votes times classes,
//! whatever the model. Fitting sees co-occurrences ([`moments`], [`triplets`]) or distinct
//! patterns of votes ([`weighted`], [`dawid_skene`]), never rows one by one.

pub mod choice;
mod dawid_skene;
mod moments;
mod triplets;
mod weighted;

use corral_types::{ErrorKind, Explain};
use serde::{Deserialize, Serialize};

use crate::counts::VoteCounts;
use crate::gold::Gold;
use crate::patterns::Patterns;
use crate::table::VoteTable;
use crate::vote::Vote;

/// Weights (items times classes) of a model at most: 1 GiB of 32-bit numbers.
pub const MAX_WEIGHTS: usize = 256 << 20;

/// Items of patterns times classes that iterative fits go through at most each round; beyond,
/// they fit on evenly spread rows. A round of so many takes about a second on one core.
const MAX_ROUND_WORK: usize = 512 << 20;

/// Probabilities are kept so far from 0 and 1 in fits, so that no single vote is beyond doubt.
const LEAST_PROBABILITY: f64 = 1e-4;

/// How labels are made of votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Most votes win; each class that ties has the same share.
    Majority,
    /// Votes count by how often their function agrees with the others.
    Weighted,
    /// How functions err and on which classes they abstain, found by expectation maximisation.
    DawidSkene,
    /// How functions vote given the class, found from co-occurrences alone (MeTaL's objective).
    Moments,
    /// How accurate functions are, in closed form from triplets of them (FlyingSquid's).
    Triplets,
}

impl Method {
    pub const ALL: [Self; 5] =
        [Self::Majority, Self::Weighted, Self::DawidSkene, Self::Moments, Self::Triplets];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Majority => "majority",
            Self::Weighted => "weighted",
            Self::DawidSkene => "dawid_skene",
            Self::Moments => "moments",
            Self::Triplets => "triplets",
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|method| method.as_str() == text).ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            format!("`{text}` is not a label model; the models are {words}")
        })
    }
}

/// How a model is fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct FitOptions {
    /// How frequent each class is; alike where nobody said.
    pub prior: Option<Vec<f64>>,
    /// Steps of the moment-based fit, their size and the part of the last step that goes on.
    pub epochs: usize,
    pub learning_rate: f64,
    pub momentum: f64,
    /// What functions are taken for before anything is known of them: how often they are right.
    pub start_precision: f64,
    /// What the moment-based fit's start is multiplied with.
    pub start_scale: f64,
    /// Rounds of expectation maximisation at most.
    pub rounds: usize,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            prior: None,
            epochs: 500,
            learning_rate: 0.01,
            momentum: 0.9,
            start_precision: 0.7,
            start_scale: 1.0,
            rounds: 50,
        }
    }
}

/// Why a model cannot be fitted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    #[error("there is no function whose votes could be labels")]
    NoVoters,
    #[error("{classes} classes cannot be told apart; labels need at least 2")]
    TooFewClasses { classes: usize },
    #[error(
        "{items} votes that can be told apart times {classes} classes are {weights} weights; a \
         model has at most {MAX_WEIGHTS}"
    )]
    TooManyWeights { items: usize, classes: usize, weights: usize },
    #[error("the prior has {found} numbers for {classes} classes")]
    PriorLength { found: usize, classes: usize },
    #[error("the prior has {value}; it is above 0 for every class")]
    PriorValue { value: f64 },
}

impl Explain for FitError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::TooManyWeights { .. } => ErrorKind::TooLarge,
            _ => ErrorKind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NoVoters => Some("add one with `corral lf add`".to_owned()),
            Self::TooManyWeights { .. } => Some(
                "let functions vote for fewer classes each, or label in several runs".to_owned(),
            ),
            Self::TooFewClasses { .. } => Some("add a function for another class".to_owned()),
            Self::PriorLength { .. } | Self::PriorValue { .. } => None,
        }
    }
}

/// What models are fitted on: the votes, their counts and their patterns.
pub struct Evidence<'t> {
    pub table: &'t VoteTable,
    pub counts: VoteCounts,
    pub patterns: Patterns,
}

impl<'t> Evidence<'t> {
    /// Counts a table.
    ///
    /// # Errors
    /// When there is nothing to fit, or a model of it would be too large.
    pub fn of(table: &'t VoteTable) -> Result<Self, FitError> {
        let counts = VoteCounts::of(table, &Gold::default());
        Self::of_counts(table, counts)
    }

    /// The same where the counts are there.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn of_counts(table: &'t VoteTable, counts: VoteCounts) -> Result<Self, FitError> {
        let (items, classes) = (table.items(), table.classes());
        if items == 0 {
            return Err(FitError::NoVoters);
        }
        if classes < 2 {
            return Err(FitError::TooFewClasses { classes });
        }
        let weights = items.saturating_mul(classes);
        if weights > MAX_WEIGHTS {
            return Err(FitError::TooManyWeights { items, classes, weights });
        }
        let votes = counts.item_rows.iter().sum();
        let patterns = Patterns::bounded(table, votes, MAX_ROUND_WORK / classes);
        Ok(Self { table, counts, patterns })
    }

    fn votes(&self) -> Vec<&Vote> {
        self.table.voters().iter().flat_map(|voter| &voter.votes).collect()
    }

    fn prior(&self, options: &FitOptions) -> Result<Vec<f64>, FitError> {
        let classes = self.table.classes();
        let Some(prior) = &options.prior else { return Ok(vec![1.0 / classes as f64; classes]) };
        if prior.len() != classes {
            return Err(FitError::PriorLength { found: prior.len(), classes });
        }
        if let Some(&value) = prior.iter().find(|value| !(value.is_finite() && **value > 0.0)) {
            return Err(FitError::PriorValue { value });
        }
        let sum: f64 = prior.iter().sum();
        Ok(prior.iter().map(|value| value / sum).collect())
    }
}

/// Fits a model.
///
/// # Errors
/// When the prior is none.
pub fn fit(
    evidence: &Evidence<'_>,
    method: Method,
    options: &FitOptions,
) -> Result<LabelModel, FitError> {
    let prior = evidence.prior(options)?;
    Ok(match method {
        Method::Majority => majority(evidence),
        Method::Weighted => weighted::fit(evidence, &prior, options),
        Method::DawidSkene => dawid_skene::fit(evidence, &prior, options),
        Method::Moments => moments::fit(evidence, &prior, options),
        Method::Triplets => triplets::fit(evidence, &prior),
    })
}

/// How the covered rows fall on classes by most votes: what iterative fits are held to where no
/// prior is given. Left to themselves they may call nearly all rows one class.
fn balance_of_votes(evidence: &Evidence<'_>) -> Vec<f64> {
    let mut found = majority(evidence).balance(evidence);
    // A row more of each class: none is ruled out.
    let rows = evidence.patterns.rows() as f64;
    let classes = found.len() as f64;
    found.iter_mut().for_each(|share| *share = (*share * rows + 1.0) / (rows + classes));
    found
}

/// A vote is shared among the classes that it allows.
fn majority(evidence: &Evidence<'_>) -> LabelModel {
    let classes = evidence.table.classes();
    let mut model = LabelModel::new(Method::Majority, vec![0.0; classes], evidence.table.items());
    for (item, vote) in evidence.votes().into_iter().enumerate() {
        let share = 1.0 / vote.allowed(classes).max(1) as f32;
        for class in 0..classes {
            if vote.allows(class as u32) {
                model.weights[item * classes + class] = share;
            }
        }
    }
    model
}

/// A fitted model: what it makes of the items of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelModel {
    pub method: Method,
    classes: usize,
    base: Vec<f32>,
    /// By item, then by class: what the item adds to the class; logarithms, but for the majority
    /// votes.
    weights: Vec<f32>,
}

/// How often classes are shifted at most, how far at once, and the shift that is none.
const BALANCE_ROUNDS: usize = 10;
const MAX_SHIFT: f64 = 2.0;
const BALANCED: f64 = 0.01;

/// Scores that differ by less are the same: sums of a row's shares come in any order.
const TIE: f32 = 1e-5;

impl LabelModel {
    fn new(method: Method, base: Vec<f32>, items: usize) -> Self {
        let classes = base.len();
        Self { method, classes, base, weights: vec![0.0; items * classes] }
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// What an item adds to each class.
    pub fn weights(&self, item: usize) -> &[f32] {
        &self.weights[item * self.classes..(item + 1) * self.classes]
    }

    /// Writes the probability of each class of a row that has these items. One without any is
    /// uncovered, which is for the caller to decide on: what is written is the prior.
    ///
    /// # Panics
    /// When `probabilities` has not a place for each class.
    pub fn posterior(&self, items: &[u32], probabilities: &mut [f32]) {
        probabilities.copy_from_slice(&self.base);
        for &item in items {
            for (sum, weight) in probabilities.iter_mut().zip(self.weights(item as usize)) {
                *sum += weight;
            }
        }
        self.finish(probabilities);
    }

    /// The same without one of the row's items.
    fn posterior_without(&self, items: &[u32], left_out: usize, probabilities: &mut [f32]) {
        probabilities.copy_from_slice(&self.base);
        for (_, &item) in items.iter().enumerate().filter(|(at, _)| *at != left_out) {
            for (sum, weight) in probabilities.iter_mut().zip(self.weights(item as usize)) {
                *sum += weight;
            }
        }
        self.finish(probabilities);
    }

    /// How the covered rows fall on classes.
    fn balance(&self, evidence: &Evidence<'_>) -> Vec<f64> {
        let mut sums = vec![0.0f64; self.classes];
        let mut probabilities = vec![0.0; self.classes];
        for (items, rows) in evidence.patterns.iter() {
            self.posterior(items, &mut probabilities);
            for (sum, probability) in sums.iter_mut().zip(&probabilities) {
                *sum += f64::from(rows) * f64::from(*probability);
            }
        }
        let all: f64 = sums.iter().sum::<f64>().max(1.0);
        sums.iter().map(|sum| sum / all).collect()
    }

    /// Shifts classes as wholes until the covered rows fall on them as they shall.
    fn rebalance(&mut self, evidence: &Evidence<'_>, wanted: &[f64]) {
        for _ in 0..BALANCE_ROUNDS {
            let found = self.balance(evidence);
            let mut moved = 0.0f64;
            for ((base, wanted), found) in self.base.iter_mut().zip(wanted).zip(&found) {
                let shift = (wanted.max(1e-9) / found.max(1e-9)).ln().clamp(-MAX_SHIFT, MAX_SHIFT);
                moved = moved.max(shift.abs());
                *base += shift as f32;
            }
            if moved < BALANCED {
                break;
            }
        }
    }

    fn finish(&self, scores: &mut [f32]) {
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let share = |score: f32| match self.method {
            Method::Majority => f32::from(u8::from(score >= most - TIE)),
            _ => (score - most).exp(),
        };
        let mut sum = 0.0;
        for score in scores.iter_mut() {
            *score = share(*score);
            sum += *score;
        }
        scores.iter_mut().for_each(|score| *score /= sum);
    }

    /// On the gold rows that are covered, how often the most probable class is right, and how
    /// many those are. A tie is right by its share.
    pub fn score(&self, table: &VoteTable, gold: &Gold) -> (f64, u64) {
        let (mut right, mut rows) = (0.0, 0);
        let mut probabilities = vec![0.0; self.classes];
        for (part, block) in table.blocks() {
            let Some(gold) = gold.block(part, block) else { continue };
            let votes = table.rows_of_block(part, block);
            for (row, classes) in gold.iter().filter(|(row, _)| !votes.row(*row).is_empty()) {
                self.posterior(votes.row(row), &mut probabilities);
                right += share_of_most(&probabilities, |class| classes.contains(&(class as u32)));
                rows += 1;
            }
        }
        (right, rows)
    }
}

/// Of the classes that are most probable, the share that fits.
fn share_of_most(probabilities: &[f32], fits: impl Fn(usize) -> bool) -> f64 {
    let most = probabilities.iter().copied().fold(0.0, f32::max);
    let (mut ties, mut fitting) = (0u32, 0u32);
    for (class, &probability) in probabilities.iter().enumerate() {
        if probability >= most - TIE {
            ties += 1;
            fitting += u32::from(fits(class));
        }
    }
    f64::from(fitting) / f64::from(ties)
}
