//! How fast blobs go in and are verified, on the file system of the directory given:
//!
//! ```text
//! cargo run --release -p corral-blobs --example blob_speed -- DIR
//! ```
//!
//! One thread, by the clock and by the CPU time it took: the second is what one core can do when
//! the disk keeps up. Five repetitions; median, and lowest and highest.

use std::fs;
use std::path::Path;
use std::time::Instant;

use corral_blobs::{BlobError, BlobStore};
use rustix::time::{ClockId, clock_gettime};

const LARGE_BYTES: usize = 512 << 20;
const GIGABYTES: f64 = LARGE_BYTES as f64 / 1e9;
const SMALL_BYTES: usize = 4 << 10;
const SMALL_BLOBS: usize = 2000;
const REPETITIONS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: blob_speed DIR")?;
    let dir = Path::new(&dir).join("blob-speed");
    let store = BlobStore::open(dir.join("store"))?;
    let file = dir.join("large");
    let mut content: Vec<u8> =
        (0..LARGE_BYTES as u64).map(|index| ((index * index) >> 7) as u8).collect();

    let (mut put, mut verified, mut adopted, mut small) = (vec![], vec![], vec![], vec![]);
    for repetition in 0..REPETITIONS {
        content[0] = repetition as u8;
        fs::write(&file, &content)?;
        let (hash, seconds) = timed(|| Ok(store.put_file(&file)?.hash))?;
        put.push(seconds);
        let ((), seconds) = timed(|| store.verify(&hash))?;
        verified.push(seconds);
        store.delete(&hash)?;
        let (_, seconds) = timed(|| store.adopt_file(&file))?;
        adopted.push(seconds);
        store.delete(&hash)?;

        let mut blob = vec![repetition as u8; SMALL_BYTES];
        let ((), seconds) = timed(|| {
            for number in 0..SMALL_BLOBS {
                blob[..8].copy_from_slice(&number.to_le_bytes());
                store.put_bytes(&blob)?;
            }
            Ok(())
        })?;
        small.push(seconds);
    }
    print("copy a file of 512 MiB in", "GB/s", GIGABYTES, &put);
    print("adopt a file of 512 MiB", "GB/s", GIGABYTES, &adopted);
    print("verify a blob of 512 MiB", "GB/s", GIGABYTES, &verified);
    print("put 4 KiB", "blobs/s", SMALL_BLOBS as f64, &small);
    fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Seconds by the clock and of this thread's CPU time.
type Seconds = (f64, f64);

fn timed<T>(work: impl FnOnce() -> Result<T, BlobError>) -> Result<(T, Seconds), BlobError> {
    let (started, cpu_before) = (Instant::now(), cpu_seconds());
    let result = work()?;
    Ok((result, (started.elapsed().as_secs_f64(), cpu_seconds() - cpu_before)))
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn print(what: &str, unit: &str, amount: f64, seconds: &[Seconds]) {
    let rates = |pick: fn(&Seconds) -> f64| {
        let mut rates: Vec<f64> = seconds.iter().map(|seconds| amount / pick(seconds)).collect();
        rates.sort_by(f64::total_cmp);
        let (low, median, high) = (rates[0], rates[REPETITIONS / 2], rates[REPETITIONS - 1]);
        format!("{median:9.2} ({low:.2} – {high:.2})")
    };
    let (clock, cpu) = (rates(|seconds| seconds.0), rates(|seconds| seconds.1));
    println!("{what:26} {clock} {unit} by the clock, {cpu} by CPU time");
}
