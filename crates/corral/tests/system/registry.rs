//! What is known of models beside their files: tags, metrics, lineage; and ONNX.

use std::path::Path;
use std::process::Command;

use crate::support::Corral;
use serde_json::{Value, json};

#[test]
fn models_are_tagged_found_compared_and_know_where_they_come_from() {
    let corral = Corral::start();
    corral.deploy_support();
    let tagged = corral.json(&[
        "model",
        "tag",
        "support",
        "stage=live",
        "owner=ann",
        "--metric",
        "agreement=0.93",
    ]);
    assert_eq!(tagged["tags"], json!({"stage": "live", "owner": "ann"}));
    assert_eq!(tagged["metrics"]["noted"]["agreement"], 0.93);
    assert!(tagged["metrics"]["cv"]["accuracy"].is_number(), "training's own stay: {tagged}");
    let lineage = &tagged["lineage"];
    assert_eq!(lineage["dataset_name"], "tickets@1");
    assert_eq!(lineage["endpoints"], json!(["support/1"]));
    assert_eq!(lineage["code"], env!("CARGO_PKG_VERSION"));
    assert_eq!(corral.json(&["job", "show", lineage["job"].as_str().unwrap()])["kind"], "train");

    // A second version has tags of its own.
    let again = ["train", "support", "--dataset", "tickets", "--encoder", "none", "--trials", "1"];
    corral.run(&[&again[..], &["--wait"]].concat());
    corral.run(&["model", "tag", "support@2", "stage=tried", "--metric", "agreement=0.5"]);
    let count =
        |tag: &str| corral.json(&["model", "ls", "--tag", tag])["items"].as_array().unwrap().len();
    assert_eq!([count("stage"), count("stage=tried"), count("stage=live")], [1, 1, 0]);
    let compared = corral.run(&["model", "compare", "support@1", "support@2"]);
    for part in ["support@1", "tag.stage", "live", "tried", "noted.agreement", "0.9300"] {
        assert!(compared.contains(part), "{part} in {compared}");
    }
    assert!(!compared.contains("dataset_name"), "the same for both: {compared}");

    let left = corral.json(&["model", "tag", "support@1", "--rm", "owner", "--rm", "agreement"]);
    assert_eq!(left["tags"], json!({"stage": "live"}));
    assert_eq!(left["metrics"]["noted"], Value::Null);
    let (code, said) = corral.fails(&["model", "tag", "support@1", "--rm", "owner"]);
    assert_eq!(code, 4, "{said}");
    let (code, said) = corral.fails(&["model", "tag", "support", "stage"]);
    assert!(code == 2 && said.contains("stage=live"), "{said}");
    let (code, said) = corral.fails(&["model", "tag", "support", "--metric", "a=much"]);
    assert!(code == 2 && said.contains("`much`"), "{said}");

    // What was derived is told by id once its source is gone.
    corral.run(&["dataset", "rm", "tickets"]);
    let shown = corral.json(&["model", "show", "support@1"]);
    assert_eq!(shown["lineage"]["dataset_name"], Value::Null);
    assert!(shown["lineage"]["dataset"].as_str().unwrap().ends_with("@1"));
}

#[test]
fn exported_to_onnx_a_model_predicts_the_same() {
    let Some(python) = std::env::var_os("CORRAL_TEST_PYTHON") else {
        println!("skipped: CORRAL_TEST_PYTHON names no interpreter with onnxruntime");
        return;
    };
    let found = Command::new(&python).args(["-c", "import onnxruntime"]).output().unwrap();
    if !found.status.success() {
        println!("skipped: CORRAL_TEST_PYTHON has no onnxruntime");
        return;
    }
    let corral = Corral::start();
    corral.deploy_support();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (model, graph) = (file("support.corral"), file("support.onnx"));
    corral.run(&["model", "export", "support", "-o", &model]);
    corral.run(&["model", "export", "support", "--onnx", "-o", &graph]);
    let texts = ["my parcel was lost on the way", "credit card declined twice", "", "zzz"];
    let inputs = corral.run(&[&["model", "features", &model], &texts[..]].concat());
    let answers = corral.json(&[&["predict", "--model", &model, "-k", "3"], &texts[..]].concat());
    std::fs::write(file("inputs.json"), inputs).unwrap();
    std::fs::write(file("answers.json"), answers.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/system/onnx_check.py");
    let output = Command::new(&python)
        .arg(script)
        .args([&graph, &file("inputs.json"), &file("answers.json")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
