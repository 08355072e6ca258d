//! How a run tells its caller where it is, and asks whether to go on.

/// What a caller hears from a run and answers to it. Called from one thread at a time.
pub trait Observer: Sync {
    /// `fraction` of the expected work is done. `detail` is for machines: trials done and
    /// running and planned, best score so far, seconds left, memory.
    fn progress(&self, fraction: f32, message: &str, detail: serde_json::Value);

    /// A line for the log.
    fn log(&self, line: &str);

    /// Whether to stop at once; the run ends with [`TrainError::Cancelled`](crate::TrainError).
    /// Asked often, from any thread of the run.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Whether to start no more trials and make the best model of those that are finished.
    fn finish_now(&self) -> bool {
        false
    }

    /// State from which a later run with the same rows and options goes on. Sent after each
    /// finished trial; the last one replaces those before.
    fn checkpoint(&self, state: &[u8]) {
        let _ = state;
    }
}

/// An observer that does not listen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn progress(&self, _: f32, _: &str, _: serde_json::Value) {}

    fn log(&self, _: &str) {}
}
