//! Row weights and shares of labels: read from every format, kept, and given back.

use std::sync::Arc;

use arrow_array::builder::{Float64Builder, MapBuilder, StringBuilder};
use arrow_array::{ArrayRef, Float32Array, Float64Array, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field};
use corral_types::Explain;
use parquet::arrow::ArrowWriter;

use super::{PlainRow, Random, import_bytes, imported, quick_store, rows, small_limits, source};
use crate::{
    ColumnChoice, Dataset, ExportFormat, ExportOptions, FolderStore, ImportError, ImportOptions,
    LabelArity, LayerKind, Limits, Manifest, ManifestError, NewLabels, NoProgress, OnError, export,
    import, relabel,
};

fn named(weight: &str, shares: &str) -> ImportOptions {
    let choice = |name: &str| match name {
        "" => ColumnChoice::Detect,
        name => ColumnChoice::Named(name.to_owned()),
    };
    ImportOptions { weight: choice(weight), shares: choice(shares), ..ImportOptions::default() }
}

/// Labels, shares and weight of a row.
type Said = (Vec<(String, Option<f32>)>, Option<f32>);

fn said(rows: &[PlainRow]) -> Vec<Said> {
    let shares = |row: &PlainRow| {
        let share = |at: usize| row.shares.as_ref().map(|shares| shares[at]);
        row.labels.iter().enumerate().map(|(at, name)| (name.clone(), share(at))).collect()
    };
    rows.iter().map(|row| (shares(row), row.weight)).collect()
}

