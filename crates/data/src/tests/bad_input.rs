//! Bad rows are found, placed, counted, skipped or refused; nothing stays behind.

use std::sync::atomic::{AtomicU64, Ordering};

use corral_types::{ErrorKind, Explain};

use super::{import_bytes, imported, rows, source, texts};
use crate::{
    ColumnType, FolderStore, ImportError, ImportOptions, ImportProgress, LabelArityChoice, Limits,
    NoProgress, OnError, Position, Progress, TextEncoding, import,
};

fn skipping() -> ImportOptions {
    ImportOptions { on_error: OnError::Skip, ..ImportOptions::default() }
}

/// Line or row, column and reason of every problem of an import that skips them.
fn problems(name: &str, bytes: &[u8], options: &ImportOptions) -> Vec<(u64, String, &'static str)> {
    let store = FolderStore::new().unwrap();
    let result = import_bytes(&store, name, bytes, options).unwrap();
    rows(&store, &result.manifest);
    let listed = result.report.problems.first.iter().map(|problem| {
        let (Position::Line(place) | Position::Row(place)) = problem.position;
        (place, problem.column.clone().unwrap_or_default(), problem.reason.word())
    });
    listed.collect()
}

#[test]
fn csv_problems_have_line_column_and_reason() {
    let csv = b"text,label\n\
        good,x\n\
        only one field\n\
        three,fields,here\n\
        \"spans\ntwo lines\",x\n\
        bad \xff byte,x\n\
        good too,\xfe\n\
        \"text\" after,x\n\
        fine,y\n\
        \"never closed,x\n\
        last,z\n";
    // So short a file would be taken for Windows-1252.
    let options = ImportOptions { encoding: Some(TextEncoding::UTF_8), ..skipping() };
    let found = problems("a.csv", csv, &options);
    let found: Vec<_> =
        found.iter().map(|(line, column, word)| (*line, column.as_str(), *word)).collect();
    assert_eq!(
        found,
        [
            (3, "", "field_count"),
            (4, "", "field_count"),
            (7, "text", "not_utf8"),
            (8, "label", "not_utf8"),
            (9, "text", "text_after_quote"),
            (11, "", "unclosed_quote"),
        ]
    );
    let store = FolderStore::new().unwrap();
    let result = import_bytes(&store, "a.csv", csv, &options).unwrap();
    let found = rows(&store, &result.manifest);
    assert_eq!(texts(&found), ["good", "spans\ntwo lines", "fine", "last"]);
    assert_eq!(result.manifest.labels.names, ["x", "y", "z"]);
}

#[test]
fn a_stray_quote_does_not_swallow_the_rows_after_it() {
    let csv = "text,label\n\"he said,x\nb,y\n\"c\",y\nd,x\n";
    let found = problems("a.csv", csv.as_bytes(), &skipping());
    assert_eq!(found, [(2, "text".to_owned(), "text_after_quote")]);
    let store = FolderStore::new().unwrap();
    let result = import_bytes(&store, "a.csv", csv.as_bytes(), &skipping()).unwrap();
    assert_eq!(texts(&rows(&store, &result.manifest)), ["b", "c", "d"]);
}

#[test]
fn jsonl_problems() {
    let jsonl = "{\"text\": \"a\", \"label\": \"x\"}\n\
        {\"text\": \"b\"\n\
        [1]\n\
        {\"label\": \"x\"}\n\
        {\"text\": null}\n\
        {\"text\": 5}\n\
        {\"text\": \"c\", \"label\": {\"k\": \"v\"}}\n\
        {\"text\": \"d\", \"text\": \"e\"}\n\
        {\"text\": \"f\"} trailing\n\
        {\"text\": \"\\ud800\"}\n";
    let found = problems("a.jsonl", jsonl.as_bytes(), &skipping());
    let words: Vec<_> = found.iter().map(|(line, _, word)| (*line, *word)).collect();
    assert_eq!(
        words,
        [
            (2, "not_json"),
            (3, "not_json"),
            (4, "missing_text"),
            (5, "missing_text"),
            (6, "text_type"),
            (7, "label_type"),
            (8, "column_twice"),
            (9, "not_json"),
            (10, "not_json"),
        ]
    );
}

