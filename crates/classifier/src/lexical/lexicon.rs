//! A fitted lexicon: from text to sparse row.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::config::{
    BlockConfig, Grams, LexicalConfig, LexicalError, Normalisation, Vocabulary, Weighting,
};
use super::grams::GramBuffers;
use super::order;
use super::table::{self, Bucket};
use super::text::{Unit, prepare};
use super::vocabulary::{self, Counted, Kept, hashed_column};
use crate::rows::{SparseRow, SparseRows};

/// Features in one lexicon. Weights for as many fill tens of gigabytes.
pub const MAX_FEATURES: usize = 1 << 28;
/// Characters for which buffers are kept. A longer text's are given back with the next one.
const KEPT_UNITS: usize = 1 << 16;
/// Texts turned into rows by one task.
const TEXTS_PER_TASK: usize = 256;

/// What a lexicon is apart from its arrays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LexiconShape {
    pub config: LexicalConfig,
    /// The number of texts it was fitted on.
    pub documents: u64,
    /// The column after each block's last.
    pub block_ends: Vec<u32>,
    /// The n-grams that a text had on average in each block, where a block weighs by them;
    /// empty otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub average_lengths: Vec<f32>,
}

impl LexiconShape {
    /// The number of features.
    pub fn columns(&self) -> usize {
        self.block_ends.last().map_or(0, |&end| end as usize)
    }

    /// Whether a lexicon can be of this shape: what fitting makes can, what stands in a file
    /// need not.
    pub(crate) fn is_sound(&self) -> bool {
        let blocks = &self.config.blocks;
        let starts = std::iter::once(0).chain(self.block_ends.iter().copied());
        let hashed_columns_fit = || {
            blocks.iter().zip(starts).zip(&self.block_ends).all(
                |((block, start), &end)| match block.vocabulary {
                    Vocabulary::Learnt => true,
                    Vocabulary::Hashed { bits } => end - start == 1 << bits,
                },
            )
        };
        let lengths = &self.average_lengths;
        self.config.check().is_ok()
            && self.block_ends.len() == blocks.len()
            && self.block_ends.is_sorted()
            && self.columns() <= MAX_FEATURES
            && hashed_columns_fit()
            && lengths.len() == if weighs_lengths(&self.config) { blocks.len() } else { 0 }
            && lengths.iter().all(|length| length.is_finite() && *length >= 0.0)
    }

    /// What of the format this lexicon uses that its first readers did not know.
    pub(crate) fn later_features(&self) -> impl Iterator<Item = &'static str> {
        let blocks = || self.config.blocks.iter();
        let uses = [
            (BM25_FEATURE, weighs_lengths(&self.config)),
            (
                FIRST_WORDS_FEATURE,
                blocks().any(|block| matches!(block.grams, Grams::FirstWords { .. })),
            ),
            (
                HASHED_FEATURE,
                blocks().any(|block| matches!(block.vocabulary, Vocabulary::Hashed { .. })),
            ),
        ];
        uses.into_iter().filter(|(_, used)| *used).map(|(feature, _)| feature)
    }
}

/// The words by which model files say what their lexicons use.
pub(crate) const BM25_FEATURE: &str = "bm25";
pub(crate) const FIRST_WORDS_FEATURE: &str = "first_words";
pub(crate) const HASHED_FEATURE: &str = "hashed_vocabulary";

fn weighs_lengths(config: &LexicalConfig) -> bool {
    config.blocks.iter().any(|block| matches!(block.weighting, Weighting::Bm25 { .. }))
}

/// What the frequency of an n-gram in so many texts is multiplied by.
fn weight_of(weighting: Weighting, documents: u32, texts: usize) -> f32 {
    let (documents, texts) = (f64::from(documents), texts as f64);
    let weight = match weighting {
        Weighting::TfIdf { .. } => ((1.0 + texts) / (1.0 + documents)).ln() + 1.0,
        Weighting::Bm25 { .. } => (1.0 + (texts - documents + 0.5) / (documents + 0.5)).ln(),
        Weighting::Binary | Weighting::Counts => 1.0,
    };
    weight as f32
}

/// A vocabulary with its weights. It owns its arrays after fitting and borrows them from a
/// model file.
#[derive(Clone, Debug, PartialEq)]
pub struct Lexicon<'a> {
    shape: Cow<'a, LexiconShape>,
    /// See the table module.
    buckets: Cow<'a, [Bucket]>,
    /// What a feature's frequency is multiplied by.
    weights: Cow<'a, [f32]>,
}

