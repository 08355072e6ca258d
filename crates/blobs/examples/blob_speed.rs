//! How fast blobs go in and are verified, on the file system of the directory given:
//!
//! ```text
//! cargo run --release -p corral-blobs --example blob_speed -- DIR
//! ```
//!
//! One thread. With DIR in memory (`/dev/shm`) the disk is left out, and what remains is hashing
//! and copying. Five repetitions; median, and lowest and highest.

use std::fs;
use std::path::Path;
use std::time::Instant;

use corral_blobs::{BlobError, BlobStore};

const LARGE_BYTES: usize = 512 << 20;
const SMALL_BYTES: usize = 4 << 10;
const SMALL_BLOBS: usize = 2000;
const REPETITIONS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: blob_speed DIR")?;
    let dir = Path::new(&dir).join("blob-speed");
    let store = BlobStore::open(dir.join("store"))?;
    let file = dir.join("large");
    let mut content: Vec<u8> =
        (0..LARGE_BYTES as u64).map(|index| (index * index >> 7) as u8).collect();

    let (mut put, mut verified, mut adopted, mut small) = (vec![], vec![], vec![], vec![]);
    for repetition in 0..REPETITIONS {
        content[0] = repetition as u8;
        fs::write(&file, &content)?;
        let gigabytes = LARGE_BYTES as f64 / 1e9;
        let (hash, seconds) = timed(|| Ok(store.put_file(&file)?.hash))?;
        put.push(gigabytes / seconds);
        let ((), seconds) = timed(|| store.verify(&hash))?;
        verified.push(gigabytes / seconds);
        store.delete(&hash)?;
        let (_, seconds) = timed(|| store.adopt_file(&file))?;
        adopted.push(gigabytes / seconds);
        store.delete(&hash)?;

        let mut blob = vec![repetition as u8; SMALL_BYTES];
        let ((), seconds) = timed(|| {
            for number in 0..SMALL_BLOBS {
                blob[..8].copy_from_slice(&number.to_le_bytes());
                store.put_bytes(&blob)?;
            }
            Ok(())
        })?;
        small.push(SMALL_BLOBS as f64 / seconds);
    }
    print("copy a file of 512 MiB in", "GB/s", put);
    print("adopt a file of 512 MiB", "GB/s", adopted);
    print("verify a blob of 512 MiB", "GB/s", verified);
    print("put 4 KiB", "blobs/s", small);
    fs::remove_dir_all(&dir)?;
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> Result<T, BlobError>) -> Result<(T, f64), BlobError> {
    let started = Instant::now();
    let result = work()?;
    Ok((result, started.elapsed().as_secs_f64()))
}

fn print(what: &str, unit: &str, mut values: Vec<f64>) {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[0], values[REPETITIONS - 1]);
    println!("{what:26} {:8.2} {unit}  ({low:.2} – {high:.2})", values[REPETITIONS / 2]);
}
