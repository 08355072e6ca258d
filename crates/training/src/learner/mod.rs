//! Learners: from rows and right answers to a head.
//!
//! [`LearnerSettings`] is the one place that knows what kinds there are; everything a search
//! asks of a kind is a method of it. Each kind's mathematics has a module that reads rows and
//! writes weights in blocks of sixteen classes.

mod blocks;
mod centroid;
mod cholesky;
mod class_sums;
mod complement_bayes;
mod count_ratios;
mod dense;
#[cfg(test)]
mod golden_tests;
mod kernel;
pub(crate) mod lanes;
mod linear_head;
mod local;
mod neighbours;
mod network;
mod one_vs_rest;
mod regression;
mod row_problem;
mod rows;
mod settings;
mod softmax;
mod svm;

use std::time::Duration;

use corral_classifier::{Head, Link};

pub use complement_bayes::BayesWeights;
pub use kernel::MAX_KERNEL_ROWS;
pub use lanes::{LANES, Lanes};
pub use linear_head::HeadBudget;
pub use rows::{DenseView, FeatureRows, SparseView, blocks_for};
pub use settings::{Abilities, FitEffort, FitShape, LearnerSettings};
pub use softmax::{SoftmaxSettings, SoftmaxTargets, SoftmaxWeights, fit as fit_softmax};
pub use svm::{
    BlockScaling, BlockTargets, BlockWeights, Loss, SvmSettings, fit_block as fit_svm_block,
};

use crate::parents::Parents;
use crate::targets::Targets;

/// What a learner is to fit.
#[derive(Clone, Copy)]
pub struct Problem<'a> {
    pub features: FeatureRows<'a>,
    /// Of all rows, scales applied.
    pub squared_norms: &'a [f32],
    /// The rows to fit on, none of them without weight.
    pub rows: &'a [u32],
    pub class_count: usize,
    /// Of all rows.
    pub targets: &'a Targets,
    /// Of all rows.
    pub row_weights: &'a [f32],
    /// What an example of each class counts; 1 is usual.
    pub class_weights: &'a [f32],
    /// The parents of classes, by which local models choose; without them, they choose among
    /// all classes.
    pub parents: Option<&'a Parents>,
    /// Whether rows have one class, or any number.
    pub link: Link,
    pub seed: u64,
    /// Asked between passes whether to give up.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// A head and what it took.
#[derive(Debug)]
pub struct Fitted {
    pub head: Head<'static>,
    pub cpu: Duration,
    /// Passes over the rows, of the class block that took most.
    pub passes: usize,
}
