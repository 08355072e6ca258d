//! What every base has beside its packages: directories to mount on, and a Python that takes
//! packages.
//!
//! Debian's own Python refuses `pip install`. `/usr/local` is made a virtual environment of it, so
//! that `python` and `pip` are that environment's wherever they are called from, and the
//! directory that the system's Python takes local packages from is the same one: both find what
//! either installs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::error::BuildError;
use crate::files;

const DIRECTORIES: [(&str, u32); 25] = [
    ("proc", 0o555),
    ("sys", 0o555),
    ("dev", 0o755),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("var/tmp", 0o1777),
    ("root", 0o700),
    ("home", 0o755),
    ("opt", 0o755),
    ("srv", 0o755),
    ("mnt", 0o755),
    ("media", 0o755),
    ("etc", 0o755),
    ("pkg", 0o755),
    ("__modal/deps", 0o755),
    ("__corral/build", 0o755),
    ("usr/local/bin", 0o755),
    ("usr/local/include", 0o755),
    ("usr/local/share", 0o755),
    ("var/lib/apt/lists/partial", 0o755),
    ("var/cache/apt/archives/partial", 0o755),
    ("var/cache/debconf", 0o755),
    ("var/log", 0o755),
    ("var/spool", 0o755),
    ("var/mail", 0o755),
];

/// Files that whoever starts a container lays its own over.
const EMPTY_FILES: [&str; 3] = ["etc/resolv.conf", "etc/hosts", "etc/hostname"];

/// So that no installation of a package waits for an answer.
const DEBCONF: &str = "Name: debconf/frontend\nTemplate: debconf/frontend\nValue: Noninteractive\n\
                       Owners: debconf\nFlags: seen\n\n";

pub fn make_directories(tree: &Path) -> Result<(), BuildError> {
    for (name, mode) in DIRECTORIES {
        let path = tree.join(name);
        make_directory(tree, Path::new(name))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(BuildError::io("set the mode of", &path))?;
    }
    Ok(())
}

/// Makes `name` below the tree.
pub fn make_directory(tree: &Path, name: &Path) -> Result<(), BuildError> {
    files::make_directory(tree, name).map_err(BuildError::io("make", &tree.join(name)))
}

/// Writes a file that all may read.
pub fn write(tree: &Path, name: &str, text: &str) -> Result<(), BuildError> {
    let path = tree.join(name);
    make_directory(tree, Path::new(name).parent().unwrap_or(Path::new("")))?;
    // What is there may be a link to outside the tree.
    drop(fs::remove_file(&path));
    fs::write(&path, text).map_err(BuildError::io("write", &path))?;
    fs::set_permissions(&path, Permissions::from_mode(0o644))
        .map_err(BuildError::io("set the mode of", &path))
}

fn link(tree: &Path, name: &str, target: &str) -> Result<(), BuildError> {
    let path: PathBuf = tree.join(name);
    drop(fs::remove_file(&path));
    symlink(target, &path).map_err(BuildError::io("link", &path))
}

/// Completes a tree that has the packages of a base.
pub fn complete(tree: &Path, series: &str, version: &str) -> Result<(), BuildError> {
    make_directories(tree)?;
    for name in EMPTY_FILES {
        write(tree, name, "")?;
    }
    write(tree, "var/cache/debconf/config.dat", DEBCONF)?;
    let managed = tree.join(format!("usr/lib/python{series}/EXTERNALLY-MANAGED"));
    drop(fs::remove_file(managed));

    let system = format!("/usr/bin/python{series}");
    write(
        tree,
        "usr/local/pyvenv.cfg",
        &format!(
            "home = /usr/bin\ninclude-system-site-packages = false\nversion = {version}\n\
             executable = {system}\n"
        ),
    )?;
    for name in ["python", "python3", &format!("python{series}")] {
        link(tree, &format!("usr/local/bin/{name}"), &system)?;
    }
    let packages = format!("usr/local/lib/python{series}");
    let local = tree.join(&packages).join("dist-packages");
    // Debian makes it; nothing is in it.
    drop(fs::remove_dir(&local));
    make_directory(tree, &Path::new(&packages).join("site-packages"))?;
    link(tree, &format!("{packages}/dist-packages"), "site-packages")
}
