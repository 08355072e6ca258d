//! What is noted of requests: counts, usage.

use serde_json::{Value, json};

use crate::http::curl;
use crate::support::{Corral, signal, wait_for};

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