/// The same as it is written in a test.
type Written<'a> = (&'a [(&'a str, f32)], Option<f32>);

fn expect(rows: &[Written<'_>]) -> Vec<Said> {
    let row = |(labels, weight): &Written<'_>| {
        (labels.iter().map(|(name, share)| ((*name).to_owned(), Some(*share))).collect(), *weight)
    };
    rows.iter().map(row).collect()
}

fn read(name: &str, text: &str, options: &ImportOptions) -> Vec<Said> {
    let store = FolderStore::new().unwrap();
    let manifest = import_bytes(&store, name, text.as_bytes(), options).unwrap().manifest;
    assert_eq!(manifest.labels.arity, LabelArity::Multi);
    said(&rows(&store, &manifest))
}

#[test]
fn every_way_to_write_shares_means_the_same() {
    let expected = expect(&[(&[("a", 0.75), ("b", 0.25)], Some(2.0)), (&[("b", 3.0)], None)]);
    let objects = "{\"text\": \"x\", \"label\": {\"a\": 0.75, \"b\": 0.25}, \"w\": 2}\n\
        {\"text\": \"y\", \"label\": {\"a\": 0, \"b\": 3, \"c\": null}, \"w\": null}\n";
    assert_eq!(read("a.jsonl", objects, &named("w", "")), expected);
    let lists = "{\"text\": \"x\", \"label\": [\"a\", \"b\"], \"p\": [0.75, 0.25], \"w\": 2.0}\n\
        {\"p\": [0, 1, null, 2], \"text\": \"y\", \"label\": [\"a\", \"b\", null, \"b\"]}\n";
    assert_eq!(read("a.jsonl", lists, &named("w", "p")), expected);
    let csv = "text,label,w\nx,\"{\"\"a\"\": 0.75, \"\"b\"\": 0.25}\",2\ny,\"{\"\"b\"\":3}\",\n";
    assert_eq!(read("a.csv", csv, &named("w", "")), expected);
    let csv = "p,text,label,w\n\"[0.75,0.25]\",x,\"[\"\"a\"\",\"\"b\"\"]\",2\n3,y,b,\n";
    assert_eq!(read("a.csv", csv, &named("w", "p")), expected);
    let csv = "text,label,p,w\nx,a|b,0.75|0.25,2\ny,a|b,|3,\n";
    let options = ImportOptions { label_separator: Some("|".into()), ..named("w", "p") };
    assert_eq!(read("a.csv", csv, &options), expected);
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn parquet_structs_and_maps_are_shares() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x", "y", "z"]));
    let weight: ArrayRef = Arc::new(Float32Array::from(vec![Some(2.0), None, Some(0.0)]));
    let field = |name: &str| Arc::new(Field::new(name, DataType::Float64, true));
    let column =
        |values: [Option<f64>; 3]| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
    let fields: ArrayRef = Arc::new(StructArray::from(vec![
        (field("a"), column([Some(0.75), None, Some(1.0)])),
        (field("b"), column([Some(0.25), Some(3.0), Some(0.0)])),
    ]));
    let mut map = MapBuilder::new(None, StringBuilder::new(), Float64Builder::new());
    for row in [&[("a", 0.75), ("b", 0.25)][..], &[("b", 3.0)], &[("a", 1.0)]] {
        for (name, share) in row {
            map.keys().append_value(name);
            map.values().append_value(*share);
        }
        map.append(true).unwrap();
    }
    let expected = expect(&[
        (&[("a", 0.75), ("b", 0.25)], Some(2.0)),
        (&[("b", 3.0)], None),
        (&[("a", 1.0)], Some(0.0)),
    ]);
    let store = FolderStore::new().unwrap();
    for label in [fields, Arc::new(map.finish())] {
        let bytes = parquet(vec![
            ("text", Arc::clone(&text)),
            ("label", label),
            ("row_weight", Arc::clone(&weight)),
        ]);
        let result = imported(&store, "a.parquet", &bytes);
        assert_eq!(said(&rows(&store, &result.manifest)), expected);
        let note = "a.parquet: column `row_weight` was taken for what its rows count";
        assert_eq!(result.report.notes, [note]);
    }
}

#[test]
fn wrong_weights_and_shares_name_their_row_and_column() {
    let check = |text: &str, column: &str, reason: &str| {
        let store = FolderStore::new().unwrap();
        let text = format!("{{\"text\": \"good\", \"label\": [\"a\"]}}\n{text}\n");
        let options = named("w", "p");
        let bytes = text.as_bytes();
        let error = import_bytes(&store, "a.jsonl", bytes, &options).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("1 bad row\n  a.jsonl, line 2, column `{column}`: {reason}")
        );
        assert!(error.hint().is_some());
        let options = ImportOptions { on_error: OnError::Skip, ..options };
        let manifest = import_bytes(&store, "a.jsonl", bytes, &options).unwrap().manifest;
        assert_eq!(rows(&store, &manifest).len(), 1, "{text}");
        assert_eq!(manifest.labels.names, ["a"]);
    };
    // The columns are there from the first rows on, or appear late: both are found.
    let weight = |value: &str| format!("{{\"text\": \"x\", \"w\": {value}, \"p\": null}}");
    let not_weight = |value| format!("the weight `{value}` is not a finite number from 0 on");
    check(&weight("-1"), "w", &not_weight("-1"));
    check(&weight("1e39"), "w", &not_weight("1e39"));
    check(&weight("\"2\""), "w", &not_weight("2"));
    check(&weight("true"), "w", &not_weight("true"));
    let row = |label: &str, shares: &str| {
        format!("{{\"text\": \"x\", \"label\": {label}, \"p\": {shares}, \"w\": 1}}")
    };
    check(&row("[\"a\", \"b\"]", "[1]"), "p", "1 shares for 2 labels");
    check(&row("null", "[1]"), "p", "1 shares for 0 labels");
    check(&row("[\"a\", \"b\"]", "[0, 0]"), "p", "the shares of the labels are all zero");
    check(&row("[\"a\"]", "[-0.5]"), "p", "the share `-0.5` is not a finite number from 0 on");
    check(&row("[\"a\"]", "[\"x\"]"), "p", "`[\"x\"]` is not a list of shares");
    check(&row("[\"a\"]", "{\"a\": 1}"), "p", "`{…}` is not a list of shares");
    check(
        &row("{\"b\": -1}", "null"),
        "label",
        "the share `-1.0` is not a finite number from 0 on",
    );
    check(
        &row("{\"b\": \"much\"}", "null"),
        "label",
        "the label is an object whose values are not numbers, not a name, a list of names or an \
         object of shares",
    );
    let twice = "the label itself has shares, and so has the column of shares";
    check(&row("{\"b\": 1}", "[1]"), "p", twice);
}

#[test]
fn a_csv_says_line_and_column() {
    let store = FolderStore::new().unwrap();
    let csv = "text,label,w\nx,a,1\ny,b,inf\nz,b,nan\nu,b,heavy\n";
    let error = import_bytes(&store, "a.csv", csv.as_bytes(), &named("w", "")).unwrap_err();
    let line = |line: u32, value: &str| {
        format!(
            "\n  a.csv, line {line}, column `w`: the weight `{value}` is not a finite number from 0 on"
        )
    };
    let expected = ["3 bad rows", &line(3, "inf"), &line(4, "nan"), &line(5, "heavy")].concat();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn columns_get_their_role_once() {
    let store = FolderStore::new().unwrap();
    let csv = "text,label,weight\nx,a,3\n";
    let manifest = imported(&store, "a.csv", csv.as_bytes()).manifest;
    assert_eq!(manifest.schema.columns[0].name, "weight", "may be the weight of parcels");
    assert_eq!((manifest.format_version, manifest.schema.weight_column), (1, None));
    let error = import_bytes(&store, "a.csv", csv.as_bytes(), &named("label", "")).unwrap_err();
    assert!(matches!(error, ImportError::ColumnWithTwoRoles { .. }), "{error}");
    let error = import_bytes(&store, "a.csv", csv.as_bytes(), &named("wight", "")).unwrap_err();
    assert_eq!(error.hint().unwrap(), "there is a column `weight`");
    let off = ImportOptions { weight: ColumnChoice::Absent, ..ImportOptions::default() };
    let csv = "text,label,row_weight\nx,a,3\n";
    let manifest = import_bytes(&store, "a.csv", csv.as_bytes(), &off).unwrap().manifest;
    assert_eq!(manifest.schema.columns[0].name, "row_weight_2");
}

/// Random rows as JSONL: plain labels, lists, shares and weights in any mix.
fn jsonl(seed: u64) -> String {
    let mut random = Random(seed);
    let share = |random: &mut Random| *random.pick(&["0.1", "0.7", "1", "1e-7", "33.3"]);
    (0..1 + random.below(30)).fold(String::new(), |text, row| {
        let label = match random.below(4) {
            0 => "null".to_owned(),
            1 => "\"a\"".to_owned(),
            2 => "[\"b\", \"a\"]".to_owned(),
            _ => {
                let (a, b) = (share(&mut random), share(&mut random));
                format!("{{\"c, d\": {a}, \"b\": {b}}}")
            }
        };
        let weight = random.pick(&["null", "0", "0.3", "2.5e-9", "7"]);
        text + &format!("{{\"text\": \"t{row}\", \"label\": {label}, \"row_weight\": {weight}}}\n")
    }) + "{\"text\": \"u\", \"label\": {\"a\": 0.5}, \"row_weight\": 0.5}\n"
}

fn exported(store: &FolderStore, manifest: &Manifest, format: ExportFormat) -> Vec<u8> {
    let dataset = Dataset::open(manifest.clone(), store).unwrap();
    let mut bytes = Vec::new();
    export(&dataset, format, &ExportOptions::default(), &mut bytes).unwrap();
    bytes
}

#[test]
fn every_format_gives_them_back() {
    for seed in 0..24 {
        let store = quick_store();
        let options = ImportOptions { limits: small_limits(), ..ImportOptions::default() };
        let source = jsonl(seed);
        let original =
            import_bytes(&store, "a.jsonl", source.as_bytes(), &options).unwrap().manifest;
        assert_eq!(original.format_version, 2);
        let expected = rows(&store, &original);
        for format in ExportFormat::ALL {
            let bytes = exported(&store, &original, format);
            let again = import_bytes(&store, "again", &bytes, &options)
                .unwrap_or_else(|error| panic!("seed {seed} {format}: {error}\n{source}"));
            assert_eq!(rows(&store, &again.manifest), expected, "seed {seed} {format}\n{source}");
            assert_eq!(exported(&store, &again.manifest, format), bytes, "seed {seed} {format}");
        }
    }
}

#[test]
fn appends_and_new_labels_keep_what_they_do_not_replace() {
    let store = FolderStore::new().unwrap();
    let options = ImportOptions { limits: small_limits(), ..ImportOptions::default() };
    let plain = "text,label\na,x\nb,y\nc,\nd,x\n";
    let first = import_bytes(&store, "a.csv", plain.as_bytes(), &options).unwrap().manifest;
    assert_eq!((first.format_version, first.labels.arity), (1, LabelArity::Single));
    let more = "{\"text\": \"e\", \"label\": {\"x\": 0.6, \"z\": 0.4}, \"w\": 2}\n";
    let options = ImportOptions { limits: small_limits(), ..named("w", "") };
    let sources = vec![source("b.jsonl", more.as_bytes())];
    let second = import(sources, &options, &store, Some(&first), &NoProgress).unwrap().manifest;
    assert_eq!(second.schema.weight_column.as_deref(), Some("w"));
    assert_eq!(second.parts[..first.parts.len()], first.parts);
    let found = rows(&store, &second);
    assert_eq!(found[0].shares, None);
    assert_eq!((found[4].shares.clone(), found[4].weight), (Some(vec![0.6, 0.4]), Some(2.0)));

    let dataset = Dataset::open(second.clone(), &store).unwrap();
    let shares = |x: f32, y: f32| NewLabels::Shares(vec![("x".into(), x), ("y".into(), y)]);
    let assign = &mut |_: &crate::Batch, row: usize| match row {
        0 => shares(0.25, 0.75),
        1 => shares(0.0, 1.0),
        2 => NewLabels::Unlabelled,
        _ => NewLabels::Keep,
    };
    let limits = Limits::default();
    let third = relabel(&dataset, &store, &limits, LabelArity::Multi, assign).unwrap();
    let found = rows(&store, &third);
    assert_eq!(found[0].shares, Some(vec![0.25, 0.75]));
    assert_eq!(
        (found[1].labels.as_slice(), found[1].shares.clone()),
        (&["y".to_owned()][..], Some(vec![1.0]))
    );
    // The appended row is the first of its part.
    assert_eq!((found[4].shares.clone(), found[4].weight), (Some(vec![0.25, 0.75]), Some(2.0)));
    let wrong = &mut |_: &crate::Batch, _: usize| shares(0.0, 0.0);
    let error = relabel(&dataset, &store, &limits, LabelArity::Multi, wrong).unwrap_err();
    assert!(error.to_string().starts_with("row 0 was given the share 0"), "{error}");

    let one = &mut |_: &crate::Batch, _: usize| NewLabels::One("x".into());
    let plain = relabel(&dataset, &store, &limits, LabelArity::Single, one).unwrap();
    assert!(plain.layer(LayerKind::Shares).is_none());
    assert_eq!(rows(&store, &plain)[4].weight, Some(2.0));
}

/// A fixed import of the second format, byte for byte; the first is held by `versions`.
#[test]
fn version_ids_with_weights_are_stable() {
    let store = FolderStore::new().unwrap();
    let jsonl = "{\"text\": \"Where is it?\", \"label\": {\"a\": 0.7, \"b\": 0.3}, \"w\": 2}\n\
        {\"text\": \"And this?\", \"label\": \"b\", \"w\": 0}\n";
    let options = named("w", "");
    let manifest = import_bytes(&store, "a.jsonl", jsonl.as_bytes(), &options).unwrap().manifest;
    let stored = super::golden("manifest-v2.json");
    assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), String::from_utf8_lossy(&stored));
    assert_eq!(Manifest::parse(&stored).unwrap().to_bytes(), stored);
    let older = String::from_utf8(stored).unwrap().replace("_version\":2", "_version\":1");
    let error = Manifest::parse(older.as_bytes()).unwrap_err();
    assert!(matches!(error, ManifestError::Inconsistent { .. }), "{error}");
}
