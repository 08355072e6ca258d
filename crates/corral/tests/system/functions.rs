//! Python functions as people see them beside their own client: commands and REST, before there
//! is any container.

use std::fs;
use std::process::Command;

use corral_modal_api::{
    AppCreateRequest, AppCreateResponse, AppPublishRequest, AppPublishResponse, AppState,
    ClassCreateRequest, ClassCreateResponse, Message,
};
use serde_json::{Value, json};

use crate::http::curl;
use crate::support::Corral;

/// Calls a method of the client's protocol as the client does.
fn method<Q: Message, A: Message + Default>(corral: &Corral, name: &str, request: &Q) -> A {
    let body = tempfile::NamedTempFile::new().unwrap();
    let message = request.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    fs::write(body.path(), [&[0], &length[..], &message].concat()).unwrap();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--http2-prior-knowledge", "--fail"])
        .args(["--header", "content-type: application/grpc"])
        .args(["--header", "x-modal-client-version: 1.6.4"])
        .args(["--header", &format!("x-modal-token-secret: {}", corral.token)])
        .args(["--data-binary", &format!("@{}", body.path().display())])
        .arg(format!("{}/modal.client.ModalClient/{name}", corral.url))
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.len() >= 5, "{name} was refused");
    A::decode(&output.stdout[5..]).unwrap()
}

/// An app without functions, deployed so often under this name, each time with one class more.
fn deploy(corral: &Corral, name: &str, times: usize) -> String {
    let create = AppCreateRequest {
        description: name.to_owned(),
        app_state: AppState::Initializing.into(),
        ..Default::default()
    };
    let made: AppCreateResponse = method(corral, "AppCreate", &create);
    let mut classes = std::collections::BTreeMap::new();
    for time in 1..=times {
        let class = ClassCreateRequest { app_id: made.app_id.clone(), ..Default::default() };
        let class: ClassCreateResponse = method(corral, "ClassCreate", &class);
        classes.insert(format!("Class{time}"), class.class_id);
        let publish = AppPublishRequest {
            app_id: made.app_id.clone(),
            name: name.to_owned(),
            app_state: AppState::Deployed.into(),
            deployment_tag: format!("v{time}"),
            client_version: "1.6.4".to_owned(),
            class_ids: classes.clone(),
            tags: [("time".to_owned(), time.to_string())].into(),
            ..Default::default()
        };
        let _: AppPublishResponse = method(corral, "AppPublish", &publish);
    }
    made.app_id
}

