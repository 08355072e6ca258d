//! What is measured about every text as it is imported: its length, and the hash by which
//! duplicates are found and splits are drawn.

use twox_hash::XxHash3_64;

/// The measures of one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextForm {
    /// Unicode scalar values.
    pub chars: u64,
    /// Runs of anything but white space.
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
    let (chars, mut plain) = if bytes.is_ascii() {
        scratch.extend_from_slice(bytes);
        scratch.make_ascii_lowercase();
        (bytes.len(), true)
    } else {
        (count(bytes, |byte| byte as i8 >= -64), lower_unicode(text, scratch))
    };
    plain &= has_only_single_inner_spaces(bytes);
    if !plain {
        collapse_spaces(scratch);
    }
    let words = count(scratch, |byte| byte == b' ') + usize::from(!scratch.is_empty());
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
    let disturbed = bytes.iter().zip(&bytes[1..]).fold(0u8, |found, (&left, &right)| {
        let double = u8::from(left == b' ') & u8::from(right == b' ');
        found | double | u8::from(left.wrapping_sub(b'\t') < 5)
    });
    disturbed == 0
}

/// How many bytes are as asked. Sums of at most 255 fit a byte, which lets the inner loop
/// run on whole vectors.
fn count(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    let in_chunk =
        |chunk: &[u8]| chunk.iter().fold(0u8, |sum, &byte| sum.wrapping_add(u8::from(is(byte))));
    bytes.chunks(255).map(|chunk| usize::from(in_chunk(chunk))).sum()
}

/// Appends the text in lower case, with an ASCII space for every other white space; says
/// whether there was none of that. Runs of ASCII, which most texts mostly are, go in one piece.
fn lower_unicode(text: &str, out: &mut Vec<u8>) -> bool {
    let mut plain = true;
    let mut rest = text;
    loop {
        let ascii = ascii_prefix(rest.as_bytes());
        let start = out.len();
        out.extend_from_slice(&rest.as_bytes()[..ascii]);
        out[start..].make_ascii_lowercase();
        rest = &rest[ascii..];
        let Some(c) = rest.chars().next() else {
            return plain;
        };
        rest = &rest[c.len_utf8()..];
        if c.is_whitespace() {
            out.push(b' ');
            plain = false;
            continue;
        }
        let mut utf8 = [0; 4];
        for lower in c.to_lowercase() {
            out.extend_from_slice(lower.encode_utf8(&mut utf8).as_bytes());
        }
    }
}

/// The length of the ASCII at the beginning of a text.
fn ascii_prefix(bytes: &[u8]) -> usize {
    let whole = bytes.chunks(16).take_while(|chunk| chunk.is_ascii()).map(<[u8]>::len).sum();
    whole + bytes[whole..].iter().take_while(|byte| byte.is_ascii()).count()
}

/// Trims, and makes every run of white space one space. Without a branch, which words of
/// random lengths would mislead.
fn collapse_spaces(bytes: &mut Vec<u8>) {
    let mut kept = 0;
    let mut after_space = true;
    for at in 0..bytes.len() {
        let byte = bytes[at];
        let space = is_space(byte);
        bytes[kept] = if space { b' ' } else { byte };
        kept += usize::from(!(space & after_space));
        after_space = space;
    }
    bytes.truncate(kept);
    if bytes.last() == Some(&b' ') {
        bytes.pop();
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
    fn every_route_agrees_with_the_definition() {
        let mut state = 7u64;
        for _ in 0..2000 {
            let text: String = (0..state % 40)
                .map(|_| {
                    state =
                        state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    [' ', 'a', 'B', '\t', 'É', '\u{2003}', 'z'][(state >> 60) as usize % 7]
                })
                .collect();
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let lower: String = text.chars().flat_map(char::to_lowercase).collect();
            let expect = lower.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(form(&text).hash, XxHash3_64::oneshot(expect.as_bytes()), "{text:?}");
            assert_eq!(form(&text).chars, text.chars().count() as u64, "{text:?}");
            assert_eq!(form(&text).words, text.split_whitespace().count() as u64, "{text:?}");
        }
    }
}
