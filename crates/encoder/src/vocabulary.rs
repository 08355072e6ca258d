//! The vocabulary as a hash table that is probed where it lies in the file.
//!
//! Three arrays: `slots` (open addressing, linear probing; an entry's id plus one, or zero),
//! `offsets` (where an id's text begins; one more at the end) and the text itself. Nothing
//! is parsed at opening, so every look-up checks what it reads: a damaged table finds
//! nothing, or the wrong word, but never reads outside.

/// The writer keeps the table so sparse that a look-up needs no more steps than this; the
/// reader gives up after it, so that a damaged table cannot hold it up.
const MAX_PROBES: usize = 32;

/// A word piece that does not begin a word is written with this before it.
pub(crate) const CONTINUATION: &[u8] = b"##";

/// The vocabulary of an open file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vocabulary<'a> {
    pub slots: &'a [u32],
    pub offsets: &'a [u32],
    pub text: &'a [u8],
}

/// FNV-1a, which grows byte by byte: the hashes of all prefixes of a word cost one pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RollingHash(u64);

impl RollingHash {
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    #[must_use]
    pub fn extended(self, bytes: &[u8]) -> Self {
        let step =
            |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }

    fn slot(self, slots: usize) -> usize {
        ((self.0 ^ (self.0 >> 32)) as usize) & (slots - 1)
    }
}

impl Vocabulary<'_> {
    /// The id of the entry `prefix` + `piece`, whose hash is `hash`.
    pub fn find(&self, hash: RollingHash, prefix: &[u8], piece: &[u8]) -> Option<u32> {
        if !self.slots.len().is_power_of_two() {
            return None;
        }
        let mut slot = hash.slot(self.slots.len());
        for _ in 0..MAX_PROBES {
            let id = self.slots[slot].checked_sub(1)?;
            if let Some(rest) = self.entry(id).and_then(|text| text.strip_prefix(prefix))
                && rest == piece
            {
                return Some(id);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        None
    }

    fn entry(&self, id: u32) -> Option<&[u8]> {
        let index = id as usize;
        let start = *self.offsets.get(index)? as usize;
        let end = *self.offsets.get(index + 1)? as usize;
        self.text.get(start..end)
    }
}

/// The arrays of a vocabulary, as they are written.
#[derive(Debug)]
pub(crate) struct VocabularyTable {
    pub slots: Vec<u32>,
    pub offsets: Vec<u32>,
    pub text: Vec<u8>,
}

impl VocabularyTable {
    /// The table of these distinct entries, an entry's id being its place. `None` where
    /// their text passes 4 GiB.
    pub fn build(entries: &[String]) -> Option<Self> {
        let mut offsets = vec![0];
        let mut text = Vec::new();
        for entry in entries {
            text.extend_from_slice(entry.as_bytes());
            offsets.push(u32::try_from(text.len()).ok()?);
        }
        let mut slot_count = (2 * entries.len()).next_power_of_two();
        loop {
            if let Some(slots) = fill(entries, slot_count) {
                return Some(Self { slots, offsets, text });
            }
            slot_count = slot_count.checked_mul(2).filter(|&count| count <= 1 << 28)?;
        }
    }
}

/// The slots of a table, unless some look-up would take too many steps.
fn fill(entries: &[String], slot_count: usize) -> Option<Vec<u32>> {
    let mut slots = vec![0u32; slot_count];
    for (index, entry) in entries.iter().enumerate() {
        let mut slot = RollingHash::new().extended(entry.as_bytes()).slot(slot_count);
        let mut probes = 1;
        while slots[slot] != 0 {
            slot = (slot + 1) & (slot_count - 1);
            probes += 1;
        }
        if probes > MAX_PROBES {
            return None;
        }
        slots[slot] = u32::try_from(index + 1).ok()?;
    }
    Some(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(table: &VocabularyTable, prefix: &str, piece: &str) -> Option<u32> {
        let vocabulary =
            Vocabulary { slots: &table.slots, offsets: &table.offsets, text: &table.text };
        let hash = RollingHash::new().extended(prefix.as_bytes()).extended(piece.as_bytes());
        vocabulary.find(hash, prefix.as_bytes(), piece.as_bytes())
    }

    #[test]
    fn every_entry_is_found_under_its_id_and_nothing_else_is() {
        let entries: Vec<String> = (0..5000)
            .map(|n| if n % 3 == 0 { format!("##{n}") } else { format!("w{n}") })
            .collect();
        let table = VocabularyTable::build(&entries).unwrap();
        for (id, entry) in entries.iter().enumerate() {
            assert_eq!(find(&table, "", entry), Some(id as u32));
            if let Some(piece) = entry.strip_prefix("##") {
                assert_eq!(find(&table, "##", piece), Some(id as u32));
                assert_eq!(find(&table, "", piece), None);
            }
        }
        assert_eq!(find(&table, "", "w"), None);
        assert_eq!(find(&table, "", ""), None);
    }

    #[test]
    fn damaged_tables_find_nothing() {
        let full = [7u32; 8];
        let hash = RollingHash::new().extended(b"a");
        for (slots, offsets) in
            [(&full[..], &[9u32, 3][..]), (&full[..7], &[][..]), (&[][..], &[][..])]
        {
            let damaged = Vocabulary { slots, offsets, text: b"abc" };
            assert_eq!(damaged.find(hash, b"", b"a"), None);
        }
    }
}
