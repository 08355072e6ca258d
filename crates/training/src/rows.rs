//! What training reads: texts and their labels, plain.

/// Which part of a data set a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Fitted and cross-validated on.
    Train,
    /// Also fitted and cross-validated on: a model is chosen by folds, which use every row
    /// that may be learnt from, and not by one fixed part of it.
    Valid,
    /// Scored once, by the finished model file, and never looked at before.
    Test,
}

/// What several labels of one row mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    /// One class is right. A row with several labels is ambiguous: each is as likely unless
    /// shares say otherwise, and an answer is a hit when it is any of them.
    SingleChoice,
    /// Every label of a row is right, none excludes another, and there may be none.
    MultiLabel,
}

/// What the labels of one row mean, where one class is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowMeaning {
    /// Any of them is right: the row is ambiguous, or it has one label.
    AnyOf,
    /// One of them is right, and shares say how likely each is. An answer is worth the share of
    /// its class.
    Likely,
}

/// The labels of rows, in the order of the rows.
#[derive(Clone, Debug)]
pub struct RowLabels {
    offsets: Vec<usize>,
    codes: Vec<u32>,
    shares: Vec<f32>,
    /// `None` for a row that nobody labelled.
    meanings: Vec<Option<RowMeaning>>,
}

impl Default for RowLabels {
    fn default() -> Self {
        Self { offsets: vec![0], codes: Vec::new(), shares: Vec::new(), meanings: Vec::new() }
    }
}

impl RowLabels {
    pub fn new() -> Self {
        Self::default()
    }

    /// A row that nobody labelled.
    pub fn push_unlabelled(&mut self) {
        self.push(std::iter::empty(), None);
    }

    /// A row with one label: a position in [`TrainingRows::label_names`].
    pub fn push_one(&mut self, code: u32) {
        self.push(std::iter::once((code, 1.0)), Some(RowMeaning::AnyOf));
    }

    /// A row with these labels, each counting the same. In a multi-label task the list may be
    /// empty, which says that no class applies; in a single-choice task an empty list is a row
    /// without label.
    pub fn push_several(&mut self, codes: &[u32]) {
        self.push(codes.iter().map(|&code| (code, 1.0)), Some(RowMeaning::AnyOf));
    }

    /// A row with probabilistic labels. Shares are brought to a sum of one in a single-choice task.
    pub fn push_shares(&mut self, shares: &[(u32, f32)]) {
        self.push(shares.iter().copied(), Some(RowMeaning::Likely));
    }

    fn push(&mut self, labels: impl Iterator<Item = (u32, f32)>, meaning: Option<RowMeaning>) {
        for (code, share) in labels {
            self.codes.push(code);
            self.shares.push(share);
        }
        self.offsets.push(self.codes.len());
        self.meanings.push(meaning);
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.meanings.len()
    }

    pub fn is_empty(&self) -> bool {
        self.meanings.is_empty()
    }

    /// The codes and shares of a row; `None` where nobody labelled it.
    pub fn row(&self, row: usize) -> Option<(&[u32], &[f32])> {
        let range = self.offsets[row]..self.offsets[row + 1];
        self.meanings[row].map(|_| (&self.codes[range.clone()], &self.shares[range]))
    }

    /// What the labels of a row mean; `None` where nobody labelled it.
    pub fn meaning(&self, row: usize) -> Option<RowMeaning> {
        self.meanings[row]
    }
}

/// The rows of a data set, column by column. Every column has one entry a row.
#[derive(Clone, Debug)]
pub struct TrainingRows<'a> {
    pub kind: LabelKind,
    /// The distinct labels as they stand in the data; codes are positions in this list.
    pub label_names: Vec<String>,
    pub texts: Vec<&'a str>,
    pub labels: RowLabels,
    pub splits: Vec<Split>,
    /// By which reports name rows.
    pub row_ids: Vec<u64>,
    /// What each row counts, above or equal to zero; `None` when all count the same.
    pub weights: Option<Vec<f32>>,
}

impl<'a> TrainingRows<'a> {
    /// No rows: a taxonomy's own texts are learnt from then, and others may be pushed.
    pub fn none(kind: LabelKind) -> Self {
        Self {
            kind,
            label_names: Vec::new(),
            texts: Vec::new(),
            labels: RowLabels::new(),
            splits: Vec::new(),
            row_ids: Vec::new(),
            weights: None,
        }
    }

    /// Rows with one label each, all in the training split, numbered from 0.
    pub fn single_choice(
        label_names: Vec<String>,
        rows: impl IntoIterator<Item = (&'a str, u32)>,
    ) -> Self {
        let mut labels = RowLabels::new();
        let texts: Vec<&str> = rows
            .into_iter()
            .map(|(text, code)| {
                labels.push_one(code);
                text
            })
            .collect();
        Self {
            kind: LabelKind::SingleChoice,
            label_names,
            splits: vec![Split::Train; texts.len()],
            row_ids: (0..texts.len() as u64).collect(),
            texts,
            labels,
            weights: None,
        }
    }
}
