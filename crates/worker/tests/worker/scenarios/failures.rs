//! What is killed, and what still holds.

use corral_worker_api::{Event, Outcome, Start, StopReason};
use rustix::process::Signal;
use serde_json::json;

use crate::cluster::{AMPLE, Cluster, start, with_inputs};
use crate::harness::Test;
use crate::processes::{children, is_alive, kill, wait_until};
use crate::server::Listen;

pub const TESTS: &[Test] = &[
    ("a_restarted_server_gets_everything_once", a_restarted_server),
    ("lost_acknowledgements_do_not_double_events", lost_acknowledgements),
    ("a_job_ends_while_the_server_is_away", ends_while_the_server_is_away),
    ("a_killed_job_process_is_told", a_killed_job_process),
    ("a_killed_worker_leaves_nothing_and_tells_at_its_next_start", a_killed_worker),
    ("a_killed_launcher_ends_the_worker", a_killed_launcher),
    ("a_frozen_job_is_stopped_all_the_same", a_frozen_job),
    ("worker_and_launcher_killed_together_leave_nothing_for_long", both_killed),
    ("a_job_goes_on_from_its_checkpoint", goes_on_from_its_checkpoint),
    ("an_orderly_end_keeps_a_last_checkpoint", an_orderly_end),
    ("a_directory_is_used_by_one_worker", one_worker_a_directory),
    ("a_refused_worker_ends_and_says_why", a_refused_worker),
    ("attempts_that_nobody_waits_for_are_stopped_at_hello", forgotten_at_hello),
    ("a_full_disk_fails_the_job_and_not_the_worker", a_full_disk),
    ("random_kills_lose_and_double_nothing", random_kills),
];

fn a_restarted_server() {
    let mut cluster = Cluster::start();
    let attempt = cluster
        .probe(json!({"steps": 60, "step_ms": 20, "checkpoint_every": 7, "output_bytes": 1000}));
    let process = cluster.server.wait_for_process(attempt);
    for _ in 0..3 {
        cluster.server.stop();
        std::thread::sleep(std::time::Duration::from_millis(100));
        cluster.server.restart();
        let hellos = cluster.server.records().hellos.len();
        cluster.server.wait_for("hello", |records| (records.hellos.len() > hellos).then_some(()));
    }
    assert!(is_alive(process), "the job outlives the server");
    let outcome = cluster.server.wait_for_end(attempt);
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{outcome:?}");
    cluster.server.events(attempt);
    assert_eq!(cluster.server.records().hellos.last().unwrap().attempts, [attempt]);
}

fn lost_acknowledgements() {
    let cluster = Cluster::start();
    cluster.server.records().lose_acknowledgements = 3;
    let attempt = cluster.probe(json!({"log_lines": 50, "output_bytes": 10}));
    cluster.server.wait_for_end(attempt);
    assert_eq!(cluster.server.log(attempt).len(), 50);
    assert!(cluster.server.records().repeated > 0);
}

fn ends_while_the_server_is_away() {
    let mut cluster = Cluster::start();
    let attempt = cluster.probe(json!({"hold_ms": 300, "output_bytes": 1000, "log_lines": 3}));
    let process = cluster.server.wait_for_process(attempt);
    cluster.server.stop();
    wait_until("the job has ended", || !is_alive(process));
    // What it left waits on disk, also when the worker is killed before the server is back.
    let job_file = cluster.attempt_dir(attempt).join("work");
    wait_until("the end is recorded", || !job_file.exists());
    cluster.kill_worker();
    cluster.start_worker();
    cluster.server.restart();
    let outcome = cluster.server.wait_for_end(attempt);
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{outcome:?}");
    assert_eq!(cluster.server.log(attempt).len(), 3);
}

fn a_killed_job_process() {
    let cluster = Cluster::start();
    let attempt = cluster.probe(json!({"hold_ms": 600_000}));
    kill(cluster.server.wait_for_process(attempt), Signal::KILL);
    let outcome = cluster.server.wait_for_end(attempt);
    assert_eq!(outcome, Outcome::Died { exit_code: None, signal: Some(9) });
}

