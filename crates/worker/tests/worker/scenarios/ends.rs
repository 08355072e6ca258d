//! The ways in which an attempt ends, and what is told of it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use corral_types::{BlobHash, Timestamp};
use corral_worker_api::{
    AttemptEvent, Command, Event, LogStream, MAX_LOG_LINE_BYTES, Outcome, StopReason,
};
use serde_json::{Value, json};

use crate::cluster::{AMPLE, Cluster, start, with_deadline, with_inputs};
use crate::harness::Test;
use crate::processes::{is_alive, wait_until};
use crate::server::Listen;

pub const TESTS: &[Test] = &[
    ("a_job_runs_from_inputs_to_outputs_over_a_socket", a_job_runs_over_a_socket),
    ("a_job_runs_from_inputs_to_outputs_over_tcp", a_job_runs_over_tcp),
    ("a_job_runs_from_inputs_to_outputs_over_tls", a_job_runs_over_tls),
    ("logs_are_kept_in_order_and_long_lines_are_cut", logs_are_kept),
    ("a_cancelled_job_ends_within_a_second", a_cancelled_job_ends_within_a_second),
    ("a_job_told_to_finish_hands_back_what_it_has", a_job_told_to_finish),
    ("a_job_over_its_time_is_stopped_by_the_worker", a_job_over_its_time),
    ("what_goes_wrong_in_a_handler_is_told_in_words", what_goes_wrong_in_a_handler),
    ("hostile_jobs_get_nothing_and_harm_nobody", hostile_jobs),
    ("progress_is_passed_on_a_few_times_a_second", progress_is_coalesced),
    ("programs_left_behind_by_a_job_end_with_it", programs_left_behind),
    ("forgotten_attempts_leave_no_files", forgotten_attempts),
    ("commands_that_come_twice_count_once", commands_that_come_twice),
    ("missing_inputs_fail_and_cut_transfers_are_repeated", missing_and_cut_inputs),
    ("outputs_that_are_refused_fail_the_job", refused_outputs),
    ("an_empty_job_is_over_in_a_moment", an_empty_job),
    ("the_cache_stays_within_its_bound", the_cache_is_bounded),
];

fn result_of(outcome: &Outcome) -> &Value {
    match outcome {
        Outcome::Succeeded { result, .. } => result,
        other => panic!("expected success, got {other:?}"),
    }
}

fn a_job_runs_over_a_socket() {
    run_whole_job(&Cluster::start());
}

fn a_job_runs_over_tcp() {
    let mut cluster = Cluster::prepare(|_| Listen::Tcp, &["token=right"]);
    cluster.server.records().token = Some("right".into());
    cluster.start_worker();
    run_whole_job(&cluster);
}

fn a_job_runs_over_tls() {
    let trusted = format!("ca={}", crate::tls::fixture("authority.pem").display());
    let mut cluster = Cluster::prepare(|_| Listen::Tls, &[&trusted]);
    cluster.start_worker();
    run_whole_job(&cluster);
    // Without the authority's certificate nothing is told to the server.
    let mut stranger = Cluster::prepare(|_| Listen::Tls, &[]);
    stranger.start_worker();
    wait_until("it hangs up", || crate::tls::HANG_UPS.load(Ordering::SeqCst) > 1);
    assert!(stranger.server.records().hellos.is_empty());
}

