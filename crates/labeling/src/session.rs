//! A data set that somebody is writing functions for: rows taken out beforehand, so that an edit
//! is answered from those at once, and from all rows soon after.

use std::sync::Arc;

use corral_data::{Batch, Dataset, Manifest};
use corral_labels::{
    BlockGold, Gold, LabelArity, SetStatistics, VoteCounts, VoteLayer, VoteTable, set_statistics,
};
use corral_types::BlobHash;
use rayon::prelude::*;

use crate::block::Block;
use crate::cache::VoteCache;
use crate::classes::Classes;
use crate::definition::Function;
use crate::error::LabelingError;
use crate::program::{Program, Runner};
use crate::suggest::{Source, Suggestion, suggest};
use crate::votes::{Rows, TEST_SPLIT, Watch, check_columns, classes_of_labels, gold, vote_table};

/// Rows that a first answer is made of, spread evenly, and gold rows beside them: what ten
/// functions go through in some milliseconds.
const SAMPLE_ROWS: u64 = 16_384;
const SAMPLE_GOLD_ROWS: u64 = 16_384;

/// Whether statistics are of all rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Of the gold rows and a sample.
    Sample,
    Exact,
}

/// Statistics of a program's functions.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub stage: Stage,
    pub statistics: SetStatistics,
}

/// The votes on all rows, with what was counted of them.
pub struct Exact {
    pub table: VoteTable,
    pub counts: VoteCounts,
    pub gold: Gold,
}

impl Exact {
    pub fn answer(&self) -> Answer {
        Answer { stage: Stage::Exact, statistics: set_statistics(&self.table, &self.counts) }
    }
}

/// Looks up or computes the votes on all rows and counts them.
///
/// # Errors
/// As [`vote_table`].
pub fn exact(
    program: &Program,
    rows: &Rows<'_>,
    arity: LabelArity,
    cache: &VoteCache,
    watch: &dyn Watch,
) -> Result<Exact, LabelingError> {
    let table = vote_table(program, rows, arity, cache, watch)?;
    let gold = gold(rows, &program.classes)?;
    let counts = VoteCounts::of(&table, &gold);
    Ok(Exact { table, counts, gold })
}

/// Rows taken out of a version of a data set.
pub struct Session {
    manifest: Arc<Manifest>,
    sample: Taken,
    gold: Taken,
    /// The votes on the rows taken out.
    cache: VoteCache,
}

/// Rows of a data set, with their label codes.
#[derive(Default)]
pub struct Taken {
    pub blocks: Vec<Block>,
    labels: Vec<Vec<Vec<u32>>>,
    /// Stands for the part in the cache.
    name: Option<BlobHash>,
}

