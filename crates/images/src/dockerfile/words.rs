//! Words of a command: quotes, and variables in them.

use std::iter::Peekable;
use std::str::Chars;

/// Bytes that a word may grow to by its variables.
const MAX_EXPANDED_BYTES: usize = 1 << 20;

/// `${A:-${B:-…}}` may be this deep.
const MAX_DEPTH: usize = 16;

/// The words of a line, at blanks outside quotes; quotes and variables stay as they are.
///
/// # Errors
/// When a quote is not closed.
pub fn raw_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// The words of a line as a shell would hand them over, had it no variables.
///
/// # Errors
/// When a quote is not closed.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    raw_words(text)?.iter().map(|word| Expansion::of(&|_| None, false).word(word)).collect()
}

/// A word such that [`expand`] gives it back.
pub fn quote(word: &str) -> String {
    let mut quoted = String::from("\"");
    for c in word.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// A word without its quotes, with the values of its variables: `$A`, `${A}`, `${A:-other}`,
/// `${A:+other}`. Nothing is replaced within single quotes; a variable without a value is empty.
///
/// # Errors
/// When a brace is not closed, for other forms, and for words that grow past a mebibyte.
pub fn expand(word: &str, value: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    Expansion::of(value, true).word(word)
}

struct Expansion<'a> {
    value: &'a dyn Fn(&str) -> Option<String>,
    variables: bool,
}

impl<'a> Expansion<'a> {
    fn of(value: &'a dyn Fn(&str) -> Option<String>, variables: bool) -> Self {
        Self { value, variables }
    }

    fn word(&self, word: &str) -> Result<String, String> {
        self.until(&mut word.chars().peekable(), None, 0)
    }

    /// Up to `end` outside quotes, or to the end of the text.
    fn until(
        &self,
        chars: &mut Peekable<Chars<'_>>,
        end: Option<char>,
        depth: usize,
    ) -> Result<String, String> {
        if depth > MAX_DEPTH {
            return Err(format!("variables are nested more than {MAX_DEPTH} deep"));
        }
        let mut out = String::new();
        let mut quote = None;
        while let Some(c) = chars.next() {
            match (quote, c) {
                (None, c) if Some(c) == end => return Ok(out),
                (None, '"' | '\'') => quote = Some(c),
                (Some(open), c) if c == open => quote = None,
                (None, '\\') => out.extend(chars.next()),
                (Some('"'), '\\') => match chars.peek() {
                    Some('"' | '\\' | '$') => out.extend(chars.next()),
                    _ => out.push('\\'),
                },
                (None | Some('"'), '$') if self.variables => {
                    self.variable(chars, &mut out, depth)?
                }
                (_, c) => out.push(c),
            }
            if out.len() > MAX_EXPANDED_BYTES {
                return Err("a word grows past 1 MiB by its variables".into());
            }
        }
        match end {
            Some(_) => Err("a `${` is not closed".into()),
            None => Ok(out),
        }
    }

    /// What follows a `$`.
    fn variable(
        &self,
        chars: &mut Peekable<Chars<'_>>,
        out: &mut String,
        depth: usize,
    ) -> Result<(), String> {
        let braces = chars.next_if_eq(&'{').is_some();
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        if !braces {
            match name.is_empty() {
                true => out.push('$'),
                false => out.push_str(&(self.value)(&name).unwrap_or_default()),
            }
            return Ok(());
        }
        let value = (self.value)(&name);
        match chars.next() {
            Some('}') => out.push_str(&value.unwrap_or_default()),
            Some(':') => {
                let form = chars.next();
                let other = self.until(chars, Some('}'), depth + 1)?;
                let value = value.filter(|value| !value.is_empty());
                match form {
                    Some('-') => out.push_str(&value.unwrap_or(other)),
                    Some('+') => out.push_str(if value.is_some() { &other } else { "" }),
                    _ => return Err(format!("`${{{name}:…` is neither `:-` nor `:+`")),
                }
            }
            _ => return Err(format!("`${{{name}` is not closed by `}}`")),
        }
        Ok(())
    }
}
