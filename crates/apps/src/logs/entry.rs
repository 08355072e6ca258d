//! Lines of logs, and which of them are asked for.

use corral_types::{CallId, ContainerId, FunctionId, InputId, Timestamp};
use serde::{Deserialize, Serialize};

/// The longest text of one entry; longer ones are cut.
pub(crate) const MAX_TEXT_BYTES: usize = 64 << 10;

/// A line to be noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLogLine {
    #[serde(rename = "at")]
    pub at: Timestamp,
    /// 1 is standard output, 2 standard error, 3 what Corral says.
    #[serde(rename = "fd")]
    pub descriptor: u8,
    #[serde(rename = "ta", default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerId>,
    #[serde(rename = "fu", default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionId>,
    #[serde(rename = "fc", default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    #[serde(rename = "in", default, skip_serializing_if = "Option::is_none")]
    pub input: Option<InputId>,
    #[serde(rename = "text")]
    pub text: String,
}

/// A line that was noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Counted from 1 in its app.
    #[serde(rename = "n")]
    pub number: u64,
    #[serde(flatten)]
    pub line: NewLogLine,
}

/// Which lines are wanted: those that agree with everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    pub descriptor: Option<u8>,
    pub container: Option<ContainerId>,
    /// One of these, if there are any.
    pub functions: Vec<FunctionId>,
    pub call: Option<CallId>,
    pub input: Option<InputId>,
    /// Is in the text.
    pub text: String,
}

impl LogFilter {
    pub(crate) fn passes(&self, line: &NewLogLine) -> bool {
        let agrees = |wanted: bool, found: bool| !wanted || found;
        agrees(self.descriptor.is_some(), self.descriptor == Some(line.descriptor))
            && agrees(self.container.is_some(), self.container == line.container)
            && agrees(self.call.is_some(), self.call == line.call)
            && agrees(self.input.is_some(), self.input == line.input)
            && (self.functions.is_empty()
                || line.function.is_some_and(|function| self.functions.contains(&function)))
            && line.text.contains(&self.text)
    }
}

/// From a moment to before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    pub since: Timestamp,
    pub until: Timestamp,
}

impl TimeRange {
    pub(crate) fn contains(&self, at: Timestamp) -> bool {
        self.since <= at && at < self.until
    }
}
