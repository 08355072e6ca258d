//! Trains on a public data set with the default search and prints what it is worth.
//!
//! ```text
//! cargo run --release -p corral-training --example quality -- SET [--seed N] [--trials N]
//!     [--shots N] [--unlabelled] [--names-only] [--final] [--json] [--keep FOLDER]
//! ```
//!
//! Sets are the folders of the public data (`CORRAL_TEST_DATA`, default `../shared/data`). With
//! `--shots` only so many rows a class, drawn by the seed, keep their label; the others are left
//! out, or stay as texts with `--unlabelled`; with `--names-only` no row keeps its label. Rows of
//! the test split are left out unless `--final` says to score them. The encoder is the file that
//! `CORRAL_ENCODER` names; without one, training is lexical. Model, report and page stay in the
//! folder that `--keep` names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use corral_classifier::Encoder;
use corral_encoder::MiniLm;
use corral_taxonomy::Taxonomy;
use corral_training::{Split, TrainOptions, train};
use serde_json::json;

#[path = "../tests/common/mod.rs"]
mod common;

struct Shown;

impl corral_training::Observer for Shown {
    fn progress(&self, fraction: f32, message: &str, _: serde_json::Value) {
        eprint!("\r{:5.1} %  {message:<40}", fraction * 100.0);
    }

    fn log(&self, line: &str) {
        eprintln!("\r{line:<60}");
    }
}

/// What the command line asks for.
#[derive(Default)]
struct Asked {
    set: String,
    seed: u64,
    trials: Option<usize>,
    shots: Option<usize>,
    keep: Option<PathBuf>,
    flags: Vec<String>,
}

impl Asked {
    fn parse() -> Result<Self, String> {
        const FLAGS: [&str; 4] = ["--unlabelled", "--names-only", "--final", "--json"];
        let mut asked = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
                value.parse::<usize>().map_err(|error| format!("{argument} {value}: {error}"))
            };
            match argument.as_str() {
                "--seed" => asked.seed = number()? as u64,
                "--trials" => asked.trials = Some(number()?),
                "--shots" => asked.shots = Some(number()?),
                "--keep" => asked.keep = arguments.next().map(PathBuf::from),
                flag if FLAGS.contains(&flag) => asked.flags.push(argument),
                unknown if unknown.starts_with('-') => return Err(format!("unknown: {unknown}")),
                set => asked.set = set.to_owned(),
            }
        }
        if asked.set.is_empty() { Err("name a data set".to_owned()) } else { Ok(asked) }
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }

    /// Leaves what the command line asks for of a set.
    fn thin(&self, set: common::DataSet) -> common::DataSet {
        // A draw by seed, the same whatever order the rows come in.
        let place = |text: &str| blake3::hash(format!("{}\n{text}", self.seed).as_bytes());
        let mut of_class: BTreeMap<&str, Vec<(blake3::Hash, usize)>> = BTreeMap::new();
        for (row, label) in set.labels.iter().enumerate() {
            if set.splits[row] != Split::Test {
                of_class.entry(&label[0]).or_default().push((place(&set.texts[row]), row));
            }
        }
        let mut keeps_label =
            vec![!self.has("--names-only") && self.shots.is_none(); set.texts.len()];
        if let Some(shots) = self.shots {
            for rows in of_class.values_mut() {
                rows.sort_by_key(|(hash, _)| *hash.as_bytes());
                rows.iter().take(shots).for_each(|&(_, row)| keeps_label[row] = true);
            }
        }
        let taxonomy = set.taxonomy.or_else(|| {
            let wants_names = self.has("--names-only") || self.shots.is_some();
            let names = of_class.keys().map(|label| label.replace('_', " "));
            let names = names.collect::<Vec<String>>();
            wants_names
                .then(|| Taxonomy::from_labels(names.iter().map(String::as_str)).expect("names"))
        });
        let mut thinned = common::DataSet { taxonomy, ..common::DataSet::default() };
        let keeps_texts = self.has("--unlabelled") || self.has("--names-only");
        for (row, (text, labels)) in set.texts.into_iter().zip(set.labels.clone()).enumerate() {
            let labels = labels.iter().map(|label| label.replace('_', " ")).collect();
            match set.splits[row] {
                Split::Test if self.has("--final") => thinned.push(text, labels, Split::Test),
                Split::Test => {}
                split if keeps_label[row] => thinned.push(text, labels, split),
                split if keeps_texts => thinned.push(text, Vec::new(), split),
                _ => {}
            }
        }
        thinned
    }
}

fn main() -> Result<(), String> {
    let asked = Asked::parse()?;
    let Some(set) = common::load(&asked.set) else {
        println!("skipped: no data set `{}` at {}", asked.set, common::data_dir().display());
        return Ok(());
    };
    let set = asked.thin(set);
    let scratch = format!("corral-quality-{}-{}", asked.set, std::process::id());
    let out = asked.keep.clone().unwrap_or_else(|| std::env::temp_dir().join(scratch));
    std::fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let options = TrainOptions {
        name: asked.set.clone(),
        seed: asked.seed,
        trials: asked.trials,
        memory_bytes: 4 << 30,
        ..TrainOptions::default()
    };
    let encoder = std::env::var_os("CORRAL_ENCODER")
        .map(|path| MiniLm::open(path.as_ref()).expect("an encoder file"));
    let encoder = encoder.as_ref().map(|encoder| encoder as &dyn Encoder);
    let outcome = train(&set.rows(), set.taxonomy.as_ref(), &options, encoder, &Shown, None, &out);
    if asked.keep.is_none() {
        let _ = std::fs::remove_dir_all(&out);
    }
    let report = outcome.map_err(|error| error.to_string())?.report;
    if asked.has("--json") {
        let summary = json!({
            "cv": report.cv,
            "test": report.test,
            "trials": report.trials.len(),
            "wall_seconds": report.actual.wall_seconds,
            "peak_memory_bytes": report.actual.peak_memory_bytes,
            "model_bytes": report.model.bytes,
        });
        println!("{summary}");
    } else {
        println!("\n{}", report.render_text());
    }
    Ok(())
}
