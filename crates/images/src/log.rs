//! What a build says while it runs.

use std::collections::VecDeque;
use std::sync::Mutex;

/// Lines of output that a failed step's error carries.
const TAIL_LINES: usize = 40;

/// Bytes of a line that the tail keeps: a progress bar without line ends is one line.
const TAIL_LINE_BYTES: usize = 2048;

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineSource {
    /// What the builder says about itself: which command begins, what was found in the cache.
    Builder,
    Output,
    Error,
}

/// A line of a build's log, without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildLine<'a> {
    pub source: LineSource,
    pub text: &'a str,
}

/// Who listens to a build. Called from whatever thread reads the output.
pub trait BuildLog: Send + Sync {
    fn line(&self, line: BuildLine<'_>);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl BuildLog for Silent {
    fn line(&self, _: BuildLine<'_>) {}
}

/// Hands lines on and keeps the last ones, for the error of a step that fails.
pub(crate) struct Tail<'a> {
    log: &'a dyn BuildLog,
    lines: Mutex<VecDeque<String>>,
}

impl<'a> Tail<'a> {
    pub fn of(log: &'a dyn BuildLog) -> Self {
        Self { log, lines: Mutex::new(VecDeque::new()) }
    }

    pub fn text(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl BuildLog for Tail<'_> {
    fn line(&self, line: BuildLine<'_>) {
        let mut lines = self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line.text[..line.text.floor_char_boundary(TAIL_LINE_BYTES)].to_owned());
        drop(lines);
        self.log.line(line);
    }
}

/// A line of the builder's own.
pub(crate) fn say(log: &dyn BuildLog, text: &str) {
    log.line(BuildLine { source: LineSource::Builder, text });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_keeps_the_last_lines_and_cuts_long_ones() {
        let tail = Tail::of(&Silent);
        for number in 0..100 {
            say(&tail, &number.to_string());
        }
        say(&tail, &"é".repeat(5000));
        let text = tail.text();
        assert_eq!(text.lines().count(), TAIL_LINES);
        assert!(text.starts_with("61\n"));
        assert!(text.len() < TAIL_LINES * 4 + TAIL_LINE_BYTES);
    }
}
