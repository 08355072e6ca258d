//! Model files: written once, opened without parsing, probed in place.

mod error;
mod format;
mod heads;
mod mapping;
mod open;
mod predict;
mod refuse;
mod settings;
mod spec;
mod verify;

pub use error::{ModelError, PredictError};
pub use format::{FORMAT_VERSION, MAX_HEADER_BYTES};
pub(crate) use open::MemberView;
pub use open::{MemberInfo, Model, ModelInfo};
pub use predict::{Ancestors, PredictOptions, Prediction, Ranked, Refusals, Scratch};
pub use settings::{EncoderNeed, Thresholds};
pub use spec::{Featurizer, LexiconUse, MemberSpec, ModelSpec};
