//! The systems we are measured against, installed from the package index.

use std::path::PathBuf;
use std::process::Command;

use anyhow::ensure;

use super::root;

/// A Python with the usual peers installed, made at the first use.
pub fn python() -> anyhow::Result<PathBuf> {
    python_with("bench-peers", "requirements.txt")
}

/// A Python with what a file below `bench/peers` names installed, in a folder below `target`.
pub fn python_with(folder: &str, requirements: &str) -> anyhow::Result<PathBuf> {
    let folder = root().join("target").join(folder);
    let python = folder.join("bin/python");
    if !python.exists() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&folder).status()?;
        ensure!(made.success(), "python3 -m venv failed");
    }
    let installed = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(root().join("bench/peers").join(requirements))
        .status()?;
    ensure!(installed.success(), "the peers could not be installed");
    Ok(python)
}
