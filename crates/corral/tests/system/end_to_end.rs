//! A person's way through Corral by the command line, on real processes: from a file to an
//! answer, and what is said when something is wrong.

use crate::support::{Corral, small_dataset, wait_for};
use serde_json::{Value, json};

/// Writes a small data set and gives its path.
fn write_dataset(folder: &std::path::Path, rows: usize) -> String {
    let path = folder.join("tickets.jsonl");
    std::fs::write(&path, small_dataset(rows)).unwrap();
    path.display().to_string()
}

#[test]
fn a_file_becomes_an_endpoint_that_answers() {
    let corral = Corral::start();
    let folder = tempfile::tempdir().unwrap();
    let file = write_dataset(folder.path(), 600);

    let imported = corral.json(&["dataset", "import", "tickets", &file]);
    assert_eq!(imported["dataset"]["rows"], 600);
    assert_eq!(imported["dataset"]["classes"]["billing"], 200);
    assert_eq!(imported["dataset"]["splits"].as_array().unwrap().len(), 2);

    let train = ["train", "support", "--dataset", "tickets", "--wait"];
    let search = [&train[..], &["--trials", "12"]].concat();
    let trained = corral.json(&search);
    assert_eq!((&trained["model"], &trained["version"]), (&json!("support"), &json!(1)));
    assert!(trained["test"]["accuracy"].as_f64().unwrap() > 0.95, "{trained}");
    for metric in ["macro_f1", "top_5", "ece"] {
        assert!(trained["test"][metric].is_number() && trained["cv"][metric].is_number());
    }
    let job = trained["job"].as_str().unwrap();
    let runs = corral.json(&["run", "ls", "--job", job, "--sort", "accuracy"]);
    assert!(runs["items"].as_array().unwrap().len() >= 2);
    assert_eq!(runs["items"][0]["status"], "FINISHED");
    let csv = corral.run(&["run", "ls", "--job", job, "--csv"]);
    assert!(csv.lines().next().unwrap().contains("learner.kind"), "{csv}");
    assert_eq!(csv.lines().count(), 1 + runs["items"].as_array().unwrap().len());
    let compared = corral.run(&["run", "compare", "--job", job, "1", "2"]);
    assert!(compared.contains("accuracy") || compared.contains("name"), "{compared}");
    assert_eq!(corral.json(&["run", "show", "--job", job, "2"])["run"], 2);

    corral.run(&["deploy", "support", "--name", "support"]);
    let question = "my parcel was lost on the way";
    let answer = corral.json(&["predict", "support", question, "-k", "3"]);
    let labels = answer["predictions"][0]["labels"].as_array().unwrap();
    assert_eq!(labels[0]["id"], "shipping");
    assert_eq!(labels.len(), 3);
    let sum: f64 = labels.iter().map(|label| label["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-3, "three classes' probabilities sum to {sum}");

    // What training found out, for machines, people and browsers.
    let report = corral.json(&["model", "report", "support"]);
    assert!(report["findings"]["reliability"].as_array().unwrap().len() == 15);
    assert!(corral.run(&["model", "report", "support@1"]).contains("cross-valid."));
    let page = folder.path().join("support.html");
    corral.run(&["model", "report", "support", "--html", &page.display().to_string()]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg"));

    // The same file answers alike without a server.
    let exported = folder.path().join("support.corral").display().to_string();
    corral.run(&["model", "export", "support", "-o", &exported]);
    let here = corral.json(&["predict", "--model", &exported, question, "-k", "3"]);
    assert_eq!(here["predictions"], answer["predictions"]);

    // And so does its import under another name.
    corral.run(&["model", "import", "copy", &exported]);
    corral.run(&["deploy", "copy@1", "--name", "copy"]);
    let copy = corral.json(&["predict", "copy", question, "-k", "3"]);
    assert_eq!(copy["predictions"], answer["predictions"]);

    // The same seed makes the same model, and so do the candidates that it was chosen among.
    let again = corral.json(&search);
    assert_eq!(again["version"], 2);
    let hash = |name: &str| corral.json(&["model", "show", name])["hash"].clone();
    assert_eq!(hash("support@2"), hash("support@1"), "{again}");
    let replayed = corral.json(&[&train[..], &["--replay", "support@1"]].concat());
    assert_eq!(hash("support@3"), hash("support@1"), "{replayed}");

    let exported = corral.run(&["dataset", "export", "tickets"]);
    assert_eq!(exported.lines().count(), 600);
    let row: Value = serde_json::from_str(exported.lines().next().unwrap()).unwrap();
    assert_eq!(row["label"], "billing");
    assert!(corral.stop().success());
}

#[test]
fn weights_and_shares_reach_training_and_come_back() {
    let corral = Corral::start();
    let folder = tempfile::tempdir().unwrap();
    // Of each row one copy is sure and counts, one is wrong and does not, one is unsure.
    let mut file = String::new();
    for line in small_dataset(300).lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let (text, label, split) = (&row["text"], row["label"].as_str().unwrap(), &row["split"]);
        let other = if label == "billing" { "shipping" } else { "billing" };
        let likely = json!({label: 0.75, other: 0.25});
        for (label, weight) in
            [(json!(label), json!(2)), (json!(other), json!(0)), (likely, json!(null))]
        {
            let row = json!({"text": text, "label": label, "split": split, "trust": weight});
            file += &format!("{row}\n");
        }
    }
    let path = folder.path().join("tickets.jsonl").display().to_string();
    std::fs::write(&path, file).unwrap();
    let imported = corral.json(&["dataset", "import", "tickets", &path, "--weight", "trust"]);
    let set = &imported["dataset"];
    assert_eq!((&set["rows"], &set["weighted_rows"]), (&json!(900), &json!(600)));
    assert_eq!((&set["weightless_rows"], &set["probabilistic_rows"]), (&json!(300), &json!(300)));
    let shown = corral.run(&["dataset", "show", "tickets"]);
    assert!(shown.contains("on 600 rows, 0 on 300"), "{shown}");
    let rows = corral.json(&["dataset", "head", "tickets", "-n", "3"]);
    assert_eq!(rows["rows"][0]["row_weight"], 2.0);
    assert_eq!(rows["rows"][2]["label_shares"], json!([0.75, 0.25]));
    let head = corral.run(&["dataset", "head", "tickets", "-n", "3"]);
    assert!(head.contains("WEIGHT") && head.contains(" 0.75, "), "{head}");

    // What is exported is the same data set again, without a word about its columns.
    for format in ["csv", "jsonl", "parquet", "arrow"] {
        let copy = folder.path().join(format!("copy.{format}")).display().to_string();
        corral.run(&["dataset", "export", "tickets", "--format", format, "-o", &copy]);
        let again = corral.json(&["dataset", "import", &format!("copy-{format}"), &copy]);
        for count in ["weighted_rows", "weightless_rows", "probabilistic_rows", "classes"] {
            assert_eq!(again["dataset"][count], set[count], "{count} of {format}");
        }
    }

    let train = ["train", "support", "--dataset", "tickets", "--wait", "--trials", "4"];
    let trained = corral.json(&train);
    // The test rows that count are sure of one class or three quarters sure of it.
    let accuracy = trained["test"]["accuracy"].as_f64().unwrap();
    assert!((0.85..0.93).contains(&accuracy), "{trained}");
    let report = corral.json(&["model", "report", "support"]);
    assert_eq!(report["data"]["weightless_rows"], 300);

    let wrong = folder.path().join("wrong.csv").display().to_string();
    std::fs::write(&wrong, "text,label,trust\na,x,1\nb,y,-2\n").unwrap();
    let (code, said) = corral.fails(&["dataset", "import", "wrong", &wrong, "--weight", "trust"]);
    let place = "line 3, column `trust`: the weight `-2`";
    assert!(code == 2 && said.contains(place), "{said}");
    std::fs::write(&wrong, "text,label,trust\na,x,0\nb,y,0\n").unwrap();
    corral.run(&["dataset", "import", "weightless", &wrong, "--weight", "trust"]);
    let (code, said) = corral.fails(&["train", "none", "--dataset", "weightless"]);
    assert!(code == 2 && said.contains("weight 0") && said.contains("hint"), "{said}");
    assert!(corral.stop().success());
}

#[test]
fn wrong_requests_are_refused_by_name() {
    let corral = Corral::start();
    let folder = tempfile::tempdir().unwrap();
    let file = write_dataset(folder.path(), 60);
    let path = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    corral.run(&["dataset", "import", "tickets", &file]);

    let check = |arguments: &[&str], code: i32, words: &[&str]| {
        let (found, said) = corral.fails(arguments);
        assert_eq!(found, code, "corral {arguments:?} said: {said}");
        for word in words {
            assert!(said.contains(word), "corral {arguments:?} does not say `{word}`: {said}");
        }
    };
    check(&["dataset", "import", "tickets", &file], 5, &["already", "tickets"]);
    check(&["dataset", "import", "Tickets", &file], 2, &["name", "T"]);
    check(&["dataset", "import", "other", "/nonexistent.csv"], 4, &["/nonexistent.csv"]);
    check(&["dataset", "show", "ticket"], 4, &["ticket", "tickets"]);
    check(&["dataset", "show", "tickets@7"], 4, &["7"]);
    check(&["dataset", "import", "x", &file, "--text", "txt"], 2, &["txt", "text"]);
    let bad = path("bad.jsonl", b"{\"text\": \"a\", \"label\": \"x\"}\nnot json\n{\"label\": 3}\n");
    check(&["dataset", "import", "bad", &bad], 2, &["bad.jsonl", "line 2"]);
    let skipped = corral.json(&["dataset", "import", "bad", &bad, "--on-error", "skip"]);
    assert_eq!(skipped["report"]["skipped_rows"], 2);
    assert_eq!(skipped["dataset"]["rows"], 1);

    let cycle = path("cycle.csv", b"id,name,parent\na,A,b\nb,B,a\nc,,a\nd,D,zz\n");
    check(&["taxonomy", "import", "t", &cycle], 2, &["cycle.csv", "zz"]);
    let taxonomy = path("t.csv", b"id,name\nbilling,Billing\nshipping,Shipping\n");
    corral.run(&["taxonomy", "import", "t", &taxonomy]);
    let train = ["train", "m", "--dataset", "tickets", "--taxonomy", "t"];
    check(&train, 2, &["technical", "20 rows"]);
    check(&["train", "m", "--dataset", "nothing"], 4, &["nothing"]);
    check(&["train", "m"], 2, &["--dataset"]);
    check(&["train", "m", "--dataset", "tickets", "--memory", "much"], 2, &["much", "GiB"]);
    check(&["train", "m", "--dataset", "tickets", "--memory", "1MiB"], 2, &["MiB", "memory"]);

    let foreign = path("foreign.corral", b"this is not a model");
    check(&["model", "import", "m", &foreign], 2, &["not a Corral model"]);
    check(&["predict", "--model", &foreign, "text"], 2, &["not a Corral model"]);
    check(&["predict", "nowhere", "text"], 4, &["nowhere"]);
    check(&["deploy", "nothing", "--name", "e"], 4, &["nothing"]);
    check(&["job", "show", "job-1"], 4, &["job-1"]);

    let with = |token: &str, url: &str| {
        let mut command = corral.command(&["dataset", "ls"]);
        let output = command.env("CORRAL_TOKEN", token).env("CORRAL_URL", url).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = with("corral_wrong", &corral.url);
    assert_eq!(code, Some(3), "{said}");
    let (code, said) = with(&corral.token, "http://127.0.0.1:9");
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("hint:") && said.contains("corral up"), "{said}");
}

#[test]
fn what_was_kept_is_there_after_a_restart_and_only_one_may_hold_it() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("data");
    let file = write_dataset(scratch.path(), 120);
    let first = Corral::start_in(&data_dir, &[], None);
    first.run(&["dataset", "import", "tickets", &file]);
    first.json(&["train", "support", "--dataset", "tickets", "--trials", "6", "--wait"]);
    first.run(&["deploy", "support", "--name", "support"]);

    let second = std::process::Command::new(env!("CARGO_BIN_EXE_corral"))
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data_dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(5), "{said}");
    assert!(said.contains(&first.supervisor_id().to_string()), "{said}");

    let token = first.token.clone();
    assert!(first.stop().success());
    let again = Corral::start_in(&data_dir, &[], Some(&token));
    let answer = again.json(&["predict", "support", "wrong price on the invoice"]);
    assert_eq!(answer["predictions"][0]["labels"][0]["id"], "billing");

    // Killed without a warning, it comes back likewise.
    again.kill();
    let third = Corral::start_in(&data_dir, &[], Some(&token));
    assert_eq!(third.json(&["job", "ls"])["items"].as_array().unwrap().len(), 1);
    assert_eq!(third.json(&["dataset", "show", "tickets"])["rows"], 120);
}

