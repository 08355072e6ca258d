//! The kinds of learners with their settings, and what a search asks of a kind.

use std::fmt;
use std::ops::RangeInclusive;

use corral_classifier::HeadError;
use corral_classifier::head::Activation;
use serde::{Deserialize, Serialize};

use super::complement_bayes::{self, BayesWeights};
use super::count_ratios::{self, RatioSettings};
use super::kernel::{self, KernelSettings, MAX_KERNEL_ROWS};
use super::lanes::Lanes;
use super::local::{self, Chooser};
use super::neighbours::{self, NeighboursSettings};
use super::network::{self, NetworkSettings};
use super::rows::blocks_for;
use super::softmax::{self, SoftmaxSettings};
use super::svm::{self, Loss, SvmSettings};
use super::{Fitted, HeadBudget, Problem, centroid, class_sums, one_vs_rest, regression};
use crate::features::FeaturizerSettings;

/// A learner with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LearnerSettings {
    /// One-vs-rest support vector machines with squared hinge loss; `cost` is LIBLINEAR's C.
    LinearSvm { cost: f32 },
    /// Multinomial logistic regression; `cost` is scikit-learn's C.
    Softmax { cost: f32 },
    /// As [`Self::LinearSvm`], among the parents of classes and then among the classes of each.
    LocalSvm { cost: f32 },
    /// As [`Self::Softmax`], among the parents of classes and then among the classes of each.
    LocalSoftmax { cost: f32 },
    /// One-vs-rest support vector machines over features that are multiplied by the class's
    /// log-count ratios.
    NbSvm { cost: f32, smoothing: f32, interpolation: f32 },
    /// One-vs-rest least squares; scikit-learn's `alpha` is `1 / 2 cost`.
    Ridge { cost: f32 },
    /// Complement naive Bayes.
    ComplementBayes { smoothing: f32, weights: BayesWeights },
    /// Nearest centroid by cosine, less a part of the mean of other classes' rows.
    Centroid { contrast: f32 },
    /// The nearest embeddings vote, each with `exp(sharpness · cosine)`. Reads an embedding
    /// alone.
    Neighbours { neighbours: u32, sharpness: f32 },
    /// Kernel ridge regression: the product of lexical features plus a radial kernel of
    /// embeddings, which falls with `decay`. Reads an embedding, and may read a lexicon.
    KernelRidge { ridge: f32, decay: f32 },
    /// A network whose hidden units are sums of an embedding for each feature, as in fastText.
    EmbeddingBag { width: u32, passes: u32, rate: f32 },
    /// A network with one layer of rectified hidden units.
    Mlp { width: u32, passes: u32, rate: f32, decay: f32, dropout: f32 },
}

/// How far a fit is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FitEffort {
    /// Until accuracy would not change by going on.
    #[default]
    Full,
    /// A few passes: enough to rank candidates by, at a fraction of the time.
    Rough,
}

/// What a kind of learner can make use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Whether rows may have several classes, or none.
    pub multi_label: bool,
    /// Whether a row's shares of classes count. Otherwise each class with at least half the
    /// largest share counts as right, and the others do not.
    pub shares: bool,
    /// Whether what an example of a class counts can be set.
    pub class_weights: bool,
    /// Whether dense features count. Otherwise they get no weight.
    pub dense: bool,
}

/// What a fit reads, by which its time is estimated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitShape {
    pub rows: f64,
    /// Entries of all sparse rows.
    pub sparse_entries: f64,
    pub dense_width: f64,
    /// The norm of a row, squared.
    pub squared_norm: f64,
    pub classes: usize,
    /// The blocks of classes that a local model compares a row with.
    pub local_blocks: f64,
}

/// What settings that are given by hand may be: beyond, a fit would say nothing or never end.
const POSITIVE: RangeInclusive<f64> = 1e-6..=1e6;
const MOST_WIDTH: f64 = 4096.0;
const MOST_PASSES: f64 = 1000.0;
const MOST_NEIGHBOURS: f64 = 1000.0;
const MOST_DROPOUT: f64 = 0.95;
/// Nanoseconds to multiply and add a number of two embeddings, to take an exponential, and for
/// each cube of rows of a matrix that is factorised.
const COMPARISON_NANOS: f64 = 0.04;
const EXPONENTIAL_NANOS: f64 = 2.0;
const FACTOR_NANOS: f64 = 0.008;
/// Fits over all rows that a local model comes to: one on most rows goes before the last.
const LOCAL_FITS: f64 = 1.9;
/// The part of its passes that a network is given when candidates are only to be ranked.
const ROUGH_PART: u32 = 3;

