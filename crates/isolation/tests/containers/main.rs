//! Containers as real ones: what works in them, and what does not reach out of them.
//!
//! This binary has no test harness: containers are forked from it, so it has one thread.
#![expect(clippy::unwrap_used, reason = "a test says what it expected by where it panics")]

mod harness;
mod plain;
mod trial;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    harness::run(&words, &plain::tests())
}
