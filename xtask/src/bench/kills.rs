//! Random kills under load: the system test with many of them.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::report::Figure;
use super::root;

const KILLS: u64 = 2_000;

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let begun = Instant::now();
    let output = Command::new(env!("CARGO"))
        .args(["test", "--release", "--locked", "--package", "corral", "--test", "system"])
        .args(["--", "nothing_acknowledged_is_lost", "--nocapture"])
        .env("CORRAL_KILLS", KILLS.to_string())
        .current_dir(root())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "something acknowledged was lost:\n{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let counted = said.lines().find(|line| line.starts_with("acknowledged: "));
    let counted = counted.context("the test did not count")?.to_owned();
    Ok(vec![Figure {
        what: format!("acknowledged things lost in {KILLS} kills"),
        asked: "none".to_owned(),
        unit: "".to_owned(),
        values: vec![0.0],
        note: format!(
            "{counted}; server, worker, launcher and job processes killed at random under three \
             clients; {:.0} min",
            begun.elapsed().as_secs_f64() / 60.0
        ),
    }])
}
