//! Syncs that fail and power that is lost: nothing acknowledged is lost, and nothing that a
//! recovery showed.

use super::disk::Disk;
use super::{Random, SMALL, directory, encode_state, payload, read_all};
use crate::{Journal, JournalError, SequenceNumber};

const SEEDS: u64 = 2000;

/// What is known of a journal's records.
#[derive(Default)]
struct Model {
    /// Acknowledged or seen by a recovery.
    durable: Vec<Vec<u8>>,
    /// Batches that were enqueued after those, in order; a crash leaves any number of the first.
    unsure: Vec<Vec<Vec<u8>>>,
}

impl Model {
    /// Checks what a recovery showed, which is certain from then on.
    fn recovered(&mut self, found: Vec<Vec<u8>>) {
        let mut possible = self.durable.clone();
        let mut batches = self.unsure.drain(..);
        while possible.len() < found.len() {
            possible.extend(batches.next().expect("no more records than were appended"));
        }
        drop(batches);
        assert!(possible == found, "{} records, {} possible", found.len(), possible.len());
        self.durable = found;
    }
}

#[test]
fn what_was_acknowledged_survives_failing_syncs_and_lost_power() {
    let (mut poisoned, mut cut) = (0, 0);
    for seed in 0..SEEDS {
        // A panic below is reported with the seed.
        let told = std::panic::catch_unwind(|| run(seed));
        let (was_poisoned, was_cut) = told.unwrap_or_else(|_| panic!("seed {seed}"));
        poisoned += was_poisoned;
        cut += was_cut;
    }
    // Otherwise the test does not test what it says.
    assert!(poisoned > SEEDS && cut > SEEDS / 20, "{poisoned} poisoned, {cut} cut");
}

fn run(seed: u64) -> (u64, u64) {
    let mut random = Random(seed);
    let dir = directory();
    let disk = Disk::new(random.next());
    let mut model = Model::default();
    let mut number = 0;
    let (mut poisoned, mut cut) = (0, 0);
    for _life in 0..4 {
        disk.fail_sync_after(random.below(25));
        match Journal::open_through(dir.path(), SMALL, disk.opener()) {
            Ok((journal, recovery)) => {
                cut += u64::from(recovery.cut_tail.is_some());
                assert!(recovery.damaged_snapshots.is_empty());
                model.recovered(read_all(recovery).unwrap());
                poisoned += u64::from(live(&journal, &mut model, &mut number, &mut random));
            }
            // The sync that failed was recovery's own.
            Err(JournalError::Io { .. } | JournalError::Poisoned { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        // Otherwise only the process ended, and the page cache knows more than the disk.
        if !random.one_in(3) {
            disk.lose_power();
        }
    }
    disk.never_fail();
    let (_, recovery) = Journal::open_through(dir.path(), SMALL, disk.opener()).unwrap();
    model.recovered(read_all(recovery).unwrap());
    (poisoned, cut)
}

/// Appends until the journal is poisoned, which is what is returned, or enough.
fn live(journal: &Journal, model: &mut Model, number: &mut u64, random: &mut Random) -> bool {
    for _round in 0..random.below(40) {
        let mut waiting = Vec::new();
        for _ in 0..random.below(4) + 1 {
            let records = if random.one_in(3) { random.below(6) } else { 1 };
            let batch: Vec<_> = (0..records)
                .map(|_| {
                    *number += 1;
                    payload(*number, random)
                })
                .collect();
            match journal.try_enqueue(&batch) {
                Ok(pending) => waiting.push(pending),
                Err(error) => return is_poison(&error),
            }
            model.unsure.push(batch);
        }
        for pending in waiting {
            match pending.wait() {
                Ok(last) => {
                    model.durable.extend(model.unsure.remove(0));
                    assert_eq!(last.get(), model.durable.len() as u64);
                }
                Err(error) => return is_poison(&error),
            }
        }
        let covers = SequenceNumber::new(model.durable.len() as u64);
        if random.one_in(10) && covers > journal.newest_snapshot() {
            journal.install_snapshot(covers, &encode_state(&model.durable)).unwrap();
        }
    }
    false
}

fn is_poison(error: &JournalError) -> bool {
    assert!(matches!(error, JournalError::Poisoned { .. }), "{error}");
    true
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_a_restart_helps() {
    let dir = directory();
    let disk = Disk::new(0);
    {
        let (journal, _) = Journal::open_through(dir.path(), SMALL, disk.opener()).unwrap();
        journal.append_blocking(b"one").unwrap();
        disk.fail_sync_after(0);
        let pending: Vec<_> =
            (0..10).map(|_| journal.try_enqueue(&[b"lost?"])).filter_map(Result::ok).collect();
        for pending in pending {
            let error = pending.wait().unwrap_err();
            assert!(is_poison(&error));
            let hint = corral_types::Explain::hint(&error).unwrap();
            assert!(hint.starts_with("restart the server"), "{hint}");
        }
        // The disk would sync again, but the journal does not trust it.
        assert!(is_poison(&journal.append_blocking(b"two").unwrap_err()));
        assert!(is_poison(&journal.sync_blocking().unwrap_err()));
        assert!(is_poison(
            &journal.begin_snapshot(SequenceNumber::new(1)).unwrap().install().unwrap_err()
        ));
        assert_eq!(journal.last_synced(), SequenceNumber::new(1));
    }
    let (journal, recovery) = Journal::open_through(dir.path(), SMALL, disk.opener()).unwrap();
    assert_eq!(read_all(recovery).unwrap()[0], b"one");
    journal.append_blocking(b"two").unwrap();
}
