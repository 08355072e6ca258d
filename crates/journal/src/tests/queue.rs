//! A disk that is slower than the appenders.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};

use super::directory;
use crate::segment::LogFile;
use crate::{Journal, JournalError, JournalOptions, MAX_RECORD_BYTES, QUEUE_BYTES};

/// Syncs when nobody holds the gate.
struct Gated {
    file: File,
    gate: Arc<Mutex<()>>,
}

impl LogFile for Gated {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        LogFile::write_all_at(&self.file, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        let _open = self.gate.lock().unwrap();
        Ok(())
    }
}

#[test]
fn a_full_queue_makes_appenders_wait_and_then_goes_on() {
    let dir = directory();
    let gate = Arc::new(Mutex::new(()));
    let opener = {
        let gate = Arc::clone(&gate);
        Box::new(move |file| -> Box<dyn LogFile> {
            Box::new(Gated { file, gate: Arc::clone(&gate) })
        })
    };
    let options = JournalOptions { reserve_bytes: 0, ..JournalOptions::default() };
    let (journal, _) = Journal::open_through(dir.path(), options, opener).unwrap();
    let closed = gate.lock().unwrap();
    let payload = vec![1; MAX_RECORD_BYTES];
    let mut pending = Vec::new();
    let refused = loop {
        match journal.try_enqueue(&[&payload]) {
            Ok(taken) => pending.push(taken),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, JournalError::QueueFull { limit_bytes: QUEUE_BYTES }), "{refused}");
    // What is being written counts until it is on disk.
    assert_eq!(pending.len(), QUEUE_BYTES / MAX_RECORD_BYTES - 1);
    let appended = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| journal.append_blocking(&payload));
        drop(closed);
        for (index, taken) in pending.into_iter().enumerate() {
            assert_eq!(taken.wait().unwrap().get(), index as u64 + 1);
        }
        waiting.join().unwrap().unwrap()
    });
    assert_eq!(appended.get() as usize, QUEUE_BYTES / MAX_RECORD_BYTES);
}
