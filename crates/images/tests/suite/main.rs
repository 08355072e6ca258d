//! Images as whoever uses them sees them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod builds;
mod clients;
mod common;
mod keeping;
