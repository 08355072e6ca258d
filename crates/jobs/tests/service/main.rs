//! The jobs service with a real journal in a directory of its own, and a worker that
//! speaks the protocol in this process.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod fake;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use corral_jobs::{Ending, FailureReason, JobEventKind, JobFilter, JobState, JobsError, Phase};
use corral_placement::{HolderId, Reclaimable, ReclaimableKind, ResidentClaim};
use corral_types::{
    AttemptId, BlobHash, Caller, ErrorKind, Explain, JobId, MIB, Scope, Scopes, TaskId,
};
use corral_worker_api::{
    AttemptEvent, AttemptUsage, Command, Event, LogStream, Outcome, StopReason,
};
use fake::{PATIENCE, Resident, START, Server, Worker, caller, later, never, request, succeeded};
use futures_util::{FutureExt, StreamExt};
use serde_json::json;

/// Waits until the job is in a state.
async fn until(server: &Server, caller: &Caller, job: JobId, state: JobState) {
    let reached = async {
        while server.service.get(caller, job).await.unwrap().job.state() != state {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(PATIENCE, reached).await.is_err() {
        panic!("not {state}: {:?}", server.service.get(caller, job).await.unwrap().job);
    }
}

async fn ended(server: &Server, caller: &Caller, job: JobId) -> Ending {
    let waited = tokio::time::timeout(PATIENCE, server.service.wait(caller, job)).await;
    match &waited.expect("the job ends").expect("the job is there").job.phase {
        Phase::Ended { ending, .. } => ending.clone(),
        other => panic!("not ended: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_logs_reports_and_has_its_outputs_registered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let caller = caller(1);
    let mut worker = Worker::join(&server).await;
    let job = server.service.submit(&caller, request(512)).await.unwrap();
    let start = worker.start(&server).await;
    assert_eq!((start.job, start.kind.as_str()), (job, "train"));
    assert_eq!(start.payload, json!({ "rows": 10 }));
    assert_eq!(start.limits.memory_request_bytes, 512 * MIB);
    assert_eq!(start.limits.memory_limit_bytes, 2_048 * MIB, "the default limit");
    worker.log(&server, start.attempt, "one").await;
    worker.log(&server, start.attempt, "two").await;
    let progress = Event::Progress { fraction: 0.5, message: "half".into(), detail: json!(3) };
    worker.say(&server, start.attempt, progress).await;
    let checkpoint = BlobHash::of(b"state");
    worker.say(&server, start.attempt, Event::Checkpoint { blob: checkpoint }).await;
    let view = server.service.get(&caller, job).await.unwrap();
    assert_eq!(view.job.state(), JobState::Running);
    assert_eq!(view.job.progress.as_ref().unwrap().message, "half");
    assert!(server.service.worker_may_read(worker.id, checkpoint).await);
    worker.end(&server, start.attempt, succeeded(json!({ "accuracy": 0.9 }))).await;

    let Ending::Succeeded { result, outputs } = ended(&server, &caller, job).await else {
        panic!("it did not succeed");
    };
    assert_eq!(result, json!({ "registered": 1, "by": { "accuracy": 0.9 } }));
    assert_eq!(outputs[0].name, "model");
    assert_eq!(server.registrar.calls.lock().unwrap().len(), 1);
    assert!(server.service.referenced_blobs().await.contains(&outputs[0].blob));

    let page = server.service.logs(&caller, job, 0, 10).await.unwrap();
    let lines: Vec<_> = page.entries.iter().map(|line| (line.id, line.line.as_str())).collect();
    assert_eq!(lines, [(1, "one"), (2, "two")]);
    let events = server.service.events_page(&caller, job, 0, 100).await.unwrap().entries;
    let names: Vec<_> = events.iter().map(|event| event.kind.name()).collect();
    assert_eq!(
        names,
        [
            "submitted",
            "assigned",
            "started",
            "progress",
            "checkpoint",
            "attempt_ended",
            "completing",
            "ended"
        ]
    );
    assert!(events.iter().map(|event| event.id).eq(1..=8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_adopts_what_runs_and_streams_resume() {
    let dir = tempfile::tempdir().unwrap();
    let caller = caller(1);
    let server = Server::start(dir.path());
    let mut worker = Worker::join(&server).await;
    let job = server.service.submit(&caller, request(512)).await.unwrap();
    let waiting = server.service.submit(&caller, request(4_000)).await.unwrap();
    let start = worker.start(&server).await;
    worker.log(&server, start.attempt, "before").await;
    let mut events = server.service.events(&caller, job, 0).await.unwrap();
    let seen = events.next().await.unwrap().unwrap();
    server.service.stop().await;
    let rest: Vec<_> = events.collect().await;
    assert!(matches!(rest.last(), Some(Err(JobsError::Stopping))), "a stream says why it ends");
    drop(server);

    let server = Server::start(dir.path());
    assert_eq!(server.service.get(&caller, job).await.unwrap().job.state(), JobState::Running);
    let unknown = server.service.poll(&worker.poll_now()).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Conflict, "the session is of another life");
    let stranger = AttemptId::from_u128(99);
    let forget = worker.hello(&server, vec![start.attempt, stranger]).await;
    assert_eq!(forget, [stranger]);
    worker.log(&server, start.attempt, "after").await;
    let lines = server.service.logs(&caller, job, 0, 10).await.unwrap().entries;
    assert!(lines.iter().map(|line| line.line.as_str()).eq(["before", "after"]));
    worker.end(&server, start.attempt, succeeded(json!(1))).await;
    ended(&server, &caller, job).await;
    let events = server.service.events(&caller, job, seen.id).await.unwrap();
    let rest: Vec<_> = events.map(|event| event.unwrap().id).collect().await;
    assert_eq!(rest, (seen.id + 1..=rest.len() as u64 + seen.id).collect::<Vec<_>>());
    let view = server.service.get(&caller, job).await.unwrap();
    assert_eq!(view.job.attempts_made(), 1, "it was not started again");

    // The one that did not fit beside it is next.
    let start = worker.start(&server).await;
    assert_eq!(start.job, waiting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_together_runs_one_after_the_other_and_what_never_fits_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let caller = caller(1);
    // While no worker is known, everything waits.
    let first = server.service.submit(&caller, request(3_000)).await.unwrap();
    let huge = server.service.submit(&caller, request(10_000)).await.unwrap();
    let mut worker = Worker::join(&server).await;
    let Ending::Failed { failure } = ended(&server, &caller, huge).await else { panic!() };
    assert_eq!(failure.reason, FailureReason::Refused);
    assert!(failure.message.contains("9.77 GiB") && failure.message.contains("4.00 GiB"));

    let second = server.service.submit(&caller, request(3_000)).await.unwrap();
    let refused = server.service.submit(&caller, request(10_000)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert!(refused.to_string().contains("asked for 9.77 GiB of memory"), "{refused}");
    assert!(refused.hint().unwrap().contains("4.00 GiB"));

    let start = worker.start(&server).await;
    assert_eq!(start.job, first);
    let view = server.service.get(&caller, second).await.unwrap();
    assert_eq!(view.job.state(), JobState::Queued);
    assert!(view.waits.is_some(), "it says why it waits");
    worker.end(&server, start.attempt, succeeded(json!(1))).await;
    assert_eq!(worker.start(&server).await.job, second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_the_worker_at_once_and_wins() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let caller = caller(1);
    let mut worker = Worker::join(&server).await;
    let job = server.service.submit(&caller, request(512)).await.unwrap();
    let start = worker.start(&server).await;
    let (_, stop) = tokio::join!(
        async { server.service.cancel(&caller, job).await.unwrap() },
        worker.stop(&server)
    );
    assert_eq!(stop, (start.attempt, StopReason::Cancelled));
    assert_eq!(server.service.get(&caller, job).await.unwrap().job.state(), JobState::Stopping);
    server.service.cancel(&caller, job).await.expect("again changes nothing");
    worker.end(&server, start.attempt, succeeded(json!(1))).await;
    assert_eq!(ended(&server, &caller, job).await, Ending::Cancelled);
    assert!(server.registrar.calls.lock().unwrap().is_empty());

    // One whose worker says nothing is over after the grace; its memory is not free yet.
    let silent = server.service.submit(&caller, request(4_000)).await.unwrap();
    let start = worker.start(&server).await;
    let next = server.service.submit(&caller, request(4_000)).await.unwrap();
    server.service.cancel(&caller, silent).await.unwrap();
    server.clock.advance(Duration::from_millis(900));
    assert_eq!(ended(&server, &caller, silent).await, Ending::Cancelled);
    assert_eq!(server.service.get(&caller, next).await.unwrap().job.state(), JobState::Queued);
    let outcome = Outcome::Stopped { reason: StopReason::Cancelled };
    worker.end(&server, start.attempt, outcome).await;
    assert_eq!(worker.start(&server).await.job, next);

    // What waits is over at once; what is over stays as it is.
    let queued = server.service.submit(&caller, request(4_000)).await.unwrap();
    server.service.cancel(&caller, queued).await.unwrap();
    assert_eq!(ended(&server, &caller, queued).await, Ending::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_retried_from_the_checkpoint_and_a_lost_worker_counts() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let caller = caller(1);
    let mut worker = Worker::join(&server).await;
    let mut request = request(512);
    request.max_attempts = 2;
    request.time_limit_ms = Some(48 * 3_600_000);
    let job = server.service.submit(&caller, request).await.unwrap();
    let start = worker.start(&server).await;
    let checkpoint = BlobHash::of(b"half way");
    worker.say(&server, start.attempt, Event::Checkpoint { blob: checkpoint }).await;
    worker.end(&server, start.attempt, Outcome::Died { exit_code: None, signal: Some(9) }).await;
    until(&server, &caller, job, JobState::BackingOff).await;
    server.clock.advance(Duration::from_secs(2));
    let again = worker.start(&server).await;
    assert_eq!((again.job, again.checkpoint), (job, Some(checkpoint)));
    assert_ne!(again.attempt, start.attempt);
    assert_eq!(again.deadline, Some(START.plus(Duration::from_secs(48 * 3_600))));

    // The worker falls silent; there is no attempt left.
    server.clock.advance(Duration::from_secs(61));
    let Ending::Failed { failure } = ended(&server, &caller, job).await else { panic!() };
    assert_eq!(failure.reason, FailureReason::WorkerLost);
    let forget = worker.hello(&server, vec![again.attempt]).await;
    assert_eq!(forget, [again.attempt], "nobody waits for it any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_limit_and_a_memory_limit_end_a_job_with_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let caller = caller(1);
    let mut worker = Worker::join(&server).await;
    let mut limited = request(512);
    limited.time_limit_ms = Some(60_000);
    let job = server.service.submit(&caller, limited).await.unwrap();
    let start = worker.start(&server).await;
    server.clock.advance(Duration::from_secs(30));
    worker.log(&server, start.attempt, "still at it").await;
    server.clock.advance(Duration::from_secs(31));
    assert_eq!(worker.stop(&server).await, (start.attempt, StopReason::TimeLimit));
    let outcome = Outcome::Stopped { reason: StopReason::TimeLimit };
    worker.end(&server, start.attempt, outcome).await;
    assert_eq!(ended(&server, &caller, job).await, Ending::TimedOut { limit_ms: 60_000 });

    let job = server.service.submit(&caller, request(512)).await.unwrap();
    let start = worker.start(&server).await;
    let outcome = Outcome::OverMemory {
        requested_bytes: 512 * MIB,
        limit_bytes: 2_048 * MIB,
        measured_bytes: 2_100 * MIB,
    };
    worker.end(&server, start.attempt, outcome).await;
    let Ending::Failed { failure } = ended(&server, &caller, job).await else { panic!() };
    assert_eq!(failure.reason, FailureReason::OverMemory);
    for number in ["512 MiB", "2.00 GiB", "2.05 GiB"] {
        assert!(failure.message.contains(number), "{}", failure.message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finish_now_is_for_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let caller = caller(1);
    let job = server.service.submit(&caller, request(512)).await.unwrap();
    let early = server.service.finish_now(&caller, job).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Conflict);
    let mut worker = Worker::join(&server).await;
    let start = worker.start(&server).await;
    server.service.finish_now(&caller, job).await.unwrap();
    assert_eq!(worker.stop(&server).await, (start.attempt, StopReason::FinishNow));
    worker.end(&server, start.attempt, succeeded(json!("best so far"))).await;
    assert!(matches!(ended(&server, &caller, job).await, Ending::Succeeded { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_are_registered_until_it_works_or_never_will() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let caller = caller(1);
    let mut worker = Worker::join(&server).await;
    server.registrar.answers.lock().unwrap().push_back(never());
    let job = server.service.submit(&caller, request(512)).await.unwrap();
    let start = worker.start(&server).await;
    worker.end(&server, start.attempt, succeeded(json!(1))).await;
    let Ending::Failed { failure } = ended(&server, &caller, job).await else { panic!() };
    assert_eq!(failure.reason, FailureReason::Completion);
    assert_eq!(failure.message, "the model file is damaged");

    // The server goes down while it is to be tried again: the next life does it.
    server.registrar.answers.lock().unwrap().push_back(later());
    let job = server.service.submit(&caller, request(512)).await.unwrap();
    let start = worker.start(&server).await;
    worker.end(&server, start.attempt, succeeded(json!(2))).await;
    until(&server, &caller, job, JobState::Completing).await;
    let late = server.service.cancel(&caller, job).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    server.service.stop().await;
    drop(server);
    let server = Server::start(dir.path());
    assert!(matches!(ended(&server, &caller, job).await, Ending::Succeeded { .. }));
    assert_eq!(server.registrar.calls.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_sees_its_own_jobs_and_a_token_does_what_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let (mine, other) = (caller(1), caller(2));
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(server.service.submit(&mine, request(1)).await.unwrap());
    }
    jobs.sort();
    jobs.reverse();
    let foreign = server.service.submit(&other, request(1)).await.unwrap();
    for error in [
        server.service.get(&mine, foreign).await.unwrap_err(),
        server.service.cancel(&mine, foreign).await.unwrap_err(),
        server.service.logs(&mine, foreign, 0, 1).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    let all = JobFilter::default();
    let first = server.service.list(&mine, &all, None, 3).await.unwrap();
    let second = server.service.list(&mine, &all, first.next, 3).await.unwrap();
    let listed: Vec<_> = first.jobs.iter().chain(&second.jobs).map(|job| job.id).collect();
    assert_eq!((listed, second.next), (jobs.clone(), None));
    server.service.cancel(&mine, jobs[0]).await.unwrap();
    let cancelled = JobFilter { states: vec![JobState::Cancelled], ..JobFilter::default() };
    let found = server.service.list(&mine, &cancelled, None, 3).await.unwrap();
    assert!(found.jobs.iter().map(|job| job.id).eq([jobs[0]]));

    let reader = Caller { scopes: Scopes::NONE.with(Scope::Read), ..mine };
    let forbidden = server.service.submit(&reader, request(1)).await.unwrap_err();
    assert_eq!(forbidden.kind(), ErrorKind::Forbidden);
    server.service.get(&reader, jobs[1]).await.expect("reading is what it may");
    let mut wrong = request(1);
    wrong.max_attempts = 0;
    assert_eq!(server.service.submit(&mine, wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
    let mut upside_down = request(100);
    upside_down.memory_limit_bytes = Some(50 * MIB);
    let refused = server.service.submit(&mine, upside_down).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_live_and_a_follower_misses_none() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let caller = caller(1);
    let mut worker = Worker::join(&server).await;
    let job = server.service.submit(&caller, request(512)).await.unwrap();
    let follower = {
        let events = server.service.events(&caller, job, 0).await.unwrap();
        let lines = server.service.follow_logs(&caller, job, 0).await.unwrap();
        tokio::spawn(async move {
            let events: Vec<_> = events.map(|event| event.unwrap()).collect().await;
            let lines: Vec<_> = lines.map(|line| line.unwrap().line).collect().await;
            (events, lines)
        })
    };
    let start = worker.start(&server).await;
    for step in 0..300 {
        let message = format!("step {step}");
        worker.log(&server, start.attempt, &message).await;
        let progress = Event::Progress { fraction: 0.1, message, detail: json!(null) };
        worker.say(&server, start.attempt, progress).await;
    }
    worker.end(&server, start.attempt, succeeded(json!(1))).await;
    let (events, lines) =
        tokio::time::timeout(PATIENCE, follower).await.expect("both streams end").unwrap();
    assert!(events.iter().map(|event| event.id).eq(1..=306));
    assert!(matches!(
        events.last().unwrap().kind,
        JobEventKind::Ended { state: JobState::Succeeded, .. }
    ));
    assert_eq!(lines, (0..300).map(|step| format!("step {step}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_story_ends_for_its_follower_while_other_jobs_write() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let caller = caller(1);
    let job = server.service.submit(&caller, request(512)).await.unwrap();
    server.service.cancel(&caller, job).await.unwrap();
    ended(&server, &caller, job).await;
    let last = server.service.get(&caller, job).await.unwrap().job.events;

    // There is always something decided that is not kept yet.
    let others = async {
        loop {
            let other = server.service.submit(&caller, request(512)).await.unwrap();
            server.service.cancel(&caller, other).await.unwrap();
        }
    };
    let followed = async {
        for _ in 0..50 {
            let events = server.service.events(&caller, job, 0).await.unwrap();
            assert_eq!(events.count().await as u64, last);
        }
    };
    let followed = tokio::time::timeout(PATIENCE, followed);
    tokio::select! {
        followed = followed => followed.expect("the story ends"),
        () = others => unreachable!("it goes on as long as it is let"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_replace_records_and_retention_removes_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let caller = caller(1);
    let clock = Arc::new(corral_types::ManualClock::at(START));
    let small = |options: &mut corral_jobs::JobsOptions| {
        options.snapshot_after_bytes = 20_000;
        options.policy.keep_ended_jobs = 3;
        options.story_limits.log_bytes = 4_000;
    };
    let server = Server::start_with(dir.path(), Arc::clone(&clock), small);
    let mut worker = Worker::join(&server).await;
    let mut jobs = Vec::new();
    for _ in 0..6 {
        let job = server.service.submit(&caller, request(512)).await.unwrap();
        let start = worker.start(&server).await;
        for line in 0..100 {
            let line = format!("line {line} {}", "x".repeat(40));
            worker.log(&server, start.attempt, &line).await;
        }
        worker.end(&server, start.attempt, succeeded(json!(1))).await;
        ended(&server, &caller, job).await;
        clock.advance(Duration::from_millis(5));
        jobs.push(job);
    }
    let snapshot = async {
        while server.service.journal().newest_snapshot().get() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, snapshot).await.expect("a snapshot is written");
    let removed = async {
        while server.service.get(&caller, jobs[2]).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, removed).await.expect("old jobs go");
    let before = server.service.list(&caller, &JobFilter::default(), None, 10).await.unwrap();
    let page = server.service.logs(&caller, jobs[5], 0, 1_000).await.unwrap();
    assert!(page.first_kept > 1, "the oldest lines were dropped, and it says so");
    assert_eq!(page.entries.first().unwrap().id, page.first_kept);
    assert_eq!(page.entries.last().unwrap().id, 100);
    server.service.stop().await;
    drop(server);

    let server = Server::start_with(dir.path(), clock, small);
    let after = server.service.list(&caller, &JobFilter::default(), None, 10).await.unwrap();
    assert_eq!(before.jobs, after.jobs);
    assert_eq!(after.jobs.len(), 3);
    let again = server.service.logs(&caller, jobs[5], 0, 1_000).await.unwrap();
    assert_eq!(page, again);
    assert_eq!(server.service.workers().await.len(), 1, "workers are remembered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_own_memory_has_a_lease_and_is_asked_back_under_pressure() {
    let dir = tempfile::tempdir().unwrap();
    let resident = Arc::new(Resident::default());
    let server = Server::start_beside(dir.path(), Arc::clone(&resident));
    let caller = caller(1);
    let mut worker = Worker::join(&server).await;
    let own = TaskId::from_u128(1);
    let claim = ResidentClaim {
        task: own,
        workspace: caller.workspace,
        worker: worker.id,
        memory_request_bytes: 1_024 * MIB,
        memory_limit_bytes: None,
    };
    server.service.claim_resident(claim).await.unwrap();
    server.service.resize_resident(own, 2_048 * MIB).await.unwrap();
    server.service.resize_resident(own, 5_000 * MIB).await.unwrap();
    let leases = resident.leases.lock().unwrap().clone();
    assert_eq!(leases, [Some(1_024 * MIB), Some(2_048 * MIB), None]);

    let cache = Reclaimable {
        worker: worker.id,
        task: own,
        kind: ReclaimableKind::MappedHeads,
        bytes: 1_024 * MIB,
        rebuild_ms: 10,
    };
    server.service.hold_reclaimable(HolderId(7), Some(cache)).await.unwrap();
    let job = server.service.submit(&caller, request(1_024)).await.unwrap();
    let start = worker.start(&server).await;
    let mut poll = worker.poll_now();
    poll.usage.free_memory_bytes = 28 * MIB;
    poll.usage.attempts =
        vec![AttemptUsage { attempt: start.attempt, memory_bytes: 3_000 * MIB, cpu_ms: 1 }];
    let reserve = corral_jobs::pressure_reserve_bytes(4_096 * MIB);
    let stop = tokio::time::timeout(PATIENCE, async {
        // First what can be rebuilt; when that does not come, the task beyond its request.
        let service = Arc::clone(&server.service);
        let first = tokio::spawn({
            let poll = poll.clone();
            async move { service.poll(&poll).await }
        });
        while resident.asked.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        server.service.hold_reclaimable(HolderId(7), None).await.unwrap();
        let second = server.service.poll(&poll).await.unwrap();
        first.await.unwrap().unwrap();
        second.commands
    });
    let commands = stop.await.expect("the attempt is stopped");
    assert_eq!(*resident.asked.lock().unwrap(), [(HolderId(7), reserve - 28 * MIB)]);
    assert!(commands.iter().any(|numbered| matches!(
        numbered.command,
        Command::Stop { attempt, reason: StopReason::MemoryPressure } if attempt == start.attempt
    )));
    let outcome = Outcome::Stopped { reason: StopReason::MemoryPressure };
    worker.end(&server, start.attempt, outcome).await;
    let Ending::Failed { failure } = ended(&server, &caller, job).await else { panic!() };
    assert_eq!(failure.reason, FailureReason::OverMemory);
    assert!(failure.message.contains("2.93 GiB") && failure.message.contains("28.0 MiB"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_leave_nothing_half_done() {
    let dir = tempfile::tempdir().unwrap();
    let caller = caller(1);
    let server = Server::start(dir.path());
    for _ in 0..100 {
        // Polled once, then dropped: decided, and nobody waits for the disk.
        let _ = server.service.submit(&caller, request(1)).now_or_never();
        tokio::task::yield_now().await;
    }
    server.service.submit(&caller, request(1)).await.unwrap();
    let list = async |server: &Server| {
        server.service.list(&caller, &JobFilter::default(), None, 500).await.unwrap().jobs
    };
    let before = list(&server).await;
    assert!(before.len() > 5, "some were decided: {}", before.len());
    server.service.stop().await;
    drop(server);
    let server = Server::start(dir.path());
    assert_eq!(list(&server).await, before);
}

/// A backup copies the journal first and the stories after it, while work goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_under_load_goes_on_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let caller = caller(1);
    let mut worker = Worker::join(&server).await;
    let job = server.service.submit(&caller, request(512)).await.unwrap();
    let start = worker.start(&server).await;
    for line in 0..50 {
        worker.log(&server, start.attempt, &format!("line {line}")).await;
    }
    let copy = tempfile::tempdir().unwrap();
    let (journal, to) = (server.service.journal().clone(), copy.path().join("journal"));
    tokio::task::spawn_blocking(move || journal.export(to)).await.unwrap().unwrap();
    for line in 50..100 {
        worker.log(&server, start.attempt, &format!("line {line}")).await;
    }
    copy_all(&dir.path().join("stories"), &copy.path().join("stories"));
    server.service.stop().await;

    let server = Server::start(copy.path());
    let page = server.service.logs(&caller, job, 0, 1_000).await.unwrap();
    assert!(page.entries.iter().map(|line| line.id).eq(1..=50), "as far as the journal knows");
    worker.hello(&server, vec![start.attempt]).await;
    // The worker sends again what this life of the server does not know.
    let event = |number: u64| AttemptEvent {
        attempt: start.attempt,
        number,
        at: START,
        event: Event::Log { stream: LogStream::Stdout, line: format!("again {number}") },
    };
    worker.tell(&server, (52..=101).map(event).collect()).await;
    let page = server.service.logs(&caller, job, 0, 1_000).await.unwrap();
    assert!(page.entries.iter().map(|line| line.id).eq(1..=100));
    assert_eq!(page.entries[50].line, "again 52");
}

fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