#[test]
fn apps_are_listed_rolled_back_and_stopped() {
    let corral = Corral::start();
    assert_eq!(corral.json(&["app", "ls"])["items"], json!([]));
    let shop = deploy(&corral, "shop", 2);
    deploy(&corral, "other", 1);

    let listed = corral.json(&["app", "ls"]);
    let names: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|app| &app["name"]).collect();
    assert_eq!(names, ["other", "shop"], "newest first");
    let shown = corral.json(&["app", "show", "shop"]);
    assert_eq!(shown, corral.json(&["app", "show", &shop]));
    assert_eq!((&shown["state"], &shown["version"]), (&json!("deployed"), &json!(2)));
    assert_eq!(shown["tags"], json!({"time": "2"}));
    let (code, said) = corral.fails(&["app", "show", "shp"]);
    assert!(code == 4 && said.contains("did you mean `shop`?"), "{said}");

    let url = format!("{}/v1/apps?limit=1", corral.url);
    let (_, first) = curl(&corral, &[&url]);
    let first: Value = serde_json::from_str(&first).unwrap();
    let next = first["next"].as_str().unwrap();
    let (_, second) = curl(&corral, &[&format!("{url}&after={next}")]);
    let second: Value = serde_json::from_str(&second).unwrap();
    assert_eq!(second["items"][0]["id"], json!(shop));
    assert!(second["next"].is_null());

    let back = corral.json(&["app", "rollback", "shop"]);
    assert_eq!(back["version"], 3);
    let history = corral.json(&["app", "history", "shop"]);
    let kinds: Vec<_> =
        history["items"].as_array().unwrap().iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["rollback", "published", "published"]);
    assert_eq!(history["items"][0]["rolled_back_to"], 1);
    assert!(corral.run(&["app", "history", "shop"]).contains("rollback to 1"));
    let (code, said) = corral.fails(&["app", "rollback", "shop", "9"]);
    assert!(code == 4 && said.contains("no version 9"), "{said}");

    assert_eq!(corral.run(&["app", "logs", "shop"]), "");
    assert_eq!(corral.json(&["app", "stop", "shop"])["state"], "stopped");
    assert_eq!(corral.json(&["app", "ls"])["items"].as_array().unwrap().len(), 1);
    assert_eq!(corral.json(&["app", "ls", "--all"])["items"].as_array().unwrap().len(), 2);
    let (code, said) = corral.fails(&["app", "rollback", &shop]);
    assert!(code == 5 && said.contains("has ended"), "{said}");
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    let corral = Corral::start();
    deploy(&corral, "shop", 1);
    for list in [&["function", "ls"][..], &["container", "ls"]] {
        assert_eq!(corral.json(list)["items"], json!([]));
    }
    for (arguments, words) in [
        (&["function", "call", "shop", "add", "1"][..], "no function `add` in the app `shop`"),
        (&["function", "stats", "shop", "add"], "no function `add`"),
        (&["function", "call", "none", "add"], "no app `none` in `default`"),
        (&["function", "ls", "--env", "beta"], "beta"),
        (&["call", "get", "fc-0"], "no call `fc-0`"),
        (&["container", "stop", "ta-0"], "no container `ta-0`"),
        (&["container", "logs", "ta-00000000000000000000000000"], "no container"),
        (&["app", "logs", "shop", "--function", "add"], "no function `add`"),
    ] {
        let (code, said) = corral.fails(arguments);
        assert!(code == 4 && said.contains(words), "{arguments:?}: {said}");
    }
    let (code, said) = corral.fails(&["function", "call", "shop", "add", "--kwarg", "a"]);
    assert!(code == 2 && said.contains("NAME=VALUE"), "{said}");
    let (code, said) = corral.fails(&["app", "ls", "--state", "gone"]);
    assert!(code == 2 && said.contains("the states are"), "{said}");
    let calls = format!("{}/v1/functions/shop/add/calls", corral.url);
    let (status, body) = curl(&corral, &[&calls, "--data", r#"{"arguments": []}"#]);
    assert!(status == 400 && body.contains("arguments"), "unknown fields are refused: {body}");
}

#[test]
fn calling_needs_the_right_to() {
    let corral = Corral::start();
    deploy(&corral, "shop", 1);
    let status_with = |scopes: &str, path: &str, more: &[&str]| {
        let secret = corral.run(&["token", "create", "one", "--scopes", scopes]);
        let token = format!("authorization: Bearer {}", secret.trim());
        let url = format!("{}{path}", corral.url);
        let output = Command::new("curl")
            .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"])
            .args(["--header", &token, &url])
            .args(more)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let call = ["--data", "{}"];
    let path = "/v1/functions/shop/add/calls";
    assert_eq!(status_with("read", path, &call), "403");
    // There is no such function; that they may know.
    assert_eq!(status_with("predict", path, &call), "404");
    assert_eq!(status_with("write", path, &call), "404");
    assert_eq!(status_with("predict", "/v1/apps", &[]), "403");
    assert_eq!(status_with("predict", "/v1/apps/shop/stop", &["-X", "POST"]), "403");
    assert_eq!(status_with("read", "/v1/apps/shop", &[]), "200");
}

#[test]
fn one_line_sets_the_client_up() {
    let corral = Corral::start();
    let made = corral.json(&["token", "modal", "--profile", "lab"]);
    assert_eq!(made["server_url"], corral.url);
    let (id, secret) = (made["token_id"].as_str().unwrap(), made["token_secret"].as_str().unwrap());
    let line = made["command"].as_str().unwrap();
    for part in [id, secret, &corral.url, "modal config set server_url", "--profile lab"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let listed = corral.json(&["token", "ls"]);
    let found = listed["items"].as_array().unwrap().iter().find(|token| token["id"] == id);
    assert_eq!(found.unwrap()["scopes"], json!(["read", "write", "predict"]));
}

#[test]
fn usage_tells_of_jobs_and_prices() {
    let prices = [("CORRAL_CPU_HOUR_PRICE", "3600"), ("CORRAL_GPU_HOUR_PRICE", "2")];
    let corral = Corral::start_with_environment(&prices);
    corral.run(&["job", "probe", "--allocate", "20MiB", "--steps", "2", "--wait"]);
    let usage = corral.json(&["usage"]);
    assert_eq!((&usage["cpu_hour_price"], &usage["gpu_hour_price"]), (&json!(3600.0), &json!(2.0)));
    let probe = &usage["jobs"][0];
    assert_eq!((&probe["kind"], &probe["jobs"]), (&json!("probe"), &json!(1)));
    assert!(probe["memory_gib_seconds"].as_f64().unwrap() > 0.0);
    // An hour of a core costs as much as there are seconds in it.
    let (seconds, cost) = (probe["cpu_seconds"].as_f64().unwrap(), probe["cost"].as_f64().unwrap());
    assert!((seconds - cost).abs() < 1e-9, "{probe}");
    assert!(corral.run(&["usage"]).contains("JOB KIND"));
    assert!(
        corral.json(&["usage", "--by", "day"])["jobs"].is_null(),
        "jobs are not counted by day"
    );
}
