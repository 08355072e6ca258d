//! Tests of the whole: real processes, real files, the command line as a person types it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod batch;
mod crash;
mod end_to_end;
mod endpoints;
mod formats;
mod functions;
mod http;
mod hub;
mod inference;
mod jobs;
mod lines;
mod observed;
mod python;
mod registry;
mod search;
mod support;
