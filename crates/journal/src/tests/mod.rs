//! Failing disks, lost power and damaged files, against the simplest of models: a list.

mod damage;
mod disk;
mod power;
mod queue;

use crate::{JournalError, JournalOptions, Recovery};

/// Small segments, so that few records make many.
const SMALL: JournalOptions = JournalOptions { segment_bytes: 2048, reserve_bytes: 0 };

/// A directory in memory where there is one: the disk is simulated, so a real one would only
/// cost time.
fn directory() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap()
}

/// SplitMix64: each seed a different run, the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// A payload that says which it is, of a random length, nearly always small.
fn payload(number: u64, random: &mut Random) -> Vec<u8> {
    let length = if random.one_in(20) { random.below(5000) } else { random.below(120) };
    let mut payload = number.to_le_bytes().to_vec();
    payload.extend((0..length).map(|_| random.next() as u8));
    payload
}

/// A state for snapshots: all payloads so far.
fn encode_state(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut state = Vec::new();
    for payload in payloads {
        crate::frame::push_record(&mut state, payload);
    }
    state
}

/// All payloads, from the snapshot and the records after it.
fn read_all(recovery: Recovery) -> Result<Vec<Vec<u8>>, JournalError> {
    let mut payloads = Vec::new();
    if let Some(mut snapshot) = recovery.snapshot {
        let mut state = Vec::new();
        std::io::Read::read_to_end(&mut snapshot, &mut state).unwrap();
        assert_eq!(state.len() as u64, snapshot.size_bytes());
        let mut at = 0;
        while let Some((payload, end)) = crate::frame::record_at(&state, at) {
            payloads.push(payload.to_owned());
            at = end;
        }
        assert_eq!(snapshot.covers().get(), payloads.len() as u64);
    }
    for record in recovery.records {
        let record = record?;
        payloads.push(record.payload);
        assert_eq!(record.sequence.get(), payloads.len() as u64);
    }
    Ok(payloads)
}
