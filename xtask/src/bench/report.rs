//! Figures as JSON and as a table in `docs/benchmarks.md`.

use std::fmt::Write;

use anyhow::Context;
use serde_json::json;

use super::{machine, root, spread};

/// One line of a table.
pub struct Figure {
    pub what: String,
    /// What was asked for, in words.
    pub asked: String,
    pub unit: &'static str,
    /// One value a repetition.
    pub values: Vec<f64>,
    /// How it was measured: load generator, sizes, accuracy.
    pub note: String,
}

/// Writes the figures of a benchmark and shows them.
pub fn write(name: &str, what: &str, figures: &[Figure]) -> anyhow::Result<()> {
    let rows: Vec<_> = figures
        .iter()
        .map(|figure| {
            json!({
                "what": figure.what,
                "asked": figure.asked,
                "unit": figure.unit,
                "values": figure.values,
                "note": figure.note,
            })
        })
        .collect();
    let whole = json!({
        "benchmark": name,
        "machine": machine::describe(),
        "date": machine::today(),
        "commit": machine::commit(),
        "figures": rows,
    });
    let folder = root().join("bench/results");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(
        folder.join(format!("{name}.json")),
        serde_json::to_string_pretty(&whole)? + "\n",
    )?;
    let section = section(name, what, figures);
    print!("{section}");
    insert(name, &section)
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
