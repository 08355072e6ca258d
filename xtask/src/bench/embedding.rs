//! Sentence embeddings.

use std::process::Command;

use super::report::Figure;
use super::{REPETITIONS, data, example, installed_encoder, json_of, number, root};

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let program = example("corral-encoder", "embed_speed", "")?;
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    let encoder = installed_encoder(scratch.path())?;
    let texts = data()?.join("banking77/train.jsonl");
    let (mut two, mut one, mut single) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let measured = json_of(Command::new(&program).arg(&encoder).arg(&texts))?;
        for batch in measured["batches"].as_array().into_iter().flatten() {
            match batch["threads"].as_u64() {
                Some(1) => one.push(number(batch, "texts_per_s")?),
                Some(2) => two.push(number(batch, "texts_per_s")?),
                _ => {}
            }
        }
        single.push(number(&measured["single"], "p50_ms")?);
    }
    let note = "the 10,003 training texts of Banking77, each once a repetition".to_owned();
    let figure = |what: &str, asked: &str, unit: &str, values| {
        Figure::new(what, asked, unit, values, note.clone())
    };
    Ok(vec![
        figure("texts embedded on two cores", "≥ 1,200/s", "texts/s", two),
        figure("on one core", "", "texts/s", one),
        figure("one text at a time, p50", "", "ms", single),
    ])
}
