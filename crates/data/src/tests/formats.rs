//! Every format, wrapping and encoding gives the same rows.

use std::io::Write;

use super::{PlainRow, golden, import_bytes, imported, rows, source, texts};
use crate::{
    ColumnType, Compression, FolderStore, Format, Header, ImportOptions, LabelArity, NoProgress,
    QuoteChoice, Source, TextEncoding, import,
};

fn row(text: &str, labels: &[&str], split: Option<&str>, values: &[&str]) -> PlainRow {
    PlainRow {
        text: text.to_owned(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        shares: None,
        weight: None,
        split: split.map(str::to_owned),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    }
}

const CSV: &str = "id,text,label,split\n\
    1,where is my card?,arrival,train\n\
    2,\"naïve, \"\"quoted\"\"\nand more\",food,train\n\
    3,plain,,validation\n\
    4,\"\",food,test\n";

fn csv_rows() -> Vec<PlainRow> {
    vec![
        row("where is my card?", &["arrival"], Some("train"), &["1"]),
        row("naïve, \"quoted\"\nand more", &["food"], Some("train"), &["2"]),
        row("plain", &[], Some("valid"), &["3"]),
        row("", &["food"], Some("test"), &["4"]),
    ]
}

#[test]
fn csv_in_every_wrapping_and_encoding() {
    let store = FolderStore::new().unwrap();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let utf16 = |text: &str, big: bool| -> Vec<u8> {
        let units = "\u{feff}".encode_utf16().chain(text.encode_utf16()).collect::<Vec<_>>();
        let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        units.into_iter().flat_map(bytes).collect()
    };
    let latin: Vec<u8> = CSV.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let crlf = CSV.replace("\"\nand", "\u{1}").replace('\n', "\r\n").replace('\u{1}', "\"\nand");
    let (head, tail) = CSV.as_bytes().split_at(40);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a.csv", CSV.as_bytes().to_vec()),
        ("no-extension", CSV.as_bytes().to_vec()),
        ("bom.csv", format!("\u{feff}{CSV}").into_bytes()),
        ("crlf.csv", crlf.into_bytes()),
        ("unended.csv", CSV.trim_end().as_bytes().to_vec()),
        ("utf16le.csv", utf16(CSV, false)),
        ("utf16be.csv", utf16(CSV, true)),
        ("latin.csv", latin),
        ("a.csv.gz", gzip(CSV.as_bytes())),
        ("members.csv.gz", [gzip(head), gzip(tail)].concat()),
        ("a.csv.zst", zstd(CSV.as_bytes())),
        ("frames.csv.zst", [zstd(head), zstd(tail)].concat()),
        ("twice.csv.gz.zst", zstd(&gzip(CSV.as_bytes()))),
        (
            "tabs.tsv",
            CSV.replace(",\"\"\n", "\u{1}")
                .replace(',', "\t")
                .replace("naïve\t", "naïve,")
                .into_bytes(),
        ),
        ("semicolons.csv", CSV.replace(',', ";").replace("naïve;", "naïve,").into_bytes()),
    ];
    for (name, bytes) in cases {
        let result = imported(&store, name, &bytes);
        if name == "tabs.tsv" {
            assert_eq!(rows(&store, &result.manifest).len(), 4);
            continue;
        }
        assert_eq!(rows(&store, &result.manifest), csv_rows(), "{name}");
        assert_eq!(result.manifest.schema.columns[0].column_type, ColumnType::Int);
        assert_eq!(result.report.files[0].rows, 4);
        assert_eq!(
            result.report.notes.is_empty(),
            name != "latin.csv",
            "{:?}",
            result.report.notes
        );
    }
}

#[test]
fn jsonl_with_late_keys_nested_values_and_lists() {
    let store = FolderStore::new().unwrap();
    let jsonl = r#"{"text": "a \"b\" é", "label": "x", "votes": [1, -1]}
{"label": null, "text": "c", "late": 1.5, "split": "dev"}

{"text": "d", "label": 4, "votes": {"k": "v"}, "late": true}
"#;
    let result = imported(&store, "a.jsonl", jsonl.as_bytes());
    let expect = vec![
        row("a \"b\" é", &["x"], None, &["[1, -1]", "-"]),
        row("c", &[], Some("valid"), &["-", "1.5"]),
        row("d", &["4"], None, &["{\"k\": \"v\"}", "true"]),
    ];
    assert_eq!(rows(&store, &result.manifest), expect);

    let lists = "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"b\", \"label\": [\"y\", \"x\", \"y\"]}\n\
        {\"text\": \"c\", \"label\": []}\n{\"text\": \"d\", \"label\": [3, null]}\n";
    for batch_rows in [1, 2, 100] {
        let mut options = ImportOptions::default();
        options.limits.batch_rows = batch_rows;
        let result = import_bytes(&store, "l.jsonl", lists.as_bytes(), &options).unwrap();
        assert_eq!(result.manifest.labels.arity, LabelArity::Multi);
        let labels: Vec<_> =
            rows(&store, &result.manifest).into_iter().map(|row| row.labels).collect();
        assert_eq!(labels, [vec!["x"], vec!["y", "x"], vec![], vec!["3"]]);
    }
}

