//! Labeling functions, their statistics and label models, against Snorkel on the same rows; and
//! what a model learns from labels that functions made.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::peers::python_with;
use super::report::Figure;
use super::server::Server;
use super::{Selection, data, example, json_of, number, root};

/// How often what takes seconds is measured; Snorkel takes a good part of a minute.
const ROUNDS: usize = 3;

pub fn run(selection: &Selection) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if selection.has("speed") {
        figures.extend(speed()?);
    }
    if selection.has("size") {
        figures.extend(size()?);
    }
    if selection.has("end") {
        figures.extend(end_models()?);
    }
    Ok(figures)
}

fn speed() -> anyhow::Result<Vec<Figure>> {
    let program = example("corral-labeling", "labeling_speed", "test-support")?;
    let python = python_with("bench-snorkel", "snorkel.txt")?;
    let script = root().join("bench/peers/labeling.py");
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    let ours = |part: &str| json_of(Command::new(&program).arg(part).arg(scratch.path()));
    let theirs =
        |part: &str| json_of(Command::new(&python).arg(&script).arg(part).arg(scratch.path()));
    ours("make")?;
    let (mut apply, mut statistics, mut fitting) = (Vec::new(), Vec::new(), Vec::new());
    let (mut accuracy, mut their_accuracy) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (mine, peer) = (ours("apply")?, theirs("apply")?);
        ensure!(mine["votes"] == peer["votes"], "votes differ: {mine} and {peer}");
        apply.push(number(&peer, "seconds")? / number(&mine, "seconds")?);
        let (mine, peer) = (ours("models")?, theirs("models")?);
        let ratio = |key: &str| anyhow::Ok(number(&peer, key)? / number(&mine, key)?);
        statistics.push(ratio("statistics_seconds")?);
        fitting.push(ratio("fit_predict_seconds")?);
        accuracy.push(100.0 * number(&mine, "accuracy")?);
        their_accuracy.push(100.0 * number(&peer, "accuracy")?);
    }
    let edit = ours("edit")?;
    let list = |key: &str| -> Vec<f64> {
        edit[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
    };
    let peer = "Snorkel 0.10's CPU time over ours, one thread each, alternating";
    let figure = |what: &str, asked: &str, unit: &str, values, note: &str| {
        Figure::new(what, asked, unit, values, note)
    };
    let edited = "1,000,000 texts of 100 bytes, 50 functions, one edited expression, 2 cores";
    Ok(vec![
        figure(
            "10 functions over 100,000 texts, against PandasLFApplier",
            "≥ 150",
            "times",
            apply,
            &format!("{peer}; compiling included; the same votes"),
        ),
        figure(
            "statistics of 50 functions with gold, 100,000 rows, against LFAnalysis",
            "≥ 100",
            "times",
            statistics,
            peer,
        ),
        figure(
            "moment-based model fitted and asked, 100,000 × 50, against LabelModel",
            "≥ 25",
            "times",
            fitting,
            &format!("{peer}; 500 epochs"),
        ),
        figure("rows that it labels right", "no worse", "%", accuracy, "planted votes"),
        figure("rows that LabelModel labels right", "", "%", their_accuracy, "the same votes"),
        figure("an edit's first statistics", "≤ 60", "ms", list("first_ms"), edited),
        figure("an edit's exact statistics", "≤ 300", "ms", list("exact_ms"), edited),
    ])
}

fn size() -> anyhow::Result<Vec<Figure>> {
    let program = example("corral-labeling", "labeling_speed", "test-support")?;
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    let ours = |part: &str| json_of(Command::new(&program).arg(part).arg(scratch.path()));
    let sparse = ours("sparse")?;
    let mut figures = Vec::new();
    let evidence = number(&sparse, "evidence_seconds")?;
    for method in ["majority", "weighted", "dawid_skene", "moments", "triplets"] {
        let seconds = evidence + number(&sparse[method], "seconds")?;
        let accuracy = 100.0 * number(&sparse[method], "accuracy")?;
        figures.push(Figure::new(
            format!("1,000 functions × 100 classes × 1,000,000 rows: {method} fitted"),
            "≤ 60",
            "s",
            vec![seconds],
            format!("10 votes a row, counting included; {accuracy:.1} % right"),
        ));
    }
    figures.push(Figure::new(
        "memory at most, with all of them fitted one after the other",
        "≤ 2,048",
        "MiB",
        vec![number(&sparse, "peak_bytes")? / f64::from(1 << 20)],
        "the whole process",
    ));
    let stream = ours("stream")?;
    figures.push(Figure::new(
        "10 functions over 4 GiB of text",
        "≥ 150",
        "MB/s",
        vec![number(&stream, "mb_per_s")?],
        "2 cores, parts mapped one after the other",
    ));
    figures.push(Figure::new(
        "memory beside the mapped text",
        "≤ 512",
        "MiB",
        vec![number(&stream, "anonymous_bytes")? / f64::from(1 << 20)],
        "the process's anonymous memory after it",
    ));
    Ok(figures)
}

