//! CSV import.

use std::process::Command;

use super::report::Figure;
use super::{REPETITIONS, example, json_of, number, root};

/// Small enough for the page cache, large enough for several parts.
const SPEED_BYTES: u64 = 1_000_000_000;
const LARGE_BYTES: u64 = 5_000_000_000;

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let program = example("corral-data", "import_speed", "test-support")?;
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    let generate = |name: &str, bytes: u64| -> anyhow::Result<std::path::PathBuf> {
        let path = scratch.path().join(name);
        let status =
            Command::new(&program).arg("generate").arg(&path).arg(bytes.to_string()).status()?;
        anyhow::ensure!(status.success(), "generating {name} failed");
        Ok(path)
    };
    // Pinned to one core: what runs beside the parser is counted against it.
    let import = |path: &std::path::Path| {
        json_of(
            Command::new("taskset")
                .args(["-c", "0"])
                .arg(&program)
                .arg("import")
                .arg(scratch.path())
                .arg(path),
        )
    };
    let speed_file = generate("speed.csv", SPEED_BYTES)?;
    import(&speed_file)?;
    let (mut per_wall, mut per_cpu) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let measured = import(&speed_file)?;
        let megabytes = number(&measured, "bytes")? / 1e6;
        per_wall.push(megabytes / number(&measured, "wall_s")?);
        per_cpu.push(megabytes / number(&measured, "cpu_s")?);
    }
    std::fs::remove_file(&speed_file)?;
    let large_file = generate("large.csv", LARGE_BYTES)?;
    let large = import(&large_file)?;
    Ok(vec![
        Figure {
            what: "CSV to parts, wall clock".to_owned(),
            asked: "≥ 150 MB/s".to_owned(),
            unit: "MB/s".to_owned(),
            values: per_wall,
            note: "1 GB, a quarter of the fields quoted, page cache hot, pinned to one core, \
                   into a plain folder, without syncing"
                .to_owned(),
        },
        Figure {
            what: "CSV to parts, CPU time".to_owned(),
            asked: String::new(),
            unit: "MB/CPU-s".to_owned(),
            values: per_cpu,
            note: "the same runs".to_owned(),
        },
        Figure {
            what: "peak resident memory for 5 GB".to_owned(),
            asked: "≤ 512 MB".to_owned(),
            unit: "MB".to_owned(),
            values: vec![number(&large, "peak_rss_bytes")? / 1e6],
            note: format!("one run, {:.0} s", number(&large, "wall_s")?),
        },
    ])
}
