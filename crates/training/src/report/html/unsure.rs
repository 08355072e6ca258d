//! What the page says of answers that are not sure: refused, or taken back to a parent.

use std::fmt::{Result, Write};

use super::escape::Text;
use super::percent;
use crate::report::{RefusalScores, Report};
use corral_types::display_count;

/// Answers that go back to a parent until they are sure enough.
pub fn back_offs(out: &mut String, report: &Report) -> Result {
    let points = &report.findings.back_offs;
    let Some(first) = points.first() else { return Ok(()) };
    writeln!(
        out,
        "<p>Held-out rows, each answered by the deepest class that is at least so probable with \
         all below it: how many are answered at each level of the tree, and how many of those are \
         right.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th class=\"n\">from</th>\
         <th class=\"n\">answered</th><th class=\"n\">right of those</th>"
    )?;
    for level in &first.levels {
        writeln!(out, "<th class=\"n\">at level {}</th>", level.depth + 1)?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for point in points {
        write!(
            out,
            "<tr><td class=\"n\">{:.2}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>",
            point.confidence,
            percent(point.answered()),
            point.accuracy().map_or_else(|| "–".to_owned(), percent)
        )?;
        for level in &point.levels {
            write!(out, "<td class=\"n\">{}", percent(level.answered))?;
            if let Some(accuracy) = level.accuracy {
                write!(out, " <span class=\"soft\">{} right</span>", percent(accuracy))?;
            }
            write!(out, "</td>")?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div>")
}

/// Texts that are taken for none of the classes.
pub fn refusals(out: &mut String, report: &Report) -> Result {
    let Some(refusals) = &report.refusals else { return Ok(()) };
    let sentence = refusals.sentence();
    writeln!(
        out,
        "<p>Here {}. Without rows of no class in training, the model would name a class for each \
         of them.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th></th>\
         <th class=\"n\">rows of a class</th><th class=\"n\">right if all are answered</th>\
         <th class=\"n\">right with refusals</th><th class=\"n\">refused</th>\
         <th class=\"n\">rows of no class</th><th class=\"n\">refused</th></tr></thead>\n<tbody>",
        Text(&sentence)
    )?;
    let mut row = |name: &str, scores: &RefusalScores| {
        writeln!(
            out,
            "<tr><td>{name}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            display_count(scores.in_scope_rows),
            percent(scores.accuracy_without),
            percent(scores.accuracy),
            percent(scores.refused_in_scope),
            display_count(scores.none_rows),
            percent(scores.refused_none)
        )
    };
    row("held out", &refusals.held_out)?;
    if let Some(test) = &refusals.test {
        row("test", test)?;
    }
    writeln!(out, "</tbody></table></div>")?;
    write!(out, "<p class=\"soft\">Tried, with the share of rows of no class refused: ")?;
    for (at, tried) in refusals.tried.iter().enumerate() {
        let comma = if at > 0 { ", " } else { "" };
        write!(out, "{comma}{} {}", tried.score.as_str(), percent(tried.refused_none))?;
    }
    writeln!(out, " (mean over half the cost, the cost and twice the cost).</p>")
}
