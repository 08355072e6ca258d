//! TF-IDF and one linear SVM, against scikit-learn.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::peers::python;
use super::report::Figure;
use super::{REPETITIONS, data, example, json_of, number, root};

/// The regularisation of both.
const COST: &str = "1";

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let ours = example("corral-training", "svm_speed", "")?;
    let python = python()?;
    let script = root().join("bench/peers/sklearn_linear.py");
    let data = data()?;
    let once = |program: &Path, script: Option<&Path>| -> anyhow::Result<Value> {
        let mut command = Command::new(program);
        command.args(script).args(["svm", COST, "1"]).env("CORRAL_TEST_DATA", &data);
        json_of(&mut command)
    };
    let (mut seconds, mut peer_seconds, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut accuracy, mut peer_accuracy) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let mine = once(&ours, None)?;
        let peer = once(&python, Some(&script))?;
        seconds.push(number(&mine, "cpu_seconds")?);
        peer_seconds.push(number(&peer, "cpu_seconds")?);
        ratios.push(number(&mine, "cpu_seconds")? / number(&peer, "cpu_seconds")?);
        accuracy.push(100.0 * number(&mine, "accuracy")?);
        peer_accuracy.push(100.0 * number(&peer, "accuracy")?);
    }
    let note = "Banking77's official split, words 1–2 and characters 3–5, C = 1, one thread, \
                features included, scikit-learn 1.9.1 with liblinear";
    let figure =
        |what: &str, asked: &str, unit: &str, values| Figure::new(what, asked, unit, values, note);
    Ok(vec![
        figure("CPU time against scikit-learn's", "≤ 0.25", "times", ratios),
        figure("Corral, one fit", "", "CPU-s", seconds),
        figure("scikit-learn, one fit", "", "CPU-s", peer_seconds),
        figure("test accuracy, Corral", "within 0.3 points", "%", accuracy),
        figure("test accuracy, scikit-learn", "", "%", peer_accuracy),
    ])
}
