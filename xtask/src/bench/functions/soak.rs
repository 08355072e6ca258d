//! `cargo xtask soak [MINUTES]`: hours of kills under spawns, and whether anything grows or stays
//! behind.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::runtime::Runtime;

use super::super::server::Server;
use super::client::Client;
use super::storm::{self, Until};
use super::tree;

const MINUTES: u64 = 60;
/// After each of these it is looked what there is.
const ROUND: Duration = Duration::from_secs(300);
/// What the server's memory may grow by after the first round: results are kept, and a round
/// makes ten thousand at most.
const GROWTH_BYTES_A_ROUND: f64 = 20e6;
/// Containers end, and what they leave is cleared, within this time of the server's end.
const END_PATIENCE: Duration = Duration::from_secs(30);
const END_INTERVAL: Duration = Duration::from_millis(200);

pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let minutes = match arguments {
        [] => MINUTES,
        [minutes] => minutes.parse().context("usage: cargo xtask soak [MINUTES]")?,
        _ => bail!("usage: cargo xtask soak [MINUTES]"),
    };
    let before = Footprint::of_machine()?;
    let client = Client::install()?;
    let server = Server::start()?;
    let said = client.said("echo.py", &server.url, &[])?;
    let echo = said["echo"].as_str().context("the script says its function")?;
    let runtime = Runtime::new()?;
    let begun = Instant::now();
    let (mut round, mut first_bytes) = (0_u32, None);
    while begun.elapsed() < Duration::from_secs(minutes * 60) {
        let left = Duration::from_secs(minutes * 60).saturating_sub(begun.elapsed());
        let seed = u64::from(std::process::id()) << 16 | u64::from(round);
        let until = Until::Elapsed(ROUND.min(left));
        let tally = runtime.block_on(storm::rage(&server, echo, until, seed))?;
        tally.check().with_context(|| format!("seed {seed}"))?;
        let bytes = server.resident_bytes()?;
        println!(
            "{:.0} min: {}; the server holds {:.0} MB",
            begun.elapsed().as_secs_f64() / 60.0,
            tally.describe(),
            bytes / 1e6
        );
        let first = *first_bytes.get_or_insert(bytes);
        let most = first + GROWTH_BYTES_A_ROUND * f64::from(round);
        ensure!(
            bytes <= most,
            "the server holds {:.0} MB, {:.0} MB were expected at most",
            bytes / 1e6,
            most / 1e6
        );
        round += 1;
    }
    let processes = tree::descendants(server.process());
    drop(server);
    let until = Instant::now() + END_PATIENCE;
    loop {
        let alive = processes.iter().filter(|process| is_alive(**process)).count();
        let after = Footprint::of_machine()?;
        if alive == 0 && after.is_within(&before) {
            println!("nothing was lost, doubled or left behind");
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "after the end {alive} processes are alive; mounts, interfaces and control groups were \
             {before:?} and are {after:?}"
        );
        std::thread::sleep(END_INTERVAL);
    }
}

fn is_alive(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

/// What containers could leave behind on a machine.
#[derive(Debug)]
struct Footprint {
    mounts: usize,
    interfaces: usize,
    control_groups: usize,
}

impl Footprint {
    fn is_within(&self, before: &Self) -> bool {
        self.mounts <= before.mounts
            && self.interfaces <= before.interfaces
            && self.control_groups <= before.control_groups
    }

    fn of_machine() -> anyhow::Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
        let interfaces = std::fs::read_dir("/sys/class/net").context("read the interfaces")?;
        let groups = std::fs::read_to_string("/proc/cgroups").context("read the control groups")?;
        // Per controller: name, hierarchy, number of groups.
        let count = |line: &str| line.split_whitespace().nth(2)?.parse::<usize>().ok();
        Ok(Self {
            mounts: mounts.lines().count(),
            interfaces: interfaces.count(),
            control_groups: groups.lines().filter_map(count).sum(),
        })
    }
}
