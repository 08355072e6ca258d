//! How rules decide, block by block. A rule gives for each of its votes the rows that have it.

pub mod column;
pub mod keyword;
pub mod pattern;
pub mod text;

use arrow_array::cast::AsArray;
use arrow_array::{Array, LargeStringArray};

use crate::block::Block;

/// The texts of a column over a block, end to end.
#[derive(Clone, Copy)]
pub struct TextBlock<'a> {
    pub bytes: &'a [u8],
    /// Where each text begins, and after them where the last ends.
    pub offsets: &'a [i64],
    array: &'a LargeStringArray,
}

impl<'a> TextBlock<'a> {
    pub fn of(array: &'a LargeStringArray) -> Self {
        Self { bytes: array.value_data(), offsets: array.value_offsets(), array }
    }

    /// The texts of a column; `None` where it holds no texts here.
    pub fn of_column(block: &'a Block, column: Option<&str>) -> Option<Self> {
        match column {
            None => Some(Self::of(block.texts())),
            Some(name) => Some(Self::of(block.column(name)?.as_string_opt::<i64>()?)),
        }
    }

    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// A text; an empty one where there is none.
    pub fn text(&self, row: usize) -> &'a str {
        if self.array.is_null(row) { "" } else { self.array.value(row) }
    }

    pub fn row_bytes(&self, row: usize) -> &'a [u8] {
        &self.bytes[self.start(row)..self.end(row)]
    }

    pub fn start(&self, row: usize) -> usize {
        self.offsets[row] as usize
    }

    pub fn end(&self, row: usize) -> usize {
        self.offsets[row + 1] as usize
    }

    /// Of a block with a text for every row, the row that the byte before `end` belongs to, at or
    /// after the row `from`.
    pub fn row_ending_at(&self, end: usize, from: usize) -> usize {
        let mut row = from;
        // Matches come in order and mostly near one another; where they do not, by halves.
        for _ in 0..16 {
            if end <= self.end(row) {
                return row;
            }
            row += 1;
        }
        row + self.offsets[row + 1..].partition_point(|&offset| (offset as usize) < end)
    }
}

/// Bits of a block, all zero.
pub fn no_rows(rows: usize) -> Vec<u64> {
    vec![0; rows.div_ceil(64)]
}

/// Sets the bit of a row.
pub fn set(bits: &mut [u64], row: usize) {
    bits[row / 64] |= 1 << (row % 64);
}

/// The rows for which `holds`.
pub fn rows_where(rows: usize, mut holds: impl FnMut(usize) -> bool) -> Vec<u64> {
    let mut bits = no_rows(rows);
    for row in 0..rows {
        if holds(row) {
            set(&mut bits, row);
        }
    }
    bits
}
