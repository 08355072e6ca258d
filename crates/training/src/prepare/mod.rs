//! From rows as they came to rows that learners can read: checked, their labels resolved to
//! classes, without what nothing can be learnt from.

mod class_texts;
mod labels;
mod none;

use std::collections::BTreeMap;
use std::ops::Range;

use corral_taxonomy::{ClassIndex, Taxonomy};

pub use self::class_texts::ClassTextRows;
use self::class_texts::wanted_classes;
use self::labels::{check_columns, labels_of, resolve_labels, taxonomy_of_labels};
pub use self::none::NoneRows;

use crate::error::TrainError;
use crate::folds::{self, groups_by_text};
use crate::metrics::Answers;
use crate::options::{ClassTexts, ClassWeighting, Metric, TrainOptions};
use crate::parents::Parents;
use crate::random::Random;
use crate::report::{DataSummary, Regime, Warning, WarningKind, WeakSummary};
use crate::rows::{LabelKind, RowMeaning, Split, TrainingRows};
use crate::targets::Targets;
use crate::weak;

/// Rows named in a warning.
const LISTED_ROWS: usize = 10;
/// Classes named in a warning.
const LISTED_CLASSES: usize = 10;
/// The least different texts: one to fit on for each of two classes, one to hold out.
const LEAST_TEXTS: usize = 3;

/// What learners fit, and what the finished model is tested on.
pub struct Prepared<'a> {
    pub kind: LabelKind,
    pub regime: Regime,
    pub taxonomy: Taxonomy,
    /// The class of each output of the model, in rising order.
    pub outputs: Vec<ClassIndex>,
    /// Texts to learn from: rows of the data set, then texts of classes, then rows that are
    /// fitted with labels made for them.
    pub texts: Vec<&'a str>,
    /// Where the texts of classes stand.
    pub class_texts: Range<usize>,
    /// The ids of the rows of the data set among them.
    pub row_ids: Vec<u64>,
    pub targets: Targets,
    pub weights: Vec<f32>,
    /// What the rows that folds hold out count when they are scored, as they were given; `None`
    /// when all count the same.
    pub row_counts: Option<Vec<f32>>,
    /// Targets and weights as fits without a fold see them, by fold; empty where they are the
    /// same for all. Labels made from other labels must not know those that a fold holds out.
    pub without_fold: Vec<(Targets, Vec<f32>)>,
    /// One weight an output.
    pub class_weights: Vec<f32>,
    /// What outputs lie under, where local models have use for it.
    pub parents: Option<Parents>,
    /// By text, numbered by first appearance.
    pub groups: Vec<u32>,
    /// How many of `texts` are rows of the data set: those that folds hold out.
    pub scored: usize,
    pub test: TestRows<'a>,
    /// Rows of no class, where the options name their label.
    pub none: Option<NoneRows<'a>>,
    pub summary: DataSummary,
    /// What became of rows without label.
    pub weak: Option<WeakSummary>,
    pub warnings: Vec<Warning>,
}

/// The labelled rows of the test split.
pub struct TestRows<'a> {
    pub texts: Vec<&'a str>,
    pub row_ids: Vec<u64>,
    pub targets: Targets,
    /// What each row counts; `None` when all count the same.
    pub weights: Option<Vec<f32>>,
}

impl TestRows<'_> {
    /// What the rows are scored by.
    pub fn answers(&self) -> Answers<'_> {
        Answers { targets: &self.targets, weights: self.weights.as_deref() }
    }
}

/// What a fit must not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldOut {
    Nothing,
    Fold(usize),
}

