//! Counting what stands in the layers of a version, for its manifest.

use std::path::Path;
use std::sync::Arc;

use arrow_array::Array;

use crate::dataset::{Dataset, ReadError};
use crate::ipc_writer::WriteError;
use crate::manifest::Manifest;
use crate::sorter::ExternalSorter;
use crate::statistics::{SplitStatistics, Statistics};
use crate::store::PartStore;
use crate::text_form::BLANK_HASH;

/// What the layers of a version say of its rows.
#[derive(Debug, Default)]
pub(crate) struct LayerCounts {
    splits: Vec<SplitStatistics>,
    weighted_rows: u64,
    weightless_rows: u64,
    probabilistic_rows: u64,
}

impl LayerCounts {
    /// Sets what was counted, leaving the rest of the statistics.
    pub(crate) fn set(self, statistics: &mut Statistics) {
        statistics.unlabelled_rows = self.splits.iter().map(|split| split.unlabelled_rows).sum();
        statistics.weighted_rows = self.weighted_rows;
        statistics.weightless_rows = self.weightless_rows;
        statistics.probabilistic_rows = self.probabilistic_rows;
        statistics.splits = self.splits;
    }
}

/// Rows by split and class, see [`crate::Statistics::splits`]; those with weights and shares.
pub(crate) fn layer_counts(
    manifest: &Arc<Manifest>,
    store: &dyn PartStore,
) -> Result<LayerCounts, ReadError> {
    let classes = manifest.labels.names.len();
    let empty =
        |split| SplitStatistics { split, class_rows: vec![0; classes], ..Default::default() };
    let named = (0..manifest.splits.len()).map(|code| empty(Some(code as u16)));
    let mut counts: Vec<SplitStatistics> = named.chain([empty(None)]).collect();
    let unassigned = counts.len() - 1;
    let mut found = LayerCounts::default();
    for_each_batch(manifest, store, &mut |dataset, index| {
        let labels = dataset.labels(index)?;
        let splits = dataset.splits(index)?;
        for row in 0..dataset.batch_rows(index) {
            let split = match &splits {
                Some(splits) if splits.is_valid(row) => usize::from(splits.value(row)),
                _ => unassigned,
            };
            let count = &mut counts[split];
            count.rows += 1;
            let codes = labels.codes(row);
            count.unlabelled_rows += u64::from(codes.is_empty());
            for &code in codes {
                count.class_rows[code as usize] += 1;
            }
        }
        if let Some(weights) = dataset.weights(index)? {
            found.weighted_rows += (weights.len() - weights.null_count()) as u64;
            let weightless = weights.iter().filter(|weight| *weight == Some(0.0));
            found.weightless_rows += weightless.count() as u64;
        }
        if let Some(shares) = dataset.shares(index, &labels)? {
            found.probabilistic_rows += (shares.len() - shares.null_count()) as u64;
        }
        Ok::<_, ReadError>(())
    })?;
    counts.retain(|count| count.rows > 0);
    found.splits = counts;
    Ok(found)
}

/// Rows whose text is not blank and stands in an earlier row too.
pub(crate) fn duplicate_rows(
    manifest: &Arc<Manifest>,
    store: &dyn PartStore,
    folder: &Path,
    memory_bytes: usize,
) -> Result<u64, CountError> {
    let spill = |source| WriteError::Spill { folder: folder.to_owned(), source };
    let mut sorter = ExternalSorter::<1>::new(folder, memory_bytes);
    for_each_batch(manifest, store, &mut |dataset, index| {
        for &hash in dataset.text_hashes(index)?.iter().flat_map(|hashes| hashes.values()) {
            if hash != BLANK_HASH {
                sorter.push([hash]).map_err(spill)?;
            }
        }
        Ok::<_, CountError>(())
    })?;
    let mut duplicates = 0;
    let mut previous = None;
    for record in sorter.finish().map_err(spill)? {
        let record = record.map_err(spill)?;
        duplicates += u64::from(previous == Some(record));
        previous = Some(record);
    }
    Ok(duplicates)
}

/// Visits all batches in order with one part mapped at a time.
pub(crate) fn for_each_batch<E: From<ReadError>>(
    manifest: &Arc<Manifest>,
    store: &dyn PartStore,
    visit: &mut dyn FnMut(&Dataset, usize) -> Result<(), E>,
) -> Result<(), E> {
    for part in 0..manifest.parts.len() {
        let dataset = Dataset::open_parts(Arc::clone(manifest), part..part + 1, store)?;
        (0..dataset.batches()).try_for_each(|index| visit(&dataset, index))?;
    }
    Ok(())
}

/// Why rows cannot be counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CountError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
}
