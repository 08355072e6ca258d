//! Embeddings kept on disk between runs, so that a search that is resumed or repeated does not
//! embed again.
//!
//! A block is a file named by a hash over the encoder, the view and all texts; it ends with the
//! hash of its content. What cannot be read, or is damaged, is computed again. Lexical blocks
//! are not kept: counting takes 0.15 µs a byte of text, hardly more than reading back the
//! twenty bytes of columns and values that it makes of it.
//!
//! ```text
//!      0  magic          8 bytes
//!      8  rows           u64
//!     16  width          u64
//!     24  values         f32, row after row
//!    end  BLAKE3 of all before it
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use corral_classifier::{DenseRows, EmbeddingView};
use corral_types::BlobHash;

const MAGIC: &[u8; 8] = b"corralE1";
const HEADER_BYTES: usize = 24;
const HASH_BYTES: usize = 32;
/// Ends the names of blocks.
const EXTENSION: &str = "block";
/// Ends the names of files that are being written.
const UNFINISHED: &str = "part";
/// Bytes moved between memory and file at once.
const PIECE_BYTES: usize = 1 << 20;

/// Where blocks are kept, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockCache {
    /// Made where it is not there. Runs may share it.
    pub folder: PathBuf,
    /// What all blocks may take. Those that were used longest ago go first.
    pub quota_bytes: u64,
}

/// Names the embeddings of some texts by one view of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockKey(BlobHash);

