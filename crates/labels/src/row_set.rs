//! Sets of rows of a block: a list where they are few, a bit a row where they are many.

/// Above one row in so many, a bitmap is smaller than a list of 16-bit numbers.
const ROWS_PER_LISTED: usize = 16;

/// A set of rows of a block of at most 65,536.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowSet {
    /// Ascending.
    List(Vec<u16>),
    /// A bit a row, of the whole block; bits after its last row are zero.
    Bits(Box<[u64]>),
}

impl RowSet {
    /// The set of these rows, which are ascending, of a block of `rows`.
    pub fn of_ascending(members: Vec<u16>, rows: usize) -> Self {
        if members.len() * ROWS_PER_LISTED <= rows {
            return Self::List(members);
        }
        let mut words = vec![0u64; rows.div_ceil(64)];
        for row in members {
            words[usize::from(row) / 64] |= 1 << (row % 64);
        }
        Self::Bits(words.into())
    }

    /// The set of the rows whose bit is one, in whichever form is smaller.
    pub fn of_bits(words: Vec<u64>, rows: usize) -> Self {
        debug_assert_eq!(words.len(), rows.div_ceil(64));
        let count: usize = words.iter().map(|word| word.count_ones() as usize).sum();
        if count * ROWS_PER_LISTED > rows {
            return Self::Bits(words.into());
        }
        let mut members = Vec::with_capacity(count);
        for_each_bit(&words, |row| members.push(row as u16));
        Self::List(members)
    }

    /// How many rows are in it.
    pub fn len(&self) -> usize {
        match self {
            Self::List(members) => members.len(),
            Self::Bits(words) => words.iter().map(|word| word.count_ones() as usize).sum(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::List(members) => members.is_empty(),
            Self::Bits(words) => words.iter().all(|word| *word == 0),
        }
    }

    pub fn contains(&self, row: usize) -> bool {
        match self {
            Self::List(members) => {
                u16::try_from(row).is_ok_and(|row| members.binary_search(&row).is_ok())
            }
            Self::Bits(words) => {
                words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
            }
        }
    }

    /// Calls `visit` with every row, ascending.
    pub fn for_each(&self, mut visit: impl FnMut(usize)) {
        match self {
            Self::List(members) => members.iter().for_each(|&row| visit(usize::from(row))),
            Self::Bits(words) => for_each_bit(words, visit),
        }
    }

    /// Adds its rows to a bitmap of the block.
    pub fn add_to(&self, bits: &mut [u64]) {
        match self {
            Self::List(members) => {
                for &row in members {
                    bits[usize::from(row) / 64] |= 1 << (row % 64);
                }
            }
            Self::Bits(words) => {
                for (bits, word) in bits.iter_mut().zip(words) {
                    *bits |= word;
                }
            }
        }
    }

    /// How many of its rows are in a bitmap of the block.
    pub fn count_in(&self, bits: &[u64]) -> usize {
        match self {
            Self::List(members) => members
                .iter()
                .filter(|row| bits[usize::from(**row) / 64] >> (**row % 64) & 1 == 1)
                .count(),
            Self::Bits(words) => count_both(words, bits),
        }
    }

    /// How many rows are in both.
    pub fn count_common(&self, other: &Self) -> usize {
        match (self, other) {
            (_, Self::Bits(words)) => self.count_in(words),
            (Self::Bits(words), Self::List(_)) => other.count_in(words),
            (Self::List(left), Self::List(right)) => {
                let (mut at, mut count) = (0, 0);
                for row in left {
                    while at < right.len() && right[at] < *row {
                        at += 1;
                    }
                    count += usize::from(right.get(at) == Some(row));
                }
                count
            }
        }
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::List(members) => 2 * members.len(),
            Self::Bits(words) => 8 * words.len(),
        }
    }
}

/// Calls `visit` with the position of every one bit, ascending.
pub(crate) fn for_each_bit(words: &[u64], mut visit: impl FnMut(usize)) {
    for (index, &word) in words.iter().enumerate() {
        let mut rest = word;
        while rest != 0 {
            visit(64 * index + rest.trailing_zeros() as usize);
            rest &= rest - 1;
        }
    }
}

/// Bits that are one in both.
fn count_both(left: &[u64], right: &[u64]) -> usize {
    left.iter().zip(right).map(|(left, right)| (left & right).count_ones() as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_the_same_set() {
        for step in [1usize, 3, 40, 900] {
            let rows = 5_000usize;
            let members: Vec<u16> = (0..rows as u16).step_by(step).collect();
            let other: Vec<u16> = (0..rows as u16).step_by(7).collect();
            let mut bits = vec![0u64; rows.div_ceil(64)];
            RowSet::List(members.clone()).add_to(&mut bits);
            let forms = [RowSet::List(members.clone()), RowSet::Bits(bits.clone().into())];
            let common = members.iter().filter(|row| **row % 7 == 0).count();
            for form in &forms {
                assert_eq!(form.len(), members.len());
                let mut seen = Vec::new();
                form.for_each(|row| seen.push(row as u16));
                assert_eq!(seen, members);
                assert!(form.contains(0) && form.contains(step) && !form.contains(rows));
                for against in
                    [RowSet::List(other.clone()), RowSet::of_ascending(other.clone(), rows)]
                {
                    assert_eq!(form.count_common(&against), common);
                }
            }
            assert_eq!(RowSet::of_bits(bits, rows), RowSet::of_ascending(members, rows));
        }
    }
}
