//! The host's own system files as a base: by reference, and nothing of its homes, keys or
//! configuration.
//!
//! What is taken is what dpkg installed for a named list of packages and what they need: each file
//! as one more name of the same content where the images lie on the same file system, else as a
//! copy. Of `/etc` only files are taken that are still as they were packaged, so that nothing an
//! administrator wrote gets in. An upgrade of the host replaces files under new names, so that a
//! base stays as it was; its packages' versions are part of its name, and a new one is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::debian::{output_of, plain_version, sources};
use super::dpkg::{Package, Packages};
use super::{BaseAbout, BaseKind, PACKAGES, SUITES, skeleton};
use crate::error::BuildError;
use crate::files::{Transfer, keep_attributes, transfer};
use crate::log::{BuildLog, say};

const STATUS: &str = "/var/lib/dpkg/status";
const INFO: &str = "/var/lib/dpkg/info";
const PYTHON: &str = "/usr/bin/python3";

/// What no container reads, or what is the running system's.
const LEFT_OUT: [&str; 8] = [
    "/usr/share/doc/",
    "/usr/share/man/",
    "/usr/share/info/",
    "/usr/share/locale/",
    "/usr/share/lintian/",
    "/usr/share/bug/",
    "/boot/",
    "/var/",
];

/// Packages that are taken where they are installed.
const ALSO: [&str; 4] = ["debian-archive-keyring", "tzdata", "debconf", "base-passwd"];

/// The host's packages that make the base, and its Python.
#[derive(Clone, Debug)]
pub struct Host {
    /// Those that were chosen, and no others.
    packages: Arc<Packages>,
    python_version: String,
    pub series: String,
    /// The name of this base among layers: it changes when a package does.
    pub id: String,
}

/// What the host offers.
///
/// # Errors
/// A sentence why its files are no base.
pub fn find() -> Result<Host, String> {
    let status = fs::read_to_string(STATUS)
        .map_err(|_| "the host's system files are no base: dpkg did not install them".to_owned())?;
    let version = "import sys; print('.'.join(map(str, sys.version_info[:3])))";
    let python_version = output_of(Path::new(PYTHON), &["-I", "-c", version])
        .ok_or_else(|| format!("the host's system files are no base: {PYTHON} does not run"))?;
    let series: Vec<&str> = python_version.split('.').take(2).collect();
    let series = series.join(".");
    let packages = Packages::read(&status);
    if !packages.has(&format!("python{series}")) {
        return Err(format!("the host's system files are no base: {PYTHON} is not dpkg's"));
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&super::LAYOUT.to_le_bytes());
    let packages = Arc::new(chosen(&packages));
    for package in packages.0.values() {
        hasher.update(package.name.as_bytes());
        hasher.update(package.version.as_bytes());
        hasher.update(b"\n");
    }
    let hash = hasher.finalize().to_hex();
    Ok(Host {
        packages,
        python_version,
        series,
        id: format!("{}host-{}", super::PREFIX, &hash[..24]),
    })
}

fn chosen(packages: &Packages) -> Packages {
    let names: Vec<&str> = PACKAGES.iter().chain(&ALSO).copied().collect();
    let chosen = packages.closure(&names).into_iter();
    Packages(chosen.map(|package| (package.name.clone(), package.clone())).collect())
}

impl Host {
    /// The packages of the system that the base has.
    pub fn packages(&self) -> Arc<Packages> {
        Arc::clone(&self.packages)
    }

    /// Makes the base in `tree`, which is there and empty.
    pub fn make(&self, tree: &Path, log: &dyn BuildLog) -> Result<BaseAbout, BuildError> {
        say(log, "makes a base of the host's system files, by reference");
        let packages: Vec<&Package> = self.packages.0.values().collect();
        skeleton::make_directories(tree)?;
        top_links(tree)?;
        let mut paths = BTreeSet::new();
        for package in &packages {
            paths.extend(listed(package));
        }
        let unchanged = unchanged_configuration(&packages);
        paths.retain(|path| !path.starts_with("/etc/") || unchanged.contains(path));
        paths.retain(|path| !LEFT_OUT.iter().any(|left| path.starts_with(left)));
        // The shell is a link that its package makes when it is set up.
        paths.insert("/bin/sh".to_owned());
        let linked = Linked::all(tree, &paths)?;
        compiled(tree, &linked)?;
        alternatives(tree)?;
        dpkg_state(tree, &packages)?;
        configuration(tree)?;
        let updated = Command::new("/sbin/ldconfig").arg("-r").arg(tree).output();
        if !updated.is_ok_and(|output| output.status.success()) {
            // An ordinary user may not; the host's own has what these libraries need and more.
            let target = tree.join("etc/ld.so.cache");
            fs::copy("/etc/ld.so.cache", &target).map_err(BuildError::io("copy", &target))?;
        }
        skeleton::complete(tree, &self.series, &self.python_version)?;
        let glibc = self.packages.0.get("libc6").map(|libc| plain_version(&libc.version));
        Ok(BaseAbout {
            kind: BaseKind::Host,
            python_version: self.python_version.clone(),
            python_series: self.series.clone(),
            glibc_version: glibc.unwrap_or_default(),
            suite: suite(),
        })
    }
}

