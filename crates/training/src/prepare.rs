//! From rows as they came to rows that learners can read: checked, their labels resolved to
//! classes, without what nothing can be learnt from.

use std::collections::{BTreeMap, HashMap};

use corral_taxonomy::{ClassIndex, Taxonomy};

use crate::error::TrainError;
use crate::folds::{self, groups_by_text};
use crate::options::{ClassTexts, ClassWeighting, TrainOptions};
use crate::report::{DataSummary, Warning, WarningKind};
use crate::rows::{LabelKind, Split, TrainingRows};
use crate::targets::Targets;

/// Unknown labels named in an error; the count tells the rest.
const LISTED_LABELS: usize = 8;
/// Rows named in a warning.
const LISTED_ROWS: usize = 10;
/// Classes named in a warning.
const LISTED_CLASSES: usize = 10;
/// The least different texts: one to fit on for each of two classes, one to hold out.
const LEAST_TEXTS: usize = 3;

/// What learners fit, and what the finished model is tested on.
pub struct Prepared<'a> {
    pub kind: LabelKind,
    pub taxonomy: Taxonomy,
    /// The class of each output of the model, in rising order.
    pub outputs: Vec<ClassIndex>,
    /// Texts to learn from: rows of the data set, then texts of classes.
    pub texts: Vec<&'a str>,
    /// The ids of the rows of the data set among them.
    pub row_ids: Vec<u64>,
    pub targets: Targets,
    pub weights: Vec<f32>,
    /// One weight an output.
    pub class_weights: Vec<f32>,
    /// By text, numbered by first appearance.
    pub groups: Vec<u32>,
    /// How many of `texts` are rows of the data set: those that folds hold out.
    pub scored: usize,
    pub test: TestRows<'a>,
    pub summary: DataSummary,
    pub warnings: Vec<Warning>,
}

/// The labelled rows of the test split.
pub struct TestRows<'a> {
    pub texts: Vec<&'a str>,
    pub row_ids: Vec<u64>,
    pub targets: Targets,
}

