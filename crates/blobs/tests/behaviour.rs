//! What the store does for its owner, through its public interface.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use corral_blobs::{BUFFER_BYTES, BlobError, BlobStore, BlobStoreOptions, PutBlob, Transferred};
use corral_types::{BlobHash, ErrorKind, Explain};

/// A directory in memory where there is one: what a disk adds here is only time.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(dir: &Path) -> BlobStore {
    BlobStore::open_with(dir, BlobStoreOptions { reserve_bytes: 0 }).unwrap()
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index * index / 7) as u8).collect()
}

type Put = Result<PutBlob, BlobError>;

/// Every file below, without the locks.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_none_or(|extension| extension != "lock") {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_way_in_gives_the_same_blob() {
    let dir = directory();
    for bytes in [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3 * BUFFER_BYTES + 5] {
        let content = content(bytes);
        let file = dir.path().join("file");
        let ways: [&dyn Fn(&BlobStore) -> Put; 6] = [
            &|store| store.put_bytes(&content),
            &|store| {
                fs::write(&file, &content).unwrap();
                let put = store.put_file(&file);
                assert_eq!(fs::read(&file).unwrap(), content);
                put
            },
            &|store| {
                fs::write(&file, &content).unwrap();
                let put = store.adopt_file(&file);
                assert!(!file.exists());
                put
            },
            &|store| {
                let file = store.scratch_folder().join("mine");
                fs::write(&file, &content).unwrap();
                store.adopt_file(&file)
            },
            &|store| {
                let mut writer = store.writer().unwrap();
                for piece in content.chunks(1000) {
                    writer.write_all(piece).unwrap();
                }
                assert_eq!(writer.bytes(), content.len() as u64);
                writer.finish()
            },
            &|store| {
                let mut writer = store.writer().unwrap().expect_hash(BlobHash::of(&content));
                let half = content.len() / 2;
                writer.append(&content[..half]).unwrap();
                let rest = writer.append_all_from(&mut &content[half..]).unwrap();
                assert_eq!(rest as usize, content.len() - half);
                writer.finish()
            },
        ];
        for (way, put) in ways.iter().enumerate() {
            let home = dir.path().join(format!("store {bytes} {way}"));
            let store = open(&home);
            let first = put(&store).unwrap();
            assert_eq!(
                (first.hash, first.bytes, first.was_new),
                (BlobHash::of(&content), bytes as u64, true)
            );
            for (again, put) in ways.iter().enumerate() {
                let repeated = put(&store).unwrap();
                assert_eq!(repeated, PutBlob { was_new: false, ..first }, "{way} {again}");
            }
            assert_eq!(store.read(&first.hash).unwrap(), content);
            assert_eq!(store.len(&first.hash).unwrap(), bytes as u64);
            store.verify(&first.hash).unwrap();
            let path = store.local_path(&first.hash).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
            assert_eq!(files(&home), [path]);
        }
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let dir = directory();
    let store = open(dir.path());
    let hash = BlobHash::of(b"nowhere");
    assert!(!store.contains(&hash).unwrap());
    assert!(!store.revive(&hash).unwrap());
    assert!(!store.delete(&hash).unwrap());
    for error in [
        store.len(&hash).unwrap_err(),
        store.read(&hash).unwrap_err(),
        store.verify(&hash).unwrap_err(),
        store.open_file(&hash).map(|_| ()).unwrap_err(),
        store.local_path(&hash).map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(&hash.to_string()));
    }
}

#[test]
fn a_deleted_blob_stays_readable_for_whoever_has_it_open() {
    let dir = directory();
    let store = open(dir.path());
    let put = store.put_bytes(b"still here").unwrap();
    let mut file = store.open_file(&put.hash).unwrap();
    assert!(store.delete(&put.hash).unwrap());
    assert!(!store.contains(&put.hash).unwrap());
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
    assert!(store.put_bytes(b"still here").unwrap().was_new);
}

