//! Votes of labeling functions, what can be counted of them, and label models: pure computation.
//!
//! A [`Voter`] says a [`Vote`] on a row or abstains. Its votes on a part of a data set are a
//! [`VoteLayer`], the layers of several voters over several parts a [`VoteTable`]. From a table
//! come [`VoteCounts`], which are integers and add up block by block, and from counts come
//! [`statistics`](FunctionStatistics) and the label models that need co-occurrences alone.
//! A [`LabelModel`] turns the votes of a row into probabilities of classes.

mod counts;
mod gold;
mod interval;
mod layer;
mod model;
mod multi_label;
mod patterns;
mod row_set;
mod statistics;
mod table;
mod vote;

pub use counts::{PairCounts, VoteCounts};
pub use gold::{BlockGold, Gold};
pub use interval::{Interval, wilson};
pub use layer::{BlockVotes, LayerError, MAX_BLOCK_ROWS, VoteLayer};
pub use model::choice::{Basis, Choice, MIN_GOLD_ROWS, MethodScore, choose};
pub use model::{Evidence, FitError, FitOptions, LabelModel, MAX_WEIGHTS, Method, fit};
pub use multi_label::{MultiLabelModel, fit_multi_label};
pub use patterns::{MAX_PATTERN_ITEMS, Patterns};
pub use row_set::RowSet;
pub use statistics::{
    ClassStatistics, FunctionStatistics, PairStatistics, SetStatistics, set_statistics,
};
pub use table::{RowVotes, VoteTable};
pub use vote::{Class, LabelArity, Vote, Voter};
