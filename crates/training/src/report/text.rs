//! The report for a terminal: plain lines of at most [`COLUMNS`] characters.

use std::fmt::{Result, Write};

use corral_types::display_bytes;

use super::{Report, TrialEnding, TrialReport, shorten};
use crate::metrics::Evaluation;

/// A terminal's usual width.
const COLUMNS: usize = 80;
/// Trials listed, the best first.
const LISTED_TRIALS: usize = 8;
/// Members listed.
const LISTED_MEMBERS: usize = 8;
/// Classes listed that fare worst.
const LISTED_CLASSES: usize = 5;
/// Confused pairs listed.
const LISTED_PAIRS: usize = 5;
/// Examples named of a warning.
const LISTED_EXAMPLES: usize = 3;
/// Rows a class must have to be listed among the worst: with fewer its score is chance.
const LISTED_CLASS_SUPPORT: u64 = 5;

pub fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_report(&mut out, report);
    out
}

fn write_report(out: &mut String, report: &Report) -> Result {
    let data = &report.data;
    let head = format!(
        "{}: {} rows to learn from, {} classes, {} folds, seed {}",
        shorten(&report.name, 40),
        data.labelled_rows,
        data.classes,
        report.folds,
        report.seed
    );
    paragraph(out, "", &head)?;
    match &report.weak {
        Some(weak) => paragraph(out, "", &weak.sentence())?,
        None if data.unlabelled_rows > 0 => {
            writeln!(out, "{} rows without label were left alone", data.unlabelled_rows)?;
        }
        None => {}
    }
    write_trials(out, report)?;
    write_model(out, report)?;
    write_scores(out, report)?;
    write_classes(out, report)?;
    write_rows(out, report)?;
    write_warnings(out, report)?;
    if !report.advice.is_empty() {
        writeln!(out, "\nwhat would help most")?;
    }
    for (at, advice) in report.advice.iter().enumerate() {
        paragraph(out, &format!("  {}. ", at + 1), &advice.message)?;
    }
    write_cost(out, report)
}

fn write_trials(out: &mut String, report: &Report) -> Result {
    let left_out = match report.trials_left_out {
        0 => String::new(),
        left_out => format!(", {left_out} planned ones not run"),
    };
    let mut order: Vec<&TrialReport> =
        report.trials.iter().filter(|trial| trial.ending == TrialEnding::Complete).collect();
    let (tried, complete) = (report.trials.len(), order.len());
    writeln!(
        out,
        "\n{tried} trials by {}, {complete} of them over all folds{left_out}",
        report.metric
    )?;
    let goodness = |trial: &TrialReport| report.metric.goodness_of(trial.score);
    order.sort_by(|a, b| goodness(b).total_cmp(&goodness(a)).then(a.number.cmp(&b.number)));
    for trial in order.iter().take(LISTED_TRIALS) {
        writeln!(
            out,
            "  {:>4} {} {:>7.4} {:>6.1} CPU-s",
            trial.number,
            column(&trial.candidate.name(), 52),
            trial.score,
            trial.fit_cpu_seconds
        )?;
    }
    and_more(out, order.len(), LISTED_TRIALS)
}

fn write_model(out: &mut String, report: &Report) -> Result {
    write!(out, "\nmodel of {}", display_bytes(report.model.bytes))?;
    if let Some(latency) = &report.findings.latency {
        let (p50, p99) = (latency.p50_ms, latency.p99_ms);
        write!(out, ", {p50:.3} ms for one text ({p99:.3} ms p99)")?;
    }
    if let (Some(limit), Some(estimated)) =
        (report.model.max_latency_us, report.model.estimated_latency_us)
    {
        let (limit, estimated) = (limit as f64 / 1e3, estimated / 1e3);
        write!(out, ", {estimated:.3} ms expected and {limit:.3} ms allowed")?;
    }
    writeln!(out)?;
    for member in report.members.iter().take(LISTED_MEMBERS) {
        writeln!(
            out,
            "  {:>3.0} %  {}  {:>7.4} with it",
            member.weight * 100.0,
            column(&member.name, 48),
            member.score_with
        )?;
    }
    and_more(out, report.members.len(), LISTED_MEMBERS)
}

