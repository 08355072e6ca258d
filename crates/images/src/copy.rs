//! `COPY` and `ADD`: files of the context into the layer that is being made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use corral_containers::{BuildStep, ContextFile, TreeFile};

use crate::error::BuildError;
use crate::files::keep_attributes;
use crate::options::Files;
use crate::view::{Found, View};

/// What a path of the context holds.
enum Source<'a> {
    Blob(&'a TreeFile),
    Bytes(&'a ContextFile),
}

/// The files of a step, by their paths without a slash in front.
pub struct Context<'a> {
    files: BTreeMap<PathBuf, Source<'a>>,
    store: &'a dyn Files,
}

/// The path from the top of the context; `..` does not lead out of it.
fn inner(path: &str) -> PathBuf {
    let mut inner = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => inner.push(name),
            Component::ParentDir => drop(inner.pop()),
            _ => {}
        }
    }
    inner
}

impl<'a> Context<'a> {
    pub fn of(step: &'a BuildStep, store: &'a dyn Files) -> Self {
        let mut files = BTreeMap::new();
        for file in step.context.iter().flat_map(|tree| &tree.files) {
            files.insert(inner(&file.path), Source::Blob(file));
        }
        for file in &step.context_files {
            files.insert(inner(&file.name), Source::Bytes(file));
        }
        Self { files, store }
    }

    /// The files that a source stands for, and for each the path that it has below the destination
    /// if that is a directory; `None` if nothing is there.
    fn matches(&self, source: &str) -> Option<Matches> {
        let source = inner(source);
        let pattern: Vec<String> = source
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        let mut found = Matches { is_directory: false, files: vec![] };
        let mut tops = BTreeSet::new();
        for path in self.files.keys() {
            let parts: Vec<String> = path
                .components()
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
                .collect();
            let fits = parts.len() >= pattern.len()
                && pattern.iter().zip(&parts).all(|(pattern, name)| glob(pattern, name));
            if !fits {
                continue;
            }
            let below: PathBuf = match parts.len() == pattern.len() {
                true => parts.last()?.into(),
                // Of a directory its content is copied, not itself.
                false => parts[pattern.len()..].iter().collect(),
            };
            found.is_directory |= parts.len() > pattern.len();
            tops.insert(parts[..pattern.len()].to_vec());
            found.files.push((path.clone(), below));
        }
        found.is_directory |= tops.len() > 1;
        (!found.files.is_empty()).then_some(found)
    }

    /// Whether a path of the context is there.
    pub fn has(&self, source: &str) -> bool {
        self.matches(source).is_some()
    }

