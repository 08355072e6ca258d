//! Lexicons: cuts, threads, limits, and any text at all.

use corral_classifier::lexical::LexicalScratch;
use corral_classifier::{
    BlockConfig, Grams, LexicalConfig, LexicalError, Lexicon, Normalisation, ShortestToken,
    Vocabulary, Weighting,
};

use crate::sample::{Numbers, TEXTS};

fn words(min: u8, max: u8) -> BlockConfig {
    BlockConfig::new(Grams::Words { min, max, shortest: ShortestToken::One })
}

fn config(blocks: Vec<BlockConfig>) -> LexicalConfig {
    LexicalConfig { blocks, ..LexicalConfig::words_and_characters() }
}

/// Texts of a few repeated words in many scripts and of noise.
fn random_texts(numbers: &mut Numbers, count: usize) -> Vec<String> {
    const PIECES: [&str; 14] = [
        "card",
        "karte",
        "Ωμέγα ΣΑΣ",
        "हिन्दी",
        "日本",
        " ",
        "\t",
        "\u{301}",
        "é",
        "x_1",
        "!",
        "👍🏽",
        "\u{0}",
        "a b c d",
    ];
    (0..count)
        .map(|_| {
            (0..numbers.below(20))
                .map(|_| match numbers.below(12) {
                    0 => char::from_u32(numbers.below(0x11_0000) as u32).unwrap_or('?').to_string(),
                    1 => " ".to_owned(),
                    _ => PIECES[numbers.below(PIECES.len())].to_owned(),
                })
                .collect()
        })
        .collect()
}

#[test]
fn threads_do_not_change_a_lexicon_or_its_rows() {
    let texts = random_texts(&mut Numbers::new(5), 3000);
    let config = LexicalConfig::words_and_characters();
    let work = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let lexicon = Lexicon::fit(&texts, &config).unwrap();
            let rows = lexicon.transform_all(&texts);
            (lexicon, rows)
        })
    };
    let (lexicon, rows) = work(1);
    assert!([2, 5].into_iter().all(|threads| work(threads) == (lexicon.clone(), rows.clone())));
    let mut scratch = LexicalScratch::default();
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(lexicon.transform(text, &mut scratch), rows.row(index));
    }
    let norms = rows.l2_norms();
    let two_blocks = 2f32.sqrt();
    assert!(
        norms.iter().all(|norm| {
            [0.0, 1.0, two_blocks].iter().any(|wanted| (norm - wanted).abs() < 1e-5)
        })
    );
}

#[test]
fn any_text_gives_rising_columns() {
    let mut numbers = Numbers::new(9);
    let texts = random_texts(&mut numbers, 200);
    for round in 0..40 {
        let mut blocks = Vec::new();
        for _ in 0..1 + numbers.below(3) {
            let min = 1 + numbers.below(4) as u8;
            let max = min + numbers.below(4) as u8;
            let grams = match numbers.below(4) {
                0 => Grams::Characters { min, max },
                3 => Grams::FirstWords { words: max, max: min, shortest: ShortestToken::One },
                1 => Grams::Words { min, max, shortest: ShortestToken::One },
                _ => Grams::Words { min, max, shortest: ShortestToken::Two },
            };
            let weighting = [
                Weighting::TfIdf { sublinear: true },
                Weighting::TfIdf { sublinear: false },
                Weighting::Binary,
                Weighting::Counts,
                Weighting::Bm25 { k1: 1.2, b: 0.75 },
            ][numbers.below(5)];
            let vocabulary = [Vocabulary::Learnt, Vocabulary::Hashed { bits: 9 }][numbers.below(2)];
            blocks.push(BlockConfig { grams, weighting, vocabulary, ..BlockConfig::new(grams) });
        }
        let normalisation =
            [Normalisation::PerBlock, Normalisation::Joint, Normalisation::Nothing][round % 3];
        let config = LexicalConfig { normalisation, ..config(blocks) };
        let lexicon = Lexicon::fit(&texts[..100], &config).unwrap();
        let rows = lexicon.transform_all(&texts);
        for row in rows.iter() {
            assert!(row.indices.is_sorted_by(|a, b| a < b));
            assert!(row.indices.iter().all(|&index| (index as usize) < lexicon.columns()));
            assert!(row.values.iter().all(|value| value.is_finite() && *value > 0.0));
        }
    }
}

