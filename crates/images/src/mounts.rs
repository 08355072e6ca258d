//! Mounts that a killed program left: nothing is removed through them.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;

/// Detaches everything that is mounted below a path: removing a tree would go on into it, and
/// what is mounted may be this machine's own.
pub fn detach_below(path: &Path) -> io::Result<()> {
    let Ok(path) = fs::canonicalize(path) else { return Ok(()) };
    let mut found = below(&fs::read_to_string("/proc/self/mountinfo")?, &path);
    // What was mounted last lies on top.
    while let Some(mount) = found.pop() {
        rustix::mount::unmount(&mount, UnmountFlags::DETACH)?;
    }
    Ok(())
}

/// The mount points below a path, in the order in which they were mounted.
fn below(mountinfo: &str, path: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    points.filter(|point| point.starts_with(path)).collect()
}

/// Blanks and the like stand as a backslash and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, byte) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_path_are_found() {
        let text = "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
                    40 27 0:1 / /a/scratch/1/tree/proc ro - proc proc ro\n\
                    41 27 0:2 / /a/scratch/1/b\\040c rw - tmpfs tmpfs rw\n\
                    42 27 0:2 / /a/scratches rw - tmpfs tmpfs rw\n";
        let expected = ["/a/scratch/1/tree/proc", "/a/scratch/1/b c"].map(PathBuf::from);
        assert_eq!(below(text, Path::new("/a/scratch")), expected);
        assert_eq!(unescape("a\\04"), PathBuf::from("a\\04"));
    }
}
