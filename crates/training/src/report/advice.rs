//! What would help most, in plain sentences with the numbers behind them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{ClassReport, LearningCurve, Report, TrialEnding, quoted};
use crate::options::Metric;

/// Sentences at most: more would not be read.
pub const MAX_ADVICE: usize = 6;
/// Points of accuracy, as a share, below which nothing is advised.
const LEAST_EFFECT: f64 = 5e-4;
/// Classes named in one sentence.
const NAMED_CLASSES: usize = 3;
/// Pairs of classes whose merging is advised.
const MERGED_PAIRS: usize = 2;
/// Rows of two classes that must be taken for each other, and their share of both, before
/// merging is advised.
const MERGE_ROWS: u64 = 4;
const MERGE_SHARE: f64 = 0.1;
/// How much of what stands to be gained by mending labels is expected of it: not every row
/// that looks wrong is.
const MENDED_SHARE: f64 = 0.5;
/// A class whose recall lies this far below the mean is a weak one.
const WEAK_RECALL: f64 = 0.05;
/// A learning curve with a lower exponent is flat.
const FLAT_EXPONENT: f64 = 0.03;
/// What an encoder brought to the reference sets, in points (docs/benchmarks.md).
const ENCODER_GAIN: (f64, f64) = (0.015, 0.055);

/// A sentence on what would help.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    pub kind: AdviceKind,
    pub message: String,
    /// The accuracy that is expected of it, as a share of all rows: sentences are ordered by it.
    pub effect: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdviceKind {
    MoreRowsOfClasses,
    MoreRows,
    OtherThanMoreRows,
    MergeClasses,
    FixLabels,
    ResolveConflicts,
    DrawSplitsAnew,
    InstallEncoder,
    SearchLonger,
    RefuseUnsure,
}

/// The advice that a report's numbers give, by expected effect.
pub fn advise(report: &Report) -> Vec<Advice> {
    let mut advice: Vec<Advice> = merges(report);
    advice.extend(more_rows_of_classes(report));
    advice.extend(more_rows(report));
    advice.extend(fix_labels(report));
    advice.extend(resolve_conflicts(report));
    advice.extend(draw_splits_anew(report));
    advice.extend(install_encoder(report));
    advice.extend(search_longer(report));
    advice.extend(refuse_unsure(report));
    advice.retain(|advice| advice.effect.is_finite());
    advice.sort_by(|a, b| b.effect.total_cmp(&a.effect));
    advice.truncate(MAX_ADVICE);
    advice
}

fn merges(report: &Report) -> Vec<Advice> {
    let rows_of = |name: &str| {
        let class = report.classes.iter().find(|class| class.name == name);
        class.map_or(0, |class| class.support)
    };
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for pair in &report.confused {
        let mut names = [pair.right.as_str(), pair.predicted.as_str()];
        names.sort_unstable();
        let [left, right] = names;
        if !seen.insert(names) {
            continue;
        }
        let back = report
            .confused
            .iter()
            .find(|other| other.right == pair.predicted && other.predicted == pair.right);
        let (rows, both) =
            (pair.rows + back.map_or(0, |back| back.rows), rows_of(left) + rows_of(right));
        let share = rows as f64 / both.max(1) as f64;
        if back.is_none() || rows < MERGE_ROWS || share < MERGE_SHARE {
            continue;
        }
        let effect = rows as f64 / report.cv.rows.max(1) as f64;
        let alike = if share_words(left, right) { ", and their names are alike" } else { "" };
        let message = format!(
            "Merge {} and {}, or describe them so that they can be told apart: {rows} of their \
             {both} rows are taken for each other{alike}. Merged, accuracy would rise by {}.",
            quoted(left),
            quoted(right),
            points(effect)
        );
        found.push(Advice { kind: AdviceKind::MergeClasses, message, effect });
    }
    found.sort_by(|a, b| b.effect.total_cmp(&a.effect));
    found.truncate(MERGED_PAIRS);
    found
}

