//! The rows under one parent, copied.

use crate::learner::Problem;
use crate::learner::rows::{DenseView, FeatureRows, SparseView};

/// Some rows of a problem, without the sparse columns that none of them has.
pub struct Gathered {
    /// The columns that are left, in rising order.
    pub columns: Vec<u32>,
    offsets: Vec<usize>,
    /// Places in `columns`.
    places: Vec<u32>,
    values: Vec<f32>,
    dense: Vec<f32>,
    pub squared_norms: Vec<f32>,
}

impl Gathered {
    pub fn of(problem: &Problem<'_>, rows: &[u32]) -> Self {
        let features = &problem.features;
        let mut places = vec![u32::MAX; features.sparse_columns()];
        for &row in rows {
            features.sparse_row(row as usize).0.iter().for_each(|&at| places[at as usize] = 0);
        }
        let mut columns = Vec::new();
        for (column, place) in (0u32..).zip(&mut places) {
            if *place == 0 {
                *place = columns.len() as u32;
                columns.push(column);
            }
        }
        let mut gathered = Self {
            columns,
            offsets: vec![0],
            places: Vec::new(),
            values: Vec::new(),
            dense: Vec::with_capacity(rows.len() * features.dense_columns()),
            squared_norms: Vec::with_capacity(rows.len()),
        };
        for &row in rows {
            let (columns, values) = features.sparse_row(row as usize);
            gathered.places.extend(columns.iter().map(|&column| places[column as usize]));
            gathered.values.extend_from_slice(values);
            gathered.offsets.push(gathered.places.len());
            gathered.dense.extend_from_slice(features.dense_row(row as usize));
            gathered.squared_norms.push(problem.squared_norms[row as usize]);
        }
        gathered
    }

    pub fn features(&self, problem: &Problem<'_>) -> FeatureRows<'_> {
        let sparse = problem.features.sparse.map(|_| SparseView {
            row_offsets: &self.offsets,
            columns: &self.places,
            values: &self.values,
            column_count: self.columns.len(),
        });
        let dense = problem
            .features
            .dense
            .map(|view| DenseView { values: &self.dense, column_count: view.column_count });
        FeatureRows {
            sparse,
            sparse_scale: problem.features.sparse_scale,
            dense,
            dense_scale: problem.features.dense_scale,
        }
    }
}
