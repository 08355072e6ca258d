//! Clients without the official client's cost: what server and worker take by themselves.

use std::process::Command;
use std::time::Instant;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::super::load::Measured;
use super::super::report::Figure;
use super::super::server::Server;
use super::super::{REPETITIONS, root, spread};
use super::client::{Client, PATIENCE};
use super::floor::RunningFloor;
use super::process::Session;
use super::wire::{self, Kind};

/// Calls one after the other, of each of which the time is taken.
const CALLS: usize = 2_000;
const WARM_CALLS: usize = 200;
/// Spawns, over so many connections with so many requests in flight each.
const SPAWNS: usize = 50_000;
const SPAWN_CONNECTIONS: usize = 8;
const SPAWNS_IN_FLIGHT: usize = 64;
/// Calls that are waited for, likewise; in flight are as many as the container takes.
const COMPLETED: usize = 20_000;
const CALL_CONNECTIONS: usize = 4;
const CALLS_IN_FLIGHT: usize = 16;

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let client = Client::install()?;
    let server = Server::start()?;
    let folder = tempfile::tempdir_in(root().join("target"))?;
    let floor = RunningFloor::start(&client.python, &client.scripts, folder.path())?;
    let program = std::env::current_exe().context("find this program")?;
    let minimal = |url: &str| -> Command {
        let mut command = client.script("minimal.py", url);
        command.arg(&program);
        command
    };
    let beside = Session::start(&mut minimal(&floor.url), PATIENCE)?;
    let session = Session::start(&mut minimal(&server.url), PATIENCE)?;
    let runtime = Runtime::new()?;

    let (mut floor_ms, mut server_ms) = (Vec::new(), Vec::new());
    let (mut completed, mut floor_completed, mut spawned) = (Vec::new(), Vec::new(), Vec::new());
    let sink = client.said("sink.py", &server.url, &[])?;
    let sink = sink["sink"].as_str().context("the script says its function")?;
    for _ in 0..REPETITIONS {
        let p50_ms = |url, function: &str| runtime.block_on(call_p50_ms(url, function));
        floor_ms.push(p50_ms(&floor.url, &beside.function("one")?)?);
        server_ms.push(p50_ms(&server.url, &session.function("one")?)?);
        let completed_per_s =
            |url, function: &str| runtime.block_on(completed_per_s(url, function));
        floor_completed.push(completed_per_s(&floor.url, &beside.function("many")?)?);
        completed.push(completed_per_s(&server.url, &session.function("many")?)?);
        spawned.push(runtime.block_on(spawned_per_s(&server.url, sink))?);
    }
    let added = floor_ms.iter().zip(&server_ms).map(|(floor, server)| server - floor).collect();
    let note = format!(
        "{CALLS} calls one after the other, create and wait for the output; a container that \
         answers at once; the same against canned answers takes {:.2} ms; all on the same two \
         cores",
        spread(&floor_ms).0
    );
    let figure = |what: &str, asked, unit, values, note: String| {
        Figure::new(what, asked, unit, values, note)
    };
    Ok(vec![
        figure("raw call, p50, added to canned answers", "≤ 0.4 ms", "ms", added, note.clone()),
        figure("raw call, p50, whole", "", "ms", server_ms, note),
        figure(
            "durable spawns",
            "≥ 10,000/s",
            "spawns/s",
            spawned,
            format!(
                "{SPAWNS} of one small input each, {SPAWN_CONNECTIONS} connections × \
                 {SPAWNS_IN_FLIGHT} in flight"
            ),
        ),
        figure(
            "calls completed with a minimal container",
            "≥ 5,000/s",
            "calls/s",
            completed,
            format!(
                "{COMPLETED} calls created and waited for, {CALL_CONNECTIONS} connections × \
                 {CALLS_IN_FLIGHT} in flight, one container of 64 concurrent inputs; canned \
                 answers: {:.0}/s",
                spread(&floor_completed).0
            ),
        ),
    ])
}

async fn call_p50_ms(url: &str, function_id: &str) -> anyhow::Result<f64> {
    let mut wire = wire::connect(url).await?;
    for _ in 0..WARM_CALLS {
        wire::remote(&mut wire, function_id).await?;
    }
    let mut times_ms = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let begun = Instant::now();
        wire::remote(&mut wire, function_id).await?;
        times_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(Measured::of(times_ms, 0.0).percentile_ms(50))
}

async fn completed_per_s(url: &str, function_id: &str) -> anyhow::Result<f64> {
    let mut callers = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..CALL_CONNECTIONS {
        let wire = wire::connect(url).await?;
        for _ in 0..CALLS_IN_FLIGHT {
            let (mut wire, function_id) = (wire.clone(), function_id.to_owned());
            callers.spawn(async move {
                for _ in 0..COMPLETED / CALL_CONNECTIONS / CALLS_IN_FLIGHT {
                    wire::remote(&mut wire, &function_id).await?;
                }
                anyhow::Ok(())
            });
        }
    }
    rate(callers, COMPLETED / CALL_CONNECTIONS / CALLS_IN_FLIGHT, begun).await
}

async fn spawned_per_s(url: &str, function_id: &str) -> anyhow::Result<f64> {
    let mut callers = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..SPAWN_CONNECTIONS {
        let wire = wire::connect(url).await?;
        for _ in 0..SPAWNS_IN_FLIGHT {
            let (mut wire, function_id) = (wire.clone(), function_id.to_owned());
            callers.spawn(async move {
                for _ in 0..SPAWNS / SPAWN_CONNECTIONS / SPAWNS_IN_FLIGHT {
                    let asked = wire::one_call(&function_id, Kind::Spawn, wire::no_arguments());
                    wire.function_map(asked).await?;
                }
                anyhow::Ok(())
            });
        }
    }
    rate(callers, SPAWNS / SPAWN_CONNECTIONS / SPAWNS_IN_FLIGHT, begun).await
}

/// What callers did a second, when all have done their share.
async fn rate(
    mut callers: JoinSet<anyhow::Result<()>>,
    share: usize,
    begun: Instant,
) -> anyhow::Result<f64> {
    let count = callers.len() * share;
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}
