//! The official client's calls, beside the floor.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::super::load::Measured;
use super::super::report::Figure;
use super::super::server::Server;
use super::super::{REPETITIONS, number, peers, root, spread};
use super::floor::{RunningFloor, clean};
use super::process;

/// How many calls of each kind one repetition makes.
const REMOTES: usize = 1_000;
const MAPPED: usize = 10_000;
const SPAWNS: usize = 1_000;

/// A script that takes longer is taken for stuck; the longest builds an image first.
pub const PATIENCE: Duration = Duration::from_secs(900);

/// The client alone.
pub fn floor() -> anyhow::Result<Vec<Figure>> {
    let client = Client::install()?;
    let folder = tempfile::tempdir_in(root().join("target"))?;
    let floor = RunningFloor::start(&client.python, &client.scripts, folder.path())?;
    let mut measured = Calls::default();
    for _ in 0..REPETITIONS {
        measured.add(&client.calls(&floor.url)?)?;
    }
    Ok(measured.figures("floor"))
}

/// The client with a real server, and alone, in turns.
pub fn beside_floor() -> anyhow::Result<Vec<Figure>> {
    let client = Client::install()?;
    let server = Server::start()?;
    let folder = tempfile::tempdir_in(root().join("target"))?;
    let floor = RunningFloor::start(&client.python, &client.scripts, folder.path())?;
    let (mut alone, mut measured) = (Calls::default(), Calls::default());
    for _ in 0..REPETITIONS {
        alone.add(&client.calls(&floor.url)?)?;
        measured.add(&client.calls(&server.url)?)?;
    }
    let mut figures = measured.beside(&alone);
    figures.extend(measured.figures("Corral"));
    Ok(figures)
}

/// The official client, installed, with the scripts that use it.
pub struct Client {
    pub python: PathBuf,
    pub scripts: PathBuf,
}

impl Client {
    pub fn install() -> anyhow::Result<Self> {
        let python = peers::python_with("bench-peers-modal", "modal.txt")?;
        Ok(Self { python, scripts: root().join("bench/peers/modal") })
    }

    /// A script, asking a server.
    pub fn script(&self, name: &str, url: &str) -> Command {
        let mut command = clean(&self.python);
        command
            .arg(self.scripts.join(name))
            .env("MODAL_SERVER_URL", url)
            .env("MODAL_TOKEN_ID", "ak-bench")
            .env("MODAL_TOKEN_SECRET", "as-bench");
        command
    }

    /// What a script prints at its end.
    pub fn said(&self, name: &str, url: &str, arguments: &[String]) -> anyhow::Result<Value> {
        process::said(self.script(name, url).args(arguments), PATIENCE)
    }

    fn calls(&self, url: &str) -> anyhow::Result<Value> {
        let counts = [REMOTES, MAPPED, SPAWNS].map(|count| count.to_string());
        self.said("calls.py", url, &counts)
    }
}

/// One value a repetition.
#[derive(Default)]
struct Calls {
    remote_p50_ms: Vec<f64>,
    mapped_per_s: Vec<f64>,
    spawned_per_s: Vec<f64>,
}

impl Calls {
    fn add(&mut self, said: &Value) -> anyhow::Result<()> {
        let times = said["remote_ms"].as_array().context("the script times its calls")?;
        let times_ms: Vec<f64> = times.iter().filter_map(Value::as_f64).collect();
        self.remote_p50_ms.push(Measured::of(times_ms, 0.0).percentile_ms(50));
        self.mapped_per_s.push(MAPPED as f64 / number(said, "mapped_s")?);
        self.spawned_per_s.push(SPAWNS as f64 / number(said, "spawned_s")?);
        Ok(())
    }

    /// What a server makes of the figures of the client alone.
    fn beside(&self, alone: &Self) -> Vec<Figure> {
        let pairs = |with: &[f64], alone: &[f64], compare: fn(f64, f64) -> f64| {
            with.iter().zip(alone).map(|(with, alone)| compare(*with, *alone)).collect::<Vec<_>>()
        };
        let share = |with, alone| with / alone * 100.0;
        let note = |alone: &[f64], unit: &str| {
            format!("in turns with the floor, which has {:.4} {unit}", spread(alone).0)
        };
        vec![
            Figure::new(
                "warm `.remote()` of a no-op, p50, above the floor",
                "≤ 0.6 ms",
                "ms",
                pairs(&self.remote_p50_ms, &alone.remote_p50_ms, |with, alone| with - alone),
                note(&alone.remote_p50_ms, "ms"),
            ),
            Figure::new(
                format!("`.map()` of {MAPPED} no-ops, 2 containers, of the floor's rate"),
                "≥ 80 %",
                "%",
                pairs(&self.mapped_per_s, &alone.mapped_per_s, share),
                note(&alone.mapped_per_s, "calls/s"),
            ),
            Figure::new(
                "`.spawn()`, one after the other, of the floor's rate",
                "",
                "%",
                pairs(&self.spawned_per_s, &alone.spawned_per_s, share),
                note(&alone.spawned_per_s, "calls/s"),
            ),
        ]
    }

    fn figures(self, of: &str) -> Vec<Figure> {
        let note = "client 1.6.4 and its container entrypoint on the same two cores";
        let figure = |what: String, unit, values| Figure::new(what, "", unit, values, note);
        vec![
            figure(format!("{of}: `.remote()` of a no-op, p50"), "ms", self.remote_p50_ms),
            figure(
                format!("{of}: `.map()` of {MAPPED} no-ops, 2 containers"),
                "calls/s",
                self.mapped_per_s,
            ),
            figure(format!("{of}: `.spawn()`, one after the other"), "calls/s", self.spawned_per_s),
        ]
    }
}
