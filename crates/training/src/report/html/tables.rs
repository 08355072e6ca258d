//! The page's tables of trials, members, classes and cost.

use std::fmt::{Result, Write};

use corral_types::{display_bytes, display_count};

use super::escape::{Escaped, Name};
use super::{
    and_more, decimal, evaluation_cells, figures, milliseconds, percent, plots, score, seconds,
};
use crate::options::Metric;
use crate::report::{ClassReport, MemberEffect, Report, TrialEnding, TrialReport};

/// Trials listed, the best first.
const LISTED_TRIALS: usize = 40;
/// Classes listed that fare worst, and best.
const WORST_CLASSES: usize = 150;
const BEST_CLASSES: usize = 30;

/// The trials: a leaderboard, and their scores against time and size.
pub fn search(out: &mut String, report: &Report) -> Result {
    let metric = report.metric;
    let left_out = if report.trials_left_out > 0 {
        format!(" {} planned ones were not run.", display_count(report.trials_left_out as u64))
    } else {
        String::new()
    };
    let time = format!(
        "Each dot is a trial when it ended, those over all folds in colour; the line is the best \
         of them so far. The worst fifth may stand at the edge.{left_out}"
    );
    let size = "Large dots are the members of the ensemble.".to_owned();
    figures(
        out,
        [(plots::score_over_time(report), time), (plots::score_against_size(report), size)],
    )?;
    let is_whole = |trial: &&TrialReport| trial.ending == TrialEnding::Complete;
    let mut order: Vec<&TrialReport> = report.trials.iter().collect();
    order.sort_by(|a, b| {
        let goodness = |trial: &TrialReport| metric.goodness_of(trial.score);
        (is_whole(b).cmp(&is_whole(a)))
            .then(goodness(b).total_cmp(&goodness(a)))
            .then(a.number.cmp(&b.number))
    });
    writeln!(
        out,
        "<div class=\"scroll\"><table class=\"sortable\">\n\
         <caption>The best trials by {metric} on held-out rows; members of the ensemble in bold</caption>\n\
         <thead><tr><th class=\"n\">trial</th><th>candidate</th><th class=\"n\">{metric}</th>\
         <th class=\"n\">folds</th><th class=\"n\">spread over folds</th><th class=\"n\">CPU-s</th>\
         <th class=\"n\">weights</th></tr></thead>\n<tbody>"
    )?;
    for trial in order.iter().take(LISTED_TRIALS) {
        let is_member = report.members.iter().any(|member| member.trial == trial.number);
        writeln!(
            out,
            "<tr{}><td class=\"n\">{}</td><td class=\"name\">{}</td>\
             <td class=\"n\" data-value=\"{}\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{:.2}</td><td class=\"n\" data-value=\"{}\">{}</td></tr>",
            if is_member { " class=\"member\"" } else { "" },
            trial.number,
            Name(&trial.candidate.name()),
            number(trial.score),
            score(metric, trial.score),
            trial.fold_scores.len(),
            spread(metric, &trial.fold_scores),
            trial.fit_cpu_seconds,
            trial.head_bytes,
            display_bytes(trial.head_bytes)
        )?;
    }
    writeln!(out, "</tbody></table></div>")?;
    and_more(
        out,
        report.trials.len() as u64,
        order.len().min(LISTED_TRIALS),
        "trials in report.json",
    )
}

/// A value that a script reads; empty where there is none.
fn number(value: f64) -> String {
    if value.is_finite() { format!("{value}") } else { String::new() }
}

/// From the worst to the best fold.
fn spread(metric: Metric, fold_scores: &[f64]) -> String {
    let finite = || fold_scores.iter().copied().filter(|score| score.is_finite());
    let (least, most) = (finite().reduce(f64::min), finite().reduce(f64::max));
    match (least, most) {
        (Some(least), Some(most)) if fold_scores.len() > 1 => {
            format!("{} – {}", score(metric, least), score(metric, most))
        }
        _ => "–".to_owned(),
    }
}

