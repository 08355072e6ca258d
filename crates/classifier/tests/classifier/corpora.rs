//! Features of whole data sets against scikit-learn's, by `tests/golden/corpora.py`.

use std::path::PathBuf;

use corral_classifier::{LexicalConfig, Lexicon, SparseRows};

/// What scikit-learn makes of a data set.
struct Corpus {
    set: &'static str,
    min_documents: u32,
    features: usize,
    /// Entries of the rows of train and of test, and the sums of their values.
    entries: [usize; 2],
    sums: [f64; 2],
}

const CORPORA: [Corpus; 6] = [
    Corpus {
        set: "banking77",
        min_documents: 1,
        features: 43_221,
        entries: [1_250_243, 349_382],
        sums: [133_793.079_706, 39_237.797_515],
    },
    Corpus {
        set: "banking77",
        min_documents: 2,
        features: 23_790,
        entries: [1_230_812, 346_379],
        sums: [132_499.876_670, 39_053.252_566],
    },
    Corpus {
        set: "clinc150",
        min_documents: 1,
        features: 63_483,
        entries: [1_289_378, 369_617],
        sums: [169_994.630_110, 49_385.956_143],
    },
    Corpus {
        set: "clinc150",
        min_documents: 2,
        features: 32_381,
        entries: [1_258_276, 364_703],
        sums: [167_126.484_429, 49_010.851_319],
    },
    Corpus {
        set: "trec",
        min_documents: 1,
        features: 80_411,
        entries: [587_593, 35_498],
        sums: [67_156.818_674, 4_787.602_634],
    },
    Corpus {
        set: "trec",
        min_documents: 2,
        features: 33_917,
        entries: [541_099, 34_122],
        sums: [62_838.354_083, 4_674.610_200],
    },
];

fn folder() -> PathBuf {
    std::env::var_os("CORRAL_TEST_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    )
}

fn texts(set: &str, part: &str) -> Option<Vec<String>> {
    let file = std::fs::read_to_string(folder().join(set).join(part)).ok()?;
    let text = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        row["text"].as_str().unwrap().to_owned()
    };
    Some(file.lines().map(text).collect())
}

fn sum(rows: &SparseRows) -> f64 {
    rows.values().iter().map(|&value| f64::from(value)).sum()
}

#[test]
fn whole_data_sets_give_the_features_of_scikit_learn() {
    for Corpus { set, min_documents, features, entries, sums } in CORPORA {
        let (Some(train), Some(test)) = (texts(set, "train.jsonl"), texts(set, "test.jsonl"))
        else {
            println!("skipped: {set} is not in {}", folder().display());
            continue;
        };
        let mut config = LexicalConfig::words_and_characters();
        config.blocks.iter_mut().for_each(|block| block.min_documents = min_documents);
        let lexicon = Lexicon::fit(&train, &config).unwrap();
        assert_eq!(lexicon.columns(), features, "{set} {min_documents}");
        for ((texts, entries), wanted) in [train, test].iter().zip(entries).zip(sums) {
            let rows = lexicon.transform_all(texts);
            assert_eq!(rows.entries(), entries, "{set} {min_documents}");
            let found = sum(&rows);
            assert!((found - wanted).abs() < 1e-6 * wanted, "{set} {min_documents}: {found}");
        }
    }
}
