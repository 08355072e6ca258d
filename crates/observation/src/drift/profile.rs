//! What texts and answers are like, as counts over bins that the reference sets; and how far two
//! are apart.
//!
//! The measure is the population stability index, Σ (q − p) ln(q / p) over the bins' shares, which
//! is Jeffreys' divergence (1946) of binned values. By the usual rule (Siddiqi, *Credit Risk
//! Scorecards*, 2006) up to 0.1 is no shift, and from 0.25 on a large one. Samples of one
//! distribution have an index of about (bins − 1)(1/n + 1/m) by chance (Yurdakul and Naranjo,
//! *Journal of Risk Model Validation* 14(4), 2020), which is taken off.

use serde::{Deserialize, Serialize};

use crate::record::TextAnswer;

/// The fewest texts that make a reference.
pub const MIN_REFERENCE_TEXTS: usize = 50;

/// Bins of scores and lengths: tenths of the reference.
const QUANTILE_BINS: usize = 10;

/// Classes that have a bin of their own; the rest share one.
const MAX_CLASS_BINS: usize = 31;

/// Bins that words fall into by their hashes.
const WORD_BINS: usize = 64;

/// Words that are looked at of a text: its beginning tells what it is like.
const MAX_WORDS: usize = 256;

/// What is added to each count, so that no share is zero.
const PRIOR: f64 = 0.5;

/// The texts and answers that others are compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Upper bounds of the bins of scores and of lengths in characters, but for the last ones.
    score_bounds: Vec<f64>,
    length_bounds: Vec<f64>,
    /// The most frequent classes.
    classes: Vec<String>,
    counts: Counts,
}

/// Texts and answers counted over a profile's bins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    texts: u64,
    /// Of texts that got a class.
    scores: Vec<u64>,
    /// Those with a bin, then the other classes, then texts without one.
    classes: Vec<u64>,
    lengths: Vec<u64>,
    /// Words of texts, each once a text.
    words: Vec<u64>,
}

/// How far texts and answers are from a reference, one index for each side of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distances {
    /// Probabilities of the first classes.
    pub scores: f64,
    /// Shares of the classes.
    pub classes: f64,
    /// Characters of the texts.
    pub lengths: f64,
    /// Words of the texts.
    pub words: f64,
}

