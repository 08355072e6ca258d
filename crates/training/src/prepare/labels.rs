//! The labels of rows, resolved to classes.

use std::collections::HashMap;

use corral_taxonomy::{ClassIndex, Taxonomy};

use crate::error::TrainError;
use crate::rows::{LabelKind, TrainingRows};

/// Unknown labels named in an error; the count tells the rest.
const LISTED_LABELS: usize = 8;

/// Whether columns are as long as each other and weights are weights.
pub fn check_columns(rows: &TrainingRows<'_>) -> Result<(), TrainError> {
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

/// The rows of each label name, except for that of rows of no class.
fn used_labels(rows: &TrainingRows<'_>, none: Option<u32>) -> Result<Vec<u64>, TrainError> {
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
            *count += u64::from(Some(code) != none);
        }
    }
    Ok(counts)
}

/// The labels that rows carry as a flat taxonomy.
pub fn taxonomy_of_labels(
    rows: &TrainingRows<'_>,
    none: Option<u32>,
) -> Result<Taxonomy, TrainError> {
    let counts = used_labels(rows, none)?;
    let used = rows.label_names.iter().zip(&counts).filter(|(_, count)| **count > 0);
    let names: Vec<&str> =
        used.map(|(name, _)| name.as_str()).filter(|name| !name.trim().is_empty()).collect();
    if names.is_empty() {
        return Err(TrainError::NothingLabelled { rows: rows.texts.len() });
    }
    Taxonomy::from_labels(names).map_err(TrainError::LabelsAsTaxonomy)
}

/// The class of each label code; `None` for labels that are empty, which are no labels.
pub fn resolve_labels(
    rows: &TrainingRows<'_>,
    taxonomy: &Taxonomy,
    none: Option<u32>,
) -> Result<Vec<Option<ClassIndex>>, TrainError> {
    let counts = used_labels(rows, none)?;
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
pub fn labels_of(
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
