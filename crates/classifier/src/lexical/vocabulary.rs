//! Counting in how many texts each n-gram stands, and choosing those to keep.

use rayon::prelude::*;

use super::config::{BlockConfig, LexicalConfig, Vocabulary};
use super::grams::GramBuffers;
use super::text::prepare;

/// What was counted of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// In the order of its features: those in more texts first, so that a model's busy entries
    /// lie together; among equals by hash.
    pub kept: Vec<Kept>,
    /// N-grams in all texts together, each as often as it stands there, cut or not.
    pub grams: u64,
}

/// An n-gram that was kept, or a hashed column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The n-gram's hash, or the column's number in its block.
    pub hash: u64,
    pub documents: u32,
}

/// The column of an n-gram in a block of `2^bits` hashed ones.
#[inline(always)]
pub(super) const fn hashed_column(hash: u64, bits: u8) -> u64 {
    hash & ((1 << bits) - 1)
}

/// Shards in which counts are merged: a few for each core of a large machine.
const SHARD_BITS: u32 = 6;
const SHARDS: usize = 1 << SHARD_BITS;

/// Counts by the uppermost bits of the hash.
type Shards = Vec<Vec<Kept>>;

/// Counts the n-grams of each block and keeps those that its cuts keep.
///
/// Counts are whole numbers, so the answer is the same for any number of threads.
pub(super) fn choose<T: AsRef<str> + Sync>(texts: &[T], config: &LexicalConfig) -> Vec<Counted> {
    let piece = texts.len().div_ceil(rayon::current_num_threads()).max(1);
    let pieces: Vec<Vec<(Shards, u64)>> = texts
        .par_chunks(piece)
        .map(|texts| count(texts, config).into_iter().map(BlockCounts::into_shards).collect())
        .collect();
    (config.blocks.iter().enumerate())
        .map(|(index, block)| {
            let shards: Vec<&Shards> = pieces.iter().map(|piece| &piece[index].0).collect();
            let grams = pieces.iter().map(|piece| piece[index].1).sum();
            Counted { kept: keep(&shards, texts.len(), block), grams }
        })
        .collect()
}

fn keep(pieces: &[&Shards], texts: usize, block: &BlockConfig) -> Vec<Kept> {
    let most = block.max_document_share * texts as f64;
    let within =
        |kept: &Kept| kept.documents >= block.min_documents && f64::from(kept.documents) <= most;
    let mut kept: Vec<Kept> = (0..SHARDS)
        .into_par_iter()
        .flat_map_iter(|shard| {
            let mut shard: Vec<Kept> =
                pieces.iter().flat_map(|piece| piece[shard].iter().copied()).collect();
            shard.sort_unstable_by_key(|kept| kept.hash);
            shard.dedup_by(|later, first| {
                let same = later.hash == first.hash;
                if same {
                    first.documents += later.documents;
                }
                same
            });
            shard.retain(within);
            shard
        })
        .collect();
    kept.par_sort_unstable_by_key(|kept| (std::cmp::Reverse(kept.documents), kept.hash));
    if let Some(max_features) = block.max_features {
        kept.truncate(max_features as usize);
    }
    kept
}

/// Counts each block's n-grams in these texts.
fn count<T: AsRef<str>>(texts: &[T], config: &LexicalConfig) -> Vec<BlockCounts> {
    let mut blocks: Vec<BlockCounts> =
        config.blocks.iter().map(|block| BlockCounts::new(block.vocabulary)).collect();
    let (mut units, mut hashes, mut buffers) = (Vec::new(), Vec::new(), GramBuffers::default());
    for (text, number) in texts.iter().zip(1u32..) {
        prepare(text.as_ref(), config.case, config.accents, &mut units);
        for (index, block) in config.blocks.iter().enumerate() {
            buffers.hash(&units, index, block.grams, &mut hashes);
            blocks[index].see(&hashes, number);
        }
    }
    blocks
}

/// The counts of a block.
struct BlockCounts {
    table: Table,
    grams: u64,
}

enum Table {
    Learnt(Counts),
    Hashed {
        bits: u8,
        /// For each column the texts counted, and the number of the last of them.
        columns: Vec<(u32, u32)>,
    },
}

impl BlockCounts {
    fn new(vocabulary: Vocabulary) -> Self {
        let table = match vocabulary {
            Vocabulary::Learnt => Table::Learnt(Counts::default()),
            Vocabulary::Hashed { bits } => Table::Hashed { bits, columns: vec![(0, 0); 1 << bits] },
        };
        Self { table, grams: 0 }
    }

    /// Counts the n-grams of a text, numbered from 1.
    fn see(&mut self, hashes: &[u64], text: u32) {
        self.grams += hashes.len() as u64;
        match &mut self.table {
            Table::Learnt(counts) => hashes.iter().for_each(|&hash| counts.see(hash, text)),
            Table::Hashed { bits, columns } => {
                for &hash in hashes {
                    let (documents, last) = &mut columns[hashed_column(hash, *bits) as usize];
                    *documents += u32::from(*last != text);
                    *last = text;
                }
            }
        }
    }

    fn into_shards(self) -> (Shards, u64) {
        let shards = match self.table {
            Table::Learnt(counts) => counts.into_shards(),
            Table::Hashed { columns, .. } => {
                let shard = columns.len() / SHARDS;
                let seen = |first: usize, columns: &[(u32, u32)]| -> Vec<Kept> {
                    let kept = columns.iter().zip(first as u64..);
                    let kept = kept.map(|(&(documents, _), hash)| Kept { hash, documents });
                    kept.filter(|kept| kept.documents > 0).collect()
                };
                columns
                    .chunks_exact(shard)
                    .enumerate()
                    .map(|(index, columns)| seen(index * shard, columns))
                    .collect()
            }
        };
        (shards, self.grams)
    }
}

/// Texts counted by n-gram: open addressing at half load.
#[derive(Default)]
struct Counts {
    slots: Vec<Slot>,
    filled: usize,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u64,
    documents: u32,
    /// The number of the text that was counted last; 0 where the slot is empty.
    last: u32,
}

impl Counts {
    #[inline]
    fn see(&mut self, hash: u64, text: u32) {
        if self.filled * 2 >= self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let slot = &mut self.slots[place];
            if slot.last == 0 {
                *slot = Slot { hash, documents: 1, last: text };
                self.filled += 1;
                return;
            }
            if slot.hash == hash {
                slot.documents += u32::from(slot.last != text);
                slot.last = text;
                return;
            }
            place = (place + 1) & mask;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let capacity = (self.slots.len() * 2).max(1 << 12);
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); capacity]);
        for slot in old.into_iter().filter(|slot| slot.last != 0) {
            let mut place = slot.hash as usize & (capacity - 1);
            while self.slots[place].last != 0 {
                place = (place + 1) & (capacity - 1);
            }
            self.slots[place] = slot;
        }
    }

    fn into_shards(self) -> Shards {
        let usual = self.filled / SHARDS * 5 / 4;
        let mut shards: Shards = (0..SHARDS).map(|_| Vec::with_capacity(usual)).collect();
        for slot in self.slots.iter().filter(|slot| slot.last != 0) {
            let kept = Kept { hash: slot.hash, documents: slot.documents };
            shards[(slot.hash >> (64 - SHARD_BITS)) as usize].push(kept);
        }
        shards
    }
}
