//! A program that runs beside the test: what it says, line by line, as it says it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A program that runs. Dropped, it is ended with all that it started.
pub struct Running {
    child: Child,
    words: String,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

/// What a program said, and how it ended.
pub struct Ended {
    pub status: ExitStatus,
    pub said: String,
}

impl Ended {
    pub fn success(self) -> Result<String> {
        ensure!(self.status.success(), "it ended with {}: {}", self.status, tail(&self.said));
        Ok(self.said)
    }

    pub fn failure(self) -> Result<String> {
        ensure!(!self.status.success(), "it ended well: {}", tail(&self.said));
        Ok(self.said)
    }
}

impl Running {
    /// Starts it in a process group of its own, its two outputs in one.
    pub fn start(mut command: Command) -> Self {
        let words: Vec<_> = command.get_args().map(|word| word.display().to_string()).collect();
        let words = words.join(" ");
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.process_group(0).spawn().unwrap();
        // The command holds ends of the pipe, which must close with the child's.
        drop(command);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            let mut reader = BufReader::new(reader);
            let mut bytes = Vec::new();
            while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                kept.lock().unwrap().push(line);
                bytes.clear();
            }
        });
        Self { child, words, lines, reader: Some(reader) }
    }

    pub fn said(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits for a line that contains `text`; which line it is, counted from the first.
    pub fn line(&mut self, text: &str, limit: Duration) -> Result<usize> {
        let begin = Instant::now();
        loop {
            let found = self.lines.lock().unwrap().iter().position(|line| line.contains(text));
            if let Some(number) = found {
                return Ok(number);
            }
            if let Some(status) = self.child.try_wait()? {
                // What it said last may not have been read yet.
                self.join();
                let lines = self.lines.lock().unwrap();
                return lines.iter().position(|line| line.contains(text)).with_context(|| {
                    let said = tail(&lines.join("\n"));
                    format!("`{}` ended ({status}) without `{text}`: {said}", self.words)
                });
            }
            if begin.elapsed() > limit {
                let (words, said) = (&self.words, self.said());
                bail!("`{words}` did not say `{text}` within {limit:?}: {}", tail(&said));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, name: &str) {
        signal(&self.child.id().to_string(), name);
    }

    /// Waits for its end.
    pub fn end(mut self, limit: Duration) -> Result<Ended> {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if begin.elapsed() > limit {
                let (words, said) = (&self.words, self.said());
                bail!("`{words}` had not ended after {limit:?}: {}", tail(&said));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        self.join();
        Ok(Ended { status, said: self.said() })
    }

    fn join(&mut self) {
        // Whatever it started may hold the pipe open.
        signal(&format!("-{}", self.child.id()), "KILL");
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        signal(&format!("-{}", self.child.id()), "KILL");
        let _ended = self.child.wait();
    }
}

/// Sends a signal to a process, or a group of them, that this test started.
pub fn signal(target: &str, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), "--", target])
        .stderr(Stdio::null())
        .status();
    assert!(sent.is_ok(), "kill is part of every system");
}

/// The last lines of something long.
pub fn tail(said: &str) -> String {
    const LINES: usize = 25;
    let lines: Vec<&str> = said.lines().collect();
    format!("\n{}", lines[lines.len().saturating_sub(LINES)..].join("\n"))
}

/// Asks again and again until `condition` gives something.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        ensure!(begin.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
