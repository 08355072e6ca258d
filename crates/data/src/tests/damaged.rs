//! Damaged files of every format, and damaged files of the store: errors, never panics.

use std::io::Write;

use super::{Random, golden, import_bytes, imported, quick_store, rows, small_limits};
use crate::{
    Dataset, ExportFormat, ExportOptions, FolderStore, ImportOptions, Limits, Manifest, NoProgress,
    OnError, Source, export, import,
};

/// Cuts, flips, copies, zeroes or enlarges.
fn damage(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + random.below(4) {
        let length = bytes.len() as u64;
        if length == 0 {
            return bytes;
        }
        let at = random.below(length) as usize;
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes[at] = random.next() as u8,
            3 => {
                let end = (at + 1 + random.below(16) as usize).min(bytes.len());
                bytes[at..end].fill(*random.pick(&[0, 0xff, 0x7f]));
            }
            4 => {
                let end = (at + random.below(64) as usize).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.below(length) as usize;
                bytes.splice(to..to, piece);
            }
            _ => {
                let end = (at + random.below(64) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes
}

/// Whatever a damaged file makes of an import, a version that comes out must be sound.
fn survive(store: &FolderStore, name: &str, bytes: &[u8], options: &ImportOptions) {
    let source = Source { file_name: name.into(), reader: Box::new(bytes), split: None };
    if let Ok(result) = import(vec![source], options, store, None, &NoProgress) {
        rows(store, &result.manifest);
    }
}

/// `CORRAL_FUZZ_FACTOR` makes the rounds as many times more, for a long look.
fn factor() -> u64 {
    std::env::var("CORRAL_FUZZ_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn fuzz(name: &str, bytes: &[u8], rounds: u64) {
    let store = quick_store();
    let options = ImportOptions {
        on_error: OnError::Skip,
        limits: Limits { batch_rows: 3, ..Limits::default() },
        ..ImportOptions::default()
    };
    for cut in (0..bytes.len()).step_by(1 + bytes.len() / 50) {
        survive(&store, name, &bytes[..cut], &options);
    }
    for seed in 0..rounds * factor() {
        let mut random = Random(seed);
        survive(&store, name, &damage(bytes, &mut random), &options);
    }
}

#[test]
fn text_formats() {
    let csv =
        "id,text,label,split\n1,\"a, \"\"b\"\"\nc\",x,train\n2,é,y,test\n3,plain,,\n".repeat(3);
    let jsonl =
        "{\"text\": \"a\\u00e9\", \"label\": [\"x\", \"y\"], \"n\": 1.5, \"v\": {\"k\": [1]}}\n"
            .repeat(4);
    let shared = "{\"text\": \"a\", \"label\": {\"x\": 0.5, \"y\": 1}, \"row_weight\": 0.25}\n\
        {\"text\": \"b\", \"label\": [\"x\", \"y\"], \"label_shares\": [0.1, 0.9]}\n"
        .repeat(3);
    fuzz("a.jsonl", shared.as_bytes(), 400);
    fuzz("a.csv", csv.as_bytes(), 600);
    fuzz("a", csv.as_bytes(), 150);
    fuzz("a.jsonl", jsonl.as_bytes(), 600);
    fuzz("a.txt", csv.as_bytes(), 100);
    let utf16: Vec<u8> = csv.encode_utf16().flat_map(u16::to_le_bytes).collect();
    fuzz("a.csv", &utf16, 150);
}

#[test]
fn wrapped_files() {
    let csv = "text,label\nsome text that repeats,x\nsome text that repeats,y\n".repeat(20);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(csv.as_bytes()).unwrap();
    fuzz("a.csv.gz", &gzip.finish().unwrap(), 500);
    fuzz("a.csv.zst", &zstd::encode_all(csv.as_bytes(), 3).unwrap(), 500);
}

#[test]
fn parquet_files() {
    for name in
        ["plain-snappy.parquet", "plain-none.parquet", "plain-zstd.parquet", "lists.parquet"]
    {
        fuzz(name, &golden(name), 250);
    }
}

#[test]
fn arrow_files() {
    for name in ["plain-lz4.arrow", "plain-zstd.arrow", "plain-uncompressed.arrow", "plain.arrows"]
    {
        fuzz(name, &golden(name), 300);
    }
}

#[test]
fn xlsx_files() {
    fuzz("messages.xlsx", &golden("messages.xlsx"), 600);
}

#[test]
fn truncated_wrappings_are_errors_not_ends() {
    let store = quick_store();
    let csv = "text,label\nsome text,x\n".repeat(1000);
    let zstd = zstd::encode_all(csv.as_bytes(), 3).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(csv.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    for (name, whole) in [("a.csv.gz", gzip), ("a.csv.zst", zstd)] {
        imported(&store, name, &whole);
        let cut = &whole[..whole.len() - 9];
        let error = import_bytes(&store, name, cut, &ImportOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("read {name}"));
    }
}

/// Damage to the store's own files: opening and reading give an error that names the file.
#[test]
fn files_of_the_store() {
    let store = quick_store();
    let options = ImportOptions { limits: small_limits(), ..ImportOptions::default() };
    let jsonl: String = (0..20)
        .map(|i| format!("{{\"text\": \"é {i}\", \"label\": [\"x{i}\", \"y\"], \"split\": \"s{}\", \"label_shares\": [0.25, 3], \"row_weight\": 0.5, \"n\": {i}, \"s\": \"v\"}}\n", i % 3))
        .collect();
    let manifest = import_bytes(&store, "a.jsonl", jsonl.as_bytes(), &options).unwrap().manifest;
    for blob in manifest.blobs() {
        let path = store.path_of(&blob);
        let sound = std::fs::read(&path).unwrap();
        for seed in 0..120 {
            let mut random = Random(seed);
            // A new file, as a store never changes one that may be mapped.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, damage(&sound, &mut random)).unwrap();
            read_all(&store, &manifest, &blob.to_string());
        }
        std::fs::remove_file(&path).unwrap();
        let error = Dataset::open(manifest.clone(), &store).unwrap_err();
        assert_eq!(error.to_string(), format!("open the data set's file {blob}"));
        std::fs::write(&path, &sound).unwrap();
    }
    rows(&store, &manifest);
}

fn read_all(store: &FolderStore, manifest: &Manifest, blob: &str) {
    let read = Dataset::open(manifest.clone(), store).and_then(|dataset| {
        dataset.verify()?;
        for batch in dataset.iter() {
            let batch = batch?;
            for row in 0..batch.len() {
                let shown = (
                    batch.text(row),
                    batch.labels().codes(row),
                    batch.shares(row),
                    batch.weight(row),
                    batch.split(row),
                    batch.row_id(row),
                );
                std::hint::black_box(shown);
            }
        }
        let _ = export(&dataset, ExportFormat::Csv, &ExportOptions::default(), &mut Vec::new());
        Ok(())
    });
    if let Err(error) = read {
        assert!(error.to_string().contains(blob), "{error} does not name {blob}");
    }
}