fn run_whole_job(cluster: &Cluster) {
    let inputs = [vec![1u8; 3 << 20], b"small".to_vec()];
    let hashes: Vec<BlobHash> = inputs.iter().map(|bytes| cluster.server.add_blob(bytes)).collect();
    let request = json!({"steps": 3, "step_ms": 1, "checkpoint_every": 2, "output_bytes": 5 << 20, "log_lines": 2});
    let attempt = cluster.submit(with_inputs(start("probe", request, AMPLE), &hashes));
    let outcome = cluster.server.wait_for_end(attempt);
    let result = result_of(&outcome);
    assert_eq!(result["steps"], 3);
    assert_eq!(result["threads"], 2);
    assert_eq!(result["input_bytes"], (3 << 20) + 5);
    let Outcome::Succeeded { outputs, .. } = &outcome else { unreachable!() };
    assert_eq!((outputs[0].name.as_str(), outputs[0].bytes), ("probe", 5 << 20));
    let events = cluster.server.events(attempt);
    assert!(matches!(events[0], Event::Started { .. }));
    assert!(events.iter().any(|event| matches!(event, Event::Checkpoint { .. })));
    let mut progress = events.iter().filter_map(|event| match event {
        Event::Progress { fraction, .. } => Some(*fraction),
        _ => None,
    });
    assert_eq!(progress.next_back(), Some(1.0));
    let Some(Event::Ended { accounting, .. }) = events.last() else { unreachable!() };
    assert!(accounting.peak_memory_bytes > 0 && accounting.wall_ms > 0);
    let records = cluster.server.records();
    let hello = &records.hellos[0];
    assert!(hello.capacity.memory_bytes > 0 && hello.capacity.milli_cpu > 0);
    assert_eq!(records.blobs[&outputs[0].blob].len(), 5 << 20);
}

fn logs_are_kept() {
    let cluster = Cluster::start();
    let many = cluster.probe(json!({"log_lines": 3000}));
    let long = cluster.probe(json!({"log_lines": 2, "log_line_bytes": 3 * MAX_LOG_LINE_BYTES}));
    cluster.server.wait_for_end(many);
    let lines = cluster.server.log(many);
    assert_eq!(lines.len(), 3000);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line.trim_end(), format!("line {}", index + 1));
    }
    cluster.server.wait_for_end(long);
    let lines = cluster.server.log(long);
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.len() <= MAX_LOG_LINE_BYTES && line.ends_with("[cut]")));
}

fn a_cancelled_job_ends_within_a_second() {
    let cluster = Cluster::start();
    for ignore_stop in [false, true] {
        let request = json!({"steps": 1, "step_ms": 600_000, "ignore_stop": ignore_stop});
        let attempt = cluster.probe(request);
        let process = cluster.server.wait_for_process(attempt);
        wait_until("the job has begun", || {
            std::fs::read_to_string(format!("/proc/{process}/cmdline"))
                .is_ok_and(|line| line.contains("job-process"))
        });
        let told = Instant::now();
        cluster.stop(attempt, StopReason::Cancelled);
        let outcome = cluster.server.wait_for_end(attempt);
        assert_eq!(outcome, Outcome::Stopped { reason: StopReason::Cancelled });
        assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
        assert!(!is_alive(process));
    }
}

fn a_job_told_to_finish() {
    let cluster = Cluster::start();
    let attempt = cluster.probe(json!({"steps": 100_000, "step_ms": 10}));
    cluster.server.wait_for_event(attempt, "progress", |event| {
        matches!(event, Event::Progress { .. }).then_some(())
    });
    cluster.stop(attempt, StopReason::FinishNow);
    let outcome = cluster.server.wait_for_end(attempt);
    let steps = result_of(&outcome)["steps"].as_u64().unwrap();
    assert!((1..100_000).contains(&steps));
}

fn a_job_over_its_time() {
    let cluster = Cluster::start();
    let request = json!({"hold_ms": 600_000, "ignore_stop": true});
    let deadline = Timestamp::now().plus(Duration::from_millis(300));
    let attempt = cluster.submit(with_deadline(start("probe", request, AMPLE), deadline));
    let outcome = cluster.server.wait_for_end(attempt);
    assert_eq!(outcome, Outcome::Stopped { reason: StopReason::TimeLimit });
}

