//! What the page says of probabilities, confusions, rows and more rows.

use std::fmt::{Result, Write};

use corral_types::display_count;

use super::escape::{Name, Text};
use super::{and_more, figures, percent, plots};
use crate::report::{LabelledRow, Report};

/// Confused pairs listed, and those whose rows are shown from the start.
const LISTED_PAIRS: usize = 40;
const OPEN_PAIRS: usize = 5;
/// Likely label errors listed.
const LISTED_ERRORS: usize = 60;
/// Near-duplicates listed.
const LISTED_DUPLICATES: usize = 25;

/// How far probabilities can be trusted, and what refusing the unsure ones brings.
pub fn probabilities(out: &mut String, report: &Report) -> Result {
    let findings = &report.findings;
    let reliability = format!(
        "Predictions in {} bins of confidence: on the diagonal they are right as often as they \
         say. Calibration error {} before calibration, {} after.",
        findings.reliability.len(),
        percent(report.cv_ece_uncalibrated),
        percent(report.cv.ece)
    );
    let refusals = "What is left when the least sure predictions are refused.".to_owned();
    figures(
        out,
        [
            (plots::reliability(&findings.reliability), reliability),
            (plots::refusals(&findings.refusals), refusals),
        ],
    )?;
    if findings.refusals.len() > 1 {
        writeln!(
            out,
            "<div class=\"scroll\"><table>\n<caption>Refusing predictions below a probability\
             </caption>\n<thead><tr><th class=\"n\">below</th><th class=\"n\">answered</th>\
             <th class=\"n\">right of those</th></tr></thead>\n<tbody>"
        )?;
        for point in &findings.refusals {
            writeln!(
                out,
                "<tr><td class=\"n\">{:.3}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                point.threshold,
                percent(point.answered),
                percent(point.accuracy)
            )?;
        }
        writeln!(out, "</tbody></table></div>")?;
    }
    Ok(())
}

/// The classes most often taken for others, with rows that show it.
pub fn confusions(out: &mut String, report: &Report) -> Result {
    for (at, pair) in report.confused.iter().take(LISTED_PAIRS).enumerate() {
        let open = if at < OPEN_PAIRS { " open=\"open\"" } else { "" };
        let rows = if pair.rows == 1 { "row" } else { "rows" };
        writeln!(
            out,
            "<details{open}><summary><b>{}</b> taken for <b>{}</b>: {} {rows}</summary>",
            Name(&pair.right),
            Name(&pair.predicted),
            display_count(pair.rows)
        )?;
        for example in &pair.examples {
            writeln!(
                out,
                "<blockquote>{} <span class=\"soft\">row {}, {}</span></blockquote>",
                Text(&example.text),
                example.row_id,
                percent(example.probability)
            )?;
        }
        writeln!(out, "</details>")?;
    }
    let shown = report.confused.len().min(LISTED_PAIRS);
    and_more(out, report.confused.len() as u64, shown, "pairs in report.json")
}

/// Likely label errors and near-duplicates.
pub fn rows(out: &mut String, report: &Report) -> Result {
    let (errors, duplicates) = (&report.findings.label_errors, &report.findings.duplicates);
    if errors.rows > 0 {
        writeln!(
            out,
            "<h3>Likely label errors</h3>\n<p>{} rows whose held-out prediction is confidently \
             another class than their label (confident learning). Not all are wrong: look at \
             them from the top.</p>\n<div class=\"scroll\"><table>\n<thead><tr>\
             <th class=\"n\">row</th><th>text</th><th>labelled</th><th>looks like</th></tr></thead>\n<tbody>",
            display_count(errors.rows)
        )?;
        for error in errors.examples.iter().take(LISTED_ERRORS) {
            writeln!(
                out,
                "<tr><td class=\"n\">{}</td><td class=\"text\">{}</td><td>{} \
                 <span class=\"soft\">{}</span></td><td>{} <span class=\"soft\">{}</span></td></tr>",
                error.row_id,
                Text(&error.text),
                Name(&error.given),
                percent(error.given_probability),
                Name(&error.suggested),
                percent(error.suggested_probability)
            )?;
        }
        writeln!(out, "</tbody></table></div>")?;
        let shown = errors.examples.len().min(LISTED_ERRORS);
        and_more(out, errors.rows, shown, "rows; report.json lists the first 200")?;
    }
    if duplicates.examples.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h3>Near-duplicates</h3>\n<p>{} rows have nearly the text of another; {} test rows have \
         nearly the text of a row learnt from; {} rows have the text of another, or nearly so, \
         and no label in common with it.</p>",
        display_count(duplicates.near_rows),
        display_count(duplicates.near_rows_across_splits),
        display_count(duplicates.conflicting_rows)
    )?;
    writeln!(
        out,
        "<div class=\"scroll\"><table>\n<thead><tr><th class=\"n\">alike</th>\
         <th class=\"n\">row</th><th>text</th><th>label</th></tr></thead>\n<tbody>"
    )?;
    for pair in duplicates.examples.iter().take(LISTED_DUPLICATES) {
        let cells = |row: &LabelledRow| {
            let split = if row.is_test { " (test)" } else { "" };
            format!(
                "<td class=\"n\">{}{split}</td><td class=\"text\">{}</td><td>{}</td></tr>",
                row.row_id,
                Text(&row.text),
                Name(&row.label)
            )
        };
        writeln!(
            out,
            "<tr><td class=\"n\" rowspan=\"2\">{}</td>{}\n<tr>{}",
            percent(pair.similarity),
            cells(&pair.first),
            cells(&pair.second)
        )?;
    }
    writeln!(out, "</tbody></table></div>")
}

/// The learning curve.
pub fn learning(out: &mut String, report: &Report) -> Result {
    let Some(curve) = &report.findings.learning_curve else { return Ok(()) };
    let caption = format!(
        "{} fitted on 1/8, 1/4, 1/2 and all of the rows of {} folds, scored on the rows held out. \
         The dashed end is what twice the rows should bring if the error goes on falling as it \
         did: {:.1} points.",
        Name(&curve.candidate),
        curve.folds,
        100.0 * curve.gain_of_doubling
    );
    figures(out, [(plots::learning_curve(curve), caption)])
}