/// The host's suite, if it is one of Debian's.
fn suite() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let field = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let codename = field("VERSION_CODENAME")?;
    let known = SUITES.iter().any(|(suite, _)| *suite == codename);
    (known && field("ID")? == "debian").then_some(codename)
}

/// `/bin`, `/lib` and the like, which are links into `/usr` on every recent Debian.
fn top_links(tree: &Path) -> Result<(), BuildError> {
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let Ok(target) = fs::read_link(Path::new("/").join(name)) else { continue };
        skeleton::make_directory(tree, target.strip_prefix("/").unwrap_or(&target))?;
        let path = tree.join(name);
        symlink(&target, &path).map_err(BuildError::io("link", &path))?;
    }
    Ok(())
}

/// The paths that a package installed.
fn listed(package: &Package) -> Vec<String> {
    let plain = format!("{INFO}/{}.list", package.name);
    let qualified = format!("{INFO}/{}:{}.list", package.name, package.architecture);
    let text = fs::read_to_string(plain).or_else(|_| fs::read_to_string(qualified));
    text.unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Files of configuration that are still as they were packaged.
fn unchanged_configuration(packages: &[&Package]) -> BTreeSet<String> {
    let expected: BTreeMap<&str, &str> = packages
        .iter()
        .flat_map(|package| &package.configuration)
        .map(|(path, hash)| (path.as_str(), hash.as_str()))
        .collect();
    let output = Command::new("md5sum").args(expected.keys()).output();
    let output = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output)
        .lines()
        .filter_map(|line| line.split_once("  "))
        .filter(|(hash, path)| expected.get(path) == Some(hash))
        .map(|(_, path)| path.to_owned())
        .collect()
}

/// Files that were taken, as paths of the host without a link in their directories.
struct Linked(Vec<PathBuf>);

impl Linked {
    fn all(tree: &Path, paths: &BTreeSet<String>) -> Result<Self, BuildError> {
        let mut linked = Vec::new();
        for path in paths {
            // One that is gone was diverted or removed by hand.
            let Some(real) = real_path(Path::new(path)) else { continue };
            let Ok(found) = fs::symlink_metadata(&real) else { continue };
            let inner = real.strip_prefix("/").expect("it was made absolute");
            let target = tree.join(inner);
            if found.is_dir() {
                skeleton::make_directory(tree, inner)?;
                keep_attributes(&found, &target)
                    .map_err(BuildError::io("set the mode of", &target))?;
                continue;
            }
            skeleton::make_directory(tree, inner.parent().unwrap_or(Path::new("")))?;
            match transfer(&real, &found, &target, Transfer::Link) {
                Ok(()) => linked.push(real),
                // Listed under two names of the same directory.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                // Not readable for an ordinary user, so not needed by one either.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(BuildError::io("take", &real)(error)),
            }
        }
        Ok(Self(linked))
    }
}

/// The path with the links of its directories followed, its own last part not.
fn real_path(path: &Path) -> Option<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Some(fs::canonicalize(parent).ok()?.join(name)),
        _ => None,
    }
}

/// Python's compiled modules, which are made when a package is set up and stand in no list.
fn compiled(tree: &Path, linked: &Linked) -> Result<(), BuildError> {
    let folders: BTreeSet<&Path> = linked
        .0
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .filter_map(|path| path.parent())
        .collect();
    for folder in folders {
        for entry in fs::read_dir(folder.join("__pycache__")).into_iter().flatten().flatten() {
            let (path, Ok(found)) = (entry.path(), entry.metadata()) else { continue };
            let inner = path.strip_prefix("/").expect("directories of packages are absolute");
            skeleton::make_directory(tree, inner.parent().unwrap_or(Path::new("")))?;
            let target = tree.join(inner);
            transfer(&path, &found, &target, Transfer::Link)
                .map_err(BuildError::io("take", &path))?;
        }
    }
    Ok(())
}