fn what_goes_wrong_in_a_handler() {
    let cluster = Cluster::start();
    let failure = |request: Value| {
        let attempt = cluster.probe(request);
        match cluster.server.wait_for_end(attempt) {
            Outcome::Failed { message, retryable, .. } => (message, retryable),
            other => panic!("expected a failure, got {other:?}"),
        }
    };
    assert_eq!(failure(json!({"fail": "no"})), ("no".into(), false));
    assert_eq!(failure(json!({"fail": "not now", "retryable": true})), ("not now".into(), true));
    let (message, retryable) = failure(json!({"panic": "a defect"}));
    assert!(message.contains("a defect") && !retryable);
    assert!(failure(json!({"no such field": 1})).0.contains("not understood"));
    assert!(failure(json!("not even an object")).0.contains("not understood"));
    let attempt = cluster.probe(json!({"exit_code": 7}));
    let outcome = cluster.server.wait_for_end(attempt);
    assert_eq!(outcome, Outcome::Died { exit_code: Some(7), signal: None });
    let attempt = cluster.submit(start("no-such-kind", Value::Null, AMPLE));
    let outcome = cluster.server.wait_for_end(attempt);
    assert!(matches!(outcome, Outcome::Failed { message, .. } if message.contains("no-such-kind")));
}

fn hostile_jobs() {
    let cluster = Cluster::start();
    let run = |payload: Value| {
        let attempt = cluster.submit(start("hostile", payload, AMPLE));
        cluster.server.wait_for_end(attempt)
    };
    for path in ["/etc/passwd", "../../../worker.json", "../job.json", ".", "missing"] {
        let outcome = run(json!({"output": path}));
        assert!(matches!(outcome, Outcome::Failed { .. }), "{path}: {outcome:?}");
    }
    let outcome = run(json!({"result_bytes": 5 << 20}));
    assert!(matches!(&outcome, Outcome::Failed { hint: Some(_), .. }), "{outcome:?}");
    let outcome = run(json!({"token": true}));
    let seen = result_of(&outcome).to_string();
    assert!(!seen.contains("a secret of the worker"), "{seen}");
    // The worker still works.
    assert_eq!(result_of(&run(json!({"result_bytes": 3}))), "xxx");
}

fn progress_is_coalesced() {
    let cluster = Cluster::start();
    let attempt = cluster.submit(start("hostile", json!({"progress": 20_000}), AMPLE));
    cluster.server.wait_for_end(attempt);
    let records = cluster.server.records();
    let progress: Vec<&AttemptEvent> = records.events[&attempt]
        .iter()
        .filter(|event| matches!(event.event, Event::Progress { .. }))
        .collect();
    let (first, last) = (progress[0].at, progress[progress.len() - 1].at);
    let seconds = last.since(first).as_secs_f64();
    // The first comes at once, the last with the end.
    assert!(progress.len() as f64 <= 3.0 + 5.0 * seconds, "{} in {seconds} s", progress.len());
    let Event::Progress { message, .. } = &progress[progress.len() - 1].event else {
        unreachable!()
    };
    assert_eq!(message, "19999", "the newest is not lost");
}

fn programs_left_behind() {
    for settings in [&["enforcement=watchdog"][..], &[]] {
        let cluster = Cluster::start_with(settings);
        let left = cluster.probe(json!({"child_seconds": 1000}));
        let escaped = cluster.submit(start("hostile", json!({"escape": true}), AMPLE));
        for attempt in [left, escaped] {
            let outcome = cluster.server.wait_for_end(attempt);
            assert!(matches!(outcome, Outcome::Succeeded { .. }), "{outcome:?}");
        }
        cluster.wait_until_no_job_runs();
    }
}

fn forgotten_attempts() {
    let cluster = Cluster::start();
    let ended = cluster.probe(json!({"output_bytes": 10}));
    cluster.server.wait_for_end(ended);
    assert!(cluster.attempt_dir(ended).exists());
    assert!(!cluster.attempt_dir(ended).join("job").exists());
    let running = cluster.probe(json!({"hold_ms": 600_000, "ignore_stop": true}));
    let process = cluster.server.wait_for_process(running);
    cluster.server.command(Command::Forget { attempt: ended });
    cluster.server.command(Command::Forget { attempt: running });
    for attempt in [ended, running] {
        let dir = cluster.attempt_dir(attempt);
        wait_until("the attempt's files are gone", || !dir.exists());
    }
    assert!(!is_alive(process));
}

