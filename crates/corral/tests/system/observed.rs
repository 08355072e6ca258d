//! What is noted of requests: counts, usage, logs, drift.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::http::curl;
use crate::support::{Corral, signal, small_dataset, wait_for};

/// Asks an endpoint for so many texts, and gives the status.
fn ask(corral: &Corral, endpoint: &str, texts: &[&str]) -> u16 {
    let url = format!("{}/v1/endpoints/{endpoint}/predict", corral.url);
    curl(corral, &[&url, "-d", &json!({"texts": texts}).to_string()]).0
}

fn metrics(corral: &Corral) -> String {
    curl(corral, &[&format!("{}/metrics", corral.url)]).1
}

fn usage(corral: &Corral) -> Vec<Value> {
    corral.json(&["usage"])["items"].as_array().unwrap().clone()
}

#[test]
fn requests_are_counted_by_endpoint_and_version() {
    let corral = Corral::start();
    corral.deploy_support();
    corral.run(&["deploy", "--answer", "one", "--name", "live"]);
    corral.run(&["deploy", "--answer", "two", "--name", "live"]);
    assert!(!metrics(&corral).contains("endpoint=\"live\""), "what is not asked takes no room");
    for texts in [&["a"][..], &["a", "b", "c"], &[]] {
        assert_eq!(ask(&corral, "live", texts), 200);
    }
    assert_eq!(ask(&corral, "live/1", &["a"]), 200);
    assert_eq!(ask(&corral, "support", &["my parcel arrived late"]), 200);
    assert_eq!(ask(&corral, "support", &vec!["a"; 5000]), 413);

    let page = metrics(&corral);
    let has = |line: &str| assert!(page.lines().any(|found| found == line), "{line}: {page}");
    let live = "workspace=\"default\",endpoint=\"live\",version=\"2\"";
    has(&format!("corral_endpoint_requests_total{{{live},outcome=\"ok\"}} 3"));
    has(&format!("corral_endpoint_request_texts_sum{{{live}}} 4"));
    has(&format!("corral_endpoint_request_texts_bucket{{{live},le=\"1\"}} 2"));
    has(&format!("corral_endpoint_latency_seconds_count{{{live}}} 3"));
    has(&format!("corral_endpoint_in_flight{{{live}}} 0"));
    let support = "workspace=\"default\",endpoint=\"support\",version=\"1\"";
    has(&format!("corral_endpoint_requests_total{{{support},outcome=\"too_large\"}} 1"));
    assert!(page.contains(&format!("corral_endpoint_cold_opens_total{{{support}}}")), "{page}");
    let lines = page.lines().filter(|line| line.contains(live)).count();
    assert!(lines <= 32, "a series has {lines} lines");

    let shown = corral.json(&["endpoint", "show", "support"]);
    let counts = &shown["versions"][0]["counts"];
    assert_eq!((&counts["requests"], &counts["errors"]), (&json!(2), &json!(1)), "{shown}");
    assert!(
        counts["p50_ms"].as_f64().unwrap() > 0.0 && counts["core_seconds"].as_f64() > Some(0.0)
    );
    assert!(corral.run(&["endpoint", "show", "support"]).contains("P99 MS"));
}

#[test]
fn usage_outlives_a_kill_and_is_counted_once() {
    let prices = [("CORRAL_CPU_HOUR_PRICE", "3600000"), ("CORRAL_GIB_HOUR_PRICE", "0")];
    let corral = Corral::start_with_environment(&prices);
    corral.deploy_support();
    for _ in 0..5 {
        assert_eq!(ask(&corral, "support", &["my parcel arrived late", "refund"]), 200);
    }
    // Told at once, and noted with that.
    let used = usage(&corral);
    assert_eq!((used.len(), &used[0]["requests"], &used[0]["texts"]), (1, &json!(5), &json!(10)));
    let seconds = used[0]["core_seconds"].as_f64().unwrap();
    assert!(seconds > 0.0 && (used[0]["cost"].as_f64().unwrap() - 1000.0 * seconds).abs() < 1e-6);
    let server = corral.processes("server")[0];
    signal(server, "KILL");
    wait_for("another server", || {
        corral.processes("server").first().copied().filter(|found| *found != server)
    });
    let there = wait_for("its answer", || {
        let answer = corral.command(&["usage", "--json"]).output().unwrap();
        serde_json::from_slice::<Value>(&answer.stdout).ok()
    });
    assert_eq!(there["items"][0]["requests"], 5, "{there}");
    assert_eq!(ask(&corral, "support", &["refund"]), 200);
    assert_eq!(usage(&corral)[0]["requests"], 6);

    // It stays when the endpoint goes.
    corral.run(&["endpoint", "rm", "support"]);
    let by_day = corral.json(&["usage", "--by", "day", "--since", "2d"]);
    assert_eq!(by_day["items"][0]["endpoint"], "support");
    assert!(by_day["items"][0]["from"].as_str().unwrap().ends_with("T00:00:00.000Z"), "{by_day}");
    assert!(corral.run(&["usage", "--by", "hour"]).contains("COST"));
    let (_, message) = corral.fails(&["usage", "--since", "soon"]);
    assert!(message.contains("soon"), "{message}");
}