/// Checks and resolves rows.
pub fn prepare<'a>(
    rows: &TrainingRows<'a>,
    taxonomy: Option<&'a Taxonomy>,
    options: &TrainOptions,
) -> Result<Prepared<'a>, TrainError> {
    check_columns(rows)?;
    let given = taxonomy;
    let taxonomy = match given {
        Some(taxonomy) => taxonomy.clone(),
        None => taxonomy_of_labels(rows)?,
    };
    let classes = resolve_labels(rows, &taxonomy)?;
    let labels_of = |row: usize| labels_of(rows, &classes, row);

    let mut summary = DataSummary { rows: rows.texts.len() as u64, ..DataSummary::default() };
    let mut warnings = Vec::new();
    let (mut learnt, mut tested, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..rows.texts.len() {
        let labels = labels_of(row)?;
        let is_test = rows.splits[row] == Split::Test;
        match rows.splits[row] {
            Split::Train => summary.train_rows += 1,
            Split::Valid => summary.valid_rows += 1,
            Split::Test => summary.test_rows += 1,
        }
        let Some(labels) = labels else {
            summary.unlabelled_rows += u64::from(!is_test);
            continue;
        };
        if is_test {
            tested.push((row, labels));
        } else if rows.texts[row].trim().is_empty() {
            empty.push(row);
        } else if rows.weights.as_ref().is_none_or(|weights| weights[row] > 0.0) {
            learnt.push((row, labels));
        }
    }
    if learnt.is_empty() {
        let rows = summary.train_rows + summary.valid_rows;
        return Err(TrainError::NothingLabelled { rows: rows as usize });
    }
    summary.labelled_rows = learnt.len() as u64;
    if !empty.is_empty() {
        summary.empty_rows = empty.len() as u64;
        warnings.push(Warning::rows(
            WarningKind::EmptyTexts,
            empty.len(),
            named_rows(rows, &empty),
        ));
    }

    let class_texts =
        given.map_or_else(Vec::new, |taxonomy| class_texts(taxonomy, &learnt, options.class_texts));
    let tested_texts: Vec<&str> = tested.iter().map(|(row, _)| rows.texts[*row]).collect();
    let class_texts = without_tested(class_texts, &tested_texts);
    let mut outputs: Vec<ClassIndex> = learnt
        .iter()
        .flat_map(|(_, labels)| labels.iter().map(|label| label.0))
        .chain(class_texts.iter().map(|(class, _)| *class))
        .collect();
    outputs.sort_unstable();
    outputs.dedup();
    if outputs.len() < 2 {
        let class =
            outputs.first().map_or_else(String::new, |&class| taxonomy.class(class).name.clone());
        return Err(TrainError::OneClass { class });
    }
    let output_of =
        |class: ClassIndex| outputs.binary_search(&class).ok().map(|output| output as u32);

    let mut targets = Targets::new();
    let mut texts = Vec::with_capacity(learnt.len() + class_texts.len());
    let mut weights = Vec::with_capacity(texts.capacity());
    let to_outputs = |labels: &[(ClassIndex, f32)], targets: &mut Targets| {
        let mut labels: Vec<(u32, f32)> =
            labels.iter().filter_map(|&(class, share)| Some((output_of(class)?, share))).collect();
        targets.push(&mut labels);
    };
    for (row, labels) in &learnt {
        texts.push(rows.texts[*row]);
        weights.push(rows.weights.as_ref().map_or(1.0, |weights| weights[*row]));
        to_outputs(labels, &mut targets);
    }
    for (class, text) in &class_texts {
        texts.push(text);
        weights.push(1.0);
        to_outputs(&[(*class, 1.0)], &mut targets);
    }
    let groups = groups_by_text(&texts);
    let distinct = groups[..learnt.len()].iter().max().map_or(0, |&last| last as usize + 1);
    if distinct < LEAST_TEXTS {
        return Err(TrainError::TooFewTexts { texts: distinct, least: LEAST_TEXTS });
    }

    let row_ids =
        |labelled: &[(usize, _)]| labelled.iter().map(|(row, _)| rows.row_ids[*row]).collect();
    let mut test = TestRows {
        texts: Vec::with_capacity(tested.len()),
        row_ids: row_ids(&tested),
        targets: Targets::new(),
    };
    for (row, labels) in &tested {
        test.texts.push(rows.texts[*row]);
        to_outputs(labels, &mut test.targets);
    }
    summary.labelled_test_rows = tested.len() as u64;
    summary.classes = outputs.len() as u64;
    summary.class_texts = class_texts.len() as u64;
    summary.duplicate_rows = (learnt.len() - distinct) as u64;

    let counts = rows_by_class(&targets, learnt.len(), outputs.len());
    warn_about_classes(&counts, &outputs, &taxonomy, &mut warnings);
    let unseen = (0..tested.len()).filter(|&at| test.targets.row(at).0.is_empty()).count();
    if unseen > 0 {
        warnings.push(Warning::rows(WarningKind::TestClassesNotLearnt, unseen, Vec::new()));
    }
    let learnt_rows: Vec<usize> = learnt.iter().map(|(row, _)| *row).collect();
    let tested_rows: Vec<usize> = tested.iter().map(|(row, _)| *row).collect();
    let across = texts_in_both(rows, &learnt_rows, &tested_rows);
    if !across.is_empty() {
        warnings.push(Warning::rows(
            WarningKind::DuplicatesAcrossSplits,
            across.len(),
            named_rows(rows, &across),
        ));
    }

    let class_weights = match options.class_weighting {
        ClassWeighting::Equal => vec![1.0; outputs.len()],
        ClassWeighting::Balanced => counts
            .iter()
            .map(|&count| learnt.len() as f32 / (outputs.len() as f32 * count.max(1) as f32))
            .collect(),
    };
    let scored = learnt.len();
    let kind = rows.kind;
    Ok(Prepared {
        kind,
        taxonomy,
        outputs,
        texts,
        row_ids: row_ids(&learnt),
        targets,
        weights,
        class_weights,
        groups,
        scored,
        test,
        summary,
        warnings,
    })
}

