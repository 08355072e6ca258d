//! A million short texts by one command.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use super::report::Figure;
use super::server::{Server, banking_texts};
use super::{REPETITIONS, json_of, number, root};

const ROWS: usize = 1_000_000;
/// A tenth as many: memory is flat when it takes no less.
const FEW_ROWS: usize = 100_000;

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let scratch = tempfile::tempdir_in(root().join("target"))?;
    let server = Server::start()?;
    server.deploy_banking()?;
    let texts = banking_texts()?;
    let many = scratch.path().join("many.csv");
    let few = scratch.path().join("few.csv");
    std::fs::write(&many, table(&texts, ROWS))?;
    std::fs::write(&few, table(&texts, FEW_ROWS))?;

    let few_memory = predict(&server, &few, scratch.path())?.peak_megabytes;
    let (mut answering, mut whole, mut writing, mut memory) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let measured = predict(&server, &many, scratch.path())?;
        answering.push(ROWS as f64 / measured.answering_s);
        writing.push(measured.writing_s);
        whole.push(ROWS as f64 / measured.wall_s);
        memory.push(measured.peak_megabytes);
    }
    let note = format!(
        "{ROWS} rows, the {} texts of Banking77's test split in turn with a number before each; a \
         lexical model of 77 classes; CSV in, Parquet out, checkpoints kept",
        texts.len()
    );
    let figure = |what: &str, asked: &str, unit: &str, values| {
        Figure::new(what, asked, unit, values, note.clone())
    };
    Ok(vec![
        figure("rows answered by the job", "≥ 60,000 rows/s", "rows/s", answering),
        figure("the whole command: upload, import, answers, file", "", "rows/s", whole),
        figure("writing rows and answers", "", "s", writing),
        figure("peak memory of the job", "flat", "MB", memory),
        figure("peak memory of the job for a tenth of the rows", "", "MB", vec![few_memory]),
    ])
}

fn table(texts: &[String], rows: usize) -> String {
    let mut csv = "number,text\n".to_owned();
    for row in 0..rows {
        let text = texts[row % texts.len()].replace('"', "\"\"");
        writeln!(csv, "{row},\"{row} {text}\"").expect("a string takes all");
    }
    csv
}

struct Measured {
    wall_s: f64,
    answering_s: f64,
    writing_s: f64,
    peak_megabytes: f64,
}

fn predict(server: &Server, file: &Path, scratch: &Path) -> anyhow::Result<Measured> {
    let (file, out) = (file.display().to_string(), scratch.join("out.parquet"));
    let out = out.display().to_string();
    let begun = Instant::now();
    let arguments = ["predict", "banking", "--file", &file, "--out", &out, "--json"];
    let result = json_of(&mut server.command(&arguments))?;
    let wall_s = begun.elapsed().as_secs_f64();
    let job = result["job"].as_str().unwrap_or_default().to_owned();
    let job = json_of(&mut server.command(&["job", "show", &job, "--json"]))?;
    Ok(Measured {
        wall_s,
        answering_s: number(&result, "answering_ms")? / 1000.0,
        writing_s: number(&result, "writing_ms")? / 1000.0,
        peak_megabytes: number(&job, "peak_memory_bytes")? / 1e6,
    })
}
