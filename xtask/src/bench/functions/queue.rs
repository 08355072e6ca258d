//! A million inputs that wait: what the server holds, and how it comes back.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use corral_modal_api::*;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::super::REPETITIONS;
use super::super::report::Figure;
use super::super::server::Server;
use super::client::Client;
use super::wire::{self, Wire};

const CALLS: usize = 1_000;
/// As many as one call may have outstanding.
const INPUTS_PER_CALL: usize = 1_000;
const CONNECTIONS: usize = 4;
const CALLS_IN_FLIGHT: usize = 2;
/// A server that is not back after it is taken for broken.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(120);
const RECOVERY_INTERVAL: Duration = Duration::from_millis(20);

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let client = Client::install()?;
    let server = Server::start()?;
    let said = client.said("sink.py", &server.url, &[])?;
    let sink = said["sink"].as_str().context("the script says its function")?;
    let runtime = Runtime::new()?;
    let empty_bytes = server.resident_bytes()?;
    let took = runtime.block_on(put(&server.url, sink))?;
    let queued_bytes = server.resident_bytes()?;
    let (mut recovery_s, mut back_bytes) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        recovery_s.push(runtime.block_on(recovery_s_after_kill(&server, sink))?);
        back_bytes.push(server.resident_bytes()? / 1e6);
    }
    let note = format!(
        "{CALLS} calls of {INPUTS_PER_CALL} small inputs each behind a function that is busy, \
         put in {:.0} s; resident memory with mapped files",
        took.as_secs_f64()
    );
    Ok(vec![
        Figure::new(
            "server with 1,000,000 queued inputs",
            "≤ 300 MB",
            "MB",
            vec![queued_bytes / 1e6],
            format!("{note}; {:.0} MB before", empty_bytes / 1e6),
        ),
        Figure::new("the same after recovery", "≤ 300 MB", "MB", back_bytes, note),
        Figure::new(
            "recovery after `kill -9` with 1,000,000 queued inputs",
            "≤ 5 s",
            "s",
            recovery_s,
            "from the kill to an answer that counts all of them",
        ),
    ])
}

async fn put(url: &str, function_id: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    let share = CALLS / CONNECTIONS / CALLS_IN_FLIGHT;
    for _ in 0..CONNECTIONS {
        let wire = wire::connect(url).await?;
        for _ in 0..CALLS_IN_FLIGHT {
            let (mut wire, function_id) = (wire.clone(), function_id.to_owned());
            callers.spawn(async move {
                for _ in 0..share {
                    put_call(&mut wire, &function_id).await?;
                }
                anyhow::Ok(())
            });
        }
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(begun.elapsed())
}

async fn put_call(wire: &mut Wire, function_id: &str) -> anyhow::Result<()> {
    let asked = FunctionMapRequest {
        function_id: function_id.to_owned(),
        function_call_type: FunctionCallType::Map.into(),
        function_call_invocation_type: FunctionCallInvocationType::Async.into(),
        ..FunctionMapRequest::default()
    };
    let call_id = wire.function_map(asked).await?.into_inner().function_call_id;
    let inputs = (0..INPUTS_PER_CALL).map(|number| {
        let idx = i32::try_from(number).expect("a call of the benchmark is short");
        wire::input(idx, wire::text_argument(&number.to_string()))
    });
    let inputs = FunctionPutInputsRequest {
        function_id: function_id.to_owned(),
        function_call_id: call_id,
        inputs: inputs.collect(),
    };
    let put = wire.function_put_inputs(inputs).await?.into_inner().inputs.len();
    ensure!(put == INPUTS_PER_CALL, "{put} of {INPUTS_PER_CALL} inputs were taken");
    Ok(())
}

/// Kills the server and waits until it answers and has everything.
async fn recovery_s_after_kill(server: &Server, function_id: &str) -> anyhow::Result<f64> {
    let process = server.server_process()?.to_string();
    let begun = Instant::now();
    let killed = Command::new("kill").args(["-9", &process]).status()?;
    ensure!(killed.success(), "the server could not be killed");
    let mut last = anyhow::anyhow!("nothing was asked");
    while begun.elapsed() < RECOVERY_PATIENCE {
        match backlog(&server.url, function_id).await {
            Ok(backlog) if backlog as usize >= CALLS * INPUTS_PER_CALL => {
                return Ok(begun.elapsed().as_secs_f64());
            }
            Ok(backlog) => last = anyhow::anyhow!("{backlog} inputs are waiting"),
            Err(error) => last = error,
        }
        tokio::time::sleep(RECOVERY_INTERVAL).await;
    }
    Err(last.context(format!("the server was not back within {RECOVERY_PATIENCE:?}")))
}

async fn backlog(url: &str, function_id: &str) -> anyhow::Result<u32> {
    let mut wire = wire::connect(url).await?;
    let asked = FunctionGetCurrentStatsRequest { function_id: function_id.to_owned() };
    Ok(wire.function_get_current_stats(asked).await?.into_inner().backlog)
}