impl Prepared<'_> {
    /// Deals the rows to folds.
    pub fn folds(&self, count: usize, seed: u64) -> folds::Folds {
        let classes: Vec<Option<u32>> = (0..self.texts.len())
            // Multi-label rows without a class are dealt together, after all others.
            .map(|row| (row < self.scored).then(|| self.targets.first(row).unwrap_or(u32::MAX)))
            .collect();
        folds::Folds::stratified(&self.groups, &classes, count, seed)
    }

    /// Different texts among the rows that folds hold out.
    pub fn distinct_texts(&self) -> usize {
        self.groups[..self.scored].iter().max().map_or(0, |&last| last as usize + 1)
    }

    /// The name of an output's class.
    pub fn class_name(&self, output: u32) -> &str {
        &self.taxonomy.class(self.outputs[output as usize]).name
    }

    /// The id of an output's class.
    pub fn class_id(&self, output: u32) -> &str {
        &self.taxonomy.class(self.outputs[output as usize]).id
    }
}

fn check_columns(rows: &TrainingRows<'_>) -> Result<(), TrainError> {
    let count = rows.texts.len();
    let lengths = [
        ("labels", rows.labels.len()),
        ("splits", rows.splits.len()),
        ("row ids", rows.row_ids.len()),
        ("weights", rows.weights.as_ref().map_or(count, Vec::len)),
    ];
    if let Some(&(column, found)) = lengths.iter().find(|(_, length)| *length != count) {
        return Err(TrainError::ColumnLength { column, found, rows: count });
    }
    let weights = rows.weights.iter().flatten().enumerate();
    if let Some((row, &weight)) =
        weights.into_iter().find(|(_, weight)| !(weight.is_finite() && **weight >= 0.0))
    {
        return Err(TrainError::RowWeight { row_id: rows.row_ids[row], weight });
    }
    Ok(())
}

/// Label names that at least one row carries, with their rows.
fn used_labels(rows: &TrainingRows<'_>) -> Result<Vec<u64>, TrainError> {
    let mut counts = vec![0u64; rows.label_names.len()];
    for row in 0..rows.texts.len() {
        let Some((codes, _)) = rows.labels.row(row) else { continue };
        for &code in codes {
            let Some(count) = counts.get_mut(code as usize) else {
                return Err(TrainError::LabelCode {
                    row_id: rows.row_ids[row],
                    code,
                    label_names: rows.label_names.len(),
                });
            };
            *count += 1;
        }
    }
    Ok(counts)
}

fn taxonomy_of_labels(rows: &TrainingRows<'_>) -> Result<Taxonomy, TrainError> {
    let counts = used_labels(rows)?;
    let used = rows.label_names.iter().zip(&counts).filter(|(_, count)| **count > 0);
    let names: Vec<&str> =
        used.map(|(name, _)| name.as_str()).filter(|name| !name.trim().is_empty()).collect();
    if names.is_empty() {
        return Err(TrainError::NothingLabelled { rows: rows.texts.len() });
    }
    Taxonomy::from_labels(names).map_err(TrainError::LabelsAsTaxonomy)
}

