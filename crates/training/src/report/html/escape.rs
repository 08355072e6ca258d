//! Values from the data within markup.

use std::fmt::{self, Display, Formatter, Write};

use crate::report::shorten;

/// Characters of a name that a page shows.
const MAX_NAME_CHARS: usize = 90;

/// Plain text within an element or a quoted attribute. What markup could be taken for stands
/// as references; characters that HTML and XML forbid, and those that turn the direction of
/// what follows, stand as the replacement character.
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(' ')?,
                character if is_forbidden(character) => f.write_char('\u{fffd}')?,
                character => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// A name from the data: shortened, and its direction of writing kept to itself.
pub struct Name<'a>(pub &'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "<bdi>{}</bdi>", Escaped(&shorten(self.0, MAX_NAME_CHARS)))
    }
}

/// A text from the data, which was shortened when the report was made.
pub struct Text<'a>(pub &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "<bdi>{}</bdi>", Escaped(self.0))
    }
}

/// Control characters, characters that are none, and overrides of the direction of writing.
fn is_forbidden(character: char) -> bool {
    character.is_control()
        || u32::from(character) & 0xfffe == 0xfffe
        || matches!(character, '\u{fdd0}'..='\u{fdef}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_value_is_markup() {
        let hostile = "<script>alert(\"1\")</script> & 'x'\u{0}\u{1b}[31m\u{202e}abc\u{ffff}";
        let shown = Escaped(hostile).to_string();
        assert!(!shown.contains(['<', '>', '"', '\'', '\u{0}', '\u{1b}', '\u{202e}', '\u{ffff}']));
        assert!(
            shown
                .starts_with("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;x&#39;")
        );
        assert_eq!(Name("שלום").to_string(), "<bdi>שלום</bdi>");
        assert!(Name(&"w".repeat(10_000)).to_string().chars().count() < 120);
    }
}
