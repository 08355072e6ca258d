//! The processes under a server: which of them are containers, and what they hold.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;

/// A process namespace other than the machine's: one container or template.
pub struct Namespace {
    /// In the order in which they were found: its first is the one that the others descend from.
    pub processes: Vec<u32>,
}

impl Namespace {
    /// Memory that ends with these processes, in bytes.
    pub fn private_bytes(&self) -> u64 {
        self.processes.iter().filter_map(|process| private_bytes(*process)).sum()
    }

    /// Whether a Python runs in it that imported a module of this name.
    pub fn has_mapped(&self, name: &str) -> bool {
        self.processes.iter().any(|process| {
            let maps = std::fs::read_to_string(format!("/proc/{process}/maps"));
            maps.unwrap_or_default().contains(name)
        })
    }
}

/// The namespaces in which descendants of a process run.
pub fn namespaces_under(process: u32) -> anyhow::Result<Vec<Namespace>> {
    let outside = namespace(process).context("the server runs")?;
    let mut found = BTreeMap::<PathBuf, Vec<u32>>::new();
    for process in descendants(process) {
        // It may have ended since.
        if let Some(inside) = namespace(process).filter(|inside| *inside != outside) {
            found.entry(inside).or_default().push(process);
        }
    }
    Ok(found.into_values().map(|processes| Namespace { processes }).collect())
}

/// All that a process started, and what those started.
pub fn descendants(process: u32) -> Vec<u32> {
    let mut found = children(process);
    let mut next = 0;
    while let Some(process) = found.get(next) {
        found.extend(children(*process));
        next += 1;
    }
    found
}

fn children(process: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        let said = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(said.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    found
}

fn namespace(process: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/pid")).ok()
}

fn private_bytes(process: u32) -> Option<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let kibibytes = rollup.lines().filter_map(|line| {
        let rest = line.strip_prefix("Private_Clean:").or(line.strip_prefix("Private_Dirty:"))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    Some(kibibytes.sum::<u64>() << 10)
}
