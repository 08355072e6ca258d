//! Sparse rows in compressed form.

use super::dense::{DenseRows, l2_norm};

/// A matrix of `f32` in compressed sparse rows: row `r` holds the entries from
/// `starts[r]` to `starts[r + 1]`, their columns rising.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseRows {
    starts: Vec<usize>,
    indices: Vec<u32>,
    values: Vec<f32>,
    columns: usize,
}

/// Why arrays are not sparse rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SparseRowsError {
    #[error("row starts must begin with 0, never fall, and end with the number of entries")]
    Starts,
    #[error("{indices} column indices stand beside {values} values")]
    Lengths { indices: usize, values: usize },
    #[error("row {row} has columns that do not rise or reach {columns}")]
    Columns { row: usize, columns: usize },
}

/// One row: columns, rising, and their values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SparseRow<'a> {
    pub indices: &'a [u32],
    pub values: &'a [f32],
}

impl<'a> SparseRow<'a> {
    /// The row without entries.
    pub const EMPTY: Self = Self { indices: &[], values: &[] };

    pub fn iter(self) -> impl ExactSizeIterator<Item = (u32, f32)> + 'a {
        self.indices.iter().copied().zip(self.values.iter().copied())
    }

    pub const fn len(self) -> usize {
        self.indices.len()
    }

    pub const fn is_empty(self) -> bool {
        self.indices.is_empty()
    }

    pub fn l2_norm(self) -> f32 {
        l2_norm(self.values)
    }
}

impl SparseRows {
    /// No rows yet, with indices below `columns`.
    pub fn new(columns: usize) -> Self {
        Self { starts: vec![0], indices: Vec::new(), values: Vec::new(), columns }
    }

    /// Rows from their arrays, checked.
    pub fn from_parts(
        starts: Vec<usize>,
        indices: Vec<u32>,
        values: Vec<f32>,
        columns: usize,
    ) -> Result<Self, SparseRowsError> {
        if indices.len() != values.len() {
            return Err(SparseRowsError::Lengths { indices: indices.len(), values: values.len() });
        }
        if starts.first() != Some(&0)
            || starts.last() != Some(&indices.len())
            || !starts.is_sorted()
        {
            return Err(SparseRowsError::Starts);
        }
        for (row, bounds) in starts.windows(2).enumerate() {
            let within = &indices[bounds[0]..bounds[1]];
            if !within.is_sorted_by(|a, b| a < b)
                || within.last().is_some_and(|&last| last as usize >= columns)
            {
                return Err(SparseRowsError::Columns { row, columns });
            }
        }
        Ok(Self { starts, indices, values, columns })
    }

    pub const fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// The number of entries in all rows.
    pub const fn entries(&self) -> usize {
        self.indices.len()
    }

