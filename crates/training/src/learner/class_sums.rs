//! The summed rows of each class.

use super::Problem;

/// Sums over the rows of each class, each row counted by its weight, its share of the class and
/// what an example of the class counts.
pub struct ClassSums {
    /// `sums[column * classes + class]`, scales applied.
    sums: Vec<f32>,
    classes: usize,
    /// The weight of the rows of each class.
    pub weights: Vec<f64>,
}

/// Which features are summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summed {
    /// The sparse ones, where they are above zero.
    Counts,
    All,
}

impl ClassSums {
    pub fn of(problem: &Problem<'_>, summed: Summed) -> Self {
        let features = &problem.features;
        let (classes, dense_start) = (problem.class_count, features.sparse_columns());
        let columns = match summed {
            Summed::Counts => dense_start,
            Summed::All => features.column_count(),
        };
        let mut sums = vec![0f32; columns * classes];
        let mut weights = vec![0f64; classes];
        for &row in problem.rows {
            let row = row as usize;
            let (row_classes, shares) = problem.targets.row(row);
            for (&class, &share) in row_classes.iter().zip(shares) {
                let class = class as usize;
                let weight = problem.row_weights[row] * share * problem.class_weights[class];
                weights[class] += f64::from(weight);
                let (sparse, values) = features.sparse_row(row);
                let factor = weight * features.sparse_scale;
                for (&column, &value) in sparse.iter().zip(values) {
                    let value = if summed == Summed::Counts { value.max(0.0) } else { value };
                    sums[column as usize * classes + class] += factor * value;
                }
                if summed == Summed::All {
                    let factor = weight * features.dense_scale;
                    for (column, &value) in features.dense_row(row).iter().enumerate() {
                        sums[(dense_start + column) * classes + class] += factor * value;
                    }
                }
            }
        }
        Self { sums, classes, weights }
    }

    pub fn columns(&self) -> usize {
        self.sums.len() / self.classes
    }

    /// The sums of a column, one a class.
    pub fn column(&self, column: usize) -> &[f32] {
        &self.sums[column * self.classes..][..self.classes]
    }
}

/// The memory that sums take, in bytes.
pub fn memory_bytes(columns: usize, classes: usize) -> usize {
    columns * classes * size_of::<f32>()
}
