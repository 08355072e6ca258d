//! Rows whose classes people gave.

use crate::vote::Class;

/// Gold rows of a block, ascending, each with its classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockGold {
    rows: Vec<u16>,
    ends: Vec<u32>,
    classes: Vec<Class>,
}

impl BlockGold {
    /// Adds a row after those that are there. One without classes is not gold.
    pub fn push(&mut self, row: usize, classes: &[Class]) {
        debug_assert!(self.rows.last().is_none_or(|&last| usize::from(last) < row));
        if classes.is_empty() {
            return;
        }
        self.rows.push(row as u16);
        self.classes.extend_from_slice(classes);
        self.ends.push(self.classes.len() as u32);
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows with their classes.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[Class])> {
        self.rows.iter().enumerate().map(|(at, &row)| {
            let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
            (usize::from(row), &self.classes[start..self.ends[at] as usize])
        })
    }
}

/// Gold rows by part and block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gold {
    pub parts: Vec<Vec<BlockGold>>,
}

impl Gold {
    pub fn rows(&self) -> usize {
        self.parts.iter().flatten().map(BlockGold::len).sum()
    }

    /// The gold rows of a block; none where the part has no gold.
    pub fn block(&self, part: usize, block: usize) -> Option<&BlockGold> {
        self.parts.get(part)?.get(block).filter(|gold| !gold.is_empty())
    }
}
