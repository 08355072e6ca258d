//! Processes that the benchmark started and ends, by their ids.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

/// How long a script has to end by itself.
const END_PATIENCE: Duration = Duration::from_secs(30);
const END_INTERVAL: Duration = Duration::from_millis(50);

/// A process that is killed with the value.
pub struct Owned(Child);

impl Owned {
    pub fn start(command: &mut Command) -> std::io::Result<Self> {
        command.spawn().map(Self)
    }

    /// Whether it ended by itself in time.
    fn ends(&mut self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return true;
            }
            std::thread::sleep(END_INTERVAL);
        }
        false
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// What a script prints, which ends in time.
pub fn said(command: &mut Command, patience: Duration) -> anyhow::Result<Value> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Owned::start(command).context("start a script")?;
    let text = printed(&mut process, patience, |output, text| output.read_to_string(text))
        .with_context(|| format!("{command:?}"))?;
    ensure!(process.ends(END_PATIENCE), "{command:?} does not end");
    let status = process.0.wait()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    let start = text.find('{').context("the script printed no JSON object")?;
    Ok(serde_json::from_str(&text[start..])?)
}

type Output = BufReader<std::process::ChildStdout>;

/// Reads what a process prints; one that says nothing in time is killed with its value.
fn printed(
    process: &mut Owned,
    patience: Duration,
    read: fn(&mut Output, &mut String) -> std::io::Result<usize>,
) -> anyhow::Result<String> {
    let mut output = BufReader::new(process.0.stdout.take().context("its output is piped")?);
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = read(&mut output, &mut text).map(|_| text);
        // Nobody listens any more where it came too late.
        let _heard = send.send(read);
    });
    let late = || format!("it said nothing within {patience:?}");
    Ok(receive.recv_timeout(patience).with_context(late)??)
}

/// A script that says what it made in one line, and undoes it when its input ends.
pub struct Session {
    /// Closed first.
    input: Option<ChildStdin>,
    process: Owned,
    /// What it said.
    pub made: Value,
}

impl Session {
    pub fn start(command: &mut Command, patience: Duration) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Owned::start(command).context("start a script")?;
        let input = process.0.stdin.take();
        let line = printed(&mut process, patience, |output, line| output.read_line(line))
            .with_context(|| format!("{command:?}"))?;
        ensure!(!line.is_empty(), "{command:?} ended before it was ready");
        let made = serde_json::from_str(&line).with_context(|| format!("it said {line}"))?;
        Ok(Self { input, process, made })
    }

    /// The id of a function that it made.
    pub fn function(&self, name: &str) -> anyhow::Result<String> {
        let id = self.made[name].as_str();
        Ok(id.with_context(|| format!("there is no `{name}` in {}", self.made))?.to_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.input = None;
        self.process.ends(END_PATIENCE);
    }
}
