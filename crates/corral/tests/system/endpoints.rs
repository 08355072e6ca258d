//! Versions of endpoints, and which of them a request reaches.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{Corral, signal, wait_for};

/// A connection that stays open from request to request.
struct Connection {
    token: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(corral: &Corral) -> Self {
        let stream = TcpStream::connect(corral.url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { token: corral.token.clone(), stream: BufReader::new(stream) }
    }

    /// The status and the body of the answer.
    fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
        self.post_to("localhost", path, body)
    }

    fn post_to(&mut self, host: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap();
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// How many of so many requests each version answered.
    fn counts(&mut self, path: &str, requests: usize) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..requests {
            let (status, answer) = self.post(path, &json!({"texts": ["a"]}));
            assert_eq!(status, 200, "{answer}");
            *counts.entry(answer["endpoint_version"].as_u64().unwrap()).or_default() += 1;
        }
        counts
    }
}

/// Whether requests were dealt so, but for the few by which so short a sequence may be off.
fn near(counts: &BTreeMap<u64, usize>, expected: [(u64, usize); 2]) -> bool {
    expected.iter().all(|(version, count)| {
        counts.get(version).is_some_and(|found| found.abs_diff(*count) <= 3)
    })
}

/// An endpoint `live` with versions that answer `one`, `two`, and so on.
fn deploy(corral: &Corral, answers: &[&str]) {
    for answer in answers {
        corral.run(&["deploy", "--answer", answer, "--name", "live"]);
    }
}

/// The page of metrics; empty while the server is away.
fn metrics(corral: &Corral) -> String {
    let mut text = String::new();
    let address = corral.url.strip_prefix("http://").unwrap();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let asked = stream.write_all(b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n");
        let _answered = asked.and_then(|()| stream.read_to_string(&mut text));
    }
    text
}

