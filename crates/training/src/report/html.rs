//! The report as one page that needs nothing else: styles, script and plots stand in it. It
//! is also well-formed XML, so that a test can hold every element to its end.

mod escape;
mod findings;
mod plots;
mod tables;
mod unsure;

use std::fmt::{self, Write};

use corral_types::{display_bytes, display_count};

use self::escape::{Escaped, Name};
use super::{Regime, Report};
use crate::metrics::Evaluation;
use crate::options::Metric;

const STYLE: &str = include_str!("html/style.css");
/// Sorts tables by a click on a heading; the page is whole without it.
const SCRIPT: &str = include_str!("html/sort.js");

/// The page of a report.
pub fn render(report: &Report) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = write_page(&mut page, report);
    page
}

fn write_page(out: &mut String, report: &Report) -> fmt::Result {
    let title = Escaped(&report.name);
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n\
         <meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{title}: report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    )?;
    write_head(out, report)?;
    let parts: [Part; 13] = [
        ("advice", "What would help most", advice),
        ("warnings", "Warnings", warnings),
        ("search", "Search", tables::search),
        ("model", "Model", tables::model),
        ("probabilities", "Probabilities", findings::probabilities),
        ("back-off", "Backing off to parents", unsure::back_offs),
        ("refusals", "None of the classes", unsure::refusals),
        ("classes", "Classes", tables::classes),
        ("confusions", "Confusions", findings::confusions),
        ("rows", "Rows to look at", findings::rows),
        ("learning", "Would more rows help?", findings::learning),
        ("cost", "Time, memory and cost", tables::cost),
        ("origin", "Origin", tables::origin),
    ];
    let mut written: Vec<(&str, &str, String)> = Vec::with_capacity(parts.len());
    for (id, title, write) in parts {
        let mut body = String::new();
        write(&mut body, report)?;
        // What has nothing to say is left out.
        if !body.is_empty() {
            written.push((id, title, body));
        }
    }
    write!(out, "<nav>")?;
    for (id, title, _) in &written {
        write!(out, "<a href=\"#{id}\">{title}</a> ")?;
    }
    writeln!(out, "</nav>\n</header>")?;
    for (id, title, body) in written {
        write!(out, "<section id=\"{id}\">\n<h2>{title}</h2>\n{body}</section>\n")?;
    }
    write!(out, "<script>\n{SCRIPT}</script>\n</body>\n</html>\n")
}

/// A part of the page: its id, its title, and what writes it.
type Part = (&'static str, &'static str, fn(&mut String, &Report) -> fmt::Result);

fn write_head(out: &mut String, report: &Report) -> fmt::Result {
    let data = &report.data;
    writeln!(out, "<header>\n<h1>{}</h1>", Name(&report.name))?;
    writeln!(
        out,
        "<p class=\"soft\">{} rows to learn from, {} classes, {} folds, {} trials by {}, seed {}; \
         ended {}</p>",
        display_count(data.labelled_rows),
        display_count(data.classes),
        report.folds,
        report.trials.len(),
        report.metric,
        report.seed,
        report.ended_at
    )?;
    if let Some(weak) = &report.weak {
        writeln!(out, "<p>{}</p>", Escaped(&weak.sentence()))?;
    }
    writeln!(out, "<div class=\"tiles\">")?;
    let mut tile = |value: &str, label: &str| {
        writeln!(out, "<div class=\"tile\"><b>{value}</b><span>{label}</span></div>")
    };
    let is_made = report.regime == Regime::Unlabelled;
    let of_cv = if is_made { "agree with the labels made" } else { "right in cross-validation" };
    tile(&percent(report.cv.accuracy), of_cv)?;
    if let Some(test) = &report.test {
        tile(
            &percent(test.accuracy),
            &format!("right on {} test rows", display_count(test.rows as u64)),
        )?;
    }
    let best = report.test.as_ref().unwrap_or(&report.cv);
    if data.classes > 5 {
        tile(&percent(best.top_5), "among the first five")?;
    }
    tile(&decimal(best.macro_f1), "mean F1 of the classes")?;
    if !is_made || report.test.is_some() {
        tile(&percent(best.ece), "calibration error")?;
    }
    tile(&display_bytes(report.model.bytes), "model file")?;
    if let Some(latency) = &report.findings.latency {
        let label = format!("for one text ({} p99)", milliseconds(latency.p99_ms));
        tile(&milliseconds(latency.p50_ms), &label)?;
    }
    tile(&seconds(report.actual.wall_seconds), "the whole run")?;
    writeln!(out, "</div>")
}

