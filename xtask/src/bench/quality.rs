//! What the default search is worth on public data.
//!
//! Without `--final`, by cross-validation on rows to learn from: what settings may be chosen by.
//! With it, on the test split, which nothing else scores; every such score goes into
//! `bench/results/final-scores.csv` with its commit and seed.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::peers::python;
use super::report::Figure;
use super::{Selection, data, example, installed_encoder, json_of, machine, number, root};

/// Which rows are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scored {
    HeldOut,
    TestSplit,
}

/// A set as it is trained on, and what its score is to reach.
struct Task {
    name: &'static str,
    arguments: &'static [&'static str],
    seeds: u64,
    asked: &'static str,
}

const TASKS: &[Task] = &[
    Task { name: "banking77", arguments: &[], seeds: 3, asked: "≥ 94.0" },
    Task {
        name: "banking77, 5 rows a class and texts",
        arguments: &["--shots", "5", "--unlabelled"],
        seeds: 5,
        asked: "≥ 84",
    },
    Task {
        name: "banking77, 10 rows a class and texts",
        arguments: &["--shots", "10", "--unlabelled"],
        seeds: 5,
        asked: "≥ 88",
    },
    Task {
        name: "banking77, 5 rows a class",
        arguments: &["--shots", "5"],
        seeds: 5,
        asked: "≥ 81",
    },
    Task {
        name: "banking77, 10 rows a class",
        arguments: &["--shots", "10"],
        seeds: 5,
        asked: "≥ 85.5",
    },
    Task { name: "clinc150", arguments: &[], seeds: 3, asked: "≥ 96.3" },
    Task { name: "clinc150_oos", arguments: &[], seeds: 3, asked: "" },
    Task { name: "trec", arguments: &[], seeds: 3, asked: "≥ 95.0" },
    Task { name: "ag_news", arguments: &[], seeds: 3, asked: "≥ 91.0" },
    Task { name: "onet", arguments: &[], seeds: 3, asked: "" },
    Task { name: "banking77, no label", arguments: &["--names-only"], seeds: 3, asked: "≥ 72" },
    Task { name: "clinc150, no label", arguments: &["--names-only"], seeds: 3, asked: "≥ 84" },
    Task { name: "ag_news, no label", arguments: &["--names-only"], seeds: 3, asked: "≥ 85" },
];

/// What refusals are to reach on CLINC150.
const IN_SCOPE_ASKED: &str = "≥ 94.8";
const REFUSED_ASKED: &str = "≥ 75";

/// The log of scores on test splits.
const LOG: &str = "bench/results/final-scores.csv";