/// Buffers for turning texts into rows, kept from text to text; one for each thread.
#[derive(Debug, Default)]
pub struct LexicalScratch {
    units: Vec<Unit>,
    grams: GramBuffers,
    hashes: Vec<u64>,
    features: Vec<u32>,
    spare: Vec<u32>,
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl LexicalScratch {
    /// The row that was made last.
    pub fn row(&self) -> SparseRow<'_> {
        SparseRow { indices: &self.indices, values: &self.values }
    }
}

impl Lexicon<'static> {
    /// Learns which n-grams there are in `texts`, and their weights.
    ///
    /// The answer depends on the texts and the settings alone, not on the number of threads
    /// nor, but for the order of equally frequent features, on the order of the texts.
    pub fn fit<T: AsRef<str> + Sync>(
        texts: &[T],
        config: &LexicalConfig,
    ) -> Result<Self, LexicalError> {
        config.check()?;
        let counted = vocabulary::choose(texts, config);
        if counted.iter().all(|block| block.kept.is_empty()) {
            return Err(LexicalError::EmptyVocabulary { texts: texts.len() });
        }
        let columns_of = |(counted, block): (&Counted, &BlockConfig)| match block.vocabulary {
            Vocabulary::Learnt => counted.kept.len(),
            Vocabulary::Hashed { bits } => 1 << bits,
        };
        let features: usize = counted.iter().zip(&config.blocks).map(columns_of).sum();
        if features > MAX_FEATURES {
            return Err(LexicalError::TooManyFeatures { features, limit: MAX_FEATURES });
        }
        let mut entries = Vec::new();
        let mut weights = Vec::with_capacity(features);
        let mut block_ends = Vec::with_capacity(counted.len());
        for (counted, block) in counted.iter().zip(&config.blocks) {
            let weight = |kept: &Kept| weight_of(block.weighting, kept.documents, texts.len());
            match block.vocabulary {
                Vocabulary::Learnt => {
                    let first = weights.len() as u32;
                    entries.extend(counted.kept.iter().map(|kept| kept.hash).zip(first..));
                    weights.extend(counted.kept.iter().map(weight));
                }
                Vocabulary::Hashed { bits } => {
                    let first = weights.len();
                    weights.resize(first + (1 << bits), 0.0);
                    for kept in &counted.kept {
                        weights[first + kept.hash as usize] = weight(kept);
                    }
                }
            }
            block_ends.push(weights.len() as u32);
        }
        let average = |counted: &Counted| (counted.grams as f64 / texts.len() as f64) as f32;
        let average_lengths = match weighs_lengths(config) {
            true => counted.iter().map(average).collect(),
            false => Vec::new(),
        };
        let documents = texts.len() as u64;
        let shape = LexiconShape { config: config.clone(), documents, block_ends, average_lengths };
        Ok(Self {
            shape: Cow::Owned(shape),
            buckets: Cow::Owned(table::build(&entries)),
            weights: Cow::Owned(weights),
        })
    }
}

impl<'a> Lexicon<'a> {
    /// A lexicon over arrays of a model file. The caller has checked that `weights` has one
    /// entry for each column and that the shape is sound; what stands in the arrays need not
    /// be.
    pub(crate) const fn borrowed(
        shape: &'a LexiconShape,
        buckets: &'a [Bucket],
        weights: &'a [f32],
    ) -> Self {
        Self {
            shape: Cow::Borrowed(shape),
            buckets: Cow::Borrowed(buckets),
            weights: Cow::Borrowed(weights),
        }
    }

    pub fn shape(&self) -> &LexiconShape {
        &self.shape
    }

    pub fn config(&self) -> &LexicalConfig {
        &self.shape.config
    }

    /// The number of features: rows have indices below it.
    pub fn columns(&self) -> usize {
        self.weights.len()
    }

    /// The bytes of its arrays.
    pub fn memory_bytes(&self) -> usize {
        size_of_val(&*self.buckets) + size_of_val(&*self.weights)
    }

