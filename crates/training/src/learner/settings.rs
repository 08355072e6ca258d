//! The kinds of learners with their settings, and what a search asks of a kind.

use std::fmt;

use corral_classifier::HeadError;
use serde::{Deserialize, Serialize};

use super::lanes::Lanes;
use super::rows::blocks_for;
use super::softmax::SoftmaxSettings;
use super::svm::SvmSettings;
use super::{Fitted, HeadBudget, Problem, one_vs_rest, regression, softmax, svm};

/// A learner with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LearnerSettings {
    /// One-vs-rest support vector machines with squared hinge loss; `cost` is LIBLINEAR's C.
    LinearSvm { cost: f32 },
    /// Multinomial logistic regression; `cost` is scikit-learn's C.
    Softmax { cost: f32 },
}

/// How far a fit is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

/// Nanoseconds of CPU of a whole fit, for each feature value and block of [`super::LANES`]
/// classes, on one core of a server of 2023.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuNanos {
    pub sparse: f64,
    pub dense: f64,
}

impl LearnerSettings {
    /// The word by which reports name the learner.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LinearSvm { .. } => "linear_svm",
            Self::Softmax { .. } => "softmax",
        }
    }

    pub const fn abilities(&self) -> Abilities {
        match self {
            Self::LinearSvm { .. } => {
                Abilities { multi_label: true, shares: false, class_weights: true }
            }
            Self::Softmax { .. } => {
                Abilities { multi_label: false, shares: true, class_weights: true }
            }
        }
    }

    /// What a fit takes, measured on Banking77, CLINC150 and O*NET.
    pub const fn cpu_nanos(&self) -> CpuNanos {
        match self {
            Self::LinearSvm { .. } => CpuNanos { sparse: 45.0, dense: 14.0 },
            Self::Softmax { .. } => CpuNanos { sparse: 50.0, dense: 25.0 },
        }
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
            match path[0] {
                Self::LinearSvm { .. } => {
                    let path: Vec<SvmSettings> =
                        costs(path).map(|cost| SvmSettings::new(cost, effort)).collect();
                    one_vs_rest::fit_path(problem, &path, budget, take)?;
                }
                Self::Softmax { .. } => {
                    let path: Vec<SoftmaxSettings> =
                        costs(path).map(|cost| SoftmaxSettings::new(cost, effort)).collect();
                    regression::fit_path(problem, &path, budget, take)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a fit of one can start where a fit of the other ended: they differ in cost
    /// alone.
    pub const fn shares_path(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::LinearSvm { .. }, Self::LinearSvm { .. })
            | (Self::Softmax { .. }, Self::Softmax { .. }) => true,
            (Self::LinearSvm { .. } | Self::Softmax { .. }, _) => false,
        }
    }

    /// What the errors of a fit cost against the length of its weights, where there is such a
    /// setting. Paths are best taken upwards.
    pub const fn cost(&self) -> Option<f32> {
        match *self {
            Self::LinearSvm { cost } | Self::Softmax { cost } => Some(cost),
        }
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
            Self::LinearSvm { .. } => weights + threads * svm::block_memory_bytes(columns, rows),
            Self::Softmax { .. } => softmax::memory_bytes(columns, rows, classes),
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
            Self::LinearSvm { cost } | Self::Softmax { cost } => write!(f, " C={cost}"),
        }
    }
}