impl Session {
    /// Takes out the rows. Gold rows are labelled ones outside the split `test`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(rows: &Rows<'_>) -> Result<Self, LabelingError> {
        let manifest = Arc::clone(&rows.manifest);
        let statistics = &manifest.statistics;
        let step = (statistics.rows / SAMPLE_ROWS).max(1);
        let labelled = statistics.rows - statistics.unlabelled_rows;
        let gold_step = (labelled / SAMPLE_GOLD_ROWS).max(1);
        let test = manifest.split_code(TEST_SPLIT);
        let (mut sample, mut gold) = (Taken::default(), Taken::default());
        let (mut seen, mut gold_seen) = (0u64, 0u64);
        for part in 0..manifest.parts.len() {
            let dataset = Dataset::open_parts(Arc::clone(&manifest), part..part + 1, rows.store)?;
            for batch in dataset.iter() {
                let batch = batch?;
                let (mut taken, mut labelled) = (Vec::new(), Vec::new());
                for row in 0..batch.len() {
                    if seen.is_multiple_of(step) {
                        taken.push(row as u32);
                    }
                    seen += 1;
                    let is_test = test.is_some() && batch.split(row) == test;
                    if !is_test && !batch.labels().codes(row).is_empty() {
                        if gold_seen.is_multiple_of(gold_step) {
                            labelled.push(row as u32);
                        }
                        gold_seen += 1;
                    }
                }
                sample.take(&batch, &taken);
                gold.take(&batch, &labelled);
            }
        }
        sample.name = Some(BlobHash::of(b"sample"));
        gold.name = Some(BlobHash::of(b"gold"));
        Ok(Self { manifest, sample, gold, cache: VoteCache::new(None) })
    }

    /// Whether a first answer is worth making: not where all rows are as quick.
    pub fn is_worth_it(&self) -> bool {
        self.manifest.rows() > 2 * SAMPLE_ROWS
    }

    /// Statistics from the rows taken out: shares of rows from the sample, precision and recall
    /// from the gold rows.
    ///
    /// # Errors
    /// When a function looks at a column that is not there.
    pub fn answer(&self, program: &Program, arity: LabelArity) -> Result<Answer, LabelingError> {
        check_columns(program, &self.manifest)?;
        let (table, mut counts) = self.counted(&self.sample, program, arity)?;
        let (_, of_gold) = self.counted(&self.gold, program, arity)?;
        counts.gold_rows = of_gold.gold_rows;
        counts.gold_of_class = of_gold.gold_of_class;
        counts.item_gold = of_gold.item_gold;
        counts.item_right = of_gold.item_right;
        counts.item_gold_of_class = of_gold.item_gold_of_class;
        Ok(Answer { stage: Stage::Sample, statistics: set_statistics(&table, &counts) })
    }

    /// Functions that might be added, the most useful first.
    ///
    /// # Errors
    /// When a function looks at a column that is not there.
    pub fn suggest(
        &self,
        functions: &[Function],
        program: &Program,
        arity: LabelArity,
        limit: usize,
    ) -> Result<(Source, Vec<Suggestion>), LabelingError> {
        check_columns(program, &self.manifest)?;
        let (table, _) = self.counted(&self.sample, program, arity)?;
        let of_label = classes_of_labels(&self.manifest, &program.classes);
        let known = |codes: &Vec<u32>| -> Vec<u32> {
            codes.iter().filter_map(|&code| of_label[code as usize]).collect()
        };
        let labels: Vec<Vec<Vec<u32>>> =
            self.gold.labels.iter().map(|block| block.iter().map(known).collect()).collect();
        let sample = (&self.sample, &table);
        Ok(suggest(functions, &program.classes, sample, (&self.gold, &labels), limit))
    }

    fn counted(
        &self,
        taken: &Taken,
        program: &Program,
        arity: LabelArity,
    ) -> Result<(VoteTable, VoteCounts), LabelingError> {
        let mut table = VoteTable::new(program.voters(), program.classes.len(), arity);
        let name = taken.name.unwrap_or_else(|| BlobHash::of(b""));
        let mut layers: Vec<Option<Arc<VoteLayer>>> =
            program.functions.iter().map(|ready| self.cache.get(ready.hash, name)).collect();
        let missing: Vec<usize> = (0..layers.len()).filter(|&at| layers[at].is_none()).collect();
        if !missing.is_empty() {
            let runner = Runner::new(program, missing.clone())?;
            let blocks: Vec<_> = taken.blocks.par_iter().map(|block| runner.run(block)).collect();
            let mut by_function = vec![VoteLayer::default(); missing.len()];
            for votes in blocks {
                for (layer, votes) in by_function.iter_mut().zip(votes) {
                    layer.blocks.push(votes);
                }
            }
            for (at, layer) in missing.into_iter().zip(by_function) {
                let layer = Arc::new(layer);
                self.cache.put(program.functions[at].hash, name, &layer);
                layers[at] = Some(layer);
            }
        }
        let known = layers.into_iter().map(|layer| layer.expect("known or computed"));
        table.push_part(known.collect());
        let counts = VoteCounts::of(&table, &taken.gold(&self.manifest, &program.classes));
        Ok((table, counts))
    }
}

impl Taken {
    fn take(&mut self, batch: &Batch, rows: &[u32]) {
        if rows.is_empty() {
            return;
        }
        self.blocks.push(Block::taken(batch, rows));
        let codes = |row: &u32| batch.labels().codes(*row as usize).to_vec();
        self.labels.push(rows.iter().map(codes).collect());
    }

    /// The labels of the rows taken out, as classes.
    fn gold(&self, manifest: &Manifest, classes: &Classes) -> Gold {
        let of_label = classes_of_labels(manifest, classes);
        let of_block = |labels: &Vec<Vec<u32>>| {
            let mut gold = BlockGold::default();
            for (row, codes) in labels.iter().enumerate() {
                let known: Vec<u32> =
                    codes.iter().filter_map(|&code| of_label[code as usize]).collect();
                gold.push(row, &known);
            }
            gold
        };
        Gold { parts: vec![self.labels.iter().map(of_block).collect()] }
    }
}