#[test]
fn a_json_array_is_refused_with_a_way_out() {
    use corral_types::Explain;
    let store = FolderStore::new().unwrap();
    let options = ImportOptions::default();
    let error = import_bytes(&store, "a.json", b"[{\"text\": \"a\"}]", &options).unwrap_err();
    assert!(error.to_string().contains("JSON array"), "{error}");
    assert!(error.hint().unwrap().contains("jq"));
}

#[test]
fn lines_are_texts() {
    let store = FolderStore::new().unwrap();
    let result =
        imported(&store, "notes.txt", "first line, with a comma\r\nsecond\n\nlast".as_bytes());
    assert_eq!(result.report.files[0].format, Format::Lines);
    let rows = rows(&store, &result.manifest);
    assert_eq!(texts(&rows), ["first line, with a comma", "second", "", "last"]);
    assert!(result.manifest.layers.iter().all(|layer| layer.name == "text_hash"));
}

#[test]
fn several_labels_by_separator_and_by_json() {
    let store = FolderStore::new().unwrap();
    let options = ImportOptions { label_separator: Some("|".into()), ..ImportOptions::default() };
    let csv = "text,label\na,x|y\nb,\nc,y | x|\n";
    let result = import_bytes(&store, "a.csv", csv.as_bytes(), &options).unwrap();
    let labels: Vec<_> = rows(&store, &result.manifest).into_iter().map(|row| row.labels).collect();
    assert_eq!(labels, [vec!["x", "y"], vec![], vec!["y", "x"]]);

    let csv = "text,labels\na,\"[\"\"x\"\", \"\"y, z\"\"]\"\nb,[not json\n";
    let result = imported(&store, "a.csv", csv.as_bytes());
    let labels: Vec<_> = rows(&store, &result.manifest).into_iter().map(|row| row.labels).collect();
    assert_eq!(labels, [vec!["x", "y, z"], vec!["[not json"]]);
}

#[test]
fn parquet_and_arrow_files_of_pyarrow() {
    let store = FolderStore::new().unwrap();
    let text = ["where is my card?", "naïve café, or not", "line one\nline two", "", "\"quoted\""];
    let label: [&[&str]; 5] = [&["arrival"], &["food"], &[], &["food"], &["arrival"]];
    let split = ["train", "train", "valid", "test", "test"];
    let vip = ["true", "false", "true", "false", "-"];
    let expect: Vec<_> = (0..5)
        .map(|i| {
            let (age, score) = (i.to_string(), format!("{i}.5"));
            row(text[i], label[i], Some(split[i]), &[&age, &score, vip[i], "2026-11-21"])
        })
        .collect();
    let names = [
        "plain-snappy.parquet",
        "plain-gzip.parquet",
        "plain-zstd.parquet",
        "plain-lz4.parquet",
        "plain-none.parquet",
        "plain-lz4.arrow",
        "plain-zstd.arrow",
        "plain-uncompressed.arrow",
        "plain.arrows",
    ];
    for name in names {
        let result = imported(&store, name, &golden(name));
        assert_eq!(rows(&store, &result.manifest), expect, "{name}");
        let types: Vec<_> = result.manifest.schema.columns.iter().map(|c| c.column_type).collect();
        assert_eq!(
            types,
            [ColumnType::Int, ColumnType::Float, ColumnType::Bool, ColumnType::String]
        );
    }

    let result = imported(&store, "lists.parquet", &golden("lists.parquet"));
    assert_eq!(result.manifest.labels.arity, LabelArity::Multi);
    let found = rows(&store, &result.manifest);
    let labels: Vec<_> = found.iter().map(|row| row.labels.clone()).collect();
    assert_eq!(labels, [vec!["a", "b"], vec![], vec![], vec!["b"], vec!["c", "a"]]);
    assert_eq!(found[0].values, ["[1, -1]"]);

    let result = imported(&store, "numbers.parquet", &golden("numbers.parquet"));
    assert_eq!(result.manifest.labels.names, ["1", "2"]);
}

