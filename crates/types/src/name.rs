//! Names that people give to things.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest a name may be: it must fit a DNS label, since endpoints are also
/// addressed by host name.
pub const MAX_NAME_BYTES: usize = 63;

/// The name of a data set, taxonomy, model, endpoint or workspace: a lower-case letter
/// or digit, then lower-case letters, digits, `-`, `_` or `.`, at most 63 in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name is empty")]
    Empty,
    #[error("the name `{text}…` has {bytes} bytes; a name has at most {MAX_NAME_BYTES}")]
    TooLong { text: String, bytes: usize },
    #[error(
        "the name `{text}` has `{found}`; names are lower-case letters, digits, `-`, `_` and `.`, \
         beginning with a letter or digit"
    )]
    Character { text: String, found: char },
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = text.chars().next().ok_or(NameError::Empty)?;
        if text.len() > MAX_NAME_BYTES {
            let start = text.chars().take(20).collect();
            return Err(NameError::TooLong { text: start, bytes: text.len() });
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let wrong = if plain(first) {
            text.chars().find(|&c| !plain(c) && !matches!(c, '-' | '_' | '.'))
        } else {
            Some(first)
        };
        match wrong {
            Some(found) => Err(NameError::Character { text: text.to_owned(), found }),
            None => Ok(Self(text.into())),
        }
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The candidates closest to `wanted` by edit distance, nearest first, at most `limit`,
/// none further than a third of the longer text. For "did you mean".
pub fn nearest<'a>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    limit: usize,
) -> Vec<&'a str> {
    let wanted_lower = wanted.to_lowercase();
    let mut close: Vec<(usize, &str)> = candidates
        .into_iter()
        .filter_map(|candidate| {
            let longer = wanted.chars().count().max(candidate.chars().count());
            let allowed = longer.div_ceil(3);
            let distance = edit_distance(&wanted_lower, &candidate.to_lowercase(), allowed)?;
            Some((distance, candidate))
        })
        .collect();
    close.sort();
    close.into_iter().take(limit).map(|(_, candidate)| candidate).collect()
}

/// The Levenshtein distance in characters, or `None` above `allowed`.
fn edit_distance(left: &str, right: &str, allowed: usize) -> Option<usize> {
    let right: Vec<char> = right.chars().collect();
    if left.chars().count().abs_diff(right.len()) > allowed {
        return None;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
        if row.iter().min().is_some_and(|&least| least > allowed) {
            return None;
        }
    }
    let distance = row[right.len()];
    (distance <= allowed).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_like() {
        for good in ["a", "banking77", "v1.2_x-y", "0"] {
            assert_eq!(good.parse::<Name>().map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "Big", "-a", ".", "a/b", "a b", "é", &"a".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn nearest_names_come_first_and_far_ones_not_at_all() {
        let names = ["billing", "bill", "shipping", "returns"];
        assert_eq!(nearest("biling", names, 2), ["billing"]);
        assert_eq!(nearest("bil", ["bill", "bilk", "bile", "tuesday"], 2), ["bile", "bilk"]);
        assert!(nearest("weather", names, 3).is_empty());
        assert_eq!(nearest("Shiping", names, 1), ["shipping"]);
    }
}