fn label(corral: &Corral, endpoint: &str) -> String {
    let answer = corral.json(&["predict", endpoint, "a text"]);
    answer["predictions"][0]["labels"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn versions_are_reached_by_number_alias_and_traffic() {
    let corral = Corral::start();
    deploy(&corral, &["one", "two=0.5"]);
    assert_eq!(label(&corral, "live"), "two");
    assert_eq!(label(&corral, "live/1"), "one");
    corral.run(&["endpoint", "alias", "live", "stable", "1"]);
    corral.run(&["endpoint", "traffic", "live", "stable"]);
    assert_eq!(label(&corral, "live"), "one");
    assert_eq!(label(&corral, "live/latest"), "two");
    let told = corral.run(&["deploy", "--answer", "three", "--name", "live", "--alias", "next"]);
    assert!(told.contains("version 3") && told.contains("goes on to version stable"), "{told}");
    assert_eq!([label(&corral, "live"), label(&corral, "live/next")], ["one", "three"]);

    let shown = corral.run(&["endpoint", "show", "live"]);
    assert!(shown.contains("version stable") && shown.contains("next"), "{shown}");
    corral.run(&["endpoint", "alias", "live", "stable", "next"]);
    assert_eq!(label(&corral, "live"), "three");

    // What was set is there after the server is killed.
    corral.run(&["endpoint", "traffic", "live", "stable=3", "2=1"]);
    for process in corral.processes("server") {
        signal(process, "KILL");
    }
    wait_for("the server", || corral.processes("server").first().copied());
    let mut connection = Connection::open(&corral);
    let counts = connection.counts("/v1/endpoints/live/predict", 100);
    assert!(near(&counts, [(2, 25), (3, 75)]), "{counts:?}");

    // The same key reaches the same side.
    corral.run(&["endpoint", "traffic", "live", "stable=1", "2=1", "--by", "key"]);
    let mut sides = BTreeMap::new();
    for number in 0..200 {
        let body = json!({"texts": ["a"], "key": format!("user {}", number % 20)});
        let (_, answer) = connection.post("/v1/endpoints/live/predict", &body);
        let side = answer["endpoint_version"].as_u64().unwrap();
        assert_eq!(*sides.entry(number % 20).or_insert(side), side);
    }
    assert!(sides.values().any(|side| *side == 2) && sides.values().any(|side| *side == 3));

    // What is in use stays, and the refusal says by what.
    let (code, message) = corral.fails(&["endpoint", "rm", "live/2"]);
    assert!(code != 0 && message.contains("gets requests by the endpoint's traffic"), "{message}");
    let (_, message) = corral.fails(&["endpoint", "alias", "live", "stable", "9"]);
    assert!(message.contains("there is no version `9`"), "{message}");
    let (_, message) = corral.fails(&["endpoint", "alias", "live", "latest", "1"]);
    assert!(message.contains("cannot be an alias"), "{message}");
    let (_, message) = corral.fails(&["predict", "live/staging", "a"]);
    assert!(message.contains("has no alias `staging`") && message.contains("next"), "{message}");
    let (_, message) = corral.fails(&["endpoint", "traffic", "live", "2=0"]);
    assert!(message.contains("no side of the split has a weight"), "{message}");
    corral.run(&["endpoint", "rm", "live/1"]);
    let (_, message) = corral.fails(&["predict", "live/1", "a"]);
    assert!(message.contains("there is no version `1`"), "{message}");
    corral.run(&["endpoint", "rm", "live"]);
    let (_, message) = corral.fails(&["predict", "live", "a"]);
    assert!(message.contains("there is no endpoint `live`"), "{message}");
}

#[test]
fn an_endpoint_has_a_host_name_of_its_own() {
    let corral = Corral::start_with(&["--endpoint-domain", "models.example"]);
    deploy(&corral, &["one", "two"]);
    let mut connection = Connection::open(&corral);
    let texts = json!({"texts": ["a"]});
    let mut version = |host: &str, path: &str| {
        let (status, answer) = connection.post_to(host, path, &texts);
        (status, answer["endpoint_version"].as_u64())
    };
    assert_eq!(version("live.models.example", "/"), (200, Some(2)));
    assert_eq!(version("LIVE.Models.example:80", "/1"), (200, Some(1)));
    assert_eq!(version("live.models.example", "/latest/predict"), (200, Some(2)));
    assert_eq!(version("live.models.example", "/9"), (404, None));
    assert_eq!(version("other.models.example", "/"), (404, None));
    assert_eq!(version("live.models.example", "/v1/tokens"), (404, None));
    assert_eq!(version("models.example", "/"), (403, None));
    assert_eq!(version("live.elsewhere.example", "/"), (403, None));
    let (code, message) = corral.fails(&["up", "--endpoint-domain", "*.example"]);
    assert!(code != 0 && message.contains("no domain for endpoints"), "{message}");
}

#[test]
fn tokens_and_workspaces_ask_no_more_than_they_may() {
    let corral = Corral::start();
    deploy(&corral, &["one"]);
    let token = corral.json(&["token", "create", "app", "--scopes", "predict"]);
    let (id, secret) = (token["id"].as_str().unwrap(), token["secret"].as_str().unwrap());
    corral.run(&["token", "limit", id, "--requests", "2", "--texts", "100"]);
    assert!(corral.run(&["token", "ls"]).contains("2 requests/s, 100 texts/s"));
    let mut app = Connection::open(&corral);
    app.token = secret.to_owned();
    let path = "/v1/endpoints/live/predict";
    let mut statuses = |texts: usize| {
        let answers = [(); 4].map(|()| app.post(path, &json!({"texts": vec!["a"; texts]})));
        println!("{}", answers[3].1);
        answers.map(|(status, _)| status)
    };
    assert_eq!(statuses(1), [200, 200, 429, 429]);
    // Others are not held up, and what was set is there after the server is killed.
    let mut admin = Connection::open(&corral);
    assert_eq!(admin.counts(path, 20), BTreeMap::from([(1, 20)]));
    for process in corral.processes("server") {
        signal(process, "KILL");
    }
    wait_for("the server", || corral.run(&["token", "ls"]).contains("2 requests/s").then_some(()));
    corral.run(&["token", "limit", id, "--off"]);
    let mut app = Connection::open(&corral);
    app.token = secret.to_owned();
    assert_eq!(app.counts(path, 20), BTreeMap::from([(1, 20)]));
    corral.run(&["workspace", "limit", "default", "--texts", "10"]);
    let (status, _) = app.post(path, &json!({"texts": vec!["a"; 100]}));
    assert_eq!(status, 200, "a large request is paid for by those after it");
    let (status, answer) = Connection::open(&corral).post(path, &json!({"texts": ["a"]}));
    let message = answer["error"]["message"].as_str().unwrap();
    assert_eq!((status, message), (429, "the workspace asks more than its 10 texts a second"));
    corral.run(&["workspace", "limit", "default", "--off"]);
    let (_, message) = corral.fails(&["workspace", "limit", "default", "--texts", "0"]);
    assert!(message.contains("above 0"), "{message}");
    let (_, message) = corral.fails(&["token", "limit", "tk-none", "--texts", "1"]);
    assert!(message.contains("tk-none"), "{message}");
}

#[test]
fn an_endpoint_is_kept_warm_by_schedule() {
    let corral = Corral::start();
    corral.deploy_support();
    corral.run(&["endpoint", "keep-warm", "support", "2"]);
    let shown = corral.run(&["endpoint", "show", "support"]);
    assert!(shown.contains("2, always"), "{shown}");
    // A server that starts anew opens what is kept warm, before anybody asks.
    for process in corral.processes("server") {
        signal(process, "KILL");
    }
    wait_for("the server to open the model", || {
        metrics(&corral).lines().any(|line| line == "corral_open_models 1").then_some(())
    });
    let office = ["--window", "mon-fri 08:00-18:00", "--time-zone", "Europe/Berlin"];
    corral.run(&[&["endpoint", "keep-warm", "support"][..], &office].concat());
    let shown = corral.run(&["endpoint", "show", "support"]);
    let window = "1, mon,tue,wed,thu,fri 08:00-18:00 (Europe/Berlin)";
    assert!(shown.contains(window), "{shown}");
    let wrong = ["endpoint", "keep-warm", "support", "--window", "weekdays 8-18"];
    let (_, message) = corral.fails(&wrong);
    assert!(message.contains("`weekdays 8-18` is no part of the week"), "{message}");
    let wrong = [&wrong[..4], &["mon 08:00-09:00", "--time-zone", "Mars/Olympus"]].concat();
    let (_, message) = corral.fails(&wrong);
    assert!(message.contains("no time zone `Mars/Olympus`"), "{message}");
    corral.run(&["endpoint", "keep-warm", "support", "0"]);
    let shown = corral.run(&["endpoint", "show", "support"]);
    assert!(!shown.contains("keep warm"), "{shown}");
}

#[test]
fn long_requests_are_answered_in_turns_with_short_ones() {
    let corral = Corral::start();
    corral.deploy_support();
    let text = "my card was charged twice and nobody answers the phone ".repeat(200);
    let heavy = json!({"texts": vec![text; 400]});
    let path = "/v1/endpoints/support/predict";
    let mut connection = Connection::open(&corral);
    let begun = Instant::now();
    let (status, answer) = connection.post(path, &heavy);
    let alone = begun.elapsed();
    assert_eq!((status, answer["predictions"].as_array().unwrap().len()), (200, 400));

    // What takes too long is given up, and said so.
    let mut hurried = heavy.clone();
    hurried["timeout_ms"] = json!(1);
    let (status, answer) = connection.post(path, &hurried);
    assert_eq!(status, 504, "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("1 ms"), "{answer}");
    for wrong in [0, 600_001] {
        hurried["timeout_ms"] = json!(wrong);
        assert_eq!(connection.post(path, &hurried).0, 400);
    }

    // Short ones, though long enough to queue, overtake a crowd of long ones; of the crowd some
    // may be refused, and none is answered in part.
    let short = json!({"texts": vec!["x".repeat(50); 100]});
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let crowd: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = Connection::open(&corral);
                    let mut answered = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        let (status, answer) = connection.post(path, &heavy);
                        let count = answer["predictions"].as_array().map_or(0, Vec::len);
                        assert!(matches!((status, count), (200, 400) | (429, 0)), "{status}");
                        answered += usize::from(status == 200);
                    }
                    answered
                })
            })
            .collect();
        corral.run(&["deploy", "support", "--name", "light"]);
        let mut short_ones = Connection::open(&corral);
        for _ in 0..20 {
            let (status, answer) = short_ones.post("/v1/endpoints/light/predict", &short);
            assert_eq!(status, 200, "another endpoint's crowd: {answer}");
        }
        is_over.store(true, Ordering::Relaxed);
        let answered: usize = crowd.into_iter().map(|one| one.join().unwrap()).sum();
        assert!(answered > 0, "one alone took {alone:?}");
    });
}

