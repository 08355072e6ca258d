//! Replacing what shall not be kept of a text.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use crate::settings::ObservingError;

/// The most masks of a log: each goes through every text.
pub const MAX_MASKS: usize = 16;

/// The longest pattern in bytes, and the largest program that one may become.
const MAX_PATTERN_BYTES: usize = 256;
const MAX_PROGRAM_BYTES: usize = 1 << 20;

/// Something that looks like an e-mail address: generous, since a word too much does no harm.
const EMAIL: &str = r"[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(?:\.[\w-]+)+";

/// Six digits or more, as in numbers of telephones, accounts and cards, also in groups.
const DIGITS: &str = r"\d(?:[ ./()\-]{0,2}\d){5,}";

/// What is replaced in texts, and by what.
#[derive(Clone, Debug, Default)]
pub struct Masks(Vec<(Regex, &'static str)>);

impl Masks {
    /// # Errors
    /// When there are too many, or one is neither a known word nor a regular expression.
    pub fn of(names: &[String]) -> Result<Self, ObservingError> {
        if names.len() > MAX_MASKS {
            return Err(ObservingError::TooManyMasks(names.len()));
        }
        let mask = |name: &String| {
            let (pattern, replacement) = match name.as_str() {
                "email" => (EMAIL, "[email]"),
                "digits" => (DIGITS, "[digits]"),
                other => (other, "[masked]"),
            };
            let refuse = |why: String| ObservingError::Mask { mask: name.clone(), why };
            if name.is_empty() || name.len() > MAX_PATTERN_BYTES {
                let why = format!("it has {} bytes, not 1 to {MAX_PATTERN_BYTES}", name.len());
                return Err(refuse(why));
            }
            let built = RegexBuilder::new(pattern).size_limit(MAX_PROGRAM_BYTES).build();
            Ok((built.map_err(|error| refuse(error.to_string()))?, replacement))
        };
        names.iter().map(mask).collect::<Result<_, _>>().map(Self)
    }

    /// The text with everything replaced. Takes time in proportion to its length.
    pub fn apply(&self, text: String) -> String {
        self.0.iter().fold(text, |text, (pattern, replacement)| {
            match pattern.replace_all(&text, regex::NoExpand(replacement)) {
                Cow::Borrowed(_) => text,
                Cow::Owned(masked) => masked,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_long_numbers_are_replaced() {
        let masks = Masks::of(&["email".into(), "digits".into(), "order-[a-z]+".into()]).unwrap();
        for (text, masked) in [
            ("write to jo.doe+x@mail.example.org, please", "write to [email], please"),
            ("Ünal@büro.example", "[email]"),
            ("call 0171 234 56 78 or (030) 123-456", "call [digits] or ([digits]"),
            ("card 4111-1111-1111-1111.", "card [digits]."),
            ("room 42, since 2024", "room 42, since 2024"),
            ("my order-abc is $1", "my [masked] is $1"),
        ] {
            assert_eq!(masks.apply(text.to_owned()), masked, "{text}");
        }
        assert!(matches!(Masks::of(&["(".into()]), Err(ObservingError::Mask { .. })));
        let huge = "(a{1000}){1000}".to_owned();
        assert!(matches!(Masks::of(&[huge]), Err(ObservingError::Mask { .. })));
        let many = vec!["email".to_owned(); MAX_MASKS + 1];
        assert!(matches!(Masks::of(&many), Err(ObservingError::TooManyMasks(_))));
    }
}
