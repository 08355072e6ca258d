//! As much of a test harness as `cargo test` and nextest expect of a binary.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

/// A test: its name, and the function that panics when it fails.
pub type Test = (&'static str, fn());

/// Lists or runs the tests that the arguments choose.
pub fn run(arguments: &[&str], tests: &[Test]) -> ExitCode {
    let has = |flag: &str| arguments.contains(&flag);
    if has("--list") {
        // There are no ignored tests, so nothing to list where those are asked for.
        if !has("--ignored") {
            tests.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&&str> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
    let chosen = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|filter| {
                if has("--exact") { name == **filter } else { name.contains(**filter) }
            })
    };
    let mut failed = Vec::new();
    for (name, test) in tests.iter().filter(|(name, _)| chosen(name)) {
        let begun = Instant::now();
        let passed = catch_unwind(test).is_ok();
        let word = if passed { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({:.2} s)", begun.elapsed().as_secs_f64());
        if !passed {
            failed.push(*name);
        }
    }
    match failed[..] {
        [] => ExitCode::SUCCESS,
        _ => {
            println!("failed: {}", failed.join(", "));
            ExitCode::FAILURE
        }
    }
}
