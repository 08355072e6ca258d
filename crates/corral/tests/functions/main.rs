//! The official clients of other people's making, run against this server as they are: programs
//! in the style of their documentation, as separate processes, over real containers.
//!
//! `surface.rs` is the table of what is tried with which client; what comes of it stands in
//! `docs/compatibility.md`, which is written by `CORRAL_WRITE_COMPATIBILITY=1` and compared
//! otherwise.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod beside;
mod clients;
mod compatibility;
mod corral;
mod process;
mod reach;
mod stage;
mod steps;
mod surface;
