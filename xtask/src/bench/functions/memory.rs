//! What idle containers hold for themselves.

use std::time::Duration;

use anyhow::ensure;

use super::super::report::Figure;
use super::super::server::Server;
use super::client::{Client, PATIENCE};
use super::process::Session;
use super::tree;

const CONTAINERS: usize = 100;
/// Containers that are ready finish what they do at their start.
const SETTLE: Duration = Duration::from_secs(10);
/// A library of scikit-learn that is mapped where it was imported.
const IMPORTED: &str = "/sklearn/";

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let client = Client::install()?;
    let server = Server::start()?;
    let mut script = client.script("memory.py", &server.url);
    let _containers = Session::start(script.arg(CONTAINERS.to_string()), PATIENCE)?;
    std::thread::sleep(SETTLE);
    let mut held = Vec::new();
    for namespace in tree::namespaces_under(server.process())? {
        if namespace.has_mapped(IMPORTED) {
            held.push(namespace.private_bytes() as f64 / f64::from(1 << 20));
        }
    }
    ensure!(held.len() >= CONTAINERS, "{} containers of {CONTAINERS} were found", held.len());
    // What there is beside them is what they were forked from, which holds what they share.
    held.sort_by(f64::total_cmp);
    let templates = held.len() - CONTAINERS;
    held.truncate(CONTAINERS);
    let note = format!(
        "{CONTAINERS} at once, private pages by `smaps_rollup`, the spread is over containers; \
         {templates} more processes hold what they share"
    );
    let what = "private memory of an idle container that imported numpy and scikit-learn";
    Ok(vec![Figure::new(what, "≤ 10 MiB", "MiB", held, note)])
}
