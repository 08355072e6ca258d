//! Batches: rows of files and data sets answered by a job, whatever is killed meanwhile.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::support::{Corral, signal, small_dataset, wait_for};
use serde_json::{Value, json};

/// A CSV file of tickets with a number, a label of its own and a text under a name of its own.
fn write_tickets(path: &Path, rows: usize) {
    let mut csv = "ticket,label,what was said,urgent\n".to_owned();
    for (row, line) in small_dataset(rows).lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        csv += &format!("{row},mine,\"{}\",{}\n", line["text"].as_str().unwrap(), row % 2 == 0);
    }
    std::fs::write(path, csv).unwrap();
}

fn path_of(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

#[test]
fn every_row_of_a_file_comes_back_in_order_with_its_answer() {
    let corral = Corral::start();
    corral.deploy_support();
    let folder = tempfile::tempdir().unwrap();
    let input = path_of(&folder, "in.csv");
    write_tickets(Path::new(&input), 90);
    let ask = ["predict", "support", "--file", &input, "--text", "what was said", "-k", "2"];
    let out = path_of(&folder, "out.jsonl");
    let result = corral.json(&[&ask[..], &["--out", &out]].concat());
    assert_eq!((&result["rows"], &result["model_version"]), (&json!(90), &json!(1)));

    let rows: Vec<Value> = std::fs::read_to_string(&out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 90);
    let texts: Vec<&str> = rows.iter().map(|row| row["what was said"].as_str().unwrap()).collect();
    let asked = corral.json(&[&["predict", "support", "-k", "2"], &texts[..]].concat());
    for (at, row) in rows.iter().enumerate() {
        let labels = &asked["predictions"][at]["labels"];
        assert_eq!((&row["ticket"], &row["label"]), (&json!(at), &json!("mine")));
        assert_eq!(row["urgent"], json!(at % 2 == 0));
        assert_eq!(row["predicted_label"], labels[0]["id"]);
        assert_eq!(row["confidence"], labels[0]["probability"]);
        assert_eq!(row["predicted_label_2"], labels[1]["id"]);
        assert_eq!(row["confidence_2"], labels[1]["probability"]);
    }

    // The same in every other format, seen by importing it again.
    for format in ["csv", "parquet", "arrow", "xlsx"] {
        let out = path_of(&folder, &format!("out.{format}"));
        corral.run(&[&ask[..], &["--out", &out]].concat());
        let name = format!("again-{format}");
        corral.run(&["dataset", "import", &name, &out, "--text", "what was said"]);
        let head = corral.json(&["dataset", "head", &name, "-n", "90"]);
        for (row, again) in rows.iter().zip(head["rows"].as_array().unwrap()) {
            for column in ["ticket", "urgent", "predicted_label"] {
                assert_eq!(again[column], row[column], "{column} of {format}");
            }
            // A sheet has one kind of number: 1.0 is 1 there.
            for column in ["confidence", "confidence_2"] {
                assert_eq!(again[column].as_f64(), row[column].as_f64(), "{column} of {format}");
            }
        }
    }
    // Nothing is left behind: neither notes beside the files nor data sets made on the way.
    let sets = corral.json(&["dataset", "ls"]);
    let names = sets["items"].as_array().unwrap().iter().map(|set| set["name"].as_str().unwrap());
    assert!(names.into_iter().all(|name| !name.starts_with("batch-")), "{sets}");
    let files = std::fs::read_dir(folder.path()).unwrap();
    let files: Vec<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files.len(), 6, "{files:?}");
}

