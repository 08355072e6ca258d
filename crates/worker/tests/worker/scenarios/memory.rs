//! Limits hold, alone for whoever passes them, and the numbers are told.

use corral_types::MIB;
use corral_worker_api::{Command, Enforcement, Outcome, StopReason};
use serde_json::json;

use crate::cluster::{AMPLE, Cluster, cgroup_of, limits, start};
use crate::harness::Test;
use crate::processes::wait_until;

pub const TESTS: &[Test] = &[
    ("memory_limits_hold_with_the_watchdog", with_watchdog),
    ("an_allocation_beyond_all_bounds_is_told_as_memory", an_allocation_beyond_all_bounds),
    ("job_processes_are_set_apart", job_processes_are_set_apart),
    ("memory_limits_hold_with_cgroups", with_cgroups),
    ("a_child_over_the_limit_stops_the_whole_attempt_with_cgroups", child_with_cgroups),
    ("usage_is_measured_while_jobs_run", usage_is_measured),
    ("a_task_chosen_under_pressure_is_told_its_numbers", under_pressure),
    ("a_raised_limit_counts_at_once", a_raised_limit),
    ("groups_are_removed_and_leftovers_found", groups_are_removed),
];

/// A job past its limit is stopped with its numbers; one beside it goes on; file cache does
/// not count against either.
fn limits_hold(cluster: &Cluster, enforcement: Enforcement) {
    cluster.server.wait_for("hello", |records| records.hellos.first().map(|_| ()));
    assert_eq!(cluster.server.records().hellos[0].enforcement, enforcement);
    let beside = cluster
        .probe_within(AMPLE, json!({"allocate_bytes": 40 * MIB, "steps": 1000, "step_ms": 20}));
    cluster.server.wait_for_process(beside);
    let cached = cluster.probe_within(
        128 * MIB,
        json!({"file_cache_bytes": 300 * MIB, "allocate_bytes": 30 * MIB, "hold_ms": 200}),
    );
    let over =
        cluster.probe_within(96 * MIB, json!({"allocate_bytes": 400 * MIB, "hold_ms": 60_000}));
    match cluster.server.wait_for_end(over) {
        Outcome::OverMemory { requested_bytes, limit_bytes, measured_bytes } => {
            assert_eq!((requested_bytes, limit_bytes), (48 * MIB, 96 * MIB));
            assert!(measured_bytes > 80 * MIB && measured_bytes < 500 * MIB, "{measured_bytes}");
        }
        other => panic!("expected the limit to hold, got {other:?}"),
    }
    assert!(matches!(cluster.server.wait_for_end(cached), Outcome::Succeeded { .. }));
    cluster.stop(beside, StopReason::FinishNow);
    let outcome = cluster.server.wait_for_end(beside);
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{outcome:?}");
}

fn with_watchdog() {
    limits_hold(&Cluster::start_with(&["enforcement=watchdog"]), Enforcement::Watchdog);
}

/// The kind of groups that this machine allows.
fn groups_here() -> Option<Enforcement> {
    let found = corral_worker::inspect(std::path::Path::new("/"));
    let kind = found
        .enforcement
        .iter()
        .find(|finding| finding.unavailable.is_none())
        .map(|finding| finding.kind)
        .filter(|kind| *kind != Enforcement::Watchdog);
    if kind.is_none() {
        println!(
            "skipped: no cgroup with a memory limit can be made here: {:?}",
            found.enforcement
        );
    }
    kind
}

fn with_cgroups() {
    let Some(kind) = groups_here() else { return };
    limits_hold(&Cluster::start(), kind);
}

/// Where no group counts pages, `RLIMIT_DATA` stops what the watchdog would see too late.
fn an_allocation_beyond_all_bounds() {
    let cluster = Cluster::start_with(&["enforcement=watchdog"]);
    let payload = json!({"reserve_bytes": 64u64 << 30});
    let attempt = cluster.submit(start("hostile", payload, 128 * MIB));
    match cluster.server.wait_for_end(attempt) {
        Outcome::OverMemory { measured_bytes, .. } => assert!(measured_bytes >= 64 << 30),
        other => panic!("expected the numbers, got {other:?}"),
    }
    let log = cluster.server.log(attempt);
    assert!(log.iter().any(|line| line.contains("memory allocation of")), "{log:?}");
}

/// A session of its own, first to go when memory is short, last when the processor is.
fn job_processes_are_set_apart() {
    let cluster = Cluster::start_with(&["enforcement=watchdog"]);
    let attempt = cluster.probe_within(64 * MIB, json!({"hold_ms": 600_000}));
    let process = cluster.server.wait_for_process(attempt);
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap();
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let id = process.to_string();
    assert_eq!((fields[2], fields[3]), (id.as_str(), id.as_str()), "group and session");
    assert_eq!(fields[16], "10", "nice, for a tenth of a call's weight");
    assert_eq!(read("oom_score_adj").trim(), "500");
    let limits = read("limits");
    let limit = |name: &str| limits.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let data_bytes = (2 * 64 * MIB + (4 << 30)).to_string();
    assert!(limit("Max data size").contains(&data_bytes));
    assert!(limit("Max core file size").contains(" 0 "));
    // Standard streams, the control channel and its clone, once it has read its description.
    let open = || std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    wait_until("nothing else is open", || open() == 5);
    cluster.stop(attempt, StopReason::Cancelled);
    cluster.server.wait_for_end(attempt);
}

