//! How much a directory holds.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What the files below a directory take on disk, each counted where it is met. Stops as soon as
/// it is more than `enough`. What disappears meanwhile does not count.
///
/// # Errors
/// When the directory itself cannot be read.
pub fn tree_bytes(path: &Path, enough: u64) -> io::Result<u64> {
    /// The kernel counts in these, whatever the file system's own are.
    const BLOCK_BYTES: u64 = 512;
    let mut waiting = vec![fs::read_dir(path)?];
    let mut held = 0;
    while let Some(mut directory) = waiting.pop() {
        while let Some(Ok(entry)) = directory.next() {
            let Ok(metadata) = entry.metadata() else { continue };
            held += metadata.blocks() * BLOCK_BYTES;
            if held > enough {
                return Ok(held);
            }
            if metadata.is_dir()
                && let Ok(below) = fs::read_dir(entry.path())
            {
                // One directory is open at each depth.
                waiting.push(std::mem::replace(&mut directory, below));
            }
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tree_holds_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        let empty = tree_bytes(directory.path(), u64::MAX).unwrap();
        for name in ["one", "a/two", "a/b/three"] {
            fs::write(directory.path().join(name), vec![1; 100_000]).unwrap();
        }
        // A link to a large file is not the file.
        std::os::unix::fs::symlink("/proc/kcore", directory.path().join("link")).unwrap();
        let full = tree_bytes(directory.path(), u64::MAX).unwrap();
        assert!((300_000..400_000).contains(&(full - empty)), "{empty} {full}");
        assert!(tree_bytes(directory.path(), 1000).unwrap() < full);
        assert!(tree_bytes(&directory.path().join("none"), 0).is_err());
    }
}