impl LearnerSettings {
    /// The word by which reports name the learner.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LinearSvm { .. } => "linear_svm",
            Self::Softmax { .. } => "softmax",
            Self::LocalSvm { .. } => "local_svm",
            Self::LocalSoftmax { .. } => "local_softmax",
            Self::NbSvm { .. } => "nb_svm",
            Self::Ridge { .. } => "ridge",
            Self::ComplementBayes { .. } => "complement_bayes",
            Self::Centroid { .. } => "centroid",
            Self::Neighbours { .. } => "neighbours",
            Self::KernelRidge { .. } => "kernel_ridge",
            Self::EmbeddingBag { .. } => "embedding_bag",
            Self::Mlp { .. } => "mlp",
        }
    }

    pub const fn abilities(&self) -> Abilities {
        let all = Abilities { multi_label: true, shares: true, class_weights: true, dense: true };
        match self {
            Self::LinearSvm { .. } | Self::NbSvm { .. } | Self::Ridge { .. } => {
                Abilities { shares: false, ..all }
            }
            Self::LocalSvm { .. } => Abilities { multi_label: false, shares: false, ..all },
            Self::Softmax { .. } | Self::LocalSoftmax { .. } => {
                Abilities { multi_label: false, ..all }
            }
            Self::ComplementBayes { .. } => Abilities { multi_label: false, dense: false, ..all },
            // A class is its mean, however much its rows count.
            Self::Centroid { .. } => Abilities { class_weights: false, ..all },
            Self::Neighbours { .. }
            | Self::KernelRidge { .. }
            | Self::EmbeddingBag { .. }
            | Self::Mlp { .. } => all,
        }
    }

    /// Whether the settings are within what the learner is made for, over features that it reads.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence on the candidate.
    pub fn check(&self, featurizer: &FeaturizerSettings) -> Result<(), String> {
        let within = |what: &str, value: f64, range: RangeInclusive<f64>| {
            if range.contains(&value) {
                return Ok(());
            }
            let (least, most) = (range.start(), range.end());
            Err(format!("its {what} is {value}, and must be from {least} to {most}"))
        };
        let positive = |what, value: f32| within(what, f64::from(value), POSITIVE);
        let network = |width: u32, passes: u32, rate| {
            within("width", f64::from(width), 1.0..=MOST_WIDTH)?;
            within("passes", f64::from(passes), 1.0..=MOST_PASSES)?;
            within("rate", f64::from(rate), *POSITIVE.start()..=1.0)
        };
        let wrong_features = |what: &str| Err(format!("{} reads {what}", self.name()));
        match *self {
            Self::LinearSvm { cost }
            | Self::Softmax { cost }
            | Self::LocalSvm { cost }
            | Self::LocalSoftmax { cost }
            | Self::Ridge { cost } => positive("cost", cost),
            Self::NbSvm { cost, smoothing, interpolation } => {
                if !featurizer.reads_lexicon() {
                    return wrong_features("a lexicon");
                }
                positive("cost", cost)?;
                positive("smoothing", smoothing)?;
                within("interpolation", f64::from(interpolation), 0.0..=1.0)
            }
            Self::ComplementBayes { smoothing, .. } => {
                if !featurizer.reads_lexicon() {
                    return wrong_features("a lexicon");
                }
                positive("smoothing", smoothing)
            }
            Self::Centroid { contrast } => within("contrast", f64::from(contrast), 0.0..=1.0),
            Self::Neighbours { neighbours, sharpness } => {
                if featurizer.reads_lexicon() {
                    return wrong_features("an embedding alone");
                }
                within("neighbours", f64::from(neighbours), 1.0..=MOST_NEIGHBOURS)?;
                positive("sharpness", sharpness)
            }
            Self::KernelRidge { ridge, decay } => {
                if !featurizer.reads_encoder() {
                    return wrong_features("an embedding");
                }
                positive("ridge", ridge)?;
                positive("decay", decay)
            }
            Self::EmbeddingBag { width, passes, rate } => network(width, passes, rate),
            Self::Mlp { width, passes, rate, decay, dropout } => {
                network(width, passes, rate)?;
                within("decay", f64::from(decay), 0.0..=1.0)?;
                within("dropout", f64::from(dropout), 0.0..=MOST_DROPOUT)
            }
        }
    }

    /// The seconds of CPU that a fit takes, and scoring a quarter as many rows where that is not
    /// for nothing, by times measured on Banking77, CLINC150 and O*NET on one core of a server
    /// of 2023.
    pub fn cpu_seconds(&self, shape: &FitShape) -> f64 {
        let FitShape { rows, sparse_entries, dense_width, squared_norm, classes, local_blocks } =
            *shape;
        let blocks = blocks_for(classes) as f64;
        let block = |sparse_nanos: f64, dense_nanos: f64| {
            sparse_entries * sparse_nanos + rows * dense_width * dense_nanos
        };
        let linear = |sparse_nanos, dense_nanos| blocks * block(sparse_nanos, dense_nanos);
        let stored = rows.min(MAX_KERNEL_ROWS as f64);
        let compared = 0.25 * rows * dense_width * COMPARISON_NANOS;
        let nanos = match *self {
            // The harder examples are pressed into their class, the more passes it takes.
            Self::LinearSvm { cost } => {
                linear(26.0, 9.5) * (f64::from(cost) * squared_norm).powf(0.4).max(1.0)
            }
            Self::Softmax { cost } => {
                linear(18.0, 8.0) * (f64::from(cost) / 5.0 * squared_norm).sqrt().max(1.0)
            }
            Self::LocalSvm { cost } => {
                let passes = (f64::from(cost) * squared_norm).powf(0.4).max(1.0);
                LOCAL_FITS * local_blocks * block(19.0, 9.5) * passes
            }
            Self::LocalSoftmax { cost } => {
                let passes = (f64::from(cost) / 5.0 * squared_norm).sqrt().max(1.0);
                LOCAL_FITS * local_blocks * block(10.0, 8.0) * passes
            }
            Self::NbSvm { cost, .. } => {
                linear(32.0, 11.0) * (f64::from(cost) * squared_norm).powf(0.4).max(1.0)
            }
            Self::Ridge { cost } => {
                linear(45.0, 20.0) * (f64::from(cost) * squared_norm).powf(0.4).max(1.0)
            }
            Self::ComplementBayes { .. } => linear(2.0, 0.0),
            Self::Centroid { .. } => linear(2.0, 1.0),
            Self::Neighbours { .. } => rows * compared,
            Self::KernelRidge { .. } => {
                let applied = 0.25 * rows * (blocks + EXPONENTIAL_NANOS);
                stored.powi(3) * FACTOR_NANOS + stored * (compared + applied)
            }
            Self::EmbeddingBag { width, passes, .. } | Self::Mlp { width, passes, .. } => {
                let (units, hidden_blocks) = (f64::from(width), blocks_for(width as usize) as f64);
                let products = rows * (1.6 * dense_width * hidden_blocks + 2.3 * units * blocks);
                f64::from(passes) * (5.5 * sparse_entries * hidden_blocks + products)
            }
        };
        nanos / 1e9
    }

    /// Fits the problem; `Ok(None)` when it was stopped.
    ///
    /// The result is the same for any number of threads: classes are fitted in blocks that
    /// do not depend on it.
    pub fn fit(
        &self,
        problem: &Problem<'_>,
        effort: FitEffort,
        budget: HeadBudget,
    ) -> Result<Option<Fitted>, HeadError> {
        let mut fitted = None;
        Self::fit_path(&[*self], problem, effort, budget, &mut |only| fitted = Some(only))?;
        Ok(fitted)
    }

    /// Fits several settings one after the other and hands each result to `take`, in their
    /// order; those left when the problem's `stop` says so are not fitted.
    ///
    /// Neighbours for which [`Self::shares_path`] holds start from where the one before ended
    /// and take a fraction of the passes, the fewer the nearer their costs are. They are
    /// solved as well as by [`Self::fit`], but are not the same to the last bit, so the list
    /// as a whole decides the result.
    pub fn fit_path(
        path: &[Self],
        problem: &Problem<'_>,
        effort: FitEffort,
        budget: HeadBudget,
        take: &mut dyn FnMut(Fitted),
    ) -> Result<(), HeadError> {
        for path in path.chunk_by(Self::shares_path) {
            let machines = |loss| -> Vec<SvmSettings> {
                costs(path).map(|cost| SvmSettings::new(cost, loss, effort)).collect()
            };
            match path[0] {
                Self::LinearSvm { .. } => {
                    let path = machines(Loss::SquaredHinge);
                    one_vs_rest::fit_path(problem, &path, None, budget, take)?;
                }
                Self::LocalSvm { cost } => {
                    let settings = SvmSettings::new(cost, Loss::SquaredHinge, effort);
                    match problem.parents {
                        Some(parents) => {
                            let chooser = Chooser::Machines(settings);
                            local::fit(problem, parents, &chooser, budget)?
                                .into_iter()
                                .for_each(&mut *take);
                        }
                        None => one_vs_rest::fit_path(problem, &[settings], None, budget, take)?,
                    }
                }
                Self::LocalSoftmax { cost } => {
                    let settings = SoftmaxSettings::new(cost, effort);
                    match problem.parents {
                        Some(parents) => {
                            let chooser = Chooser::Regression(settings);
                            local::fit(problem, parents, &chooser, budget)?
                                .into_iter()
                                .for_each(&mut *take);
                        }
                        None => regression::fit_path(problem, &[settings], budget, take)?,
                    }
                }
                Self::NbSvm { smoothing, interpolation, .. } => {
                    let ratios = RatioSettings { smoothing, interpolation };
                    let path = machines(Loss::SquaredHinge);
                    one_vs_rest::fit_path(problem, &path, Some(ratios), budget, take)?;
                }
                Self::Ridge { .. } => {
                    let path = machines(Loss::Squared);
                    one_vs_rest::fit_path(problem, &path, None, budget, take)?;
                }
                Self::ComplementBayes { smoothing, weights } => {
                    take(complement_bayes::fit(problem, smoothing, weights, budget)?);
                }
                Self::Centroid { contrast } => take(centroid::fit(problem, contrast, budget)?),
                Self::Softmax { .. } => {
                    let path: Vec<SoftmaxSettings> =
                        costs(path).map(|cost| SoftmaxSettings::new(cost, effort)).collect();
                    regression::fit_path(problem, &path, budget, take)?;
                }
                Self::Neighbours { neighbours, sharpness } => {
                    let neighbours = neighbours as usize;
                    let settings = NeighboursSettings { neighbours, sharpness };
                    neighbours::fit(problem, &settings, budget)?.into_iter().for_each(&mut *take);
                }
                Self::KernelRidge { ridge, decay } => {
                    let settings = KernelSettings { ridge, decay };
                    kernel::fit(problem, &settings, budget)?.into_iter().for_each(&mut *take);
                }
                network @ (Self::EmbeddingBag { .. } | Self::Mlp { .. }) => {
                    let settings = network.network(effort);
                    network::fit(problem, &settings, budget)?.into_iter().for_each(&mut *take);
                }
            }
        }
        Ok(())
    }

    /// Whether a fit of one can start where a fit of the other ended: they differ in cost
    /// alone.
    pub fn shares_path(&self, other: &Self) -> bool {
        other.cost().and_then(|cost| self.with_cost(cost)).is_some_and(|same| same == *other)
    }

    /// What the errors of a fit cost against the length of its weights, where there is such a
    /// setting. Paths are best taken upwards.
    pub fn cost(&self) -> Option<f32> {
        let mut copy = *self;
        copy.cost_mut().copied()
    }

    /// The same at another cost, where there is such a setting.
    pub fn with_cost(mut self, cost: f32) -> Option<Self> {
        *self.cost_mut()? = cost;
        Some(self)
    }

    const fn cost_mut(&mut self) -> Option<&mut f32> {
        match self {
            Self::LinearSvm { cost }
            | Self::Softmax { cost }
            | Self::NbSvm { cost, .. }
            | Self::Ridge { cost } => Some(cost),
            Self::LocalSvm { .. }
            | Self::LocalSoftmax { .. }
            | Self::ComplementBayes { .. }
            | Self::Centroid { .. }
            | Self::Neighbours { .. }
            | Self::KernelRidge { .. }
            | Self::EmbeddingBag { .. }
            | Self::Mlp { .. } => None,
        }
    }

    /// The settings of a network of either kind.
    fn network(&self, effort: FitEffort) -> NetworkSettings {
        let (width, passes, rate, activation, decay, dropout) = match *self {
            Self::Mlp { width, passes, rate, decay, dropout } => {
                (width, passes, rate, Activation::Rectified, decay, dropout)
            }
            Self::EmbeddingBag { width, passes, rate } => {
                (width, passes, rate, Activation::Identity, 0.0, 0.0)
            }
            _ => (1, 0, 0.0, Activation::Identity, 0.0, 0.0),
        };
        let passes = match effort {
            FitEffort::Full => passes as usize,
            FitEffort::Rough => passes.div_ceil(ROUGH_PART) as usize,
        };
        NetworkSettings { width: width as usize, activation, passes, rate, decay, dropout }
    }

    /// Whether a fit copies the features of its rows, part by part.
    pub const fn copies_features(&self) -> bool {
        matches!(self, Self::LocalSvm { .. } | Self::LocalSoftmax { .. })
    }

    /// The memory a fit holds beside features and targets, in bytes.
    pub fn memory_bytes(
        &self,
        columns: usize,
        rows: usize,
        classes: usize,
        threads: usize,
    ) -> usize {
        let weights = columns * blocks_for(classes) * size_of::<Lanes>();
        match self {
            // A local model's weights are fewer, since the rows of a parent lack most columns.
            Self::LocalSvm { .. } => {
                let machines = threads * svm::block_memory_bytes(columns, rows);
                weights + machines + local::memory_bytes(rows, classes)
            }
            Self::LocalSoftmax { .. } => {
                softmax::memory_bytes(columns, rows, classes) + local::memory_bytes(rows, classes)
            }
            Self::LinearSvm { .. } | Self::Ridge { .. } => {
                weights + threads * svm::block_memory_bytes(columns, rows)
            }
            Self::NbSvm { .. } => {
                weights
                    + threads * svm::block_memory_bytes(columns, rows)
                    + count_ratios::memory_bytes(columns, rows, blocks_for(classes))
            }
            Self::ComplementBayes { .. } | Self::Centroid { .. } => {
                class_sums::memory_bytes(columns, classes)
            }
            Self::Softmax { .. } => softmax::memory_bytes(columns, rows, classes),
            Self::Neighbours { .. } => neighbours::memory_bytes(columns, rows),
            Self::KernelRidge { .. } => kernel::memory_bytes(columns, rows, classes, threads),
            Self::EmbeddingBag { width, .. } | Self::Mlp { width, .. } => {
                network::memory_bytes(columns, classes, *width as usize)
            }
        }
    }
}

