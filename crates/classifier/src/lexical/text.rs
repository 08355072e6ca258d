//! Preparation of a text: case, accents, white space, and which characters make words.
//!
//! What is a letter, and which letter is the lower one, is as the standard library's Unicode
//! tables say. A newer Unicode adds characters and hardly changes any, so models keep their
//! answers when the compiler is newer.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{canonical_combining_class, is_combining_mark};

use super::config::{Accents, Case};

/// A character as the n-grams see it: its code point, and [`WORD`] where it makes words.
pub(super) type Unit = u32;
pub(super) const WORD: Unit = 1 << 31;
pub(super) const SPACE: Unit = b' ' as Unit;

/// The one letter that is lowered by its place in the word; `str::to_lowercase` knows how.
const SIGMA: char = 'Σ';

/// Writes the units of a text: a space, then each stretch of what is not white space with one
/// space behind it. A text without any gives that one space.
///
/// Allocates nothing once `units` is large enough, except for texts with a capital sigma and
/// for long runs of combining characters.
pub(super) fn prepare(text: &str, case: Case, accents: Accents, units: &mut Vec<Unit>) {
    units.clear();
    units.reserve(text.len() + 2);
    units.push(SPACE);
    if text.is_ascii() {
        let table = match case {
            Case::Lower => &ASCII_LOWERED,
            Case::Keep => &ASCII_KEPT,
        };
        for &byte in text.as_bytes() {
            let unit = table[usize::from(byte)];
            if unit != SPACE || units.last() != Some(&SPACE) {
                units.push(unit);
            }
        }
    } else {
        match case {
            Case::Keep => push_all(text.chars(), accents, units),
            Case::Lower if text.contains(SIGMA) => {
                push_all(text.to_lowercase().chars(), accents, units);
            }
            Case::Lower => push_all(text.chars().flat_map(char::to_lowercase), accents, units),
        }
    }
    if units.last() != Some(&SPACE) {
        units.push(SPACE);
    }
}

fn push_all(chars: impl Iterator<Item = char>, accents: Accents, units: &mut Vec<Unit>) {
    match accents {
        Accents::Keep => chars.for_each(|c| push(c, units)),
        Accents::Strip => {
            chars.nfkd().filter(|c| canonical_combining_class(*c) == 0).for_each(|c| push(c, units))
        }
    }
}

fn push(c: char, units: &mut Vec<Unit>) {
    let unit = match c {
        '\0'..='\x7f' => ASCII_KEPT[c as usize],
        _ if c.is_whitespace() => SPACE,
        _ if c.is_alphanumeric() || is_combining_mark(c) => c as Unit | WORD,
        _ => c as Unit,
    };
    if unit != SPACE || units.last() != Some(&SPACE) {
        units.push(unit);
    }
}

static ASCII_LOWERED: [Unit; 128] = ascii_units(Case::Lower);
static ASCII_KEPT: [Unit; 128] = ascii_units(Case::Keep);

const fn ascii_units(case: Case) -> [Unit; 128] {
    let mut units = [0; 128];
    let mut byte = 0u8;
    while byte < 128 {
        let letter = match case {
            Case::Lower => byte.to_ascii_lowercase(),
            Case::Keep => byte,
        };
        units[byte as usize] = if byte.is_ascii_alphanumeric() || byte == b'_' {
            letter as Unit | WORD
        } else if matches!(byte, b'\t'..=b'\r' | b'\x1c'..=b'\x1f' | b' ') {
            // Python also splits at the four information separators.
            SPACE
        } else {
            letter as Unit
        };
        byte += 1;
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, case: Case, accents: Accents) -> String {
        let mut units = Vec::new();
        prepare(text, case, accents, &mut units);
        units.iter().map(|unit| char::from_u32(unit & !WORD).unwrap()).collect()
    }

    #[test]
    fn white_space_is_gathered_and_letters_lowered() {
        let lower = |text| shown(text, Case::Lower, Accents::Keep);
        assert_eq!(lower(""), " ");
        assert_eq!(lower(" \t\u{a0}\u{2003} "), " ");
        assert_eq!(lower("Hello,\x1c\x0b WORLD"), " hello, world ");
        assert_eq!(lower("ΟΔΟΣ ΟΔΟΣ."), " οδος οδος. ");
        assert_eq!(lower("İx"), " i\u{307}x ");
        assert_eq!(shown("É", Case::Keep, Accents::Keep), " É ");
    }

    #[test]
    fn accents_are_stripped_after_lowering() {
        let bare = |text| shown(text, Case::Lower, Accents::Strip);
        assert_eq!(bare("Ça déjà ﬁn Ångström"), " ca deja fin angstrom ");
        assert_eq!(bare("ΟΔΌΣ"), " οδος ");
        assert_eq!(bare("plain"), " plain ");
    }

    #[test]
    fn word_characters_are_marked() {
        let mut units = Vec::new();
        prepare("a_1-é²ि€", Case::Lower, Accents::Keep, &mut units);
        let words: Vec<bool> = units.iter().map(|unit| unit & WORD != 0).collect();
        assert_eq!(words, [false, true, true, true, false, true, true, true, false, false]);
    }
}
