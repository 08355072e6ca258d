//! A window over a stream of bytes that holds at least the row at hand.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter};

/// What is read at a time: fits the second-level cache with what is made of it.
const WINDOW_BYTES: usize = 256 * 1024;
/// What is read first: most files that are looked into are small.
const FIRST_WINDOW_BYTES: usize = 8 * 1024;

pub(crate) struct Window<R> {
    source: R,
    buffer: Vec<u8>,
    filled: usize,
    at_end: bool,
    /// Start of the unconsumed bytes.
    start: usize,
    /// Line ends before `counted_to` in the stream.
    lines: u64,
    counted_to: usize,
    ended_in_cr: bool,
}

impl<R: Read> Window<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            buffer: vec![0; FIRST_WINDOW_BYTES],
            filled: 0,
            at_end: false,
            start: 0,
            lines: 0,
            counted_to: 0,
            ended_in_cr: false,
        }
    }

    /// The unconsumed bytes in memory.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.filled]
    }

    /// Whether nothing follows the bytes in memory.
    pub(crate) fn at_end(&self) -> bool {
        self.at_end
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        debug_assert!(self.start <= self.filled, "only what is there is consumed");
    }

    /// Where the unconsumed bytes begin in the buffer, to look back at what was consumed since.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Goes back to an earlier [`start`](Self::start), if no refill came between.
    pub(crate) fn go_back(&mut self, start: usize) {
        debug_assert!(start <= self.start && self.counted_to <= start, "it is still there");
        self.start = start;
    }

    /// Bytes by their place in the buffer.
    pub(crate) fn at(&self, start: usize, end: usize) -> &[u8] {
        &self.buffer[start..end]
    }

    /// Reads on until the buffer is full or the source ends; grows when nothing is consumed.
    pub(crate) fn refill(&mut self) -> io::Result<()> {
        self.count_lines_to(self.start);
        let was_full = self.filled == self.buffer.len();
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        self.counted_to = 0;
        let small = self.buffer.len() < WINDOW_BYTES;
        if self.filled > self.buffer.len() / 2 || (small && was_full) {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        while self.filled < self.buffer.len() {
            match self.source.read(&mut self.buffer[self.filled..]) {
                Ok(0) => {
                    self.at_end = true;
                    break;
                }
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The number of the physical line that begins at a place in the buffer, from 1. Places
    /// may only be asked for in order, short of going back.
    pub(crate) fn line_at(&mut self, place: usize) -> u64 {
        if place < self.counted_to {
            // Only bytes already counted lie between, and they end at the row at hand.
            let ahead = &self.buffer[place..self.counted_to];
            return self.lines + 1 - count_line_ends(ahead, &mut false);
        }
        self.count_lines_to(place);
        self.lines + 1
    }

    fn count_lines_to(&mut self, place: usize) {
        let region = &self.buffer[self.counted_to..place.max(self.counted_to)];
        self.lines += count_line_ends(region, &mut self.ended_in_cr);
        self.counted_to = place.max(self.counted_to);
    }
}

/// Lines end with LF, CR LF or CR. `ended_in_cr` carries a CR over to the next region.
fn count_line_ends(region: &[u8], ended_in_cr: &mut bool) -> u64 {
    let Some(&last) = region.last() else {
        return 0;
    };
    let mut ends = memchr_iter(b'\n', region).count();
    if *ended_in_cr && region[0] == b'\n' {
        ends -= 1;
    }
    if memchr(b'\r', region).is_some() {
        let lone = |&at: &usize| region.get(at + 1) != Some(&b'\n');
        ends += memchr_iter(b'\r', region).filter(lone).count();
    }
    *ended_in_cr = last == b'\r';
    ends as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_count_the_same_in_any_pieces() {
        let text = b"a\nb\r\nc\rd\r\r\n\n\re";
        let whole = count_line_ends(text, &mut false);
        assert_eq!(whole, 7);
        for cut in 0..=text.len() {
            let mut carry = false;
            let left = count_line_ends(&text[..cut], &mut carry);
            assert_eq!(left + count_line_ends(&text[cut..], &mut carry), whole, "{cut}");
        }
    }
}
