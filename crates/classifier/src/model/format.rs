//! The layout of a model file.
//!
//! ```text
//!      0  magic                     8 bytes
//!      8  format version            u32
//!     12  length of the header      u32: everything before the first section
//!     16  length of the file        u64
//!     24  number of sections        u32
//!     28  length of the settings    u32
//!     32  BLAKE3 of the header, with these 32 bytes as zeros
//!     64  section table             40 bytes each: name (24, zero-padded), offset u64, length u64
//!         settings                  JSON
//!         sections                  each at a multiple of 64, zeros between them
//!    end  BLAKE3 of all before it   32 bytes
//! ```
//!
//! Numbers are little-endian, and so are the machines that map them.

use std::collections::BTreeMap;
use std::ops::Range;

use bytemuck::NoUninit;

use super::error::{Damage, ModelError};
use super::settings::{KNOWN_FEATURES, Requirements, Settings};

const _: () = assert!(cfg!(target_endian = "little"), "model files are mapped as they are");

/// The version this code writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;
/// The longest header: it is read, checked and parsed at each opening.
pub const MAX_HEADER_BYTES: usize = 64 << 10;
const MAGIC: &[u8; 8] = b"CORRALML";
const PROLOGUE_BYTES: usize = 64;
const CHECKSUM: Range<usize> = 32..64;
const ENTRY_BYTES: usize = 40;
const NAME_BYTES: usize = 24;
/// A cache line, and enough for every type in a section.
const ALIGNMENT: usize = 64;
const HASH_BYTES: usize = 32;

/// Collects sections and lays them out.
#[derive(Default)]
pub(super) struct FileBuilder {
    names: Vec<(String, Range<usize>)>,
    content: Vec<u8>,
}

impl FileBuilder {
    /// Appends a section.
    pub fn add<T: NoUninit>(&mut self, name: &str, entries: &[T]) {
        debug_assert!(name.len() <= NAME_BYTES, "section name {name} fits its field");
        self.content.resize(self.content.len().next_multiple_of(ALIGNMENT), 0);
        let start = self.content.len();
        self.content.extend_from_slice(bytemuck::cast_slice(entries));
        self.names.push((name.to_owned(), start..self.content.len()));
    }

    /// The bytes of the file.
    pub fn finish(self, settings: &Settings) -> Result<Vec<u8>, ModelError> {
        let settings = serde_json::to_vec(settings)
            .expect("settings are strings, numbers and lists, which JSON can say");
        let table_end = PROLOGUE_BYTES + self.names.len() * ENTRY_BYTES;
        let header_bytes = (table_end + settings.len()).next_multiple_of(ALIGNMENT);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(ModelError::HeaderTooLarge { bytes: settings.len() });
        }
        let file_bytes = header_bytes + self.content.len() + HASH_BYTES;

        let mut file = Vec::with_capacity(file_bytes);
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        file.extend_from_slice(&(header_bytes as u32).to_le_bytes());
        file.extend_from_slice(&(file_bytes as u64).to_le_bytes());
        file.extend_from_slice(&(self.names.len() as u32).to_le_bytes());
        file.extend_from_slice(&(settings.len() as u32).to_le_bytes());
        file.resize(PROLOGUE_BYTES, 0);
        for (name, range) in &self.names {
            let mut entry = [0u8; ENTRY_BYTES];
            entry[..name.len()].copy_from_slice(name.as_bytes());
            entry[24..32].copy_from_slice(&((header_bytes + range.start) as u64).to_le_bytes());
            entry[32..].copy_from_slice(&(range.len() as u64).to_le_bytes());
            file.extend_from_slice(&entry);
        }
        file.extend_from_slice(&settings);
        file.resize(header_bytes, 0);
        let checksum = blake3::hash(&file);
        file[CHECKSUM].copy_from_slice(checksum.as_bytes());
        file.extend_from_slice(&self.content);
        let hash = blake3::hash(&file);
        file.extend_from_slice(hash.as_bytes());
        Ok(file)
    }
}

/// Where each section of a file lies. Every range is within the file, aligned, and apart from
/// the others.
#[derive(Debug)]
pub(super) struct Sections {
    ranges: BTreeMap<String, Range<usize>>,
}

impl Sections {
    /// Takes the range of a section that must hold `entries` of `T`.
    pub fn take<T>(&mut self, name: &str, entries: usize) -> Result<Range<usize>, Damage> {
        let range = self.take_any::<T>(name)?;
        let wanted = entries as u64 * size_of::<T>() as u64;
        if range.len() as u64 != wanted {
            let (section, found) = (name.to_owned(), range.len() as u64);
            return Err(Damage::SectionLength { section, found, wanted });
        }
        Ok(range)
    }

