//! Behaviour of the crate as a whole, on made-up, real and damaged files.

mod bad_input;
mod csv_differential;
mod damaged;
mod formats;
mod real_data;
mod round_trip;
mod versions;
mod weights;

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use crate::{
    Dataset, FolderStore, ImportError, ImportOptions, Imported, Limits, Manifest, NoProgress,
    Source, Value, import,
};

/// One row in plain words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlainRow {
    pub text: String,
    pub labels: Vec<String>,
    pub shares: Option<Vec<f32>>,
    pub weight: Option<f32>,
    pub split: Option<String>,
    /// The further columns, `-` where there is nothing.
    pub values: Vec<String>,
}

pub(crate) fn source<'a>(name: &str, bytes: &'a [u8]) -> Source<'a> {
    Source { file_name: name.to_owned(), reader: Box::new(Cursor::new(bytes)), split: None }
}

pub(crate) fn import_bytes(
    store: &FolderStore,
    name: &str,
    bytes: &[u8],
    options: &ImportOptions,
) -> Result<Imported, ImportError> {
    import(vec![source(name, bytes)], options, store, None, &NoProgress)
}

pub(crate) fn imported(store: &FolderStore, name: &str, bytes: &[u8]) -> Imported {
    import_bytes(store, name, bytes, &ImportOptions::default()).unwrap()
}

/// The rows of a version, and a check that its manifest reads back and tells the truth.
pub(crate) fn rows(store: &FolderStore, manifest: &Manifest) -> Vec<PlainRow> {
    assert_eq!(Manifest::parse(&manifest.to_bytes()).unwrap(), *manifest);
    let dataset = Dataset::open(manifest.clone(), store).unwrap();
    dataset.verify().unwrap();
    let mut plain = Vec::new();
    for row in dataset.head(u64::MAX).unwrap() {
        let names = &manifest.labels.names;
        let value = |name: &str| match row.value(name) {
            None => "-".to_owned(),
            Some(Value::String(text)) => text.to_owned(),
            Some(Value::Int(value)) => value.to_string(),
            Some(Value::Float(value)) => format!("{value:?}"),
            Some(Value::Bool(value)) => value.to_string(),
        };
        plain.push(PlainRow {
            text: row.text().to_owned(),
            labels: row.labels().iter().map(|&code| names[code as usize].clone()).collect(),
            shares: row.shares().map(<[f32]>::to_vec),
            weight: row.weight(),
            split: row.split().map(|code| manifest.splits[usize::from(code)].clone()),
            values: manifest.schema.columns.iter().map(|column| value(&column.name)).collect(),
        });
    }
    check_statistics(manifest, &plain);
    plain
}

/// Counts again what the manifest says, the simple way.
fn check_statistics(manifest: &Manifest, rows: &[PlainRow]) {
    let statistics = &manifest.statistics;
    assert_eq!(statistics.rows, rows.len() as u64);
    assert_eq!(statistics.text_bytes, rows.iter().map(|row| row.text.len() as u64).sum::<u64>());
    let unlabelled = rows.iter().filter(|row| row.labels.is_empty()).count();
    assert_eq!(statistics.unlabelled_rows, unlabelled as u64);
    let count =
        |wanted: &dyn Fn(&PlainRow) -> bool| rows.iter().filter(|row| wanted(row)).count() as u64;
    assert_eq!(statistics.weighted_rows, count(&|row| row.weight.is_some()));
    assert_eq!(statistics.weightless_rows, count(&|row| row.weight == Some(0.0)));
    assert_eq!(statistics.probabilistic_rows, count(&|row| row.shares.is_some()));
    let normal = |row: &PlainRow| {
        let lower: String = row.text.chars().flat_map(char::to_lowercase).collect();
        lower.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let texts: Vec<String> = rows.iter().map(normal).filter(|text| !text.is_empty()).collect();
    let distinct: std::collections::HashSet<_> = texts.iter().collect();
    assert_eq!(statistics.empty_texts, (rows.len() - texts.len()) as u64);
    assert_eq!(statistics.duplicate_rows, (texts.len() - distinct.len()) as u64);
    assert_eq!(statistics.chars.count(), rows.len() as u64);
    let chars = rows.iter().map(|row| row.text.chars().count() as u64);
    assert_eq!(statistics.chars.sum, chars.sum::<u64>());
    for split in &statistics.splits {
        let name = split.split.map(|code| manifest.splits[usize::from(code)].clone());
        let members: Vec<_> = rows.iter().filter(|row| row.split == name).collect();
        assert_eq!(split.rows, members.len() as u64, "{name:?}");
        for (label, &count) in manifest.labels.names.iter().zip(&split.class_rows) {
            let labelled = members.iter().filter(|row| row.labels.contains(label)).count();
            assert_eq!(count, labelled as u64, "{name:?} {label}");
        }
    }
    let counted: u64 = statistics.splits.iter().map(|split| split.rows).sum();
    assert_eq!(counted, statistics.rows);
}

pub(crate) fn texts(rows: &[PlainRow]) -> Vec<&str> {
    rows.iter().map(|row| row.text.as_str()).collect()
}

/// Limits so small that a few rows make several batches and parts.
pub(crate) fn small_limits() -> Limits {
    Limits {
        batch_rows: 3,
        batch_bytes: 200,
        part_bytes: 300,
        sort_memory_bytes: 64,
        ..Limits::default()
    }
}

/// A reader that gives pieces of random sizes.
pub(crate) struct Pieces<'a> {
    pub bytes: &'a [u8],
    pub random: Random,
    pub longest: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let wanted = 1 + self.random.below(self.longest as u64) as usize;
        let taken = wanted.min(buffer.len()).min(self.bytes.len());
        buffer[..taken].copy_from_slice(&self.bytes[..taken]);
        self.bytes = &self.bytes[taken..];
        Ok(taken)
    }
}

/// SplitMix64.
#[derive(Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}

/// A store in memory where there is such a folder: thousands of small files are slow on disks.
pub(crate) fn quick_store() -> FolderStore {
    FolderStore::within(Path::new("/dev/shm")).or_else(|_| FolderStore::new()).unwrap()
}

pub(crate) fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    std::fs::read(path).unwrap()
}

/// The folder of real data sets, if there is one.
pub(crate) fn real_data() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = match std::env::var_os("CORRAL_TEST_DATA") {
        Some(folder) => workspace.join(folder),
        None => workspace.join("../shared/data"),
    };
    folder.is_dir().then_some(folder)
}