    /// Where each row begins among the entries, and at last their number.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The row at `index`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, index: usize) -> SparseRow<'_> {
        let range = self.starts[index]..self.starts[index + 1];
        SparseRow { indices: &self.indices[range.clone()], values: &self.values[range] }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = SparseRow<'_>> {
        self.starts.windows(2).map(|bounds| SparseRow {
            indices: &self.indices[bounds[0]..bounds[1]],
            values: &self.values[bounds[0]..bounds[1]],
        })
    }

    /// Appends a row, whose columns must rise and stay below [`columns`](Self::columns).
    pub fn push(&mut self, row: SparseRow<'_>) {
        debug_assert!(row.indices.is_sorted_by(|a, b| a < b), "columns rise");
        debug_assert!(row.indices.last().is_none_or(|&last| (last as usize) < self.columns));
        self.indices.extend_from_slice(row.indices);
        self.values.extend_from_slice(row.values);
        self.starts.push(self.indices.len());
    }

    /// The rows of all parts, one part after the other.
    ///
    /// # Panics
    /// When a part has another number of columns.
    pub fn concatenate(columns: usize, parts: &[Self]) -> Self {
        let rows = parts.iter().map(Self::rows).sum::<usize>();
        let entries = parts.iter().map(Self::entries).sum();
        let mut all = Self {
            starts: Vec::with_capacity(rows + 1),
            indices: Vec::with_capacity(entries),
            values: Vec::with_capacity(entries),
            columns,
        };
        all.starts.push(0);
        for part in parts {
            assert_eq!(part.columns, columns, "parts over the same columns");
            let base = all.indices.len();
            all.indices.extend_from_slice(&part.indices);
            all.values.extend_from_slice(&part.values);
            all.starts.extend(part.starts[1..].iter().map(|start| base + start));
        }
        all
    }

    /// The rows at these indices, in their order; an index may stand twice.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let entries = indices.iter().map(|&index| self.row(index).len()).sum();
        let mut selected = Self {
            starts: Vec::with_capacity(indices.len() + 1),
            indices: Vec::with_capacity(entries),
            values: Vec::with_capacity(entries),
            columns: self.columns,
        };
        selected.starts.push(0);
        for &index in indices {
            selected.push(self.row(index));
        }
        selected
    }

    /// Lays blocks over the same rows side by side, each multiplied by its scale.
    ///
    /// # Panics
    /// When the blocks have different numbers of rows, or none is given.
    pub fn join(blocks: &[(&Self, f32)]) -> Self {
        let rows = blocks.first().expect("at least one block").0.rows();
        assert!(blocks.iter().all(|(block, _)| block.rows() == rows), "as many rows in each");
        let entries = blocks.iter().map(|(block, _)| block.entries()).sum();
        let mut joined = Self {
            starts: Vec::with_capacity(rows + 1),
            indices: Vec::with_capacity(entries),
            values: Vec::with_capacity(entries),
            columns: blocks.iter().map(|(block, _)| block.columns).sum(),
        };
        joined.starts.push(0);
        for row in 0..rows {
            let mut first_column = 0;
            for &(block, scale) in blocks {
                let part = block.row(row);
                joined.indices.extend(part.indices.iter().map(|index| first_column + index));
                joined.values.extend(part.values.iter().map(|value| value * scale));
                first_column += block.columns as u32;
            }
            joined.starts.push(joined.indices.len());
        }
        joined
    }

    /// Lays dense rows to the right of these, each side multiplied by its scale: the rows
    /// of a member that reads a lexicon and an encoder.
    ///
    /// # Panics
    /// When the numbers of rows differ.
    #[must_use]
    pub fn join_dense(&self, scale: f32, dense: &DenseRows, dense_scale: f32) -> Self {
        assert_eq!(self.rows(), dense.rows(), "as many rows on both sides");
        let entries = self.entries() + dense.values().len();
        let first_column = self.columns as u32;
        let mut joined = Self {
            starts: Vec::with_capacity(self.rows() + 1),
            indices: Vec::with_capacity(entries),
            values: Vec::with_capacity(entries),
            columns: self.columns + dense.width(),
        };
        joined.starts.push(0);
        for (row, part) in self.iter().enumerate() {
            joined.indices.extend_from_slice(part.indices);
            joined.values.extend(part.values.iter().map(|value| value * scale));
            joined.indices.extend(first_column..first_column + dense.width() as u32);
            joined.values.extend(dense.row(row).iter().map(|value| value * dense_scale));
            joined.starts.push(joined.indices.len());
        }
        joined
    }

    /// The L2 norm of each row.
    pub fn l2_norms(&self) -> Vec<f32> {
        self.iter().map(SparseRow::l2_norm).collect()
    }

    /// The same entries by column: row `c` of the answer holds what column `c` holds here.
    #[must_use]
    pub fn transpose(&self) -> Self {
        let mut starts = vec![0usize; self.columns + 1];
        for &index in &self.indices {
            starts[index as usize + 1] += 1;
        }
        for column in 0..self.columns {
            starts[column + 1] += starts[column];
        }
        let mut next = starts.clone();
        let mut indices = vec![0u32; self.entries()];
        let mut values = vec![0f32; self.entries()];
        for (row, entries) in self.iter().enumerate() {
            for (column, value) in entries.iter() {
                let place = &mut next[column as usize];
                indices[*place] = row as u32;
                values[*place] = value;
                *place += 1;
            }
        }
        Self { starts, indices, values, columns: self.rows() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SparseRows {
        SparseRows::from_parts(vec![0, 2, 2, 3], vec![0, 2, 1], vec![3.0, 4.0, 5.0], 3).unwrap()
    }

    #[test]
    fn bad_arrays_are_refused() {
        let parts = |starts: &[usize], indices: &[u32]| {
            SparseRows::from_parts(starts.to_vec(), indices.to_vec(), vec![1.0; 2], 2)
        };
        assert!(parts(&[0, 2], &[0, 1]).is_ok());
        assert_eq!(parts(&[0, 1], &[0, 1]), Err(SparseRowsError::Starts));
        assert_eq!(parts(&[1, 2], &[0, 1]), Err(SparseRowsError::Starts));
        assert_eq!(
            parts(&[0, 2], &[0]).unwrap_err(),
            SparseRowsError::Lengths { indices: 1, values: 2 }
        );
        for columns in [[1, 1], [1, 0], [0, 2]] {
            let refused = parts(&[0, 2], &columns).unwrap_err();
            assert_eq!(refused, SparseRowsError::Columns { row: 0, columns: 2 });
        }
    }

    #[test]
    fn selection_join_and_transpose_keep_entries() {
        let rows = sample();
        assert_eq!(rows.l2_norms(), [5.0, 0.0, 5.0]);
        let selected = rows.select(&[2, 0]);
        assert_eq!(selected.row(0).indices, [1]);
        assert_eq!(selected.row(1).values, [3.0, 4.0]);

        let joined = SparseRows::join(&[(&rows, 2.0), (&rows, 1.0)]);
        assert_eq!(joined.columns(), 6);
        assert_eq!(joined.row(0).indices, [0, 2, 3, 5]);
        assert_eq!(joined.row(0).values, [6.0, 8.0, 3.0, 4.0]);

        let dense = DenseRows::from_values(vec![1.0, 2.0, 3.0], 1);
        let joined = rows.join_dense(1.0, &dense, 0.5);
        assert_eq!(joined.row(1).indices, [3]);
        assert_eq!(joined.row(2).values, [5.0, 1.5]);

        let transposed = rows.transpose();
        assert_eq!(transposed.columns(), 3);
        assert_eq!(transposed.row(1).iter().collect::<Vec<_>>(), [(2, 5.0)]);
        assert_eq!(transposed.transpose(), rows);

        let twice = SparseRows::concatenate(3, &[rows.clone(), rows.clone()]);
        assert_eq!((twice.rows(), twice.row(5)), (6, rows.row(2)));
    }
}
