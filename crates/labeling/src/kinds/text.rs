//! What texts are like: how long, and of what shape.

use super::{TextBlock, rows_where};
use crate::definition::{Lengths, Shape, Trait};

/// The rows whose text is as long.
pub fn length(lengths: &Lengths, block: &TextBlock<'_>) -> Vec<u64> {
    rows_where(block.rows(), |row| {
        let text = block.text(row);
        lengths.chars.is_none_or(|range| range.contains(text.chars().count()))
            && lengths.words.is_none_or(|range| range.contains(text.split_whitespace().count()))
    })
}

/// The rows whose text has any of the traits.
pub fn shape(shape: &Shape, block: &TextBlock<'_>) -> Vec<u64> {
    rows_where(block.rows(), |row| {
        let text = block.text(row);
        shape.has.iter().any(|wanted| has(text, *wanted))
    })
}

fn has(text: &str, wanted: Trait) -> bool {
    let end = || text.trim_end().chars().next_back();
    match wanted {
        Trait::Empty => text.trim().is_empty(),
        Trait::Question => end() == Some('?'),
        Trait::Exclamation => end() == Some('!'),
        Trait::Digit => text.bytes().any(|byte| byte.is_ascii_digit()),
        Trait::Url => ["http://", "https://", "www."].iter().any(|start| text.contains(start)),
        Trait::Email => text.split_whitespace().any(is_email),
        Trait::Money => is_money(text),
        Trait::Capitals => {
            let mut letters = text.chars().filter(|c| c.is_alphabetic()).peekable();
            letters.peek().is_some() && letters.all(char::is_uppercase)
        }
        Trait::Foreign => !text.is_ascii(),
    }
}

fn is_email(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    word.split_once('@').is_some_and(|(name, domain)| {
        !name.is_empty()
            && domain
                .split_once('.')
                .is_some_and(|(host, rest)| !host.is_empty() && !rest.is_empty())
    })
}

fn is_money(text: &str) -> bool {
    let chars: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let is_sign = |c: char| matches!(c, '$' | '£' | '€' | '¥' | '₹');
    chars.windows(2).any(|pair| {
        is_sign(pair[0]) && pair[1].is_ascii_digit() || pair[0].is_ascii_digit() && is_sign(pair[1])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traits_are_seen() {
        let check = |text: &str, wanted: &[Trait]| {
            let all = [
                Trait::Empty,
                Trait::Question,
                Trait::Exclamation,
                Trait::Digit,
                Trait::Url,
                Trait::Email,
                Trait::Money,
                Trait::Capitals,
                Trait::Foreign,
            ];
            let found: Vec<Trait> = all.into_iter().filter(|wanted| has(text, *wanted)).collect();
            assert_eq!(found, wanted, "{text:?}");
        };
        check("  ", &[Trait::Empty]);
        check("WHY ME? ", &[Trait::Question, Trait::Capitals]);
        check(
            "it cost 5 € at www.x.org!",
            &[Trait::Exclamation, Trait::Digit, Trait::Url, Trait::Money, Trait::Foreign],
        );
        check("mail (me@example.org).", &[Trait::Email]);
        check("me@home", &[]);
    }
}
