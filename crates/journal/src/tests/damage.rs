//! Files that were altered behind the journal's back: found by name, or harmless.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use corral_types::{ErrorKind, Explain};

use super::disk::Disk;
use super::{Random, SMALL, directory, encode_state, payload, read_all};
use crate::frame::FRAME_HEADER_BYTES;
use crate::segment::{Found, SEGMENT_EXTENSION, SegmentReader, list_numbered, segment_path};
use crate::{Journal, JournalError, SequenceNumber};

const JOURNALS: u64 = 100;
const DAMAGES_PER_JOURNAL: u64 = 60;

/// It may be there all the same.
const NEVER_ACKNOWLEDGED: &[u8] = b"never acknowledged";

/// A journal's files and what they hold.
struct Sample {
    files: BTreeMap<String, Vec<u8>>,
    payloads: Vec<Vec<u8>>,
    last_segment: String,
    /// Where that segment's frames are, and how many records each has.
    last_frames: Vec<(Range<usize>, usize)>,
}

#[derive(Debug)]
enum Damage {
    Flip { file: String, bit: usize },
    Zero { file: String, range: Range<usize> },
    Noise { file: String, range: Range<usize> },
    Truncate { file: String, bytes: usize },
    Remove { file: String },
}

#[test]
fn damage_is_found_or_harmless() {
    let (mut found, mut harmless, mut cut) = (0, 0, 0);
    for journal in 0..JOURNALS {
        let mut random = Random(journal << 32);
        let sample = sample(&mut random);
        for _ in 0..DAMAGES_PER_JOURNAL {
            let damage = draw(&sample, &mut random);
            match outcome(&sample, &damage, &mut random) {
                Err(error) => {
                    let kind = error.kind();
                    let newer = matches!(error, JournalError::NewerFormat { .. });
                    assert!(kind == ErrorKind::DataLoss || newer, "{journal}, {damage:?}: {error}");
                    found += 1;
                }
                Ok(payloads) if payloads == sample.payloads => harmless += 1,
                Ok(payloads) => {
                    let lost = sample.payloads.len() - payloads.len();
                    assert!(
                        sample.payloads.starts_with(&payloads)
                            && sample.may_look_unfinished(&damage, lost),
                        "{journal}, {damage:?}: lost {lost}, {:?}",
                        sample.last_frames
                    );
                    cut += 1;
                }
            }
        }
    }
    assert!(found > 500 && harmless > 300 && cut > 5, "{found} {harmless} {cut}");
}

impl Sample {
    /// Whether this many records may go unmissed: the first of them is in a frame of the last
    /// segment that is damaged, and so is the header of every frame behind it, any of which would
    /// have proved that it was synced.
    fn may_look_unfinished(&self, damage: &Damage, lost: usize) -> bool {
        let (file, range) = match damage {
            Damage::Flip { file, bit } => (file, bit / 8..bit / 8 + 1),
            Damage::Zero { file, range } | Damage::Noise { file, range } => (file, range.clone()),
            Damage::Truncate { .. } | Damage::Remove { .. } => return false,
        };
        let header = |frame: &Range<usize>| frame.start..frame.start + FRAME_HEADER_BYTES;
        *file == self.last_segment
            && (0..self.last_frames.len()).any(|first| {
                let (damaged, behind) = self.last_frames[first..].split_first().expect("not empty");
                overlap(&damaged.0, &range)
                    && behind.iter().all(|(frame, _)| overlap(&header(frame), &range))
                    && self.last_frames[first..].iter().map(|(_, records)| records).sum::<usize>()
                        == lost
            })
    }
}

fn overlap(left: &Range<usize>, right: &Range<usize>) -> bool {
    left.start < right.end && right.start < left.end
}

