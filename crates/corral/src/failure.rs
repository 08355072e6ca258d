//! How the command line reports that something failed.

use std::fmt;
use std::process::ExitCode;

use corral_types::{ErrorKind, Explain, Failure};

/// A [`Failure`] on its way up to `main`.
#[derive(Debug)]
pub struct Reported(pub Failure);

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Reported {}

/// Turns an explained error into one that `main` reports with its kind and hint.
pub fn reported(error: impl Explain) -> anyhow::Error {
    anyhow::Error::new(Reported(Failure::from(error)))
}

/// A failure with a hint, made on the spot.
pub fn refusal(failure: Failure) -> anyhow::Error {
    anyhow::Error::new(Reported(failure))
}

/// The kind of a failure, where it has one.
pub fn kind_of(error: &anyhow::Error) -> Option<ErrorKind> {
    let found = error.chain().find_map(|cause| cause.downcast_ref::<Reported>());
    found.map(|Reported(failure)| failure.kind)
}

/// Writes the error to standard error and gives the exit code of its kind.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let found = error.chain().find_map(|cause| cause.downcast_ref::<Reported>());
    match found {
        Some(Reported(failure)) => {
            anstream::eprintln!("\x1b[31;1merror:\x1b[0m {error}");
            // Context put around the failure comes before its own words and causes.
            for cause in
                error.chain().skip(1).map(ToString::to_string).chain(failure.causes.clone())
            {
                anstream::eprintln!("  \x1b[31mcaused by:\x1b[0m {cause}");
            }
            if let Some(hint) = &failure.hint {
                anstream::eprintln!("\x1b[36;1mhint:\x1b[0m {hint}");
            }
            ExitCode::from(failure.kind.exit_code())
        }
        None => {
            anstream::eprintln!("\x1b[31;1merror:\x1b[0m {error}");
            for cause in error.chain().skip(1) {
                anstream::eprintln!("  \x1b[31mcaused by:\x1b[0m {cause}");
            }
            ExitCode::FAILURE
        }
    }
}