/// Checks and resolves rows. Where some or all rows to learn from have no label,
/// [`weak::label_rows`] makes labels for them once features are computed.
pub fn prepare<'a>(
    rows: &TrainingRows<'a>,
    taxonomy: Option<&Taxonomy>,
    class_texts: &'a ClassTextRows,
    options: &TrainOptions,
) -> Result<Prepared<'a>, TrainError> {
    check_columns(rows)?;
    let mut none = NoneRows::named(rows, options.none_label.as_deref())?;
    let none_code = none.as_ref().map(NoneRows::code);
    let taxonomy = match taxonomy {
        Some(taxonomy) => taxonomy.clone(),
        None => taxonomy_of_labels(rows, none_code)?,
    };
    let classes = resolve_labels(rows, &taxonomy, none_code)?;
    let labels_of = |row: usize| labels_of(rows, &classes, row);
    let has_weight = |row: usize| rows.weights.as_ref().is_none_or(|weights| weights[row] > 0.0);

    let mut summary = DataSummary { rows: rows.texts.len() as u64, ..DataSummary::default() };
    let mut warnings = Vec::new();
    let (mut learnt, mut tested, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    let mut unlabelled = Vec::new();
    for row in 0..rows.texts.len() {
        let labels = labels_of(row)?;
        let is_test = rows.splits[row] == Split::Test;
        match rows.splits[row] {
            Split::Train => summary.train_rows += 1,
            Split::Valid => summary.valid_rows += 1,
            Split::Test => summary.test_rows += 1,
        }
        if none.as_mut().is_some_and(|none| none.take(rows, row)) {
            continue;
        }
        let Some(labels) = labels else {
            summary.unlabelled_rows += u64::from(!is_test);
            if !is_test && !rows.texts[row].trim().is_empty() && has_weight(row) {
                unlabelled.push(row);
            }
            continue;
        };
        if !has_weight(row) {
            summary.weightless_rows += 1;
        } else if is_test {
            tested.push((row, labels));
        } else if rows.texts[row].trim().is_empty() {
            empty.push(row);
        } else {
            learnt.push((row, labels));
        }
    }
    if learnt.is_empty() && unlabelled.is_empty() && summary.weightless_rows > 0 {
        return Err(TrainError::NoWeight { rows: summary.weightless_rows as usize });
    }
    let regime = match (learnt.is_empty(), unlabelled.is_empty()) {
        (false, _) if summary.unlabelled_rows == 0 => Regime::Labelled,
        (false, _) => Regime::PartlyLabelled,
        (true, false) => Regime::Unlabelled,
        (true, true) => Regime::TaxonomyOnly,
    };
    summary.labelled_rows = learnt.len() as u64;
    if !empty.is_empty() {
        summary.empty_rows = empty.len() as u64;
        warnings.push(Warning::rows(
            WarningKind::EmptyTexts,
            empty.len(),
            named_rows(rows, &empty),
        ));
    }

    let tested_texts: Vec<&str> = tested.iter().map(|(row, _)| rows.texts[*row]).collect();
    let carried = learnt.iter().flat_map(|(_, labels)| labels.iter().map(|label| label.0));
    let mut wanted = wanted_classes(&taxonomy, carried);
    if let Some(class) = none.as_ref().and_then(|none| none.class_in(&taxonomy)) {
        wanted[class as usize] = false;
    }
    let mut of_classes = class_texts.wanted(&wanted, &tested_texts);
    if learnt.is_empty() && (of_classes.is_empty() || rows.kind == LabelKind::MultiLabel) {
        let rows = summary.train_rows + summary.valid_rows;
        return Err(TrainError::NothingLabelled { rows: rows as usize });
    }
    summary.class_texts = of_classes.len() as u64;
    let mut unlabelled = match (regime, rows.kind) {
        (Regime::PartlyLabelled, LabelKind::MultiLabel) => {
            warnings.push(Warning::rows(
                WarningKind::UnlabelledLeftOut,
                unlabelled.len(),
                Vec::new(),
            ));
            Vec::new()
        }
        _ => {
            let labelled = learnt.iter().map(|(row, _)| rows.texts[*row]).collect();
            let texts = unlabelled.iter().map(|&row| rows.texts[row]).collect();
            let unlabelled = kept(&unlabelled, &new_texts(labelled, texts));
            let most = weak::most_unlabelled_rows(learnt.len(), wanted.len());
            sampled(unlabelled, most, options.seed)
        }
    };
    match regime {
        Regime::Labelled | Regime::PartlyLabelled => {}
        // Folds hold these rows out, with the labels that will be made for them.
        Regime::Unlabelled => learnt.extend(unlabelled.drain(..).map(|row| (row, Vec::new()))),
        Regime::TaxonomyOnly => {}
    }
    let wants_phrases = match regime {
        Regime::Labelled | Regime::PartlyLabelled => false,
        Regime::Unlabelled => options.class_texts == ClassTexts::All,
        Regime::TaxonomyOnly => true,
    };
    if wants_phrases {
        // A name alone is unlike the texts to come; within a phrase it is less so.
        of_classes.extend(class_texts.phrases(&wanted));
    }
    let mut outputs: Vec<ClassIndex> = learnt
        .iter()
        .flat_map(|(_, labels)| labels.iter().map(|label| label.0))
        .chain(of_classes.iter().map(|(class, _)| *class))
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
    let mut texts = Vec::with_capacity(learnt.len() + of_classes.len() + unlabelled.len());
    let mut weights = Vec::with_capacity(texts.capacity());
    let to_outputs = |labels: &[(ClassIndex, f32)], meaning: RowMeaning, targets: &mut Targets| {
        let mut labels: Vec<(u32, f32)> =
            labels.iter().filter_map(|&(class, share)| Some((output_of(class)?, share))).collect();
        targets.push_meaning(&mut labels, meaning);
    };
    // Where every label holds by itself, shares have said by now which of them do.
    let meaning_of = |row: usize| match rows.kind {
        LabelKind::SingleChoice => rows.labels.meaning(row).unwrap_or(RowMeaning::AnyOf),
        LabelKind::MultiLabel => RowMeaning::AnyOf,
    };
    let weight_of = |row: usize| rows.weights.as_ref().map_or(1.0, |weights| weights[row]);
    for (row, labels) in &learnt {
        texts.push(rows.texts[*row]);
        weights.push(weight_of(*row));
        to_outputs(labels, meaning_of(*row), &mut targets);
    }
    for (class, text) in &of_classes {
        texts.push(*text);
        weights.push(1.0);
        to_outputs(&[(*class, 1.0)], RowMeaning::AnyOf, &mut targets);
    }
    let class_texts = learnt.len()..texts.len();
    for &row in &unlabelled {
        texts.push(rows.texts[row]);
        weights.push(weight_of(row));
        to_outputs(&[], RowMeaning::AnyOf, &mut targets);
    }
    let scored = if regime == Regime::TaxonomyOnly { texts.len() } else { learnt.len() };
    let groups = groups_by_text(&texts);
    let distinct = groups[..scored].iter().max().map_or(0, |&last| last as usize + 1);
    if distinct < LEAST_TEXTS {
        return Err(TrainError::TooFewTexts { texts: distinct, least: LEAST_TEXTS });
    }

    let row_ids =
        |of: &[(usize, _)]| -> Vec<u64> { of.iter().map(|(row, _)| rows.row_ids[*row]).collect() };
    let mut test = TestRows {
        texts: Vec::with_capacity(tested.len()),
        row_ids: row_ids(&tested),
        targets: Targets::new(),
        weights: rows
            .weights
            .as_ref()
            .map(|weights| tested.iter().map(|(row, _)| weights[*row]).collect()),
    };
    for (row, labels) in &tested {
        test.texts.push(rows.texts[*row]);
        to_outputs(labels, meaning_of(*row), &mut test.targets);
    }
    summary.labelled_test_rows = tested.len() as u64;
    summary.classes = outputs.len() as u64;
    summary.duplicate_rows = (scored - distinct) as u64;

    let counts = rows_by_class(&targets, learnt.len(), outputs.len());
    if matches!(regime, Regime::Labelled | Regime::PartlyLabelled) {
        warn_about_classes(&counts, &outputs, &taxonomy, &mut warnings);
    }
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
        ClassWeighting::Balanced => {
            balanced_weights(&targets, &weights[..learnt.len()], outputs.len())
        }
    };
    if let Some(none) = &mut none {
        summary.none_rows = none.texts.len() as u64;
        summary.none_test_rows = none.test_texts.len() as u64;
        let is_valid = learnt.iter().map(|(row, _)| rows.splits[*row] == Split::Valid);
        none.scored_is_valid = is_valid.collect();
        none.scored_is_valid.resize(scored, false);
    }
    let row_ids = match regime {
        Regime::TaxonomyOnly => (0..scored as u64).collect(),
        _ => row_ids(&learnt),
    };
    let is_given = rows.weights.is_some() && regime != Regime::TaxonomyOnly;
    Ok(Prepared {
        row_counts: is_given.then(|| weights[..scored].to_vec()),
        kind: rows.kind,
        regime,
        parents: Parents::of(&taxonomy, &outputs),
        taxonomy,
        outputs,
        texts,
        class_texts,
        row_ids,
        targets,
        weights,
        without_fold: Vec::new(),
        class_weights,
        groups,
        scored,
        test,
        none,
        summary,
        weak: None,
        warnings,
    })
}

