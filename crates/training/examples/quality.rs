//! Trains on a public data set with the default search and prints what it is worth.
//!
//! ```text
//! cargo run --release -p corral-training --example quality -- SET [--seed N] [--trials N]
//!     [--shots N] [--unlabelled] [--names-only] [--hidden] [--final] [--json] [--keep FOLDER]
//! ```
//!
//! Sets are the folders of the public data (`CORRAL_TEST_DATA`, default `../shared/data`). With
//! `--shots` only so many rows a class, drawn by the seed, keep their label; the others are left
//! out, or stay as texts with `--unlabelled`; with `--names-only` no row keeps its label. With
//! `--hidden` the model is scored on rows whose label it was not told: on those that it had as
//! texts, and on a fifth of them that are left out for it, which stand in for a test split.
//! Rows of the test split are left out unless `--final` says to score them. `clinc150_oos` is
//! CLINC150 with its rows of no class, by which is chosen what is refused. The encoder is the
//! file that `CORRAL_ENCODER` names; without one, training is lexical. Model, report and page
//! stay in the folder that `--keep` names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corral_classifier::model::Scratch;
use corral_classifier::{Encoder, Model};
use corral_encoder::MiniLm;
use corral_taxonomy::Taxonomy;
use corral_training::{Split, TrainOptions, train};
use serde_json::json;

#[path = "../tests/common/mod.rs"]
mod common;

/// One in so many rows whose label is hidden is left out, text and all, to be scored.
const LEFT_OUT: usize = 5;
/// Texts scored at once.
const TEXTS_AT_ONCE: usize = 1024;
/// Bins of confidence that the calibration error is counted in.
const BINS: usize = 15;

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
        const FLAGS: [&str; 5] = ["--unlabelled", "--names-only", "--hidden", "--final", "--json"];
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

    /// Leaves what the command line asks for of a set; and the rows whose label was hidden,
    /// those that stay as texts and those that were left out.
    fn thin(&self, set: common::DataSet) -> (common::DataSet, [HiddenRows; 2]) {
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
        let none_label = set.none_label;
        let mut thinned = common::DataSet { taxonomy, none_label, ..common::DataSet::default() };
        let keeps_texts = self.has("--unlabelled") || self.has("--names-only");
        let mut hidden = [HiddenRows::default(), HiddenRows::default()];
        for (row, (text, labels)) in set.texts.into_iter().zip(set.labels.clone()).enumerate() {
            let labels: Vec<String> = labels.iter().map(|label| label.replace('_', " ")).collect();
            let is_hidden = set.splits[row] != Split::Test && !keeps_label[row];
            if is_hidden {
                let is_text = keeps_texts && !self.is_left_out(&text);
                hidden[usize::from(!is_text)].push((text.clone(), labels[0].clone()));
            }
            match set.splits[row] {
                Split::Test if self.has("--final") => thinned.push(text, labels, Split::Test),
                Split::Test => {}
                split if keeps_label[row] => thinned.push(text, labels, split),
                split if keeps_texts && !self.is_left_out(&text) => {
                    thinned.push(text, Vec::new(), split)
                }
                _ => {}
            }
        }
        (thinned, hidden)
    }

    fn is_left_out(&self, text: &str) -> bool {
        let hash = blake3::hash(format!("left out {}\n{text}", self.seed).as_bytes());
        self.has("--hidden") && usize::from(hash.as_bytes()[0]) % LEFT_OUT == 0
    }
}

/// Texts and their labels, of which the training knows nothing.
type HiddenRows = Vec<(String, String)>;

/// Prints how a model does on rows whose label it was not told.
fn score_hidden(model: &Path, encoder: Option<&dyn Encoder>, what: &str, rows: &HiddenRows) {
    if rows.is_empty() {
        return;
    }
    let model = Model::open(model).expect("the model that was written");
    let mut scratch = Scratch::default();
    // Rows, hits and confidence by bin.
    let mut bins = [(0usize, 0usize, 0f64); BINS];
    let mut of_class: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for rows in rows.chunks(TEXTS_AT_ONCE) {
        let texts: Vec<&str> = rows.iter().map(|(text, _)| text.as_str()).collect();
        let embeddings = model.encode(&texts, encoder).expect("the encoder of training");
        for (at, (text, label)) in rows.iter().enumerate() {
            let probabilities = model
                .probabilities(text, embeddings.text(at), &mut scratch)
                .expect("embeddings of the text");
            let (best, confidence) = (probabilities.iter().copied().enumerate())
                .max_by(|a, b| a.1.total_cmp(&b.1))
                .expect("a model has outputs");
            let is_right = model.output_class(best).is_some_and(|class| class.name == *label);
            let bin = &mut bins[((confidence * BINS as f32) as usize).min(BINS - 1)];
            *bin = (bin.0 + 1, bin.1 + usize::from(is_right), bin.2 + f64::from(confidence));
            let class = of_class.entry(label).or_default();
            *class = (class.0 + 1, class.1 + usize::from(is_right));
        }
    }
    let hits: usize = bins.iter().map(|bin| bin.1).sum();
    let confidence: f64 = bins.iter().map(|bin| bin.2).sum();
    let error: f64 = bins.iter().map(|bin| (bin.1 as f64 - bin.2).abs()).sum();
    let percent = |sum: f64| 100.0 * sum / rows.len() as f64;
    // What a split with as many rows of each class would give.
    let recalls = of_class.values().map(|&(rows, hits)| hits as f64 / rows as f64);
    let balanced = 100.0 * recalls.sum::<f64>() / of_class.len() as f64;
    println!(
        "{} rows {what}: accuracy {:.2} ({balanced:.2} over classes), confidence {:.2}, \
         calibration error {:.2}",
        rows.len(),
        percent(hits as f64),
        percent(confidence),
        percent(error)
    );
}

fn main() -> Result<(), String> {
    let asked = Asked::parse()?;
    let Some(set) = common::load(&asked.set) else {
        println!("skipped: no data set `{}` at {}", asked.set, common::data_dir().display());
        return Ok(());
    };
    let (set, hidden) = asked.thin(set);
    let scratch = format!("corral-quality-{}-{}", asked.set, std::process::id());
    let out = asked.keep.clone().unwrap_or_else(|| std::env::temp_dir().join(scratch));
    std::fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let options = TrainOptions {
        name: asked.set.clone(),
        seed: asked.seed,
        trials: asked.trials,
        none_label: set.none_label.clone(),
        memory_bytes: 4 << 30,
        ..TrainOptions::default()
    };
    let encoder = std::env::var_os("CORRAL_ENCODER")
        .map(|path| MiniLm::open(path.as_ref()).expect("an encoder file"));
    let encoder = encoder.as_ref().map(|encoder| encoder as &dyn Encoder);
    let outcome = train(&set.rows(), set.taxonomy.as_ref(), &options, encoder, &Shown, None, &out);
    if asked.has("--hidden")
        && let Ok(outcome) = &outcome
    {
        score_hidden(&outcome.model_path, encoder, "with hidden label", &hidden[0]);
        score_hidden(&outcome.model_path, encoder, "never seen", &hidden[1]);
    }
    if asked.keep.is_none() {
        let _ = std::fs::remove_dir_all(&out);
    }
    let report = outcome.map_err(|error| error.to_string())?.report;
    if asked.has("--json") {
        let summary = json!({
            "cv": report.cv,
            "test": report.test,
            "refusals": report.refusals,
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