    fn open(&self, path: &Path) -> io::Result<(Box<dyn io::Read + 'a>, u32)> {
        match self.files.get(path) {
            Some(Source::Blob(file)) => {
                let mode = file.mode & 0o7777;
                let mode = if mode == 0 { 0o644 } else { mode };
                Ok((Box::new(self.store.open(&file.blob)?), mode))
            }
            Some(Source::Bytes(file)) => Ok((Box::new(file.bytes.as_slice()), 0o644)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

struct Matches {
    is_directory: bool,
    files: Vec<(PathBuf, PathBuf)>,
}

/// Whether a name fits a pattern with `*`, `?` and `[…]`.
fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        let (fits, width) = match pattern.get(at) {
            Some('*') => {
                star = Some((at, of));
                at += 1;
                continue;
            }
            Some('?') => (true, 1),
            Some('[') => class(&pattern[at..], name[of]),
            Some(c) => (*c == name[of], 1),
            None => (false, 0),
        };
        if fits {
            at += width;
            of += 1;
        } else if let Some((back, from)) = star {
            at = back + 1;
            of = from + 1;
            star = Some((back, from + 1));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// Whether a character is in the class that the pattern begins with, and how long that is.
fn class(pattern: &[char], c: char) -> (bool, usize) {
    let Some(end) = pattern.iter().skip(2).position(|c| *c == ']').map(|at| at + 2) else {
        return (c == '[', 1);
    };
    let (negated, members) = match pattern[1] {
        '^' | '!' => (true, &pattern[2..end]),
        _ => (false, &pattern[1..end]),
    };
    let mut within = false;
    let mut at = 0;
    while at < members.len() {
        if members.len() > at + 2 && members[at + 1] == '-' {
            within |= (members[at]..=members[at + 2]).contains(&c);
            at += 3;
        } else {
            within |= members[at] == c;
            at += 1;
        }
    }
    (within != negated, end + 1)
}

/// Where a layer is written and what is below it.
pub struct Writing {
    pub upper: PathBuf,
    /// The upper directory and everything below it.
    pub view: View,
    pub working_directory: String,
}

impl Writing {
    /// Copies sources to a destination, as `COPY` does.
    pub fn copy(
        &self,
        context: &Context<'_>,
        sources: &[String],
        destination: &str,
        mode: Option<u32>,
    ) -> Result<(), BuildError> {
        let path = Path::new(&self.working_directory).join(destination);
        let mut all = Vec::new();
        let mut into_directory = destination.ends_with('/')
            || destination.ends_with("/.")
            || destination == "."
            || sources.len() > 1
            || self.view.is_directory(&path);
        for source in sources {
            let found = context.matches(source).ok_or_else(|| {
                BuildError::refused(format!("COPY: `{source}` is not in the context of the build"))
            })?;
            into_directory |= found.is_directory || inner(source).as_os_str().is_empty();
            all.extend(found.files);
        }
        for (file, below) in all {
            let target = if into_directory { path.join(below) } else { path.clone() };
            let (mut reader, own_mode) = context
                .open(&file)
                .map_err(BuildError::io("read from the context of the build", &file))?;
            self.file(&target, &mut *reader, mode.unwrap_or(own_mode))?;
        }
        Ok(())
    }

    /// Writes a file at a path of the container.
    pub fn file(
        &self,
        path: &Path,
        content: &mut dyn io::Read,
        mode: u32,
    ) -> Result<(), BuildError> {
        let resolved = self.view.resolve(path).map_err(BuildError::io("find", path))?;
        if self.view.is_directory(&resolved) {
            let name = resolved.display();
            return Err(BuildError::refused(format!("COPY: {name} is a directory in the image")));
        }
        self.directory(resolved.parent().unwrap_or(Path::new("/")))?;
        let target = self.on_disk(&resolved);
        let mut write = || -> io::Result<()> {
            drop(fs::remove_file(&target));
            let mut file = File::create_new(&target)?;
            io::copy(content, &mut file)?;
            file.set_permissions(fs::Permissions::from_mode(mode))
        };
        write().map_err(BuildError::io("write", &target))
    }

    fn on_disk(&self, path: &Path) -> PathBuf {
        self.upper.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Makes a directory of the container, if it is not there.
    pub fn directory(&self, path: &Path) -> Result<(), BuildError> {
        let resolved = self.view.resolve(path).map_err(BuildError::io("find", path))?;
        let mut so_far = PathBuf::from("/");
        for part in resolved.components().skip(1) {
            so_far.push(part);
            let target = self.on_disk(&so_far);
            if target.is_dir() {
                continue;
            }
            let attributes = match self.view.find(&so_far) {
                Some(Found::Directory(folders)) => folders.first().map(fs::metadata),
                Some(Found::Other(..)) => {
                    let name = so_far.display();
                    return Err(BuildError::refused(format!("{name} is a file in the image")));
                }
                None => None,
            };
            let make = || -> io::Result<()> {
                // It may stand there as the mark of a removed one.
                drop(fs::remove_file(&target));
                fs::create_dir(&target)?;
                match attributes {
                    Some(found) => keep_attributes(&found?, &target),
                    None => fs::set_permissions(&target, fs::Permissions::from_mode(0o755)),
                }
            };
            make().map_err(BuildError::io("make", &target))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct None;

    impl Files for None {
        fn open(&self, _: &corral_types::BlobHash) -> io::Result<File> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn copied(files: &[&str], sources: &[&str], destination: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(lower.join("there")).unwrap();
        fs::set_permissions(lower.join("there"), fs::Permissions::from_mode(0o750)).unwrap();
        let mut step = BuildStep::default();
        for name in files {
            let bytes = name.as_bytes().to_vec();
            step.context_files.push(ContextFile { name: (*name).to_owned(), bytes });
        }
        let view = View { layers: vec![upper.clone(), lower] };
        let writing = Writing { upper: upper.clone(), view, working_directory: "/work".into() };
        let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
        if let Err(error) =
            writing.copy(&Context::of(&step, &None), &sources, destination, Option::None)
        {
            return vec![error.to_string()];
        }
        if upper.join("there").exists() {
            let mode = fs::metadata(upper.join("there")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o750, "a directory keeps the mode that it has below");
        }
        let mut paths = Vec::new();
        crate::files::walk(&upper, &mut |path, found| {
            if found.is_file() {
                paths.push(path.strip_prefix(&upper).unwrap().display().to_string());
            }
            Ok(())
        })
        .unwrap();
        paths.sort();
        paths
    }

    #[test]
    fn sources_land_where_a_dockerfile_says() {
        let files = ["a.txt", "/d/b.txt", "d/e/c.txt"];
        for (sources, destination, expected) in [
            (vec!["a.txt"], "/x", vec!["x"]),
            (vec!["/a.txt"], "/x/", vec!["x/a.txt"]),
            (vec!["a.txt"], "/there", vec!["there/a.txt"]),
            (vec!["a.txt"], "x", vec!["work/x"]),
            (vec!["d"], "/x", vec!["x/b.txt", "x/e/c.txt"]),
            (vec!["."], "/x", vec!["x/a.txt", "x/d/b.txt", "x/d/e/c.txt"]),
            (vec!["d/*.txt"], "/x/", vec!["x/b.txt"]),
            (vec!["*"], "/x", vec!["x/a.txt", "x/b.txt", "x/e/c.txt"]),
            (vec!["a.txt", "d/b.txt"], "/x", vec!["x/a.txt", "x/b.txt"]),
            (vec!["../../a.txt"], "../x", vec!["x"]),
        ] {
            assert_eq!(
                copied(&files, &sources, destination),
                expected,
                "{sources:?} {destination}"
            );
        }
        let missing = copied(&files, &["no"], "/x");
        assert!(missing[0].contains("`no` is not in the context"), "{missing:?}");
    }

    #[test]
    fn names_fit_patterns() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*.py", "a.py", true),
            ("*.py", "a.pyc", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[", "[", true),
            ("**a*", "bca", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, name), expected, "{pattern} {name}");
        }
    }
}
