//! What a caller asks of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::block_cache::BlockCache;
use crate::candidate::Candidate;
use crate::metrics::Evaluation;
use crate::plan::Fits;
use crate::rows::LabelKind;

/// How to train. Unset fields are chosen by the data.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainOptions {
    /// The model's name, written into its file.
    pub name: String,
    /// What the search maximises (the log-loss it minimises). Unset: accuracy, or log-loss where
    /// few rows can be held out, see [`Metric::usual`].
    pub metric: Option<Metric>,
    /// The candidates that are tried. With it set, the model's bytes depend on rows, options
    /// and seed alone.
    pub trials: Option<usize>,
    /// How long the search may take by estimate, in milliseconds: without `trials`, their number
    /// is chosen so that they take about as long.
    pub budget_ms: Option<u64>,
    /// End the search by the clock after so many milliseconds, with what it has found. A run
    /// that was cut so says it.
    pub stop_after_ms: Option<u64>,
    /// Hand out a checkpoint after the first bracket of trials that ends so many milliseconds
    /// after the last one, or later where handing it out takes long.
    pub checkpoint_every_ms: u64,
    /// Try these candidates instead of searching: those of an earlier run's report make the same
    /// model again from the same rows.
    pub replay: Vec<Candidate>,
    /// Try these candidates and no others. Those that differ in cost alone are fitted as
    /// warm-started paths: several times faster than by `replay`, and the model depends on the
    /// list as a whole.
    pub candidates: Vec<Candidate>,
    pub seed: u64,
    /// Folds of the cross-validation.
    pub folds: Option<usize>,
    /// Threads; all cores when unset. Does not change the result.
    pub threads: Option<usize>,
    /// What the run may hold in memory. A run that cannot fit is refused before it starts.
    pub memory_bytes: u64,
    /// The most bytes of weights in the model file.
    pub model_bytes: u64,
    /// The most microseconds that the model may take for one text, by estimate.
    pub max_latency_us: Option<u64>,
    /// Members of the ensemble at most; 1 takes the best trial alone.
    pub members: usize,
    pub class_texts: ClassTexts,
    pub class_weighting: ClassWeighting,
    /// The label of rows that belong to no class. They are never fitted as one; the model learns
    /// from them which texts to refuse.
    pub none_label: Option<String>,
    /// What refusals may cost: how far the accuracy on rows of a class may fall, a refused one
    /// being an error, as a share of them. As much is refused as that allows.
    pub refusal_cost: f64,
    /// What the report reckons costs by; without it they are CPU-seconds and GiB-seconds.
    pub price: Option<Price>,
    /// Where embeddings are kept for later runs of the same texts; a place on the machine that
    /// trains, so never part of what a caller sends.
    #[serde(skip)]
    pub block_cache: Option<BlockCache>,
    /// Told again in report and model file: versions of data set and taxonomy, the commit, …
    pub provenance: BTreeMap<String, String>,
}

/// The memory a run may hold when nothing is said.
const DEFAULT_MEMORY_BYTES: u64 = 2 << 30;
/// Room for the heads within a model file of 60 MB.
const DEFAULT_MODEL_BYTES: u64 = 54 << 20;
/// One point of accuracy: on CLINC150 it refuses three quarters of what belongs to no class.
const DEFAULT_REFUSAL_COST: f64 = 0.01;
/// What is lost when a search is killed; where checkpoints are large, it is more.
const DEFAULT_CHECKPOINT_EVERY_MS: u64 = 2_000;
/// More members add hundredths of a point and make each prediction slower.
const DEFAULT_MEMBERS: usize = 4;

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            name: "model".to_owned(),
            metric: None,
            trials: None,
            budget_ms: None,
            stop_after_ms: None,
            checkpoint_every_ms: DEFAULT_CHECKPOINT_EVERY_MS,
            replay: Vec::new(),
            candidates: Vec::new(),
            seed: 0,
            folds: None,
            threads: None,
            memory_bytes: DEFAULT_MEMORY_BYTES,
            model_bytes: DEFAULT_MODEL_BYTES,
            max_latency_us: None,
            members: DEFAULT_MEMBERS,
            class_texts: ClassTexts::default(),
            class_weighting: ClassWeighting::default(),
            none_label: None,
            refusal_cost: DEFAULT_REFUSAL_COST,
            price: None,
            block_cache: None,
            provenance: BTreeMap::new(),
        }
    }
}

