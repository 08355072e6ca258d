//! Predictions over HTTP.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::report::Figure;
use super::{REPETITIONS, build, data, root};

/// A server of its own on a fresh data directory, ended with the value.
pub(super) struct Server {
    process: Child,
    url: String,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _signalled = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ended = self.process.wait();
    }
}

impl Server {
    /// Starts one that keeps its files below `scratch`.
    pub(super) fn start(scratch: &Path) -> anyhow::Result<Self> {
        build(&["--package", "corral"])?;
        let mut process = Command::new(binary())
            .args(["up", "--no-auth", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(scratch.join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = process.stdout.take().context("its output is piped")?;
        let line = BufReader::new(output).lines().next().context("corral up said nothing")??;
        let url = line.rsplit(' ').next().unwrap_or_default().to_owned();
        let address = url.strip_prefix("http://").context("an http address")?.to_owned();
        Ok(Self { process, url, address })
    }

    /// The command line, asking this server.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).env("CORRAL_URL", &self.url);
        command
    }

    pub(super) fn corral(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let status = self.command(arguments).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "corral {arguments:?} failed");
        Ok(())
    }

    /// Trains one lexical model on Banking77 and deploys it as `banking`.
    pub(super) fn deploy_banking(&self) -> anyhow::Result<()> {
        let train = data()?.join("banking77/train.jsonl");
        self.corral(&["dataset", "import", "banking", &format!("train={}", train.display())])?;
        let search = ["train", "banking", "--dataset", "banking", "--encoder", "none"];
        self.corral(&[&search[..], &["--trials", "1", "--wait"]].concat())?;
        self.corral(&["deploy", "banking", "--name", "banking"])
    }
}

fn binary() -> PathBuf {
    root().join("target/release/corral")
}

/// The texts of Banking77's test split.
pub(super) fn banking_texts() -> anyhow::Result<Vec<String>> {
    let file = std::fs::read_to_string(data()?.join("banking77/test.jsonl"))?;
    let text = |line: &str| {
        let row: Value = serde_json::from_str(line).ok()?;
        Some(row["text"].as_str()?.to_owned())
    };
    Ok(file.lines().filter_map(text).collect())
}

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    let server = Server::start(scratch.path())?;
    server.deploy_banking()?;
    let texts = banking_texts()?;
    let (mut medians, mut tails, mut own_share) = (Vec::new(), Vec::new(), Vec::new());
    // Each repetition is a connection of its own over all texts, each once.
    for _ in 0..REPETITIONS {
        let measured = ask_all(&server.address, &texts)?;
        medians.push(measured.p50_ms);
        tails.push(measured.p99_ms);
        own_share.push(measured.requests_per_s);
    }
    let note = format!(
        "{} texts of Banking77's test split, each once, one connection, a lexical model of 77 \
         classes; the load generator is one blocking thread on the same two cores",
        texts.len()
    );
    let figure = |what: &str, asked: &str, unit: &str, values| {
        Figure::new(what, asked, unit, values, note.clone())
    };
    Ok(vec![
        figure("one lexical prediction, p50", "≤ 0.35 ms", "ms", medians),
        figure("p99", "", "ms", tails),
        figure("rate on that connection", "", "requests/s", own_share),
    ])
}

struct Measured {
    p50_ms: f64,
    p99_ms: f64,
    requests_per_s: f64,
}

fn ask_all(address: &str, texts: &[String]) -> anyhow::Result<Measured> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let mut times_ms = Vec::with_capacity(texts.len());
    let begun = Instant::now();
    for text in texts {
        let body = json!({"texts": [text]}).to_string();
        let request = format!(
            "POST /v1/endpoints/banking/predict HTTP/1.1\r\nhost: {address}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let sent = Instant::now();
        stream.write_all(request.as_bytes())?;
        let answer = read_answer(&mut reader)?;
        times_ms.push(sent.elapsed().as_secs_f64() * 1000.0);
        let answer: Value = serde_json::from_slice(&answer)?;
        ensure!(answer["predictions"][0]["labels"][0]["id"].is_string(), "answered {answer}");
    }
    let took = begun.elapsed().as_secs_f64();
    times_ms.sort_by(f64::total_cmp);
    Ok(Measured {
        p50_ms: times_ms[times_ms.len() / 2],
        p99_ms: times_ms[times_ms.len() * 99 / 100],
        requests_per_s: texts.len() as f64 / took,
    })
}

fn read_answer(reader: &mut impl BufRead) -> anyhow::Result<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    ensure!(line.starts_with("HTTP/1.1 200"), "answered {line}");
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        if line == "\r\n" {
            break;
        }
        if let Some(("content-length", value)) = line.trim_end().split_once(": ") {
            length = value.parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}
