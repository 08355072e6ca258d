//! Predictions line by line: order, errors in their place, memory, and clients that go.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::http::curl;
use crate::support::{Corral, PATIENCE, wait_for};

const ROWS: usize = 300_000;
const ROWS_A_BLOCK: usize = 500;

/// Every so many rows one cannot be read.
const BROKEN_EVERY: usize = 1000;

/// What the server may grow by, however long the body is: its chunks, and what allocators
/// keep. The body has 25 MB, and its answers some 35.
const MAX_GROWTH_BYTES: u64 = 24 << 20;

fn row(number: usize) -> String {
    if number % BROKEN_EVERY == 17 {
        return format!("{{\"id\": {number}, \"text\"\n");
    }
    let text = ["parcel lost on the way", "charged twice", "crashes on start"][number % 3];
    format!("{}\n", json!({"id": number, "text": format!("{text}, case {number}")}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_bodies_are_answered_in_order_and_in_constant_memory() {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let corral = tokio::task::spawn_blocking(|| {
        let corral = Corral::start();
        corral.deploy_support();
        corral
    });
    let corral = corral.await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/v1/endpoints/support/predict?top_k=2", corral.url);
    let ask = |rows: usize| {
        let block = |first: usize| (first..first + ROWS_A_BLOCK).map(row).collect::<String>();
        let blocks =
            (0..rows).step_by(ROWS_A_BLOCK).map(move |first| Ok::<_, String>(block(first)));
        client
            .post(&url)
            .bearer_auth(&corral.token)
            .header("content-type", "application/x-ndjson")
            .timeout(PATIENCE)
            .body(reqwest::Body::wrap_stream(stream::iter(blocks)))
            .send()
    };
    let ids = ["shipping", "billing", "technical"];
    let check = |number: usize, line: &[u8]| {
        let answer: Value = serde_json::from_slice(line).unwrap();
        if number % BROKEN_EVERY == 17 {
            assert_eq!(answer["line"], number + 1, "{answer}");
            assert_eq!(answer["error"]["kind"], "invalid", "{answer}");
            return;
        }
        assert_eq!(answer["id"], number, "{answer}");
        assert_eq!(answer["labels"][0]["id"], ids[number % 3], "{answer}");
        assert_eq!(answer["labels"].as_array().unwrap().len(), 2);
    };
    let (mut least, mut most) = (u64::MAX, 0);
    for rows in [ROWS / 10, ROWS] {
        let response = ask(rows).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut blocks = response.bytes_stream();
        let (mut number, mut begun) = (0, Vec::new());
        while let Some(block) = blocks.next().await {
            for line in block.unwrap().split_inclusive(|byte| *byte == b'\n') {
                begun.extend_from_slice(line);
                if begun.ends_with(b"\n") {
                    check(number, &begun);
                    number += 1;
                    begun.clear();
                    // Once the server has what it takes for any such request.
                    if rows == ROWS && number % 10_000 == 0 {
                        let memory = corral.server_memory_bytes();
                        (least, most) = (least.min(memory), most.max(memory));
                    }
                }
            }
        }
        assert_eq!((number, begun.len()), (rows, 0));
    }
    println!("server: {} to {} MiB of its own", least >> 20, most >> 20);
    assert!(most - least < MAX_GROWTH_BYTES, "the server grew from {least} to {most} bytes");
}

#[test]
fn a_line_is_answered_when_it_comes_and_who_goes_or_does_not_read_is_left() {
    let corral = Corral::start();
    corral.deploy_support();
    let open = || {
        let mut stream = TcpStream::connect(corral.url.strip_prefix("http://").unwrap()).unwrap();
        let request = format!(
            "POST /v1/endpoints/support/predict HTTP/1.1\r\nhost: localhost\r\n\
             authorization: Bearer {}\r\ncontent-type: application/x-ndjson\r\n\
             transfer-encoding: chunked\r\n\r\n",
            corral.token
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let send = |stream: &mut TcpStream, text: &str| {
        stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
    };

    // One line at a time, the body going on all the while.
    let mut stream = open();
    let mut answers = String::new();
    for number in 0..3 {
        send(&mut stream, &row(number)).unwrap();
        while !answers.contains(&format!("\"id\":{number}")) {
            let mut block = [0; 4096];
            let read = stream.read(&mut block).unwrap();
            assert!(read > 0, "the answer ended early: {answers}");
            answers.push_str(&String::from_utf8_lossy(&block[..read]));
        }
    }

    // Who does not read what comes back is read from no further.
    let mut deaf = open();
    deaf.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let block: String = (100..1000).map(row).collect();
    let mut sent = 0;
    while send(&mut deaf, &block).is_ok() {
        sent += block.len();
        assert!(sent < 200 << 20, "{sent} bytes were taken without an answer being read");
    }
    println!("{sent} bytes were taken before the server waited for its reader");

    // Who goes is not worked for.
    drop(deaf);
    drop(stream);
    let answered = || {
        let url = format!("{}/metrics", corral.url);
        let output = Command::new("curl").args(["--silent", &url]).output().unwrap();
        let page = String::from_utf8(output.stdout).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix("corral_predict_texts_total "));
        line.unwrap().parse::<f64>().unwrap()
    };
    wait_for("the server to stop answering who is gone", || {
        let before = answered();
        std::thread::sleep(Duration::from_millis(300));
        (answered() <= before).then_some(())
    });
}

#[test]
fn what_is_wrong_with_the_request_itself_is_said_at_once() {
    let corral = Corral::start();
    corral.deploy_support();
    let lines = ["-H", "content-type: application/x-ndjson", "--data-binary"];
    let post = |path: &str, body: &str| {
        let url = format!("{}/v1/endpoints/{path}", corral.url);
        curl(&corral, &[&lines[..], &[body, &url]].concat())
    };
    for (path, status, word) in [
        ("support/predict?top_k=0", 400, "top_k"),
        ("support/predict?topk=2", 400, "topk"),
        ("support/predict?prefix=nothing", 400, "nothing"),
        ("suport/predict", 404, "support"),
    ] {
        let (found, answer) = post(path, "\"a\"\n");
        assert!(found == status && answer.contains(word), "{path}: {found} {answer}");
    }
    assert_eq!(post("support/predict", ""), (200, String::new()));
    let (_, answer) = post("support/predict", "\n\"charged twice\"\r\nno json\n{\"text\": \"x\"}");
    let answers: Vec<Value> =
        answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 3, "{answer}");
    assert_eq!(answers[0]["labels"][0]["id"], "billing");
    assert!(answers[0].get("id").is_none());
    assert_eq!(answers[1]["line"], 3);
    assert!(answers[2]["labels"].is_array());
}