/// The rows of a data set.
fn rows(corral: &Corral, dataset: &str) -> Vec<Value> {
    let url = format!("{}/v1/datasets/{dataset}/rows?limit=1000", corral.url);
    let answer: Value = serde_json::from_str(&curl(corral, &[&url]).1).unwrap();
    answer["rows"].as_array().unwrap().clone()
}

#[test]
fn a_log_is_masked_and_becomes_a_data_set_to_train_from() {
    let corral = Corral::start();
    corral.deploy_support();
    corral.run(&["deploy", "--answer", "other=0.5", "--name", "support"]);
    corral.run(&["endpoint", "traffic", "support", "1"]);
    let (code, message) = corral.fails(&["endpoint", "log", "support", "dataset", "seen"]);
    assert!(code == 4 && message.contains("has no log"), "{message}");
    let on = ["endpoint", "log", "support", "on", "--mask", "email,digits", "--keep-days", "7"];
    let told = corral.run(&on);
    assert!(told.contains("100 % of requests; masked: email, digits; for 7 days"), "{told}");

    let url = format!("{}/v1/endpoints/support/predict", corral.url);
    let ask = |texts: &[&str], key: &str| {
        let body = json!({"texts": texts, "key": key, "top_k": 2}).to_string();
        assert_eq!(curl(&corral, &[&url, "-d", &body]).0, 200);
    };
    ask(&["my parcel arrived late, write to jo@example.org", "call 0171 234 56 78"], "ann");
    corral.run(&["endpoint", "mirror", "support", "2"]);
    ask(&["charged twice"], "ann");
    wait_for("the mirror's answer", || {
        metrics(&corral).contains("corral_mirrored_requests_total").then_some(())
    });
    corral.run(&["endpoint", "mirror", "support", "--off"]);
    ask(&["login fails"], "bob");
    corral.run(&["endpoint", "log", "support", "dataset", "seen"]);
    let seen = rows(&corral, "seen");
    let by_text = |text: &str| {
        let row = seen.iter().find(|row| row["text"] == text);
        row.unwrap_or_else(|| panic!("{text} in {seen:?}")).clone()
    };
    assert_eq!(seen.len(), 4);
    let parcel = by_text("my parcel arrived late, write to [email]");
    assert_eq!((&parcel["answer"], &parcel["model"]), (&json!("shipping"), &json!("support@1")));
    assert!(parcel["probability"].as_f64().unwrap() > 0.5 && parcel["labels"] == json!([]));
    let top_k: Value = serde_json::from_str(parcel["top_k"].as_str().unwrap()).unwrap();
    assert_eq!((top_k.as_array().unwrap().len(), &top_k[0]["id"]), (2, &json!("shipping")));
    let (called, charged) = (by_text("call [digits]"), by_text("charged twice"));
    assert_eq!(
        (&charged["mirror_version"], &charged["mirror_answer"]),
        (&json!(2), &json!("other"))
    );
    assert_eq!(called["key_hash"], charged["key_hash"]);
    assert_ne!(called["key_hash"], by_text("login fails")["key_hash"]);
    assert!(!format!("{seen:?}").contains("ann"), "{seen:?}");

    // Half of the requests, evenly; texts left out.
    corral.run(&["endpoint", "log", "support", "on", "--sample", "0.5", "--omit", "key,top_k"]);
    for number in 0..90 {
        let phrase = ["refund the money", "no tracking", "shows an error"][number % 3];
        ask(&[&format!("{phrase} since {number}")], "bob");
    }
    let make = ["endpoint", "log", "support", "dataset", "answers", "--label-by-answer"];
    corral.run(&make);
    let answers = rows(&corral, "answers");
    assert_eq!(answers.len(), 4 + 45);
    assert!(answers.iter().all(|row| row["labels"].as_array().unwrap().len() == 1), "{answers:?}");
    assert!(answers[48]["key_hash"].is_null() && answers[48]["top_k"].is_null());
    let train = ["train", "again", "--dataset", "answers", "--encoder", "none", "--trials", "1"];
    corral.run(&[&train[..], &["--wait"]].concat());
    corral.run(&["deploy", "again", "--name", "support"]);

    // Off keeps what there is, rm does not.
    corral.run(&["endpoint", "log", "support", "off"]);
    ask(&["unseen"], "bob");
    corral.run(&["endpoint", "log", "support", "dataset", "still"]);
    assert_eq!(rows(&corral, "still").len(), 49);
    corral.run(&["endpoint", "log", "support", "rm"]);
    wait_for("the log to go", || {
        let made = ["endpoint", "log", "support", "dataset", "gone"];
        let said = corral.command(&made).output().unwrap();
        String::from_utf8_lossy(&said.stderr).contains("has no log").then_some(())
    });
    let (_, message) = corral.fails(&["endpoint", "log", "support", "on", "--mask", "("]);
    assert!(message.contains("neither `email` nor `digits` nor a regular expression"), "{message}");
    let (_, message) = corral.fails(&["endpoint", "log", "support", "on", "--sample", "1.5"]);
    assert!(message.contains("from 0 to 1"), "{message}");
}