#[test]
fn a_canary_takes_over_or_goes_back() {
    let corral = Corral::start();
    deploy(&corral, &["one", "one", "two"]);
    let mut connection = Connection::open(&corral);
    let predict = "/v1/endpoints/live/predict";
    let show = || corral.json(&["endpoint", "show", "live"]);
    let start = ["endpoint", "canary", "live", "2", "--from", "1"];
    corral.run(&[&start[..], &["--steps", "20,50", "--requests", "50"]].concat());
    // A hundred requests: twenty for the canary, fewer than a step has.
    let counts = connection.counts(predict, 100);
    assert!(near(&counts, [(1, 80), (2, 20)]), "{counts:?}");
    assert_eq!(show()["traffic"]["step"], 0);
    connection.counts(predict, 150);
    wait_for("the second step", || (show()["traffic"]["step"] == 1).then_some(()));
    connection.counts(predict, 100);
    wait_for("the end", || (show()["traffic"]["kind"] == "to").then_some(()));
    let taken = show();
    assert_eq!(taken["traffic"], json!({"kind": "to", "version": "2"}));
    assert_eq!(taken["last_canary"]["took_over"], true, "{taken}");

    // The third gives other answers.
    let agree = ["--requests", "30", "--agreement", "0.9"];
    corral.run(&[&["endpoint", "canary", "live"][..], &agree].concat());
    connection.counts(predict, 1200);
    let back = wait_for("its way back", || {
        let shown = show();
        (shown["last_canary"]["to"] == 3).then_some(shown)
    });
    assert_eq!(back["traffic"], json!({"kind": "to", "version": "2"}));
    let why = back["last_canary"]["why"].as_str().unwrap();
    assert!(why.contains("0.0 % of the texts the same class"), "{why}");
    assert!(corral.run(&["endpoint", "show", "live"]).contains("3 went back to 2"));
}

