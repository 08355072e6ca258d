//! Trains on a data set with the default search and prints the report and test scores.
//!
//! `cargo run --release -p corral-training --example quality -- banking77|clinc150|trec|ag_news|onet [trials [folder]]`
//! with the data where `CORRAL_TEST_DATA` says (default `../shared/data`), and with the encoder
//! file that `CORRAL_ENCODER` names, lexically where it names none. Model, report and page stay in
//! the folder where one is named.

use std::path::PathBuf;

use corral_classifier::Encoder;
use corral_encoder::MiniLm;
use corral_training::{TrainOptions, train};

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

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "banking77".to_owned());
    let trials = arguments.next().and_then(|trials| trials.parse().ok());
    let Some(set) = common::load(&name) else {
        println!("skipped: no data set `{name}` at {}", common::data_dir().display());
        return;
    };
    let kept = arguments.next().map(PathBuf::from);
    let out = kept.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("corral-quality-{name}-{}", std::process::id()))
    });
    std::fs::create_dir_all(&out).expect("the folder can be written");
    let options = TrainOptions { name, trials, memory_bytes: 4 << 30, ..TrainOptions::default() };
    let encoder = std::env::var_os("CORRAL_ENCODER")
        .map(|path| MiniLm::open(path.as_ref()).expect("an encoder file"));
    let encoder = encoder.as_ref().map(|encoder| encoder as &dyn Encoder);
    let outcome = train(&set.rows(), set.taxonomy.as_ref(), &options, encoder, &Shown, None, &out);
    match outcome {
        Ok(outcome) => println!("\n{}", outcome.report.render_text()),
        Err(error) => println!("\nfailed: {error}"),
    }
    if kept.is_none() {
        let _ = std::fs::remove_dir_all(&out);
    }
}
