//! The votes of one function on one part of a data set, and their bytes.
//!
//! A layer depends on nothing but the function's definition and the part's content, so a cache
//! may keep it under the hashes of both for ever.

use crate::row_set::RowSet;

/// Rows of a block at most: batches of parts are as long.
pub const MAX_BLOCK_ROWS: usize = 65_536;

/// What the bytes of a layer begin with: a name and the format's version.
const MAGIC: [u8; 4] = *b"CVL1";
const LIST_TAG: u8 = 0;
const BITS_TAG: u8 = 1;

/// Votes of one function on a block of consecutive rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockVotes {
    rows: u32,
    /// By position of the vote among the voter's; no row is in two.
    sets: Vec<RowSet>,
}

impl BlockVotes {
    /// Votes by the rows that have each.
    ///
    /// # Panics
    /// When the block is longer than [`MAX_BLOCK_ROWS`].
    pub fn new(rows: usize, sets: Vec<RowSet>) -> Self {
        assert!(rows <= MAX_BLOCK_ROWS, "blocks are as long as batches of parts");
        Self { rows: rows as u32, sets }
    }

    /// Votes row by row, each the position of a vote among the voter's.
    pub fn of_rows(votes: usize, rows: impl ExactSizeIterator<Item = Option<usize>>) -> Self {
        let mut members = vec![Vec::new(); votes];
        let length = rows.len();
        for (row, vote) in rows.enumerate() {
            if let Some(vote) = vote {
                members[vote].push(row as u16);
            }
        }
        let sets = members.into_iter().map(|members| RowSet::of_ascending(members, length));
        Self::new(length, sets.collect())
    }

    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    pub fn sets(&self) -> &[RowSet] {
        &self.sets
    }

    /// The vote on a row.
    pub fn vote(&self, row: usize) -> Option<usize> {
        self.sets.iter().position(|set| set.contains(row))
    }

    /// Rows that it does not abstain on.
    pub fn voted(&self) -> usize {
        self.sets.iter().map(RowSet::len).sum()
    }
}

/// Votes of one function on a part: a block for each of its batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VoteLayer {
    pub blocks: Vec<BlockVotes>,
}

/// Why bytes are no layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no layer of votes: {what}")]
pub struct LayerError {
    what: &'static str,
}

impl VoteLayer {
    /// Bytes it takes in memory, about.
    pub fn bytes(&self) -> usize {
        let of_block =
            |block: &BlockVotes| 32 + block.sets.iter().map(|set| 32 + set.bytes()).sum::<usize>();
        self.blocks.iter().map(of_block).sum()
    }

    /// Its bytes, with a checksum at the end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((self.blocks.len() as u32).to_le_bytes());
        for block in &self.blocks {
            bytes.extend(block.rows.to_le_bytes());
            bytes.extend((block.sets.len() as u32).to_le_bytes());
            for set in &block.sets {
                match set {
                    RowSet::List(members) => {
                        bytes.push(LIST_TAG);
                        bytes.extend((members.len() as u32).to_le_bytes());
                        members.iter().for_each(|row| bytes.extend(row.to_le_bytes()));
                    }
                    RowSet::Bits(words) => {
                        bytes.push(BITS_TAG);
                        bytes.extend((words.len() as u32).to_le_bytes());
                        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
                    }
                }
            }
        }
        let checksum = crc32fast::hash(&bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LayerError> {
        let wrong = |what| LayerError { what };
        let end = bytes.len().checked_sub(4).ok_or(wrong("they are too few"))?;
        let (content, checksum) = bytes.split_at(end);
        if crc32fast::hash(content).to_le_bytes() != checksum {
            return Err(wrong("the checksum is another"));
        }
        let mut rest = content.strip_prefix(&MAGIC).ok_or(wrong("they begin otherwise"))?;
        let blocks = take_u32(&mut rest)?;
        let mut layer = Self::default();
        for _ in 0..blocks {
            let rows = take_u32(&mut rest)? as usize;
            if rows > MAX_BLOCK_ROWS {
                return Err(wrong("a block is too long"));
            }
            let sets = take_u32(&mut rest)?;
            let mut block = BlockVotes { rows: rows as u32, sets: Vec::new() };
            for _ in 0..sets {
                block.sets.push(take_set(&mut rest, rows)?);
            }
            layer.blocks.push(block);
        }
        if rest.is_empty() { Ok(layer) } else { Err(wrong("something follows its end")) }
    }
}

fn take_set(rest: &mut &[u8], rows: usize) -> Result<RowSet, LayerError> {
    let tag = take(rest, 1)?[0];
    let length = take_u32(rest)? as usize;
    let wrong = |what| LayerError { what };
    match tag {
        LIST_TAG => {
            let bytes = take(rest, length.saturating_mul(2))?;
            let members: Vec<u16> =
                bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
            let ascends = members.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascends || members.last().is_some_and(|&last| usize::from(last) >= rows) {
                return Err(wrong("a list of rows is out of order or of range"));
            }
            Ok(RowSet::List(members))
        }
        BITS_TAG => {
            if length != rows.div_ceil(64) {
                return Err(wrong("a bitmap is not as long as its block"));
            }
            let bytes = take(rest, 8 * length)?;
            let words: Vec<u64> = bytes
                .chunks_exact(8)
                .map(|word| u64::from_le_bytes(word.try_into().expect("chunks of eight")))
                .collect();
            let spare = (64 * length - rows) as u32;
            if spare > 0 && words.last().is_some_and(|last| last.leading_zeros() < spare) {
                return Err(wrong("a bitmap has rows after its block"));
            }
            Ok(RowSet::Bits(words.into()))
        }
        _ => Err(wrong("a set of rows is of an unknown form")),
    }
}

fn take<'b>(rest: &mut &'b [u8], bytes: usize) -> Result<&'b [u8], LayerError> {
    let (taken, after) =
        rest.split_at_checked(bytes).ok_or(LayerError { what: "they end early" })?;
    *rest = after;
    Ok(taken)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, LayerError> {
    let bytes = take(rest, 4)?;
    Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes were taken")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> VoteLayer {
        let block = |step: usize| {
            BlockVotes::of_rows(2, (0..1000).map(move |row| (row % step == 0).then_some(row % 2)))
        };
        VoteLayer { blocks: vec![block(2), block(300), block(1)] }
    }

    #[test]
    fn bytes_read_back() {
        let layer = sample();
        assert_eq!(VoteLayer::from_bytes(&layer.to_bytes()), Ok(layer));
    }

    #[test]
    fn damaged_bytes_are_refused_and_never_panic() {
        let bytes = sample().to_bytes();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x41;
            assert!(VoteLayer::from_bytes(&damaged).is_err(), "byte {at}");
            // The same with a checksum that fits: whatever is read is within its block.
            let end = damaged.len() - 4;
            let checksum = crc32fast::hash(&damaged[..end]).to_le_bytes();
            damaged[end..].copy_from_slice(&checksum);
            if let Ok(layer) = VoteLayer::from_bytes(&damaged) {
                for block in &layer.blocks {
                    for set in block.sets() {
                        set.for_each(|row| assert!(row < block.rows()));
                    }
                }
            }
        }
        assert!((0..bytes.len()).all(|end| VoteLayer::from_bytes(&bytes[..end]).is_err()));
    }
}
