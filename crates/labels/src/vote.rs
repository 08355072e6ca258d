//! What a function says of a row.

use serde::{Deserialize, Serialize};

/// The position of a class among those that are labeled.
pub type Class = u32;

/// How many classes hold for a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelArity {
    /// One of them; a vote for several says that it is one of those.
    #[default]
    Single,
    /// Each by itself; a vote for several says that all of them hold.
    Multi,
}

/// What a function says of a row where it does not abstain. The classes are sorted, each once,
/// at least one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vote {
    For(Vec<Class>),
    Against(Vec<Class>),
}

impl Vote {
    /// A vote for one class.
    pub fn one(class: Class) -> Self {
        Self::For(vec![class])
    }

    /// The same vote with its classes sorted, each once.
    #[must_use]
    pub fn normalised(self) -> Self {
        let sorted = |mut classes: Vec<Class>| {
            classes.sort_unstable();
            classes.dedup();
            classes
        };
        match self {
            Self::For(classes) => Self::For(sorted(classes)),
            Self::Against(classes) => Self::Against(sorted(classes)),
        }
    }

    /// The classes it names.
    pub fn named(&self) -> &[Class] {
        match self {
            Self::For(classes) | Self::Against(classes) => classes,
        }
    }

    /// The class, if it is for just one.
    pub fn single(&self) -> Option<Class> {
        match self {
            Self::For(classes) if classes.len() == 1 => Some(classes[0]),
            Self::For(_) | Self::Against(_) => None,
        }
    }

    /// Whether the row may be of the class if the vote is right.
    pub fn allows(&self, class: Class) -> bool {
        match self {
            Self::For(classes) => classes.binary_search(&class).is_ok(),
            Self::Against(classes) => classes.binary_search(&class).is_err(),
        }
    }

    /// Of so many classes, those that the row may be of if the vote is right.
    pub fn allowed(&self, classes: usize) -> usize {
        match self {
            Self::For(named) => named.len(),
            Self::Against(named) => classes.saturating_sub(named.len()),
        }
    }

    /// Whether both votes cannot be right.
    pub fn contradicts(&self, other: &Self, classes: usize, arity: LabelArity) -> bool {
        match (self, other, arity) {
            (Self::For(mine), Self::For(theirs), LabelArity::Single) => {
                !mine.iter().any(|class| theirs.binary_search(class).is_ok())
            }
            (Self::For(mine), Self::Against(theirs), LabelArity::Single)
            | (Self::Against(theirs), Self::For(mine), LabelArity::Single) => {
                mine.iter().all(|class| theirs.binary_search(class).is_ok())
            }
            (Self::Against(mine), Self::Against(theirs), LabelArity::Single) => {
                let both = mine.iter().filter(|class| theirs.binary_search(class).is_ok()).count();
                mine.len() + theirs.len() - both >= classes
            }
            (Self::For(mine), Self::Against(theirs), LabelArity::Multi)
            | (Self::Against(theirs), Self::For(mine), LabelArity::Multi) => {
                mine.iter().any(|class| theirs.binary_search(class).is_ok())
            }
            (_, _, LabelArity::Multi) => false,
        }
    }

    /// Whether it is right on a row of these classes.
    pub fn is_right(&self, gold: &[Class], arity: LabelArity) -> bool {
        match (self, arity) {
            (Self::For(named), LabelArity::Single) => {
                named.iter().any(|class| gold.contains(class))
            }
            (Self::For(named), LabelArity::Multi) => named.iter().all(|class| gold.contains(class)),
            (Self::Against(named), _) => !named.iter().any(|class| gold.contains(class)),
        }
    }
}

/// A function as label models see it: what it can say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voter {
    /// Its votes; layers name them by their position.
    pub votes: Vec<Vote>,
    /// Its word stands: where a trusted voter votes, others that contradict it do not count.
    pub is_trusted: bool,
}

impl Voter {
    pub fn new(votes: Vec<Vote>) -> Self {
        Self { votes: votes.into_iter().map(Vote::normalised).collect(), is_trusted: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_contradict_where_no_class_is_left() {
        let check = |left: Vote, right: Vote, single: bool, multi: bool| {
            assert_eq!(
                left.contradicts(&right, 3, LabelArity::Single),
                single,
                "{left:?} {right:?}"
            );
            assert_eq!(right.contradicts(&left, 3, LabelArity::Single), single);
            assert_eq!(left.contradicts(&right, 3, LabelArity::Multi), multi);
        };
        check(Vote::one(0), Vote::one(1), true, false);
        check(Vote::one(0), Vote::For(vec![0, 1]), false, false);
        check(Vote::one(0), Vote::Against(vec![0]), true, true);
        check(Vote::For(vec![0, 1]), Vote::Against(vec![0]), false, true);
        check(Vote::Against(vec![0, 1]), Vote::Against(vec![2]), true, false);
        check(Vote::Against(vec![0]), Vote::Against(vec![0]), false, false);
    }
}
