//! Sorting more records than memory should hold: sorted runs are spilled to one unnamed
//! scratch file and merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Records read ahead of each run while merging.
const RECORDS_AHEAD: usize = 4096;

/// Sorts records of `N` words, compared from the first word on.
pub(crate) struct ExternalSorter<const N: usize> {
    buffer: Vec<[u64; N]>,
    capacity: usize,
    spill: Option<File>,
    /// First record and end of each spilled run.
    runs: Vec<(u64, u64)>,
    folder: PathBuf,
}

impl<const N: usize> ExternalSorter<N> {
    /// A sorter that spills to `folder` when its records pass `memory_bytes`.
    pub(crate) fn new(folder: &Path, memory_bytes: usize) -> Self {
        let capacity = (memory_bytes / size_of::<[u64; N]>()).max(1);
        Self { buffer: Vec::new(), capacity, spill: None, runs: Vec::new(), folder: folder.into() }
    }

    pub(crate) fn push(&mut self, record: [u64; N]) -> io::Result<()> {
        if self.buffer.len() == self.capacity {
            self.spill()?;
        }
        self.buffer.push(record);
        Ok(())
    }

    /// All records in ascending order.
    pub(crate) fn finish(mut self) -> io::Result<SortedRecords<N>> {
        if self.runs.is_empty() {
            self.buffer.sort_unstable();
            return Ok(SortedRecords::Memory(self.buffer.into_iter()));
        }
        self.spill()?;
        self.buffer = Vec::new();
        let file = self.spill.expect("a run was spilled");
        let mut merge = Merge { file, runs: Vec::new(), heads: BinaryHeap::new() };
        for (index, &(next, end)) in self.runs.iter().enumerate() {
            merge.runs.push(Run { next, end, ahead: Vec::new() });
            let first = merge.read(index)?;
            merge.heads.extend(first.map(|record| Reverse((record, index))));
        }
        Ok(SortedRecords::Merge(merge))
    }

    fn spill(&mut self) -> io::Result<()> {
        self.buffer.sort_unstable();
        let file = match &mut self.spill {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.folder)?),
        };
        let start = self.runs.last().map_or(0, |&(_, end)| end);
        let mut at = start;
        let mut bytes = Vec::new();
        for records in self.buffer.chunks(RECORDS_AHEAD) {
            bytes.clear();
            bytes.extend(records.iter().flatten().flat_map(|word| word.to_le_bytes()));
            file.write_all_at(&bytes, at * size_of::<[u64; N]>() as u64)?;
            at += records.len() as u64;
        }
        self.runs.push((start, at));
        self.buffer.clear();
        Ok(())
    }
}

/// The sorted records; an item is an error when the scratch file cannot be read.
pub(crate) enum SortedRecords<const N: usize> {
    Memory(std::vec::IntoIter<[u64; N]>),
    Merge(Merge<N>),
}

impl<const N: usize> Iterator for SortedRecords<N> {
    type Item = io::Result<[u64; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Memory(records) => records.next().map(Ok),
            Self::Merge(merge) => merge.pop().transpose(),
        }
    }
}

pub(crate) struct Merge<const N: usize> {
    file: File,
    runs: Vec<Run<N>>,
    heads: BinaryHeap<Reverse<([u64; N], usize)>>,
}

struct Run<const N: usize> {
    next: u64,
    end: u64,
    /// Records read from the file, last first.
    ahead: Vec<[u64; N]>,
}

impl<const N: usize> Merge<N> {
    fn pop(&mut self) -> io::Result<Option<[u64; N]>> {
        let Some(&Reverse((record, index))) = self.heads.peek() else {
            return Ok(None);
        };
        let next = self.read(index)?;
        let mut head = self.heads.peek_mut().expect("it was peeked at just now");
        match next {
            // Replacing the head sifts once where a pop and a push would twice.
            Some(next) => *head = Reverse((next, index)),
            None => drop(PeekMut::pop(head)),
        }
        Ok(Some(record))
    }

    /// The next record of a run.
    fn read(&mut self, index: usize) -> io::Result<Option<[u64; N]>> {
        let run = &mut self.runs[index];
        if run.ahead.is_empty() && run.next < run.end {
            let record_bytes = size_of::<[u64; N]>();
            let records = (run.end - run.next).min(RECORDS_AHEAD as u64);
            let mut bytes = vec![0; records as usize * record_bytes];
            self.file.read_exact_at(&mut bytes, run.next * record_bytes as u64)?;
            run.next += records;
            run.ahead.extend(bytes.chunks_exact(record_bytes).rev().map(|record| {
                let mut words = record.chunks_exact(8);
                [(); N].map(|()| {
                    let word = words.next().expect("a record has N words");
                    u64::from_le_bytes(word.try_into().expect("a word has 8 bytes"))
                })
            }));
        }
        Ok(run.ahead.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spilled_and_unspilled_sorts_agree() {
        let folder = tempfile::tempdir().unwrap();
        for memory_bytes in [1, 100, 5000, 1 << 20] {
            let mut sorter = ExternalSorter::<2>::new(folder.path(), memory_bytes);
            let mut expect: Vec<[u64; 2]> = (0..3000u64)
                .map(|i| [i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 97, i * i % 1009])
                .collect();
            for &record in &expect {
                sorter.push(record).unwrap();
            }
            expect.sort_unstable();
            let sorted: Vec<_> = sorter.finish().unwrap().collect::<Result<_, _>>().unwrap();
            assert_eq!(sorted, expect, "{memory_bytes}");
        }
    }

    #[test]
    fn nothing_sorts_to_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let sorter = ExternalSorter::<1>::new(folder.path(), 8);
        assert_eq!(sorter.finish().unwrap().count(), 0);
    }
}
