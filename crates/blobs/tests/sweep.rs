//! Collecting garbage while others put, refer and let go.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use corral_blobs::{BlobStore, BlobStoreOptions, Swept};
use corral_types::BlobHash;

const HOUR: Duration = Duration::from_secs(3600);

/// A directory in memory where there is one: what a disk adds here is only time.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(dir: &std::path::Path) -> BlobStore {
    BlobStore::open_with(dir, BlobStoreOptions { reserve_bytes: 0 }).unwrap()
}

/// As if the blob had been put two hours ago.
fn age(store: &BlobStore, hash: &BlobHash) {
    if let Ok(file) = store.open_file(hash) {
        file.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
    }
}

#[test]
fn old_garbage_goes_and_everything_else_stays() {
    let dir = directory();
    let store = open(dir.path());
    let put = |text: &str| store.put_bytes(text.as_bytes()).unwrap().hash;
    let (referenced, fresh, old, revived, put_again) =
        (put("referenced and old"), put("fresh"), put("old"), put("revived"), put("put again"));
    for hash in [&referenced, &old, &revived, &put_again] {
        age(&store, hash);
    }
    assert!(store.revive(&revived).unwrap());
    assert!(!store.put_bytes(b"put again").unwrap().was_new);
    let swept = store.sweep(|hash| *hash == referenced, HOUR).unwrap();
    let expected = Swept { deleted_blobs: 1, deleted_bytes: 3, kept_blobs: 1, spared_blobs: 3 };
    assert_eq!(swept, expected);
    for (hash, stays) in
        [(referenced, true), (fresh, true), (old, false), (revived, true), (put_again, true)]
    {
        assert_eq!(store.contains(&hash).unwrap(), stays);
    }
}

/// Each owner, over and over: finds or stores its blob, which is old garbage by now; refers to
/// it; checks that it is there; lets go. Sweeps run all the time, through a store of their own
/// as another process would have. A put that only looked whether the blob exists would lose it.
#[test]
fn a_sweep_never_takes_a_blob_from_under_a_put() {
    const OWNERS: u64 = 4;
    const ROUNDS: u64 = 1500;
    let dir = directory();
    let store = open(dir.path());
    let references = Mutex::new(BTreeSet::new());
    let (stored_anew, deleted) = std::thread::scope(|scope| {
        let owners: Vec<_> = (0..OWNERS)
            .map(|owner| {
                let (store, references) = (&store, &references);
                scope.spawn(move || own(store, references, owner, ROUNDS))
            })
            .collect();
        let sweeper = open(dir.path());
        let mut deleted = 0;
        while !owners.iter().all(|owner| owner.is_finished()) {
            let referenced = references.lock().unwrap().clone();
            deleted += sweeper.sweep(|hash| referenced.contains(hash), HOUR).unwrap().deleted_blobs;
        }
        let stored_anew: u64 = owners.into_iter().map(|owner| owner.join().unwrap()).sum();
        (stored_anew, deleted)
    });
    // Otherwise the two never met.
    assert!(stored_anew > 10 && stored_anew < OWNERS * ROUNDS, "{stored_anew} stored anew");
    assert!(deleted > 10, "{deleted} deleted");
}

fn own(store: &BlobStore, references: &Mutex<BTreeSet<BlobHash>>, owner: u64, rounds: u64) -> u64 {
    let contents: Vec<_> = (0..4u64).map(|index| format!("content {owner} {index}")).collect();
    let mut stored_anew = 0;
    for round in 0..rounds {
        let content = contents[(round % 4) as usize].as_bytes();
        let hash = BlobHash::of(content);
        // Both ways that the protocol allows.
        if round % 3 == 0 && store.revive(&hash).unwrap() {
        } else {
            stored_anew += u64::from(store.put_bytes(content).unwrap().was_new);
        }
        references.lock().unwrap().insert(hash);
        for _ in 0..3 {
            assert!(store.contains(&hash).unwrap(), "owner {owner}, round {round}");
            std::thread::yield_now();
        }
        references.lock().unwrap().remove(&hash);
        age(store, &hash);
    }
    stored_anew
}