#[test]
fn cuts_keep_what_they_say() {
    let texts = ["a b", "a b", "a c", "a d"];
    let columns = |block: BlockConfig| {
        Lexicon::fit(&texts, &config(vec![block])).map(|lexicon| lexicon.columns())
    };
    assert_eq!(columns(words(1, 1)), Ok(4));
    assert_eq!(columns(BlockConfig { min_documents: 2, ..words(1, 1) }), Ok(2));
    assert_eq!(columns(BlockConfig { max_document_share: 0.5, ..words(1, 1) }), Ok(3));
    assert_eq!(columns(BlockConfig { max_features: Some(1), ..words(1, 1) }), Ok(1));
    assert_eq!(
        columns(BlockConfig { min_documents: 5, ..words(1, 1) }),
        Err(LexicalError::EmptyVocabulary { texts: 4 })
    );

    // What is in the most texts stays, and comes first.
    let block = BlockConfig { max_features: Some(2), weighting: Weighting::Counts, ..words(1, 1) };
    let config = LexicalConfig { normalisation: Normalisation::Nothing, ..config(vec![block]) };
    let lexicon = Lexicon::fit(&texts, &config).unwrap();
    let mut scratch = LexicalScratch::default();
    let row = lexicon.transform("b b a d d d b", &mut scratch);
    assert_eq!((row.indices, row.values), (&[0, 1][..], &[1.0, 3.0][..]));
}

/// Rows of two lexicons, each as its values in rising order: what is left when columns are
/// numbered differently.
fn sorted_values(lexicon: &Lexicon<'_>, texts: &[String]) -> Vec<Vec<f32>> {
    let rows = lexicon.transform_all(texts);
    rows.iter()
        .map(|row| {
            let mut values = row.values.to_vec();
            values.sort_by(f32::total_cmp);
            values
        })
        .collect()
}

#[test]
fn hashed_columns_are_as_learnt_ones_while_none_is_shared() {
    let texts = random_texts(&mut Numbers::new(21), 300);
    let (seen, unseen) = texts.split_at(200);
    for weighting in [Weighting::TfIdf { sublinear: true }, Weighting::Bm25 { k1: 1.2, b: 0.75 }] {
        let fit = |vocabulary| {
            let block = BlockConfig { weighting, vocabulary, min_documents: 2, ..words(1, 1) };
            Lexicon::fit(seen, &config(vec![block])).unwrap()
        };
        let (learnt, hashed) = (fit(Vocabulary::Learnt), fit(Vocabulary::Hashed { bits: 24 }));
        assert_eq!(hashed.columns(), 1 << 24);
        let used = hashed.weights().iter().filter(|weight| **weight > 0.0).count();
        assert_eq!(used, learnt.columns(), "no two n-grams share a column");
        assert_eq!(sorted_values(&hashed, seen), sorted_values(&learnt, seen));
        assert_eq!(sorted_values(&hashed, unseen), sorted_values(&learnt, unseen));
    }
}

