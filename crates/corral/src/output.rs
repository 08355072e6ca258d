//! What goes to standard output: tables for people, JSON where asked for.

use std::io::{IsTerminal, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Text,
    Json,
}

impl Output {
    pub fn from_flag(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }

    /// Writes `value` as JSON, or the lines that `text` makes of it.
    pub fn show<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) {
        match self {
            Self::Json => print_line(
                &serde_json::to_string_pretty(value).expect("answers have string keys only"),
            ),
            Self::Text => {
                let text = text(value);
                if !text.is_empty() {
                    print_line(text.trim_end());
                }
            }
        }
    }
}

/// Writes a line to standard output; a reader that has closed it ends the program quietly,
/// as `head` expects.
pub fn print_line(line: &str) {
    let mut stdout = std::io::stdout().lock();
    if writeln!(stdout, "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Writes text to standard output as it is; otherwise as [`print_line`].
pub fn print_text(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}

/// A table with a header; a header that begins with `#` marks a column of numbers.
pub fn table<const N: usize>(
    headers: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.map(|header| header.trim_start_matches('#').to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for (index, header) in headers.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            if header.starts_with('#') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    let lines: Vec<String> =
        table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Names and values, one pair a line.
pub fn fields<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Whether progress may be drawn: only for a person who watches.
pub fn draws_progress() -> bool {
    std::io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_numbers_to_the_right() {
        let text = table(["name", "#rows"], [["a".into(), "1".into()], ["b".into(), "100".into()]]);
        assert_eq!(text, "NAME  ROWS\na        1\nb      100");
    }
}