impl BlockKey {
    pub fn new(encoder: BlobHash, view: EmbeddingView, texts: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(MAGIC);
        hasher.update(encoder.as_bytes());
        hasher.update(&(view.as_str().len() as u64).to_le_bytes());
        hasher.update(view.as_str().as_bytes());
        for text in texts {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        Self(BlobHash::of(hasher.finalize().as_bytes()))
    }
}

impl BlockCache {
    /// The block of a key, which is marked as used; `None` where there is none, it is damaged
    /// or of another shape.
    pub fn load(&self, key: BlockKey, rows: usize, width: usize) -> Option<DenseRows> {
        let path = self.path(key);
        let read = read_block(&path, rows, width);
        match read {
            Ok(block) => {
                // A block whose time stays the old one goes sooner, and that is all.
                let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(block)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => {
                // Of no use to anyone: the next run writes it anew.
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Keeps a block, after removing those used longest ago until it fits. A block larger than
    /// the whole quota is not kept.
    ///
    /// # Errors
    /// When the folder cannot be listed or written. What was there stays usable.
    pub fn keep(&self, key: BlockKey, block: &DenseRows) -> io::Result<()> {
        let bytes = (HEADER_BYTES + size_of_val(block.values()) + HASH_BYTES) as u64;
        if bytes > self.quota_bytes {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        self.make_room(bytes)?;
        let unfinished = self.folder.join(format!("{}.{}.{UNFINISHED}", key.0, std::process::id()));
        let written =
            write_block(&unfinished, block).and_then(|()| fs::rename(&unfinished, self.path(key)));
        if written.is_err() {
            // It may not even be there.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    fn path(&self, key: BlockKey) -> PathBuf {
        self.folder.join(format!("{}.{EXTENSION}", key.0))
    }

    /// Removes blocks, those used longest ago first, until so many bytes are free. Files that
    /// an ended run left unfinished count and go like blocks.
    fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            let ours = path.extension().is_some_and(|end| end == EXTENSION || end == UNFINISHED);
            if ours && let Ok(about) = entry.metadata() {
                kept.push((about.modified()?, path, about.len()));
            }
        }
        kept.sort();
        let mut used: u64 = kept.iter().map(|(_, _, bytes)| bytes).sum();
        for (_, path, freed) in kept {
            if used + bytes <= self.quota_bytes {
                break;
            }
            match fs::remove_file(&path) {
                // Another run was faster.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => used -= freed,
            }
        }
        Ok(())
    }
}

fn header(rows: usize, width: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&(rows as u64).to_le_bytes());
    header[16..].copy_from_slice(&(width as u64).to_le_bytes());
    header
}

fn write_block(path: &Path, block: &DenseRows) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
        file.write_all(bytes)
    };
    put(&header(block.rows(), block.width()))?;
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    for values in block.values().chunks(PIECE_BYTES / size_of::<f32>()) {
        piece.clear();
        piece.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        put(&piece)?;
    }
    let hash = hasher.finalize();
    file.write_all(hash.as_bytes())
}

fn read_block(path: &Path, rows: usize, width: usize) -> io::Result<DenseRows> {
    let damaged = || io::Error::from(io::ErrorKind::InvalidData);
    let mut file = File::open(path)?;
    let values = rows.checked_mul(width).ok_or_else(damaged)?;
    let bytes = HEADER_BYTES + values * size_of::<f32>() + HASH_BYTES;
    // Checked before room is made for what a damaged file claims.
    if file.metadata()?.len() != bytes as u64 {
        return Err(damaged());
    }
    let mut hasher = blake3::Hasher::new();
    let mut found = [0; HEADER_BYTES];
    file.read_exact(&mut found)?;
    hasher.update(&found);
    if found != header(rows, width) {
        return Err(damaged());
    }
    let mut block = DenseRows::zeros(rows, width);
    let mut piece = vec![0; PIECE_BYTES];
    for values in block.values_mut().chunks_mut(PIECE_BYTES / size_of::<f32>()) {
        let piece = &mut piece[..size_of_val(values)];
        file.read_exact(piece)?;
        hasher.update(piece);
        for (value, bytes) in values.iter_mut().zip(piece.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
    }
    let mut hash = [0; HASH_BYTES];
    file.read_exact(&mut hash)?;
    if *hasher.finalize().as_bytes() != hash {
        return Err(damaged());
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn block(rows: usize, start: f32) -> DenseRows {
        DenseRows::from_values((0..rows * 3).map(|n| start + n as f32 / 7.0).collect(), 3)
    }

    fn key(name: &str) -> BlockKey {
        BlockKey::new(BlobHash::of(b"encoder"), EmbeddingView::Pooled, &[name])
    }

    const BLOCK_BYTES: u64 = 24 + 10 * 3 * 4 + 32;

    fn names(cache: &BlockCache) -> usize {
        fs::read_dir(&cache.folder).unwrap().count()
    }

    #[test]
    fn blocks_come_back_until_the_quota_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("made/when/needed");
        let cache = BlockCache { folder, quota_bytes: 2 * BLOCK_BYTES + 10 };
        let load = |name| cache.load(key(name), 10, 3);
        assert_eq!(load("a"), None);
        for (at, name) in ["a", "b"].into_iter().enumerate() {
            cache.keep(key(name), &block(10, at as f32)).unwrap();
            // So that times differ whatever the clock of the file system shows.
            let back = SystemTime::now() - Duration::from_secs(100 - at as u64);
            File::open(cache.path(key(name))).unwrap().set_modified(back).unwrap();
        }
        assert_eq!(load("a"), Some(block(10, 0.0)), "and is now used later than b");
        cache.keep(key("c"), &block(10, 2.0)).unwrap();
        assert_eq!(
            [load("a"), load("b"), load("c")],
            [Some(block(10, 0.0)), None, Some(block(10, 2.0))]
        );
        cache.keep(key("d"), &block(1000, 3.0)).unwrap();
        assert_eq!(names(&cache), 2, "what is larger than the quota is not kept");
        assert_eq!(cache.load(key("a"), 10, 4), None, "another shape than was kept");
        assert_eq!(names(&cache), 1);
    }

    #[test]
    fn a_damaged_block_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let cache = BlockCache { folder: directory.path().to_owned(), quota_bytes: 1 << 20 };
        let path = cache.path(key("a"));
        for place in [0, 9, 30, 120, BLOCK_BYTES as usize - 1] {
            cache.keep(key("a"), &block(10, 0.0)).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            bytes[place] ^= 4;
            fs::write(&path, bytes).unwrap();
            assert_eq!(cache.load(key("a"), 10, 3), None, "{place}");
            assert!(!path.exists(), "what is damaged goes");
        }
        cache.keep(key("a"), &block(10, 0.0)).unwrap();
        fs::write(&path, &fs::read(&path).unwrap()[..50]).unwrap();
        assert_eq!(cache.load(key("a"), 10, 3), None);
    }

    #[test]
    fn keys_tell_texts_and_views_apart() {
        let encoder = BlobHash::of(b"encoder");
        let of = |view, texts: &[&str]| BlockKey::new(encoder, view, texts);
        let key = of(EmbeddingView::Pooled, &["ab", "c"]);
        assert_eq!(key, of(EmbeddingView::Pooled, &["ab", "c"]));
        assert_ne!(key, of(EmbeddingView::Layers, &["ab", "c"]));
        assert_ne!(key, of(EmbeddingView::Pooled, &["a", "bc"]));
        assert_ne!(key, BlockKey::new(BlobHash::of(b"x"), EmbeddingView::Pooled, &["ab", "c"]));
    }
}
