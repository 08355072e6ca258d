//! A fitted lexicon: from text to sparse row.

use std::borrow::Cow;
use std::sync::LazyLock;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::config::{LexicalConfig, LexicalError, Normalisation, Weighting};
use super::grams::GramBuffers;
use super::order;
use super::table::{self, Bucket};
use super::text::{Unit, prepare};
use super::vocabulary;
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
}

impl LexiconShape {
    /// The number of features.
    pub fn columns(&self) -> usize {
        self.block_ends.last().map_or(0, |&end| end as usize)
    }
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
        let blocks = vocabulary::choose(texts, config);
        let features: usize = blocks.iter().map(Vec::len).sum();
        if features == 0 {
            return Err(LexicalError::EmptyVocabulary { texts: texts.len() });
        }
        if features > MAX_FEATURES {
            return Err(LexicalError::TooManyFeatures { features, limit: MAX_FEATURES });
        }
        let mut hashes = Vec::with_capacity(features);
        let mut weights = Vec::with_capacity(features);
        let mut block_ends = Vec::with_capacity(blocks.len());
        for (kept, block) in blocks.iter().zip(&config.blocks) {
            hashes.extend(kept.iter().map(|kept| kept.hash));
            weights.extend(kept.iter().map(|kept| match block.weighting {
                Weighting::TfIdf { .. } => {
                    let rarity = (1.0 + texts.len() as f64) / (1.0 + f64::from(kept.documents));
                    (rarity.ln() + 1.0) as f32
                }
                Weighting::Binary | Weighting::Counts => 1.0,
            }));
            block_ends.push(hashes.len() as u32);
        }
        let shape =
            LexiconShape { config: config.clone(), documents: texts.len() as u64, block_ends };
        Ok(Self {
            shape: Cow::Owned(shape),
            buckets: Cow::Owned(table::build(&hashes)),
            weights: Cow::Owned(weights),
        })
    }
}

impl<'a> Lexicon<'a> {
    /// A lexicon over arrays of a model file. The caller has checked that `weights` has one
    /// entry for each column, that there are as many block ends as blocks, rising, and that
    /// the settings are sound; what stands in the arrays need not be.
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

    /// What each feature's frequency is multiplied by: its idf, or 1.
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
            self.look_up(hashes, block_start..block_end, features);
            order::sort(features, spare, block_start, block_end);
            let first = indices.len();
            for run in features.chunk_by(|a, b| a == b) {
                let frequency = match block.weighting {
                    Weighting::TfIdf { sublinear: true } => sublinear(run.len()),
                    Weighting::TfIdf { .. } | Weighting::Counts => run.len() as f32,
                    Weighting::Binary => 1.0,
                };
                indices.push(run[0]);
                values.push(frequency * self.weights[run[0] as usize]);
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

    fn look_up(&self, hashes: &[u64], block: std::ops::Range<u32>, features: &mut Vec<u32>) {
        features.clear();
        features.extend(
            hashes
                .iter()
                .filter_map(|&hash| table::find(&self.buckets, hash))
                .filter(|feature| block.contains(feature)),
        );
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
