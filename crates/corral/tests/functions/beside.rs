//! Deployed functions as those see them who have no client: JSON over HTTP, and commands.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::clients::{Clients, NEWEST};
use crate::corral::{Corral, no_containers};
use crate::process::wait_for;
use crate::stage::{COMMAND_LIMIT, Stage};

#[test]
fn functions_are_called_with_json_and_seen_by_commands() {
    if let Some(why) = no_containers() {
        println!("skipped: calls with JSON (this machine lets no container be: {why})");
        return;
    }
    let clients = Clients::install();
    if !clients.has(NEWEST) {
        println!("skipped: calls with JSON (there is no client to deploy functions by)");
        return;
    }
    let corral = Corral::start(&clients.folder);
    let stage = Stage::new(NEWEST, &corral, &clients);
    stage.said(&["deploy", "library.py"]).unwrap();
    results(&stage).unwrap();
    errors(&stage).unwrap();
    cancelled(&stage).unwrap();
    usage(&stage).unwrap();
}

/// Calls a function of the library by its REST path: the status and the answer.
fn post(stage: &Stage<'_>, function: &str, body: &Value) -> Result<(String, Value)> {
    let (url, environment) = (&stage.corral.url, Stage::environment(stage.client));
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--write-out", "\n%{http_code}"])
        .args(["--header", &format!("authorization: Bearer {}", stage.corral.token.secret)])
        .args(["--data", &body.to_string()])
        .arg(format!("{url}/v1/functions/library/{function}/calls?environment={environment}"))
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("curl says no status")?;
    Ok((status.to_owned(), serde_json::from_str(body).with_context(|| body.to_owned())?))
}

/// Runs a command of ours about this client's environment, and reads its JSON.
fn ours(stage: &Stage<'_>, arguments: &[&str]) -> Value {
    let environment = Stage::environment(stage.client);
    stage.corral.json(&[arguments, &["--env", &environment]].concat())
}

fn results(stage: &Stage<'_>) -> Result<()> {
    let (status, call) = post(stage, "shout", &json!({"args": ["hear me"]}))?;
    ensure!(status == "200", "{}", call["error"]["message"]);
    ensure!(call["result"] == "HEAR ME", "{call}");
    let (_, call) = post(stage, "shout", &json!({"kwargs": {"text": "größer"}}))?;
    ensure!(call["result"] == "GRÖSSER", "{call}");
    // More than travels within a record of the journal.
    let long = "long ".repeat(20_000);
    let (_, call) = post(stage, "shout", &json!({"args": [long]}))?;
    ensure!(call["result"] == long.to_uppercase(), "a long text came back otherwise");
    let (_, call) = post(stage, "Shelf.add", &json!({"args": [{"title": "Emma"}]}))?;
    let items = call["result"].as_array().context("a list")?;
    ensure!(items.last() == Some(&json!({"title": "Emma"})), "{call}");
    let printed = stage.corral.run(&[
        "function",
        "call",
        "library",
        "shout",
        "hello",
        "--env",
        &Stage::environment(stage.client),
    ]);
    ensure!(printed.stdout == b"\"HELLO\"\n", "{}", String::from_utf8_lossy(&printed.stdout));
    Ok(())
}

fn errors(stage: &Stage<'_>) -> Result<()> {
    let (_, call) = post(stage, "refuse", &json!({}))?;
    ensure!(call["state"] == "failed", "{call}");
    ensure!(call["error"]["exception"] == "ValueError('not today')", "{call}");
    let traceback = call["error"]["traceback"].as_str().unwrap_or_default();
    ensure!(traceback.contains("in refuse"), "{traceback}");
    let (status, refusal) = post(stage, "count", &json!({"args": [3]}))?;
    ensure!(status == "409", "a generator is called: {refusal}");
    let (status, refusal) = post(stage, "Shelf.burn", &json!({}))?;
    let hint = refusal["error"]["hint"].as_str().unwrap_or_default();
    ensure!(status == "404" && hint.contains("add"), "{refusal}");
    Ok(())
}

fn cancelled(stage: &Stage<'_>) -> Result<()> {
    let (status, call) = post(stage, "rest", &json!({"args": [600], "wait": false}))?;
    ensure!(status == "202", "{call}");
    let id = call["id"].as_str().context("an id")?;
    wait_for("the call to run", COMMAND_LIMIT, || {
        let call = stage.corral.json(&["call", "get", id]);
        Ok((call["state"] == "running").then_some(()))
    })?;
    let stats = ours(stage, &["function", "stats", "library", "rest"]);
    ensure!(stats["now"]["running_inputs"] == 1, "{stats}");
    let containers = ours(stage, &["container", "ls", "library"]);
    let works = |container: &Value| container["function"] == "rest";
    ensure!(
        containers["items"].as_array().is_some_and(|all| all.iter().any(works)),
        "{containers}"
    );
    stage.corral.json(&["call", "cancel", id]);
    wait_for("the call's end", COMMAND_LIMIT, || {
        let call = stage.corral.run(&["call", "get", id, "--json"]);
        let call: Value = serde_json::from_slice(&call.stdout)?;
        Ok((call["state"] == "cancelled").then_some(()))
    })
}

fn usage(stage: &Stage<'_>) -> Result<()> {
    wait_for("usage of the function", COMMAND_LIMIT, || {
        let usage = stage.corral.json(&["usage"]);
        let is_it = |used: &&Value| used["app"] == "library" && used["function"] == "shout";
        let used = usage["functions"].as_array().and_then(|all| all.iter().find(is_it).cloned());
        let counts = used.filter(|used| {
            used["inputs_succeeded"].as_u64() >= Some(4) && used["starts"].as_u64() >= Some(1)
        });
        Ok(counts.map(|_| ()))
    })
}