#[test]
fn a_log_outlives_a_kill_and_is_in_the_backup() {
    let corral = Corral::start();
    corral.run(&["deploy", "--answer", "one", "--name", "live"]);
    corral.run(&["endpoint", "log", "live", "on"]);
    for round in 0..3 {
        for number in 0..5 {
            assert_eq!(ask(&corral, "live", &[&format!("text {round} {number}")]), 200);
        }
        // Writes what was answered so far.
        let written = format!("written{round}");
        corral.run(&["endpoint", "log", "live", "dataset", &written]);
        assert!(rows(&corral, &written).len() >= 5 * (round + 1));
        assert_eq!(ask(&corral, "live", &["perhaps lost"]), 200);
        let server = corral.processes("server")[0];
        signal(server, "KILL");
        wait_for("another server", || {
            corral.processes("server").first().copied().filter(|found| *found != server)
        });
        let made = format!("made{round}");
        wait_for("its answer", || {
            let said = corral.command(&["endpoint", "log", "live", "dataset", &made]).output();
            said.unwrap().status.success().then_some(())
        });
        let texts: Vec<String> = rows(&corral, &made)
            .iter()
            .map(|row| row["text"].as_str().unwrap().to_owned())
            .collect();
        for number in 0..5 * (round + 1) {
            let text = format!("text {} {}", number / 5, number % 5);
            assert_eq!(texts.iter().filter(|found| **found == text).count(), 1, "{texts:?}");
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let (archive, restored) = (scratch.path().join("backup"), scratch.path().join("restored"));
    corral.run(&["backup", archive.to_str().unwrap()]);
    let restored_dir = restored.to_str().unwrap();
    corral.run(&["restore", archive.to_str().unwrap(), "--data-dir", restored_dir]);
    let again = Corral::start_in(&restored, &[], Some(&corral.token));
    again.run(&["endpoint", "log", "live", "dataset", "again"]);
    assert!(rows(&again, "again").len() >= 15);
}

/// Something that takes webhooks: it fails the first, and hands on what it gets.
fn receiver() -> (String, std::sync::mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, got) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let before = head.len();
                if stream.read_line(&mut head).unwrap() == 0 || head[before..].trim().is_empty() {
                    break;
                }
                let line = head[before..].to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let status = if number == 0 { "500 Not now" } else { "204 Taken" };
            let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            if sender.send((head, body)).is_err() {
                return;
            }
        }
    });
    (url, got)
}

