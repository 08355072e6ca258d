//! Vocabularies, weights and rows against scikit-learn's, written by `tests/golden/lexical.py`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::config::LexicalConfig;
use super::grams::hash_of_written;
use super::lexicon::{LexicalScratch, Lexicon};
use super::table;

#[derive(Deserialize)]
struct Golden {
    unseen: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: LexicalConfig,
    texts: Vec<String>,
    /// For each block, n-gram to weight.
    vocabularies: Vec<BTreeMap<String, f64>>,
    /// For each text and each unseen one, for each block, n-gram to value.
    rows: Vec<Vec<BTreeMap<String, f64>>>,
}

/// Values are computed in `f32` here and in `f64` there.
const TOLERANCE: f64 = 3e-7;

#[test]
fn rows_are_those_of_scikit_learn() {
    let golden: Golden =
        serde_json::from_str(include_str!("../../tests/golden/lexical.json")).unwrap();
    for case in &golden.cases {
        check(case, &golden.unseen);
    }
}

fn check(case: &Case, unseen: &[String]) {
    let name = &case.name;
    let lexicon = Lexicon::fit(&case.texts, &case.config).unwrap();
    let wanted: usize = case.vocabularies.iter().map(BTreeMap::len).sum();
    assert_eq!(lexicon.columns(), wanted, "{name}: features");

    let mut features = Vec::new();
    for (block, vocabulary) in case.vocabularies.iter().enumerate() {
        let mut block_features = BTreeMap::new();
        for (gram, weight) in vocabulary {
            let hash = hash_of_written(gram, block, case.config.blocks[block].grams);
            let feature = table::find(lexicon.buckets(), hash);
            let feature = feature.unwrap_or_else(|| panic!("{name}: `{gram}` is unknown"));
            let found = f64::from(lexicon.weights()[feature as usize]);
            assert!((found - weight).abs() <= TOLERANCE * weight, "{name}: weight of `{gram}`");
            block_features.insert(gram.as_str(), feature);
        }
        features.push(block_features);
    }

    let mut scratch = LexicalScratch::default();
    for (text, wanted) in case.texts.iter().chain(unseen).zip(&case.rows) {
        let row = lexicon.transform(text, &mut scratch);
        assert!(row.indices.is_sorted_by(|a, b| a < b), "{name}: columns rise");
        let found: BTreeMap<u32, f32> = row.iter().collect();
        let wanted: BTreeMap<u32, f64> = wanted
            .iter()
            .zip(&features)
            .flat_map(|(block, features)| {
                block.iter().map(|(gram, value)| (features[gram.as_str()], *value))
            })
            .collect();
        assert!(found.keys().eq(wanted.keys()), "{name}: n-grams of {text:?}");
        for (feature, value) in &wanted {
            let off = (f64::from(found[feature]) - value).abs();
            assert!(off <= TOLERANCE * value.max(1.0), "{name}: {text:?} is off by {off:e}");
        }
    }
}
