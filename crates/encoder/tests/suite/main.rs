//! The encoder from the outside. One binary, since linking costs more than running.

#![expect(clippy::unwrap_used, reason = "the whole crate is tests")]

mod common;
mod embeddings;
mod hostile_input;
mod tokenizer;
