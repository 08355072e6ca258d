//! The report for a terminal.

use std::fmt::Write;

use corral_types::display_bytes;

use super::{Report, TrialEnding};
use crate::metrics::Evaluation;

/// Trials listed, the best first.
const LISTED_TRIALS: usize = 12;
/// Classes listed that fare worst.
const LISTED_CLASSES: usize = 5;
/// Confused pairs listed.
const LISTED_PAIRS: usize = 5;
/// Rows a class must have to be listed among the worst: with fewer its score is chance.
const LISTED_CLASS_SUPPORT: u64 = 5;

pub fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_report(&mut out, report);
    out
}

fn write_report(out: &mut String, report: &Report) -> std::fmt::Result {
    let data = &report.data;
    writeln!(
        out,
        "{}: {} rows to learn from, {} classes, {} folds, seed {}",
        report.name, data.labelled_rows, data.classes, report.folds, report.seed
    )?;
    if data.unlabelled_rows > 0 {
        writeln!(out, "{} rows without label were left alone", data.unlabelled_rows)?;
    }
    writeln!(out, "\ntrials by {}", report.metric)?;
    let complete = |trial: &usize| report.trials[*trial].ending == TrialEnding::Complete;
    let mut order: Vec<usize> = (0..report.trials.len()).filter(complete).collect();
    let goodness = |trial: usize| report.metric.goodness_of(report.trials[trial].score);
    order.sort_by(|&a, &b| goodness(b).total_cmp(&goodness(a)).then(a.cmp(&b)));
    for &trial in order.iter().take(LISTED_TRIALS) {
        let trial = &report.trials[trial];
        let name = trial.candidate.name();
        writeln!(
            out,
            "  {:>3}  {name:<32} {:.4}  {:>7.2} CPU-s",
            trial.number, trial.score, trial.fit_cpu_seconds
        )?;
    }
    writeln!(
        out,
        "\nmodel: {} in {} bytes",
        display_bytes(report.model.bytes),
        report.model.bytes
    )?;
    for member in &report.members {
        writeln!(
            out,
            "  {:>4.0} %  {} (trial {})",
            member.weight * 100.0,
            member.name,
            member.trial
        )?;
    }
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
    let mut worst: Vec<_> =
        report.classes.iter().filter(|class| class.support >= LISTED_CLASS_SUPPORT).collect();
    worst.sort_by(|a, b| a.f1.total_cmp(&b.f1));
    if !worst.is_empty() {
        writeln!(out, "\nhardest classes")?;
    }
    for class in worst.iter().take(LISTED_CLASSES) {
        writeln!(
            out,
            "  {} (F1 {:.3}, precision {:.3}, recall {:.3}, {} rows)",
            class.name, class.f1, class.precision, class.recall, class.support
        )?;
    }
    if !report.confused.is_empty() {
        writeln!(out, "\nmost confused")?;
    }
    for pair in report.confused.iter().take(LISTED_PAIRS) {
        writeln!(out, "  {} taken for {}: {} rows", pair.right, pair.predicted, pair.rows)?;
    }
    if !report.warnings.is_empty() {
        writeln!(out, "\nwarnings")?;
    }
    for warning in &report.warnings {
        write!(out, "  {}", warning.message)?;
        if warning.examples.is_empty() {
            writeln!(out)?;
        } else {
            writeln!(
                out,
                " ({}, …)",
                warning.examples[..warning.examples.len().min(3)].join(", ")
            )?;
        }
    }
    let (estimate, actual) = (&report.estimate, &report.actual);
    write!(
        out,
        "\ntook {:.1} s ({:.1} s expected), {:.1} CPU-s of fitting",
        actual.wall_seconds, estimate.wall_seconds, actual.fit_cpu_seconds
    )?;
    match actual.peak_memory_bytes {
        Some(peak) => writeln!(
            out,
            ", {} of memory at most ({} expected)",
            display_bytes(peak),
            display_bytes(estimate.memory_bytes)
        ),
        None => writeln!(out),
    }
}

fn write_evaluation(out: &mut String, name: &str, evaluation: &Evaluation) -> std::fmt::Result {
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
