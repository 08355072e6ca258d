//! New versions share parts, keep row ids and label codes, and are counted right.

use corral_types::Explain;

use super::{Random, import_bytes, quick_store, rows, small_limits, source, texts};
use crate::{
    Dataset, DrawFrom, DrawSplits, FolderStore, Fraction, ImportError, ImportOptions, LabelArity,
    Limits, Manifest, ManifestError, NewLabels, NoProgress, OnError, Resplit, ReviseError, import,
    relabel, resplit,
};

fn small() -> ImportOptions {
    ImportOptions { limits: small_limits(), ..ImportOptions::default() }
}

fn append(
    store: &FolderStore,
    base: &Manifest,
    name: &str,
    bytes: &[u8],
    options: &ImportOptions,
) -> Result<Manifest, ImportError> {
    import(vec![source(name, bytes)], options, store, Some(base), &NoProgress).map(|i| i.manifest)
}

fn many(rows: usize) -> String {
    (0..rows).fold("text,label,n\n".to_owned(), |csv, i| {
        csv + &format!("message number {},c{},{i}\n", i % 40, i % 5)
    })
}

#[test]
fn appends_share_parts_and_count_on() {
    let store = FolderStore::new().unwrap();
    let first = import_bytes(&store, "a.csv", many(50).as_bytes(), &small()).unwrap().manifest;
    assert!(first.parts.len() > 3, "{}", first.parts.len());
    let second = "label,text\nnew,message number 3\nc0,\n,fresh\n";
    let manifest = append(&store, &first, "b.csv", second.as_bytes(), &small()).unwrap();
    assert_eq!(manifest.parts[..first.parts.len()], first.parts);
    assert_eq!(manifest.labels.names[..5], first.labels.names);
    assert_eq!((first.next_row_id, manifest.next_row_id), (50, 53));
    let found = rows(&store, &manifest);
    assert_eq!(texts(&found)[50..], ["message number 3", "", "fresh"]);
    assert_eq!(found[50].labels, ["new"]);
    assert_eq!(found[50].values, ["-"]);
    let dataset = Dataset::open(manifest.clone(), &store).unwrap();
    let ids: Vec<u64> = dataset.head(100).unwrap().iter().map(crate::Row::id).collect();
    assert_eq!(ids, (0..53).collect::<Vec<u64>>());
    // The old version is as it was.
    assert_eq!(rows(&store, &first).len(), 50);

    // Appending in two steps or importing at once differ in nothing but where parts end.
    let both = many(50) + "message number 3,new,\n,c0,\nfresh,,\n";
    let at_once = import_bytes(&store, "c.csv", both.as_bytes(), &small()).unwrap().manifest;
    assert_eq!(at_once.statistics, manifest.statistics);
}

#[test]
fn appends_that_do_not_fit_are_refused() {
    let store = FolderStore::new().unwrap();
    let first = import_bytes(&store, "a.csv", many(9).as_bytes(), &small()).unwrap().manifest;
    let error =
        append(&store, &first, "b.csv", b"text,label,colour\na,b,c\n", &small()).unwrap_err();
    assert!(matches!(error, ImportError::ColumnNotInBase { .. }));
    assert!(error.to_string().contains("`colour`"), "{error}");
    assert!(error.hint().is_some());
    let error = append(&store, &first, "b.csv", b"text,n\na,many\n", &small()).unwrap_err();
    assert!(error.to_string().contains("`many` is not of type int"), "{error}");
    let kept = ImportOptions { on_error: OnError::Skip, ..small() };
    let manifest = append(&store, &first, "b.csv", b"text,n\na,many\nb,5\n", &kept).unwrap();
    assert_eq!(rows(&store, &manifest).len(), 10);
}