impl Distances {
    /// Each with its name.
    pub fn named(&self) -> [(&'static str, f64); 4] {
        [
            ("scores", self.scores),
            ("classes", self.classes),
            ("lengths", self.lengths),
            ("words", self.words),
        ]
    }

    pub fn largest(&self) -> f64 {
        self.named().into_iter().fold(0.0, |most, (_, distance)| most.max(distance))
    }
}

impl Profile {
    /// A reference of texts with their answers; `None` of too few.
    pub fn of(texts: &[String], answers: &[TextAnswer]) -> Option<Self> {
        if texts.len() < MIN_REFERENCE_TEXTS || texts.len() != answers.len() {
            return None;
        }
        let first = |answer: &TextAnswer| answer.labels.first().cloned();
        let firsts: Vec<_> = answers.iter().filter_map(first).collect();
        let mut by_class: Vec<(String, usize)> = Vec::new();
        let mut ids: Vec<&str> = firsts.iter().map(|label| label.id.as_str()).collect();
        ids.sort_unstable();
        for same in ids.chunk_by(|left, right| left == right) {
            by_class.push((same[0].to_owned(), same.len()));
        }
        by_class.sort_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(&right.0)));
        by_class.truncate(MAX_CLASS_BINS);
        let scores = firsts.iter().map(|label| f64::from(label.probability)).collect();
        let lengths = texts.iter().map(|text| text.chars().count() as f64).collect();
        let mut profile = Self {
            score_bounds: quantiles(scores),
            length_bounds: quantiles(lengths),
            classes: by_class.into_iter().map(|(id, _)| id).collect(),
            counts: Counts::default(),
        };
        let mut counts = profile.empty();
        for (text, answer) in texts.iter().zip(answers) {
            profile.count(&mut counts, text, answer);
        }
        profile.counts = counts;
        Some(profile)
    }

    pub fn texts(&self) -> u64 {
        self.counts.texts
    }

    /// Counts of no text.
    pub fn empty(&self) -> Counts {
        Counts {
            texts: 0,
            scores: vec![0; self.score_bounds.len() + 1],
            classes: vec![0; self.classes.len() + 2],
            lengths: vec![0; self.length_bounds.len() + 1],
            words: vec![0; WORD_BINS],
        }
    }

    /// Whether what was read from a file fits together.
    pub fn is_sound(&self) -> bool {
        let (empty, counts) = (self.empty(), &self.counts);
        let sizes = |counts: &Counts| {
            [&counts.scores, &counts.classes, &counts.lengths, &counts.words].map(Vec::len)
        };
        sizes(&empty) == sizes(counts)
    }

    /// Takes a text with its answer into counts over these bins.
    pub fn count(&self, counts: &mut Counts, text: &str, answer: &TextAnswer) {
        counts.texts += 1;
        match answer.labels.first() {
            Some(label) => {
                let score = f64::from(label.probability);
                counts.scores[bin(&self.score_bounds, score)] += 1;
                let class = self.classes.iter().position(|id| *id == label.id);
                counts.classes[class.unwrap_or(self.classes.len())] += 1;
            }
            None => counts.classes[self.classes.len() + 1] += 1,
        }
        counts.lengths[bin(&self.length_bounds, text.chars().count() as f64)] += 1;
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let mut seen = 0u64;
        for word in words.take(MAX_WORDS) {
            seen |= 1 << (word_hash(word) % WORD_BINS as u64);
        }
        for (bin, count) in counts.words.iter_mut().enumerate() {
            *count += seen >> bin & 1;
        }
    }

    /// How far counts are from the reference.
    pub fn distances(&self, counts: &Counts) -> Distances {
        let between = |of: fn(&Counts) -> &Vec<u64>| {
            let noise =
                1.0 / (counts.texts.max(1) as f64) + 1.0 / (self.counts.texts.max(1) as f64);
            let (p, q) = (shares(of(&self.counts)), shares(of(counts)));
            (stability_index(&p, &q) - (p.len() - 1) as f64 * noise).max(0.0)
        };
        Distances {
            scores: between(|counts| &counts.scores),
            classes: between(|counts| &counts.classes),
            lengths: between(|counts| &counts.lengths),
            words: between(|counts| &counts.words),
        }
    }
}

impl Counts {
    pub fn texts(&self) -> u64 {
        self.texts
    }

    /// Both together; they are over the same bins.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let sum =
            |left: &[u64], right: &[u64]| left.iter().zip(right).map(|(l, r)| l + r).collect();
        Self {
            texts: self.texts + other.texts,
            scores: sum(&self.scores, &other.scores),
            classes: sum(&self.classes, &other.classes),
            lengths: sum(&self.lengths, &other.lengths),
            words: sum(&self.words, &other.words),
        }
    }
}

/// The population stability index of shares over the same bins, none of which is zero.
fn stability_index(reference: &[f64], found: &[f64]) -> f64 {
    reference.iter().zip(found).map(|(p, q)| (q - p) * (q / p).ln()).sum()
}

fn shares(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().sum::<u64>() as f64 + PRIOR * counts.len() as f64;
    counts.iter().map(|count| (*count as f64 + PRIOR) / total).collect()
}

/// Bounds between tenths of the values; fewer where many are equal.
fn quantiles(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    let mut bounds: Vec<f64> = (1..QUANTILE_BINS)
        .filter_map(|part| values.get(part * values.len() / QUANTILE_BINS).copied())
        .collect();
    bounds.dedup();
    bounds
}

fn bin(bounds: &[f64], value: f64) -> usize {
    bounds.partition_point(|bound| *bound < value)
}

