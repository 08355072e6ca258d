//! The public data sets beside the workspace, where they are present.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{real_data, rows};
use crate::{
    ColumnChoice, Dataset, ExportFormat, ExportOptions, FolderStore, ImportOptions, Imported,
    NoProgress, Source, export, import,
};

/// Files, each with the split of all its rows.
type FileSplits<'a> = &'a [(&'a str, Option<&'a str>)];

fn folder() -> Option<PathBuf> {
    let folder = real_data();
    if folder.is_none() {
        println!("skipped: no folder of public data sets (CORRAL_TEST_DATA)");
    }
    folder
}

fn import_files(
    store: &FolderStore,
    folder: &Path,
    files: FileSplits<'_>,
    options: &ImportOptions,
) -> Imported {
    let sources = files.iter().map(|(file, split)| Source {
        file_name: (*file).to_owned(),
        reader: Box::new(File::open(folder.join(file)).unwrap()),
        split: split.map(str::to_owned),
    });
    import(sources.collect(), options, store, None, &NoProgress).unwrap()
}

#[test]
fn sets_in_jsonl() {
    let Some(folder) = folder() else { return };
    let both = [("train.jsonl", Some("train")), ("test.jsonl", Some("test"))];
    let three = [both[0], ("valid.jsonl", Some("valid")), both[1]];
    // The published numbers of rows and classes.
    let sets: [(&str, FileSplits<'_>, &[u64], usize); 7] = [
        ("banking77", &both, &[10_003, 3_080], 77),
        ("clinc150", &three, &[15_000, 3_000, 4_500], 150),
        ("trec", &both, &[5_452, 500], 6),
        ("ag_news", &both, &[23_973, 7_600], 4),
        ("sms_spam", &[("all.jsonl", None)], &[5_574], 2),
        ("wrench_youtube", &three, &[1_586, 120, 250], 2),
        ("wrench_trec", &three, &[4_965, 500, 500], 6),
    ];
    for (name, files, sizes, classes) in sets {
        let store = FolderStore::new().unwrap();
        let result = import_files(&store, &folder.join(name), files, &ImportOptions::default());
        let manifest = &result.manifest;
        assert_eq!(manifest.labels.names.len(), classes, "{name}");
        let rows_of: Vec<u64> = manifest.statistics.splits.iter().map(|split| split.rows).collect();
        assert_eq!(rows_of, sizes, "{name}");
        assert_eq!(manifest.statistics.unlabelled_rows, 0, "{name}");
        let found = rows(&store, manifest);

        // Line by line with another parser.
        let mut expect = Vec::new();
        for (file, _) in files {
            let text = std::fs::read_to_string(folder.join(name).join(file)).unwrap();
            for line in text.lines() {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                let label = value["label"]
                    .as_str()
                    .map_or_else(|| value["label"].to_string(), str::to_owned);
                expect.push((value["text"].as_str().unwrap().to_owned(), label));
            }
        }
        let found: Vec<_> =
            found.into_iter().map(|row| (row.text, row.labels[0].clone())).collect();
        assert!(found == expect, "{name}");
    }
}

#[test]
fn occupations_between_tabs() {
    let Some(folder) = folder() else { return };
    let store = FolderStore::new().unwrap();
    let options = |text: &str| ImportOptions {
        text: Some(text.to_owned()),
        label: ColumnChoice::Named("O*NET-SOC Code".to_owned()),
        ..ImportOptions::default()
    };
    let onet = folder.join("onet");
    let check = |file: &str, text: &str, expect_rows: u64, classes: usize| {
        let result = import_files(&store, &onet, &[(file, None)], &options(text));
        let manifest = &result.manifest;
        assert_eq!(
            (manifest.rows(), manifest.labels.names.len()),
            (expect_rows, classes),
            "{file}"
        );
        assert_eq!(result.report.files[0].delimiter, Some('\t'), "{file}");
        assert_eq!(result.report.notes, Vec::<String>::new(), "{file}");
        rows(&store, manifest)
    };
    let alternate = check("Alternate Titles.txt", "Alternate Title", 52_754, 1_016);
    assert_eq!(alternate[0].text, "Aeronautics Commission Director");
    assert_eq!(alternate[0].labels, ["11-1011.00"]);
    check("Occupation Data.txt", "description", 1_016, 1_016);
    check("Sample of Reported Titles.txt", "Reported Job Title", 7_541, 899);
    let tasks = check("Task Statements.txt", "Task", 19_265, 923);
    assert_eq!(tasks[0].values[..2], ["8823", "Core"]);
}

#[test]
fn a_real_set_survives_every_export() {
    let Some(folder) = folder() else { return };
    let store = FolderStore::new().unwrap();
    let files = [("train.jsonl", Some("train")), ("test.jsonl", Some("test"))];
    let original =
        import_files(&store, &folder.join("trec"), &files, &ImportOptions::default()).manifest;
    let dataset = Dataset::open(original.clone(), &store).unwrap();
    for format in ExportFormat::ALL {
        let mut bytes = Vec::new();
        let written = export(&dataset, format, &ExportOptions::default(), &mut bytes).unwrap();
        assert_eq!(written, 5_952);
        let again = super::imported(&store, "again", &bytes).manifest;
        // Nothing but the names of the source's columns may differ, so the parts are shared.
        assert_eq!(again.parts, original.parts, "{format}");
        assert_eq!(again.layers, original.layers, "{format}");
        assert_eq!(again.statistics, original.statistics, "{format}");
    }
}
