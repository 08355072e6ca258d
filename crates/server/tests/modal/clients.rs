//! Clients from the package index, each version in a virtual environment of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

/// One at a time makes an environment.
static MAKING: Mutex<()> = Mutex::new(());

/// The Python that has this version of the client; none, said on standard output, where it
/// cannot be had.
pub fn python(version: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("CORRAL_TEST_MODAL_CLIENTS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("modal-clients"),
    };
    let venv = folder.join(version);
    let (python, done) = (venv.join("bin/python"), venv.join("complete"));
    let _one = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::fs::create_dir_all(&folder).unwrap();
    // Tests of other processes make them too.
    let lock = std::fs::File::create(folder.join(format!("{version}.lock"))).unwrap();
    lock.lock().unwrap();
    if !done.exists() {
        let made = succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        let package = format!("modal=={version}");
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &package];
        // Older clients need a package that newer Pythons no longer bring along.
        let beside = "setuptools<81";
        if !made || !succeeds(Command::new(&python).args(install).arg(beside)) {
            println!("skipped: modal {version} cannot be installed here");
            return None;
        }
        std::fs::write(done, "").unwrap();
    }
    Some(python)
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// What a process said and how it ended.
pub fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