fn advice(out: &mut String, report: &Report) -> fmt::Result {
    if report.advice.is_empty() {
        return Ok(());
    }
    writeln!(out, "<ol class=\"advice\">")?;
    for advice in &report.advice {
        write!(out, "<li>")?;
        // Commands stand between backticks.
        for (at, part) in advice.message.split('`').enumerate() {
            let (start, end) = if at % 2 == 1 { ("<code>", "</code>") } else { ("", "") };
            write!(out, "{start}{}{end}", Escaped(part))?;
        }
        if advice.effect >= 5e-4 {
            let points = decimal_points(advice.effect);
            write!(out, " <span class=\"effect\">≈ +{points} points</span>")?;
        }
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ol>")
}

fn warnings(out: &mut String, report: &Report) -> fmt::Result {
    if report.warnings.is_empty() {
        return Ok(());
    }
    writeln!(out, "<ul class=\"warnings\">")?;
    for warning in &report.warnings {
        write!(out, "<li>{}", Escaped(&warning.message))?;
        if !warning.examples.is_empty() {
            write!(out, " <span class=\"soft\">(")?;
            for (at, example) in warning.examples.iter().enumerate() {
                write!(out, "{}{}", if at > 0 { ", " } else { "" }, Name(example))?;
            }
            let named = warning.examples.len() as u64;
            if warning.count > named {
                write!(out, " and {} more", display_count(warning.count - named))?;
            }
            write!(out, ")</span>")?;
        }
        writeln!(out, "</li>")?;
    }
    writeln!(out, "</ul>")
}

/// Plots side by side, each with a sentence below.
fn figures<const N: usize>(out: &mut String, plots: [(Option<String>, String); N]) -> fmt::Result {
    if plots.iter().all(|(plot, _)| plot.is_none()) {
        return Ok(());
    }
    writeln!(out, "<div class=\"figures\">")?;
    for (plot, caption) in plots {
        if let Some(plot) = plot {
            writeln!(out, "<figure>\n{plot}<figcaption>{caption}</figcaption>\n</figure>")?;
        }
    }
    writeln!(out, "</div>")
}

/// What a list leaves out.
fn and_more(out: &mut String, all: u64, shown: usize, what: &str) -> fmt::Result {
    match all.saturating_sub(shown as u64) {
        0 => Ok(()),
        more => writeln!(out, "<p class=\"soft\">and {} more {what}</p>", display_count(more)),
    }
}

fn evaluation_cells(out: &mut String, name: &str, evaluation: &Evaluation) -> fmt::Result {
    writeln!(
        out,
        "<tr><td>{name}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
        display_count(evaluation.rows as u64),
        percent(evaluation.accuracy),
        percent(evaluation.top_5),
        decimal(evaluation.macro_f1),
        evaluation.log_loss.map_or_else(|| "–".to_owned(), decimal),
        percent(evaluation.ece)
    )
}

/// A metric's value: shares as percent.
fn score(metric: Metric, value: f64) -> String {
    match metric {
        _ if !value.is_finite() => "–".to_owned(),
        Metric::LogLoss => decimal(value),
        _ => format!("{:.2} %", 100.0 * value),
    }
}

fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", 100.0 * share) } else { "–".to_owned() }
}

fn decimal(value: f64) -> String {
    if value.is_finite() { format!("{value:.3}") } else { "–".to_owned() }
}

fn decimal_points(share: f64) -> String {
    let points = 100.0 * share;
    if points < 0.95 { format!("{points:.2}") } else { format!("{points:.1}") }
}

fn milliseconds(value: f64) -> String {
    match value {
        _ if value < 0.0995 => format!("{:.0} µs", 1e3 * value),
        _ if value < 0.995 => format!("{value:.2} ms"),
        _ => format!("{value:.1} ms"),
    }
}

fn seconds(value: f64) -> String {
    match value {
        _ if !value.is_finite() => "–".to_owned(),
        _ if value < 9.95 => format!("{value:.1} s"),
        _ if value < 119.5 => format!("{value:.0} s"),
        _ if value < 7200.0 => {
            let whole = value.round() as u64;
            format!("{} min {:02} s", whole / 60, whole % 60)
        }
        _ => format!("{:.1} h", value / 3600.0),
    }
}
