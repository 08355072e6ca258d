//! A model's answers for every row of a data set, whatever its size.
//!
//! The work has two steps, so that its first can be cut off anywhere. [`answer_rows`] asks the
//! model for one chunk of rows after the other and appends what it says to an [answer
//! file](AnswerFile), a few bytes a row in row order; the file as it was after any chunk is all
//! that is needed to go on, and its number of entries says where. Then [`AnswerColumns`] turns
//! the file into columns that an export writes beside those of the data set, in whatever format:
//! formats that cannot be appended to are as good as others.

mod answers;
mod columns;
mod error;
mod options;
mod run;

pub use answers::{AnswerFile, AnswerReader};
pub use columns::AnswerColumns;
pub use error::BatchError;
pub use options::{BatchOptions, MAX_COLUMN_PREFIX_BYTES, MAX_TOP_K, RefusalsAsked};
pub use run::{Asking, Watch, answer_rows};