#[test]
fn a_shifted_stream_is_told_by_webhook_once_and_an_unshifted_one_is_not() {
    let corral = Corral::start();
    corral.deploy_support();
    let (url, got) = receiver();
    let on = ["endpoint", "drift", "support", "on", "--window", "200", "--webhook", &url];
    let told = corral.run(&[&on[..], &["--webhook-secret", "shared"]].concat());
    assert!(told.contains("bound 0.25, 200 texts a window") && told.contains("signed"), "{told}");
    let shown = corral.json(&["endpoint", "show", "support"]);
    assert!(
        shown["drift"]["is_signed"] == true && !shown.to_string().contains("shared"),
        "{shown}"
    );
    let drift = || corral.json(&["endpoint", "show", "support"])["versions"][0]["drift"].clone();

    let usual: Vec<String> = small_dataset(300)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().into())
        .collect();
    let phrases = ["mon colis est en retard", "la facture est fausse", "je ne peux pas entrer"];
    let other: Vec<String> = (0..300).map(|number| phrases[number % 3].to_owned()).collect();
    let mut next = 0;
    let mut send = |texts: &[String], server: &Corral| {
        let some: Vec<&str> = (next..next + 50).map(|at| texts[at % 300].as_str()).collect();
        next += 50;
        assert_eq!(ask(server, "support", &some), 200);
    };
    send(&usual, &corral);
    wait_for("the reference", || (drift()["reference_texts"] == 300).then_some(()));
    let windows = |texts: &[String], count: u32, send: &mut dyn FnMut(&[String], &Corral)| {
        let mut ends = std::collections::BTreeSet::new();
        wait_for("windows to pass", || {
            send(texts, &corral);
            ends.extend(drift()["at"].as_str().map(str::to_owned));
            (ends.len() as u32 >= count).then_some(())
        });
    };
    windows(&usual, 3, &mut send);
    let within = drift();
    assert_eq!(within["state"], "within", "{within}");
    assert!(got.try_recv().is_err(), "an unshifted stream is not told");

    windows(&other, 3, &mut send);
    let beyond = wait_for("the alarm to be delivered", || {
        let found = drift();
        found["alarm"].as_str().is_some_and(|it| it.contains("delivered")).then_some(found)
    });
    assert_eq!(beyond["state"], "beyond", "{beyond}");
    assert!(beyond["distances"]["words"].as_f64() > Some(0.25), "{beyond}");
    assert!(corral.run(&["endpoint", "show", "support"]).contains("drift of version 1: beyond"));
    assert!(metrics(&corral).contains("side=\"words\""));
    // The first attempt failed, the second was taken; both are signed.
    for _ in 0..2 {
        let (head, body) = got.try_recv().unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"shared");
        let signed = ring::hmac::sign(&key, &body);
        let signed: String = signed.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(head.contains(&format!("corral-signature: sha256={signed}")), "{head}");
        let told: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&told["event"], &told["endpoint"]), (&json!("drift"), &json!("support")));
        assert!(told["distances"]["words"].as_f64() > told["bound"].as_f64(), "{told}");
    }

    // It is not told again, neither as it goes on nor after the server was killed.
    windows(&other, 2, &mut send);
    let server = corral.processes("server")[0];
    signal(server, "KILL");
    wait_for("another server", || {
        corral.processes("server").first().copied().filter(|found| *found != server)
    });
    wait_for("its answer", || (ask(&corral, "support", &["a"]) == 200).then_some(()));
    windows(&other, 2, &mut send);
    assert_eq!(drift()["state"], "beyond");
    assert!(got.try_recv().is_err(), "told once");

    corral.run(&["endpoint", "drift", "support", "off"]);
    wait_for("nothing to be watched", || drift().is_null().then_some(()));
    let wrong = |arguments: &[&str]| {
        corral.fails(&[&["endpoint", "drift", "support", "on"], arguments].concat()).1
    };
    assert!(wrong(&["--bound", "0"]).contains("may be 0.02 to 10"));
    assert!(wrong(&["--webhook", "ftp://x"]).contains("not a URL of http or https"));
    assert!(wrong(&["--webhook-secret", "x"]).contains("there is no webhook"));

    // What has no training says so.
    corral.run(&["deploy", "--answer", "one", "--name", "live"]);
    corral.run(&["endpoint", "drift", "live", "on"]);
    assert_eq!(ask(&corral, "live", &["a"]), 200);
    wait_for("the reason", || {
        let shown = corral.run(&["endpoint", "show", "live"]);
        shown.contains("no reference: its answer is the same for every text").then_some(())
    });
}
