//! Log lines on standard error: data alone goes to standard output.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line an event.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter in force when `CORRAL_LOG` says nothing.
const DEFAULT_FILTER: &str = "info,hyper=warn,h2=warn,rustls=warn";

/// Sends this process's log events to standard error, filtered by the environment
/// variable `CORRAL_LOG` (the syntax of `RUST_LOG`). Later calls in one process change nothing.
pub fn start_logging(format: LogFormat) {
    let filter =
        EnvFilter::try_from_env("CORRAL_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber in one process can only come from tests that share it.
    let _already_set = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}
