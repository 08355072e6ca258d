//! What an overlay of directories shows, read without mounting it.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use crate::files::{is_opaque, is_whiteout};

/// Symbolic links that one path may go through; the kernel's own limit.
const MAX_LINKS: usize = 40;

/// Bytes of a file that is read whole.
const MAX_READ_BYTES: u64 = 64 << 20;

/// Directories as overlay lays them over one another, top first.
#[derive(Clone, Debug)]
pub struct View {
    pub layers: Vec<PathBuf>,
}

/// What a path leads to.
#[derive(Debug)]
pub enum Found {
    /// The directories that make it up, top first.
    Directory(Vec<PathBuf>),
    /// A file or link, and where it lies.
    Other(PathBuf, Metadata),
}

impl View {
    /// What is at a path, whose links in the middle are followed and whose last one is not.
    fn entry(&self, path: &Path) -> Option<Found> {
        let mut folders = self.layers.clone();
        let mut names = path.components().filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        });
        let mut name = names.next();
        while let Some(this) = name {
            name = names.next();
            let mut next = Vec::new();
            for folder in &folders {
                let path = folder.join(this);
                let Ok(found) = fs::symlink_metadata(&path) else { continue };
                if is_whiteout(&found) {
                    break;
                }
                if !found.is_dir() {
                    match next.is_empty() && name.is_none() {
                        true => return Some(Found::Other(path, found)),
                        false => break,
                    }
                }
                let hides = is_opaque(&path);
                next.push(path);
                if hides {
                    break;
                }
            }
            if next.is_empty() {
                return None;
            }
            folders = next;
        }
        Some(Found::Directory(folders))
    }

    /// The path without any link in it; parts that are not there stay as they are.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut resolved = PathBuf::from("/");
        let mut rest: Vec<PathBuf> = vec![path.to_owned()];
        let mut links = 0;
        while let Some(piece) = rest.pop() {
            let mut parts = piece.components();
            let Some(part) = parts.next() else { continue };
            let after = parts.as_path().to_owned();
            if !after.as_os_str().is_empty() {
                rest.push(after);
            }
            match part {
                Component::Prefix(_) | Component::RootDir => resolved = PathBuf::from("/"),
                Component::CurDir => {}
                Component::ParentDir => {
                    resolved.pop();
                }
                Component::Normal(name) => {
                    let next = resolved.join(name);
                    match self.entry(&next) {
                        Some(Found::Other(real, found)) if found.is_symlink() => {
                            links += 1;
                            if links > MAX_LINKS {
                                let text =
                                    format!("{} goes through too many links", path.display());
                                return Err(io::Error::other(text));
                            }
                            rest.push(fs::read_link(real)?);
                        }
                        _ => resolved = next,
                    }
                }
            }
        }
        Ok(resolved)
    }

    /// What a path leads to, its links followed.
    pub fn find(&self, path: impl AsRef<Path>) -> Option<Found> {
        self.entry(&self.resolve(path.as_ref()).ok()?)
    }

    pub fn is_directory(&self, path: &Path) -> bool {
        matches!(self.find(path), Some(Found::Directory(_)))
    }

    /// The content of a file, if there is one of at most 64 MiB.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let Some(Found::Other(real, found)) = self.find(path) else { return None };
        if !found.is_file() || found.len() > MAX_READ_BYTES {
            return None;
        }
        let mut bytes = Vec::new();
        fs::File::open(real).ok()?.take(MAX_READ_BYTES).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// The names in a directory.
    pub fn list(&self, path: impl AsRef<Path>) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut gone = BTreeSet::new();
        let Some(Found::Directory(folders)) = self.find(path) else { return names };
        for folder in folders {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(name) = entry.file_name().into_string() else { continue };
                if names.contains(&name) || gone.contains(&name) {
                    continue;
                }
                match entry.metadata().is_ok_and(|found| is_whiteout(&found)) {
                    true => gone.insert(name),
                    false => names.insert(name),
                };
            }
        }
        names
    }

    /// The first file of a name along `PATH`, its links not followed.
    pub fn program(&self, name: &str, path: &str) -> Option<PathBuf> {
        let candidates = path.split(':').map(|folder| Path::new(folder).join(name));
        candidates.into_iter().find(|candidate| {
            matches!(self.find(candidate), Some(Found::Other(_, found)) if found.is_file())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn view(layers: &[&[(&str, &str)]]) -> (tempfile::TempDir, View) {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (number, files) in layers.iter().enumerate() {
            let layer = dir.path().join(number.to_string());
            fs::create_dir_all(&layer).unwrap();
            for (path, content) in *files {
                let path = layer.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                match content.strip_prefix("-> ") {
                    Some(target) => symlink(target, path).unwrap(),
                    None => fs::write(path, content).unwrap(),
                }
            }
            paths.push(layer);
        }
        (dir, View { layers: paths })
    }

    #[test]
    fn upper_layers_hide_lower_ones_and_links_are_followed_within() {
        let (_dir, view) = view(&[
            &[("etc/a", "new"), ("x", "a file")],
            &[
                ("etc/a", "old"),
                ("usr/lib/b", "b"),
                ("lib", "-> usr/lib"),
                ("x/inside", "hidden"),
                ("abs", "-> /lib/b"),
                ("up", "-> ../../../etc"),
                ("loop", "-> loop"),
            ],
        ]);
        let read = |path: &str| view.read(path).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(read("/etc/a").as_deref(), Some("new"));
        assert_eq!(read("/lib/b").as_deref(), Some("b"));
        assert_eq!(read("/abs").as_deref(), Some("b"));
        assert_eq!(read("/up/a").as_deref(), Some("new"));
        assert_eq!(read("/x/inside"), None);
        assert_eq!(read("/loop"), None);
        assert_eq!(
            view.resolve(Path::new("/lib/new/file")).unwrap(),
            Path::new("/usr/lib/new/file")
        );
        let names: Vec<_> = view.list("/etc").into_iter().collect();
        assert_eq!(names, ["a"]);
        assert_eq!(view.program("b", "/bin:/lib").as_deref(), Some(Path::new("/lib/b")));
    }
}