/// The ensemble, member by member, and what it is worth.
pub fn model(out: &mut String, report: &Report) -> Result {
    writeln!(
        out,
        "<div class=\"scroll\"><table>\n<thead><tr><th></th><th class=\"n\">rows</th>\
         <th class=\"n\">right</th><th class=\"n\">among the first five</th>\
         <th class=\"n\">mean F1</th><th class=\"n\">log-loss</th>\
         <th class=\"n\">calibration error</th></tr></thead>\n<tbody>"
    )?;
    evaluation_cells(out, "cross-validation", &report.cv)?;
    if let Some(test) = &report.test {
        evaluation_cells(out, "test", test)?;
    }
    writeln!(out, "</tbody></table></div>")?;
    let levels = report.test.as_ref().map_or(&report.cv.levels, |test| &test.levels);
    if !levels.is_empty() {
        writeln!(out, "<p>By level of the tree: ")?;
        for (at, level) in levels.iter().enumerate() {
            let (classes, right) = (display_count(level.classes as u64), percent(level.accuracy));
            let comma = if at > 0 { ", " } else { "" };
            write!(out, "{comma}level {} ({classes} classes) {right}", level.depth + 1)?;
        }
        writeln!(out, ".</p>")?;
    }
    writeln!(
        out,
        "<div class=\"scroll\"><table>\n<caption>Members of the ensemble in the order in which \
         they joined</caption>\n<thead><tr><th class=\"n\">weight</th><th>candidate</th>\
         <th class=\"n\">trial</th><th class=\"n\">alone</th><th class=\"n\">ensemble with it</th>\
         <th class=\"n\">without it</th><th class=\"n\">weights</th></tr></thead>\n<tbody>"
    )?;
    for member in &report.members {
        let effect = report.findings.members.iter().find(|effect| effect.trial == member.trial);
        let shown = |value: &dyn Fn(&MemberEffect) -> Option<f64>| {
            effect
                .and_then(value)
                .map_or_else(|| "–".to_owned(), |value| score(report.metric, value))
        };
        writeln!(
            out,
            "<tr><td class=\"n\">{:.0} %</td><td class=\"name\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            member.weight * 100.0,
            Name(&member.name),
            member.trial,
            shown(&|effect| Some(effect.score_alone)),
            score(report.metric, member.score_with),
            shown(&|effect| effect.score_without),
            display_bytes(member.head_bytes)
        )?;
    }
    writeln!(out, "</tbody></table></div>")?;
    let caption = format!("The ensemble's {} on held-out rows as members joined.", report.metric);
    figures(out, [(plots::ensemble(report), caption)])
}

/// Precision, recall and F1 of the classes.
pub fn classes(out: &mut String, report: &Report) -> Result {
    if report.classes.is_empty() {
        return Ok(());
    }
    let mut order: Vec<&ClassReport> = report.classes.iter().collect();
    order.sort_by(|a, b| a.f1.total_cmp(&b.f1).then(b.support.cmp(&a.support)));
    let all = order.len();
    if all > WORST_CLASSES + BEST_CLASSES {
        order.drain(WORST_CLASSES..all - BEST_CLASSES);
    }
    let caption = "Each dot is a class: its F1 against its rows.".to_owned();
    figures(out, [(plots::classes(report), caption)])?;
    let which = if order.len() < all {
        format!("The {WORST_CLASSES} classes that fare worst and the {BEST_CLASSES} that fare best")
    } else {
        "All classes, those that fare worst first".to_owned()
    };
    writeln!(
        out,
        "<div class=\"scroll\"><table class=\"sortable\">\n<caption>{which}, on held-out rows</caption>\n\
         <thead><tr><th>class</th><th class=\"n\">rows</th><th class=\"n\">predicted</th>\
         <th class=\"n\">precision</th><th class=\"n\">recall</th><th class=\"n\">F1</th>\
         </tr></thead>\n<tbody>"
    )?;
    for class in &order {
        writeln!(
            out,
            "<tr><td class=\"name\">{}</td><td class=\"n\" data-value=\"{}\">{}</td>\
             <td class=\"n\" data-value=\"{}\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\" data-value=\"{}\">{}\
             <span class=\"bar\"><i style=\"width:{:.0}%\"></i></span></td></tr>",
            Name(&class.name),
            class.support,
            display_count(class.support),
            class.predicted,
            display_count(class.predicted),
            percent(class.precision),
            percent(class.recall),
            number(class.f1),
            decimal(class.f1),
            100.0 * class.f1.clamp(0.0, 1.0)
        )?;
    }
    writeln!(out, "</tbody></table></div>")?;
    and_more(out, all as u64, order.len(), "classes in between, in report.json")
}

