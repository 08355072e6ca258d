//! How fast a search is: against scikit-learn's, by default, on many classes, for each trial.

use std::process::Command;

use serde_json::Value;

use super::peers::python;
use super::report::Figure;
use super::{REPETITIONS, Selection, data, example, installed_encoder, json_of, number, root};

/// Workers among which the peer's best is taken.
const PEER_JOBS: [&str; 2] = ["1", "2"];

/// The parts that can be measured alone: `random`, `banking77`, `onet` and `overhead`.
pub fn run(selection: &Selection) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    if selection.has("random") {
        figures.extend(random_search()?);
    }
    if selection.has("banking77") {
        figures.extend(banking77()?);
    }
    if selection.has("onet") {
        figures.extend(onet()?);
    }
    if selection.has("overhead") {
        figures.extend(trial_overhead()?);
    }
    Ok(figures)
}

/// Twenty costs over three folds.
fn random_search() -> anyhow::Result<Vec<Figure>> {
    let ours = example("corral-training", "random_search", "")?;
    let python = python()?;
    let script = root().join("bench/peers/sklearn_random_search.py");
    let data = data()?;
    let mut ratios = Vec::new();
    let (mut seconds, mut peer_seconds) = (Vec::new(), Vec::new());
    let (mut scores, mut peer_scores) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let mut best: Option<Value> = None;
        for jobs in PEER_JOBS {
            let mut command = Command::new(&python);
            command.arg(&script).arg(jobs).env("CORRAL_TEST_DATA", &data);
            let told = json_of(&mut command)?;
            let taken = number(&told, "cpu_seconds")?;
            if best.as_ref().is_none_or(|best| number(best, "cpu_seconds").is_ok_and(|b| taken < b))
            {
                best = Some(told);
            }
        }
        let peer = best.unwrap_or_default();
        let costs: Vec<String> = (peer["costs"].as_array().into_iter().flatten())
            .map(std::string::ToString::to_string)
            .collect();
        let mut command = Command::new(&ours);
        command.args([costs.join(","), "1".to_owned()]).env("CORRAL_TEST_DATA", &data);
        let mine = json_of(&mut command)?;
        seconds.push(number(&mine, "cpu_seconds")?);
        peer_seconds.push(number(&peer, "cpu_seconds")?);
        ratios.push(number(&mine, "cpu_seconds")? / number(&peer, "cpu_seconds")?);
        scores.push(100.0 * number(&mine, "score")?);
        peer_scores.push(100.0 * number(&peer, "score")?);
    }
    let note = "Banking77's train rows, words 1–2 and characters 3–5 in two texts or more, 20 \
                costs of a linear SVM drawn by the peer × 3 folds, features once; Corral: a \
                whole run with ensemble, refit, report; peer: RandomizedSearchCV of scikit-learn \
                1.9.1 with its best number of workers";
    let figure =
        |what: &str, asked: &str, unit: &str, values| Figure::new(what, asked, unit, values, note);
    Ok(vec![
        figure("20 settings × 3 folds, CPU time against the peer's", "≤ 0.083", "times", ratios),
        figure("Corral", "", "CPU-s", seconds),
        figure("RandomizedSearchCV", "", "CPU-s", peer_seconds),
        figure("best accuracy over folds, Corral", "no worse", "%", scores),
        figure("best accuracy over folds, peer", "", "%", peer_scores),
    ])
}

/// The default command on a usual set.
fn banking77() -> anyhow::Result<Vec<Figure>> {
    let search = DefaultSearch::run("banking77", "Banking77", "10,003 texts, 77 classes")?;
    Ok(vec![
        search.figure("trials", "≥ 200", "", "trials", 1.0)?,
        search.figure("wall clock", "≤ 300 s", "s", "wall_seconds", 1.0)?,
        search.figure("peak memory", "≤ 2 GB", "MiB", "peak_memory_bytes", MEBIBYTE)?,
    ])
}

/// The default command on many classes.
fn onet() -> anyhow::Result<Vec<Figure>> {
    let rows = "42,877 titles less the test split's, 1,016 codes";
    let search = DefaultSearch::run("onet", "O*NET", rows)?;
    Ok(vec![
        search.figure("trials", "", "", "trials", 1.0)?,
        search.figure("wall clock", "≤ 720 s", "s", "wall_seconds", 1.0)?,
        search.figure("model file", "≤ 60 MB", "MiB", "model_bytes", MEBIBYTE)?,
        search.figure("peak memory", "", "MiB", "peak_memory_bytes", MEBIBYTE)?,
    ])
}

const MEBIBYTE: f64 = (1 << 20) as f64;

/// A search by the default command, and what it told.
struct DefaultSearch {
    name: &'static str,
    rows: &'static str,
    told: Value,
}

impl DefaultSearch {
    fn run(set: &str, name: &'static str, rows: &'static str) -> anyhow::Result<Self> {
        let program = example("corral-training", "quality", "")?;
        let scratch = tempfile::tempdir_in(root().join("target"))?;
        let encoder = installed_encoder(scratch.path())?;
        let mut command = Command::new(&program);
        command.args([set, "--json"]);
        command.env("CORRAL_ENCODER", &encoder).env("CORRAL_TEST_DATA", data()?);
        Ok(Self { name, rows, told: json_of(&mut command)? })
    }

    /// What was told under a key, in units of so many.
    fn figure(
        &self,
        what: &str,
        asked: &str,
        unit: &str,
        key: &str,
        of: f64,
    ) -> anyhow::Result<Figure> {
        let what = format!("{}, default search: {what}", self.name);
        let note = format!(
            "default command with the encoder, two cores, one run with embedding, refit and \
             report, {}",
            self.rows
        );
        Ok(Figure::new(what, asked, unit, vec![number(&self.told, key)? / of], note))
    }
}

/// What a trial takes beside its fits.
fn trial_overhead() -> anyhow::Result<Vec<Figure>> {
    let program = example("corral-training", "trial_overhead", "")?;
    let mut values = Vec::new();
    for _ in 0..REPETITIONS {
        values.push(number(&json_of(&mut Command::new(&program))?, "overhead_ms")?);
    }
    Ok(vec![Figure {
        what: "a trial beside its fits".to_owned(),
        asked: "≤ 1 ms".to_owned(),
        unit: "ms".to_owned(),
        values,
        note: "240 trials on 200 made-up texts, one thread: search time less the fits', so \
               that scoring, calibration and evaluation of five folds count as well"
            .to_owned(),
    }])
}
