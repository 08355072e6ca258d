//! Writes O*NET's titles as they are trained and tested on, for peers that read files.
//!
//! `cargo run --release -p corral-training --example onet_rows -- FOLDER` writes `train.jsonl` and
//! `test.jsonl` there, an object with `text` and `labels` a line, from the data where
//! `CORRAL_TEST_DATA` says (default `../shared/data`).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use corral_training::Split;
use serde_json::json;

#[path = "../tests/common/mod.rs"]
#[expect(dead_code, reason = "rows are written, and not trained on")]
mod common;

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("name the folder to write to"));
    };
    let Some(set) = common::load("onet") else { return Ok(()) };
    std::fs::create_dir_all(&folder)?;
    let open = |name| Ok::<_, std::io::Error>(BufWriter::new(File::create(folder.join(name))?));
    let (mut train, mut test) = (open("train.jsonl")?, open("test.jsonl")?);
    for ((text, labels), split) in set.texts.iter().zip(&set.labels).zip(&set.splits) {
        let file = if *split == Split::Test { &mut test } else { &mut train };
        writeln!(file, "{}", json!({ "text": text, "labels": labels }))?;
    }
    // What the taxonomy says of its codes is learnt from as well; groups of codes have no text.
    let classes = set.taxonomy.iter().flat_map(|taxonomy| taxonomy.classes());
    for (class, description) in
        classes.filter_map(|class| Some((class, class.description.as_ref()?)))
    {
        for text in [&class.name, description] {
            writeln!(train, "{}", json!({ "text": text, "labels": [class.id] }))?;
        }
    }
    train.flush()?;
    test.flush()
}