/// What a model learns from labels made by functions, on test splits.
fn end_models() -> anyhow::Result<Vec<Figure>> {
    let server = Server::start()?;
    server.corral(&["encoder", "install"])?;
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    let mut figures = Vec::new();
    for (set, asked, asked_with_gold) in
        [("wrench_youtube", "≥ 91.5", "≥ 95"), ("wrench_trec", "≥ 60", "")]
    {
        for gold in [false, true] {
            let name = if gold { format!("{set}-gold") } else { set.to_owned() };
            let functions = given_votes(set, &name, gold, scratch.path())?;
            let (accuracy, note) = labeled(&server, &name, &functions, scratch.path())?;
            let what = if gold { "with the valid rows as gold" } else { "from the votes alone" };
            let asked = if gold { asked_with_gold } else { asked };
            figures.push(Figure::new(
                format!("{set}, end model {what}"),
                asked,
                "%",
                vec![accuracy],
                note,
            ));
        }
    }
    figures.push(ag_news(&server, scratch.path())?);
    Ok(figures)
}

/// Writes a set of WRENCH with its votes as a column, and the functions that give them.
fn given_votes(set: &str, name: &str, gold: bool, scratch: &Path) -> anyhow::Result<String> {
    let folder = data()?.join(set);
    let mut functions = 0;
    for split in ["train", "valid", "test"] {
        let text = std::fs::read_to_string(folder.join(format!("{split}.jsonl")))?;
        let mut rows = String::new();
        for line in text.lines() {
            let row: Value = serde_json::from_str(line)?;
            functions = row["weak_labels"].as_array().map_or(0, Vec::len);
            let mut written = json!({"text": row["text"], "weak": row["weak_labels"].to_string()});
            if split == "test" || (split == "valid" && gold) {
                written["label"] = format!("class {}", row["label"]).into();
            }
            writeln!(rows, "{written}").expect("a string takes all");
        }
        std::fs::write(scratch.join(format!("{name}-{split}.jsonl")), rows)?;
    }
    let classes: BTreeMap<String, String> =
        (0..6).map(|class| (class.to_string(), format!("class {class}"))).collect();
    let definitions: Vec<Value> = (0..functions)
        .map(|at| {
            json!({"name": format!("f{at}"), "kind": "given", "column": "weak", "at": at,
                   "votes": classes})
        })
        .collect();
    Ok(Value::from(definitions).to_string())
}

/// Imports the splits, labels and trains; the accuracy on the test split and how it came about.
fn labeled(
    server: &Server,
    name: &str,
    functions: &str,
    scratch: &Path,
) -> anyhow::Result<(f64, String)> {
    let dataset = name.replace('_', "-");
    let mut import = vec!["dataset".to_owned(), "import".to_owned(), dataset.clone()];
    for split in ["train", "valid", "test"] {
        let path = scratch.join(format!("{name}-{split}.jsonl"));
        if path.exists() {
            import.push(format!("{split}={}", path.display()));
        }
    }
    server.corral(&import.iter().map(String::as_str).collect::<Vec<_>>())?;
    let file = scratch.join(format!("{name}.yaml"));
    std::fs::write(&file, functions)?;
    server.corral(&["lf", "import", &file.display().to_string(), "--dataset", &dataset])?;
    let told = json_of(&mut server.command(&[
        "label",
        "run",
        "--dataset",
        &dataset,
        "--train",
        "--json",
    ]))?;
    let accuracy = number(&told["train"]["test"], "accuracy")?;
    let reason = told["labels"]["reason"].as_str().context("a reason")?;
    Ok((100.0 * accuracy, format!("test split, default command; {reason}")))
}

fn ag_news(server: &Server, scratch: &Path) -> anyhow::Result<Figure> {
    let folder = data()?.join("ag_news");
    for split in ["train", "test"] {
        let text = std::fs::read_to_string(folder.join(format!("{split}.jsonl")))?;
        let mut rows = String::new();
        for line in text.lines() {
            let row: Value = serde_json::from_str(line)?;
            let mut written = json!({"text": row["text"]});
            if split == "test" {
                written["label"] = match &row["label"] {
                    Value::Number(number) => {
                        let names = ["World", "Sports", "Business", "Sci/Tech"];
                        names[number.as_u64().unwrap_or(0) as usize].into()
                    }
                    other => other.clone(),
                };
            }
            writeln!(rows, "{written}").expect("a string takes all");
        }
        std::fs::write(scratch.join(format!("ag_news-{split}.jsonl")), rows)?;
    }
    let functions = std::fs::read_to_string(root().join("bench/labeling/ag_news.yaml"))?;
    let (accuracy, note) = labeled(server, "ag_news", &functions, scratch)?;
    let note = format!("official test; functions written from the class names alone; {note}");
    Ok(Figure::new("AG News, end model", "≥ 85", "%", vec![accuracy], note))
}
