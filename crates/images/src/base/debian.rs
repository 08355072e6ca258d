//! A base made once from Debian's packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::dpkg::Packages;
use super::{BaseAbout, BaseKind, PACKAGES, SUITES, skeleton};
use crate::error::BuildError;
use crate::files::remove_tree;
use crate::log::{BuildLog, say};
use crate::machine::Machine;
use crate::tool;

/// What no container reads.
const LEFT_OUT: [&str; 5] = [
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
];

/// Whether this machine can make one, and what is missing otherwise.
pub fn offer() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("bases of Debian's packages are made by root only".into());
    }
    match tool::find("unshare").and(tool::find("mmdebstrap")) {
        Some(_) => Ok(()),
        None => Err("bases of Debian's packages need the program mmdebstrap (apt-get install \
                     mmdebstrap)"
            .into()),
    }
}

/// Makes the base in `tree`, which is not there yet.
pub fn make(
    suite: &str,
    tree: &Path,
    machine: &Machine,
    log: &dyn BuildLog,
) -> Result<BaseAbout, BuildError> {
    say(log, &format!("makes a base of Debian {suite}'s packages, once on this machine"));
    let program = tool::find("mmdebstrap")
        .ok_or_else(|| BuildError::refused(offer().err().unwrap_or_default()))?;
    // It mounts into what it makes; killed in the middle it must leave nothing mounted.
    let mut command = tool::apart(&program);
    command.args(["--mode=root", "--variant=minbase", "--format=directory"]);
    command.arg(format!("--include={}", PACKAGES.join(",")));
    command.arg(format!("--aptopt={}", machine.apt_settings_file().display()));
    for option in LEFT_OUT {
        command.arg(format!("--dpkgopt={option}"));
    }
    command.arg(suite).arg(tree).arg(machine.mirror());
    command.envs(&machine.tools).env("DEBIAN_FRONTEND", "noninteractive");
    tool::run(&format!("make a base of Debian {suite}"), &mut command, b"", log)?;

    for left in ["etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap"] {
        drop(fs::remove_file(tree.join(left)));
    }
    let lists = tree.join("var/lib/apt/lists");
    remove_tree(&lists).map_err(BuildError::io("remove", &lists))?;
    skeleton::write(tree, "etc/apt/sources.list", &sources(suite))?;

    let path = tree.join("var/lib/dpkg/status");
    let status = fs::read_to_string(&path).map_err(BuildError::io("read", &path))?;
    let packages = Packages::read(&status);
    let series = SUITES.iter().find(|(name, _)| *name == suite).map_or("3", |(_, series)| *series);
    let version_of = |name: &str| {
        packages.0.get(name).map(|package| plain_version(&package.version)).unwrap_or_default()
    };
    let python_version = version_of(&format!("python{series}"));
    if python_version.is_empty() {
        return Err(BuildError::Tool {
            what: format!("Debian {suite} no longer has python{series}"),
            output: String::new(),
        });
    }
    let glibc = version_of("libc6");
    skeleton::complete(tree, series, &python_version)?;
    Ok(BaseAbout {
        kind: BaseKind::Debian { suite: suite.to_owned() },
        python_version,
        python_series: series.to_owned(),
        glibc_version: glibc,
        suite: Some(suite.to_owned()),
    })
}

/// Debian's own mirrors, whichever the machine used.
pub fn sources(suite: &str) -> String {
    let mut text = format!("deb http://deb.debian.org/debian {suite} main\n");
    if suite != "forky" {
        text.push_str(&format!("deb http://deb.debian.org/debian {suite}-updates main\n"));
        text.push_str(&format!(
            "deb http://deb.debian.org/debian-security {suite}-security main\n"
        ));
    }
    text
}

/// `3.11.2-6+deb12u6` as `3.11.2`.
pub fn plain_version(version: &str) -> String {
    let after = version.split_once(':').map_or(version, |(_, after)| after);
    after.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect()
}

/// The version of a program's output, for messages.
pub fn output_of(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