fn commands_that_come_twice() {
    let cluster = Cluster::start();
    let again = start("probe", json!({"log_lines": 1}), AMPLE);
    for _ in 0..3 {
        cluster.submit(again.clone());
    }
    cluster.server.wait_for_end(again.attempt);
    cluster.submit(again.clone());
    let other = cluster.probe(json!({}));
    cluster.server.wait_for_end(other);
    let events = cluster.server.events(again.attempt);
    let starts = events.iter().filter(|event| matches!(event, Event::Started { .. })).count();
    assert_eq!(starts, 1);
}

fn missing_and_cut_inputs() {
    let cluster = Cluster::start();
    let missing = BlobHash::of(b"nobody has this");
    let attempt = cluster.submit(with_inputs(start("probe", json!({}), AMPLE), &[missing]));
    let outcome = cluster.server.wait_for_end(attempt);
    let Outcome::Failed { message, retryable, .. } = outcome else { panic!("{outcome:?}") };
    assert!(message.contains(&missing.short()) && !retryable);
    let input = cluster.server.add_blob(&vec![7; 1 << 20]);
    cluster.server.records().cut_transfers = 2;
    let attempt = cluster.submit(with_inputs(start("probe", json!({}), AMPLE), &[input]));
    let outcome = cluster.server.wait_for_end(attempt);
    assert_eq!(result_of(&outcome)["input_bytes"], 1 << 20);
}

/// Prints how long it takes; fails only when something waits that should not.
fn an_empty_job() {
    for settings in [&["enforcement=watchdog"][..], &[]] {
        let cluster = Cluster::start_with(settings);
        cluster.server.wait_for("hello", |records| records.hellos.first().map(|_| ()));
        let mut millis: Vec<(u128, u128)> = (0..11)
            .map(|_| {
                let begun = Instant::now();
                let attempt = cluster.probe(json!({}));
                cluster.server.wait_for_process(attempt);
                let started = begun.elapsed().as_millis();
                cluster.server.wait_for_end(attempt);
                (begun.elapsed().as_millis(), started)
            })
            .collect();
        millis.sort_unstable();
        let (ended, started) = millis[millis.len() / 2];
        println!("{settings:?}: started after {started} ms, told to have ended after {ended} ms");
        assert!(ended < 2000, "{ended} ms");
    }
}

fn refused_outputs() {
    let cluster = Cluster::start();
    cluster.server.records().refuse_puts = Some(413);
    let attempt = cluster.probe(json!({"output_bytes": 100}));
    let outcome = cluster.server.wait_for_end(attempt);
    let Outcome::Failed { causes, .. } = outcome else { panic!("{outcome:?}") };
    assert!(causes[0].contains("over quota"), "{causes:?}");
}

fn the_cache_is_bounded() {
    let cluster = Cluster::start_with(&["cache=3000000"]);
    for number in 0..5u8 {
        let input = cluster.server.add_blob(&vec![number; 1 << 20]);
        let attempt = cluster.submit(with_inputs(start("probe", json!({}), AMPLE), &[input]));
        let outcome = cluster.server.wait_for_end(attempt);
        assert_eq!(result_of(&outcome)["input_bytes"], 1 << 20);
        cluster.server.command(Command::Forget { attempt });
    }
    let objects = cluster.data_dir().join("blobs/objects");
    let bytes = || -> u64 {
        let shards = std::fs::read_dir(&objects).unwrap().flatten();
        let files = shards.flat_map(|shard| std::fs::read_dir(shard.path()).into_iter().flatten());
        files.flatten().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
    };
    let last = cluster.probe(json!({"log_lines": 1}));
    cluster.server.wait_for_end(last);
    assert!(bytes() <= 3_000_000, "{}", bytes());
    let streams = cluster.server.events(last);
    assert!(streams.iter().any(|e| matches!(e, Event::Log { stream: LogStream::Stdout, .. })));
}
