//! What is measured about every text as it is imported: its length, and the hash by which
//! duplicates are found and splits are drawn.

use twox_hash::XxHash3_64;

/// The measures of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextForm {
    /// Unicode scalar values.
    pub chars: u64,
    /// Runs of anything but ASCII white space.
    pub words: u64,
    /// XXH3 of the normalised text; [`BLANK_HASH`] when nothing is left of it.
    pub hash: u64,
}

/// XXH3-64 of nothing: the hash of every blank text.
pub(crate) const BLANK_HASH: u64 = 0x2d06_8005_38d3_94c2;

/// Measures a text. The hash is of the normalised form: lower-cased character by character,
/// trimmed, every run of white space one space. `scratch` is overwritten.
pub(crate) fn measure(text: &str, scratch: &mut Vec<u8>) -> TextForm {
    let bytes = text.as_bytes();
    scratch.clear();
    let words;
    let chars;
    if bytes.is_ascii() {
        chars = bytes.len();
        words = if has_only_single_inner_spaces(bytes) {
            scratch.extend_from_slice(bytes);
            scratch.make_ascii_lowercase();
            count_spaces(bytes) + usize::from(!bytes.is_empty())
        } else {
            collapse_ascii(bytes, scratch)
        };
    } else {
        chars = text.chars().count();
        words = bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count();
        collapse_unicode(text, scratch);
    }
    TextForm { chars: chars as u64, words: words as u64, hash: XxHash3_64::oneshot(scratch) }
}

fn is_space(byte: u8) -> bool {
    byte == b' ' || (b'\t'..=b'\r').contains(&byte)
}

/// Whether normalising changes nothing but the case: the common form, found out in one
/// pass that the compiler turns into vector code.
fn has_only_single_inner_spaces(bytes: &[u8]) -> bool {
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return true;
    };
    if is_space(first) || is_space(last) {
        return false;
    }
    let pairs = bytes.iter().zip(&bytes[1..]);
    let disturbed = pairs.fold(false, |found, (&left, &right)| {
        found | (left == b' ') & (right == b' ') | (left.wrapping_sub(b'\t') < 5)
    });
    !disturbed
}

fn count_spaces(bytes: &[u8]) -> usize {
    // Sums of at most 255 fit a byte, which lets the inner loop run on whole vectors.
    let count = |chunk: &[u8]| chunk.iter().map(|&byte| u8::from(byte == b' ')).sum::<u8>();
    bytes.chunks(255).map(|chunk| usize::from(count(chunk))).sum()
}

/// Appends the normalised form; returns the number of words.
fn collapse_ascii(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let mut words = 0;
    for word in bytes.split(|&byte| is_space(byte)).filter(|word| !word.is_empty()) {
        if words > 0 {
            out.push(b' ');
        }
        out.extend(word.iter().map(u8::to_ascii_lowercase));
        words += 1;
    }
    words
}

fn collapse_unicode(text: &str, out: &mut Vec<u8>) {
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() {
            gap = !out.is_empty();
            continue;
        }
        if gap {
            out.push(b' ');
            gap = false;
        }
        if c.is_ascii() {
            out.push((c as u8).to_ascii_lowercase());
        } else {
            let mut utf8 = [0; 4];
            for lower in c.to_lowercase() {
                out.extend_from_slice(lower.encode_utf8(&mut utf8).as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> TextForm {
        measure(text, &mut Vec::new())
    }

    #[test]
    fn case_and_white_space_do_not_tell_texts_apart() {
        let plain = form("where is my card?");
        for same in ["Where is  my card?", " where\tis\nmy card? ", "WHERE\x0bIS MY CARD?\r\n"] {
            assert_eq!(form(same).hash, plain.hash, "{same:?}");
        }
        assert_ne!(form("whereis my card?").hash, plain.hash);
        assert_eq!(form("ÜBER\u{a0}ALLES ").hash, form("über alles").hash);
        assert_eq!(form("naïve").hash, form("NAÏVE").hash);
    }

    #[test]
    fn blank_texts_share_one_hash() {
        for blank in ["", " ", "\t\r\n", "\u{a0}\u{2003}"] {
            assert_eq!(form(blank).hash, BLANK_HASH, "{blank:?}");
        }
    }

    #[test]
    fn lengths_are_chars_and_words() {
        let check = |text: &str, chars, words| {
            let form = form(text);
            assert_eq!((form.chars, form.words), (chars, words), "{text:?}");
        };
        check("", 0, 0);
        check("one", 3, 1);
        check("one two", 7, 2);
        check("  one\ttwo  ", 11, 2);
        check("é è", 3, 2);
        check(&"ab ".repeat(1000), 3000, 1000);
    }

    #[test]
    fn both_ascii_routes_agree_with_the_unicode_route() {
        let mut state = 7u64;
        for _ in 0..2000 {
            let text: String = (0..state % 40)
                .map(|_| {
                    state =
                        state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    b" aB\tz"[(state >> 60) as usize % 5] as char
                })
                .collect();
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut expect = Vec::new();
            collapse_unicode(&text, &mut expect);
            assert_eq!(form(&text).hash, XxHash3_64::oneshot(&expect), "{text:?}");
            assert_eq!(form(&text).words, text.split_ascii_whitespace().count() as u64, "{text:?}");
        }
    }
}