fn write_scores(out: &mut String, report: &Report) -> Result {
    writeln!(
        out,
        "\n{:<12} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "accuracy", "macro F1", "top 5", "log-loss", "ECE"
    )?;
    write_evaluation(out, "cross-valid.", &report.cv)?;
    if let Some(test) = &report.test {
        write_evaluation(out, "test", test)?;
    }
    writeln!(
        out,
        "calibration error before calibration: {:.2} %",
        report.cv_ece_uncalibrated * 100.0
    )?;
    let levels = report.test.as_ref().map_or(&report.cv.levels, |test| &test.levels);
    for level in levels {
        writeln!(
            out,
            "  level {}: {} classes, accuracy {:.4}",
            level.depth + 1,
            level.classes,
            level.accuracy
        )?;
    }
    write_back_offs(out, report)?;
    write_refusals(out, report)
}

fn write_back_offs(out: &mut String, report: &Report) -> Result {
    let points = &report.findings.back_offs;
    let Some(first) = points.first() else { return Ok(()) };
    write!(out, "\nbacking off to parents   right  none")?;
    for level in &first.levels {
        write!(out, "  level {}", level.depth + 1)?;
    }
    writeln!(out)?;
    for point in points {
        let (answered, accuracy) = (point.answered(), point.accuracy());
        let none = 100.0 * (1.0 - answered);
        let right = accuracy.map_or_else(|| "–".to_owned(), |accuracy| format!("{accuracy:.4}"));
        write!(out, "  from {:>4.2} on{right:>17}{none:>5.0}%", point.confidence)?;
        for level in &point.levels {
            write!(out, "{:>8.0}%", 100.0 * level.answered)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_refusals(out: &mut String, report: &Report) -> Result {
    let Some(refusals) = &report.refusals else { return Ok(()) };
    writeln!(out)?;
    paragraph(out, "", &refusals.sentence())?;
    writeln!(
        out,
        "{:<12} {:>8} {:>9} {:>13} {:>9} {:>9} {:>8}",
        "", "rows", "accuracy", "with refusals", "refused", "no class", "refused"
    )?;
    let rows = [("held out", Some(&refusals.held_out)), ("test", refusals.test.as_ref())];
    for (name, scores) in rows.into_iter().filter_map(|(name, scores)| Some((name, scores?))) {
        writeln!(
            out,
            "{name:<12} {:>8} {:>9.4} {:>13.4} {:>7.2} % {:>9} {:>6.1} %",
            scores.in_scope_rows,
            scores.accuracy_without,
            scores.accuracy,
            100.0 * scores.refused_in_scope,
            scores.none_rows,
            100.0 * scores.refused_none
        )?;
    }
    Ok(())
}

fn write_evaluation(out: &mut String, name: &str, evaluation: &Evaluation) -> Result {
    let log_loss = evaluation.log_loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}"));
    writeln!(
        out,
        "{name:<12} {:>9.4} {:>9.4} {:>9.4} {log_loss:>9} {:>7.2} %",
        evaluation.accuracy,
        evaluation.macro_f1,
        evaluation.top_5,
        evaluation.ece * 100.0
    )
}

fn write_classes(out: &mut String, report: &Report) -> Result {
    let mut worst: Vec<_> =
        report.classes.iter().filter(|class| class.support >= LISTED_CLASS_SUPPORT).collect();
    worst.sort_by(|a, b| a.f1.total_cmp(&b.f1));
    if !worst.is_empty() {
        writeln!(
            out,
            "\n{:<42} {:>8} {:>9} {:>7} {:>7}",
            "hardest classes", "F1", "precision", "recall", "rows"
        )?;
    }
    for class in worst.iter().take(LISTED_CLASSES) {
        writeln!(
            out,
            "  {} {:>8.3} {:>9.3} {:>7.3} {:>7}",
            column(&class.name, 40),
            class.f1,
            class.precision,
            class.recall,
            class.support
        )?;
    }
    if !report.confused.is_empty() {
        writeln!(out, "\n{:<30} {:<34} {:>7}", "most confused", "taken for", "rows")?;
    }
    for pair in report.confused.iter().take(LISTED_PAIRS) {
        let (right, predicted) = (column(&pair.right, 28), column(&pair.predicted, 34));
        writeln!(out, "  {right} {predicted} {:>7}", pair.rows)?;
    }
    Ok(())
}

fn write_rows(out: &mut String, report: &Report) -> Result {
    let (errors, duplicates) = (&report.findings.label_errors, &report.findings.duplicates);
    let counts = [
        (errors.rows, "rows whose label is likely wrong"),
        (
            duplicates.conflicting_rows,
            "rows with the text of another, or nearly so, and another label",
        ),
        (duplicates.near_rows_across_splits, "test rows with nearly the text of a row learnt from"),
        (duplicates.near_rows, "rows with nearly the text of another"),
    ];
    if counts.iter().any(|(rows, _)| *rows > 0) {
        writeln!(out, "\nrows to look at")?;
    }
    for (rows, what) in counts.into_iter().filter(|(rows, _)| *rows > 0) {
        writeln!(out, "  {rows:>6}  {what}")?;
    }
    Ok(())
}

fn write_warnings(out: &mut String, report: &Report) -> Result {
    if !report.warnings.is_empty() {
        writeln!(out, "\nwarnings")?;
    }
    for warning in &report.warnings {
        let named: Vec<String> =
            warning.examples.iter().take(LISTED_EXAMPLES).map(|name| shorten(name, 40)).collect();
        let more = if warning.count as usize > named.len() { ", …" } else { "" };
        let examples =
            if named.is_empty() { String::new() } else { format!(" ({}{more})", named.join(", ")) };
        paragraph(out, "  ", &format!("{}{examples}", warning.message))?;
    }
    Ok(())
}

fn write_cost(out: &mut String, report: &Report) -> Result {
    let (estimate, actual) = (&report.estimate, &report.actual);
    let mut text =
        format!("took {:.1} s ({:.1} s expected)", actual.wall_seconds, estimate.wall_seconds);
    // Reports of earlier versions counted the fits only.
    let cpu_seconds = actual.cpu_seconds.max(actual.fit_cpu_seconds);
    text += &format!(", {cpu_seconds:.1} CPU-s ({:.1} expected)", estimate.cpu_seconds);
    if report.weak.is_some() {
        text += &format!(", {:.1} s of it to label rows", actual.labelling_seconds);
    }
    if let Some(peak) = actual.peak_memory_bytes {
        let (peak, expected) = (display_bytes(peak), display_bytes(estimate.memory_bytes));
        text += &format!(", {peak} of memory at most ({expected} expected)");
    }
    if let Some(price) = report.price {
        let gib = actual.peak_memory_bytes.unwrap_or(0) as f64 / f64::from(1 << 30);
        let cost = price.cost(cpu_seconds, gib * actual.wall_seconds);
        text += &format!(", {cost:.4} at the prices given");
    }
    writeln!(out)?;
    paragraph(out, "", &text)
}

fn and_more(out: &mut String, all: usize, listed: usize) -> Result {
    match all.saturating_sub(listed) {
        0 => Ok(()),
        more => writeln!(out, "        and {more} more"),
    }
}

/// A name in a column of so many characters.
fn column(name: &str, width: usize) -> String {
    format!("{:<width$}", plain(name, width))
}

/// A name from the data without what a terminal would obey.
fn plain(name: &str, most_chars: usize) -> String {
    let is_obeyed = |character: &char| {
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || u32::from(*character) & 0xfffe == 0xfffe
    };
    let name: String = name.chars().filter(|character| !is_obeyed(character)).collect();
    shorten(&name, most_chars - 1)
}

/// Words over as many lines as they need, the first after `start`, the others below its end.
fn paragraph(out: &mut String, start: &str, text: &str) -> Result {
    let indent = start.chars().count();
    let text = plain(text, usize::MAX);
    write!(out, "{start}")?;
    let mut column = indent;
    for word in text.split(' ') {
        let width = word.chars().count();
        if column > indent && column + 1 + width > COLUMNS {
            write!(out, "\n{:indent$}", "")?;
            column = indent;
        } else if column > indent {
            write!(out, " ")?;
            column += 1;
        }
        write!(out, "{word}")?;
        column += width;
    }
    writeln!(out)
}
