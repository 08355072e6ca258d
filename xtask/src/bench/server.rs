//! A server of ours to measure.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::{build, data, root};

/// Names a program to measure instead of the one that is built from these sources.
const BINARY_VARIABLE: &str = "CORRAL_BINARY";

/// What the last server said, below `target`.
const LOG: &str = "bench-server.log";

/// `corral up` in a folder of its own, built with the release profile; ended with the value.
pub struct Server {
    process: Child,
    pub url: String,
    /// The host and port of the URL.
    pub address: String,
    binary: PathBuf,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Server {
    /// Starts a server over an empty folder.
    pub fn start() -> anyhow::Result<Self> {
        let binary = match std::env::var_os(BINARY_VARIABLE) {
            Some(binary) => PathBuf::from(binary),
            None => {
                build(&["--package", "corral"])?;
                root().join("target/release/corral")
            }
        };
        let folder = tempfile::tempdir_in(root().join("target"))?;
        let (process, url) = spawn(&binary, &folder)?;
        let address = address_of(&url)?;
        Ok(Self { process, url, address, binary, folder })
    }

    /// Ends it and starts another over the same folder.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.end();
        let (process, url) = spawn(&self.binary, &self.folder)?;
        self.address = address_of(&url)?;
        (self.process, self.url) = (process, url);
        Ok(())
    }

    fn end(&mut self) {
        let _signalled = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ended = self.process.wait();
    }

    /// Runs a command of the command line against it.
    pub fn corral(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = self.command(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "corral {arguments:?}: {said}");
        Ok(())
    }

    /// A command of the command line, asking this server.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("CORRAL_URL", &self.url);
        command
    }

    /// Trains one lexical model on Banking77 and deploys it as `banking`.
    pub fn deploy_banking(&self) -> anyhow::Result<()> {
        let train = data()?.join("banking77/train.jsonl");
        self.corral(&["dataset", "import", "banking", &format!("train={}", train.display())])?;
        let search = ["train", "banking", "--dataset", "banking", "--encoder", "none"];
        self.corral(&[&search[..], &["--trials", "1", "--wait"]].concat())?;
        self.corral(&["deploy", "banking", "--name", "banking"])
    }

    /// The process that the others descend from.
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// The process that answers requests.
    pub fn server_process(&self) -> anyhow::Result<u32> {
        self.child("server")
    }

    /// The process that runs tasks.
    pub fn worker_process(&self) -> anyhow::Result<u32> {
        self.child("worker")
    }

    fn child(&self, command: &str) -> anyhow::Result<u32> {
        let of = self.process.id();
        let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"))?;
        let is_asked = |process: &&str| {
            let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).nth(1) == Some(command.as_bytes())
        };
        let found = children.split_whitespace().find(is_asked);
        Ok(found.with_context(|| format!("no {command} process runs"))?.parse()?)
    }

    /// Resident memory of that process, mapped files included.
    pub fn resident_bytes(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server_process()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next());
        let kibibytes: f64 = kibibytes.context("the process says what it holds")?.parse()?;
        Ok(kibibytes * 1024.0)
    }
}

fn spawn(binary: &PathBuf, folder: &TempDir) -> anyhow::Result<(Child, String)> {
    let mut process = Command::new(binary)
        .args(["up", "--no-auth", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .stdout(Stdio::piped())
        .stderr(File::create(root().join("target").join(LOG))?)
        .spawn()?;
    let mut lines = BufReader::new(process.stdout.take().context("its output is piped")?).lines();
    let line = lines.next().context("corral up said nothing")??;
    Ok((process, line.rsplit(' ').next().unwrap_or_default().to_owned()))
}

/// The texts of Banking77's test split.
pub fn banking_texts() -> anyhow::Result<Vec<String>> {
    let file = std::fs::read_to_string(data()?.join("banking77/test.jsonl"))?;
    let text = |line: &str| {
        let row: Value = serde_json::from_str(line).ok()?;
        Some(row["text"].as_str()?.to_owned())
    };
    Ok(file.lines().filter_map(text).collect())
}

fn address_of(url: &str) -> anyhow::Result<String> {
    Ok(url.strip_prefix("http://").context("an http address")?.to_owned())
}
