//! Which processes belong to an attempt, and what they take, read from `/proc`.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};

use crate::job::DIRECTORY_VARIABLE;

/// How often the tree is looked through for processes that were born while it was killed.
const KILL_ROUNDS: usize = 20;

/// How often killed children are waited for, 2 ms each time: the kernel may hold one in a
/// long system call, and the worker must end all the same.
const REAP_ROUNDS: usize = 500;

/// One line of the process table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub id: i32,
    pub parent: i32,
    pub session: i32,
    pub is_zombie: bool,
    /// Its own processor time, without that of children it waited for.
    pub cpu_ticks: u64,
}

/// The anonymous and shared memory of a process; file cache is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResidentMemory {
    pub anonymous_bytes: u64,
    pub shared_bytes: u64,
}

impl ResidentMemory {
    pub fn total_bytes(self) -> u64 {
        self.anonymous_bytes + self.shared_bytes
    }
}

/// Every process that this one can see.
pub fn list_processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(read_process)
        .collect()
}

/// One process; none when it is gone.
pub fn read_process(id: i32) -> Option<Process> {
    parse_stat(id, &std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// `proc(5)`: the command name, in parentheses, may itself hold spaces and parentheses.
fn parse_stat(id: i32, stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
    Some(Process {
        id,
        parent: number(1)? as i32,
        session: number(3)? as i32,
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
        cpu_ticks: (number(11)? + number(12)?) as u64,
    })
}

/// What a process holds; none when it is gone.
pub fn read_resident_memory(id: i32) -> Option<ResidentMemory> {
    Some(parse_status(&std::fs::read_to_string(format!("/proc/{id}/status")).ok()?))
}

fn parse_status(status: &str) -> ResidentMemory {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    ResidentMemory {
        anonymous_bytes: field("RssAnon:").unwrap_or(0) * 1024,
        shared_bytes: field("RssShmem:").unwrap_or(0) * 1024,
    }
}

/// The living processes among `all` that come from `root`: itself, its session, and the
/// descendants of both. A process that left the session after its parent had died is found
/// through `is_orphan_of_root`, asked about children of this program's `reaper`.
pub fn members(
    all: &[Process],
    root: i32,
    reaper: i32,
    mut is_orphan_of_root: impl FnMut(i32) -> bool,
) -> Vec<i32> {
    let mut found: HashSet<i32> = all
        .iter()
        .filter(|p| {
            p.id == root
                || p.session == root
                || (p.parent == reaper && p.session != reaper && is_orphan_of_root(p.id))
        })
        .map(|p| p.id)
        .collect();
    loop {
        let before = found.len();
        let born = all.iter().filter(|p| found.contains(&p.parent)).map(|p| p.id);
        let born: Vec<i32> = born.collect();
        found.extend(born);
        if found.len() == before {
            break;
        }
    }
    let mut living: Vec<i32> =
        all.iter().filter(|p| found.contains(&p.id) && !p.is_zombie).map(|p| p.id).collect();
    living.sort_unstable();
    living
}

/// The attempt's directory that a process carries in its environment.
pub fn attempt_directory_of(id: i32) -> Option<std::path::PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let environment = std::fs::read(format!("/proc/{id}/environ")).ok()?;
    let prefix = [DIRECTORY_VARIABLE.as_bytes(), b"="].concat();
    let value = environment.split(|&byte| byte == 0).find_map(|entry| entry.strip_prefix(&*prefix));
    value.map(|bytes| Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned())
}

/// Kills whatever `find` returns, again and again until it finds nothing.
/// Returns whether that point was reached.
pub fn kill_until_gone(mut find: impl FnMut() -> Vec<i32>) -> bool {
    for round in 0..KILL_ROUNDS {
        let found = find();
        if found.is_empty() {
            return true;
        }
        for id in found {
            if let Some(pid) = Pid::from_raw(id) {
                // It may be gone already, which is what is wanted.
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
        // A killed process leaves the table a moment later; the wait grows for one that the
        // kernel holds in a long system call.
        std::thread::sleep(Duration::from_millis(1 << round.min(6)));
    }
    false
}

/// Kills every process that was started for an attempt below `attempts`, whoever started it.
/// For what an earlier worker left behind.
pub fn kill_leftovers(attempts: &Path) -> usize {
    let mut killed = HashSet::new();
    kill_until_gone(|| {
        let found: Vec<i32> = list_processes()
            .iter()
            .filter(|process| !process.is_zombie)
            .filter(|process| {
                attempt_directory_of(process.id).is_some_and(|dir| dir.starts_with(attempts))
            })
            .map(|process| process.id)
            .collect();
        killed.extend(found.iter().copied());
        found
    });
    killed.len()
}

/// Reaps every child of this process that has been killed, so that nothing of it is left,
/// such as its place in a group. Only where nobody else waits for children.
pub fn reap_killed_children() {
    for _ in 0..REAP_ROUNDS {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_hostile_command_names() {
        let stat = "42 (a) R 1 (b) S 7 42 41 0 -1 4194560 1 2 3 4 30 12 0 0 20 0 1 0 100 1 2";
        let expect = Process { id: 42, parent: 7, session: 41, is_zombie: false, cpu_ticks: 42 };
        assert_eq!(parse_stat(42, stat), Some(expect));
        assert_eq!(parse_stat(42, "42 (cut"), None);
    }

    #[test]
    fn status_counts_anonymous_and_shared_memory_only() {
        let status = "Name:\tx\nVmRSS:\t  9000 kB\nRssAnon:\t  10 kB\nRssFile:\t 8000 kB\nRssShmem:\t   2 kB\n";
        assert_eq!(parse_status(status).total_bytes(), 12 * 1024);
        assert_eq!(parse_status("Name: kernel thread\n"), ResidentMemory::default());
    }

    #[test]
    fn this_process_is_in_the_table() {
        let own = std::process::id() as i32;
        assert!(list_processes().iter().any(|process| process.id == own));
        assert!(read_resident_memory(own).is_some_and(|memory| memory.anonymous_bytes > 0));
    }

    #[test]
    fn members_are_found_through_parents_sessions_and_orphans() {
        let process =
            |id, parent, session| Process { id, parent, session, is_zombie: false, cpu_ticks: 0 };
        let all = [
            process(10, 1, 10),  // the launcher
            process(20, 10, 20), // the root
            process(21, 20, 20), // its child
            process(22, 21, 22), // a grandchild in a session of its own
            process(23, 10, 20), // an orphan in the session
            process(24, 10, 24), // an orphan that left the session
            process(25, 24, 24), // and its child
            process(30, 10, 30), // another root
            process(31, 10, 31), // another's orphan
        ];
        assert_eq!(members(&all, 20, 10, |id| id == 24), [20, 21, 22, 23, 24, 25]);
    }
}
