//! Request formats of others, and packed bodies.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::http::curl;
use crate::support::Corral;

/// Packs bytes with the gzip of the system.
fn gzip(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut packer = Command::new("gzip")
        .args(["--stdout", "--fast"])
        .stdin(Stdio::piped())
        .stdout(file.reopen().unwrap())
        .spawn()
        .unwrap();
    packer.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(packer.wait().unwrap().success());
    file
}

#[test]
fn modelbits_format_is_answered() {
    let corral = Corral::start();
    corral.deploy_support();
    let post = |path: &str, body: &Value| {
        let url = format!("{}{path}", corral.url);
        let (status, answer) = curl(&corral, &[&url, "-d", &body.to_string()]);
        (status, serde_json::from_str::<Value>(&answer).unwrap())
    };
    let parcel = "my parcel was lost on the way";
    let (status, single) = post("/v1/support/latest", &json!({"data": parcel}));
    assert_eq!(status, 200, "{single}");
    assert_eq!(single["data"]["labels"][0]["id"], corral.class_of(parcel).as_str());
    let rows = json!([[7, parcel], ["x", {"text": "charged twice", "other": 1}]]);
    let (status, batch) = post("/v1/support/1", &json!({"data": rows, "timeout_seconds": 20}));
    assert_eq!(status, 200, "{batch}");
    assert_eq!(batch["data"][0], json!([7, single["data"]]));
    assert_eq!(batch["data"][1][0], "x");
    assert_eq!(batch["data"][1][1]["labels"][0]["id"], "billing");
    let (_, top) = post("/modelbit/v1/support/latest?top_k=2", &json!({"data": parcel}));
    assert_eq!(top["data"]["labels"].as_array().unwrap().len(), 2);

    for (path, body, status, word) in [
        ("/v1/suport/latest", json!({"data": "x"}), 404, "did you mean `support`"),
        ("/v1/support/9", json!({"data": "x"}), 404, "version `9`"),
        ("/v1/support/latest", json!({"data": [[1, 2]]}), 400, "row 0"),
        ("/v1/support/latest", json!({"data": "x", "timeout_seconds": -1}), 400, "timeout"),
        ("/v1/support/latest?topk=1", json!({"data": "x"}), 400, "topk"),
        ("/v1/support/latest", json!({"data": "x", "response_webhook": "y"}), 400, "webhook"),
        ("/v1/models/x/y/z", json!({"data": "x"}), 404, ""),
        ("/v1/datasets/latest", json!({"data": "x"}), 405, ""),
        ("/v1/train/latest", json!({"data": "x"}), 404, "/modelbit/v1/train/latest"),
    ] {
        let (found, answer) = post(path, &body);
        assert_eq!(found, status, "{path}: {answer}");
        assert!(word.is_empty() || answer["error"].as_str().unwrap().contains(word), "{answer}");
    }

    // Versions and aliases are reached in this format and in the inference protocol.
    corral.run(&["deploy", "support", "--name", "support"]);
    corral.run(&["endpoint", "alias", "support", "stable", "1"]);
    assert_eq!(post("/v1/support/stable", &json!({"data": parcel})), (200, single.clone()));
    let input = json!({"name": "text", "shape": [1], "datatype": "BYTES", "data": [parcel]});
    for (version, expected) in [("/versions/stable", "1"), ("/versions/latest", "2"), ("", "2")] {
        let path = format!("/v2/models/support{version}/infer");
        let (status, answer) = post(&path, &json!({"inputs": [input]}));
        assert_eq!((status, &answer["model_version"]), (200, &json!(expected)), "{answer}");
    }
    let (_, model) = curl(&corral, &[&format!("{}/v2/models/support", corral.url)]);
    assert!(model.contains("\"versions\":[\"1\",\"2\"]"), "{model}");

    // Its clients send the key as it is.
    let bare = |token: &str| {
        let output = Command::new("curl")
            .args(["--silent", "-H", &format!("authorization: {token}"), "-d"])
            .args(["{\"data\": \"x\"}", &format!("{}/v1/support/latest", corral.url)])
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert!(bare(&corral.token)["data"].is_object());
    assert!(bare("corral_0")["error"].as_str().unwrap().contains("not known"));
}

#[test]
fn packed_bodies_are_unpacked_within_a_bound_and_answers_packed() {
    let corral = Corral::start();
    corral.deploy_support();
    let url = format!("{}/v1/endpoints/support/predict", corral.url);
    let packed = |url: &str, file: &tempfile::NamedTempFile, coding: &str, more: &[&str]| {
        let header = format!("content-encoding: {coding}");
        let body = format!("@{}", file.path().display());
        curl(&corral, &[&["-H", &header, "--data-binary", &body, url], more].concat())
    };
    let texts = vec!["my parcel was lost on the way"; 300];
    let request = json!({"texts": texts}).to_string();
    let file = gzip(request.as_bytes());
    let (status, plain) = packed(&url, &file, "gzip", &[]);
    assert_eq!(status, 200, "{plain}");
    assert_eq!(plain, packed(&url, &file, "gzip", &["--compressed"]).1);
    for coding in ["gzip", "deflate"] {
        let accept = format!("accept-encoding: {coding}");
        let more = ["-H", &accept, "--output", "/dev/null", "--dump-header", "-"];
        let (_, headers) = packed(&url, &file, "gzip", &more);
        let headers = headers.to_ascii_lowercase();
        assert!(headers.contains(&format!("content-encoding: {coding}")), "{headers}");
    }
    let more = ["--compressed", "--output", "/dev/null", "--dump-header", "-"];
    let short = gzip(b"{\"texts\": [\"one\"]}");
    let (_, headers) = packed(&url, &short, "gzip", &more);
    assert!(!headers.to_ascii_lowercase().contains("content-encoding"), "{headers}");

    // A few packed bytes that would fill the memory.
    let before = corral.server_memory_bytes();
    let mut bomb = b"{\"texts\": [\"".to_vec();
    bomb.resize(400 << 20, b'x');
    let bomb = gzip(&bomb);
    let (status, refused) = packed(&url, &bomb, "gzip", &[]);
    assert_eq!(status, 413, "{refused}");
    let modelbit = format!("{}/v1/support/latest", corral.url);
    assert_eq!(packed(&modelbit, &bomb, "gzip", &[]).0, 413);
    let inference = format!("{}/v2/models/support/infer", corral.url);
    assert_eq!(packed(&inference, &bomb, "gzip", &[]).0, 413);
    let grown = corral.server_memory_bytes().saturating_sub(before);
    assert!(grown < 160 << 20, "the server grew by {grown} bytes");

    let (status, refused) = packed(&url, &short, "br", &[]);
    assert_eq!(status, 415, "{refused}");
    let cut = tempfile::NamedTempFile::new().unwrap();
    let bytes = std::fs::read(file.path()).unwrap();
    std::fs::write(cut.path(), &bytes[..bytes.len() / 2]).unwrap();
    let (status, refused) = packed(&url, &cut, "gzip", &[]);
    assert!(status == 400 && refused.contains("ends too early"), "{refused}");

    // Line by line what came is answered, and then what broke.
    let lines = gzip("\"my parcel was lost on the way\"\n".repeat(5000).as_bytes());
    let more = ["-H", "content-type: application/x-ndjson", "--compressed"];
    let (status, answers) = packed(&url, &lines, "gzip", &more);
    assert_eq!((status, answers.lines().count()), (200, 5000));
    let bytes = std::fs::read(lines.path()).unwrap();
    std::fs::write(cut.path(), &bytes[..bytes.len() / 2]).unwrap();
    let (_, answers) = packed(&url, &cut, "gzip", &more);
    let last = answers.lines().last().unwrap();
    assert!(last.contains("ends too early"), "{last}");
    assert!(answers.lines().next().unwrap().contains("shipping"), "{answers}");
}

#[test]
fn the_documented_requests_are_answered() {
    let corral = Corral::start();
    corral.deploy_support();
    let page = include_str!("../../../../docs/formats.md");
    let blocks = page.split("\n```").skip(1).step_by(2);
    let shell = blocks.filter_map(|block| block.strip_prefix('\n'));
    let requests: Vec<&str> = shell.filter(|block| block.contains("curl")).collect();
    assert!(requests.len() == 6, "{requests:?}");
    let folder = tempfile::tempdir().unwrap();
    for request in requests {
        let output = Command::new("bash")
            .args(["-c", request])
            .current_dir(folder.path())
            .env("CORRAL_URL", &corral.url)
            .env("auth", format!("authorization: Bearer {}", corral.token))
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !answer.is_empty(), "{request}");
        assert!(!answer.contains("\"error\""), "{request}: {answer}");
        println!("{answer}");
    }
}
