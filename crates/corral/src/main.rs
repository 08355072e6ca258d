//! The one binary: server, worker, supervisor and command line.

mod batch_job;
mod cli;
mod client;
mod config;
mod data_dir;
mod failure;
mod hub;
mod job_inputs;
mod label_job;
mod output;
mod supervisor;
mod train_job;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(cli::CommandLine::parse()) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}
