//! What is exported imports again as the same.

use super::{PlainRow, Random, import_bytes, imported, quick_store, rows, small_limits};
use crate::{
    Dataset, ExportFormat, ExportOptions, FolderStore, Format, ImportOptions, Manifest, RowIds,
    export,
};

fn exported(
    store: &FolderStore,
    manifest: &Manifest,
    format: ExportFormat,
    options: &ExportOptions,
) -> Vec<u8> {
    let dataset = Dataset::open(manifest.clone(), store).unwrap();
    let mut bytes = Vec::new();
    export(&dataset, format, options, &mut bytes).unwrap();
    bytes
}

/// Random rows as JSONL, with everything that could be confused.
fn jsonl(seed: u64, lists: bool) -> String {
    let mut random = Random(seed);
    let pieces = [
        "a", "b c", " ", "\\n", "\\r\\n", ",", ";", "\\t", "\\\"", "'", "é", "日本", "|", "[1]",
        "{",
    ];
    let mut jsonl = String::new();
    for _ in 0..1 + random.below(30) {
        let text: String = (0..random.below(6)).map(|_| *random.pick(&pieces)).collect();
        let label = |random: &mut Random| {
            format!("\"{}\"", random.pick(&["x", "y, z", "ü \\\"q\\\"", "a|b"]))
        };
        let labels = match (lists, random.below(4)) {
            (_, 0) => "null".to_owned(),
            (false, _) => label(&mut random),
            (true, _) => format!("[{}, {}]", label(&mut random), label(&mut random)),
        };
        let split = random.pick(&["null", "\"train\"", "\"test\"", "\"my fold\""]);
        let s = random.pick(&["null", "\"\"", "\"text\"", "\"x, \\\"y\\\"\""]);
        let int = random.pick(&["null", "0", "-5", "9007199254740993"]);
        let float = random.pick(&["null", "0.1", "1.0", "-2.5e300", "1e-7"]);
        let bool = random.pick(&["null", "true", "false"]);
        jsonl += &format!(
            "{{\"text\": \"t{text}\", \"label\": {labels}, \"split\": {split}, \"s\": {s}, \"int\": {int}, \
             \"float\": {float}, \"bool\": {bool}}}\n"
        );
    }
    // Every column has a value that shows its type.
    jsonl
        + "{\"text\": \"\", \"label\": null, \"s\": \"z\", \"int\": 1, \"float\": 0.5, \"bool\": true}\n"
}

#[test]
fn every_format_gives_the_same_rows_back() {
    let formats = [
        (ExportFormat::Csv, Format::Csv),
        (ExportFormat::Jsonl, Format::Jsonl),
        (ExportFormat::Parquet, Format::Parquet),
        (ExportFormat::Arrow, Format::ArrowFile),
    ];
    for seed in 0..24 {
        let store = quick_store();
        let options = ImportOptions { limits: small_limits(), ..ImportOptions::default() };
        let source = jsonl(seed, seed % 2 == 1);
        let original =
            import_bytes(&store, "a.jsonl", source.as_bytes(), &options).unwrap().manifest;
        let expect = rows(&store, &original);
        for (format, read_as) in formats {
            let bytes = exported(&store, &original, format, &ExportOptions::default());
            let again = import_bytes(&store, "again", &bytes, &options)
                .unwrap_or_else(|error| panic!("seed {seed} {format}: {error}\n{source}"));
            assert_eq!(again.report.files[0].format, read_as, "seed {seed}\n{source}");
            let found = rows(&store, &again.manifest);
            assert_eq!(found, expect, "seed {seed} {format}\n{source}");
            assert_eq!(
                again.manifest.schema.columns, original.schema.columns,
                "seed {seed} {format}"
            );
            assert_eq!(again.manifest.labels, original.labels, "seed {seed} {format}");
            let twice = exported(&store, &again.manifest, format, &ExportOptions::default());
            assert_eq!(twice, bytes, "seed {seed} {format}");
        }
    }
}

