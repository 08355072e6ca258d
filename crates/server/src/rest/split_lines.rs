//! A body cut into its lines, whatever blocks it comes in.

use axum::body::Bytes;

/// A line of a body, numbered from 1.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Without its end, and without spaces around it; never empty.
    Whole {
        number: u64,
        bytes: Vec<u8>,
    },
    TooLong {
        number: u64,
    },
}

/// Cuts blocks into lines; empty ones are counted and passed over.
pub struct SplitLines {
    max_line_bytes: usize,
    block: Bytes,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// Set while the rest of a line that is too long is passed over.
    is_over: bool,
    number: u64,
}

impl SplitLines {
    pub fn new(max_line_bytes: usize) -> Self {
        Self { max_line_bytes, block: Bytes::new(), begun: Vec::new(), is_over: false, number: 1 }
    }

    /// The number of the line that comes next, or has begun.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Takes the next block; the one before is used up once [`Self::next_line`] gave `None`.
    pub fn feed(&mut self, block: Bytes) {
        self.block = block;
    }

    pub fn next_line(&mut self) -> Option<Line> {
        while let Some(end) = self.block.iter().position(|byte| *byte == b'\n') {
            let piece = self.block.split_to(end + 1);
            self.take(&piece[..end]);
            if let Some(line) = self.close() {
                return Some(line);
            }
        }
        let rest = std::mem::take(&mut self.block);
        self.take(&rest);
        None
    }

    /// The last line, if it has no end of its own.
    pub fn finish(&mut self) -> Option<Line> {
        self.close()
    }

    fn take(&mut self, piece: &[u8]) {
        self.is_over |= self.begun.len() + piece.len() > self.max_line_bytes;
        if self.is_over {
            // The memory too: one long line must not stay for the rest of the body.
            self.begun = Vec::new();
        } else {
            self.begun.extend_from_slice(piece);
        }
    }

    fn close(&mut self) -> Option<Line> {
        let number = self.number;
        self.number += 1;
        if std::mem::take(&mut self.is_over) {
            return Some(Line::TooLong { number });
        }
        let bytes = std::mem::take(&mut self.begun);
        let trimmed = bytes.trim_ascii();
        let bytes = if trimmed.len() == bytes.len() { bytes } else { trimmed.to_vec() };
        (!bytes.is_empty()).then_some(Line::Whole { number, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &[u8], step: usize, max_line_bytes: usize) -> Vec<Line> {
        let mut lines = SplitLines::new(max_line_bytes);
        let mut found = Vec::new();
        for block in text.chunks(step) {
            lines.feed(Bytes::copy_from_slice(block));
            found.extend(std::iter::from_fn(|| lines.next_line()));
        }
        found.extend(lines.finish());
        found
    }

    fn whole(number: u64, text: &str) -> Line {
        Line::Whole { number, bytes: text.as_bytes().to_vec() }
    }

    #[test]
    fn blocks_of_any_size_give_the_same_lines() {
        let text = b"first\r\n\n  second \nthird is too long\nlast";
        for step in 1..text.len() {
            let expected = [
                whole(1, "first"),
                whole(3, "second"),
                Line::TooLong { number: 4 },
                whole(5, "last"),
            ];
            assert_eq!(split(text, step, 10), expected, "blocks of {step}");
        }
        assert_eq!(split(b"", 1, 10), []);
        assert_eq!(split(b"\n\n", 1, 10), []);
    }

    #[test]
    fn any_bytes_are_the_lines_that_a_plain_split_gives() {
        for seed in 0..2000u64 {
            let mut random = seed | 1;
            let text: Vec<u8> = (0..seed % 97)
                .map(|_| {
                    random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
                    if random % 5 == 0 { b'\n' } else { u8::try_from(random & 0xff).unwrap() }
                })
                .collect();
            let plain = text.split(|byte| *byte == b'\n').zip(1..).filter_map(|(line, number)| {
                let line = line.trim_ascii();
                (!line.is_empty()).then(|| Line::Whole { number, bytes: line.to_vec() })
            });
            let step = usize::try_from(seed % 13).unwrap() + 1;
            assert_eq!(split(&text, step, 1000), plain.collect::<Vec<_>>(), "seed {seed}");
        }
    }
}
