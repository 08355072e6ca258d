//! How texts of no class are refused, for reports.

use serde::{Deserialize, Serialize};

use super::quoted;

/// How a model refuses texts, and how well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusalSummary {
    /// The label of rows of no class.
    pub none_label: String,
    pub score: RefusalKind,
    /// From which score on a text is refused.
    pub threshold: f64,
    /// How far the accuracy on rows of a class was allowed to fall, as a share of them.
    pub cost: f64,
    pub judged_by: RefusalRows,
    /// How many rows of no class the detector is fitted on; 0 where there is none.
    pub fitted_none_rows: u64,
    /// Which rows the detector is fitted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fitted_on: Option<RefusalRows>,
    /// What was chosen among.
    pub tried: Vec<RefusalTry>,
    /// On the rows that score and threshold were chosen by, each scored by an ensemble that
    /// had not seen it.
    pub held_out: RefusalScores,
    /// The model file on the test split, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<RefusalScores>,
}

/// What says that a text is of no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// A low highest probability.
    Doubt,
    /// Probabilities that are spread over many classes.
    Entropy,
    /// A logistic regression over what members say.
    Detector,
}

impl RefusalKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Doubt => "doubt",
            Self::Entropy => "entropy",
            Self::Detector => "detector",
        }
    }
}

/// Rows that refusals are learnt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalRows {
    /// Those of the split train alone.
    TrainRows,
    /// Those of the split valid alone.
    ValidRows,
    /// Those of the splits train and valid.
    AllRows,
}

impl RefusalRows {
    const fn as_str(self) -> &'static str {
        match self {
            Self::TrainRows => "the split train",
            Self::ValidRows => "the split valid",
            Self::AllRows => "the splits train and valid",
        }
    }
}

/// A score that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefusalTry {
    pub score: RefusalKind,
    /// The share of rows of no class that it refuses, the mean over half the cost, the cost and
    /// twice the cost.
    pub refused_none: f64,
}

/// What refusals do to rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RefusalScores {
    /// Rows of a class.
    pub in_scope_rows: u64,
    /// The accuracy on them when every text is answered.
    pub accuracy_without: f64,
    /// The accuracy on them with refusals, a refused row being an error.
    pub accuracy: f64,
    /// The share of them that is refused.
    pub refused_in_scope: f64,
    /// Rows of no class.
    pub none_rows: u64,
    /// The share of them that is refused.
    pub refused_none: f64,
}

impl RefusalSummary {
    /// What a person should know of it.
    pub fn sentence(&self) -> String {
        let score = match self.score {
            RefusalKind::Doubt => "a low highest probability".to_owned(),
            RefusalKind::Entropy => "the entropy of its probabilities".to_owned(),
            RefusalKind::Detector => format!(
                "a detector fitted on {} rows labelled {} of {}",
                self.fitted_none_rows,
                quoted(&self.none_label),
                self.fitted_on.unwrap_or(self.judged_by).as_str()
            ),
        };
        format!(
            "a text is taken for none of the classes by {score}, from {:.3} on; chosen by rows of \
             {}, for at most {:.1} points of accuracy",
            self.threshold,
            self.judged_by.as_str(),
            100.0 * self.cost
        )
    }
}