impl TrainOptions {
    /// The candidates that are tried in place of a search, if there are any.
    pub(crate) fn listed(&self) -> Option<(&[Candidate], Fits)> {
        let lists = [(&self.replay, Fits::Alone), (&self.candidates, Fits::Paths)];
        let given = lists.into_iter().find(|(list, _)| !list.is_empty())?;
        Some((given.0, given.1))
    }
}

/// What a machine costs, in any currency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of one core for an hour.
    pub cpu_hour: f64,
    /// Of one GiB of memory for an hour.
    #[serde(default)]
    pub gib_hour: f64,
}

impl Price {
    /// The cost of CPU and memory.
    pub fn cost(&self, cpu_seconds: f64, gib_seconds: f64) -> f64 {
        (self.cpu_hour * cpu_seconds + self.gib_hour * gib_seconds) / 3600.0
    }
}

/// A measure by which candidates are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Accuracy,
    MacroF1,
    WeightedF1,
    MicroF1,
    #[serde(rename = "top_5")]
    Top5,
    LogLoss,
}

impl Metric {
    pub const ALL: [Self; 6] =
        [Self::Accuracy, Self::MacroF1, Self::WeightedF1, Self::MicroF1, Self::Top5, Self::LogLoss];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::MacroF1 => "macro_f1",
            Self::WeightedF1 => "weighted_f1",
            Self::MicroF1 => "micro_f1",
            Self::Top5 => "top_5",
            Self::LogLoss => "log_loss",
        }
    }

    /// What candidates are compared by where nobody says: accuracy, but log-loss with fewer than
    /// [`FEW_SCORED_ROWS`] rows of one class each to hold out.
    ///
    /// Accuracy counts whole rows. Among a hundred candidates and some hundred rows the best by
    /// accuracy is the luckiest one, while log-loss tells how sure each row was. On Banking77
    /// with five and ten labelled rows a class, choosing by it was worth half a point, and
    /// confidence was nearer to the truth.
    pub const fn usual(kind: LabelKind, scored_rows: usize) -> Self {
        match kind {
            LabelKind::SingleChoice if scored_rows < FEW_SCORED_ROWS => Self::LogLoss,
            LabelKind::SingleChoice | LabelKind::MultiLabel => Self::Accuracy,
        }
    }
}

/// Where fewer rows than this are scored, the good candidates' accuracies differ by chance: by
/// half a point with two thousand, when they disagree on one row in twenty.
pub const FEW_SCORED_ROWS: usize = 2_000;

impl Metric {
    /// The metric's value; not a number where it is not defined.
    pub fn value(self, evaluation: &Evaluation) -> f64 {
        match self {
            Self::Accuracy => evaluation.accuracy,
            Self::MacroF1 => evaluation.macro_f1,
            Self::WeightedF1 => evaluation.weighted_f1,
            Self::MicroF1 => evaluation.micro_f1,
            Self::Top5 => evaluation.top_5,
            Self::LogLoss => evaluation.log_loss.unwrap_or(f64::NAN),
        }
    }

    /// The metric's value so turned that more is better.
    pub fn goodness(self, evaluation: &Evaluation) -> f64 {
        self.goodness_of(self.value(evaluation))
    }

    /// A value of the metric so turned that more is better.
    pub fn goodness_of(self, value: f64) -> f64 {
        match self {
            Self::LogLoss => -value,
            _ => value,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.into_iter().map(Self::as_str).collect();
            format!("`{text}` is not a metric; the metrics are {}", known.join(", "))
        })
    }
}

/// Which texts of the taxonomy are learnt from beside the data set's. They belong to every
/// fold's fitted rows and are never scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassTexts {
    /// Each class's name, description and examples.
    #[default]
    All,
    /// Examples only.
    Examples,
    None,
}

/// What rows of rare and of frequent classes count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeighting {
    /// Every row counts the same.
    #[default]
    Equal,
    /// Every class counts the same: its rows are weighted by rows / (classes × its rows).
    Balanced,
}
