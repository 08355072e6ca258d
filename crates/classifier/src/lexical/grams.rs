//! The hashes of a prepared text's n-grams.
//!
//! A stretch of units is hashed as a polynomial over `u64`; from the polynomials of all
//! prefixes that of any stretch follows with one multiplication. A final mix brings in the
//! block and the length. The constants are part of the model format: another hash would be
//! another vocabulary.

use super::config::{Grams, ShortestToken};
use super::text::{SPACE, Unit, WORD};

/// Base of the polynomial over units: an odd number without pattern (from the digits of the
/// golden ratio).
const UNIT_BASE: u64 = 0x9e37_79b9_7f4a_7c15;
/// Base of the polynomial over the hashes of tokens (from the square root of 2).
const TOKEN_BASE: u64 = 0x6a09_e667_f3bc_c909;
/// Multiplier of the final mix (from the square root of 3).
const MIX: u64 = 0xbb67_ae85_84ca_a73b;

/// Brings block and length into a polynomial and spreads it over all 64 bits.
#[inline(always)]
fn finish(polynomial: u64, seed: u64) -> u64 {
    let mut hash = polynomial ^ seed;
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(MIX);
    hash ^ (hash >> 29)
}

/// The seed of a block's n-grams of one length.
#[inline(always)]
const fn seed(block: usize, length: usize) -> u64 {
    seed_at(block, length, 0)
}

/// The same for n-grams at a place, counted from 1; 0 where places do not count.
#[inline(always)]
const fn seed_at(block: usize, length: usize, place: usize) -> u64 {
    let parts = (place as u64) << 32 | (block as u64 + 1) << 8 | length as u64;
    parts.wrapping_mul(UNIT_BASE).rotate_left(31)
}

/// Buffers of the hashing, kept from text to text.
#[derive(Debug, Default)]
pub(super) struct GramBuffers {
    tokens: Vec<u64>,
    prefixes: Vec<u64>,
    powers: Vec<u64>,
}

impl GramBuffers {
    /// Writes the hash of each n-gram of a block, one for each time it stands in the text.
    pub(super) fn hash(
        &mut self,
        units: &[Unit],
        block: usize,
        grams: Grams,
        hashes: &mut Vec<u64>,
    ) {
        hashes.clear();
        match grams {
            Grams::Words { min, max, shortest } => {
                self.collect_tokens(units, shortest);
                self.hash_words(block, usize::from(min), usize::from(max), hashes);
            }
            Grams::FirstWords { words, max, shortest } => {
                self.collect_tokens(units, shortest);
                self.tokens.truncate(usize::from(words));
                self.hash_placed_words(block, usize::from(max), hashes);
            }
            Grams::Characters { min, max } => {
                self.hash_characters(units, block, usize::from(min), usize::from(max), hashes);
            }
        }
    }

    fn collect_tokens(&mut self, units: &[Unit], shortest: ShortestToken) {
        let shortest = match shortest {
            ShortestToken::One => 1,
            ShortestToken::Two => 2,
        };
        self.tokens.clear();
        let (mut polynomial, mut length) = (0u64, 0usize);
        // The last unit is always a space, so the last token is closed inside the loop.
        for &unit in units {
            if unit & WORD != 0 {
                polynomial = polynomial.wrapping_mul(UNIT_BASE).wrapping_add(u64::from(unit));
                length += 1;
            } else if length > 0 {
                if length >= shortest {
                    self.tokens.push(polynomial);
                }
                (polynomial, length) = (0, 0);
            }
        }
    }

    fn hash_words(&self, block: usize, min: usize, max: usize, hashes: &mut Vec<u64>) {
        for first in 0..self.tokens.len() {
            let mut polynomial = 0u64;
            for (index, token) in self.tokens[first..].iter().take(max).enumerate() {
                // The token is mixed first: sums of plain polynomials would let units of one
                // token stand in for those of the next.
                let token = finish(*token, 0);
                polynomial = polynomial.wrapping_mul(TOKEN_BASE).wrapping_add(token);
                let length = index + 1;
                if length >= min {
                    hashes.push(finish(polynomial, seed(block, length)));
                }
            }
        }
    }

    fn hash_placed_words(&self, block: usize, max: usize, hashes: &mut Vec<u64>) {
        for first in 0..self.tokens.len() {
            let mut polynomial = 0u64;
            for (index, token) in self.tokens[first..].iter().take(max).enumerate() {
                let token = finish(*token, 0);
                polynomial = polynomial.wrapping_mul(TOKEN_BASE).wrapping_add(token);
                hashes.push(finish(polynomial, seed_at(block, index + 1, first + 1)));
            }
        }
    }

    fn hash_characters(
        &mut self,
        units: &[Unit],
        block: usize,
        min: usize,
        max: usize,
        hashes: &mut Vec<u64>,
    ) {
        self.prefixes.clear();
        self.prefixes.push(0);
        let mut polynomial = 0u64;
        self.prefixes.extend(units.iter().map(|&unit| {
            polynomial = polynomial.wrapping_mul(UNIT_BASE).wrapping_add(u64::from(unit));
            polynomial
        }));
        if self.powers.len() <= max {
            self.powers.clear();
            self.powers.extend(
                std::iter::successors(Some(1u64), |power| Some(power.wrapping_mul(UNIT_BASE)))
                    .take(max + 1),
            );
        }
        let mut open = 0;
        for (close, _) in units.iter().enumerate().skip(1).filter(|(_, unit)| **unit == SPACE) {
            // A word with the space on either side; the spaces are shared by neighbours.
            let prefixes = &self.prefixes[open..=close + 1];
            let length = close + 1 - open;
            open = close;
            let (shortest, longest) = (min.min(length), max.min(length));
            for gram in shortest..=longest {
                let (power, seed) = (self.powers[gram], seed(block, gram));
                hashes.extend(prefixes[gram..].iter().zip(prefixes).map(|(&end, &start)| {
                    finish(end.wrapping_sub(start.wrapping_mul(power)), seed)
                }));
            }
        }
    }
}

/// The hash that an n-gram written out as scikit-learn does has in a block: words joined by
/// single spaces, or characters with the spaces around their word. Words with a place are
/// written behind it, as in `0:how many`.
#[cfg(test)]
pub(super) fn hash_of_written(gram: &str, block: usize, grams: Grams) -> u64 {
    let polynomial = |text: &str| {
        let mut units = Vec::new();
        let mut polynomial = 0u64;
        for c in text.chars() {
            // A prepared character stands behind the leading space.
            super::text::prepare(
                c.encode_utf8(&mut [0; 4]),
                super::config::Case::Keep,
                super::config::Accents::Keep,
                &mut units,
            );
            let unit = units.get(1).copied().unwrap_or(SPACE);
            polynomial = polynomial.wrapping_mul(UNIT_BASE).wrapping_add(u64::from(unit));
        }
        polynomial
    };
    let words = |gram: &str| {
        let words: Vec<&str> = gram.split(' ').collect();
        let sum = words.iter().fold(0u64, |sum, word| {
            sum.wrapping_mul(TOKEN_BASE).wrapping_add(finish(polynomial(word), 0))
        });
        (sum, words.len())
    };
    match grams {
        Grams::Words { .. } => {
            let (sum, length) = words(gram);
            finish(sum, seed(block, length))
        }
        Grams::FirstWords { .. } => {
            let (place, gram) = gram.split_once(':').unwrap();
            let (sum, length) = words(gram);
            finish(sum, seed_at(block, length, place.parse::<usize>().unwrap() + 1))
        }
        Grams::Characters { .. } => finish(polynomial(gram), seed(block, gram.chars().count())),
    }
}