#[test]
fn a_data_set_becomes_one_with_answers_and_keeps_its_roles() {
    let corral = Corral::start();
    corral.deploy_support();
    let result = corral.json(&["predict", "support", "--dataset", "tickets", "--to", "answered"]);
    assert_eq!((&result["dataset"], &result["version"]), (&json!("answered"), &json!(1)));
    let (before, after) = (
        corral.json(&["dataset", "show", "tickets"]),
        corral.json(&["dataset", "show", "answered"]),
    );
    for kept in ["rows", "classes", "splits", "text_column"] {
        assert_eq!(after[kept], before[kept], "{kept}");
    }
    let columns: Vec<&str> = after["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["predicted_label", "confidence"]);
    let rows = corral.json(&["dataset", "head", "answered", "-n", "300"]);
    let rows = rows["rows"].as_array().unwrap();
    let right = rows.iter().filter(|row| row["labels"][0] == row["predicted_label"]).count();
    assert!(right > 280, "{right} of {}", rows.len());

    // What is wrong is said before any work, with what to do.
    let (code, said) =
        corral.fails(&["predict", "support", "--dataset", "tickets", "--to", "answered"]);
    assert_eq!(code, 5, "{said}");
    let (code, said) =
        corral.fails(&["predict", "support", "--dataset", "answered", "--to", "twice"]);
    assert_eq!(code, 2);
    assert!(said.contains("`predicted_label`") && said.contains("--column-prefix"), "{said}");
    let twice = ["predict", "support", "--dataset", "answered", "--to", "twice"];
    corral.run(&[&twice[..], &["--column-prefix", "new_"]].concat());
    let rows = corral.json(&["dataset", "head", "twice", "-n", "1"]);
    assert_eq!(rows["rows"][0]["new_confidence"], rows["rows"][0]["confidence"]);
}

#[test]
fn what_cannot_be_is_said_clearly() {
    let corral = Corral::start();
    corral.deploy_support();
    let folder = tempfile::tempdir().unwrap();
    let input = path_of(&folder, "in.csv");
    write_tickets(Path::new(&input), 9);
    let out = path_of(&folder, "out.csv");
    let check = |endpoint: &str, arguments: &[&str], code: i32, parts: &[&str]| {
        let (found, said) = corral.fails(&[&["predict", endpoint], arguments].concat());
        assert!(parts.iter().all(|part| said.contains(part)), "{arguments:?} said {said}");
        assert_eq!(found, code, "{said}");
    };
    let file = ["--file", &input, "--text", "what was said", "--out"];
    let with = |last: &'static str| [&file[..], &[last]].concat();
    // No column that looks like a text.
    check("support", &["--file", &input, "--out", &out], 2, &["text column", "ticket"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no note is left");
    check("suport", &[&file[..], &[&out]].concat(), 4, &["suport", "support"]);
    check("support/7", &[&file[..], &[&out]].concat(), 4, &["7"]);
    check("support", &with("out.pickle"), 2, &["`.pickle`", ".parquet"]);
    check("support", &with("out"), 2, &["no suffix"]);
    check("support", &with("/no/such/folder/out.csv"), 2, &["cannot be written", "folder"]);
    check("support", &["--file", "/no/such.csv", "--out", &out], 4, &["/no/such.csv"]);
    check("support", &["--file", &input], 2, &["--out", "--to"]);
    check("support", &["--out", &out], 2, &["--file", "--dataset"]);
    check("support", &["--dataset", "none", "--out", &out], 4, &["none"]);
    let prefixed = [&file[..], &[&out, "--prefix", "zzz"]].concat();
    check("support", &prefixed, 2, &["zzz"]);

    // A job asks one version: where several share the requests, one has to be named.
    corral.run(&["deploy", "support", "--name", "support"]);
    corral.run(&["endpoint", "traffic", "support", "1=50", "2=50"]);
    check("support", &[&file[..], &[&out]].concat(), 5, &["share its requests", "support/1"]);
    let result = corral.json(&[&["predict", "support/2"], &file[..], &[&out]].concat());
    assert_eq!(result["endpoint_version"], 2);
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 2, "a batch that fails leaves no note");
}

#[test]
fn a_batch_goes_on_whatever_is_killed_and_loses_and_doubles_no_row() {
    const ROWS: usize = 400_000;
    let corral = Corral::start();
    corral.deploy_support();
    let folder = tempfile::tempdir().unwrap();
    let input = path_of(&folder, "in.csv");
    write_tickets(Path::new(&input), ROWS);
    let (whole, killed) = (path_of(&folder, "whole.csv"), path_of(&folder, "killed.csv"));
    let ask =
        ["predict", "support", "--file", &input, "--text", "what was said", "--json", "--out"];
    let undisturbed: Value =
        serde_json::from_str(&corral.run(&[&ask[..], &[&whole]].concat())).unwrap();
    assert_eq!(undisturbed["resumed_from"], 0);

    let arguments = [&ask[..], &[&killed]].concat();
    let mut command = corral.command(&arguments).stderr(Stdio::null()).spawn().unwrap();
    let job = wait_for("the job to run", || {
        let jobs = corral.json(&["job", "ls", "--state", "running"]);
        Some(jobs["items"][0]["id"].as_str()?.to_owned())
    });
    let mut events =
        corral.command(&["job", "events", &job]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    let kept = lines.find(|line| line.as_ref().unwrap().contains("\"event\":\"checkpoint\""));
    assert!(kept.is_some(), "it ended before a checkpoint; give it more rows");
    for process in
        [command.id(), corral.processes("server")[0], corral.processes("worker")[0], events.id()]
    {
        signal(process, "KILL");
    }
    command.wait().unwrap();
    events.wait().unwrap();
    // The same command goes on with the same job.
    let result: Value = serde_json::from_str(&corral.run(&arguments)).unwrap();
    assert_eq!(result["job"], json!(job));
    assert!(result["resumed_from"].as_u64().unwrap() > 0, "{result}");
    assert_eq!(result["rows"], ROWS);
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&killed).unwrap());
}