/// The links of `update-alternatives` whose programs were taken.
fn alternatives(tree: &Path) -> Result<(), BuildError> {
    for entry in fs::read_dir("/var/lib/dpkg/alternatives").into_iter().flatten().flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let mut lines = text.lines().skip(1);
        let mut links = vec![(entry.file_name().to_string_lossy().into_owned(), lines.next())];
        while let Some(name) = lines.next().filter(|name| !name.is_empty()) {
            links.push((name.to_owned(), lines.next()));
        }
        let mut taken = false;
        for (name, link) in links {
            let Some(link) = link.and_then(|link| real_path(Path::new(link))) else { continue };
            let chosen = Path::new("/etc/alternatives").join(&name);
            let Ok(target) = fs::read_link(&chosen) else { continue };
            if !target.strip_prefix("/").is_ok_and(|inner| tree.join(inner).exists()) {
                continue;
            }
            taken = true;
            for (path, target) in [(chosen.as_path(), target.as_path()), (&link, &chosen)] {
                let inner = path.strip_prefix("/").expect("it was made absolute");
                skeleton::make_directory(tree, inner.parent().unwrap_or(Path::new("")))?;
                let path = tree.join(inner);
                drop(fs::remove_file(&path));
                symlink(target, &path).map_err(BuildError::io("link", &path))?;
            }
        }
        if taken {
            let name = format!("var/lib/dpkg/alternatives/{}", entry.file_name().to_string_lossy());
            skeleton::write(tree, &name, &text)?;
        }
    }
    Ok(())
}

/// What dpkg needs to know, so that further packages can be installed.
fn dpkg_state(tree: &Path, packages: &[&Package]) -> Result<(), BuildError> {
    let mut status = String::new();
    for package in packages {
        write!(status, "{}\n\n", package.paragraph.trim_end()).expect("texts can be written to");
    }
    skeleton::write(tree, "var/lib/dpkg/status", &status)?;
    for name in ["updates", "info", "parts", "triggers"] {
        skeleton::make_directory(tree, &Path::new("var/lib/dpkg").join(name))?;
    }
    let owners: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let entries = fs::read_dir(INFO).map_err(BuildError::io("list", Path::new(INFO)))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.rsplit_once('.').map_or("", |(stem, _)| stem);
        let owner = owner.split_once(':').map_or(owner, |(owner, _)| owner);
        let Ok(found) = entry.metadata() else { continue };
        if name == "format" || owners.contains(owner) {
            let target = tree.join("var/lib/dpkg/info").join(&name);
            transfer(&entry.path(), &found, &target, Transfer::Copy)
                .map_err(BuildError::io("copy", &entry.path()))?;
        }
    }
    Ok(())
}

/// The little of `/etc` that programs need to start, and the certificates of its package.
fn configuration(tree: &Path) -> Result<(), BuildError> {
    for name in ["passwd", "group"] {
        let master = tree.join("usr/share/base-passwd").join(format!("{name}.master"));
        let mut text = fs::read_to_string(master).unwrap_or_else(|_| match name {
            "passwd" => "root:x:0:0:root:/root:/bin/bash\n".into(),
            _ => "root:x:0:\n".into(),
        });
        text = text.replacen("root:*:", "root:x:", 1);
        if name == "passwd" {
            text.push_str("_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n");
        }
        skeleton::write(tree, &format!("etc/{name}"), &text)?;
    }
    skeleton::write(
        tree,
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
         protocols: files\nservices: files\n",
    )?;
    if let Some(suite) = suite() {
        skeleton::write(tree, "etc/apt/sources.list", &sources(&suite))?;
    }
    for name in ["apt.conf.d", "preferences.d", "sources.list.d", "trusted.gpg.d"] {
        skeleton::make_directory(tree, &Path::new("etc/apt").join(name))?;
    }
    for name in ["os-release", "debian_version"] {
        if let Ok(text) = fs::read_to_string(Path::new("/etc").join(name)) {
            skeleton::write(tree, &format!("etc/{name}"), &text)?;
        }
    }
    let mut bundle = String::new();
    let packaged = tree.join("usr/share/ca-certificates/mozilla");
    let mut certificates: Vec<PathBuf> =
        fs::read_dir(&packaged).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    certificates.sort();
    for path in certificates {
        bundle.push_str(fs::read_to_string(path).unwrap_or_default().trim_end());
        bundle.push('\n');
    }
    skeleton::write(tree, "etc/ssl/certs/ca-certificates.crt", &bundle)?;
    certificate_links(tree)
}

/// The links by which certificates are found one by one, for those that came with their package.
fn certificate_links(tree: &Path) -> Result<(), BuildError> {
    let folder = Path::new("/etc/ssl/certs");
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (Ok(target), Ok(end)) = (fs::read_link(entry.path()), fs::canonicalize(entry.path()))
        else {
            continue;
        };
        let is_packaged = end.starts_with("/usr/share/ca-certificates")
            && end.strip_prefix("/").is_ok_and(|inner| tree.join(inner).exists());
        if is_packaged {
            let path = tree.join("etc/ssl/certs").join(entry.file_name());
            symlink(target, &path).map_err(BuildError::io("link", &path))?;
        }
    }
    Ok(())
}
