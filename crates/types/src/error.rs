//! What an error means to whoever receives it, whatever module it came from.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The meaning of a failure: one table gives each its HTTP status, gRPC code and exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong; the same request fails again.
    Invalid,
    /// No token, or one that is not known.
    Unauthenticated,
    /// A known token without the right.
    Forbidden,
    /// The named thing does not exist, or not for this caller.
    NotFound,
    /// The thing exists already, or is in a state that does not allow this.
    Conflict,
    /// Larger than a named limit.
    TooLarge,
    /// A quota or queue is full at the moment.
    Exhausted,
    /// It took longer than it was given.
    Timeout,
    /// Not served at the moment.
    Unavailable,
    /// Not supported by this server.
    Unsupported,
    /// Stored bytes are damaged.
    DataLoss,
    /// A defect or a failure of the machine.
    Internal,
}

impl ErrorKind {
    pub const ALL: [Self; 12] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::TooLarge,
        Self::Exhausted,
        Self::Timeout,
        Self::Unavailable,
        Self::Unsupported,
        Self::DataLoss,
        Self::Internal,
    ];

    /// `(word, HTTP status, gRPC code, process exit code)`.
    const fn row(self) -> (&'static str, u16, i32, u8) {
        match self {
            Self::Invalid => ("invalid", 400, 3, 2),
            Self::Unauthenticated => ("unauthenticated", 401, 16, 3),
            Self::Forbidden => ("forbidden", 403, 7, 3),
            Self::NotFound => ("not_found", 404, 5, 4),
            Self::Conflict => ("conflict", 409, 9, 5),
            Self::TooLarge => ("too_large", 413, 8, 2),
            Self::Exhausted => ("exhausted", 429, 8, 6),
            Self::Timeout => ("timeout", 504, 4, 7),
            Self::Unavailable => ("unavailable", 503, 14, 6),
            Self::Unsupported => ("unsupported", 501, 12, 2),
            Self::DataLoss => ("data_loss", 500, 15, 8),
            Self::Internal => ("internal", 500, 13, 1),
        }
    }

    /// The word by which the REST API names the kind.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    pub const fn http_status(self) -> u16 {
        self.row().1
    }

    pub const fn grpc_code(self) -> i32 {
        self.row().2
    }

    pub const fn exit_code(self) -> u8 {
        self.row().3
    }

    /// Whether the same request can succeed later.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Exhausted | Self::Timeout | Self::Unavailable)
    }

    /// The kind a word names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// An error that can be told to a person: what kind it is, and what to do next.
///
/// Every error that reaches an edge implements this; the edge turns it into a [`Failure`].
pub trait Explain: Error + Send + Sync + 'static {
    fn kind(&self) -> ErrorKind;

    /// What the person can do about it, as a sentence without a full stop.
    fn hint(&self) -> Option<String> {
        None
    }

    /// After how long the same may succeed, where that is known.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// An error as an edge reports it: words only, the original already taken apart.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: ErrorKind,
    pub message: String,
    pub causes: Vec<String>,
    pub hint: Option<String>,
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hint: None, retry_after: None }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            kind: error.kind(),
            message: error.to_string(),
            causes: source_chain(&error),
            hint: error.hint(),
            retry_after: error.retry_after(),
        }
    }
}

/// The messages of an error's sources, outermost first.
pub fn source_chain(error: &dyn Error) -> Vec<String> {
    let mut messages = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        messages.push(error.to_string());
        cause = error.source();
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_kinds() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::from_word(kind.as_str()), Some(kind));
        }
        assert_eq!(ErrorKind::from_word("nonsense"), None);
    }
}
