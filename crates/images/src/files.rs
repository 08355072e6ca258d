//! Trees of files: linking, copying, counting, removing.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::mounts;

/// Directories may be nested this deep; the kernel's own limit on paths is met earlier.
const MAX_DEPTH: usize = 2048;

/// Removes a tree whatever the modes in it; one that is not there is no error. What is mounted
/// below it is detached, not removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    mounts::detach_below(path)?;
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Overlay's own directory is closed to its owner, unless that is root.
            open_up(path, 0)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn open_up(folder: &Path, depth: usize) -> io::Result<()> {
    check_depth(depth)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path(), depth + 1)?;
        }
    }
    Ok(())
}

fn check_depth(depth: usize) -> io::Result<()> {
    match depth > MAX_DEPTH {
        true => Err(io::Error::other(format!("directories are nested more than {MAX_DEPTH} deep"))),
        false => Ok(()),
    }
}

/// The bytes that a tree takes for itself: files with further names elsewhere count there.
pub fn own_bytes(tree: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    walk(tree, &mut |_, found| {
        if found.is_dir() || found.nlink() == 1 {
            bytes += found.blocks() * 512;
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// Calls `visit` for everything below a directory, directories before what is in them.
pub fn walk(
    tree: &Path,
    visit: &mut dyn FnMut(&Path, &Metadata) -> io::Result<()>,
) -> io::Result<()> {
    walk_at(tree, visit, 0)
}

fn walk_at(
    folder: &Path,
    visit: &mut dyn FnMut(&Path, &Metadata) -> io::Result<()>,
    depth: usize,
) -> io::Result<()> {
    check_depth(depth)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, found) = (entry.path(), entry.metadata()?);
        visit(&path, &found)?;
        if found.is_dir() {
            walk_at(&path, visit, depth + 1)?;
        }
    }
    Ok(())
}

/// How files come from one tree to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// By one more name where that is possible: for trees that are only read. A file that could
    /// give rights, one with set-user-id bits, is copied.
    Link,
    /// As files of their own, for trees that are written to.
    Copy,
}

/// Brings one file, link or special file to a new path, with its mode, owner and time.
pub fn transfer(from: &Path, found: &Metadata, to: &Path, how: Transfer) -> io::Result<()> {
    let kind = found.file_type();
    if kind.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if kind.is_file() {
        let plain = found.mode() & 0o6000 == 0;
        if how == Transfer::Link && plain && fs::hard_link(from, to).is_ok() {
            return Ok(());
        }
        fs::copy(from, to)?;
        keep_attributes(found, to)?;
        let file = File::options().write(true).open(to)?;
        return file.set_modified(found.modified()?);
    }
    if kind.is_char_device() && found.rdev() == 0 {
        let mode = Mode::from_raw_mode(0o000);
        rustix::fs::mknodat(CWD, to, FileType::CharacterDevice, mode, 0)?;
        return Ok(());
    }
    // Pipes, sockets and devices are of a running system.
    Ok(())
}

/// Gives a path the owner and mode of another.
pub fn keep_attributes(found: &Metadata, to: &Path) -> io::Result<()> {
    // As an ordinary user everything is that user's.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(to, Some(found.uid()), Some(found.gid()))?;
    }
    fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o7777))
}

/// Gives every file below `from` a further name below `to`, for a tree that is only read.
/// Directories that are there are gone on with; of two files with the same path the first stays.
/// Gives the bytes that the new directories take.
///
/// Relative to open directories: an image with large libraries is tens of thousands of names, and
/// finding each from the top was half of its build.
pub fn link_tree(from: &Path, to: &Path) -> io::Result<u64> {
    let open = |path: &Path| rustix::fs::open(path, DIRECTORY, Mode::empty());
    match fs::create_dir(to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => fs::set_permissions(to, fs::Permissions::from_mode(0o755))?,
    }
    link_within(open(from)?, open(to)?, from, to, 0)
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// What a directory takes on disk, about.
const DIRECTORY_BYTES: u64 = 4096;

fn link_within(
    from: OwnedFd,
    to: OwnedFd,
    from_path: &Path,
    to_path: &Path,
    depth: usize,
) -> io::Result<u64> {
    check_depth(depth)?;
    let mut bytes = DIRECTORY_BYTES;
    let mut entries = Dir::read_from(&from)?;
    while let Some(entry) = entries.read().transpose()? {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let inner = OsStr::from_bytes(name.to_bytes());
        let (inner_from, inner_to) = (from_path.join(inner), to_path.join(inner));
        let is_directory = match entry.file_type() {
            FileType::Unknown => fs::symlink_metadata(&inner_from)?.is_dir(),
            kind => kind == FileType::Directory,
        };
        if is_directory {
            match rustix::fs::mkdirat(&to, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    rustix::fs::chmodat(&to, name, Mode::from_raw_mode(0o755), AtFlags::empty())?
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            let open =
                |folder: &OwnedFd| rustix::fs::openat(folder, name, DIRECTORY, Mode::empty());
            bytes += link_within(open(&from)?, open(&to)?, &inner_from, &inner_to, depth + 1)?;
            continue;
        }
        match rustix::fs::linkat(&from, name, &to, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => {}
            // The file has as many names as one can have, or lies on another file system.
            Err(Errno::MLINK | Errno::XDEV | Errno::PERM) => {
                let found = fs::symlink_metadata(&inner_from)?;
                transfer(&inner_from, &found, &inner_to, Transfer::Copy)?;
                bytes += found.len();
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(bytes)
}

/// Whether a directory hides what is below it in an overlay.
pub fn is_opaque(folder: &Path) -> bool {
    let mut value = [0_u8; 8];
    ["user.overlay.opaque", "trusted.overlay.opaque"].iter().any(|name| {
        let length = rustix::fs::lgetxattr(folder, *name, &mut value);
        length.is_ok_and(|length| length == 1 && value[0] == b'y')
    })
}

/// Whether this is overlay's mark of a removed file.
pub fn is_whiteout(found: &Metadata) -> bool {
    found.file_type().is_char_device() && found.rdev() == 0
}

/// Makes the directory `name` below one that is there, readable for all whatever the process's
/// mask.
pub fn make_directory(tree: &Path, name: &Path) -> io::Result<()> {
    let mut path = tree.to_owned();
    for part in name.components() {
        path.push(part);
        match fs::create_dir(&path) {
            Ok(()) => fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
