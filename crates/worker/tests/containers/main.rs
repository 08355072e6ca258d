//! Containers as the worker starts them: through the launcher, in groups, with their limits.
//!
//! This binary has no test harness: started with a subcommand it is the launcher, or a worker
//! that is about to be killed.
#![expect(clippy::unwrap_used, reason = "a test says what it expected by where it panics")]

mod bare;
mod client;
#[path = "../worker/harness.rs"]
mod harness;
mod host;
mod kills;
mod limits;
mod network;
mod templates;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["launcher"] => corral_worker::launcher_main(),
        ["doomed", name] => kills::doomed_main(name),
        _ => {
            let all = [
                bare::tests(),
                limits::tests(),
                network::tests(),
                templates::tests(),
                client::tests(),
                kills::tests(),
            ];
            harness::run(&words, &all.concat())
        }
    }
}