/// The same for the same word for ever, however it is written: FNV-1a of its small letters.
fn word_hash(word: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut buffer = [0; 4];
    for letter in word.chars().flat_map(char::to_lowercase) {
        for byte in letter.encode_utf8(&mut buffer).bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    // The low bits of FNV depend on few letters.
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Labelled;

    /// A small generator (SplitMix64).
    struct Random(u64);

    impl Random {
        fn unit(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ mixed >> 31) >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    /// A text of words and an answer with this score's mean.
    fn drawn(random: &mut Random, words: &[&str], score: f64) -> (String, TextAnswer) {
        let length = 3 + (10.0 * random.unit()) as usize;
        let word = |_| words[(random.unit() * words.len() as f64) as usize];
        let text = (0..length).map(word).collect::<Vec<_>>().join(" ");
        let id = ["a", "b", "c"][(3.0 * random.unit() * random.unit()) as usize].to_owned();
        let probability = (score + 0.2 * (random.unit() - 0.5)) as f32;
        (text, TextAnswer { labels: vec![Labelled { id, probability }], is_refused: false })
    }

    const USUAL: [&str; 8] = ["my", "parcel", "is", "late", "refund", "the", "invoice", "please"];
    const OTHER: [&str; 8] = ["mon", "colis", "est", "en", "retard", "la", "facture", "merci"];

    fn sample(
        seed: u64,
        count: usize,
        words: &[&str],
        score: f64,
    ) -> (Vec<String>, Vec<TextAnswer>) {
        let mut random = Random(seed);
        (0..count).map(|_| drawn(&mut random, words, score)).unzip()
    }

    fn distances(
        profile: &Profile,
        (texts, answers): &(Vec<String>, Vec<TextAnswer>),
    ) -> Distances {
        let mut counts = profile.empty();
        for (text, answer) in texts.iter().zip(answers) {
            profile.count(&mut counts, text, answer);
        }
        profile.distances(&counts)
    }

    #[test]
    fn the_index_is_that_of_the_formula() {
        // Worked out with numpy: ((q - p) * np.log(q / p)).sum().
        let index = stability_index(&[0.1, 0.2, 0.3, 0.4], &[0.25; 4]);
        assert!((index - 0.228_218_0).abs() < 1e-6, "{index}");
        assert_eq!(stability_index(&[0.5, 0.5], &[0.5, 0.5]), 0.0);
    }

    #[test]
    fn samples_of_one_kind_are_near_and_of_another_far() {
        let (texts, answers) = sample(1, 2000, &USUAL, 0.8);
        let profile = Profile::of(&texts, &answers).unwrap();
        assert_eq!(profile.texts(), 2000);
        for seed in 2..40 {
            let near = distances(&profile, &sample(seed, 500, &USUAL, 0.8));
            assert!(near.largest() < 0.1, "{seed}: {near:?}");
        }
        let french = distances(&profile, &sample(50, 500, &OTHER, 0.8));
        assert!(french.words > 1.0 && french.scores < 0.1, "{french:?}");
        let unsure = distances(&profile, &sample(51, 500, &USUAL, 0.6));
        assert!(unsure.scores > 0.25 && unsure.words < 0.1, "{unsure:?}");
        let (texts, mut answers) = sample(52, 500, &USUAL, 0.8);
        for answer in &mut answers {
            answer.labels[0].id = "new".to_owned();
        }
        let classes = distances(&profile, &(texts, answers));
        assert!(classes.classes > 1.0, "{classes:?}");
    }

    #[test]
    fn what_is_kept_reads_back_and_damage_is_seen() {
        let (texts, answers) = sample(1, 100, &USUAL, 0.8);
        let profile = Profile::of(&texts, &answers).unwrap();
        let json = serde_json::to_string(&profile).unwrap();
        let mut back: Profile = serde_json::from_str(&json).unwrap();
        assert!(back == profile && back.is_sound());
        back.counts.words.pop();
        assert!(!back.is_sound());
        assert!(Profile::of(&texts[..10], &answers[..10]).is_none());
        // Nothing named for any text.
        assert!(Profile::of(&texts, &vec![TextAnswer::default(); 100]).unwrap().is_sound());
    }
}
