//! The rows a learner reads: sparse, dense, or both side by side, without copies.

use super::lanes::{LANES, Lanes, add_scaled};

/// Sparse rows: row `r` holds `values[row_offsets[r]..row_offsets[r + 1]]` at the matching `columns`.
#[derive(Clone, Copy, Debug)]
pub struct SparseView<'a> {
    pub row_offsets: &'a [usize],
    pub columns: &'a [u32],
    pub values: &'a [f32],
    pub column_count: usize,
}

/// Dense rows, one after the other, `column_count` values each.
#[derive(Clone, Copy, Debug)]
pub struct DenseView<'a> {
    pub values: &'a [f32],
    pub column_count: usize,
}

/// The features of all rows. A joined row is its sparse part times `sparse_scale`, then its
/// dense part times `dense_scale`. Weights of a row's features lie in that order too.
#[derive(Clone, Copy, Debug)]
pub struct FeatureRows<'a> {
    pub sparse: Option<SparseView<'a>>,
    pub sparse_scale: f32,
    pub dense: Option<DenseView<'a>>,
    pub dense_scale: f32,
}

impl<'a> FeatureRows<'a> {
    pub fn sparse(view: SparseView<'a>) -> Self {
        Self { sparse: Some(view), sparse_scale: 1.0, dense: None, dense_scale: 1.0 }
    }

    pub fn dense(view: DenseView<'a>) -> Self {
        Self { sparse: None, sparse_scale: 1.0, dense: Some(view), dense_scale: 1.0 }
    }

    pub fn row_count(&self) -> usize {
        match (&self.sparse, &self.dense) {
            (Some(sparse), _) => sparse.row_offsets.len() - 1,
            (None, Some(dense)) => dense.values.len() / dense.column_count.max(1),
            (None, None) => 0,
        }
    }

    pub fn sparse_columns(&self) -> usize {
        self.sparse.map_or(0, |view| view.column_count)
    }

    pub fn column_count(&self) -> usize {
        self.sparse_columns() + self.dense.map_or(0, |view| view.column_count)
    }

    #[inline(always)]
    pub(super) fn sparse_row(&self, row: usize) -> (&'a [u32], &'a [f32]) {
        match self.sparse {
            Some(view) => {
                let range = view.row_offsets[row]..view.row_offsets[row + 1];
                (&view.columns[range.clone()], &view.values[range])
            }
            None => (&[], &[]),
        }
    }

    #[inline(always)]
    pub(super) fn dense_row(&self, row: usize) -> &'a [f32] {
        match self.dense {
            Some(view) => &view.values[row * view.column_count..(row + 1) * view.column_count],
            None => &[],
        }
    }

    /// The squared length of each row, scales applied.
    pub fn squared_norms(&self) -> Vec<f32> {
        (0..self.row_count())
            .map(|row| {
                let square = |values: &[f32], scale: f32| {
                    values.iter().map(|v| f64::from(v * scale).powi(2)).sum::<f64>()
                };
                (square(self.sparse_row(row).1, self.sparse_scale)
                    + square(self.dense_row(row), self.dense_scale)) as f32
            })
            .collect()
    }

    /// The products of a row with `BLOCKS` neighbouring blocks of sixteen classes.
    /// `weights[feature * stride + first + block]` is a feature's weight in a block.
    #[inline(always)]
    pub(super) fn dot<const FUSED: bool, const BLOCKS: usize>(
        &self,
        row: usize,
        weights: &[Lanes],
        stride: usize,
        first: usize,
    ) -> [Lanes; BLOCKS] {
        let mut sum = [Lanes::ZERO; BLOCKS];
        let (columns, values) = self.sparse_row(row);
        if !columns.is_empty() {
            // Two sums, so that an addition does not wait for the one before.
            let (mut even, mut odd) = ([Lanes::ZERO; BLOCKS], [Lanes::ZERO; BLOCKS]);
            let pairs = columns.len() / 2;
            for pair in 0..pairs {
                let (left, right) = (columns[2 * pair] as usize, columns[2 * pair + 1] as usize);
                let (x, y) = (values[2 * pair], values[2 * pair + 1]);
                let left = &weights[left * stride + first..][..BLOCKS];
                let right = &weights[right * stride + first..][..BLOCKS];
                for block in 0..BLOCKS {
                    add_scaled::<FUSED>(&mut even[block], x, &left[block]);
                    add_scaled::<FUSED>(&mut odd[block], y, &right[block]);
                }
            }
            if columns.len() % 2 == 1 {
                let last = columns.len() - 1;
                let at = &weights[columns[last] as usize * stride + first..][..BLOCKS];
                for block in 0..BLOCKS {
                    add_scaled::<FUSED>(&mut even[block], values[last], &at[block]);
                }
            }
            for block in 0..BLOCKS {
                sum[block] = even[block].plus(odd[block]).scaled(self.sparse_scale);
            }
        }
        let values = self.dense_row(row);
        if !values.is_empty() {
            let base = self.sparse_columns() * stride;
            let weights = &weights[base..];
            let (mut even, mut odd) = ([Lanes::ZERO; BLOCKS], [Lanes::ZERO; BLOCKS]);
            for (pair, two) in values.chunks_exact(2).enumerate() {
                let left = &weights[2 * pair * stride + first..][..BLOCKS];
                let right = &weights[(2 * pair + 1) * stride + first..][..BLOCKS];
                for block in 0..BLOCKS {
                    add_scaled::<FUSED>(&mut even[block], two[0], &left[block]);
                    add_scaled::<FUSED>(&mut odd[block], two[1], &right[block]);
                }
            }
            if values.len() % 2 == 1 {
                let last = values.len() - 1;
                let at = &weights[last * stride + first..][..BLOCKS];
                for block in 0..BLOCKS {
                    add_scaled::<FUSED>(&mut even[block], values[last], &at[block]);
                }
            }
            for block in 0..BLOCKS {
                add_scaled::<FUSED>(
                    &mut sum[block],
                    self.dense_scale,
                    &even[block].plus(odd[block]),
                );
            }
        }
        sum
    }

    /// Adds `step * row` to the weights of `BLOCKS` neighbouring blocks; as [`Self::dot`].
    #[inline(always)]
    pub(super) fn add<const FUSED: bool, const BLOCKS: usize>(
        &self,
        row: usize,
        step: &[Lanes; BLOCKS],
        weights: &mut [Lanes],
        stride: usize,
        first: usize,
    ) {
        let (columns, values) = self.sparse_row(row);
        if !columns.is_empty() {
            let scaled: [Lanes; BLOCKS] = step.map(|lanes| lanes.scaled(self.sparse_scale));
            for (&column, &value) in columns.iter().zip(values) {
                let at = &mut weights[column as usize * stride + first..][..BLOCKS];
                for block in 0..BLOCKS {
                    add_scaled::<FUSED>(&mut at[block], value, &scaled[block]);
                }
            }
        }
        let values = self.dense_row(row);
        if !values.is_empty() {
            let scaled: [Lanes; BLOCKS] = step.map(|lanes| lanes.scaled(self.dense_scale));
            let base = self.sparse_columns() * stride;
            for (column, &value) in values.iter().enumerate() {
                let at = &mut weights[base + column * stride + first..][..BLOCKS];
                for block in 0..BLOCKS {
                    add_scaled::<FUSED>(&mut at[block], value, &scaled[block]);
                }
            }
        }
    }
}

/// How many blocks of [`LANES`] hold `classes`.
pub fn blocks_for(classes: usize) -> usize {
    classes.div_ceil(LANES)
}