/// The class of each label code; `None` for labels that are empty, which are no labels.
fn resolve_labels(
    rows: &TrainingRows<'_>,
    taxonomy: &Taxonomy,
) -> Result<Vec<Option<ClassIndex>>, TrainError> {
    let counts = used_labels(rows)?;
    let used = rows
        .label_names
        .iter()
        .zip(counts)
        .filter(|(name, count)| *count > 0 && !name.trim().is_empty());
    let matched = taxonomy.match_labels(used.map(|(name, count)| (name.as_str(), count)));
    if !matched.unknown.is_empty() {
        let mut listed: Vec<String> = matched
            .unknown
            .iter()
            .take(LISTED_LABELS)
            .map(|unknown| match unknown.nearest.first() {
                Some(nearest) => {
                    format!("`{}` ({} rows; like `{nearest}`)", unknown.label, unknown.count)
                }
                None => format!("`{}` ({} rows)", unknown.label, unknown.count),
            })
            .collect();
        if matched.unknown.len() > LISTED_LABELS {
            listed.push(format!("and {} more", matched.unknown.len() - LISTED_LABELS));
        }
        let rows = matched.unknown.iter().map(|unknown| unknown.count).sum();
        return Err(TrainError::UnknownLabels { rows, listed: listed.join(", ") });
    }
    let by_label: HashMap<&str, ClassIndex> =
        matched.matched.iter().map(|known| (known.label.as_str(), known.class)).collect();
    Ok(rows.label_names.iter().map(|name| by_label.get(name.as_str()).copied()).collect())
}

/// The classes of a row with their shares; `None` for a row without label.
fn labels_of(
    rows: &TrainingRows<'_>,
    classes: &[Option<ClassIndex>],
    row: usize,
) -> Result<Option<Vec<(ClassIndex, f32)>>, TrainError> {
    let Some((codes, shares)) = rows.labels.row(row) else { return Ok(None) };
    let wrong = |share: f32| TrainError::LabelShare { row_id: rows.row_ids[row], share };
    if let Some(&share) = shares.iter().find(|share| !(share.is_finite() && **share >= 0.0)) {
        return Err(wrong(share));
    }
    let mut labels: Vec<(ClassIndex, f32)> = codes
        .iter()
        .zip(shares)
        .filter_map(|(&code, &share)| Some((classes[code as usize]?, share)))
        .collect();
    labels.sort_by_key(|label| label.0);
    labels.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            first.1 = if rows.kind == LabelKind::MultiLabel {
                first.1.max(later.1)
            } else {
                first.1 + later.1
            };
        }
        same
    });
    let total: f32 = labels.iter().map(|label| label.1).sum();
    if !labels.is_empty() && total <= 0.0 {
        return Err(wrong(total));
    }
    labels.retain(|label| label.1 > 0.0);
    match rows.kind {
        LabelKind::SingleChoice => {
            labels.iter_mut().for_each(|label| label.1 /= total);
            Ok((!labels.is_empty()).then_some(labels))
        }
        LabelKind::MultiLabel => {
            // A share says how likely the class applies: it does from one half on.
            labels.retain(|label| label.1 >= 0.5);
            labels.iter_mut().for_each(|label| label.1 = 1.0);
            Ok(Some(labels))
        }
    }
}

/// Texts of the taxonomy to learn from: of the leaves, and of inner classes that rows carry.
fn class_texts<'a>(
    taxonomy: &'a Taxonomy,
    learnt: &[(usize, Vec<(ClassIndex, f32)>)],
    which: ClassTexts,
) -> Vec<(ClassIndex, &'a str)> {
    let mut wanted: Vec<bool> =
        (0..taxonomy.len()).map(|class| taxonomy.is_leaf(class as ClassIndex)).collect();
    for (_, labels) in learnt {
        labels.iter().for_each(|label| wanted[label.0 as usize] = true);
    }
    let mut texts = Vec::new();
    for (index, class) in taxonomy.classes().iter().enumerate().filter(|(index, _)| wanted[*index])
    {
        let own: Vec<&str> = match which {
            ClassTexts::All => std::iter::once(class.name.as_str())
                .chain(class.description.as_deref())
                .chain(class.examples.iter().map(String::as_str))
                .collect(),
            ClassTexts::Examples => class.examples.iter().map(String::as_str).collect(),
            ClassTexts::None => Vec::new(),
        };
        let own = own.into_iter().filter(|text| !text.trim().is_empty());
        texts.extend(own.map(|text| (index as ClassIndex, text)));
    }
    texts
}

