//! Why a model file is refused, and why a prediction is.

use std::io;
use std::path::PathBuf;

use corral_types::{BlobHash, ErrorKind, Explain};

use super::format::{FORMAT_VERSION, MAX_HEADER_BYTES};
use crate::classes::{MAX_CLASSES, MAX_DEPTH};
use crate::encoder::EmbeddingView;

/// Why a model cannot be written, opened or verified.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("{action} model file {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the file is not a Corral model: it starts with other bytes")]
    Foreign,
    #[error("the model has format version {found}; this server reads up to {FORMAT_VERSION}")]
    NewerFormat { found: u32 },
    #[error("the model needs `{feature}`, which this server does not know")]
    UnknownFeature { feature: String },
    #[error("the model is cut off: {found} bytes of {wanted}")]
    Truncated { found: u64, wanted: u64 },
    #[error("the model is damaged: {0}")]
    Damaged(Damage),
    #[error("the model's settings take {bytes} bytes; the header holds {MAX_HEADER_BYTES}")]
    HeaderTooLarge { bytes: usize },
    #[error("a model has 1 to {MAX_CLASSES} classes, not {count}")]
    ClassCount { count: usize },
    #[error("two classes have the id `{id}`")]
    ClassTwice { id: String },
    #[error("a class has an empty id")]
    ClassWithoutId,
    #[error("class `{id}` has a parent that is not in the list, or over {MAX_DEPTH} ancestors")]
    ClassParent { id: String },
    #[error("ids and names take {bytes} bytes; at most 4 GiB can be")]
    ClassText { bytes: usize },
    #[error("a model cannot be made of these parts: {0}")]
    Parts(PartsError),
}

/// What is wrong with a damaged file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("its header does not match the header's checksum")]
    HeaderChecksum,
    #[error("its content does not match the file's hash")]
    ContentHash,
    #[error("its settings cannot be read: {0}")]
    Settings(String),
    #[error("section `{0}` lies outside the file or overlaps another")]
    SectionBounds(String),
    #[error("section `{0}` is missing")]
    SectionMissing(String),
    #[error("section `{0}` stands twice")]
    SectionTwice(String),
    #[error("section `{section}` has {found} bytes where the settings ask for {wanted}")]
    SectionLength { section: String, found: u64, wanted: u64 },
    #[error("section `{section}` holds {what}")]
    Entries { section: String, what: &'static str },
}

/// Which parts of a [`ModelSpec`](super::ModelSpec) do not fit each other.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PartsError {
    #[error("it has no members, or more than {0}")]
    MemberCount(usize),
    #[error(
        "it has {0} outputs; outputs are 1 to the number of classes, each naming another class"
    )]
    Outputs(usize),
    #[error("member `{member}` has {found} {what} where {wanted} fit")]
    MemberShape { member: String, what: &'static str, found: usize, wanted: usize },
    #[error("member `{member}` names lexicon {lexicon} of {lexicons}")]
    MemberLexicon { member: String, lexicon: usize, lexicons: usize },
    #[error("member `{member}` reads the {view} embedding, but the model names no encoder of it")]
    EncoderMissing { member: String, view: EmbeddingView },
    #[error("member `{member}` reads neither a lexicon nor an embedding")]
    FeaturizerEmpty { member: String },
    #[error("{what} of {owner} is not a finite number above 0")]
    Number { owner: String, what: &'static str },
    #[error("{found} thresholds stand beside {outputs} outputs, or one is not a number")]
    Thresholds { found: usize, outputs: usize },
    #[error(
        "its confidence power is {power}; it is a finite number, and 0 where classes stand alone"
    )]
    ConfidencePower { power: f32 },
    #[error("its refusal {what}")]
    Refusal { what: &'static str },
}

impl From<Damage> for ModelError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<PartsError> for ModelError {
    fn from(error: PartsError) -> Self {
        Self::Parts(error)
    }
}

impl Explain for ModelError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Io { .. } | Self::Parts(_) => ErrorKind::Internal,
            Self::Truncated { .. } | Self::Damaged(_) => ErrorKind::DataLoss,
            Self::NewerFormat { .. } | Self::UnknownFeature { .. } => ErrorKind::Unsupported,
            Self::HeaderTooLarge { .. } | Self::ClassCount { .. } | Self::ClassText { .. } => {
                ErrorKind::TooLarge
            }
            Self::Foreign
            | Self::ClassTwice { .. }
            | Self::ClassWithoutId
            | Self::ClassParent { .. } => ErrorKind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Foreign => Some("give a file that `corral model export` wrote".to_owned()),
            Self::NewerFormat { .. } | Self::UnknownFeature { .. } => {
                Some("upgrade this server, or train the model with it".to_owned())
            }
            Self::Truncated { .. } | Self::Damaged(_) => {
                Some("copy the file again from where it was exported".to_owned())
            }
            _ => None,
        }
    }
}

/// Why a text gets no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PredictError {
    #[error("the model reads embeddings of encoder {name} ({hash}), and none was given")]
    EncoderMissing { name: String, hash: BlobHash },
    #[error("the model reads embeddings of encoder {wanted}, not of {found}")]
    EncoderDiffers { wanted: BlobHash, found: BlobHash },
    #[error("the {view} embedding has {found} numbers; the model reads {wanted}")]
    EmbeddingLength { view: EmbeddingView, found: usize, wanted: usize },
    #[error("no class has an id or path that starts with `{prefix}`")]
    PrefixUnknown { prefix: String },
    #[error("the subset was made for a model of {found} outputs; this one has {wanted}")]
    SubsetDiffers { found: usize, wanted: usize },
}

impl Explain for PredictError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::PrefixUnknown { .. } => ErrorKind::Invalid,
            Self::EncoderMissing { .. } => ErrorKind::Unavailable,
            Self::EncoderDiffers { .. }
            | Self::EmbeddingLength { .. }
            | Self::SubsetDiffers { .. } => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::EncoderMissing { name, .. } => {
                Some(format!("install it with `corral encoder install {name}`"))
            }
            _ => None,
        }
    }
}
