//! The machine that a figure was measured on.

use std::process::Command;

/// One line: processor, cores, memory, kernel, compiler.
pub fn describe() -> String {
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = field(&memory, "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<f64>().ok())
        .unwrap_or_default();
    format!(
        "{}, {cores} cores, {:.0} GiB, Linux {}, {}",
        field(&cpu_info, "model name").unwrap_or_else(|| "unknown processor".to_owned()),
        kib / f64::from(1 << 20),
        output("uname", &["-r"]),
        output("rustc", &["--version"]),
    )
}

/// The day, as `2026-11-21`.
pub fn today() -> String {
    output("date", &["-u", "+%Y-%m-%d"])
}

/// The commit that was measured, marked where the code was changed since.
pub fn commit() -> String {
    let changed = output("git", &["status", "--porcelain", "--", "crates", "Cargo.lock"]);
    let mark = if changed.is_empty() { "" } else { " with changes" };
    output("git", &["rev-parse", "--short", "HEAD"]) + mark
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
