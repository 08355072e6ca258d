//! Featurizers, the model file, and the one way to predict.

pub mod encoder;

pub use encoder::Encoder;