fn a_killed_worker() {
    let mut cluster = Cluster::start();
    let attempt = cluster.probe(json!({"hold_ms": 600_000, "child_seconds": 1000}));
    let process = cluster.server.wait_for_process(attempt);
    let launcher = children(cluster.worker_id());
    cluster.kill_worker();
    wait_until("the job process is gone", || !is_alive(process));
    cluster.wait_until_no_job_runs();
    wait_until("the launcher is gone", || launcher.iter().all(|id| !is_alive(*id)));
    cluster.start_worker();
    assert_eq!(cluster.server.wait_for_end(attempt), Outcome::Lost);
    cluster.server.events(attempt);
    let next = cluster.probe(json!({}));
    assert!(matches!(cluster.server.wait_for_end(next), Outcome::Succeeded { .. }));
}

fn a_killed_launcher() {
    let mut cluster = Cluster::start();
    let attempt = cluster.probe(json!({"hold_ms": 600_000, "child_seconds": 1000}));
    let process = cluster.server.wait_for_process(attempt);
    let launcher = children(cluster.worker_id());
    assert_eq!(launcher.len(), 1, "the worker has one child");
    kill(launcher[0], Signal::KILL);
    assert_eq!(cluster.wait_for_worker().code(), Some(3));
    wait_until("the job process is gone", || !is_alive(process));
    cluster.wait_until_no_job_runs();
    cluster.start_worker();
    assert_eq!(cluster.server.wait_for_end(attempt), Outcome::Lost);
}

fn a_frozen_job() {
    let cluster = Cluster::start();
    let attempt = cluster.probe(json!({"hold_ms": 600_000}));
    kill(cluster.server.wait_for_process(attempt), Signal::STOP);
    cluster.stop(attempt, StopReason::Cancelled);
    let outcome = cluster.server.wait_for_end(attempt);
    assert_eq!(outcome, Outcome::Stopped { reason: StopReason::Cancelled });
}

/// The kernel ends the job process; a program that it started is found by the next worker.
fn both_killed() {
    let mut cluster = Cluster::start();
    let attempt = cluster.probe(json!({"hold_ms": 600_000, "child_seconds": 1000}));
    let process = cluster.server.wait_for_process(attempt);
    wait_until("the program runs", || children(process).len() == 1);
    let program = children(process)[0];
    let launcher = children(cluster.worker_id())[0];
    kill(cluster.worker_id(), Signal::STOP);
    kill(launcher, Signal::KILL);
    cluster.kill_worker();
    wait_until("the job process is gone", || !is_alive(process));
    assert!(is_alive(program), "nobody is left to end it");
    cluster.start_worker();
    assert_eq!(cluster.server.wait_for_end(attempt), Outcome::Lost);
    assert!(!is_alive(program));
}

fn goes_on_from_its_checkpoint() {
    let cluster = Cluster::start();
    let request = json!({"steps": 10, "step_ms": 1, "checkpoint_every": 3, "crash_at_step": 7});
    let first = start("probe", request, AMPLE);
    let attempt = cluster.submit(first.clone());
    let outcome = cluster.server.wait_for_end(attempt);
    assert_eq!(outcome, Outcome::Died { exit_code: None, signal: Some(6) });
    let mut checkpoints =
        cluster.server.events(attempt).into_iter().filter_map(|event| match event {
            Event::Checkpoint { blob } => Some(blob),
            _ => None,
        });
    let checkpoint = checkpoints.next_back();
    let again = Start { attempt: corral_types::AttemptId::generate(), checkpoint, ..first };
    let attempt = cluster.submit(again);
    let outcome = cluster.server.wait_for_end(attempt);
    let Outcome::Succeeded { result, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((&result["resumed_from"], &result["steps"]), (&json!(6), &json!(10)));
}

fn an_orderly_end() {
    let mut cluster = Cluster::start();
    let attempt = cluster.probe(json!({"steps": 100_000, "step_ms": 5}));
    cluster.server.wait_for_event(attempt, "progress", |event| {
        matches!(event, Event::Progress { .. }).then_some(())
    });
    kill(cluster.worker_id(), Signal::TERM);
    assert!(cluster.wait_for_worker().success());
    cluster.wait_until_no_job_runs();
    // Told before the worker ended, since the server was there.
    let events = cluster.server.events(attempt);
    assert!(events.iter().any(|event| matches!(event, Event::Checkpoint { .. })));
    assert!(matches!(events.last(), Some(Event::Ended { outcome: Outcome::Lost, .. })));
}

fn one_worker_a_directory() {
    let cluster = Cluster::start();
    cluster.server.wait_for("hello", |records| records.hellos.first().map(|_| ()));
    let second = cluster.program().output().unwrap();
    assert_eq!(second.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another worker uses"));
}

fn a_refused_worker() {
    let cluster = Cluster::prepare(|_| Listen::Tcp, &["token=wrong"]);
    cluster.server.records().token = Some("right".into());
    let refused = cluster.program().output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("this token is not known"), "{said}");
}

fn forgotten_at_hello() {
    let mut cluster = Cluster::start();
    let attempt = cluster.probe(json!({"hold_ms": 600_000, "ignore_stop": true}));
    let process = cluster.server.wait_for_process(attempt);
    cluster.server.records().forget = vec![attempt];
    cluster.server.restart();
    wait_until("it is stopped", || !is_alive(process));
    let dir = cluster.attempt_dir(attempt);
    wait_until("its files are gone", || !dir.exists());
}

/// A small file system of its own for the worker's directory; unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: std::path::PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=24m", "corral-test"]).arg(&at);
        mount.output().is_ok_and(|mounted| mounted.status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Also while something still uses it: it goes with its last user.
        let mut unmount = std::process::Command::new("umount");
        let _ = unmount.arg("-l").arg(&self.0).status();
    }
}

