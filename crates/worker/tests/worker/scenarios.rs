//! What must hold of a worker, whatever is killed.

mod ends;
mod failures;
mod memory;

use crate::harness::Test;

pub fn all() -> Vec<Test> {
    [ends::TESTS, failures::TESTS, memory::TESTS].concat()
}