#[test]
fn a_backup_restores_into_an_empty_directory() {
    let corral = Corral::start();
    let folder = tempfile::tempdir().unwrap();
    let file = write_dataset(folder.path(), 120);
    corral.run(&["dataset", "import", "tickets", &file]);
    corral.json(&["train", "support", "--dataset", "tickets", "--trials", "6", "--wait"]);
    corral.run(&["deploy", "support", "--name", "support"]);
    let archive = folder.path().join("all.tar").display().to_string();
    corral.run(&["backup", &archive]);
    let token = corral.token.clone();
    let before = corral.json(&["predict", "support", "the app crashes on start"]);
    assert!(corral.stop().success());

    let restored = folder.path().join("restored");
    let elsewhere = Corral::start();
    let target = restored.display().to_string();
    elsewhere.run(&["restore", &archive, "--data-dir", &target]);
    let (code, said) = elsewhere.fails(&["restore", &archive, "--data-dir", &target]);
    assert_eq!(code, 2, "{said}");
    let cut = folder.path().join("cut.tar");
    let bytes = std::fs::read(&archive).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 3]).unwrap();
    let cut_target = folder.path().join("cut").display().to_string();
    elsewhere.fails(&["restore", &cut.display().to_string(), "--data-dir", &cut_target]);
    elsewhere.fails(&["restore", &file, "--data-dir", &format!("{cut_target}2")]);

    let back = Corral::start_in(&restored, &[], Some(&token));
    let after = back.json(&["predict", "support", "the app crashes on start"]);
    assert_eq!(after["predictions"], before["predictions"]);
    assert_eq!(back.json(&["job", "ls"])["items"][0]["state"], "succeeded");
    assert_eq!(back.json(&["gc"])["removed_blobs"], 0);
}

