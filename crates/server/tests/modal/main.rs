//! The official `modal` clients, unmodified, against the edge: real clients as separate
//! processes, and containers that are plain processes running the client's own container side.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod clients;
mod containers;
mod runs;
mod stage;
mod versions;