fn child_with_cgroups() {
    let Some(_) = groups_here() else { return };
    let cluster = Cluster::start();
    let request = json!({"child_seconds": 1000, "allocate_bytes": 400 * MIB, "hold_ms": 60_000});
    let attempt = cluster.probe_within(96 * MIB, request);
    let outcome = cluster.server.wait_for_end(attempt);
    assert!(matches!(outcome, Outcome::OverMemory { .. }), "{outcome:?}");
    cluster.wait_until_no_job_runs();
}

fn usage_is_measured() {
    for settings in [&["enforcement=watchdog"][..], &[]] {
        let cluster = Cluster::start_with(settings);
        let attempt = cluster.probe(json!({"allocate_bytes": 100 * MIB, "hold_ms": 600_000}));
        cluster.server.wait_for("usage", |records| {
            let free = records.usage.free_memory_bytes > 0 && records.usage.free_disk_bytes > 0;
            let used = records.usage.attempts.iter().find(|usage| usage.attempt == attempt)?;
            (free && (100 * MIB..150 * MIB).contains(&used.memory_bytes)).then_some(())
        });
        cluster.stop(attempt, StopReason::Cancelled);
        cluster.server.wait_for_end(attempt);
    }
}

fn under_pressure() {
    let cluster = Cluster::start();
    let attempt =
        cluster.probe(json!({"allocate_bytes": 50 * MIB, "steps": 1, "step_ms": 600_000}));
    cluster.server.wait_for("usage", |records| {
        let used = records.usage.attempts.iter().find(|usage| usage.attempt == attempt)?;
        (used.memory_bytes > 50 * MIB).then_some(())
    });
    cluster.stop(attempt, StopReason::MemoryPressure);
    match cluster.server.wait_for_end(attempt) {
        Outcome::OverMemory { limit_bytes, measured_bytes, .. } => {
            assert_eq!(limit_bytes, AMPLE);
            assert!(measured_bytes > 50 * MIB && measured_bytes < AMPLE, "{measured_bytes}");
        }
        other => panic!("expected the numbers, got {other:?}"),
    }
}

fn a_raised_limit() {
    for settings in [&["enforcement=watchdog"][..], &[]] {
        let cluster = Cluster::start_with(settings);
        // It grows past its first limit, slowly enough for the second to arrive before.
        let growing = json!({"steps": 100, "step_ms": 10, "allocate_bytes_per_step": MIB});
        let attempt = cluster.probe_within(64 * MIB, growing);
        cluster.server.wait_for_process(attempt);
        cluster.server.command(Command::SetLimits { attempt, limits: limits(AMPLE) });
        match cluster.server.wait_for_end(attempt) {
            Outcome::Succeeded { result, .. } => assert_eq!(result["allocated_bytes"], 100 * MIB),
            other => panic!("expected success, got {other:?}"),
        }
        let lowered = cluster.probe(json!({"allocate_bytes": 120 * MIB, "hold_ms": 600_000}));
        cluster.server.wait_for("usage", |records| {
            let used = records.usage.attempts.iter().find(|usage| usage.attempt == lowered)?;
            (used.memory_bytes > 120 * MIB).then_some(())
        });
        cluster.server.command(Command::SetLimits { attempt: lowered, limits: limits(64 * MIB) });
        let outcome = cluster.server.wait_for_end(lowered);
        assert!(
            matches!(outcome, Outcome::OverMemory { limit_bytes, .. } if limit_bytes == 64 * MIB),
            "{outcome:?}"
        );
    }
}

fn groups_are_removed() {
    let Some(kind) = groups_here() else { return };
    if kind != Enforcement::CgroupV1 {
        return println!("skipped: this test looks at the files of cgroup v1");
    }
    let mut cluster = Cluster::start();
    let running =
        cluster.probe(json!({"hold_ms": 600_000, "ignore_stop": true, "child_seconds": 1000}));
    cluster.server.wait_for_process(running);
    let group = cgroup_of(&cluster.data_dir()).expect("a worker has its groups");
    cluster.kill_worker();
    cluster.wait_until_no_job_runs();
    // Another worker that starts now may remove what this one left; else its next start does.
    cluster.start_worker();
    cluster.server.wait_for_end(running);
    cluster.server.command(Command::Forget { attempt: running });
    let next = cluster.probe(json!({}));
    cluster.server.wait_for_end(next);
    let groups = || {
        std::fs::read_dir(&group)
            .map_or(0, |entries| entries.flatten().filter(|entry| entry.path().is_dir()).count())
    };
    wait_until("only the groups made ahead are left", || groups() <= 2);
    crate::processes::kill(cluster.worker_id(), rustix::process::Signal::TERM);
    assert!(cluster.wait_for_worker().success());
    assert!(!group.exists(), "an orderly end removes the groups");
}