#[test]
fn workspaces_do_not_see_one_another_and_scopes_hold() {
    let corral = Corral::start();
    let folder = tempfile::tempdir().unwrap();
    let file = write_dataset(folder.path(), 60);
    corral.run(&["dataset", "import", "tickets", &file]);
    corral.run(&["workspace", "create", "beta"]);
    let token = |name: &str, scopes: &str, workspace: &str| {
        let arguments = ["token", "create", name, "--scopes", scopes, "--workspace", workspace];
        corral.json(&arguments)
    };
    let as_token = |secret: &Value, arguments: &[&str]| {
        let mut command = corral.command(arguments);
        let output = command.env("CORRAL_TOKEN", secret.as_str().unwrap()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let beta = token("b", "read,write", "beta")["secret"].clone();
    assert_eq!(as_token(&beta, &["dataset", "show", "tickets"]).0, 4);
    assert_eq!(as_token(&beta, &["dataset", "import", "tickets", &file]).0, 0);
    assert_eq!(as_token(&beta, &["dataset", "rm", "tickets"]).0, 0);
    assert_eq!(corral.json(&["dataset", "show", "tickets"])["rows"], 60);
    assert_eq!(as_token(&beta, &["token", "ls"]).0, 3);

    let reader = token("r", "read", "default");
    let secret = reader["secret"].clone();
    assert_eq!(as_token(&secret, &["dataset", "show", "tickets"]).0, 0);
    assert_eq!(as_token(&secret, &["dataset", "rm", "tickets"]).0, 3);
    corral.run(&["token", "rm", reader["id"].as_str().unwrap()]);
    assert_eq!(as_token(&secret, &["dataset", "show", "tickets"]).0, 3);

    let asker = token("p", "predict", "default")["secret"].clone();
    assert_eq!(as_token(&asker, &["dataset", "ls"]).0, 3);
    assert_eq!(as_token(&asker, &["predict", "nowhere", "text"]).0, 4);
}

#[test]
fn without_tokens_on_loopback_everyone_may_and_beyond_it_nobody_listens() {
    let corral = Corral::start_with(&["--no-auth"]);
    let output = corral.command(&["dataset", "ls"]).env_remove("CORRAL_TOKEN").output().unwrap();
    assert!(output.status.success());
    wait_for("the worker", || {
        let doctor = corral.json(&["doctor"]);
        (doctor["server"]["ready"] == "yes").then_some(())
    });
    for arguments in [&["--listen", "0.0.0.0:0"][..], &["--listen", "0.0.0.0:0", "--no-auth"]] {
        let scratch = tempfile::tempdir().unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_corral"))
            .arg("up")
            .arg("--data-dir")
            .arg(scratch.path().join("data"))
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("hint:"), "{said}");
    }
}

#[test]
fn a_taxonomy_alone_becomes_a_model_and_helps_rows_without_labels() {
    let corral = Corral::start();
    let folder = tempfile::tempdir().unwrap();
    let taxonomy = folder.path().join("t.csv");
    let classes = "name,description\n\
                   billing,charged twice refund the money wrong price credit card declined\n\
                   shipping,arrived late lost on the way delivered to a neighbour no tracking\n\
                   technical,crashes on start shows an error login fails screen stays black\n";
    std::fs::write(&taxonomy, classes).unwrap();
    corral.run(&["taxonomy", "import", "topics", &taxonomy.display().to_string()]);

    let trained =
        corral.json(&["train", "bare", "--taxonomy", "topics", "--trials", "6", "--wait"]);
    assert_eq!((&trained["model"], &trained["version"]), (&json!("bare"), &json!(1)));
    let summary = trained["summary"].as_str().unwrap().replace('\n', " ");
    assert!(summary.contains("there are no rows"), "{summary}");
    corral.run(&["deploy", "bare", "--name", "bare"]);
    let answer = corral.json(&["predict", "bare", "my parcel was lost on the way"]);
    assert_eq!(answer["predictions"][0]["labels"][0]["id"], "shipping", "{answer}");

    // The same taxonomy labels rows that came without.
    let unlabelled: String = small_dataset(300)
        .lines()
        .map(|line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            row.as_object_mut().unwrap().remove("label");
            format!("{row}\n")
        })
        .collect();
    let file = folder.path().join("unlabelled.jsonl");
    std::fs::write(&file, unlabelled).unwrap();
    corral.run(&["dataset", "import", "mail", &file.display().to_string()]);
    let train =
        ["train", "mail", "--dataset", "mail", "--taxonomy", "topics", "--trials", "6", "--wait"];
    let trained = corral.json(&train);
    let summary = trained["summary"].as_str().unwrap().replace('\n', " ");
    assert!(summary.contains("no row has a label"), "{summary}");
}
