//! The process table, as the tests look at it.

use std::time::{Duration, Instant};

use crate::server::PATIENCE;

pub fn kill(process: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(process as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Whether the process runs; a zombie does not.
pub fn is_alive(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The children of a process.
pub fn children(parent: u32) -> Vec<u32> {
    all().into_iter().filter(|(_, of, _)| *of == parent).map(|(id, ..)| id).collect()
}

/// The living processes whose environment names something below `directory`.
pub fn started_for(directory: &std::path::Path) -> Vec<u32> {
    let needle = format!("CORRAL_ATTEMPT_DIRECTORY={}", directory.display());
    all()
        .into_iter()
        .map(|(id, ..)| id)
        .filter(|id| is_alive(*id))
        .filter(|id| {
            let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&needle)
        })
        .collect()
}

fn all() -> Vec<(u32, u32, char)> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|id| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            let rest = stat.rsplit_once(") ")?.1;
            let mut fields = rest.split(' ');
            let state = fields.next()?.chars().next()?;
            Some((id, fields.next()?.parse().ok()?, state))
        })
        .collect()
}