#[test]
fn failing_imports_list_the_first_and_count_all() {
    let store = FolderStore::new().unwrap();
    let mut csv = "text,label\n".to_owned();
    (0..50).for_each(|i| csv += &format!("ok {i},x\nbad {i}\n"));
    let error =
        import_bytes(&store, "a.csv", csv.as_bytes(), &ImportOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let summary = error.problems().unwrap();
    assert_eq!((summary.total, summary.first.len()), (50, 20));
    assert_eq!(summary.by_reason["field_count"], 50);
    let text = error.to_string();
    assert!(
        text.starts_with("50 bad rows\n  a.csv, line 3: 1 fields where the header has 2\n"),
        "{text}"
    );
    assert!(text.ends_with("and 30 more"), "{text}");
    assert!(store.hashes().unwrap().is_empty());

    let mut options = ImportOptions::default();
    options.limits.problems_before_stopping = 7;
    let error = import_bytes(&store, "a.csv", csv.as_bytes(), &options).unwrap_err();
    let summary = error.problems().unwrap();
    assert!(summary.total == 7 && summary.stopped_early);
    assert!(error.to_string().starts_with("at least 7 bad rows"));
}

#[test]
fn only_bad_rows_is_an_error_even_when_skipping() {
    let store = FolderStore::new().unwrap();
    let error = import_bytes(&store, "a.csv", b"text,label\nx\n", &skipping()).unwrap_err();
    assert!(matches!(error, ImportError::BadRows(_)), "{error}");
    let error = import_bytes(&store, "a.csv", b"text,label\n", &skipping()).unwrap_err();
    assert!(matches!(error, ImportError::NoRows { .. }), "{error}");
    let error = import_bytes(&store, "a.csv", b"", &skipping()).unwrap_err();
    assert!(matches!(error, ImportError::NoRows { .. }), "{error}");
    let none = import(Vec::new(), &skipping(), &store, None, &NoProgress).unwrap_err();
    assert!(matches!(none, ImportError::NoFiles));
}

#[test]
fn every_limit_is_kept() {
    let with = |change: &dyn Fn(&mut Limits)| {
        let mut options = skipping();
        change(&mut options.limits);
        options
    };
    let long = format!("text,label\n{},x\n\"{}\nb\",y\nc,z\n", "a".repeat(100), "q".repeat(100));
    let found = problems("a.csv", long.as_bytes(), &with(&|limits| limits.row_bytes = 50));
    let words: Vec<_> = found.iter().map(|(line, _, word)| (*line, *word)).collect();
    // Past its first line the long quoted row is read on as rows of its own.
    assert_eq!(words[..2], [(2, "row_too_long"), (3, "row_too_long")]);

    let huge = format!("text,label\n\"{}\nc,z\n", "q\n".repeat(400_000));
    let store = FolderStore::new().unwrap();
    let mut options = with(&|limits| limits.row_bytes = 100_000);
    options.limits.runaway_rows = 3;
    let error = import_bytes(&store, "a.csv", huge.as_bytes(), &options);
    assert!(error.is_err() || error.unwrap().report.problems.total > 1);

    let line = format!("{}\nb\n", "a".repeat(600_000));
    let found = problems("a.txt", line.as_bytes(), &with(&|limits| limits.row_bytes = 1000));
    assert_eq!(found, [(1, "text".to_owned(), "row_too_long")]);

    let options = with(&|limits| {
        limits.label_bytes = 3;
        limits.labels_per_row = 2;
    });
    let jsonl = "{\"text\": \"a\", \"label\": \"long\"}\n{\"text\": \"b\", \"label\": [\"1\", \"2\", \"3\"]}\n{\"text\": \"c\"}\n";
    let found = problems("a.jsonl", jsonl.as_bytes(), &options);
    let words: Vec<_> = found.iter().map(|(_, _, word)| *word).collect();
    assert_eq!(words, ["label_too_long", "too_many_labels"]);

    let fails = |name: &str, text: &str, options: &ImportOptions| {
        let store = FolderStore::new().unwrap();
        let error = import_bytes(&store, name, text.as_bytes(), options).unwrap_err();
        assert!(store.hashes().unwrap().is_empty());
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        error.to_string()
    };
    let csv = "text,label,split\na,1,x\nb,2,y\nc,3,z\n";
    let message = fails("a.csv", csv, &with(&|limits| limits.classes = 2));
    assert_eq!(message, "a.csv names more than 2 classes in column `label`");
    let message = fails("a.csv", csv, &with(&|limits| limits.splits = 2));
    assert_eq!(message, "a.csv names more than 2 splits in column `split`");
    fails("a.csv", csv, &with(&|limits| limits.columns = 2));
    fails("a.csv", csv, &with(&|limits| limits.column_name_bytes = 4));
    let late = "{\"text\": \"a\"}\n".repeat(1001) + "{\"text\": \"a\", \"b\": 1, \"c\": 1}\n";
    fails("a.jsonl", &late, &with(&|limits| limits.columns = 1));

    let store = FolderStore::new().unwrap();
    let options = with(&|limits| limits.files = 1);
    let two = vec![source("a.txt", b"a"), source("b.txt", b"b")];
    let error = import(two, &options, &store, None, &NoProgress).unwrap_err();
    assert!(matches!(error, ImportError::TooManyFiles { found: 2, limit: 1 }));
}

#[test]
fn declared_types_are_kept_or_refused() {
    let csv = "text,n\na,1\nb,one\nc,\n";
    let options = ImportOptions { column_types: vec![("n".into(), ColumnType::Int)], ..skipping() };
    let found = problems("a.csv", csv.as_bytes(), &options);
    assert_eq!(found, [(3, "n".to_owned(), "value_type")]);
}

#[test]
fn several_labels_are_refused_where_one_is_asked_for() {
    let options = ImportOptions { label_arity: LabelArityChoice::Single, ..skipping() };
    let jsonl =
        "{\"text\": \"a\", \"label\": [\"x\", \"y\"]}\n{\"text\": \"b\", \"label\": [\"x\"]}\n";
    let found = problems("a.jsonl", jsonl.as_bytes(), &options);
    assert_eq!(found, [(1, "label".to_owned(), "several_labels")]);
}

#[test]
fn the_encoding_of_a_late_byte_is_not_guessed() {
    let store = FolderStore::new().unwrap();
    let mut csv = b"text,label\n".to_vec();
    while csv.len() < 300_000 {
        csv.extend_from_slice(b"plain ascii text,x\n");
    }
    csv.extend_from_slice(b"caf\xe9,x\n");
    let error = import_bytes(&store, "a.csv", &csv, &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("byte 4 of the field is not UTF-8"), "{error}");
    assert!(error.hint().unwrap().contains("windows-1252"));
    let options = ImportOptions {
        encoding: Some("windows-1252".parse().unwrap()),
        ..ImportOptions::default()
    };
    let result = import_bytes(&store, "a.csv", &csv, &options).unwrap();
    assert_eq!(rows(&store, &result.manifest).last().unwrap().text, "café");
}

#[test]
fn binary_files_are_not_taken_for_text() {
    let store = FolderStore::new().unwrap();
    let bytes: Vec<u8> = (0..2000u32).map(|i| ((i * 7919) >> 3) as u8).collect();
    let error = import_bytes(&store, "a.bin", &bytes, &ImportOptions::default()).unwrap_err();
    assert!(matches!(error, ImportError::UnknownFormat { .. }), "{error}");
}

#[test]
fn a_source_that_breaks_off_leaves_nothing() {
    struct Breaking(u64);
    impl std::io::Read for Breaking {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            self.0 -= 1;
            buffer.fill(b'a');
            buffer[0] = b'\n';
            Ok(buffer.len())
        }
    }
    let store = FolderStore::new().unwrap();
    let broken =
        crate::Source { file_name: "a.txt".into(), reader: Box::new(Breaking(60)), split: None };
    let mut options = ImportOptions::default();
    options.limits.batch_rows = 2;
    let error = import(vec![broken], &options, &store, None, &NoProgress).unwrap_err();
    assert!(matches!(error, ImportError::Read { .. }), "{error}");
    assert!(store.hashes().unwrap().is_empty());
    let scratch = std::fs::read_dir(crate::PartStore::scratch_dir(&store)).unwrap();
    assert_eq!(scratch.count(), 0);
}

