//! The tree of classes that a classifier chooses from.
//!
//! A [`Taxonomy`] is a plain, immutable value: classes in depth-first order, siblings as they
//! were listed, so that the same tree is the same sequence however its file was arranged, a
//! parent stands before its children, and the classes under one are a range. Its canonical
//! JSON ([`Taxonomy::to_json`]) is itself a file that [`parse`] reads; the BLAKE3 hash of that
//! text is the version.
//!
//! [`parse`] reads CSV, TSV, JSON, YAML and plain lists of names; a file with mistakes is
//! refused with all of them at once, each with where it stands. [`Taxonomy::match_labels`]
//! says which labels of a data set name which classes.

mod canonical;
mod error;
mod labels;
pub mod limits;
mod parse;
mod tree;

pub use error::{Place, Problem, ProblemKind, TaxonomyError};
pub use labels::{LabelMatch, MatchedLabel, UnknownLabel, Unresolved};
pub use parse::{Columns, Format, MissingParents, ParseOptions, parse};
pub use tree::{Class, ClassIndex, Taxonomy};