#[test]
fn appending_lists_turns_old_labels_into_lists() {
    let store = FolderStore::new().unwrap();
    let first = import_bytes(&store, "a.csv", many(20).as_bytes(), &small()).unwrap().manifest;
    let jsonl = b"{\"text\": \"x\", \"label\": [\"c1\", \"c9\"]}\n";
    let manifest = append(&store, &first, "b.jsonl", jsonl, &small()).unwrap();
    assert_eq!(manifest.labels.arity, LabelArity::Multi);
    let found = rows(&store, &manifest);
    assert_eq!(found[7].labels, ["c2"]);
    assert_eq!(found[20].labels, ["c1", "c9"]);
    assert_eq!(manifest.parts[..first.parts.len()], first.parts);
}

#[test]
fn unlabelled_data_can_be_labelled_by_an_append() {
    let store = FolderStore::new().unwrap();
    let first = import_bytes(&store, "a.txt", b"a\nb\nc\nd\n", &small()).unwrap().manifest;
    assert_eq!(first.layers.len(), 1);
    let manifest =
        append(&store, &first, "b.csv", b"text,label,split\ne,x,test\n", &small()).unwrap();
    let found = rows(&store, &manifest);
    assert_eq!((found[0].labels.len(), found[4].labels.len()), (0, 1));
    assert_eq!((&found[0].split, found[4].split.as_deref()), (&None, Some("test")));
}

#[test]
fn relabelling_shares_parts_and_keeps_codes() {
    let store = FolderStore::new().unwrap();
    let first = import_bytes(&store, "a.csv", many(30).as_bytes(), &small()).unwrap().manifest;
    let dataset = Dataset::open(first.clone(), &store).unwrap();
    let relabelled =
        relabel(&dataset, &store, &Limits::default(), LabelArity::Single, &mut |batch, row| {
            match batch.row_id(row) {
                0 => NewLabels::One("new".into()),
                1 => NewLabels::Unlabelled,
                _ => NewLabels::Keep,
            }
        })
        .unwrap();
    assert_eq!(relabelled.parts, first.parts);
    assert_eq!(relabelled.labels.names, ["c0", "c1", "c2", "c3", "c4", "new"]);
    let found = rows(&store, &relabelled);
    assert_eq!((found[0].labels.as_slice(), found[1].labels.len()), (&["new".to_owned()][..], 0));
    assert_eq!(found[2].labels, ["c2"]);
    // Untouched parts share the layer's files too.
    let layer =
        |manifest: &Manifest| manifest.layer(crate::LayerKind::Label).unwrap().files.clone();
    assert_ne!(layer(&relabelled)[0], layer(&first)[0]);
    assert_eq!(layer(&relabelled)[1..], layer(&first)[1..]);

    let several = |_: &crate::Batch, _: usize| NewLabels::Several(vec!["a".into(), "b".into()]);
    let error = relabel(&dataset, &store, &Limits::default(), LabelArity::Single, &mut { several })
        .unwrap_err();
    assert!(matches!(error, ReviseError::SeveralLabels { row_id: 0, labels: 2 }));
    let lists =
        relabel(&dataset, &store, &Limits::default(), LabelArity::Multi, &mut { several }).unwrap();
    assert_eq!(rows(&store, &lists)[29].labels, ["a", "b"]);
    let none = relabel(&dataset, &store, &Limits::default(), LabelArity::Single, &mut |_, _| {
        NewLabels::Unlabelled
    })
    .unwrap();
    assert!(none.layer(crate::LayerKind::Label).is_none());
    rows(&store, &none);
}

#[test]
fn drawn_splits_depend_on_seed_and_texts_alone() {
    let store = FolderStore::new().unwrap();
    let csv: String = (0..400).fold("text,label\n".to_owned(), |csv, i| {
        csv + &format!("message {},c{}\n", i * 7 % 300, i % 4)
    });
    let share = Fraction::from_f64(0.25).unwrap();
    let drawn = |seed: u64, limits: Limits| {
        let draw = Some(DrawSplits::one("test", share, seed));
        let options = ImportOptions { limits, draw, ..ImportOptions::default() };
        let manifest = import_bytes(&store, "a.csv", csv.as_bytes(), &options).unwrap().manifest;
        assert_eq!(manifest.splits, ["test", "train"]);
        rows(&store, &manifest)
    };
    let found = drawn(1, Limits::default());
    assert_eq!(found, drawn(1, small_limits()));
    assert_ne!(found, drawn(2, Limits::default()));
    let in_test = |row: &&super::PlainRow| row.split.as_deref() == Some("test");
    let test = found.iter().filter(in_test).count();
    assert!((97..=103).contains(&test), "{test}");
    for (at, row) in found.iter().enumerate() {
        let twin = found.iter().find(|other| other.text == row.text).unwrap();
        assert_eq!(twin.split, row.split, "row {at}");
    }
}

