//! Trees of files by content, as directories.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use corral_containers::FileTree;

use crate::error::BuildError;
use crate::files::make_directory;
use crate::options::Files;
use crate::store::{Layer, Store};

/// Lays the files out at their paths. They are copies: a mode belongs to a file's content on
/// disk, and the same content may stand in two trees with two modes.
pub fn make(
    files: &FileTree,
    id: &str,
    store: &Store,
    contents: &dyn Files,
) -> Result<Layer, BuildError> {
    let scratch = store.scratch()?;
    make_directory(scratch.path(), Path::new("tree"))
        .map_err(BuildError::io("make", scratch.path()))?;
    let tree = scratch.path().join("tree");
    for file in &files.files {
        let inner = Path::new(&file.path);
        let inner = inner.strip_prefix("/").unwrap_or(inner);
        let leaves = inner.components().any(|part| !matches!(part, Component::Normal(_)));
        let Some(parent) = inner.parent().filter(|_| !leaves) else {
            return Err(BuildError::refused(format!("`{}` is no path of a file", file.path)));
        };
        let target = tree.join(inner);
        let write = || -> io::Result<()> {
            let mut content = contents.open(&file.blob)?;
            make_directory(&tree, parent)?;
            // The last of two with the same path holds.
            drop(fs::remove_file(&target));
            let mut out = File::create_new(&target)?;
            io::copy(&mut content, &mut out)?;
            let mode = if file.mode & 0o7777 == 0 { 0o644 } else { file.mode & 0o777 };
            out.set_permissions(Permissions::from_mode(mode))
        };
        write().map_err(BuildError::io("lay out", Path::new(&file.path)))?;
    }
    store.adopt(id, &tree, serde_json::Value::Null)
}
