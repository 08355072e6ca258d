//! uv, which finds and unpacks packages. It comes from the package index, once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::request::{normal_name, package_name};
use super::{Failure, Freshness, Installed, Packages, Pin, Request};
use crate::error::BuildError;
use crate::log::{BuildLog, say};
use crate::machine::Machine;
use crate::store::{Layer, Store};
use crate::tool;

/// Which uv.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UvVersion {
    /// The one that the machine fetched first.
    Machine,
    Exactly(String),
}

/// A uv that is there.
#[derive(Clone)]
pub struct Uv {
    pub layer: Layer,
    python: PathBuf,
}

impl Uv {
    /// Fetches it if it is not there.
    pub fn ready(
        store: &Store,
        machine: &Machine,
        version: &UvVersion,
        log: &dyn BuildLog,
    ) -> Result<Self, BuildError> {
        let python = tool::find("python3").ok_or_else(|| {
            BuildError::refused_with(
                "images with Python packages need a python3 on the host, which uv is fetched with",
                "install python3 and python3-pip",
            )
        })?;
        let system = PathBuf::from("/usr/bin/python3");
        let python = if system.exists() { system } else { python };
        let (name, requirement) = match version {
            UvVersion::Machine => ("uv-machine".to_owned(), "uv".to_owned()),
            UvVersion::Exactly(version) => (format!("uv-{version}"), format!("uv=={version}")),
        };
        if let Some(layer) = store.get(&name) {
            return Ok(Self { layer, python });
        }
        say(log, "fetches uv");
        let scratch = store.scratch()?;
        let unpacked = scratch.path().join("unpacked");
        let mut command = tool::program(&python);
        command.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]);
        command.args(["--no-cache-dir", "--disable-pip-version-check", "--target"]);
        command.arg(&unpacked).arg(requirement).envs(&machine.tools);
        tool::run("fetch uv from the package index with pip", &mut command, b"", log)?;
        let tree = scratch.path().join("tree");
        fs::create_dir(&tree).map_err(BuildError::io("make", &tree))?;
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o755))
            .map_err(BuildError::io("set the mode of", &tree))?;
        for program in ["uv", "uvx"] {
            let (from, to) = (unpacked.join("bin").join(program), tree.join(program));
            fs::rename(&from, &to).map_err(BuildError::io("take", &from))?;
        }
        Ok(Self { layer: store.adopt(&name, &tree, serde_json::Value::Null)?, python })
    }

    pub fn program(&self) -> PathBuf {
        self.layer.tree.join("uv")
    }

    fn command(&self, packages: &Packages<'_>) -> Command {
        let mut command = tool::program(&self.program());
        command.envs(&packages.machine.tools);
        command.env("UV_CACHE_DIR", packages.store.dir().join("uv-cache"));
        command.env("UV_PYTHON_DOWNLOADS", "never").env("UV_NO_PROGRESS", "1");
        command
    }

    /// Options that both finding and unpacking need.
    fn target(&self, command: &mut Command, packages: &Packages<'_>) {
        let target = &packages.target;
        command.arg("--python").arg(&self.python);
        command.args(["--python-version", &target.version, "--python-platform", &target.platform]);
        command.args(["--only-binary", ":all:", "--no-progress", "--color", "never", "--quiet"]);
    }

    /// The packages that a request comes down to, with the hashes of their wheels. Versions that
    /// are installed are kept where they fit.
    pub(super) fn resolve(
        &self,
        packages: &Packages<'_>,
        request: &Request,
        installed: &Installed,
        freshness: Freshness,
        log: &dyn BuildLog,
    ) -> Result<Vec<Pin>, Failure> {
        let scratch = packages.store.scratch()?;
        let output = scratch.path().join("pins.txt");
        let mut kept = String::new();
        for (name, version) in installed {
            kept.push_str(&format!("{name}=={version}\n"));
        }
        fs::write(&output, kept).map_err(BuildError::io("write", &output))?;
        let mut command = self.command(packages);
        command.args(["pip", "compile", "-", "--generate-hashes", "--no-header", "--no-annotate"]);
        command.arg("--output-file").arg(&output);
        self.target(&mut command, packages);
        if request.prereleases {
            command.args(["--prerelease", "allow"]);
        }
        if request.without_dependencies {
            command.arg("--no-deps");
        }
        if request.upgrade {
            for requirement in &request.requirements {
                command.args(["--upgrade-package", package_name(requirement).unwrap_or_default()]);
            }
        }
        if freshness == Freshness::Fresh {
            command.arg("--refresh");
        }
        let input = request.requirements.join("\n");
        tool::run("find the packages", &mut command, input.as_bytes(), log)
            .map_err(|error| Failure::Elsewhere(first_line(&error)))?;
        let text = fs::read_to_string(&output).map_err(BuildError::io("read", &output))?;
        pins(&text).ok_or_else(|| Failure::Elsewhere("not all packages come from an index".into()))
    }

    /// Unpacks these packages, and no others, into a directory.
    pub(super) fn unpack(
        &self,
        packages: &Packages<'_>,
        pins: &[Pin],
        into: &Path,
        log: &dyn BuildLog,
    ) -> Result<(), Failure> {
        let mut input = String::new();
        for pin in pins {
            input.push_str(&format!("{}=={}", pin.name, pin.version));
            for hash in &pin.hashes {
                input.push_str(&format!(" \\\n    --hash={hash}"));
            }
            input.push('\n');
        }
        let mut command = self.command(packages);
        command.args(["pip", "install", "--require-hashes", "--no-deps", "--requirements", "-"]);
        command.args(["--link-mode", "hardlink", "--target"]).arg(into);
        self.target(&mut command, packages);
        tool::run("fetch packages", &mut command, input.as_bytes(), log)?;
        // What was unpacked has a name in the store now. What indexes said stays.
        let mut command = self.command(packages);
        command.args(["cache", "prune", "--ci", "--quiet"]);
        Ok(tool::run("prune the cache of uv", &mut command, b"", log)?)
    }
}

fn first_line(error: &BuildError) -> String {
    match error {
        BuildError::Tool { output, .. } => output.trim().to_owned(),
        other => other.to_string(),
    }
}

/// What `uv pip compile --generate-hashes` writes; `None` if a package has no version or hash.
fn pins(text: &str) -> Option<Vec<Pin>> {
    let mut pins: Vec<Pin> = Vec::new();
    for line in text.lines() {
        let line = line.trim().trim_end_matches('\\').trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with("--index") {
            continue;
        }
        if let Some(hash) = line.strip_prefix("--hash=") {
            pins.last_mut()?.hashes.push(hash.to_owned());
            continue;
        }
        let (name, version) = line.split_once("==")?;
        let version = version.split(';').next()?.trim().to_owned();
        let name = normal_name(package_name(name)?);
        pins.push(Pin { name, version, hashes: vec![] });
    }
    for pin in &mut pins {
        pin.hashes.sort_unstable();
    }
    pins.iter().all(|pin| !pin.hashes.is_empty()).then_some(pins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_with_their_hashes() {
        let text = "Numpy==2.1.0 \\\n    --hash=sha256:bb \\\n    --hash=sha256:aa\nsix==1.17.0 \\\n    --hash=sha256:cc\n";
        let pins = pins(text).unwrap();
        assert_eq!(pins.len(), 2);
        assert_eq!(pins[0].name, "numpy");
        assert_eq!(pins[0].hashes, ["sha256:aa", "sha256:bb"]);
        assert_eq!(super::pins("x @ https://a/b.whl\n"), None);
        assert_eq!(super::pins("x==1\n"), None);
    }
}
