//! Bytes that a job prints, cut into lines of a bounded length.

use corral_worker_api::MAX_LOG_LINE_BYTES;

/// What stands where the rest of a long line was.
const CUT_MARK: &str = " … [cut]";

/// Collects bytes and gives lines. Holds at most one line, whatever comes.
#[derive(Default)]
pub struct LineSplitter {
    line: Vec<u8>,
    is_cut: bool,
}

impl LineSplitter {
    /// Adds bytes and gives the lines that they end.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut pieces = bytes.split(|&byte| byte == b'\n');
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            self.keep(piece);
            lines.push(self.take());
        }
        self.keep(last);
        lines
    }

    /// The last line, when it was not ended.
    pub fn finish(mut self) -> Option<String> {
        (!self.line.is_empty()).then(|| self.take())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LOG_LINE_BYTES - CUT_MARK.len() - self.line.len();
        self.is_cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn take(&mut self) -> String {
        let mut bytes = std::mem::take(&mut self.line);
        let cut = std::mem::take(&mut self.is_cut);
        if cut {
            // A character in two halves would come out as a replacement mark.
            let whole = bytes.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
            if bytes.len() - whole < 4 {
                bytes.truncate(whole);
            }
        } else if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let mut line = String::from_utf8_lossy(&bytes).into_owned();
        // Replacement marks are longer than what they replace.
        while line.len() > MAX_LOG_LINE_BYTES - CUT_MARK.len() {
            line.pop();
        }
        if cut {
            line.push_str(CUT_MARK);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let text = "one\r\n\ntwo ünï\nthree";
        for size in 1..=text.len() {
            let mut splitter = LineSplitter::default();
            let mut lines: Vec<String> =
                text.as_bytes().chunks(size).flat_map(|chunk| splitter.push(chunk)).collect();
            lines.extend(splitter.finish());
            assert_eq!(lines, ["one", "", "two ünï", "three"]);
        }
    }

    #[test]
    fn long_lines_are_cut_and_marked_and_the_next_is_whole() {
        let mut splitter = LineSplitter::default();
        for _ in 0..100 {
            assert!(splitter.push(&[b'x'; 1000]).is_empty());
        }
        assert_eq!(splitter.push("é\nnext\n".as_bytes()).len(), 2);
        let mut splitter = LineSplitter::default();
        let lines = splitter.push(format!("{}\nnext\n", "é".repeat(20_000)).as_bytes());
        assert!(lines[0].len() <= MAX_LOG_LINE_BYTES && lines[0].ends_with(CUT_MARK));
        assert!(!lines[0].contains('\u{fffd}'));
        assert_eq!(lines[1], "next");
    }

    #[test]
    fn bytes_that_are_not_text_stay_within_the_limit() {
        let mut splitter = LineSplitter::default();
        let mut bytes = vec![0xff; 50_000];
        bytes.push(b'\n');
        let lines = splitter.push(&bytes);
        assert!(lines[0].len() <= MAX_LOG_LINE_BYTES && lines[0].starts_with('\u{fffd}'));
    }
}