    pub(crate) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// What each feature's frequency is multiplied by: its idf, or 1; 0 for hashed columns that
    /// no text had or the cuts took away.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The row of a text, in `scratch`. Unknown n-grams are passed over. Allocates nothing
    /// once the scratch has grown to the texts.
    pub fn transform<'s>(&self, text: &str, scratch: &'s mut LexicalScratch) -> SparseRow<'s> {
        let config = &self.shape.config;
        if scratch.units.capacity() > KEPT_UNITS && text.len() < KEPT_UNITS / 2 {
            *scratch = LexicalScratch::default();
        }
        let LexicalScratch { units, grams, hashes, features, spare, indices, values } = scratch;
        prepare(text, config.case, config.accents, units);
        indices.clear();
        values.clear();
        let mut block_start = 0;
        for (index, block) in config.blocks.iter().enumerate() {
            let block_end = self.shape.block_ends[index];
            grams.hash(units, index, block.grams, hashes);
            self.look_up(hashes, block.vocabulary, block_start..block_end, features);
            order::sort(features, spare, block_start, block_end);
            let frequency = self.frequency(index, hashes.len());
            let first = indices.len();
            for run in features.chunk_by(|a, b| a == b) {
                let weight = self.weights[run[0] as usize];
                if weight != 0.0 {
                    indices.push(run[0]);
                    values.push(frequency(run.len()) * weight);
                }
            }
            let row = &mut values[first..];
            match config.normalisation {
                Normalisation::PerBlock => normalise(row, block.scale),
                Normalisation::Joint | Normalisation::Nothing if block.scale != 1.0 => {
                    row.iter_mut().for_each(|value| *value *= block.scale);
                }
                Normalisation::Joint | Normalisation::Nothing => {}
            }
            block_start = block_end;
        }
        if config.normalisation == Normalisation::Joint {
            normalise(values, 1.0);
        }
        scratch.row()
    }

    fn look_up(
        &self,
        hashes: &[u64],
        vocabulary: Vocabulary,
        block: Range<u32>,
        features: &mut Vec<u32>,
    ) {
        features.clear();
        match vocabulary {
            Vocabulary::Learnt => features.extend(
                hashes
                    .iter()
                    .filter_map(|&hash| table::find(&self.buckets, hash))
                    .filter(|feature| block.contains(feature)),
            ),
            Vocabulary::Hashed { bits } => features
                .extend(hashes.iter().map(|&hash| block.start + hashed_column(hash, bits) as u32)),
        }
    }

    /// What a count becomes, before its weight, in a text with so many n-grams of the block.
    fn frequency(&self, block: usize, length: usize) -> impl Fn(usize) -> f32 + use<> {
        let weighting = self.shape.config.blocks[block].weighting;
        let saturation = match weighting {
            Weighting::Bm25 { k1, b } => {
                let (k1, b) = (f64::from(k1), f64::from(b));
                let average = f64::from(self.shape.average_lengths[block]).max(f64::MIN_POSITIVE);
                k1 * (1.0 - b + b * length as f64 / average)
            }
            _ => 0.0,
        };
        move |count| match weighting {
            Weighting::TfIdf { sublinear: true } => sublinear(count),
            Weighting::TfIdf { .. } | Weighting::Counts => count as f32,
            Weighting::Binary => 1.0,
            Weighting::Bm25 { k1, .. } => {
                let count = count as f64;
                (count * (f64::from(k1) + 1.0) / (count + saturation)) as f32
            }
        }
    }

    /// The rows of many texts, on all threads of the current pool.
    pub fn transform_all<T: AsRef<str> + Sync>(&self, texts: &[T]) -> SparseRows {
        let parts: Vec<SparseRows> = texts
            .par_chunks(TEXTS_PER_TASK)
            .map_init(LexicalScratch::default, |scratch, texts| {
                let mut rows = SparseRows::new(self.columns());
                for text in texts {
                    rows.push(self.transform(text.as_ref(), scratch));
                }
                rows
            })
            .collect();
        SparseRows::concatenate(self.columns(), &parts)
    }
}

/// `1 + ln(count)`.
fn sublinear(count: usize) -> f32 {
    /// Those of nearly all counts, so that no logarithm is taken for them.
    static FEW: LazyLock<[f32; 64]> = LazyLock::new(|| std::array::from_fn(exact));
    fn exact(count: usize) -> f32 {
        (1.0 + (count as f64).ln()) as f32
    }
    FEW.get(count).copied().unwrap_or_else(|| exact(count))
}

/// Brings values to the L2 norm `norm`; zeros stay.
fn normalise(values: &mut [f32], norm: f32) {
    let squares: f64 = values.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    if squares > 0.0 {
        let factor = (f64::from(norm) / squares.sqrt()) as f32;
        values.iter_mut().for_each(|value| *value *= factor);
    }
}
