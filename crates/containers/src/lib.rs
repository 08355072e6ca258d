//! What containers are asked to be: plain values that services hand over and workers carry out.
//!
//! A [`ContainerSpec`] says what to run, in which image, with which files, variables and limits.
//! An [`ImageRecipe`] is a chain of steps; its key is the hash of all that can change what comes
//! out, so the same recipe is built once on a machine. A worker answers with [`ContainerEvent`]s.

mod event;
mod image;
mod secret;
mod spec;

pub use event::{ContainerEnd, ContainerEvent, ContainerLine, StartKind, Usage};
pub use image::{Base, BuildStep, ContextFile, ImageKey, ImageRecipe};
pub use secret::SecretValue;
pub use spec::{
    ContainerSpec, Contract, FileTree, Limits, Network, SmallFile, StopReason, TemplateSpec,
    TreeFile,
};
