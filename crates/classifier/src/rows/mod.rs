//! Feature rows: sparse ones from texts' n-grams, dense ones from encoders.

mod dense;
mod sparse;

pub use dense::DenseRows;
pub use sparse::{SparseRow, SparseRows, SparseRowsError};
