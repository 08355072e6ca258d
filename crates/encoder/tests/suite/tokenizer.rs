//! The tokenizer against the reference implementation, on thousands of awkward texts and on
//! every code point. `golden/tokenizer.py` made the fixture.

use std::fs;

use crate::common::{golden, published_encoder};
use corral_encoder::test_support::{TinyNetwork, tokenizer_json};
use corral_encoder::{MiniLm, Precision, convert};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Fixture {
    max_tokens: usize,
    texts: usize,
    text_block: usize,
    code_block: usize,
    fragments: Vec<String>,
    examples: Vec<Example>,
    small: Digests,
    whole: Digests,
}

#[derive(Deserialize)]
struct Example {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Digests {
    texts: Vec<String>,
    codes: Vec<String>,
}

impl Fixture {
    fn read() -> Self {
        serde_json::from_slice(&fs::read(golden("tokenizer.json")).unwrap()).unwrap()
    }

    /// The texts that the script built from the same random numbers.
    fn random_texts(&self) -> Vec<String> {
        let mut state = 2024u64;
        let mut below = |limit: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % limit
        };
        let mut texts = Vec::new();
        for _ in 0..self.texts {
            let mut text = String::new();
            for _ in 0..1 + below(12) {
                text.push_str(&self.fragments[below(self.fragments.len())]);
                if below(2) == 1 {
                    text.push(' ');
                }
            }
            texts.push(text);
        }
        texts
    }

    fn ids(&self, encoder: &MiniLm, text: &str) -> Vec<u32> {
        let mut ids = encoder.token_ids(text);
        // Cutting is of the end but for the last id, so a longer cut contains the shorter.
        if ids.len() > self.max_tokens {
            let last = ids.pop().unwrap();
            ids.truncate(self.max_tokens - 1);
            ids.push(last);
        }
        ids
    }

    fn check(&self, encoder: &MiniLm, expected: &Digests) {
        let texts = self.random_texts();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        self.check_blocks(encoder, &texts, self.text_block, &expected.texts);
        let codes: Vec<String> =
            ('\0'..=char::MAX).map(|character| format!("a{character}b")).collect();
        let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
        self.check_blocks(encoder, &codes, self.code_block, &expected.codes);
    }

    fn check_blocks(&self, encoder: &MiniLm, texts: &[&str], size: usize, expected: &[String]) {
        assert_eq!(texts.len().div_ceil(size), expected.len());
        for (block, expected) in texts.chunks(size).zip(expected) {
            let mut hasher = Sha256::new();
            for text in block {
                let ids = self.ids(encoder, text);
                hasher.update((ids.len() as u32).to_le_bytes());
                for id in ids {
                    hasher.update(id.to_le_bytes());
                }
            }
            let digest: String =
                hasher.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(&digest, expected, "the ids of a text from {:?} on differ", block[0]);
        }
    }
}

fn small_encoder(directory: &tempfile::TempDir) -> MiniLm {
    let vocabulary = fs::read_to_string(golden("vocabulary.txt")).unwrap();
    let entries: Vec<String> = vocabulary.lines().map(str::to_owned).collect();
    let network = TinyNetwork::with_tokenizer(1, tokenizer_json(&entries), entries.len());
    let path = directory.path().join("small.encoder");
    fs::write(&path, convert(network.published(), Precision::Int8).unwrap()).unwrap();
    MiniLm::open(&path).unwrap()
}

#[test]
fn a_small_vocabulary_gives_the_reference_ids() {
    let directory = tempfile::tempdir().unwrap();
    let encoder = small_encoder(&directory);
    let fixture = Fixture::read();
    let texts = fixture.random_texts();
    for (example, built) in fixture.examples.iter().zip(&texts) {
        assert_eq!(&example.text, built, "both sides build the same texts");
        assert_eq!(fixture.ids(&encoder, built), example.ids, "{built:?}");
    }
    fixture.check(&encoder, &fixture.small);
}

#[test]
fn the_published_vocabulary_gives_the_reference_ids() {
    let directory = tempfile::tempdir().unwrap();
    let Some(encoder) = published_encoder(directory.path(), Precision::Int8) else { return };
    let fixture = Fixture::read();
    fixture.check(&encoder, &fixture.whole);
}

#[test]
fn long_texts_are_cut_and_cost_no_more_than_reading_them() {
    let directory = tempfile::tempdir().unwrap();
    let encoder = small_encoder(&directory);
    for unit in ["card ", "a", "[CLS]", "[", "\u{301}", "é", "東", "\u{0}", ".", " "] {
        let text = unit.repeat(1_000_000);
        let ids = encoder.token_ids(&text);
        assert!((2..=TinyNetwork::MAX_TOKENS).contains(&ids.len()), "{unit:?} {}", ids.len());
        assert_eq!((ids[0], ids[ids.len() - 1]), (2, 3));
    }
}