#[test]
fn what_was_announced_is_what_must_come() {
    let dir = directory();
    let store = open(dir.path());

    let mut writer = store.writer().unwrap().expect_hash(BlobHash::of(b"right"));
    writer.append(b"wrong").unwrap();
    let mismatch = writer.finish().unwrap_err();
    assert!(
        matches!(&mismatch, BlobError::Mismatch { found, .. } if *found == BlobHash::of(b"wrong"))
    );
    assert_eq!(mismatch.kind(), ErrorKind::Invalid);

    let mut writer = store.writer().unwrap().limit_bytes(10);
    writer.append(b"0123456789").unwrap();
    let too_large = writer.append(b"!").unwrap_err();
    assert_eq!(too_large.to_string(), "the blob is larger than the 10 B it may have");
    assert!(matches!(writer.append(b""), Err(BlobError::GivenUp)));
    assert!(matches!(writer.finish(), Err(BlobError::GivenUp)));

    let mut writer = store.writer().unwrap().limit_bytes(10);
    let error = io::copy(&mut io::repeat(1).take(11), &mut writer).unwrap_err();
    assert!(matches!(error.downcast::<BlobError>().unwrap(), BlobError::TooLarge { .. }));

    let mut writer = store.writer().unwrap().limit_bytes(1 << 20);
    let error = writer.append_all_from(&mut io::repeat(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);

    let refused = store.writer().unwrap().limit_bytes(10).announce_bytes(11);
    assert!(matches!(refused, Err(BlobError::TooLarge { limit_bytes: 10 })));
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_reader_that_fails_leaves_nothing() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("line cut"))?;
            Ok(buffer.len())
        }
    }
    let dir = directory();
    let store = open(dir.path());
    let mut writer = store.writer().unwrap();
    let error = writer.append_all_from(&mut Broken(5)).unwrap_err();
    assert!(matches!(error, BlobError::Source { .. }));
    assert!(matches!(writer.finish(), Err(BlobError::GivenUp)));
    let mut unfinished = store.writer().unwrap();
    unfinished.append(&content(BUFFER_BYTES * 2)).unwrap();
    drop(unfinished);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn damage_is_found_and_mended_by_a_new_upload() {
    let dir = directory();
    let store = open(dir.path());
    let content = content(100_000);
    let put = store.put_bytes(&content).unwrap();
    let path = store.local_path(&put.hash).unwrap();
    for (alter, found_by_length) in [
        (&(|bytes: &mut Vec<u8>| bytes[77_777] ^= 1) as &dyn Fn(&mut Vec<u8>), false),
        (&|bytes: &mut Vec<u8>| bytes.truncate(99_999), true),
        (&|bytes: &mut Vec<u8>| bytes.push(0), true),
    ] {
        let mut bytes = content.clone();
        alter(&mut bytes);
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        for error in [store.verify(&put.hash).unwrap_err(), store.read(&put.hash).unwrap_err()] {
            assert!(matches!(&error, BlobError::Damaged { path: named, .. } if *named == path));
            assert_eq!(error.kind(), ErrorKind::DataLoss);
        }
        // A put does not read what is there, but sees its length.
        if !found_by_length {
            store.delete(&put.hash).unwrap();
        }
        assert!(store.put_bytes(&content).unwrap().was_new);
        store.verify(&put.hash).unwrap();
    }
}