/// What was expected and what it came to.
pub fn cost(out: &mut String, report: &Report) -> Result {
    let (estimate, actual) = (&report.estimate, &report.actual);
    writeln!(
        out,
        "<div class=\"scroll\"><table>\n<thead><tr><th></th><th class=\"n\">expected</th>\
         <th class=\"n\">taken</th></tr></thead>\n<tbody>"
    )?;
    let mut line = |name: &str, expected: String, taken: String| {
        writeln!(
            out,
            "<tr><td>{name}</td><td class=\"n\">{expected}</td><td class=\"n\">{taken}</td></tr>"
        )
    };
    let none = || "–".to_owned();
    line(
        "trials",
        display_count(estimate.trials as u64),
        display_count(report.trials.len() as u64),
    )?;
    line("time", seconds(estimate.wall_seconds), seconds(actual.wall_seconds))?;
    // Reports of earlier versions counted the fits only.
    let cpu_seconds = actual.cpu_seconds.max(actual.fit_cpu_seconds);
    line("CPU", seconds(estimate.cpu_seconds), seconds(cpu_seconds))?;
    let memory = actual.peak_memory_bytes.map_or_else(none, display_bytes);
    line("memory at its peak", display_bytes(estimate.memory_bytes), memory)?;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let expected_gib_seconds = gib(estimate.memory_bytes) * estimate.wall_seconds;
    let gib_seconds = actual.peak_memory_bytes.map(|peak| gib(peak) * actual.wall_seconds);
    line(
        "memory held, at most",
        format!("{expected_gib_seconds:.0} GiB-s"),
        gib_seconds.map_or_else(none, |taken| format!("{taken:.0} GiB-s")),
    )?;
    if let Some(price) = report.price {
        line(
            "cost",
            format!("{:.4}", price.cost(estimate.cpu_seconds, expected_gib_seconds)),
            format!("{:.4}", price.cost(cpu_seconds, gib_seconds.unwrap_or(0.0))),
        )?;
    }
    writeln!(out, "</tbody></table></div>")?;
    writeln!(
        out,
        "<p class=\"soft\">Of the time: words {}, embeddings {}, labels {}, search {}, fitting on all rows {}, \
         test {}, analysis {}.</p>",
        seconds(actual.lexicon_seconds),
        seconds(actual.embedding_seconds),
        seconds(actual.labelling_seconds),
        seconds(actual.search_seconds),
        seconds(actual.refit_seconds),
        seconds(actual.test_seconds),
        seconds(actual.analysis_seconds)
    )?;
    if let Some(price) = report.price {
        writeln!(
            out,
            "<p class=\"soft\">At {} for a core and hour and {} for a GiB and hour.</p>",
            price.cpu_hour, price.gib_hour
        )?;
    }
    if let Some(latency) = &report.findings.latency {
        writeln!(
            out,
            "<p>The finished file predicts one text in {} (median of {}; p99 {}), and takes {}.</p>",
            milliseconds(latency.p50_ms),
            display_count(latency.texts),
            milliseconds(latency.p99_ms),
            display_bytes(report.model.bytes)
        )?;
    }
    if let (Some(limit), Some(estimated)) =
        (report.model.max_latency_us, report.model.estimated_latency_us)
    {
        writeln!(
            out,
            "<p>It was allowed to take {}, and by estimate takes {}.</p>",
            milliseconds(limit as f64 / 1e3),
            milliseconds(estimated / 1e3)
        )?;
    }
    Ok(())
}

/// What the model was made from, and the rows by what became of them.
pub fn origin(out: &mut String, report: &Report) -> Result {
    let data = &report.data;
    writeln!(out, "<div class=\"scroll\"><table>\n<tbody>")?;
    let mut line = |name: &str, value: &str| {
        writeln!(out, "<tr><td class=\"name\">{}</td><td>{}</td></tr>", Name(name), Escaped(value))
    };
    line("model", &report.model.hash)?;
    line("encoder", report.model.encoder.as_deref().unwrap_or("none"))?;
    line("started", &report.started_at.to_string())?;
    for (name, value) in &report.provenance {
        line(name, value)?;
    }
    for (name, rows) in [
        ("rows", data.rows),
        ("rows learnt from", data.labelled_rows),
        ("rows without label", data.unlabelled_rows),
        ("rows without text", data.empty_rows),
        ("labelled rows of weight 0", data.weightless_rows),
        ("rows with the text of an earlier one", data.duplicate_rows),
        ("labelled test rows", data.labelled_test_rows),
        ("texts of classes learnt from", data.class_texts),
    ] {
        line(name, &display_count(rows))?;
    }
    writeln!(out, "</tbody></table></div>")
}
