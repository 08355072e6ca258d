//! Rows worth looking at next: on which nothing is voted, votes contradict, the label model is in
//! doubt, or is surely wrong.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use corral_data::Dataset;
use corral_labels::{Evidence, FitOptions, LabelModel, Method, VoteTable, fit};

use crate::error::LabelingError;
use crate::program::Program;
use crate::session::Exact;
use crate::votes::Rows;

/// Classes that a row's probabilities name.
const SHOWN_CLASSES: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// No function votes on it.
    Uncovered,
    /// Votes contradict one another, most first.
    Conflict,
    /// The likeliest classes are nearly as likely.
    Uncertain,
    /// A gold row of which the label model is surest that it is something else.
    Wrong,
}

impl Which {
    pub const ALL: [Self; 4] = [Self::Uncovered, Self::Conflict, Self::Uncertain, Self::Wrong];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uncovered => "uncovered",
            Self::Conflict => "conflict",
            Self::Uncertain => "uncertain",
            Self::Wrong => "wrong",
        }
    }
}

/// A row with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenRow {
    pub row_id: u64,
    pub text: String,
    /// Each function that does not abstain, by position, and its vote by position.
    pub votes: Vec<(usize, usize)>,
    pub gold: Vec<String>,
    /// The likeliest classes.
    pub probabilities: Vec<(String, f32)>,
}

/// Where a row stands, and how much it is worth a look.
#[derive(PartialEq)]
struct Found {
    worth: f64,
    part: usize,
    block: usize,
    row: usize,
}

impl Eq for Found {}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Of rows worth the same, earlier ones first.
        let place = |found: &Self| Reverse((found.part, found.block, found.row));
        self.worth.total_cmp(&other.worth).then_with(|| place(self).cmp(&place(other)))
    }
}

/// The rows most worth a look.
///
/// # Errors
/// When there are too few votes for a label model, or a file cannot be read.
pub fn next_rows(
    program: &Program,
    rows: &Rows<'_>,
    exact: &Exact,
    which: Which,
    limit: usize,
) -> Result<Vec<SeenRow>, LabelingError> {
    let model = match which {
        Which::Uncovered | Which::Conflict => None,
        Which::Uncertain | Which::Wrong => {
            let evidence = Evidence::of_counts(&exact.table, exact.counts.clone())?;
            Some(fit(&evidence, Method::Weighted, &FitOptions::default())?)
        }
    };
    let mut best: BinaryHeap<Reverse<Found>> = BinaryHeap::new();
    for (part, block) in exact.table.blocks() {
        each_worth(exact, model.as_ref(), which, part, block, |row, worth| {
            best.push(Reverse(Found { worth, part, block, row }));
            if best.len() > limit {
                best.pop();
            }
        });
    }
    let mut found: Vec<Found> = best.into_iter().map(|Reverse(found)| found).collect();
    found.sort_by(|one, other| other.cmp(one));
    found.iter().map(|found| seen(program, rows, &exact.table, model.as_ref(), found)).collect()
}

fn each_worth(
    exact: &Exact,
    model: Option<&LabelModel>,
    which: Which,
    part: usize,
    block: usize,
    mut take: impl FnMut(usize, f64),
) {
    let table = &exact.table;
    let votes = table.rows_of_block(part, block);
    let mut probabilities = vec![0.0; table.classes()];
    if which == Which::Wrong {
        let (Some(gold), Some(model)) = (exact.gold.block(part, block), model) else { return };
        for (row, classes) in gold.iter().filter(|(row, _)| !votes.row(*row).is_empty()) {
            model.posterior(votes.row(row), &mut probabilities);
            let right: f32 = classes.iter().map(|&class| probabilities[class as usize]).sum();
            if right < 0.5 {
                take(row, f64::from(1.0 - right));
            }
        }
        return;
    }
    for (row, items) in votes.iter().enumerate() {
        match which {
            Which::Uncovered if items.is_empty() => take(row, 0.0),
            Which::Conflict => {
                let conflicts = conflicts(table, items);
                if conflicts > 0 {
                    take(row, conflicts as f64);
                }
            }
            Which::Uncertain if !items.is_empty() => {
                let Some(model) = model else { continue };
                model.posterior(items, &mut probabilities);
                probabilities.sort_by(|a, b| b.total_cmp(a));
                take(row, f64::from(1.0 - (probabilities[0] - probabilities[1])));
            }
            _ => {}
        }
    }
}

/// Pairs of votes on a row that contradict each other.
pub fn conflicts(table: &VoteTable, items: &[u32]) -> usize {
    let vote = |item: u32| {
        let (voter, vote) = table.vote_of(item);
        &table.voters()[voter].votes[vote]
    };
    let pairs = items
        .iter()
        .enumerate()
        .flat_map(|(at, &one)| items[at + 1..].iter().map(move |&other| (one, other)));
    pairs
        .filter(|&(one, other)| vote(one).contradicts(vote(other), table.classes(), table.arity()))
        .count()
}

fn seen(
    program: &Program,
    rows: &Rows<'_>,
    table: &VoteTable,
    model: Option<&LabelModel>,
    found: &Found,
) -> Result<SeenRow, LabelingError> {
    let (part, at) = (found.part, found.row);
    let dataset = Dataset::open_parts(Arc::clone(&rows.manifest), part..part + 1, rows.store)?;
    let batch = dataset.batch(found.block)?;
    let votes = table.rows_of_block(part, found.block);
    let items = votes.row(at);
    let mut probabilities = Vec::new();
    if let Some(model) = model.filter(|_| !items.is_empty()) {
        let mut all = vec![0.0; table.classes()];
        model.posterior(items, &mut all);
        probabilities = all
            .into_iter()
            .enumerate()
            .map(|(class, share)| (program.classes.name(class as u32).to_owned(), share))
            .collect();
        probabilities.sort_by(|a, b| b.1.total_cmp(&a.1));
        probabilities.truncate(SHOWN_CLASSES);
    }
    let labels = &rows.manifest.labels.names;
    Ok(SeenRow {
        row_id: batch.row_id(at),
        text: batch.text(at).to_owned(),
        votes: items.iter().map(|&item| table.vote_of(item)).collect(),
        gold: batch.labels().codes(at).iter().map(|&code| labels[code as usize].clone()).collect(),
        probabilities,
    })
}

/// The first rows that a function votes on.
///
/// # Errors
/// When a file cannot be read.
pub fn voted_rows(
    program: &Program,
    rows: &Rows<'_>,
    exact: &Exact,
    function: usize,
    limit: usize,
) -> Result<Vec<SeenRow>, LabelingError> {
    let table = &exact.table;
    let mut found = Vec::new();
    for (part, block) in table.blocks() {
        for set in table.block(part, block)[function].sets() {
            set.for_each(|row| {
                if found.len() < limit {
                    found.push(Found { worth: 0.0, part, block, row });
                }
            });
        }
        if found.len() == limit {
            break;
        }
    }
    found.iter().map(|found| seen(program, rows, table, None, found)).collect()
}
