//! Random kills under spawns.

use std::time::Instant;

use anyhow::Context;
use tokio::runtime::Runtime;

use super::super::report::Figure;
use super::super::server::Server;
use super::client::Client;
use super::storm::{self, Until};

const KILLS: u64 = 2_000;
/// Another number of kills, for a try.
const KILLS_VARIABLE: &str = "CORRAL_KILLS";

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let kills = match std::env::var(KILLS_VARIABLE) {
        Ok(kills) => kills.parse().with_context(|| format!("read {KILLS_VARIABLE}"))?,
        Err(_) => KILLS,
    };
    let client = Client::install()?;
    let server = Server::start()?;
    let said = client.said("echo.py", &server.url, &[])?;
    let echo = said["echo"].as_str().context("the script says its function")?;
    let seed = std::process::id().into();
    eprintln!("seed {seed}");
    let runtime = Runtime::new()?;
    let begun = Instant::now();
    let tally = runtime.block_on(storm::rage(&server, echo, Until::Kills(kills), seed))?;
    eprintln!("{}", tally.describe());
    tally.check()?;
    let note = format!("{}; {:.0} min", tally.describe(), begun.elapsed().as_secs_f64() / 60.0);
    let what = format!("spawns lost or doubled in {} random kills", tally.kills());
    Ok(vec![Figure::new(what, "none", "", vec![0.0], note)])
}
