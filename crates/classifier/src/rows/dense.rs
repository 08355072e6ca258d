//! Dense rows, such as sentence embeddings or probabilities.

/// A matrix of `f32`, row after row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DenseRows {
    values: Vec<f32>,
    width: usize,
}

impl DenseRows {
    /// No rows yet, each to be `width` wide.
    pub const fn new(width: usize) -> Self {
        Self { values: Vec::new(), width }
    }

    /// `rows` rows of zeros.
    pub fn zeros(rows: usize, width: usize) -> Self {
        Self { values: vec![0.0; rows * width], width }
    }

    /// Rows of `width` from values laid row after row.
    ///
    /// # Panics
    /// When the values do not fill whole rows.
    pub fn from_values(values: Vec<f32>, width: usize) -> Self {
        assert!(
            if width == 0 { values.is_empty() } else { values.len().is_multiple_of(width) },
            "{} values do not make rows of {width}",
            values.len()
        );
        Self { values, width }
    }

    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    pub const fn width(&self) -> usize {
        self.width
    }

    /// The row at `index`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    /// The row at `index`, to be changed.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.values[index * self.width..(index + 1) * self.width]
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values, row after row, to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Appends a row.
    ///
    /// # Panics
    /// When it is not as wide as the others.
    pub fn push(&mut self, row: &[f32]) {
        assert_eq!(row.len(), self.width, "a row as wide as the others");
        self.values.extend_from_slice(row);
    }

    /// The rows at these indices, in their order; an index may stand twice.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut values = Vec::with_capacity(indices.len() * self.width);
        for &index in indices {
            values.extend_from_slice(self.row(index));
        }
        Self { values, width: self.width }
    }

    /// Divides each row by its L2 norm; rows of zeros stay.
    pub fn normalise(&mut self) {
        for row in self.values.chunks_exact_mut(self.width.max(1)) {
            let norm = l2_norm(row);
            if norm > 0.0 {
                row.iter_mut().for_each(|value| *value /= norm);
            }
        }
    }
}

/// The L2 norm, summed in double precision in the order of the values.
pub(super) fn l2_norm(values: &[f32]) -> f32 {
    values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_selected_and_normalised() {
        let mut rows = DenseRows::from_values(vec![3.0, 4.0, 0.0, 0.0], 2);
        assert_eq!(rows.rows(), 2);
        rows.normalise();
        assert_eq!(rows.select(&[1, 0, 0]).values(), &[0.0, 0.0, 0.6, 0.8, 0.6, 0.8]);
        assert_eq!(DenseRows::new(0).rows(), 0);
        assert_eq!(DenseRows::new(0).iter().len(), 0);
    }
}
