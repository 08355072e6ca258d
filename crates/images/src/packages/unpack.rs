//! From a directory that uv unpacked wheels into, to a tree for each package.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::request::normal_name;
use super::{Pin, Target};
use crate::error::BuildError;
use crate::files::{Transfer, keep_attributes, transfer};

/// Directories beside the packages that uv puts into the directory with them, and that belong
/// under `/usr/local`.
const BESIDE: [&str; 4] = ["bin", "share", "etc", "include"];

/// Bytes of a program's first line that are looked at.
const MAX_SHEBANG_BYTES: usize = 4096;

/// Moves programs and data to where an installation has them, and makes programs call the image's
/// Python instead of the one that uv was run with.
pub fn put_programs_in_place(
    tree: &Path,
    packages: &Path,
    target: &Target,
) -> Result<(), BuildError> {
    let root = tree.join("usr/local");
    let mut moved = Vec::new();
    for name in BESIDE {
        let from = packages.join(name);
        if from.join("__init__.py").exists() || !from.is_dir() {
            continue;
        }
        let to = root.join(name);
        fs::rename(&from, &to).map_err(BuildError::io("move", &from))?;
        if name == "bin" {
            set_interpreters(&to, target)?;
        }
        moved.push(name);
    }
    // uv's own, so that no two installations share a directory.
    drop(fs::remove_file(packages.join(".lock")));
    for record in records(packages)? {
        let text = fs::read_to_string(&record).map_err(BuildError::io("read", &record))?;
        let mut changed = String::with_capacity(text.len());
        for line in text.lines() {
            let first = line.split('/').next().unwrap_or_default();
            if moved.contains(&first) {
                changed.push_str("../../../");
                // The program is no longer the one whose hash was noted.
                let path = line.split(',').next().unwrap_or_default();
                changed.push_str(if first == "bin" { path } else { line });
                changed.push_str(if first == "bin" { ",,\n" } else { "\n" });
            } else {
                changed.push_str(line);
                changed.push('\n');
            }
        }
        // A file of its own: the one that is there has a second name in uv's cache.
        fs::remove_file(&record).map_err(BuildError::io("replace", &record))?;
        fs::write(&record, changed).map_err(BuildError::io("write", &record))?;
        readable(&record, 0o644)?;
    }
    Ok(())
}

fn readable(path: &Path, mode: u32) -> Result<(), BuildError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(BuildError::io("set the mode of", path))
}

fn set_interpreters(programs: &Path, target: &Target) -> Result<(), BuildError> {
    let python = format!("#!/usr/local/bin/python{}", target.series);
    for entry in fs::read_dir(programs).map_err(BuildError::io("list", programs))?.flatten() {
        let path = entry.path();
        let bytes = fs::read(&path).map_err(BuildError::io("read", &path))?;
        let end = bytes.iter().take(MAX_SHEBANG_BYTES).position(|byte| *byte == b'\n');
        let Some(end) = end.filter(|_| bytes.starts_with(b"#!")) else { continue };
        if !String::from_utf8_lossy(&bytes[..end]).contains("python") {
            continue;
        }
        let mut changed = python.clone().into_bytes();
        changed.extend_from_slice(&bytes[end..]);
        fs::remove_file(&path).map_err(BuildError::io("replace", &path))?;
        fs::write(&path, changed).map_err(BuildError::io("write", &path))?;
        readable(&path, 0o755)?;
    }
    Ok(())
}

/// The lists of files that wheels come with.
fn records(packages: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let entries = fs::read_dir(packages).map_err(BuildError::io("list", packages))?;
    let folders = entries.flatten().map(|entry| entry.path());
    let folders = folders.filter(|path| path.extension().is_some_and(|e| e == "dist-info"));
    Ok(folders.map(|folder| folder.join("RECORD")).filter(|record| record.is_file()).collect())
}

/// Which files belong to which package, as paths from the directory of packages.
pub fn by_package(packages: &Path, pins: &[Pin]) -> Result<Vec<(Pin, Vec<PathBuf>)>, BuildError> {
    let wanted: BTreeMap<&str, &Pin> = pins.iter().map(|pin| (pin.name.as_str(), pin)).collect();
    let mut found = Vec::new();
    for record in records(packages)? {
        let folder = record.parent().and_then(Path::file_name).unwrap_or_default();
        let folder = folder.to_string_lossy();
        let name = folder.split_once('-').map_or(&*folder, |(name, _)| name);
        let Some(pin) = wanted.get(normal_name(name).as_str()) else { continue };
        let text = fs::read_to_string(&record).map_err(BuildError::io("read", &record))?;
        let mut files: Vec<PathBuf> = text.lines().map(recorded_path).collect();
        let compiled: Vec<PathBuf> =
            files.iter().flat_map(|file| compiled(packages, file)).collect();
        files.extend(compiled);
        found.push(((*pin).clone(), files));
    }
    Ok(found)
}

/// The path in a line of a list: up to the first comma, or within quotes.
fn recorded_path(line: &str) -> PathBuf {
    match line.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some((path, _)) => PathBuf::from(path),
        None => PathBuf::from(line.split(',').next().unwrap_or_default()),
    }
}

/// The compiled forms of a module.
fn compiled(packages: &Path, module: &Path) -> Vec<PathBuf> {
    let (Some(parent), Some(stem)) = (module.parent(), module.file_stem()) else { return vec![] };
    if module.extension().is_none_or(|extension| extension != "py") {
        return vec![];
    }
    let folder = parent.join("__pycache__");
    let begin = format!("{}.cpython-", stem.to_string_lossy());
    let entries = fs::read_dir(packages.join(&folder)).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&begin)).map(|name| folder.join(name)).collect()
}

/// Gives a package's files a tree of their own, under the same paths.
pub fn take(tree: &Path, packages: &Path, files: &[PathBuf], own: &Path) -> Result<(), BuildError> {
    for file in files {
        let Some(path) = within(packages, file).filter(|path| path.starts_with(tree)) else {
            continue;
        };
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        let inner = path.strip_prefix(tree).expect("just looked");
        let target = own.join(inner);
        make_parents(tree, inner, own).map_err(BuildError::io("make the directory of", &target))?;
        match transfer(&path, &found, &target, Transfer::Link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(BuildError::io("take", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn make_parents(tree: &Path, inner: &Path, own: &Path) -> io::Result<()> {
    let mut folder = PathBuf::new();
    fs::create_dir_all(own)?;
    for part in inner.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        match fs::create_dir(own.join(&folder)) {
            Ok(()) => keep_attributes(&fs::metadata(tree.join(&folder))?, &own.join(&folder))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// `file` from `folder`, with its `..` worked out.
fn within(folder: &Path, file: &Path) -> Option<PathBuf> {
    let mut path = folder.to_owned();
    for part in file.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}