/// The class texts that are not also the text of a test row, which would be told its answer.
fn without_tested<'a>(
    class_texts: Vec<(ClassIndex, &'a str)>,
    tested: &[&'a str],
) -> Vec<(ClassIndex, &'a str)> {
    let own = class_texts.iter().map(|(_, text)| *text);
    let texts: Vec<&str> = tested.iter().copied().chain(own).collect();
    let groups = groups_by_text(&texts);
    // Groups are numbered by first appearance: those below the mark appear among the tested.
    let mark = groups[..tested.len()].iter().max().map_or(0, |&last| last + 1);
    let kept = class_texts.into_iter().zip(&groups[tested.len()..]);
    kept.filter(|(_, group)| **group >= mark).map(|(text, _)| text).collect()
}

fn rows_by_class(targets: &Targets, rows: usize, classes: usize) -> Vec<u64> {
    let mut counts = vec![0; classes];
    for row in 0..rows {
        targets.right(row).for_each(|class| counts[class as usize] += 1);
    }
    counts
}

/// Classes with fewer rows than this are named in a warning: their own scores mean little.
const TINY_CLASS_ROWS: u64 = 5;

fn warn_about_classes(
    counts: &[u64],
    outputs: &[ClassIndex],
    taxonomy: &Taxonomy,
    warnings: &mut Vec<Warning>,
) {
    let mut tiny: Vec<(u64, usize)> = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count < TINY_CLASS_ROWS)
        .map(|(class, &count)| (count, class))
        .collect();
    if tiny.is_empty() {
        return;
    }
    tiny.sort_unstable();
    let named = tiny.iter().take(LISTED_CLASSES);
    let examples = named
        .map(|&(count, class)| format!("{} ({count} rows)", taxonomy.class(outputs[class]).name));
    warnings.push(Warning::rows(WarningKind::TinyClasses, tiny.len(), examples.collect()));
}

/// The test rows whose text also stands among the rows learnt from.
fn texts_in_both(rows: &TrainingRows<'_>, learnt: &[usize], tested: &[usize]) -> Vec<usize> {
    let texts: Vec<&str> = learnt.iter().chain(tested).map(|&row| rows.texts[row]).collect();
    let groups = groups_by_text(&texts);
    // Groups are numbered by first appearance: those below the mark appear among the learnt.
    let mark = groups[..learnt.len()].iter().max().map_or(0, |&last| last + 1);
    tested
        .iter()
        .zip(&groups[learnt.len()..])
        .filter(|(_, group)| **group < mark)
        .map(|(&row, _)| row)
        .collect()
}

fn named_rows(rows: &TrainingRows<'_>, which: &[usize]) -> Vec<String> {
    which.iter().take(LISTED_ROWS).map(|&row| format!("row {}", rows.row_ids[row])).collect()
}

/// The provenance that is told again, with what training itself knows.
pub fn metadata(prepared: &Prepared<'_>, options: &TrainOptions) -> BTreeMap<String, String> {
    let mut metadata = options.provenance.clone();
    metadata.insert("seed".to_owned(), options.seed.to_string());
    metadata.insert("metric".to_owned(), options.metric.to_string());
    metadata.insert("rows".to_owned(), prepared.summary.labelled_rows.to_string());
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_text_that_a_test_row_has_is_not_learnt_from() {
        let texts = vec![(0, "Bakers"), (0, "make bread"), (1, "Welders")];
        let kept = without_tested(texts.clone(), &["bakers ", "join metal"]);
        assert_eq!(kept, [(0, "make bread"), (1, "Welders")]);
        assert_eq!(without_tested(texts.clone(), &[]), texts);
    }
}
