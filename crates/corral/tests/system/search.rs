//! A search whose processes are killed at random makes the model that it makes undisturbed.
//!
//! `CORRAL_SEARCH_KILLS` says how many kills at most (6 when absent), `CORRAL_SEED` repeats an
//! order of kills.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::support::{Corral, PATIENCE, Random, number, signal};

/// Sentences of words that mostly belong to their class, of which there are eight.
fn corpus(rows: usize) -> String {
    let mut random = Random(7);
    let mut text = String::new();
    for row in 0..rows {
        let class = row % 8;
        let mut words = String::new();
        for _ in 0..5 + random.below(6) {
            let word = random.below(40);
            let of_class = random.below(3) == 0;
            let stem = if of_class { format!("topic{class}") } else { "any".to_owned() };
            write!(words, "{stem}{word} ").unwrap();
        }
        writeln!(text, "{{\"text\":\"{}\",\"label\":\"class {class}\"}}", words.trim()).unwrap();
    }
    text
}

#[test]
fn a_killed_search_makes_the_same_bytes() {
    let kills = number("CORRAL_SEARCH_KILLS").unwrap_or(6);
    let seed = number("CORRAL_SEED").unwrap_or(20_261_121);
    println!("{kills} kills, seed {seed}");
    let mut random = Random(seed);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("rows.jsonl");
    std::fs::write(&file, corpus(6000)).unwrap();

    let corral = Corral::start();
    corral.run(&["dataset", "import", "rows", file.to_str().unwrap()]);
    let train = ["train", "m", "--dataset", "rows", "--encoder", "none", "--trials", "30"];
    let submit = || corral.json(&train)["id"].as_str().unwrap().to_owned();
    let ended = ["succeeded", "failed", "cancelled", "timed_out"];
    let calm = corral.wait_for_job(&submit(), &ended);
    assert_eq!(calm["state"], "succeeded", "{calm}");

    let struck = submit();
    let begun = Instant::now();
    let mut done = 0;
    let state = loop {
        // A server that was just killed cannot be asked.
        let told = corral.command(&["job", "show", &struck, "--json"]).output().unwrap();
        let detail: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
        let state = detail["state"].as_str().unwrap_or_default().to_owned();
        if ended.contains(&state.as_str()) {
            break state;
        }
        assert!(begun.elapsed() < 5 * PATIENCE, "the search is {state} after {done} kills");
        std::thread::sleep(Duration::from_millis(100 + random.below(2500)));
        let role = ["job-process", "job-process", "worker", "launcher", "server"]
            [random.below(5) as usize];
        if done < kills
            && let Some(victim) = corral.processes(role).first()
        {
            signal(*victim, "KILL");
            done += 1;
        }
    };
    assert_eq!(state, "succeeded");
    println!("{done} kills in {:?}", begun.elapsed());
    assert!(done > 1, "the search was over before it was disturbed");
    let hash_of = |version: &str| corral.json(&["model", "show", version])["hash"].to_string();
    assert_eq!(hash_of("m@1"), hash_of("m@2"));
}
