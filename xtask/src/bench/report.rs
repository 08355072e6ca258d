//! Figures as JSON and as a table in `docs/benchmarks.md`.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Selection, machine, root, spread};

/// One line of a table.
#[derive(Clone, Deserialize, Serialize)]
pub struct Figure {
    pub what: String,
    /// What was asked for, in words.
    pub asked: String,
    pub unit: String,
    /// One value a repetition.
    pub values: Vec<f64>,
    /// How it was measured: load generator, sizes, accuracy.
    pub note: String,
}

impl Figure {
    /// A figure that one command measured.
    pub fn new(
        what: impl Into<String>,
        asked: &str,
        unit: &str,
        values: Vec<f64>,
        note: impl Into<String>,
    ) -> Self {
        Self {
            what: what.into(),
            asked: asked.to_owned(),
            unit: unit.to_owned(),
            values,
            note: note.into(),
        }
    }
}

/// Writes the figures of a benchmark and shows them. Where only parts were measured, those of
/// the others stay as they were.
pub fn write(
    name: &str,
    what: &str,
    figures: Vec<Figure>,
    selection: &Selection,
) -> anyhow::Result<()> {
    let folder = root().join("bench/results");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.json"));
    let figures = if selection.is_all() { figures } else { merge(earlier(&path)?, figures) };
    let whole = json!({
        "benchmark": name,
        "machine": machine::describe(),
        "date": machine::today(),
        "commit": machine::commit(),
        "figures": figures,
    });
    std::fs::write(path, serde_json::to_string_pretty(&whole)? + "\n")?;
    let section = section(name, what, &figures);
    print!("{section}");
    insert(name, &section)
}

/// The figures that were written before, if any were.
fn earlier(path: &Path) -> anyhow::Result<Vec<Figure>> {
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(Vec::new()) };
    let mut whole: Value = serde_json::from_str(&text)?;
    Ok(serde_json::from_value(whole["figures"].take())?)
}

/// New figures in the place of those of the same name, and after the others.
fn merge(mut figures: Vec<Figure>, new: Vec<Figure>) -> Vec<Figure> {
    for figure in new {
        match figures.iter_mut().find(|known| known.what == figure.what) {
            Some(known) => *known = figure,
            None => figures.push(figure),
        }
    }
    figures
}

fn section(name: &str, what: &str, figures: &[Figure]) -> String {
    let mut text = format!("## {what}\n\n`cargo xtask bench {name}`\n\n");
    text += "| what | asked | median | least – most | how |\n|---|---|---|---|---|\n";
    for figure in figures {
        let (median, least, most) = spread(&figure.values);
        writeln!(
            text,
            "| {} | {} | {} {} | {} – {} | {} |",
            figure.what,
            figure.asked,
            round(median),
            figure.unit,
            round(least),
            round(most),
            figure.note
        )
        .expect("a string takes everything");
    }
    writeln!(
        text,
        "\n{}; {}; commit {}.\n",
        machine::describe(),
        machine::today(),
        machine::commit()
    )
    .expect("a string takes everything");
    text
}

/// Three digits.
fn round(value: f64) -> String {
    let decimals = match value.abs() {
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        small if small >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

/// Puts a section between its markers, at the end where there are none yet.
fn insert(name: &str, section: &str) -> anyhow::Result<()> {
    let path = root().join("docs/benchmarks.md");
    let page = std::fs::read_to_string(&path).context("read docs/benchmarks.md")?;
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n"));
    let block = format!("{begin}{section}{end}");
    let page = match (page.find(&begin), page.find(&end)) {
        (Some(from), Some(to)) => {
            format!("{}{block}{}", &page[..from], &page[to + end.len()..])
        }
        _ => format!("{page}\n{block}"),
    };
    std::fs::write(path, page).context("write docs/benchmarks.md")
}
