//! Training: from labelled texts to one calibrated model file.
//!
//! [`train`] checks the rows and resolves their labels, computes each feature block once,
//! cross-validates candidates (a featurizer and a learner with settings) as trials over shared
//! folds, joins the best in an ensemble, fits its members on all rows, calibrates with the
//! predictions of held-out rows, writes the model file, and scores the test split with that
//! file. Blocking code on its own thread pool; what it says goes to an [`Observer`].
//!
//! The learners ([`learner`]) solve their problems in the dual for all classes at once, so
//! that a row's features are read once for sixteen classes. Everything is seeded and summed in
//! fixed order: the same rows, options and seed give the same bytes for any number of threads.

mod analysis;
mod block_cache;
mod calibrate;
mod candidate;
mod checkpoint;
mod clock;
mod confidence;
mod ensemble;
mod error;
mod features;
mod fingerprint;
mod folds;
mod latency;
pub mod learner;
mod lexicons;
mod memory;
pub mod metrics;
mod multi_label;
mod observer;
mod options;
mod parents;
mod plan;
mod prepare;
mod progress;
mod random;
mod refit;
mod refusal;
mod report;
mod rows;
mod sampler;
mod search;
mod space;
mod targets;
mod task_shape;
mod train;
mod trial;
mod weak;

pub use block_cache::BlockCache;
pub use calibrate::{Sigmoid, fit_sigmoid, fit_temperature};
pub use candidate::Candidate;
pub use error::TrainError;
pub use features::{BlocksNeeded, FeatureBlocks, FeaturizerSettings, LexicalBlock};
pub use folds::{ALWAYS_FITTED, Folds, MAX_FOLDS, groups_by_text};
pub use learner::LearnerSettings;
pub use lexicons::{
    BM25_B, BM25_K1, FIRST_WORDS_RUN, GramLengths, LexiconSettings, LexiconWeighting,
};
pub use observer::{Observer, Unobserved};
pub use options::{ClassTexts, ClassWeighting, Metric, Price, TrainOptions};
pub use parents::Parents;
pub use plan::{Estimate, Plan};
pub use report::{
    Actual, Advice, AdviceKind, BackOffLevel, BackOffPoint, ClassReport, ConfusionReport,
    DataSummary, DuplicatePair, Duplicates, Findings, LabelError, LabelErrors, LabelledRow,
    Latency, LearningCurve, LearningPoint, MemberEffect, MemberReport, ModelReport, PAGE_FILE,
    REPORT_FILE, RefusalKind, RefusalPoint, RefusalRows, RefusalScores, RefusalSummary, RefusalTry,
    Regime, ReliabilityBin, Report, RowExample, TrialEnding, TrialReport, Warning, WarningKind,
    WeakMethod, WeakSummary, advise,
};
pub use rows::{LabelKind, RowLabels, RowMeaning, Split, TrainingRows};
pub use targets::Targets;
pub use task_shape::{EmbeddingWidths, TaskShape};
pub use train::{MODEL_FILE, TrainOutcome, train};
pub use weak::{memory_bytes as labelling_memory_bytes, most_unlabelled_rows};