/// Some segments, with or without a snapshot, closed or left by a crash.
fn sample(random: &mut Random) -> Sample {
    let dir = directory();
    let mut payloads = Vec::new();
    let disk = Disk::new(random.next());
    let (journal, _) = Journal::open_through(dir.path(), SMALL, disk.opener()).unwrap();
    for _ in 0..10 + random.below(60) {
        let batch: Vec<_> = (0..random.below(4) + 1).map(|index| payload(index, random)).collect();
        journal.append_batch_blocking(&batch).unwrap();
        payloads.extend(batch);
        let covers = SequenceNumber::new(payloads.len() as u64);
        if random.one_in(30) {
            journal.install_snapshot(covers, &encode_state(&payloads)).unwrap();
        }
    }
    if random.one_in(2) {
        // The process is killed, and the power fails, during a last append.
        disk.fail_sync_after(0);
        journal.append_blocking(NEVER_ACKNOWLEDGED).unwrap_err();
    }
    drop(journal);
    disk.lose_power();
    describe(dir.path(), payloads)
}

fn describe(dir: &Path, mut payloads: Vec<Vec<u8>>) -> Sample {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "lock" {
            let bytes = fs::read(dir.join(&name)).unwrap();
            files.insert(name, bytes);
        }
    }
    let last = *list_numbered(dir, SEGMENT_EXTENSION).unwrap().last().unwrap();
    let mut reader = SegmentReader::open(dir, last).unwrap();
    let mut last_frames = Vec::new();
    loop {
        let start = reader.offset() as usize;
        let Found::Frame(frame) = reader.next_frame().unwrap() else { break };
        last_frames.push((start..reader.offset() as usize, frame.records as usize));
        if frame.next().get() == payloads.len() as u64 + 2 {
            payloads.push(NEVER_ACKNOWLEDGED.to_vec());
        }
    }
    let path = segment_path(dir, last);
    let last_segment = path.file_name().unwrap().to_str().unwrap().to_owned();
    Sample { files, payloads, last_segment, last_frames }
}

fn draw(sample: &Sample, random: &mut Random) -> Damage {
    let names: Vec<_> = sample.files.keys().collect();
    let file = names[random.below(names.len() as u64) as usize].clone();
    let bytes = sample.files[&file].len();
    let at = random.below(bytes as u64) as usize;
    let range = at..bytes.min(at + 1 + random.below(100) as usize);
    match random.below(12) {
        0..4 => Damage::Flip { file, bit: at * 8 + random.below(8) as usize },
        4..7 => Damage::Zero { file, range },
        7..10 => Damage::Noise { file, range },
        10 => Damage::Truncate { file, bytes: at },
        // A directory without a journal's files is a new journal.
        _ if names.len() > 1 => Damage::Remove { file },
        _ => Damage::Truncate { file, bytes: 0 },
    }
}

fn outcome(
    sample: &Sample,
    damage: &Damage,
    random: &mut Random,
) -> Result<Vec<Vec<u8>>, JournalError> {
    let mut files = sample.files.clone();
    let mut edit = |name: &String| files.remove(name).map(|bytes| (name.clone(), bytes)).unwrap();
    let altered = match damage {
        Damage::Flip { file, bit } => {
            let (name, mut bytes) = edit(file);
            bytes[bit / 8] ^= 1 << (bit % 8);
            Some((name, bytes))
        }
        Damage::Zero { file, range } => {
            let (name, mut bytes) = edit(file);
            bytes[range.clone()].fill(0);
            Some((name, bytes))
        }
        Damage::Noise { file, range } => {
            let (name, mut bytes) = edit(file);
            bytes[range.clone()].fill_with(|| random.next() as u8);
            Some((name, bytes))
        }
        Damage::Truncate { file, bytes: length } => {
            let (name, mut bytes) = edit(file);
            bytes.truncate(*length);
            Some((name, bytes))
        }
        Damage::Remove { file } => {
            edit(file);
            None
        }
    };
    files.extend(altered);
    let dir = directory();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let disk = Disk::new(random.next());
    let (journal, recovery) = Journal::open_through(dir.path(), SMALL, disk.opener())?;
    let mut payloads = read_all(recovery)?;
    // A journal that opens goes on.
    journal.append_blocking(b"more").unwrap();
    drop(journal);
    let (_, recovery) = Journal::open_through(dir.path(), SMALL, disk.opener())?;
    payloads.push(b"more".to_vec());
    assert_eq!(read_all(recovery)?, payloads);
    payloads.pop();
    Ok(payloads)
}
