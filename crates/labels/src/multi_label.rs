//! Rows of which several classes may hold: a label model for each class by itself.
//!
//! Of a class, votes for it are one side and votes against it the other. Where no function votes
//! against a class, a row that functions voted on, though none for this class, counts as not of
//! it: whoever wrote functions for the others saw it.

use std::sync::Arc;

use crate::layer::{BlockVotes, VoteLayer};
use crate::model::{Evidence, FitError, FitOptions, LabelModel, Method, fit};
use crate::row_set::RowSet;
use crate::table::VoteTable;
use crate::vote::{Class, LabelArity, Vote, Voter};

/// The two classes of a class by itself.
const NOT: Class = 0;
const YES: Class = 1;

/// A model a class; none of a class that no function votes for.
#[derive(Clone, Debug)]
pub struct MultiLabelModel {
    models: Vec<Option<(OneClass, LabelModel)>>,
}

/// Fits a model for each class.
///
/// # Errors
/// When there are no voters, or a model would be too large.
pub fn fit_multi_label(
    table: &VoteTable,
    method: Method,
    options: &FitOptions,
) -> Result<MultiLabelModel, FitError> {
    if table.items() == 0 {
        return Err(FitError::NoVoters);
    }
    let options = FitOptions { prior: None, ..options.clone() };
    let of_class = |class: Class| {
        let Some(one) = OneClass::of(table, class) else { return Ok(None) };
        let of_class = one.table(table);
        let model = fit(&Evidence::of(&of_class)?, method, &options)?;
        Ok(Some((one, model)))
    };
    let models = (0..table.classes() as Class).map(of_class).collect::<Result<_, _>>()?;
    Ok(MultiLabelModel { models })
}

impl MultiLabelModel {
    /// By row of a block, then by class: how likely the class holds. Rows that are not covered
    /// have 0 throughout.
    pub fn probabilities(&self, table: &VoteTable, part: usize, block: usize) -> Vec<f32> {
        let votes = table.block(part, block);
        let rows = votes.first().map_or(0, |block| block.rows());
        let classes = self.models.len();
        let mut found = vec![0.0; rows * classes];
        let mut both = [0.0; 2];
        for (class, model) in self.models.iter().enumerate() {
            let Some((one, model)) = model else { continue };
            let mut of_class = VoteTable::new(one.voters(table), 2, LabelArity::Single);
            of_class.push_part(one.layers(&votes));
            for (row, items) in of_class.rows_of_block(0, 0).iter().enumerate() {
                if !items.is_empty() {
                    model.posterior(items, &mut both);
                    found[row * classes + class] = both[YES as usize];
                }
            }
        }
        found
    }
}

/// A class seen by itself.
#[derive(Clone, Debug)]
struct OneClass {
    class: Class,
    /// The voters that name it.
    voters: Vec<usize>,
    /// By voter of the table and vote: which side it is on.
    sides: Vec<Vec<Option<Class>>>,
    /// Whether silence of those who vote for it is a vote against it.
    silence_denies: bool,
}

impl OneClass {
    fn of(table: &VoteTable, class: Class) -> Option<Self> {
        let side = |vote: &Vote| {
            vote.named().contains(&class).then_some(match vote {
                Vote::For(_) => YES,
                Vote::Against(_) => NOT,
            })
        };
        let sides: Vec<Vec<_>> =
            table.voters().iter().map(|voter| voter.votes.iter().map(side).collect()).collect();
        let has = |wanted: Class| sides.iter().flatten().any(|side| *side == Some(wanted));
        let names_it = |voter: &usize| sides[*voter].iter().any(Option::is_some);
        let voters = (0..sides.len()).filter(names_it).collect();
        let silence_denies = !has(NOT);
        has(YES).then_some(Self { class, voters, sides, silence_denies })
    }

    /// The voters that name the class, and silence where it denies it.
    fn voters(&self, table: &VoteTable) -> Vec<Voter> {
        debug_assert!((self.class as usize) < table.classes());
        let voter = |voter: &usize| Voter {
            votes: vec![Vote::one(NOT), Vote::one(YES)],
            is_trusted: table.voters()[*voter].is_trusted,
        };
        let silence = self.silence_denies.then(|| Voter::new(vec![Vote::one(NOT)]));
        self.voters.iter().map(voter).chain(silence).collect()
    }

    fn table(&self, table: &VoteTable) -> VoteTable {
        let mut of_class = VoteTable::new(self.voters(table), 2, LabelArity::Single);
        for (part, block) in table.blocks() {
            of_class.push_part(self.layers(&table.block(part, block)));
        }
        of_class
    }

    /// A layer of one block for each of the voters.
    fn layers(&self, votes: &[&BlockVotes]) -> Vec<Arc<VoteLayer>> {
        let rows = votes.first().map_or(0, |block| block.rows());
        let layer =
            |sets: Vec<RowSet>| Arc::new(VoteLayer { blocks: vec![BlockVotes::new(rows, sets)] });
        let mut yes = vec![0u64; rows.div_ceil(64)];
        let side = |voter: usize, wanted: Class| {
            let mut bits = vec![0u64; rows.div_ceil(64)];
            for (set, side) in votes[voter].sets().iter().zip(&self.sides[voter]) {
                if *side == Some(wanted) {
                    set.add_to(&mut bits);
                }
            }
            bits
        };
        let mut layers = Vec::with_capacity(self.voters.len() + 1);
        for &voter in &self.voters {
            let (denied, held) = (side(voter, NOT), side(voter, YES));
            yes.iter_mut().zip(&held).for_each(|(yes, held)| *yes |= held);
            layers.push(layer(vec![RowSet::of_bits(denied, rows), RowSet::of_bits(held, rows)]));
        }
        if self.silence_denies {
            let mut covered = vec![0u64; rows.div_ceil(64)];
            votes.iter().flat_map(|block| block.sets()).for_each(|set| set.add_to(&mut covered));
            covered.iter_mut().zip(&yes).for_each(|(covered, yes)| *covered &= !yes);
            layers.push(layer(vec![RowSet::of_bits(covered, rows)]));
        }
        layers
    }
}
