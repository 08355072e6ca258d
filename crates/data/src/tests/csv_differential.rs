//! Our CSV parser against the `csv` crate, on random bytes that are mostly special ones, in
//! pieces of random sizes.

use super::{Pieces, Random};
use crate::input::csv::{CsvReader, Dialect};

fn ours(bytes: &[u8], dialect: Dialect, random: Random, longest: usize) -> Vec<Vec<Vec<u8>>> {
    let pieces = Pieces { bytes, random, longest };
    let mut reader = CsvReader::new(pieces, dialect, usize::MAX);
    let mut records = Vec::new();
    while reader.next_record().unwrap().is_some() {
        records.push((0..reader.len()).map(|index| reader.field(index).bytes.to_vec()).collect());
    }
    records
}

fn theirs(bytes: &[u8], dialect: Dialect) -> Vec<Vec<Vec<u8>>> {
    let mut builder = csv::ReaderBuilder::new();
    builder.has_headers(false).flexible(true).delimiter(dialect.delimiter);
    match dialect.quote {
        Some(quote) => builder.quote(quote),
        None => builder.quoting(false),
    };
    let mut reader = builder.from_reader(bytes);
    let records = reader.byte_records().map(|record| record.unwrap());
    records.map(|record| record.iter().map(<[u8]>::to_vec).collect()).collect()
}

#[test]
fn random_inputs_parse_as_the_csv_crate_parses_them() {
    let alphabet: [&[u8]; 12] =
        [b"a", b"bc", b",", b",", b"\"", b"\"", b"\"\"", b"\n", b"\r\n", b"\r", b";", b"\xc3\xa9"];
    let dialects = [
        Dialect { delimiter: b',', quote: Some(b'"') },
        Dialect { delimiter: b';', quote: Some(b'"') },
        Dialect { delimiter: b',', quote: None },
        Dialect { delimiter: b',', quote: Some(b'a') },
    ];
    for seed in 0..10_000 {
        let mut random = Random(seed);
        let length = random.below(40);
        let bytes: Vec<u8> = (0..length).flat_map(|_| random.pick(&alphabet).to_vec()).collect();
        let dialect = *random.pick(&dialects);
        let longest = *random.pick(&[1, 2, 7, 1000]);
        let expect = theirs(&bytes, dialect);
        let found = ours(&bytes, dialect, random, longest);
        let shown = String::from_utf8_lossy(&bytes);
        assert_eq!(found, expect, "seed {seed}: {shown:?} with {dialect:?}");
    }
}

fn pick<'a>(random: &mut Random, pieces: &[&'a [u8]]) -> &'a [u8] {
    let piece: &&[u8] = random.pick(pieces);
    piece
}

#[test]
fn long_inputs_cross_every_buffer_boundary() {
    let dialect = Dialect { delimiter: b',', quote: Some(b'"') };
    for seed in 0..6 {
        let mut random = Random(seed);
        let mut bytes = Vec::new();
        while bytes.len() < 3_000_000 {
            let fields = 1 + random.below(4);
            for field in 0..fields {
                if field > 0 {
                    bytes.push(b',');
                }
                let length = random.below(*random.clone().pick(&[4, 60, 3000, 400_000])) as usize;
                if random.below(3) == 0 {
                    bytes.push(b'"');
                    for _ in 0..length / 8 {
                        bytes.extend_from_slice(pick(
                            &mut random,
                            &[b"some \"\"te", b"xt,\r\n", b"8 bytes."],
                        ));
                    }
                    bytes.push(b'"');
                } else {
                    bytes.resize(bytes.len() + length, b'x');
                }
            }
            bytes.extend_from_slice(pick(&mut random, &[b"\n", b"\r\n"]));
        }
        let expect = theirs(&bytes, dialect);
        assert!(ours(&bytes, dialect, random, 100_000) == expect, "seed {seed}");
    }
}

#[test]
fn lines_are_counted_where_records_begin() {
    let text = "a,b\r\n\"one\ntwo\",c\n\n\rd,e\n\"x\n";
    for longest in [1, 3, 100] {
        let pieces = Pieces { bytes: text.as_bytes(), random: Random(1), longest };
        let dialect = Dialect { delimiter: b',', quote: Some(b'"') };
        let mut reader = CsvReader::new(pieces, dialect, usize::MAX);
        let mut lines = Vec::new();
        while reader.next_record().unwrap().is_some() {
            lines.push(reader.line());
        }
        assert_eq!(lines, [1, 2, 6, 7]);
    }
}
