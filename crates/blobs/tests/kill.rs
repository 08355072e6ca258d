//! A process that stores blobs is killed at random moments, hundreds of times, in one store.
//! What it was told is stored must be whole, and whatever else is visible must be whole too.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use corral_blobs::{BlobStore, BlobStoreOptions};
use corral_types::BlobHash;

/// Set for the process that is killed: the store's directory.
const DIRECTORY: &str = "CORRAL_BLOBS_KILL_DIRECTORY";
const KILLS: u64 = 200;

fn open(dir: &Path) -> BlobStore {
    BlobStore::open_with(dir, BlobStoreOptions { reserve_bytes: 0 }).unwrap()
}

/// Not a test of its own: the other one runs it in a process, and kills that.
#[test]
fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(DIRECTORY) else { return };
    let store = open(Path::new(&dir));
    std::thread::scope(|scope| {
        for thread in 0..3u32 {
            let store = &store;
            scope.spawn(move || put_for_ever(store, thread));
        }
    });
}

fn put_for_ever(store: &BlobStore, thread: u32) {
    let mut state = std::process::id().wrapping_mul(31).wrapping_add(thread);
    loop {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Small contents come again and again, from every thread. Large ones are a thread's own:
        // it removes them, since a store of a test must not fill a disk.
        let bytes = [12, 5_000, 70_000, 600_000][(state >> 20) as usize % 4];
        let is_large = bytes > 100_000;
        let seed = (state >> 8) % 500 + if is_large { 1000 * thread } else { 0 };
        let content = seed.to_le_bytes().repeat(bytes / 4);
        let put = match state >> 30 {
            0 => store.put_bytes(&content),
            1 => {
                let file = store.scratch_folder().join(format!("file {state}"));
                fs::write(&file, &content).unwrap();
                store.adopt_file(&file)
            }
            _ => {
                let mut writer = store.writer().unwrap();
                content.chunks(50_000).for_each(|piece| writer.append(piece).unwrap());
                writer.finish()
            }
        };
        let put = put.unwrap();
        writeln!(std::io::stdout().lock(), "stored {} {}", put.hash, put.bytes).unwrap();
        if is_large {
            writeln!(std::io::stdout().lock(), "deletes {}", put.hash).unwrap();
            store.delete(&put.hash).unwrap();
        }
    }
}

#[test]
fn a_blob_is_whole_or_absent_after_a_kill() {
    // In memory where that is possible: a kill loses nothing that was written, synced or not.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut stored = BTreeMap::new();
    let mut checked = 0;
    for kill in 0..KILLS {
        run_and_kill(dir.path(), (kill * 7919) % 31 * (kill % 3), &mut stored);
        let store = open(dir.path());
        for entry in store.iter() {
            let entry = entry.unwrap();
            // Whole files of the length told; now and then, and at the end, every byte.
            if kill % 25 == 24 || kill == KILLS - 1 {
                store.verify(&entry.hash).unwrap();
                checked += 1;
            }
        }
        for (hash, bytes) in &stored {
            assert_eq!(store.len(hash).unwrap(), *bytes, "kill {kill}");
        }
        let scratch: Vec<_> = fs::read_dir(dir.path().join("scratch")).unwrap().collect();
        assert_eq!(scratch.len(), 2, "the gate and this store's own folder: {scratch:?}");
    }
    println!("{} blobs acknowledged over {KILLS} kills, {checked} verified", stored.len());
    assert!(stored.len() > 300);
}

fn run_and_kill(dir: &Path, lines: u64, stored: &mut BTreeMap<BlobHash, u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut seen) = (String::new(), 0);
    loop {
        if seen == lines {
            child.kill().unwrap();
        }
        // What was said before the kill is still in the pipe, its last line perhaps cut.
        line.clear();
        if output.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
            break;
        }
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["stored", hash, bytes] => {
                stored.insert(hash.parse().unwrap(), bytes.parse().unwrap());
                seen += 1;
            }
            ["deletes", hash] => {
                stored.remove(&hash.parse().unwrap());
            }
            _ => {}
        }
    }
    let status = child.wait().unwrap();
    assert!(status.code().is_none(), "the process ended by itself: {status}");
}
