//! What is asked of the model for every row.

use corral_classifier::{ClassSubset, Model, PredictOptions, Refusals};
use serde::{Deserialize, Serialize};

use crate::BatchError;

/// The most classes that are named for a row: each takes two columns.
pub const MAX_TOP_K: u32 = 100;
/// The longest prefix of the names of the answers' columns.
pub const MAX_COLUMN_PREFIX_BYTES: usize = 64;

/// What is asked of the model for every row; the same as is asked of an endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchOptions {
    /// How many classes are named for a row.
    pub top_k: u32,
    /// Names only classes at least so probable.
    pub threshold: Option<f32>,
    /// Only classes whose id begins so.
    pub prefix: Option<String>,
    /// Asks for the deepest class that is at least so probable, with all below it.
    pub back_off: Option<f32>,
    pub refusals: RefusalsAsked,
    /// Stands before the names of the answers' columns.
    pub column_prefix: String,
}

/// Whether the model may take a row for none of its classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalsAsked {
    #[default]
    Apply,
    Ignore,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            top_k: 1,
            threshold: None,
            prefix: None,
            back_off: None,
            refusals: RefusalsAsked::Apply,
            column_prefix: String::new(),
        }
    }
}

impl BatchOptions {
    /// # Errors
    /// When a limit is passed, which is named.
    pub fn check(&self) -> Result<(), BatchError> {
        if !(1..=MAX_TOP_K).contains(&self.top_k) {
            return Err(BatchError::TopK { found: self.top_k });
        }
        let bytes = self.column_prefix.len();
        if bytes > MAX_COLUMN_PREFIX_BYTES {
            return Err(BatchError::ColumnPrefix { bytes });
        }
        for (field, found) in [("threshold", self.threshold), ("back_off", self.back_off)] {
            match found {
                Some(found) if !(0.0..=1.0).contains(&found) => {
                    return Err(BatchError::Probability { field, found });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The classes of the model that the answer is restricted to, if it is.
    ///
    /// # Errors
    /// When no class begins with the prefix.
    pub fn subset(&self, model: &Model) -> Result<Option<ClassSubset>, BatchError> {
        let subset = self.prefix.as_deref().map(|prefix| model.subset(prefix)).transpose();
        subset.map_err(|source| BatchError::Predict { source })
    }

    pub(crate) fn asked<'a>(&self, subset: Option<&'a ClassSubset>) -> PredictOptions<'a> {
        PredictOptions {
            top_k: self.top_k as usize,
            threshold: self.threshold,
            subset,
            back_off: self.back_off,
            refusals: match self.refusals {
                RefusalsAsked::Apply => Refusals::Apply,
                RefusalsAsked::Ignore => Refusals::Ignore,
            },
            ..PredictOptions::default()
        }
    }
}