#[test]
fn shared_columns_are_counted_together() {
    let texts = random_texts(&mut Numbers::new(22), 400);
    let block = BlockConfig {
        weighting: Weighting::Counts,
        vocabulary: Vocabulary::Hashed { bits: 8 },
        ..BlockConfig::new(Grams::Characters { min: 2, max: 4 })
    };
    let every = BlockConfig { vocabulary: Vocabulary::Learnt, ..block.clone() };
    let of = |block| LexicalConfig {
        normalisation: Normalisation::Nothing,
        ..config(vec![words(1, 2), block, words(1, 1)])
    };
    let work = |threads, config: &LexicalConfig| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Lexicon::fit(&texts, config).unwrap())
    };
    let hashed = work(1, &of(block.clone()));
    assert!([2, 5].into_iter().all(|threads| work(threads, &of(block.clone())) == hashed));
    let learnt = work(1, &of(every));
    let ends = [&hashed, &learnt].map(|lexicon| lexicon.shape().block_ends.clone());
    assert_eq!(ends[0][1] - ends[0][0], 256);
    let sum = |lexicon: &Lexicon<'_>, ends: &[u32], text: &str| -> f32 {
        let mut scratch = LexicalScratch::default();
        let row = lexicon.transform(text, &mut scratch);
        let within = |(column, _): &(u32, f32)| (ends[0]..ends[1]).contains(column);
        row.iter().filter(within).map(|(_, value)| value).sum()
    };
    for text in &texts {
        assert_eq!(sum(&hashed, &ends[0], text), sum(&learnt, &ends[1], text), "{text:?}");
    }
}

#[test]
fn the_order_of_texts_does_not_matter() {
    let forward = Lexicon::fit(&TEXTS, &LexicalConfig::words_and_characters()).unwrap();
    let backward: Vec<&str> = TEXTS.iter().rev().copied().collect();
    let backward = Lexicon::fit(&backward, &LexicalConfig::words_and_characters()).unwrap();
    assert_eq!(forward, backward);
}

#[test]
fn wrong_settings_are_refused() {
    let refusal = |blocks| Lexicon::fit(&TEXTS, &config(blocks)).unwrap_err();
    assert_eq!(refusal(vec![]), LexicalError::BlockCount(0));
    assert_eq!(refusal(vec![words(1, 1); 9]), LexicalError::BlockCount(9));
    for (min, max) in [(0, 1), (2, 1), (1, 9)] {
        let wanted = LexicalError::GramLengths { block: 0, min, max, longest: 8 };
        assert_eq!(refusal(vec![words(min, max)]), wanted);
    }
    for share in [0.0, -1.0, 1.5, f64::NAN] {
        let block = BlockConfig { max_document_share: share, ..words(1, 1) };
        let refused = refusal(vec![words(1, 1), block]);
        assert!(matches!(refused, LexicalError::DocumentShare { block: 1, .. }));
    }
    for scale in [0.0, f32::INFINITY] {
        let block = BlockConfig { scale, ..words(1, 1) };
        assert!(matches!(refusal(vec![block]), LexicalError::Scale { block: 0, .. }));
    }
    for (first, max) in [(0, 1), (17, 1), (3, 4), (12, 9), (3, 0)] {
        let grams = Grams::FirstWords { words: first, max, shortest: ShortestToken::One };
        let wanted = LexicalError::FirstWords { block: 0, words: first, max };
        assert_eq!(refusal(vec![BlockConfig::new(grams)]), wanted);
    }
    for bits in [0, 7, 25, 64, 255] {
        let block = BlockConfig { vocabulary: Vocabulary::Hashed { bits }, ..words(1, 1) };
        assert_eq!(refusal(vec![block]), LexicalError::HashBits { block: 0, bits });
    }
    for (k1, b) in [(0.0, 0.5), (f32::NAN, 0.5), (1.2, -0.1), (1.2, 1.1), (1.2, f32::NAN)] {
        let block = BlockConfig { weighting: Weighting::Bm25 { k1, b }, ..words(1, 1) };
        assert!(matches!(refusal(vec![block]), LexicalError::Bm25 { block: 0, .. }));
    }
    let nothing: [&str; 0] = [];
    assert_eq!(
        Lexicon::fit(&nothing, &LexicalConfig::words_and_characters()),
        Err(LexicalError::EmptyVocabulary { texts: 0 })
    );
}
