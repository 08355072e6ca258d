//! The encoder file: a small header, then the sections, used where they lie.
//!
//! ```text
//! 8 bytes   "corralen"
//! 4 bytes   format version, little-endian, as are all numbers
//! 4 bytes   bytes of the JSON header
//! 8 bytes   bytes of the whole file
//! …         JSON header, then zeros up to a multiple of 64
//! …         sections, each at a multiple of 64 from there
//! ```
//!
//! The file is identified by its BLAKE3 hash. Equal inputs give equal bytes.

use serde::{Deserialize, Serialize};

use crate::layout::{Layout, SECTION_ALIGNMENT, Section, VocabularySize};
use crate::shape::{Precision, Shape, ShapeError};
use crate::tokenizer::TokenizerRules;

const MAGIC: &[u8; 8] = b"corralen";
/// The version that is written, and the only one there has been.
const FORMAT_VERSION: u32 = 1;
const PREFIX_BYTES: usize = 24;
/// The JSON header of the deepest network is half of it.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// A name stands in messages and tables.
const MAX_NAME_BYTES: usize = 128;

/// Why bytes are not an encoder file that can be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("it is not an encoder file")]
    Foreign,
    #[error("it is of format version {version}, this program reads {FORMAT_VERSION}")]
    Version { version: u32 },
    #[error("it has {actual} bytes where its header says {claimed}")]
    Length { actual: u64, claimed: u64 },
    #[error("its header is damaged")]
    Header(#[source] Option<serde_json::Error>),
    #[error("its network is not one that is served here")]
    Shape(#[from] ShapeError),
    #[error("its sections do not lie where its shape puts them")]
    Sections,
}

/// What an encoder file says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub name: String,
    pub precision: Precision,
    pub shape: Shape,
    pub tokenizer: TokenizerRules,
    pub vocabulary: VocabularySize,
    pub sections: Vec<Section>,
}

/// A header with the places it describes.
#[derive(Debug)]
pub(crate) struct Contents {
    pub header: Header,
    pub layout: Layout,
    /// Where the first section begins.
    pub body: usize,
}

impl Contents {
    /// Reads and checks the header of a whole file. No section is looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let (prefix, rest) =
            bytes.split_first_chunk::<PREFIX_BYTES>().ok_or(FormatError::Foreign)?;
        if prefix[..8] != *MAGIC {
            return Err(FormatError::Foreign);
        }
        let word = |at: usize| [prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]];
        let version = u32::from_le_bytes(word(8));
        if version != FORMAT_VERSION {
            return Err(FormatError::Version { version });
        }
        let header_bytes = u32::from_le_bytes(word(12)) as usize;
        let claimed =
            u64::from(u32::from_le_bytes(word(16))) | u64::from(u32::from_le_bytes(word(20))) << 32;
        let actual = bytes.len() as u64;
        if actual != claimed {
            return Err(FormatError::Length { actual, claimed });
        }
        if header_bytes > MAX_HEADER_BYTES {
            return Err(FormatError::Header(None));
        }
        let json = rest.get(..header_bytes).ok_or(FormatError::Header(None))?;
        let header: Header =
            serde_json::from_slice(json).map_err(|error| FormatError::Header(Some(error)))?;
        header.shape.check()?;
        header.check_tokenizer()?;
        let body = body_offset(header_bytes);
        let layout = Layout::plan(&header.shape, header.precision, header.vocabulary)
            .ok_or(FormatError::Sections)?;
        if layout.sections != header.sections || body.checked_add(layout.bytes) != Some(bytes.len())
        {
            return Err(FormatError::Sections);
        }
        Ok(Self { header, layout, body })
    }
}

impl Header {
    fn check_tokenizer(&self) -> Result<(), FormatError> {
        let rules = &self.tokenizer;
        let ids = rules.special.iter().map(|&(_, id)| id);
        let known = |id: u32| (id as usize) < self.shape.vocabulary;
        let fits = self.vocabulary.entries <= self.shape.vocabulary
            && self.name.len() <= MAX_NAME_BYTES
            && ids.chain([rules.unknown, rules.first, rules.last]).all(known)
            && rules.special.iter().all(|(content, _)| !content.is_empty());
        if fits { Ok(()) } else { Err(FormatError::Header(None)) }
    }
}

/// The bytes of a file with this header; `fill` writes the sections into the bytes that follow
/// it, which come zeroed.
///
/// # Errors
/// Where the header would not be read back: too long, or of a shape that is not served.
pub(crate) fn write(
    mut header: Header,
    fill: impl FnOnce(&Layout, &mut [u8]),
) -> Result<Vec<u8>, FormatError> {
    header.shape.check()?;
    header.check_tokenizer()?;
    let layout = Layout::plan(&header.shape, header.precision, header.vocabulary)
        .ok_or(FormatError::Sections)?;
    header.sections.clone_from(&layout.sections);
    let json = serde_json::to_vec(&header).map_err(|error| FormatError::Header(Some(error)))?;
    if json.len() > MAX_HEADER_BYTES {
        return Err(FormatError::Header(None));
    }
    let body = body_offset(json.len());
    let mut bytes = vec![0; body + layout.bytes];
    let file_bytes = bytes.len() as u64;
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&(json.len() as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&file_bytes.to_le_bytes());
    bytes[PREFIX_BYTES..PREFIX_BYTES + json.len()].copy_from_slice(&json);
    fill(&layout, &mut bytes[body..]);
    Ok(bytes)
}

fn body_offset(header_bytes: usize) -> usize {
    (PREFIX_BYTES + header_bytes).next_multiple_of(SECTION_ALIGNMENT)
}
