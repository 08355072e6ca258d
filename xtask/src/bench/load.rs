//! Load on a server over HTTP/1.1: blocking connections, each a thread, on the same machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

/// A server that says nothing for so long is taken for gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that stays open from request to request.
pub struct Connection {
    address: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { address: address.to_owned(), stream: BufReader::new(stream) })
    }

    pub fn post(&mut self, path: &str, body: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        self.send("POST", path, body.as_bytes())
    }

    /// The status and body of the answer.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> anyhow::Result<(u16, Vec<u8>)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        // In one piece: two would be two packets, of which the second waits.
        let request = [request.as_bytes(), body].concat();
        self.stream.get_mut().write_all(&request)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).context("the connection was closed")?.parse()?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse()?;
                }
                Some((name, _)) if name.eq_ignore_ascii_case("transfer-encoding") => {
                    is_chunked = true;
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        if is_chunked {
            self.read_chunks(&mut body)?;
        }
        Ok((status, body))
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> anyhow::Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim_end(), 16).context("a chunk's length")?;
            let first = body.len();
            body.resize(first + length + "\r\n".len(), 0);
            self.stream.read_exact(&mut body[first..])?;
            body.truncate(first + length);
            if length == 0 {
                return Ok(());
            }
        }
    }

    /// The answer to a request that is answered.
    pub fn answer(&mut self, path: &str, body: &str) -> anyhow::Result<Value> {
        let (status, answer) = self.post(path, body)?;
        ensure!(status == 200, "answered {status}: {}", String::from_utf8_lossy(&answer));
        Ok(serde_json::from_slice(&answer)?)
    }
}

/// What requests took, each.
pub struct Measured {
    /// Sorted.
    times_ms: Vec<f64>,
    seconds: f64,
}

impl Measured {
    pub fn of(mut times_ms: Vec<f64>, seconds: f64) -> Self {
        times_ms.sort_by(f64::total_cmp);
        Self { times_ms, seconds }
    }

    /// The time within which so many percent were answered.
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        let at = self.times_ms.len() * percent / 100;
        self.times_ms[at.min(self.times_ms.len() - 1)]
    }

    pub fn requests_per_s(&self) -> f64 {
        self.times_ms.len() as f64 / self.seconds
    }
}

/// Asks all of them, each once, over so many connections that each wait for their answer.
pub fn ask(
    address: &str,
    connections: usize,
    requests: &[(String, String)],
) -> anyhow::Result<Measured> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let one = || -> anyhow::Result<Vec<f64>> {
        let mut connection = Connection::open(address)?;
        let mut times_ms = Vec::with_capacity(requests.len() / connections + 1);
        while let Some((path, body)) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let sent = Instant::now();
            let (status, answer) = connection.post(path, body)?;
            times_ms.push(sent.elapsed().as_secs_f64() * 1000.0);
            ensure!(status == 200, "answered {status}: {}", String::from_utf8_lossy(&answer));
            let is_whole = answer.windows(13).any(|bytes| bytes == b"\"predictions\"");
            ensure!(is_whole, "answered {}", String::from_utf8_lossy(&answer));
        }
        Ok(times_ms)
    };
    let times_ms = std::thread::scope(|scope| {
        let all: Vec<_> = (0..connections).map(|_| scope.spawn(one)).collect();
        let mut times_ms = Vec::with_capacity(requests.len());
        for asked in all {
            times_ms.extend(asked.join().expect("a connection does not panic")?);
        }
        anyhow::Ok(times_ms)
    })?;
    Ok(Measured::of(times_ms, begun.elapsed().as_secs_f64()))
}
