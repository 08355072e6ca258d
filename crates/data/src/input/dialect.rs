//! Finding out how a CSV file is separated and quoted, and whether its first row is a header.

use std::collections::HashMap;

use super::csv::{CsvReader, Dialect};
use crate::import::{Header, ImportOptions, QuoteChoice, is_known_column_name};

/// Records of the beginning that are looked at.
const SAMPLED_RECORDS: usize = 500;
/// A header's fields are names: longer ones are values.
const LONGEST_HEADER_FIELD: usize = 64;
/// Delimiters that are tried, the likelier first among equals.
const DELIMITERS: [u8; 4] = [b'\t', b',', b';', b'|'];

/// How well a dialect explains the beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    pub dialect: Dialect,
    /// Records that have the commonest number of fields and no defect, of a thousand.
    pub regular_per_mille: usize,
    /// The commonest number of fields.
    pub fields: usize,
    pub records: usize,
    /// A field begins and ends with a quote that was read as part of it.
    has_enclosed: bool,
}

/// The dialect that explains a file's beginning best. `whole` says that it is the whole file;
/// otherwise its last record is cut off and not counted.
pub(crate) fn detect(beginning: &[u8], whole: bool, options: &ImportOptions) -> Fit {
    let delimiters = match options.delimiter {
        Some(delimiter) => vec![delimiter],
        None => DELIMITERS.to_vec(),
    };
    let quotes = match options.quote {
        QuoteChoice::Detect => vec![Some(b'"'), None],
        QuoteChoice::With(quote) => vec![Some(quote)],
        QuoteChoice::Never => vec![None],
    };
    let best = |quote: Option<u8>| {
        let fits = delimiters.iter().map(|&delimiter| {
            let fit = measure(beginning, whole, Dialect { delimiter, quote });
            // A single column is regular under every delimiter that does not occur in it.
            let separated = fit.fields > 1 && fit.regular_per_mille >= 500;
            (fit, (separated, fit.regular_per_mille, fit.fields))
        });
        // The first of equals.
        fits.reduce(|best, next| if next.1 > best.1 { next } else { best })
            .expect("at least one delimiter was tried")
    };
    let (mut fit, mut rank) = best(quotes[0]);
    if let [_, unquoted] = quotes[..] {
        // Quotes mean nothing only if the file makes sense that way alone.
        let (plain, plain_rank) = best(unquoted);
        if plain_rank > rank && plain.regular_per_mille >= 950 && !plain.has_enclosed {
            (fit, rank) = (plain, plain_rank);
        }
    }
    if rank.0 || options.delimiter.is_some() {
        return fit;
    }
    // Nothing separates the lines: one column, for which the comma is as good as any.
    measure(beginning, whole, Dialect { delimiter: b',', quote: quotes[0] })
}

fn measure(beginning: &[u8], whole: bool, dialect: Dialect) -> Fit {
    let (records, _) = sample(beginning, whole, dialect);
    let mut counts: HashMap<usize, usize> = HashMap::new();
    for record in records.iter().flatten() {
        *counts.entry(record.len()).or_default() += 1;
    }
    let commonest = counts.into_iter().max_by_key(|&(fields, records)| (records, fields));
    let (fields, regular) = commonest.unwrap_or((0, 0));
    let regular_per_mille = (regular * 1000).checked_div(records.len()).unwrap_or(0);
    let enclosed =
        |field: &String| field.len() > 1 && field.starts_with('"') && field.ends_with('"');
    let has_enclosed = dialect.quote.is_none() && records.iter().flatten().flatten().any(enclosed);
    Fit { dialect, regular_per_mille, fields, records: records.len(), has_enclosed }
}

/// The first records, `None` for one with a defect, and whether the sample reached the end.
fn sample(beginning: &[u8], whole: bool, dialect: Dialect) -> (Vec<Option<Vec<String>>>, bool) {
    let mut reader = CsvReader::new(beginning, dialect, usize::MAX);
    let mut records = Vec::new();
    while records.len() < SAMPLED_RECORDS {
        let Ok(Some(defect)) = reader.next_record() else {
            if !whole && records.len() > 1 {
                records.pop();
            }
            return (records, true);
        };
        records.push(defect.is_none().then(|| {
            let fields = (0..reader.len()).map(|index| reader.field(index).bytes);
            fields.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
        }));
    }
    (records, false)
}

/// Whether the first record names the columns.
pub(crate) fn has_header(
    beginning: &[u8],
    whole: bool,
    dialect: Dialect,
    options: &ImportOptions,
) -> bool {
    match options.header {
        Header::Present => return true,
        Header::Absent => return false,
        Header::Detect => {}
    }
    let (records, _) = sample(beginning, whole, dialect);
    let records: Vec<Vec<String>> = records.into_iter().flatten().collect();
    let Some((first, rest)) = records.split_first() else {
        return true;
    };
    is_header(first, rest, options)
}

/// The same for rows that are split already.
pub(crate) fn is_header(first: &[String], rest: &[Vec<String>], options: &ImportOptions) -> bool {
    let trimmed: Vec<&str> = first.iter().map(|field| field.trim()).collect();
    let named = options.text.iter().any(|wanted| trimmed.contains(&wanted.as_str()));
    if named || trimmed.iter().any(|field| is_known_column_name(field)) {
        return true;
    }
    let is_name = |field: &&str| {
        !field.is_empty() && field.len() <= LONGEST_HEADER_FIELD && field.parse::<f64>().is_err()
    };
    if !trimmed.iter().all(is_name) {
        return false;
    }
    let distinct = (1..trimmed.len()).all(|at| !trimmed[..at].contains(&trimmed[at]));
    // A first row that occurs again, or a single column of names, is data.
    distinct && trimmed.len() > 1 && !rest.iter().any(|record| record == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(text: &str) -> (char, bool) {
        let fit = detect(text.as_bytes(), true, &ImportOptions::default());
        (fit.dialect.delimiter as char, fit.dialect.quote.is_some())
    }

    #[test]
    fn delimiters_and_quotes_are_found() {
        assert_eq!(dialect("text,label\na,b\n\"c, d\",e\n"), (',', true));
        assert_eq!(dialect("text;label\n1,5;b\n2,5;c\nx;y\n"), (';', true));
        assert_eq!(dialect("a\tb\tc\n\"5 inch\tx\ty\n6\" disk\tx\ty\nz\tx\ty\n"), ('\t', false));
        assert_eq!(dialect("a|b\nc|d\n"), ('|', true));
        assert_eq!(dialect("one line\nanother, line\nthird\n"), (',', true));
        assert_eq!(dialect(""), (',', true));
    }

    #[test]
    fn headers_are_told_from_data() {
        let header = |text: &str| {
            let options = ImportOptions::default();
            let fit = detect(text.as_bytes(), true, &options);
            has_header(text.as_bytes(), true, fit.dialect, &options)
        };
        assert!(header("text,label\nhello,1\n"));
        assert!(header("O*NET-SOC Code\tAlternate Title\n11-1011.00\tAid\n"));
        assert!(!header("3,Wall St. Bears,\"Short sellers\"\n3,Carlyle,\"Private\"\n"));
        assert!(!header("hello there\nhow are you\n"));
        assert!(header("sentence\nhow are you\n"));
    }
}
