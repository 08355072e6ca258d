//! The API as other programs use it: protocols, headers, events, TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Corral, small_dataset, wait_for};

/// Sends bytes as they are and reads the whole answer.
fn raw(corral: &Corral, request: &str) -> String {
    let address = corral.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// curl with the token: the status and the body.
pub fn curl(corral: &Corral, arguments: &[&str]) -> (u16, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--write-out", "\n%{http_code}"])
        .args(["--header", &format!("authorization: Bearer {}", corral.token)])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[test]
fn health_metrics_and_description_need_no_token() {
    let corral = Corral::start();
    let open = |path: &str| {
        let output = Command::new("curl")
            .args(["--silent", "--fail", &format!("{}{path}", corral.url)])
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    assert!(open("/healthz").is_some());
    wait_for("readiness", || open("/readyz"));
    let description: Value = serde_json::from_str(&open("/openapi.json").unwrap()).unwrap();
    assert!(description["paths"]["/v1/endpoints/{name}/predict"]["post"].is_object());
    curl(&corral, &[&format!("{}/v1/endpoints/none/predict", corral.url), "-d", "{\"texts\":[]}"]);
    let metrics = open("/metrics").unwrap();
    assert!(
        metrics.contains("corral_predict_requests_total{outcome=\"not_found\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("# HELP corral_jobs"), "{metrics}");
    assert!(open("/v1/datasets").is_none(), "records need a token");
}

#[test]
fn other_names_and_other_sites_are_refused() {
    let corral = Corral::start();
    let request = |host: &str, more: &str| {
        raw(
            &corral,
            &format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n{more}connection: close\r\n\r\n"),
        )
    };
    assert!(request("localhost", "").starts_with("HTTP/1.1 200"));
    assert!(request("evil.example", "").starts_with("HTTP/1.1 403"));
    let refused = request("localhost", "origin: https://evil.example\r\n");
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    let own = Corral::start_with(&["--host", "corral.example"]);
    let answer =
        raw(&own, "GET /healthz HTTP/1.1\r\nhost: corral.example\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn both_versions_of_http_are_spoken_on_one_port() {
    let corral = Corral::start();
    let url = format!("{}/v1/whoami", corral.url);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let (status, body) = curl(&corral, &[version, &url]);
        assert_eq!(status, 200, "{version}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["workspace"], "default");
    }
}

#[test]
fn wrong_bodies_are_answered_with_what_is_wrong() {
    let corral = Corral::start();
    let predict = format!("{}/v1/endpoints/x/predict", corral.url);
    let check = |arguments: &[&str], status: u16, word: &str| {
        let (found, body) = curl(&corral, arguments);
        assert_eq!(found, status, "{arguments:?}: {body}");
        let error: Value = serde_json::from_str(&body).unwrap();
        assert!(error["error"]["message"].is_string(), "{body}");
        assert!(body.contains(word), "{arguments:?} does not say `{word}`: {body}");
    };
    check(&[&predict, "-d", "{\"texts\": 3}"], 400, "sequence");
    check(&[&predict, "-d", "not json"], 400, "expected");
    check(&[&predict, "-d", "{\"texts\": [], \"topk\": 3}"], 400, "top_k");
    check(&[&predict, "-d", "{\"texts\": [\"a\"], \"top_k\": 0}"], 400, "top_k");
    check(&[&predict, "-d", "{\"texts\": [\"a\"], \"threshold\": 2}"], 400, "threshold");
    let many = json!({"texts": vec!["a"; 5000]}).to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), many).unwrap();
    check(&[&predict, "-d", &format!("@{}", file.path().display())], 413, "4096");
    check(&[&format!("{}/v1/nothing", corral.url)], 404, "/v1/nothing");
    check(&["-X", "PATCH", &format!("{}/v1/datasets", corral.url)], 405, "PATCH");
    check(&[&format!("{}/v1/datasets?limit=0", corral.url)], 400, "limit");
    check(&[&format!("{}/v1/datasets?page=2", corral.url)], 400, "page");
    check(&[&format!("{}/v1/datasets?after=zz", corral.url)], 400, "zz");
}

#[test]
fn a_repeated_request_with_a_key_is_done_once() {
    let corral = Corral::start();
    let url = format!("{}/v1/jobs/probe", corral.url);
    let body = "{\"payload\": {\"steps\": 1, \"step_ms\": 1}}";
    let post = |key: &str, body: &str| {
        curl(&corral, &[&url, "-H", &format!("idempotency-key: {key}"), "-d", body])
    };
    let (status, first) = post("one", body);
    assert_eq!(status, 200, "{first}");
    assert_eq!(post("one", body), (200, first.clone()));
    assert_eq!(post("one", "{\"payload\": {\"steps\": 2}}").0, 409);
    assert_ne!(post("two", body).1, first);
    assert_eq!(corral.json(&["job", "ls"])["items"].as_array().unwrap().len(), 2);

    // A token's secret is not kept, not even for this.
    let tokens = format!("{}/v1/tokens", corral.url);
    let create = || {
        let body = "{\"name\": \"t\", \"scopes\": [\"read\"]}";
        curl(&corral, &[&tokens, "-H", "idempotency-key: three", "-d", body]).1
    };
    assert!(create().contains("secret"));
    assert!(!create().contains("secret"));
}

#[test]
fn files_come_as_forms_and_events_resume() {
    let corral = Corral::start();
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    std::fs::write(file.path(), small_dataset(60)).unwrap();
    let path = file.path().display();
    let url = format!("{}/v1/datasets/forms/import", corral.url);
    let form = [format!("file:train=@{path}"), format!("file:test=@{path}")];
    let (status, body) = curl(&corral, &["-F", &form[0], "-F", &form[1], &url]);
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["dataset"]["rows"], 120);

    let job = corral.json(&["job", "probe", "--steps", "3", "--step-ms", "10", "--wait"]);
    let events = format!("{}/v1/jobs/{}/events", corral.url, job["id"].as_str().unwrap());
    let (_, whole) = curl(&corral, &[&events]);
    let ids = |stream: &str| -> Vec<u64> {
        let lines = stream.lines().filter_map(|line| line.strip_prefix("id: "));
        lines.map(|id| id.parse().unwrap()).collect()
    };
    let all = ids(&whole);
    assert!(all.len() > 3 && all.is_sorted(), "{whole}");
    let (_, rest) = curl(&corral, &["-H", &format!("last-event-id: {}", all[1]), &events]);
    assert_eq!(ids(&rest), all[2..]);
}

#[test]
fn tls_is_spoken_where_a_certificate_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let corral = Corral::start_with(&["--tls-cert", &certificate, "--tls-key", &key]);
    let port = corral.url.rsplit(':').next().unwrap();
    let url = format!("https://localhost:{port}/v1/whoami");
    let (status, _) = curl(&corral, &["--cacert", &certificate, &url]);
    assert_eq!(status, 200);
    let output = corral
        .command(&["dataset", "ls"])
        .env("CORRAL_URL", format!("https://localhost:{port}"))
        .env("CORRAL_CA_CERTIFICATE", &certificate)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