#[test]
fn an_import_can_be_watched_and_cancelled() {
    struct StopAfter(AtomicU64, u64);
    impl Progress for StopAfter {
        fn advance(&self, progress: ImportProgress) {
            self.0.store(progress.rows, Ordering::Relaxed);
            assert!(progress.bytes_read > 0);
        }
        fn is_cancelled(&self) -> bool {
            self.0.load(Ordering::Relaxed) >= self.1
        }
    }
    let store = FolderStore::new().unwrap();
    let text = "some line\n".repeat(5000);
    let mut options = ImportOptions::default();
    options.limits.batch_rows = 100;
    let watch = StopAfter(AtomicU64::new(0), 300);
    let error =
        import(vec![source("a.txt", text.as_bytes())], &options, &store, None, &watch).unwrap_err();
    assert!(matches!(error, ImportError::Cancelled), "{error}");
    assert_eq!(watch.0.load(Ordering::Relaxed), 300);
    assert!(store.hashes().unwrap().is_empty());
    let watch = StopAfter(AtomicU64::new(0), u64::MAX);
    import(vec![source("a.txt", text.as_bytes())], &options, &store, None, &watch).unwrap();
    assert_eq!(watch.0.load(Ordering::Relaxed), 5000);
}

#[test]
fn quotes_that_mean_nothing_are_found_out_or_told() {
    let store = FolderStore::new().unwrap();
    let tsv = "code\ttext\n1\t5\" disk\n2\t\"odd\n3\tplain\n";
    let result = imported(&store, "a.tsv", tsv.as_bytes());
    assert_eq!(texts(&rows(&store, &result.manifest)), ["5\" disk", "\"odd", "plain"]);
}