    /// Takes the range of a section of any number of `T`.
    pub fn take_any<T>(&mut self, name: &str) -> Result<Range<usize>, Damage> {
        let range =
            self.ranges.remove(name).ok_or_else(|| Damage::SectionMissing(name.to_owned()))?;
        if !range.len().is_multiple_of(size_of::<T>()) {
            let found = range.len() as u64;
            let wanted = found - found % size_of::<T>() as u64;
            return Err(Damage::SectionLength { section: name.to_owned(), found, wanted });
        }
        Ok(range)
    }

    /// Refuses sections that nobody took: they mean something that this code does not know.
    pub fn finish(self) -> Result<(), ModelError> {
        match self.ranges.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(ModelError::UnknownFeature { feature: format!("section {name}") }),
        }
    }
}

/// Reads and checks the header of a file, given all its bytes.
pub(super) fn read_header(file: &[u8]) -> Result<(Settings, Sections), ModelError> {
    let found = file.len() as u64;
    let known = file.len().min(MAGIC.len());
    if file[..known] != MAGIC[..known] || file.is_empty() {
        return Err(ModelError::Foreign);
    }
    let Some(prologue) = file.first_chunk::<PROLOGUE_BYTES>() else {
        return Err(ModelError::Truncated { found, wanted: PROLOGUE_BYTES as u64 });
    };
    let number = |at: usize| {
        u32::from_le_bytes([prologue[at], prologue[at + 1], prologue[at + 2], prologue[at + 3]])
    };
    let version = number(8);
    if version > FORMAT_VERSION {
        return Err(ModelError::NewerFormat { found: version });
    }
    let wanted = u64::from(number(16)) | u64::from(number(20)) << 32;
    if found < wanted {
        return Err(ModelError::Truncated { found, wanted });
    }
    let (header_bytes, count) = (number(12) as usize, number(24) as usize);
    let settings_bytes = number(28) as usize;
    let table_end = PROLOGUE_BYTES + count.min(MAX_HEADER_BYTES) * ENTRY_BYTES;
    let whole = version == FORMAT_VERSION
        && found == wanted
        && header_bytes <= MAX_HEADER_BYTES
        && header_bytes + HASH_BYTES <= file.len()
        && table_end + settings_bytes <= header_bytes;
    if !whole || checksum(&file[..header_bytes]) != file[CHECKSUM] {
        return Err(Damage::HeaderChecksum.into());
    }
    let settings = read_settings(&file[table_end..table_end + settings_bytes])?;
    let content = header_bytes..file.len() - HASH_BYTES;
    let (entries, _) = file[PROLOGUE_BYTES..table_end].as_chunks::<ENTRY_BYTES>();
    Ok((settings, read_table(entries, content)?))
}

/// The hash at the end of a file, and whether it is that of what stands before it.
pub(super) fn content_hash_matches(file: &[u8]) -> bool {
    file.split_last_chunk::<HASH_BYTES>()
        .is_some_and(|(content, hash)| blake3::hash(content).as_bytes() == hash)
}

fn checksum(header: &[u8]) -> [u8; HASH_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header[..CHECKSUM.start]);
    hasher.update(&[0; HASH_BYTES]);
    hasher.update(&header[CHECKSUM.end..]);
    *hasher.finalize().as_bytes()
}

fn read_settings(json: &[u8]) -> Result<Settings, ModelError> {
    let damaged = |error: serde_json::Error| Damage::Settings(error.to_string());
    let Requirements { requires } = serde_json::from_slice(json).map_err(damaged)?;
    let unknown = requires.into_iter().find(|word| !KNOWN_FEATURES.contains(&word.as_str()));
    if let Some(feature) = unknown {
        return Err(ModelError::UnknownFeature { feature });
    }
    Ok(serde_json::from_slice(json).map_err(damaged)?)
}

fn read_table(
    entries: &[[u8; ENTRY_BYTES]],
    content: Range<usize>,
) -> Result<Sections, ModelError> {
    let mut ranges = BTreeMap::new();
    let mut by_place = Vec::with_capacity(entries.len());
    for entry in entries {
        let name = entry[..NAME_BYTES].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        let number = |at: usize| {
            let bytes = entry[at..at + 8].try_into().expect("eight bytes were taken");
            u64::from_le_bytes(bytes)
        };
        let (offset, length) = (number(24), number(32));
        let end = offset.checked_add(length).filter(|&end| end <= content.end as u64);
        let (true, Some(end)) =
            (offset >= content.start as u64 && offset % ALIGNMENT as u64 == 0, end)
        else {
            return Err(Damage::SectionBounds(name).into());
        };
        let range = offset as usize..end as usize;
        by_place.push((range.clone(), name.clone()));
        if ranges.insert(name.clone(), range).is_some() {
            return Err(Damage::SectionTwice(name).into());
        }
    }
    by_place.sort_unstable_by_key(|(range, _)| (range.start, range.end));
    let overlap = by_place.windows(2).find(|pair| pair[0].0.end > pair[1].0.start);
    match overlap {
        Some([_, (_, name)]) => Err(Damage::SectionBounds(name.clone()).into()),
        _ => Ok(Sections { ranges }),
    }
}
