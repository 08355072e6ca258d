//! Jobs on real processes: limits, cancel, checkpoints, and what each process's death does.

use crate::support::{Corral, is_alive, signal, wait_for};
use serde_json::Value;

fn probe(corral: &Corral, arguments: &[&str]) -> String {
    let arguments = [&["job", "probe"], arguments].concat();
    corral.json(&arguments)["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_job_over_its_limit_is_stopped_alone_with_its_numbers() {
    let corral = Corral::start();
    let calm = probe(&corral, &["--steps", "40", "--step-ms", "100"]);
    let greedy =
        probe(&corral, &["--allocate", "400MiB", "--memory", "64MiB", "--memory-limit", "128MiB"]);
    let failed = corral.wait_for_job(&greedy, &["failed", "succeeded"]);
    assert_eq!(failed["state"], "failed");
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.contains("128 MiB") && message.contains("64.0 MiB"), "{message}");
    let done = corral.wait_for_job(&calm, &["succeeded", "failed", "cancelled"]);
    assert_eq!(done["state"], "succeeded");
}

#[test]
fn what_never_fits_is_refused_and_what_does_not_fit_together_takes_turns() {
    let corral = Corral::start_with(&["--memory", "2GiB", "--memory-reserve", "256MiB"]);
    wait_for("the worker", || {
        let workers = corral.json(&["worker", "ls"]);
        workers["items"].as_array().unwrap().first().cloned()
    });
    let (code, said) = corral.fails(&["job", "probe", "--memory", "4GiB"]);
    assert_ne!(code, 0);
    assert!(said.contains("4.00 GiB") && said.contains("GiB of memory"), "{said}");

    let big = ["--memory", "1GiB", "--steps", "15", "--step-ms", "100"];
    let (first, second) = (probe(&corral, &big), probe(&corral, &big));
    let mut both_at_once = false;
    wait_for("both to end", || {
        // One answer tells of both: between two, the one may end and the other begin.
        let jobs = corral.json(&["job", "ls"]);
        let in_state = |state: &str| {
            let own = |job: &&Value| job["id"] == first.as_str() || job["id"] == second.as_str();
            let items = jobs["items"].as_array().unwrap();
            items.iter().filter(own).filter(|job| job["state"] == state).count()
        };
        both_at_once |= in_state("running") == 2;
        (in_state("succeeded") == 2).then_some(())
    });
    assert!(!both_at_once, "1.75 GiB do not hold two jobs of 1 GiB");
}

#[test]
fn a_cancelled_job_ends_within_a_second_and_its_process_is_gone() {
    let corral = Corral::start();
    let job = probe(&corral, &["--steps", "1000", "--step-ms", "100"]);
    corral.wait_for_job(&job, &["running"]);
    let process = corral.processes("job-process");
    assert_eq!(process.len(), 1);
    corral.run(&["job", "cancel", &job]);
    let begun = std::time::Instant::now();
    corral.wait_for_job(&job, &["cancelled"]);
    wait_for("the process to end", || (!is_alive(process[0])).then_some(()));
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    let events = corral.run(&["job", "events", &job]);
    assert!(events.lines().last().unwrap().contains("cancelled"), "{events}");
}

#[test]
fn a_time_limit_holds() {
    let corral = Corral::start();
    let job = probe(&corral, &["--steps", "1000", "--step-ms", "100", "--time-limit", "2s"]);
    let ended = corral.wait_for_job(&job, &["timed_out", "succeeded", "failed"]);
    assert_eq!(ended["state"], "timed_out");
}

#[test]
fn jobs_outlive_the_server_and_go_on_from_checkpoints_after_the_worker() {
    let corral = Corral::start();
    let job = probe(&corral, &["--steps", "60", "--step-ms", "100"]);
    corral.wait_for_job(&job, &["running"]);
    let process = corral.processes("job-process")[0];
    let server = corral.processes("server")[0];
    signal(server, "KILL");
    wait_for("a new server", || {
        corral.processes("server").first().copied().filter(|new| *new != server)
    });
    // The command waits in the socket's queue until the new server answers.
    let detail = corral.json(&["job", "show", &job]);
    assert_eq!(detail["attempts"], 1, "{detail}");
    assert!(is_alive(process), "the job's process outlives the server");

    // The worker's death ends the attempt; the next goes on from a checkpoint.
    wait_for("a step to be kept", || {
        let events = corral.json(&["job", "show", &job])["progress"].as_f64().unwrap();
        (events > 0.1).then_some(())
    });
    signal(corral.processes("worker")[0], "KILL");
    wait_for("the job's process to end", || (!is_alive(process)).then_some(()));
    let done = corral.wait_for_job(&job, &["succeeded", "failed"]);
    assert_eq!(done["state"], "succeeded", "{done}");
    assert_eq!(done["attempts"], 2);
    let resumed = done["result"]["resumed_from"].as_u64();
    assert!(resumed.is_some_and(|step| step > 0), "it went on from a checkpoint: {done}");
}

#[test]
fn a_second_worker_joins_over_the_network_and_runs_jobs() {
    // The first worker is too small for the job, so it runs on the one that joins.
    let corral = Corral::start_with(&["--memory", "700MiB", "--memory-reserve", "500MiB"]);
    let scratch = tempfile::tempdir().unwrap();
    let mut joined = corral
        .command(&["worker", "--join", &corral.url, "--memory", "3GiB", "--data-dir"])
        .arg(scratch.path().join("second"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for("two workers", || {
        let workers = corral.json(&["worker", "ls"]);
        let connected = workers["items"].as_array().unwrap().iter();
        (connected.filter(|worker| worker["state"] == "connected").count() == 2).then_some(())
    });
    let file = scratch.path().join("rows.jsonl");
    std::fs::write(&file, crate::support::small_dataset(120)).unwrap();
    corral.run(&["dataset", "import", "tickets", &file.display().to_string()]);
    let trained = corral.json(&[
        "train",
        "support",
        "--dataset",
        "tickets",
        "--memory",
        "900MiB",
        "--trials",
        "6",
        "--wait",
    ]);
    assert_eq!(trained["version"], 1);
    corral.run(&["deploy", "support", "--name", "support"]);
    let answer = corral.json(&["predict", "support", "credit card declined"]);
    assert_eq!(answer["predictions"][0]["labels"][0]["id"], "billing");
    signal(joined.id(), "TERM");
    assert!(joined.wait().unwrap().success());
}