fn costs(path: &[LearnerSettings]) -> impl Iterator<Item = f32> + '_ {
    path.iter().filter_map(LearnerSettings::cost)
}

/// For people: the kind and its settings, such as `linear_svm C=0.3`.
impl fmt::Display for LearnerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::LinearSvm { cost }
            | Self::Softmax { cost }
            | Self::LocalSvm { cost }
            | Self::LocalSoftmax { cost }
            | Self::Ridge { cost } => {
                write!(f, " C={cost}")
            }
            Self::NbSvm { cost, smoothing, interpolation } => {
                write!(f, " C={cost} α={smoothing} β={interpolation}")
            }
            Self::ComplementBayes { smoothing, weights: BayesWeights::Plain } => {
                write!(f, " α={smoothing}")
            }
            Self::ComplementBayes { smoothing, weights: BayesWeights::Normalised } => {
                write!(f, " α={smoothing} normalised")
            }
            Self::Centroid { contrast } => write!(f, " γ={contrast}"),
            Self::Neighbours { neighbours, sharpness } => {
                write!(f, " k={neighbours} sharpness={sharpness}")
            }
            Self::KernelRidge { ridge, decay } => write!(f, " ridge={ridge} decay={decay}"),
            Self::EmbeddingBag { width, passes, rate } => {
                write!(f, " width={width} passes={passes} rate={rate}")
            }
            Self::Mlp { width, passes, rate, decay, dropout } => write!(
                f,
                " width={width} passes={passes} rate={rate} decay={decay} dropout={dropout}"
            ),
        }
    }
}
