//! Lexicons: cuts, threads, limits, and any text at all.

use corral_classifier::lexical::LexicalScratch;
use corral_classifier::{
    BlockConfig, Grams, LexicalConfig, LexicalError, Lexicon, Normalisation, ShortestToken,
    Weighting,
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
            let grams = match numbers.below(3) {
                0 => Grams::Characters { min, max },
                1 => Grams::Words { min, max, shortest: ShortestToken::One },
                _ => Grams::Words { min, max, shortest: ShortestToken::Two },
            };
            let weighting = [
                Weighting::TfIdf { sublinear: true },
                Weighting::TfIdf { sublinear: false },
                Weighting::Binary,
                Weighting::Counts,
            ][numbers.below(4)];
            blocks.push(BlockConfig { grams, weighting, ..BlockConfig::new(grams) });
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
    let nothing: [&str; 0] = [];
    assert_eq!(
        Lexicon::fit(&nothing, &LexicalConfig::words_and_characters()),
        Err(LexicalError::EmptyVocabulary { texts: 0 })
    );
}
