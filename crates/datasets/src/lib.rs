//! Data sets and taxonomies as records of a workspace: what is imported becomes blobs first
//! and one catalog record last, so that a version is there whole or not at all.

mod error;
mod parts;
mod sets;
mod taxonomies;

pub use error::DatasetsError;
pub use parts::BlobParts;
pub use sets::{Datasets, ImportMode, ImportedSet, OpenSet};
pub use taxonomies::{LoadedTaxonomy, Taxonomies};
