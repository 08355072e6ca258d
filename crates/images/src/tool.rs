//! Programs of the host that the builder runs for itself.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::BuildError;
use crate::log::{BuildLine, BuildLog, LineSource, Tail};

/// A program of the host. What it makes is readable for all, whatever the process's own mask, and
/// it ends with the thread that waits for it.
pub fn program(path: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "umask 022 && exec \"$@\"", "sh"]);
    if let Some(setpriv) = find("setpriv") {
        command.arg(setpriv).args(["--pdeathsig", "KILL"]);
    }
    command.arg(path);
    for name in ["VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME"] {
        command.env_remove(name);
    }
    command
}

/// A program in process and mount namespaces of its own: what it starts ends with it, and what it
/// mounts is seen by nobody else. For root only.
pub fn apart(path: &Path) -> Command {
    let mut command = program(Path::new("unshare"));
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]).arg(path);
    command
}

/// The first executable of a name along the process's own `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Runs a program to its end with this as its input, hands on what it says, and gives its output.
///
/// # Errors
/// [`BuildError::Tool`] with its last lines when it ends badly.
pub fn run(
    what: &str,
    command: &mut Command,
    input: &[u8],
    log: &dyn BuildLog,
) -> Result<(), BuildError> {
    let failed = |error: std::io::Error| BuildError::Tool {
        what: format!("{what}: {error}"),
        output: String::new(),
    };
    let tail = Tail::of(log);
    let mut child = Command::new(command.get_program());
    child.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => child.env(name, value),
            None => child.env_remove(name),
        };
    }
    child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().map_err(failed)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        // A program that does not read its input is none the worse for it.
        scope.spawn(|| stdin.map(|mut pipe| pipe.write_all(input)));
        scope.spawn(|| lines(stderr.into_iter(), &tail));
        lines(stdout.into_iter(), &tail);
    });
    let status = child.wait().map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => {
            Err(BuildError::Tool { what: format!("{what} failed ({status})"), output: tail.text() })
        }
    }
}

fn lines(pipes: impl Iterator<Item = impl std::io::Read>, log: &dyn BuildLog) {
    for pipe in pipes {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line);
            log.line(BuildLine { source: LineSource::Output, text: text.trim_end() });
            line.clear();
        }
    }
}