fn a_full_disk() {
    let mut cluster = Cluster::prepare(|dir| Listen::Unix(dir.join("socket")), &[]);
    let Some(_disk) = SmallDisk::mount(cluster.data_dir()) else {
        return println!("skipped: this user cannot mount a small file system");
    };
    cluster.start_worker();
    let attempt = cluster.probe(json!({"file_cache_bytes": 100 << 20, "log_lines": 1}));
    match cluster.server.wait_for_end(attempt) {
        Outcome::Failed { message, retryable, .. } => {
            assert!(message.contains("No space left") && retryable, "{message}");
        }
        other => panic!("expected a failure, got {other:?}"),
    }
    // The store leaves the disk its reserve, which this disk does not have.
    let input = cluster.server.add_blob(&[1; 1000]);
    let attempt = cluster.submit(with_inputs(start("probe", json!({}), AMPLE), &[input]));
    match cluster.server.wait_for_end(attempt) {
        Outcome::Failed { causes, hint, retryable, .. } => {
            assert!(causes.iter().any(|cause| cause.contains("do not fit")), "{causes:?}");
            assert!(hint.is_some() && retryable);
        }
        other => panic!("expected a failure, got {other:?}"),
    }
    let attempt = cluster.probe(json!({"log_lines": 5}));
    let outcome = cluster.server.wait_for_end(attempt);
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{outcome:?}");
}

/// Kills of worker, launcher, job processes and server in a random order: every attempt ends
/// exactly once, its events have no gaps, and nothing is left running.
fn random_kills() {
    let setting = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let seed = setting("CORRAL_TEST_SEED", 7);
    println!("seed {seed}");
    let mut state = seed;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut cluster = Cluster::start();
    let mut attempts = Vec::new();
    for _ in 0..setting("CORRAL_TEST_KILLS", 12) {
        let steps = random(40);
        let request = json!({"steps": steps, "step_ms": 5, "checkpoint_every": 10, "log_lines": 20, "output_bytes": 100});
        attempts.push(cluster.probe(request));
        std::thread::sleep(std::time::Duration::from_millis(random(150)));
        let seen = cluster.server.records().events.len();
        match random(4) {
            0 => {
                cluster.kill_worker();
                cluster.start_worker();
            }
            1 => {
                if let Some(launcher) = children(cluster.worker_id()).first() {
                    kill(*launcher, Signal::KILL);
                    cluster.wait_for_worker();
                    cluster.start_worker();
                }
            }
            2 => cluster.server.restart(),
            _ => {
                if let Some(job) = crate::processes::started_for(&cluster.data_dir()).first() {
                    // It may have ended by itself in the meantime.
                    let pid = rustix::process::Pid::from_raw(*job as i32).unwrap();
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
        }
        assert!(cluster.server.records().events.len() >= seen);
    }
    for attempt in attempts {
        cluster.server.wait_for_end(attempt);
        cluster.server.events(attempt);
    }
    let last = cluster.probe(json!({"steps": 1}));
    cluster.stop(last, StopReason::FinishNow);
    cluster.server.wait_for_end(last);
}