#[test]
fn csv_exports_are_as_documented() {
    let store = FolderStore::new().unwrap();
    let jsonl = "{\"text\": \"a, \\\"b\\\"\\nc\", \"label\": [\"x\", \"y\"], \"n\": 1, \"split\": \"train\"}\n\
        {\"text\": \"\", \"label\": null, \"n\": null}\n";
    let manifest = imported(&store, "a.jsonl", jsonl.as_bytes()).manifest;
    let options = ExportOptions { row_ids: RowIds::Include, ..ExportOptions::default() };
    let bytes = exported(&store, &manifest, ExportFormat::Csv, &options);
    let expect = "row_id,text,label,split,n\n\
        0,\"a, \"\"b\"\"\nc\",\"[\"\"x\"\",\"\"y\"\"]\",train,1\n\
        1,\"\",,,\n";
    assert_eq!(String::from_utf8(bytes).unwrap(), expect);
    let bytes = exported(&store, &manifest, ExportFormat::Jsonl, &options);
    let expect = "{\"row_id\": 0, \"text\": \"a, \\\"b\\\"\\nc\", \"label\": [\"x\",\"y\"], \"split\": \"train\", \"n\": 1}\n\
        {\"row_id\": 1, \"text\": \"\", \"label\": null, \"split\": null, \"n\": null}\n";
    assert_eq!(String::from_utf8(bytes).unwrap(), expect);
}

#[test]
fn one_split_can_be_exported() {
    let store = FolderStore::new().unwrap();
    let options = ImportOptions { limits: small_limits(), ..ImportOptions::default() };
    let csv: String = (0..30).fold("text,label,split\n".to_owned(), |csv, i| {
        csv + &format!("m{i},c,{}\n", ["train", "dev", "test"][i % 3])
    });
    let manifest = import_bytes(&store, "a.csv", csv.as_bytes(), &options).unwrap().manifest;
    for format in ExportFormat::ALL {
        let one = ExportOptions { split: Some("validation".into()), ..ExportOptions::default() };
        let bytes = exported(&store, &manifest, format, &one);
        let again = imported(&store, "again", &bytes).manifest;
        let found: Vec<PlainRow> = rows(&store, &again);
        assert_eq!(found.len(), 10, "{format}");
        assert!(found.iter().all(|row| row.split.as_deref() == Some("valid")));
    }
    let dataset = Dataset::open(manifest, &store).unwrap();
    let wrong = ExportOptions { split: Some("tests".into()), ..ExportOptions::default() };
    let error = export(&dataset, ExportFormat::Csv, &wrong, &mut Vec::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the data set has no split `tests`; its splits are train, valid, test"
    );
}

#[test]
fn a_sheet_keeps_every_text_and_says_what_it_cannot_hold() {
    let store = FolderStore::new().unwrap();
    let texts = [
        "<a> & \"b\"",
        " spaces ",
        "two\nlines\tand\ra return",
        "🐎 _x0041_ __x005f_x_x_ \u{1}",
        "007",
    ];
    let row = |text: &&str| serde_json::json!({"text": text, "big": i64::MAX, "no": -0.5});
    let lines: String = texts.iter().map(|text| row(text).to_string() + "\n").collect();
    let manifest = imported(&store, "a.jsonl", lines.as_bytes()).manifest;
    let bytes = exported(&store, &manifest, ExportFormat::Xlsx, &ExportOptions::default());
    let again = imported(&store, "again.xlsx", &bytes).manifest;
    let found = rows(&store, &again);
    let kept: Vec<&str> = found.iter().map(|row| row.text.as_str()).collect();
    assert_eq!(kept, texts);
    assert_eq!(found[0].values, [i64::MAX.to_string(), "-0.5".to_owned()]);

    let long = serde_json::json!({"text": "x".repeat(32_768)}).to_string();
    let manifest = imported(&store, "a.jsonl", long.as_bytes()).manifest;
    let dataset = Dataset::open(manifest, &store).unwrap();
    let options = ExportOptions::default();
    let error = export(&dataset, ExportFormat::Xlsx, &options, &mut Vec::new()).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("32768") && source.contains("csv"), "{source}");
    assert!(ExportFormat::Xlsx.check_rows(1_048_575).is_ok());
    let error = ExportFormat::Xlsx.check_rows(1_048_576).unwrap_err();
    assert!(error.to_string().contains("1048575"), "{error}");
}

#[test]
fn the_suffix_of_a_file_says_its_format() {
    let check = |name: &str, format| assert_eq!(ExportFormat::of_file_name(name), Ok(format));
    check("a.CSV", ExportFormat::Csv);
    check("a.b.ndjson", ExportFormat::Jsonl);
    check("a.feather", ExportFormat::Arrow);
    check("a.xlsx", ExportFormat::Xlsx);
    for wrong in ["a", "a.pickle", "a.csv.gz", ""] {
        assert!(ExportFormat::of_file_name(wrong).unwrap_err().contains(".parquet"), "{wrong}");
    }
}
