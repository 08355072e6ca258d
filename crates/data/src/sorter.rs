//! Sorting more records than memory should hold: sorted runs are spilled to one unnamed
//! scratch file and merged.

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
        let runs = self.runs.iter().map(|&(next, end)| Run { next, end, ahead: Vec::new(), at: 0 });
        Ok(SortedRecords::Merge(Merge {
            file,
            runs: runs.collect(),
            ready: Vec::new().into_iter(),
        }))
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

/// Merges runs a block at a time: what stands before the least of the last records read ahead
/// is complete, and sorting that again is fast, because it is a few sorted pieces.
pub(crate) struct Merge<const N: usize> {
    file: File,
    runs: Vec<Run<N>>,
    ready: std::vec::IntoIter<[u64; N]>,
}

struct Run<const N: usize> {
    /// Records of the file that are not read yet.
    next: u64,
    end: u64,
    ahead: Vec<[u64; N]>,
    /// The first record of `ahead` that is not merged yet.
    at: usize,
}

impl<const N: usize> Merge<N> {
    fn pop(&mut self) -> io::Result<Option<[u64; N]>> {
        if self.ready.len() == 0 {
            self.merge_block()?;
        }
        Ok(self.ready.next())
    }

    fn merge_block(&mut self) -> io::Result<()> {
        for run in &mut self.runs {
            if run.at == run.ahead.len() && run.next < run.end {
                run.read_ahead(&self.file)?;
            }
        }
        let unfinished = self.runs.iter().filter(|run| run.next < run.end);
        let bound = unfinished.filter_map(|run| run.ahead.last()).min().copied();
        let mut block = Vec::new();
        for run in &mut self.runs {
            let rest = &run.ahead[run.at..];
            let taken = match bound {
                Some(bound) => rest.partition_point(|record| *record <= bound),
                None => rest.len(),
            };
            block.extend_from_slice(&rest[..taken]);
            run.at += taken;
        }
        block.sort();
        self.ready = block.into_iter();
        Ok(())
    }
}

impl<const N: usize> Run<N> {
    fn read_ahead(&mut self, file: &File) -> io::Result<()> {
        let record_bytes = size_of::<[u64; N]>();
        let records = (self.end - self.next).min(RECORDS_AHEAD as u64);
        let mut bytes = vec![0; records as usize * record_bytes];
        file.read_exact_at(&mut bytes, self.next * record_bytes as u64)?;
        self.next += records;
        self.ahead.clear();
        self.at = 0;
        self.ahead.extend(bytes.chunks_exact(record_bytes).map(|record| {
            let mut words = record.chunks_exact(8);
            [(); N].map(|()| {
                let word = words.next().expect("a record has N words");
                u64::from_le_bytes(word.try_into().expect("a word has 8 bytes"))
            })
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spilled_and_unspilled_sorts_agree() {
        let folder = tempfile::tempdir().unwrap();
        for memory_bytes in [1, 100, 5000, 40_000, 1 << 20] {
            let mut sorter = ExternalSorter::<2>::new(folder.path(), memory_bytes);
            let mut expect: Vec<[u64; 2]> = (0..20_000u64)
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
