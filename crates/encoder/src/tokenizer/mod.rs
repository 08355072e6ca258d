//! Turns text into the ids of word pieces, as BERT's uncased networks were trained:
//! clean, split ideographs, decompose, drop marks, lower-case, split at spaces and
//! punctuation, then take the longest known piece again and again (WordPiece; Schuster and
//! Nakajima 2012, as in the BERT release).
//!
//! Text is streamed: beyond the ids, no more than one word is held, whatever the length of
//! the text, and reading stops once the ids are as many as the network takes.

mod definition;
mod unicode;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::vocabulary::{CONTINUATION, RollingHash, Vocabulary};

pub(crate) use definition::TokenizerDefinition;
pub use definition::TokenizerError;

/// What a tokenizer needs to know beside its vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenizerRules {
    /// The id of a word that has no pieces.
    pub unknown: u32,
    /// The id before every text.
    pub first: u32,
    /// The id after every text.
    pub last: u32,
    /// Longer words are unknown.
    pub max_word_chars: usize,
    /// Texts that stand for one id wherever they occur, spelt exactly so.
    pub special: Vec<(String, u32)>,
}

/// A tokenizer over the vocabulary of an open file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokenizer<'a> {
    pub rules: &'a TokenizerRules,
    pub vocabulary: Vocabulary<'a>,
}

impl Tokenizer<'_> {
    /// Appends the ids of `text` to `ids`, the two that mark its ends included, at most
    /// `max_tokens`.
    pub fn encode(&self, text: &str, max_tokens: usize, ids: &mut Vec<u32>) {
        let limit = ids.len() + max_tokens - 1;
        ids.push(self.rules.first);
        let mut word = Word { limit, ids, text: String::new(), chars: 0 };
        let mut rest = text;
        while let Some((before, id, after)) = self.next_special(rest) {
            if self.read_segment(before, &mut word) == Room::Full {
                break;
            }
            word.ids.push(id);
            rest = after;
        }
        if word.has_room() {
            self.read_segment(rest, &mut word);
        }
        ids.truncate(limit);
        ids.push(self.rules.last);
    }

    /// The leftmost special text, the longest of those that begin at one place: what stands
    /// before it, its id, and what stands after it.
    fn next_special<'t>(&self, text: &'t str) -> Option<(&'t str, u32, &'t str)> {
        let bytes = text.as_bytes();
        (0..bytes.len()).find_map(|at| {
            let begins_here = |content: &str| {
                content.as_bytes()[0] == bytes[at] && bytes[at..].starts_with(content.as_bytes())
            };
            let here = self.rules.special.iter().filter(|(content, _)| begins_here(content));
            let (content, id) = here.max_by_key(|(content, _)| content.len())?;
            Some((&text[..at], *id, &text[at + content.len()..]))
        })
    }

    fn read_segment(&self, text: &str, word: &mut Word) -> Room {
        let room = if text.is_ascii() {
            self.read_ascii(text, word)
        } else {
            let clean = text.chars().flat_map(clean).nfd();
            let bare = clean.filter(|&character| !is_mark(character));
            self.read_chars(bare.flat_map(char::to_lowercase), word)
        };
        if room == Room::Full { room } else { self.end_word(word) }
    }

    fn read_ascii(&self, text: &str, word: &mut Word) -> Room {
        for &byte in text.as_bytes() {
            let room = match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.end_word(word),
                0..=0x1f | 0x7f => continue,
                _ if byte.is_ascii_punctuation() => self.lone_word(char::from(byte), word),
                _ => {
                    word.push_char(char::from(byte.to_ascii_lowercase()), self.rules);
                    continue;
                }
            };
            if room == Room::Full {
                return room;
            }
        }
        Room::Left
    }

    fn read_chars(&self, text: impl Iterator<Item = char>, word: &mut Word) -> Room {
        for character in text {
            let room = if character.is_whitespace() {
                self.end_word(word)
            } else if is_punctuation(character) {
                self.lone_word(character, word)
            } else {
                word.push_char(character, self.rules);
                continue;
            };
            if room == Room::Full {
                return room;
            }
        }
        Room::Left
    }

    /// A character that is a word by itself and ends the one before it.
    fn lone_word(&self, character: char, word: &mut Word) -> Room {
        if self.end_word(word) == Room::Full {
            return Room::Full;
        }
        word.push_char(character, self.rules);
        self.end_word(word)
    }

    /// Turns the word read so far into ids.
    fn end_word(&self, word: &mut Word) -> Room {
        if word.chars > self.rules.max_word_chars {
            word.ids.push(self.rules.unknown);
        } else if word.chars > 0 {
            let first_piece = word.ids.len();
            if self.push_pieces(&word.text, word.ids).is_none() {
                word.ids.truncate(first_piece);
                word.ids.push(self.rules.unknown);
            }
        }
        word.text.clear();
        word.chars = 0;
        if word.has_room() { Room::Left } else { Room::Full }
    }

    /// Appends the pieces of a word; `None` where some part of it has none.
    fn push_pieces(&self, word: &str, ids: &mut Vec<u32>) -> Option<()> {
        let mut rest = word;
        let mut prefix: &[u8] = b"";
        while !rest.is_empty() {
            let (id, length) = self.longest_piece(prefix, rest)?;
            ids.push(id);
            rest = &rest[length..];
            prefix = CONTINUATION;
        }
        Some(())
    }

    /// The longest entry that `text` begins with: its id and its bytes.
    fn longest_piece(&self, prefix: &[u8], text: &str) -> Option<(u32, usize)> {
        let whole = RollingHash::new().extended(prefix).extended(text.as_bytes());
        if let Some(id) = self.vocabulary.find(whole, prefix, text.as_bytes()) {
            return Some((id, text.len()));
        }
        let mut hash = RollingHash::new().extended(prefix);
        let mut prefixes = Vec::with_capacity(text.len());
        for (start, character) in text.char_indices() {
            let end = start + character.len_utf8();
            hash = hash.extended(&text.as_bytes()[start..end]);
            prefixes.push((hash, end));
        }
        prefixes.pop();
        prefixes.into_iter().rev().find_map(|(hash, end)| {
            Some((self.vocabulary.find(hash, prefix, &text.as_bytes()[..end])?, end))
        })
    }
}