#[test]
fn resplitting_redraws_or_assigns() {
    let store = FolderStore::new().unwrap();
    let csv = "text,label,split\n".to_owned()
        + &(0..60)
            .map(|i| format!("m{i},c{},{}\n", i % 3, if i < 20 { "test" } else { "" }))
            .collect::<String>();
    let first = import_bytes(&store, "a.csv", csv.as_bytes(), &small()).unwrap().manifest;
    let dataset = Dataset::open(first.clone(), &store).unwrap();
    let share = Fraction::from_f64(0.2).unwrap();
    let mut draw = DrawSplits::one("dev", share, 3);
    let limits = small_limits();
    let manifest = resplit(&dataset, &store, &limits, Resplit::Draw(&draw)).unwrap();
    assert_eq!(manifest.parts, first.parts);
    let count = |manifest: &Manifest, split: &str| {
        rows(&store, manifest).iter().filter(|row| row.split.as_deref() == Some(split)).count()
    };
    assert_eq!(
        (count(&manifest, "test"), count(&manifest, "valid"), count(&manifest, "train")),
        (20, 8, 32)
    );
    assert_eq!(manifest.split_code("validation"), manifest.split_code("valid"));

    draw.from = DrawFrom::AllRows;
    let manifest = resplit(&dataset, &store, &limits, Resplit::Draw(&draw)).unwrap();
    assert_eq!(
        (manifest.splits.as_slice(), count(&manifest, "valid")),
        (&["valid".to_owned(), "train".to_owned()][..], 12)
    );
    draw.from = DrawFrom::Split("testing".into());
    draw.rest = "test".into();
    let manifest = resplit(&dataset, &store, &limits, Resplit::Draw(&draw)).unwrap();
    assert_eq!((count(&manifest, "valid"), count(&manifest, "test")), (4, 16));
    draw.from = DrawFrom::Split("nope".into());
    assert!(resplit(&dataset, &store, &limits, Resplit::Draw(&draw)).is_err());

    let mut assign =
        |batch: &crate::Batch, row: usize| (batch.row_id(row) < 3).then(|| "Fold 1".to_owned());
    let manifest = resplit(&dataset, &store, &limits, Resplit::Assign(&mut assign)).unwrap();
    assert_eq!(
        (manifest.splits.as_slice(), count(&manifest, "Fold 1")),
        (&["Fold 1".to_owned()][..], 3)
    );
    let manifest = resplit(&dataset, &store, &limits, Resplit::Assign(&mut |_, _| None)).unwrap();
    assert!(manifest.layer(crate::LayerKind::Split).is_none());
    rows(&store, &manifest);
}

fn split_of(id: u64, dice: u64) -> Option<String> {
    let fold = id % dice;
    (fold > 0).then(|| format!("s{fold}"))
}

