//! Rows that functions are run on: a batch of a part, or rows taken out of several.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, LargeStringArray};
use arrow_select::take::take;
use corral_data::Batch;

/// Texts and further columns of some rows. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Block {
    texts: LargeStringArray,
    columns: Vec<(String, ArrayRef)>,
}

impl Block {
    pub fn of(batch: &Batch) -> Self {
        let schema = batch.record_batch().schema_ref().clone();
        let columns =
            schema.fields().iter().skip(2).filter_map(|field| {
                Some((field.name().clone(), batch.column(field.name())?.clone()))
            });
        Self { texts: batch.texts().clone(), columns: columns.collect() }
    }

    /// Some rows of a batch, copied.
    pub fn taken(batch: &Batch, rows: &[u32]) -> Self {
        let whole = Self::of(batch);
        let places = arrow_array::UInt32Array::from(rows.to_vec());
        let take = |array: &dyn Array| {
            take(array, &places, None).expect("the rows are within the batch and of its types")
        };
        Self {
            texts: take(&whole.texts).as_string::<i64>().clone(),
            columns: whole
                .columns
                .iter()
                .map(|(name, array)| (name.clone(), take(array.as_ref())))
                .collect(),
        }
    }

    pub fn rows(&self) -> usize {
        self.texts.len()
    }

    pub fn texts(&self) -> &LargeStringArray {
        &self.texts
    }

    pub fn column(&self, name: &str) -> Option<&ArrayRef> {
        self.columns.iter().find(|(known, _)| known == name).map(|(_, array)| array)
    }
}