/// Whether more ids are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Left,
    Full,
}

/// The word being read, and where its ids go.
struct Word<'a> {
    /// No more ids are wanted once there are so many.
    limit: usize,
    ids: &'a mut Vec<u32>,
    text: String,
    /// Characters read, of which `text` keeps only as many as a known word may have.
    chars: usize,
}

impl Word<'_> {
    fn has_room(&self) -> bool {
        self.ids.len() < self.limit
    }

    fn push_char(&mut self, character: char, rules: &TokenizerRules) {
        self.chars += 1;
        if self.chars <= rules.max_word_chars {
            self.text.push(character);
        }
    }
}

/// What a character contributes before decomposition: nothing, itself, a space, or itself
/// between spaces.
fn clean(character: char) -> impl Iterator<Item = char> {
    let (space, kept) = match character {
        '\t' | '\n' | '\r' => (Some(' '), None),
        '\0'..='\x1f' | '\x7f' => (None, None),
        '\x20'..='\x7e' => (None, Some(character)),
        _ if unicode::holds(unicode::IGNORED, character) => (None, None),
        _ if character.is_whitespace() => (Some(' '), None),
        _ if unicode::holds(unicode::IDEOGRAPHS, character) => (Some(' '), Some(character)),
        _ => (None, Some(character)),
    };
    let after = kept.and(space);
    space.into_iter().chain(kept).chain(after)
}

fn is_mark(character: char) -> bool {
    !character.is_ascii() && unicode::holds(unicode::MARKS, character)
}

fn is_punctuation(character: char) -> bool {
    if character.is_ascii() {
        character.is_ascii_punctuation()
    } else {
        unicode::holds(unicode::PUNCTUATION, character)
    }
}
