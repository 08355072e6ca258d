//! Labeling by program: functions over the rows of data sets, their statistics, and labels made
//! of their votes.
//!
//! What people write is a [`Function`]; the functions of a data set are a [`FunctionSet`], of
//! which every edit makes a version. A [`Program`] is a set made ready to run, a [`Session`] its
//! votes on one data set, kept so that an edit or an append computes only what is new.

mod block;
mod cache;
mod classes;
mod definition;
mod document;
mod error;
mod kinds;
mod label;
mod next_rows;
mod program;
mod service;
mod session;
mod suggest;
mod votes;
mod yaml;

pub use block::Block;
pub use cache::VoteCache;
pub use classes::Classes;
pub use definition::{Function, KINDS, Rule, Says};
pub use document::{Changes, FunctionFile, FunctionSet, VersionedFunction, read_file};
pub use error::LabelingError;
pub use label::{
    Fitted, LabelOptions, LabelReport, Labeled, Ties, Uncovered, fit_labels, label_rows,
};
pub use next_rows::{SeenRow, Which, next_rows, voted_rows};
pub use program::{MAX_FUNCTIONS, Program, Ready, Resources, Runner, needs};
pub use service::{Labelings, LoadedSet};
pub use session::{Answer, Exact, Session, Stage, exact};
pub use suggest::{Source as SuggestionSource, Suggestion};
pub use votes::{Rows, TEST_SPLIT, Unwatched, Watch, check_columns, gold, used_labels, vote_table};
pub use yaml::{from_yaml, to_yaml};