impl Prepared<'_> {
    /// What rows that folds hold out are scored by.
    pub fn answers(&self) -> Answers<'_> {
        Answers { targets: &self.targets, weights: self.row_counts.as_deref() }
    }

    /// What candidates are compared by.
    pub fn metric(&self, options: &TrainOptions) -> Metric {
        options.metric.unwrap_or(Metric::usual(self.kind, self.scored))
    }

    /// Deals the rows to folds.
    pub fn folds(&self, count: usize, seed: u64) -> folds::Folds {
        let classes: Vec<Option<u32>> = (0..self.texts.len())
            // Multi-label rows without a class are dealt together, after all others.
            .map(|row| (row < self.scored).then(|| self.targets.first(row).unwrap_or(u32::MAX)))
            .collect();
        folds::Folds::stratified(&self.groups, &classes, count, seed)
    }

    /// Targets and weights to fit with, while a fold is held out or for good.
    pub fn fitted_labels(&self, held_out: HeldOut) -> (&Targets, &[f32]) {
        let without = match held_out {
            HeldOut::Nothing => None,
            HeldOut::Fold(fold) => self.without_fold.get(fold),
        };
        without.map_or((&self.targets, &self.weights), |(targets, weights)| (targets, weights))
    }

    /// The rows that are fitted with labels made for them, beside those that folds hold out.
    pub fn unlabelled(&self) -> Range<usize> {
        self.class_texts.end..self.texts.len()
    }

    /// The share of answers that should be right where labels were made for all rows: to be
    /// calibrated by, since how often a model agrees with such labels says nothing of it.
    pub fn expected_accuracy(&self) -> Option<f64> {
        let weak = self.weak.as_ref().filter(|_| self.regime == Regime::Unlabelled);
        weak.and_then(|weak| weak.estimated_accuracy)
    }

    /// Leaves the rows without label alone.
    pub fn forget_unlabelled(&mut self) {
        let kept = self.class_texts.end;
        self.texts.truncate(kept);
        self.targets.truncate(kept);
        self.weights.truncate(kept);
        self.groups.truncate(kept);
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

/// Weights by which all classes count the same: what all rows count, over what those of a class
/// do. A class without rows counts as one that has a single row.
fn balanced_weights(targets: &Targets, weights: &[f32], classes: usize) -> Vec<f32> {
    let mut of_class = vec![0f32; classes];
    for (row, weight) in weights.iter().enumerate() {
        targets.right(row).for_each(|class| of_class[class as usize] += weight);
    }
    let total: f32 = weights.iter().sum();
    let of_class = of_class.into_iter().map(|weight| if weight > 0.0 { weight } else { 1.0 });
    of_class.map(|weight| total / (classes as f32 * weight)).collect()
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

/// Which texts are not among `known` ones.
fn new_texts<'a>(mut known: Vec<&'a str>, texts: Vec<&'a str>) -> Vec<bool> {
    let count = known.len();
    known.extend(texts);
    let groups = groups_by_text(&known);
    let mark = groups[..count].iter().max().map_or(0, |&last| last + 1);
    groups[count..].iter().map(|group| *group >= mark).collect()
}

fn kept(rows: &[usize], keep: &[bool]) -> Vec<usize> {
    rows.iter().zip(keep).filter(|(_, keep)| **keep).map(|(row, _)| *row).collect()
}

/// Names the sample of rows without label among the streams of a seed.
const SAMPLE_STREAM: u64 = 0x756e_6c61_6265_6c6c;

/// At most so many of the rows, drawn by seed, in their order.
fn sampled(mut rows: Vec<usize>, most: usize, seed: u64) -> Vec<usize> {
    if rows.len() > most {
        Random::new(seed, SAMPLE_STREAM).shuffle(&mut rows);
        rows.truncate(most);
        rows.sort_unstable();
    }
    rows
}

fn named_rows(rows: &TrainingRows<'_>, which: &[usize]) -> Vec<String> {
    which.iter().take(LISTED_ROWS).map(|&row| format!("row {}", rows.row_ids[row])).collect()
}

/// The provenance that is told again, with what training itself knows.
pub fn metadata(prepared: &Prepared<'_>, options: &TrainOptions) -> BTreeMap<String, String> {
    let mut metadata = options.provenance.clone();
    metadata.insert("seed".to_owned(), options.seed.to_string());
    metadata.insert("metric".to_owned(), prepared.metric(options).to_string());
    metadata.insert("rows".to_owned(), prepared.summary.labelled_rows.to_string());
    metadata
}