#[test]
fn xlsx_of_openpyxl() {
    let store = FolderStore::new().unwrap();
    let bytes = golden("messages.xlsx");
    let result = imported(&store, "messages.xlsx", &bytes);
    let expect = vec![
        row(
            "where is my card?",
            &["arrival"],
            Some("train"),
            &["0", "0.5", "true", "2026-11-21T09:30:00"],
        ),
        row("naïve café, or not", &["food"], Some("train"), &["1", "1.5", "false", "2026-11-21"]),
        row("line one\nline two", &[], Some("valid"), &["2", "2.5", "true", "2026-11-21"]),
        row("", &["food"], Some("test"), &["3", "3.5", "false", "2026-11-21"]),
        row("\"quoted\"", &["arrival"], Some("test"), &["4", "4.5", "true", "2026-11-21"]),
        row("12.5", &["7"], Some("test"), &["9", "1.0", "false", "-"]),
    ];
    assert_eq!(rows(&store, &result.manifest), expect);

    let other = ImportOptions {
        sheet: Some("Other".into()),
        header: Header::Absent,
        ..ImportOptions::default()
    };
    let result = import_bytes(&store, "messages.xlsx", &bytes, &other).unwrap();
    assert_eq!(texts(&rows(&store, &result.manifest)), ["just text"]);
    let missing = ImportOptions { sheet: Some("Nope".into()), ..ImportOptions::default() };
    let error = import_bytes(&store, "messages.xlsx", &bytes, &missing).unwrap_err();
    assert_eq!(
        error.to_string(),
        "messages.xlsx has no sheet `Nope`; its sheets are Messages, Other"
    );
}

#[test]
fn everything_found_out_can_be_overridden() {
    let store = FolderStore::new().unwrap();
    let options = ImportOptions {
        format: Some(Format::Csv),
        compression: Some(Compression::None),
        encoding: Some("shift_jis".parse().unwrap()),
        delimiter: Some(b':'),
        quote: QuoteChoice::With(b'\''),
        header: Header::Absent,
        text: Some("column_2".into()),
        column_types: vec![("column_1".into(), ColumnType::String)],
        ..ImportOptions::default()
    };
    let (bytes, _, _) = encoding_rs::SHIFT_JIS.encode("007:'日本:語'\n008:カ\n");
    let result = import_bytes(&store, "a.bin", &bytes, &options).unwrap();
    let expect = vec![row("日本:語", &[], None, &["007"]), row("カ", &[], None, &["008"])];
    assert_eq!(rows(&store, &result.manifest), expect);
    assert_eq!(result.report.files[0].encoding.unwrap().as_str(), "Shift_JIS");
    assert!(
        "utf-16le".parse::<TextEncoding>().is_ok() && "klingon".parse::<TextEncoding>().is_err()
    );
}

#[test]
fn files_with_different_columns_become_one_version() {
    let store = FolderStore::new().unwrap();
    let named = |name: &str, bytes: &'static str, split: &str| Source {
        split: Some(split.to_owned()),
        ..source(name, bytes.as_bytes())
    };
    let sources = vec![
        named("train.csv", "text,label,age,split\na,x,1,ignored\nb,y,2,ignored\n", "train"),
        named("test.jsonl", "{\"text\": \"c\", \"label\": \"x\", \"extra\": \"e\"}\n", "Test"),
        named("dev.csv", "label,text,age\ny,d,old\n", "dev"),
    ];
    let mut options = ImportOptions::default();
    options.limits.batch_rows = 2;
    let result = import(sources, &options, &store, None, &NoProgress).unwrap();
    let expect = vec![
        row("a", &["x"], Some("train"), &["1", "-"]),
        row("b", &["y"], Some("train"), &["2", "-"]),
        row("c", &["x"], Some("test"), &["-", "e"]),
        row("d", &["y"], Some("valid"), &["old", "-"]),
    ];
    assert_eq!(rows(&store, &result.manifest), expect);
    // The first part was written with `age` as an int and converted afterwards.
    assert_eq!(result.manifest.schema.columns[0].column_type, ColumnType::String);
    assert_eq!(result.report.notes.len(), 2, "{:?}", result.report.notes);
}

#[test]
fn columns_with_reserved_or_repeated_names_are_renamed() {
    let store = FolderStore::new().unwrap();
    let options = ImportOptions { text: Some("body".into()), ..ImportOptions::default() };
    let csv = "body,text,a,a,,row_id\nB,T,1,2,3,4\n";
    let result = import_bytes(&store, "a.csv", csv.as_bytes(), &options).unwrap();
    let names: Vec<_> = result.manifest.schema.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["text_2", "a", "a_2", "column_5"]);
    assert_eq!(rows(&store, &result.manifest)[0].values, ["T", "1", "2", "3"]);
}

#[test]
fn the_same_rows_make_the_same_version_however_they_arrive() {
    let store = FolderStore::new().unwrap();
    let csv: String = (0..5000).fold("text,label,n\n".to_owned(), |csv, i| {
        csv + &format!("\"message, number {i}\",class {},{i}\n", i % 7)
    });
    let whole = imported(&store, "a.csv", csv.as_bytes()).manifest.id();
    for longest in [1, 10, 5000] {
        let reader = super::Pieces { bytes: csv.as_bytes(), random: super::Random(3), longest };
        let source = Source { file_name: "a.csv".into(), reader: Box::new(reader), split: None };
        let result =
            import(vec![source], &ImportOptions::default(), &store, None, &NoProgress).unwrap();
        assert_eq!(result.manifest.id(), whole, "{longest}");
    }
}