/// Whether at least half the words of two names are the same.
fn share_words(left: &str, right: &str) -> bool {
    let words = |name: &str| -> BTreeSet<String> {
        name.split(|character: char| !character.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect()
    };
    let (left, right) = (words(left), words(right));
    let common = left.intersection(&right).count();
    common > 0 && 2 * common >= left.len().max(right.len())
}

fn more_rows_of_classes(report: &Report) -> Option<Advice> {
    let curve = rising_curve(report)?;
    let mut supports: Vec<u64> = report.classes.iter().map(|class| class.support).collect();
    supports.sort_unstable();
    let median = supports.get(supports.len() / 2).copied()?;
    let mean =
        report.classes.iter().map(|class| class.recall).sum::<f64>() / report.classes.len() as f64;
    let closed = 1.0 - 2f64.powf(-curve.exponent);
    let gain = |class: &ClassReport| class.support as f64 * (1.0 - class.recall) * closed;
    let mut weak: Vec<&ClassReport> = report
        .classes
        .iter()
        .filter(|class| class.support > 0 && class.support <= median)
        .filter(|class| class.recall < mean - WEAK_RECALL)
        .collect();
    weak.sort_by(|a, b| gain(b).total_cmp(&gain(a)));
    weak.truncate(NAMED_CLASSES);
    let effect = weak.iter().map(|class| gain(class)).sum::<f64>() / report.cv.rows.max(1) as f64;
    if effect < LEAST_EFFECT {
        return None;
    }
    let named: Vec<String> = weak
        .iter()
        .map(|class| {
            format!(
                "{} (recall {} with {} rows)",
                quoted(&class.name),
                percent(class.recall),
                class.support
            )
        })
        .collect();
    let message = format!(
        "Add rows of {}: half of the classes have more than {median} rows, mean recall is {}, \
         and the learning curve still rises. Twice the rows of these should bring about {}.",
        listed(&named),
        percent(mean),
        points(effect)
    );
    Some(Advice { kind: AdviceKind::MoreRowsOfClasses, message, effect })
}

/// The learning curve where it still rises.
fn rising_curve(report: &Report) -> Option<&LearningCurve> {
    report.findings.learning_curve.as_ref().filter(|curve| curve.exponent >= FLAT_EXPONENT)
}

fn more_rows(report: &Report) -> Option<Advice> {
    let curve = report.findings.learning_curve.as_ref()?;
    let scores: Vec<String> = curve.points.iter().map(|point| percent(point.score)).collect();
    let shares: Vec<String> =
        curve.points.iter().map(|point| format!("{}", point.share * 100.0)).collect();
    let seen = format!("with {} % of the rows the score was {}", listed(&shares), listed(&scores));
    let (first, last) = (curve.points.first()?, curve.points.last()?);
    if curve.exponent < FLAT_EXPONENT && last.score < 0.98 && last.score - first.score < 0.02 {
        let message = format!(
            "More rows of the same kind would hardly help: {seen}. Look at labels and classes instead."
        );
        return Some(Advice { kind: AdviceKind::OtherThanMoreRows, message, effect: 0.0 });
    }
    let effect = curve.gain_of_doubling;
    if effect < 3e-3 {
        return None;
    }
    let message = format!(
        "Add rows: {seen}. Twice as many of all classes should bring about {}.",
        points(effect)
    );
    Some(Advice { kind: AdviceKind::MoreRows, message, effect })
}

fn fix_labels(report: &Report) -> Option<Advice> {
    let errors = &report.findings.label_errors;
    let first = errors.examples.first()?;
    let most = errors.rows as f64 / report.cv.rows.max(1) as f64;
    if most < LEAST_EFFECT {
        return None;
    }
    let message = format!(
        "Look at the {} whose label is likely wrong, such as row {}, labelled {} and taken for {} \
         with probability {:.2}: they count as errors now, {} of accuracy.",
        counted(errors.rows, "row"),
        first.row_id,
        quoted(&first.given),
        quoted(&first.suggested),
        first.suggested_probability,
        points(most)
    );
    Some(Advice { kind: AdviceKind::FixLabels, message, effect: most * MENDED_SHARE })
}

fn resolve_conflicts(report: &Report) -> Option<Advice> {
    let duplicates = &report.findings.duplicates;
    let pair = duplicates.examples.first()?;
    let most = duplicates.conflicting_rows as f64 / report.cv.rows.max(1) as f64;
    if most < LEAST_EFFECT {
        return None;
    }
    let message = format!(
        "Decide on one label for {} that have the text of another, or nearly so, and another \
         label, such as rows {} ({}) and {} ({}): no model can get both right.",
        counted(duplicates.conflicting_rows, "row"),
        pair.first.row_id,
        quoted(&pair.first.label),
        pair.second.row_id,
        quoted(&pair.second.label)
    );
    Some(Advice { kind: AdviceKind::ResolveConflicts, message, effect: most * MENDED_SHARE })
}

fn draw_splits_anew(report: &Report) -> Option<Advice> {
    let (shift, test) = (report.findings.split_shift?, report.test.as_ref()?);
    // Samples of one whole differ as well: by about 0.4 times the root of classes over rows.
    let chance = 0.1 + 0.6 * (report.data.classes as f64 / test.rows.max(1) as f64).sqrt();
    let gap = (report.cv.accuracy - test.accuracy).abs();
    let error = (test.accuracy * (1.0 - test.accuracy) / test.rows.max(1) as f64).sqrt();
    let differs = gap > 0.02 && gap > 4.0 * error;
    let why = if shift > chance {
        format!(
            "test rows are spread over the classes otherwise than the rows learnt from ({} would \
             have to change class)",
            percent(shift)
        )
    } else if differs {
        "test rows are unlike the rows learnt from, or copies of them".to_owned()
    } else {
        return None;
    };
    let message = format!(
        "Draw the splits anew (`corral dataset import … --draw test=0.1`): {why}. Accuracy is {} \
         there against {} in cross-validation; one of the two does not tell what to expect.",
        percent(test.accuracy),
        percent(report.cv.accuracy)
    );
    Some(Advice { kind: AdviceKind::DrawSplitsAnew, message, effect: gap / 2.0 })
}

fn install_encoder(report: &Report) -> Option<Advice> {
    let was_read = report.trials.iter().any(|trial| trial.candidate.featurizer.reads_encoder());
    if was_read || report.trials.is_empty() {
        return None;
    }
    let (least, most) = ENCODER_GAIN;
    let message = format!(
        "Install an encoder (`corral encoder install`) and train again: features were counted \
         from words and characters only. On the reference sets embeddings beside them brought {:.1} to {:.1} points.",
        least * 100.0,
        most * 100.0
    );
    let effect = most.min((1.0 - report.cv.accuracy) / 4.0);
    Some(Advice { kind: AdviceKind::InstallEncoder, message, effect })
}

fn search_longer(report: &Report) -> Option<Advice> {
    if report.trials_left_out == 0 {
        return None;
    }
    // What the later half of the trials brought, the half to come may bring.
    let best = |count: usize| {
        let complete =
            report.trials[..count].iter().filter(|trial| trial.ending == TrialEnding::Complete);
        let goodness = complete.map(|trial| report.metric.goodness_of(trial.score));
        goodness.fold(f64::NEG_INFINITY, f64::max)
    };
    let tried = report.trials.len();
    let half = tried / 2;
    let brought = if half == 0 { 0.0 } else { (best(tried) - best(half)).max(0.0) };
    let gain = match report.metric {
        Metric::LogLoss => format!("{brought:.3}"),
        _ => points(brought),
    };
    let message = format!(
        "Let the search run to its end: {} of {} planned trials were not run; the later half of \
         those that were brought {gain} of {}.",
        report.trials_left_out,
        report.trials_left_out + tried,
        report.metric
    );
    Some(Advice { kind: AdviceKind::SearchLonger, message, effect: brought })
}

fn refuse_unsure(report: &Report) -> Option<Advice> {
    let points = &report.findings.refusals;
    let all = points.first()?;
    // The mildest threshold that halves the errors, within a fifth of the rows.
    let chosen = points.iter().find(|point| {
        point.answered >= 0.8 && 1.0 - point.accuracy <= (1.0 - all.accuracy) / 2.0
    })?;
    if chosen.answered == all.answered {
        return None;
    }
    let message = format!(
        "Where a wrong answer costs more than none, leave predictions below {:.2} to a person: \
         that is {} of the rows, and the others are right in {} instead of {}.",
        chosen.threshold,
        percent(1.0 - chosen.answered),
        percent(chosen.accuracy),
        percent(all.accuracy)
    );
    Some(Advice { kind: AdviceKind::RefuseUnsure, message, effect: 0.0 })
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn points(share: f64) -> String {
    let points = share * 100.0;
    if points < 0.95 { format!("{points:.2} points") } else { format!("{points:.1} points") }
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// `a, b and c`.
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [before @ .., last] => format!("{} and {last}", before.join(", ")),
    }
}
