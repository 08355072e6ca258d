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

    pub fn dense_columns(&self) -> usize {
        self.dense.map_or(0, |view| view.column_count)
    }

    pub fn column_count(&self) -> usize {
        self.sparse_columns() + self.dense_columns()
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

    /// The products of a row's sparse part with `BLOCKS` neighbouring blocks of sixteen
    /// classes. `weights[column * stride + first + block]` is a column's weight in a block.
    #[inline(always)]
    pub(super) fn sparse_dot<const FUSED: bool, const BLOCKS: usize>(
        &self,
        row: usize,
        weights: &[Lanes],
        stride: usize,
        first: usize,
    ) -> [Lanes; BLOCKS] {
        let (columns, values) = self.sparse_row(row);
        // Two sums, so that an addition does not wait for the one before.
        let (mut even, mut odd) = ([Lanes::ZERO; BLOCKS], [Lanes::ZERO; BLOCKS]);
        let (column_pairs, last_column) = columns.as_chunks::<2>();
        let (value_pairs, last_value) = values.as_chunks::<2>();
        for (&[left, right], &[x, y]) in column_pairs.iter().zip(value_pairs) {
            let left = &weights[left as usize * stride + first..][..BLOCKS];
            let right = &weights[right as usize * stride + first..][..BLOCKS];
            for block in 0..BLOCKS {
                add_scaled::<FUSED>(&mut even[block], x, &left[block]);
                add_scaled::<FUSED>(&mut odd[block], y, &right[block]);
            }
        }
        if let (&[column], &[value]) = (last_column, last_value) {
            let at = &weights[column as usize * stride + first..][..BLOCKS];
            for block in 0..BLOCKS {
                add_scaled::<FUSED>(&mut even[block], value, &at[block]);
            }
        }
        for block in 0..BLOCKS {
            even[block] = even[block].plus(odd[block]).scaled(self.sparse_scale);
        }
        even
    }

    /// Adds `step` times a row's sparse part to the weights of `BLOCKS` neighbouring blocks;
    /// as [`Self::sparse_dot`].
    #[inline(always)]
    pub(super) fn sparse_add<const FUSED: bool, const BLOCKS: usize>(
        &self,
        row: usize,
        step: &[Lanes; BLOCKS],
        weights: &mut [Lanes],
        stride: usize,
        first: usize,
    ) {
        let (columns, values) = self.sparse_row(row);
        let scaled: [Lanes; BLOCKS] = step.map(|lanes| lanes.scaled(self.sparse_scale));
        for (&column, &value) in columns.iter().zip(values) {
            let at = &mut weights[column as usize * stride + first..][..BLOCKS];
            for block in 0..BLOCKS {
                add_scaled::<FUSED>(&mut at[block], value, &scaled[block]);
            }
        }
    }

    /// Adds `step` times a row's sparse part, each value times its column's `factors`, to the
    /// weights of one block.
    #[inline(always)]
    pub(super) fn sparse_add_scaled<const FUSED: bool>(
        &self,
        row: usize,
        step: Lanes,
        factors: &[Lanes],
        weights: &mut [Lanes],
    ) {
        let (columns, values) = self.sparse_row(row);
        let step = step.scaled(self.sparse_scale);
        for (&column, &value) in columns.iter().zip(values) {
            let scaled = step.map2(factors[column as usize], |step, factor| step * factor);
            add_scaled::<FUSED>(&mut weights[column as usize], value, &scaled);
        }
    }

    /// The squared length of a row in each class of a block, its sparse values multiplied by
    /// the square roots of `squares`.
    pub(super) fn scaled_squared_norm(&self, row: usize, squares: &[Lanes]) -> Lanes {
        let (columns, values) = self.sparse_row(row);
        let dense: f32 =
            self.dense_row(row).iter().map(|value| (value * self.dense_scale).powi(2)).sum();
        let mut total = Lanes::splat(dense);
        for (&column, &value) in columns.iter().zip(values) {
            let square = (value * self.sparse_scale).powi(2);
            add_scaled::<false>(&mut total, square, &squares[column as usize]);
        }
        total
    }

    /// The product of a row's dense part with one block's weights, one a dense column.
    #[inline(always)]
    pub(super) fn dense_dot<const FUSED: bool>(&self, row: usize, weights: &[Lanes]) -> Lanes {
        let mut sums = [Lanes::ZERO; 4];
        let (quads, rest) = self.dense_row(row).as_chunks::<4>();
        let (weight_quads, weight_rest) = weights.as_chunks::<4>();
        for (values, weights) in quads.iter().zip(weight_quads) {
            for place in 0..4 {
                add_scaled::<FUSED>(&mut sums[place], values[place], &weights[place]);
            }
        }
        for (value, weights) in rest.iter().zip(weight_rest) {
            add_scaled::<FUSED>(&mut sums[0], *value, weights);
        }
        sums[0].plus(sums[1]).plus(sums[2].plus(sums[3])).scaled(self.dense_scale)
    }

    /// Adds `step` times a row's dense part to one block's weights; as [`Self::dense_dot`].
    #[inline(always)]
    pub(super) fn dense_add<const FUSED: bool>(
        &self,
        row: usize,
        step: Lanes,
        weights: &mut [Lanes],
    ) {
        let step = step.scaled(self.dense_scale);
        for (value, weights) in self.dense_row(row).iter().zip(weights) {
            // The test keeps the compiler from vectorising across columns, with gathers, where
            // a column's sixteen classes already are a vector: twice as fast a fit.
            if *value != 0.0 {
                add_scaled::<FUSED>(weights, *value, &step);
            }
        }
    }
}

/// How many blocks of [`LANES`] hold `classes`.
pub fn blocks_for(classes: usize) -> usize {
    classes.div_ceil(LANES)
}
