//! Kills at random under load: whatever was acknowledged is there afterwards.
//!
//! `CORRAL_KILLS` says how many kills (30 when absent; the benchmark `kills` takes 2,000),
//! `CORRAL_SEED` repeats an order of kills.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Corral, PATIENCE, Random, number, signal};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// How long one call may take, a restart in between included.
const CALL_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone)]
struct Caller {
    http: Client,
    url: String,
    token: String,
}

impl Caller {
    /// One call; `None` when the connection broke or the server could not answer now.
    async fn call(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: String,
    ) -> Option<(StatusCode, Value)> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token)
            .timeout(CALL_PATIENCE)
            .body(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let response = request.send().await.ok()?;
        let status = response.status();
        let body = response.json().await.ok()?;
        (status != StatusCode::SERVICE_UNAVAILABLE).then_some((status, body))
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let (status, body) = self.call(Method::GET, path, None, String::new()).await?;
        status.is_success().then_some(body)
    }
}

#[derive(Default)]
struct Acknowledged {
    datasets: BTreeSet<String>,
    jobs: BTreeSet<String>,
    tokens: BTreeSet<String>,
    appended_rows: u64,
}

/// Creates things until told to stop, noting what was acknowledged.
async fn load(
    caller: Caller,
    client: u64,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Acknowledged>>,
) {
    let log = format!("log{client}");
    let rows = |round: u64| format!("{{\"text\":\"row {round} of {client}\",\"label\":\"a\"}}\n");
    let created = format!("/v1/datasets/{log}/import?file_name=r.jsonl");
    while caller.call(Method::POST, &created, Some(&log), rows(0)).await.is_none() {}
    for round in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("{client}-{round}");
        let name = format!("set-{key}");
        let path = format!("/v1/datasets/{name}/import?file_name=r.jsonl");
        if let Some((status, _)) = caller.call(Method::POST, &path, None, rows(round)).await {
            assert_eq!(status, StatusCode::OK);
            acknowledged.lock().unwrap().datasets.insert(name);
        }
        let path = format!("{created}&mode=append");
        let key_of_append = format!("append-{key}");
        let appended = caller.call(Method::POST, &path, Some(&key_of_append), rows(round)).await;
        if appended.is_some_and(|(status, _)| status.is_success()) {
            acknowledged.lock().unwrap().appended_rows += 1;
        }
        let probe = json!({
            "payload": {"allocate_bytes": 1 << 20, "steps": 3, "step_ms": 30, "checkpoint_every": 1},
            "memory_bytes": 64 << 20,
            "max_attempts": 100,
        });
        // Repeated with the same key until it is answered: one job, whatever broke between.
        for _ in 0..20 {
            let key = format!("job-{key}");
            let body = probe.to_string();
            let answer = caller.call(Method::POST, "/v1/jobs/probe", Some(&key), body).await;
            if let Some((status, job)) = answer
                && status.is_success()
            {
                let id = job["id"].as_str().unwrap().to_owned();
                acknowledged.lock().unwrap().jobs.insert(id);
                break;
            }
        }
        let body = json!({"name": format!("t{key}"), "scopes": ["read"]}).to_string();
        if let Some((status, token)) = caller.call(Method::POST, "/v1/tokens", None, body).await {
            assert_eq!(status, StatusCode::OK, "{token}");
            let secret = token["secret"].as_str().unwrap().to_owned();
            acknowledged.lock().unwrap().tokens.insert(secret);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_whatever_is_killed() {
    let kills = number("CORRAL_KILLS").unwrap_or(30);
    let seed = number("CORRAL_SEED").unwrap_or(20_261_121);
    println!("{kills} kills, seed {seed}");
    let mut random = Random(seed);

    // Another test of this process may have been first.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let corral = Corral::start();
    let caller = Caller {
        http: Client::builder().no_proxy().build().unwrap(),
        url: corral.url.clone(),
        token: corral.token.clone(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::<Mutex<Acknowledged>>::default();
    let clients: Vec<_> = (0..3)
        .map(|client| {
            tokio::spawn(load(caller.clone(), client, stop.clone(), acknowledged.clone()))
        })
        .collect();

    let mut done = 0;
    while done < kills {
        tokio::time::sleep(Duration::from_millis(50 + random.below(900))).await;
        let role = ["server", "server", "worker", "launcher", "job-process", "job-process"]
            [random.below(6) as usize];
        let processes = corral.processes(role);
        if let Some(victim) = processes.get(random.below(processes.len().max(1) as u64) as usize) {
            signal(*victim, "KILL");
            done += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    println!(
        "acknowledged: {} data sets, {} rows appended, {} jobs, {} tokens",
        acknowledged.datasets.len(),
        acknowledged.appended_rows,
        acknowledged.jobs.len(),
        acknowledged.tokens.len()
    );
    assert!(!acknowledged.jobs.is_empty() && !acknowledged.datasets.is_empty());

    for name in &acknowledged.datasets {
        let rows = caller.get(&format!("/v1/datasets/{name}/rows")).await;
        assert!(rows.is_some_and(|rows| rows["rows"][0]["text"].is_string()), "{name} is lost");
    }
    let mut appended = 0;
    for client in 0..3 {
        let set = caller.get(&format!("/v1/datasets/log{client}")).await.unwrap();
        appended += set["rows"].as_u64().unwrap() - 1;
    }
    assert!(appended >= acknowledged.appended_rows, "{appended} rows are there");
    for secret in &acknowledged.tokens {
        let holder = Caller { token: secret.clone(), ..caller.clone() };
        assert!(holder.get("/v1/whoami").await.is_some(), "a token is lost");
    }
    let begun = std::time::Instant::now();
    for job in &acknowledged.jobs {
        loop {
            let detail = caller.get(&format!("/v1/jobs/{job}")).await;
            let state = detail.as_ref().map_or("lost", |detail| detail["state"].as_str().unwrap());
            if state == "succeeded" {
                break;
            }
            let over = ["lost", "failed", "cancelled", "timed_out"].contains(&state);
            assert!(!over, "{job} is {state}: {detail:?}");
            assert!(begun.elapsed() < PATIENCE + Duration::from_secs(kills), "{job} is {state}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert!(corral.processes("job-process").is_empty(), "a job's process was left behind");
}