#[test]
fn a_put_is_refused_before_the_disk_is_full() {
    let dir = directory();
    let free_bytes = open(dir.path()).usage().unwrap().free_bytes;
    // Far more than other users of this disk could free while the test runs.
    let reserve_bytes = free_bytes + (1 << 50);
    let store = BlobStore::open_with(dir.path(), BlobStoreOptions { reserve_bytes }).unwrap();
    let error = store.put_bytes(b"one more").unwrap_err();
    assert!(matches!(error, BlobError::DiskFull { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("stay in reserve"));
    let store = open(dir.path());
    let error = store.writer().unwrap().announce_bytes(1 << 60).map(|_| ()).unwrap_err();
    assert!(matches!(error, BlobError::DiskFull { needed_bytes, .. } if needed_bytes == 1 << 60));
    assert!(files(dir.path()).is_empty());
}

#[test]
fn the_same_content_from_many_threads_is_stored_once() {
    let dir = directory();
    let store = open(dir.path());
    for round in 0..20 {
        let content = content(10_000 + round);
        let new: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| usize::from(store.put_bytes(&content).unwrap().was_new)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(new, 1);
    }
    assert_eq!(files(dir.path()).len(), 20);
}

#[test]
fn listing_and_usage_count_blobs_and_nothing_else() {
    let dir = directory();
    let store = open(dir.path());
    let mut hashes: Vec<_> =
        (1..=50).map(|bytes| store.put_bytes(&content(bytes)).unwrap().hash).collect();
    fs::write(dir.path().join("objects/00/README"), "not a blob").unwrap();
    let mut listed: Vec<_> = store.iter().map(|entry| entry.unwrap().hash).collect();
    hashes.sort();
    listed.sort();
    assert_eq!(listed, hashes);
    let usage = store.usage().unwrap();
    assert_eq!((usage.blobs, usage.bytes), (50, 50 * 51 / 2));
    assert!(usage.free_bytes > 0);
}

#[test]
fn scratch_of_the_living_stays_and_of_the_dead_goes() {
    let dir = directory();
    let store = open(dir.path());
    let mut writer = store.writer().unwrap();
    writer.append(&content(BUFFER_BYTES)).unwrap();
    // What a killed process leaves: a folder without a lock, and whatever is in it.
    let dead = dir.path().join("scratch/12345-0");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("0"), "half a blob").unwrap();
    fs::write(dir.path().join("scratch/stray"), "").unwrap();
    let other = open(dir.path());
    assert!(!dead.exists() && !dir.path().join("scratch/stray").exists());
    assert_ne!(store.scratch_folder(), other.scratch_folder());
    let put = writer.finish().unwrap();
    other.verify(&put.hash).unwrap();
    let folder = other.scratch_folder().to_owned();
    drop(other);
    assert!(!folder.exists() && store.scratch_folder().exists());
}

#[test]
fn an_export_can_be_imported_and_outlives_the_store() {
    let dir = directory();
    let store = open(&dir.path().join("store"));
    let hashes: Vec<_> =
        (0..30).map(|bytes| store.put_bytes(&content(bytes)).unwrap().hash).collect();
    let backup = dir.path().join("backup");
    let wanted = &hashes[10..];
    let moved = store.export(wanted.iter().copied(), &backup).unwrap();
    assert_eq!(moved, Transferred { blobs: 20, bytes: (10..30).sum() });
    // A second export adds only what is new.
    assert_eq!(store.export(hashes.iter().copied(), &backup).unwrap().blobs, 30);
    for hash in &hashes {
        store.delete(hash).unwrap();
    }
    let restored = open(&dir.path().join("restored"));
    assert_eq!(restored.import(&backup).unwrap().blobs, 30);
    for hash in &hashes {
        restored.verify(hash).unwrap();
    }
    let missing = store.export([hashes[3]], dir.path().join("other")).unwrap_err();
    assert!(matches!(missing, BlobError::NotFound { hash } if hash == hashes[3]));
}

#[test]
fn a_damaged_backup_is_not_imported() {
    let dir = directory();
    let store = open(&dir.path().join("store"));
    let hash = store.put_bytes(b"precious").unwrap().hash;
    let backup = dir.path().join("backup");
    store.export([hash], &backup).unwrap();
    let path = files(&backup).remove(0);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"precinct").unwrap();
    let restored = open(&dir.path().join("restored"));
    let error = restored.import(&backup).unwrap_err();
    assert!(matches!(&error, BlobError::Damaged { path: named, .. } if *named == path), "{error}");
    assert_eq!(restored.usage().unwrap().blobs, 0);
}