/// Imports, appends, relabels and resplits at random, against plain vectors of rows.
#[test]
fn random_histories_match_a_simple_model() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let store = quick_store();
        let mut model: Vec<super::PlainRow> = Vec::new();
        let mut version: Option<Manifest> = None;
        for _ in 0..6 {
            let dataset = version.clone().map(|manifest| Dataset::open(manifest, &store).unwrap());
            version = Some(match (dataset, random.below(4)) {
                (Some(dataset), 0) => {
                    let dice = random.next();
                    let choose = |id: u64| (id ^ dice) % 3;
                    for (id, row) in model.iter_mut().enumerate() {
                        match choose(id as u64) {
                            0 => row.labels.clear(),
                            1 => row.labels = vec![format!("r{}", id % 4)],
                            _ => {}
                        }
                    }
                    let assign = &mut |batch: &crate::Batch, row: usize| {
                        let id = batch.row_id(row);
                        match choose(id) {
                            0 => NewLabels::Unlabelled,
                            1 => NewLabels::One(format!("r{}", id % 4)),
                            _ => NewLabels::Keep,
                        }
                    };
                    relabel(&dataset, &store, &small_limits(), LabelArity::Single, assign).unwrap()
                }
                (Some(dataset), 1) => {
                    let dice = 2 + random.below(3);
                    for (id, row) in model.iter_mut().enumerate() {
                        row.split = split_of(id as u64, dice);
                    }
                    let mut assign = |batch: &crate::Batch, row: usize| {
                        let id = batch.row_id(row);
                        split_of(id, dice)
                    };
                    resplit(&dataset, &store, &small_limits(), Resplit::Assign(&mut assign))
                        .unwrap()
                }
                (base, _) => {
                    let mut csv = "text,label,split,n\n".to_owned();
                    for _ in 0..1 + random.below(20) {
                        let text = format!("t {}", random.below(15));
                        let label = random.pick(&["", "a", "b", "c"]).to_string();
                        let split = random.pick(&["", "train", "test"]).to_string();
                        let n = random.below(100).to_string();
                        csv += &format!("{text},{label},{split},{n}\n");
                        let filled = |text: String| (!text.is_empty()).then_some(text);
                        let (labels, split) = (filled(label).into_iter().collect(), filled(split));
                        let (shares, weight) = (None, None);
                        let values = vec![n];
                        model.push(super::PlainRow { text, labels, shares, weight, split, values });
                    }
                    let base = base.map(|dataset| dataset.manifest().clone());
                    let sources = vec![source("a.csv", csv.as_bytes())];
                    import(sources, &small(), &store, base.as_ref(), &NoProgress).unwrap().manifest
                }
            });
            assert_eq!(rows(&store, version.as_ref().unwrap()), model, "seed {seed}");
        }
    }
}

#[test]
fn manifests_of_other_formats_or_without_sense_are_refused() {
    let store = FolderStore::new().unwrap();
    let manifest = import_bytes(&store, "a.csv", many(30).as_bytes(), &small()).unwrap().manifest;
    let text = String::from_utf8(manifest.to_bytes()).unwrap();
    let newer = text.replace("\"format_version\":1", "\"format_version\":3");
    assert!(matches!(Manifest::parse(newer.as_bytes()), Err(ManifestError::Format { found: 3 })));
    assert!(matches!(Manifest::parse(b"{}"), Err(ManifestError::Parse(_))));
    let mut overlapping = manifest.clone();
    overlapping.parts[1].first_row_id = 0;
    let mut short = manifest.clone();
    short.layers[0].files.pop();
    let mut reused = manifest.clone();
    reused.next_row_id = 1;
    for wrong in [overlapping, short, reused] {
        let error = Manifest::parse(&wrong.to_bytes()).unwrap_err();
        assert!(matches!(error, ManifestError::Inconsistent { .. }), "{error}");
    }
}

/// The manifest of a fixed import, byte for byte: version ids must never change by accident.
#[test]
fn version_ids_are_stable() {
    let store = FolderStore::new().unwrap();
    let csv = "text,label,split,n\nWhere is it?,a,train,1\nwhere  IS it?,b,test,2\n";
    let manifest =
        import_bytes(&store, "a.csv", csv.as_bytes(), &ImportOptions::default()).unwrap().manifest;
    assert_eq!(manifest.statistics.duplicate_rows, 1);
    let stored = super::golden("manifest-v1.json");
    assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), String::from_utf8_lossy(&stored));
    assert_eq!(Manifest::parse(&stored).unwrap().to_bytes(), stored);
}
