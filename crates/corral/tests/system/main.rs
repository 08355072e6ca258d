//! Tests of the whole: real processes, real files, the command line as a person types it.

mod crash;
mod end_to_end;
mod http;
mod jobs;
mod support;