pub fn run(scored: Scored, selection: &Selection) -> anyhow::Result<Vec<Figure>> {
    let program = example("corral-training", "quality", "")?;
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    let encoder = installed_encoder(scratch.path())?;
    let mut figures = Vec::new();
    for task in TASKS.iter().filter(|task| selection.has(task.name)) {
        let (mut accuracy, mut ece, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
        let (mut top_5, mut peaks) = (Vec::new(), Vec::new());
        let (mut with_refusals, mut refused) = (Vec::new(), Vec::new());
        for seed in 0..task.seeds {
            let told = train(&program, &encoder, task, seed, scored)?;
            let scores = match scored {
                Scored::HeldOut => &told["cv"],
                Scored::TestSplit => &told["test"],
            };
            accuracy.push(100.0 * number(scores, "accuracy")?);
            top_5.push(100.0 * number(scores, "top_5")?);
            ece.push(100.0 * number(scores, "ece")?);
            seconds.push(number(&told, "wall_seconds")?);
            peaks.push(number(&told, "peak_memory_bytes")? / f64::from(1 << 20));
            let rows = match scored {
                Scored::HeldOut => "held_out",
                Scored::TestSplit => "test",
            };
            if let Some(refusals) = told["refusals"].get(rows) {
                with_refusals.push(100.0 * number(refusals, "accuracy")?);
                refused.push(100.0 * number(refusals, "refused_none")?);
            }
            if scored == Scored::TestSplit {
                log(task, seed, scores)?;
            }
        }
        let asked = match scored {
            Scored::HeldOut => "",
            Scored::TestSplit => task.asked,
        };
        let note = match scored {
            Scored::HeldOut => {
                "cross-validated, default command; agreement where no row has a label"
            }
            Scored::TestSplit => "test split, default command",
        };
        let note = format!("{note}; {} seeds; commit {}", task.seeds, machine::commit());
        let figure = |what: &str, asked: &str, unit: &str, values| {
            Figure::new(format!("{}: {what}", task.name), asked, unit, values, note.clone())
        };
        if task.name == "onet" && scored == Scored::TestSplit {
            let peer = onet_peer(scratch.path())?;
            for (what, key, ours, asked) in
                [("accuracy", "top_1", &accuracy, "≥ 5.5"), ("top 5", "top_5", &top_5, "≥ 2.5")]
            {
                let theirs = number(&peer, key)?;
                let gains = ours.iter().map(|ours| ours - theirs).collect();
                figures.push(figure(&format!("{what} above LinearSVC's"), asked, "points", gains));
                figures.push(figure(&format!("{what} of LinearSVC"), "", "%", vec![theirs]));
            }
        }
        figures.push(figure("accuracy", asked, "%", accuracy));
        if !refused.is_empty() {
            let asked = |asked: &'static str| match scored {
                Scored::HeldOut => "",
                Scored::TestSplit => asked,
            };
            // Threshold by the split valid alone, detector by that of train.
            let what = "accuracy in scope, refused ones being errors";
            figures.push(figure(what, asked(IN_SCOPE_ASKED), "%", with_refusals));
            figures.push(figure("rows of no class refused", asked(REFUSED_ASKED), "%", refused));
        }
        figures.push(figure("calibration error", "≤ 3", "%", ece));
        figures.push(figure("time", "", "s", seconds));
        figures.push(figure("peak memory", "", "MiB", peaks));
    }
    Ok(figures)
}

/// What scikit-learn's TF-IDF and linear SVM reach on the same split of O*NET.
fn onet_peer(scratch: &Path) -> anyhow::Result<Value> {
    let rows = scratch.join("onet");
    let mut export = Command::new(example("corral-training", "onet_rows", "")?);
    let exported = export.arg(&rows).env("CORRAL_TEST_DATA", data()?).status()?;
    anyhow::ensure!(exported.success(), "the rows of O*NET could not be written");
    let script = root().join("bench/peers/sklearn_onet.py");
    json_of(Command::new(python()?).arg(script).arg(&rows))
}

fn train(
    program: &Path,
    encoder: &Path,
    task: &Task,
    seed: u64,
    scored: Scored,
) -> anyhow::Result<Value> {
    let set = task.name.split(',').next().unwrap_or(task.name);
    let mut command = Command::new(program);
    command.args([set, "--json", "--seed", &seed.to_string()]).args(task.arguments);
    if scored == Scored::TestSplit {
        command.arg("--final");
    }
    command.env("CORRAL_ENCODER", encoder).env("CORRAL_TEST_DATA", data()?);
    json_of(&mut command).with_context(|| format!("{} with seed {seed}", task.name))
}

/// Adds a score to the log.
fn log(task: &Task, seed: u64, scores: &Value) -> anyhow::Result<()> {
    let path = root().join(LOG);
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    if is_new {
        writeln!(file, "date,commit,task,seed,accuracy,top_5,ece")?;
    }
    let score = |key: &str| number(scores, key).map(|value| format!("{:.2}", 100.0 * value));
    writeln!(
        file,
        "{},{},\"{}\",{seed},{},{},{}",
        machine::today(),
        machine::commit(),
        task.name,
        score("accuracy")?,
        score("top_5")?,
        score("ece")?
    )?;
    Ok(())
}
