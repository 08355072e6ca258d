//! The votes of a program over a data set: what is known is taken, the rest computed part by
//! part, on all threads.
//!
//! One part is mapped at a time and of the votes only sets of rows are held, so a data set larger
//! than memory is labeled as one that fits.

use std::sync::Arc;

use corral_data::{Dataset, Manifest, PartStore};
use corral_labels::{BlockGold, Gold, LabelArity, VoteLayer, VoteTable};
use rayon::prelude::*;

use crate::block::Block;
use crate::cache::VoteCache;
use crate::classes::Classes;
use crate::error::LabelingError;
use crate::program::{Program, Runner};

/// The split whose labels are for scoring alone: functions and label models never see them.
pub const TEST_SPLIT: &str = "test";

/// A version of a data set, and where its files are.
#[derive(Clone)]
pub struct Rows<'s> {
    pub manifest: Arc<Manifest>,
    pub store: &'s dyn PartStore,
}

/// Watches work that may take long.
pub trait Watch: Sync {
    /// So many of all parts are done.
    fn advance(&self, parts: usize, of: usize);

    fn is_cancelled(&self) -> bool;
}

/// Watches nothing.
pub struct Unwatched;

impl Watch for Unwatched {
    fn advance(&self, _: usize, _: usize) {}

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Looks up or computes the votes of all functions on all rows.
///
/// # Errors
/// When a function looks at a column that is not there, a file cannot be read, or the work is
/// given up.
pub fn vote_table(
    program: &Program,
    rows: &Rows<'_>,
    arity: LabelArity,
    cache: &VoteCache,
    watch: &dyn Watch,
) -> Result<VoteTable, LabelingError> {
    check_columns(program, &rows.manifest)?;
    let mut table = VoteTable::new(program.voters(), program.classes.len(), arity);
    let parts = rows.manifest.parts.len();
    for part in 0..parts {
        table.push_part(part_layers(program, rows, part, cache, watch)?);
        watch.advance(part + 1, parts);
    }
    Ok(table)
}

fn part_layers(
    program: &Program,
    rows: &Rows<'_>,
    part: usize,
    cache: &VoteCache,
    watch: &dyn Watch,
) -> Result<Vec<Arc<VoteLayer>>, LabelingError> {
    let blob = rows.manifest.parts[part].blob;
    let mut layers: Vec<Option<Arc<VoteLayer>>> =
        program.functions.iter().map(|ready| cache.get(ready.hash, blob)).collect();
    let missing: Vec<usize> = (0..layers.len()).filter(|&at| layers[at].is_none()).collect();
    if !missing.is_empty() {
        let dataset = Dataset::open_parts(Arc::clone(&rows.manifest), part..part + 1, rows.store)?;
        let runner = Runner::new(program, missing.clone())?;
        let blocks: Vec<_> = (0..dataset.batches())
            .into_par_iter()
            .map(|index| {
                if watch.is_cancelled() {
                    return Err(LabelingError::Superseded);
                }
                Ok(runner.run(&Block::of(&dataset.batch(index)?)))
            })
            .collect::<Result<_, _>>()?;
        let mut by_function: Vec<VoteLayer> = vec![VoteLayer::default(); missing.len()];
        for votes in blocks {
            for (layer, votes) in by_function.iter_mut().zip(votes) {
                layer.blocks.push(votes);
            }
        }
        for (at, layer) in missing.into_iter().zip(by_function) {
            let layer = Arc::new(layer);
            cache.put(program.functions[at].hash, blob, &layer);
            layers[at] = Some(layer);
        }
    }
    Ok(layers.into_iter().map(|layer| layer.expect("it was known or has been computed")).collect())
}

/// Refuses functions that look at columns which are not there.
pub fn check_columns(program: &Program, manifest: &Manifest) -> Result<(), LabelingError> {
    for (column, function) in program.columns() {
        let columns = &manifest.schema.columns;
        if !columns.iter().any(|known| known.name == column) {
            let names = columns.iter().map(|known| known.name.as_str());
            let nearest = corral_types::nearest(column, names, 3);
            return Err(LabelingError::NoSuchColumn {
                function: function.to_owned(),
                column: column.to_owned(),
                nearest: nearest.into_iter().map(str::to_owned).collect(),
            });
        }
    }
    Ok(())
}

/// The labels that rows of a data set carry.
pub fn used_labels(manifest: &Manifest) -> impl Iterator<Item = &str> {
    let named = manifest.labels.names.iter().zip(manifest.class_rows());
    named.filter(|(_, rows)| *rows > 0).map(|(name, _)| name.as_str())
}

/// The class of each label of a data set; `None` for labels that are no class.
pub fn classes_of_labels(manifest: &Manifest, classes: &Classes) -> Vec<Option<u32>> {
    manifest.labels.names.iter().map(|label| classes.position(label)).collect()
}

/// The labelled rows outside the split `test`: what people are taken at their word for.
///
/// # Errors
/// When a file cannot be read.
pub fn gold(rows: &Rows<'_>, classes: &Classes) -> Result<Gold, LabelingError> {
    let manifest = &rows.manifest;
    let of_label = classes_of_labels(manifest, classes);
    let test = manifest.split_code(TEST_SPLIT);
    let mut gold = Gold::default();
    if manifest.statistics.unlabelled_rows == manifest.statistics.rows {
        return Ok(gold);
    }
    for part in 0..manifest.parts.len() {
        let dataset = Dataset::open_parts(Arc::clone(manifest), part..part + 1, rows.store)?;
        let blocks: Vec<BlockGold> = (0..dataset.batches())
            .into_par_iter()
            .map(|index| {
                let batch = dataset.batch(index)?;
                let mut block = BlockGold::default();
                let mut known = Vec::new();
                for row in 0..batch.len() {
                    if test.is_some() && batch.split(row) == test {
                        continue;
                    }
                    known.clear();
                    let codes = batch.labels().codes(row);
                    known.extend(codes.iter().filter_map(|&code| of_label[code as usize]));
                    block.push(row, &known);
                }
                Ok(block)
            })
            .collect::<Result<_, LabelingError>>()?;
        gold.parts.push(blocks);
    }
    Ok(gold)
}