#[test]
fn a_mirror_is_asked_and_its_answers_thrown_away() {
    let corral = Corral::start();
    deploy(&corral, &["one", "two"]);
    corral.run(&["endpoint", "traffic", "live", "1"]);
    corral.run(&["endpoint", "mirror", "live", "2"]);
    let counts = Connection::open(&corral).counts("/v1/endpoints/live/predict", 40);
    assert_eq!(counts, BTreeMap::from([(1, 40)]));
    let expected = "corral_mirrored_requests_total{outcome=\"other\"} 40";
    wait_for("all mirrored requests", || metrics(&corral).contains(expected).then_some(()));
    corral.run(&["endpoint", "mirror", "live", "--off"]);
    let (_, message) = corral.fails(&["endpoint", "mirror", "live", "2", "--share", "1.5"]);
    assert!(message.contains("above 0 and at most 1"), "{message}");
}

#[test]
fn an_alias_moves_under_load_without_a_failed_or_mixed_request() {
    const MOVES: usize = 60;
    let corral = Corral::start();
    deploy(&corral, &["one", "two"]);
    corral.run(&["endpoint", "alias", "live", "stable", "1"]);
    corral.run(&["endpoint", "traffic", "live", "stable"]);
    let is_over = AtomicBool::new(false);
    let ask = || {
        let mut connection = Connection::open(&corral);
        let mut seen = BTreeMap::new();
        while !is_over.load(Ordering::Relaxed) {
            let body = json!({"texts": ["a", "b", "c"]});
            let (status, answer) = connection.post("/v1/endpoints/live/predict", &body);
            assert_eq!(status, 200, "{answer}");
            let version = answer["endpoint_version"].as_u64().unwrap();
            let predictions = answer["predictions"].as_array().unwrap();
            assert_eq!(predictions.len(), 3);
            let expected = if version == 1 { "one" } else { "two" };
            for prediction in predictions {
                assert_eq!(prediction["labels"][0]["id"], expected, "{answer}");
            }
            *seen.entry(version).or_insert(0) += 1;
        }
        seen
    };
    let seen: Vec<BTreeMap<u64, usize>> = thread::scope(|scope| {
        let askers: Vec<_> = (0..2).map(|_| scope.spawn(ask)).collect();
        for number in 0..MOVES {
            let version = if number % 2 == 0 { "2" } else { "1" };
            corral.run(&["endpoint", "alias", "live", "stable", version]);
        }
        is_over.store(true, Ordering::Relaxed);
        askers.into_iter().map(|asker| asker.join().unwrap()).collect()
    });
    for counts in seen {
        assert!(counts[&1] > MOVES && counts[&2] > MOVES, "{counts:?}");
    }
}
