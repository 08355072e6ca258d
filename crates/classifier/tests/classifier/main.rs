//! Tests of the crate as its users see it.
#![expect(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

mod corpora;
mod format;
mod lexicon;
mod model_file;
mod onnx;
mod prediction;
mod sample;
