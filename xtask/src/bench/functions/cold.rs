//! Cold starts: from the moment that an input is accepted to the moment that its function runs.

use std::time::Duration;

use anyhow::Context;
use corral_modal_api::FunctionGetRequest;
use tokio::runtime::Runtime;

use super::super::REPETITIONS;
use super::super::load::Measured;
use super::super::report::Figure;
use super::super::server::Server;
use super::client::Client;
use super::floor::now_s;
use super::wire::{self, Kind, Wire};

/// Starts a repetition.
const PLAIN_STARTS: usize = 20;
const FORKED_STARTS: usize = 100;
/// The most that are made before those that are timed: a template is made beside the first ones.
const FIRST_STARTS: usize = 30;
/// A start that is faster than this was a fork.
const FORKED_MS: f64 = 200.0;
/// The container before is gone after it: what it leaves behind is not what is measured.
const PAUSE: Duration = Duration::from_millis(150);

/// What is started.
struct Started {
    what: &'static str,
    app: &'static str,
    tag: &'static str,
    method: Option<&'static str>,
    starts: usize,
    asked: [&'static str; 2],
    note: &'static str,
}

const STARTED: &[Started] = &[
    Started {
        what: "no-op function, cold, no template",
        app: "bench-cold-plain",
        tag: "nothing",
        method: None,
        starts: PLAIN_STARTS,
        asked: ["≤ 450 ms", ""],
        note: "its module starts a thread, so that no template can be made",
    },
    Started {
        what: "function that imports scikit-learn, cold, from its template",
        app: "bench-cold-learn",
        tag: "learn",
        method: None,
        starts: FORKED_STARTS,
        asked: ["≤ 35 ms", "≤ 90 ms"],
        note: "numpy and scikit-learn imported by the module",
    },
    Started {
        what: "snapshot class that imports scikit-learn, cold",
        app: "bench-cold-learn",
        tag: "Snapshot.*",
        method: Some("learn"),
        starts: FORKED_STARTS,
        asked: ["≤ 35 ms", "≤ 90 ms"],
        note: "with a method of `@modal.enter(snap=True)`",
    },
];

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let client = Client::install()?;
    let server = Server::start()?;
    for script in ["cold_plain.py", "cold_learn.py"] {
        client.said(script, &server.url, &[])?;
    }
    let runtime = Runtime::new()?;
    let mut figures = Vec::new();
    for started in STARTED {
        figures.extend(runtime.block_on(started.measure(&server.url))?);
    }
    Ok(figures)
}

impl Started {
    async fn measure(&self, url: &str) -> anyhow::Result<[Figure; 2]> {
        let mut wire = wire::connect(url).await?;
        let asked = FunctionGetRequest {
            app_name: self.app.to_owned(),
            object_tag: self.tag.to_owned(),
            ..FunctionGetRequest::default()
        };
        let function_id = wire.function_get(asked).await?.into_inner().function_id;
        for _ in 0..FIRST_STARTS {
            let took_ms = self.start_ms(&mut wire, &function_id).await?;
            if self.starts == PLAIN_STARTS || took_ms < FORKED_MS {
                break;
            }
        }
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for _ in 0..REPETITIONS {
            let mut times_ms = Vec::with_capacity(self.starts);
            for _ in 0..self.starts {
                times_ms.push(self.start_ms(&mut wire, &function_id).await?);
            }
            let measured = Measured::of(times_ms, 0.0);
            p50.push(measured.percentile_ms(50));
            p99.push(measured.percentile_ms(99));
        }
        let note = format!(
            "input accepted → function running, {} starts one after the other, a container \
             each; {}",
            self.starts, self.note
        );
        let figure = |quantile, asked, values| {
            Figure::new(format!("{}, {quantile}", self.what), asked, "ms", values, note.clone())
        };
        Ok([figure("p50", self.asked[0], p50), figure("p99", self.asked[1], p99)])
    }

    /// One call in a container of its own.
    async fn start_ms(&self, wire: &mut Wire, function_id: &str) -> anyhow::Result<f64> {
        tokio::time::sleep(PAUSE).await;
        let mut asked = wire::one_call(function_id, Kind::Spawn, wire::no_arguments());
        for item in &mut asked.pipelined_inputs {
            let input = item.input.as_mut().context("an input was made")?;
            input.method_name = self.method.map(str::to_owned);
        }
        let call = wire.function_map(asked).await?.into_inner();
        // Container and benchmark read the same clock.
        let accepted_s = now_s();
        let output = wire::output(wire, &call.function_call_id).await?;
        wire::succeeded(&output)?;
        Ok((output.input_started_at - accepted_s) * 1000.0)
    }
}
