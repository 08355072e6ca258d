//! Rows that belong to no class: set apart before anything else reads them.

use corral_taxonomy::{ClassIndex, Taxonomy};

use crate::error::TrainError;
use crate::rows::{LabelKind, Split, TrainingRows};

/// Rows of no class. None of them is fitted; what the finished model makes of them chooses how
/// it refuses texts.
pub struct NoneRows<'a> {
    /// The label they carry.
    pub label: String,
    /// The texts of the splits train and valid.
    pub texts: Vec<&'a str>,
    pub is_valid: Vec<bool>,
    /// The texts of the split test.
    pub test_texts: Vec<&'a str>,
    /// Which of the rows that folds hold out are of the split valid.
    pub scored_is_valid: Vec<bool>,
    code: u32,
}

impl<'a> NoneRows<'a> {
    /// Finds the label that such rows carry; `None` where nobody named one.
    ///
    /// # Errors
    /// When no row carries the label, or rows may have several classes, where a row without any
    /// says the same.
    pub fn named(rows: &TrainingRows<'_>, label: Option<&str>) -> Result<Option<Self>, TrainError> {
        let Some(label) = label else { return Ok(None) };
        if rows.kind == LabelKind::MultiLabel {
            return Err(TrainError::NoneLabelOfSeveral { label: label.to_owned() });
        }
        let same = |name: &String| name.trim() == label.trim();
        let Some(code) = rows.label_names.iter().position(same) else {
            return Err(TrainError::NoneLabelUnknown { label: label.to_owned() });
        };
        Ok(Some(Self {
            label: label.to_owned(),
            texts: Vec::new(),
            is_valid: Vec::new(),
            test_texts: Vec::new(),
            scored_is_valid: Vec::new(),
            code: code as u32,
        }))
    }

    /// The label's code, which stands for no class.
    pub const fn code(&self) -> u32 {
        self.code
    }

    /// The class of a taxonomy that the label would name.
    pub fn class_in(&self, taxonomy: &Taxonomy) -> Option<ClassIndex> {
        let matched = taxonomy.match_labels([(self.label.as_str(), 1)]);
        matched.matched.first().map(|known| known.class)
    }

    /// Takes a row if it is of no class: if at least half of its shares say so. A row without
    /// text or weight is taken and left out.
    pub fn take(&mut self, rows: &TrainingRows<'a>, row: usize) -> bool {
        let Some((codes, shares)) = rows.labels.row(row) else { return false };
        let none = codes.iter().zip(shares).filter(|(code, _)| **code == self.code);
        let none: f32 = none.map(|(_, share)| share).sum();
        if !(none > 0.0 && none >= shares.iter().sum::<f32>() / 2.0) {
            return false;
        }
        let text = rows.texts[row];
        let counts = rows.weights.as_ref().is_none_or(|weights| weights[row] > 0.0);
        if rows.splits[row] == Split::Test {
            self.test_texts.push(text);
        } else if counts && !text.trim().is_empty() {
            self.texts.push(text);
            self.is_valid.push(rows.splits[row] == Split::Valid);
        }
        true
    }
}
