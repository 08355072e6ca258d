//! What the worker and a job process say to each other over the control channel: frames of
//! a four-byte little-endian length and JSON.

use std::path::PathBuf;

use corral_types::BlobHash;
use corral_worker_api::{Limits, Start, StopReason};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{JobFailure, JobOutput};

/// The longest frame, so that a handler cannot make the worker hold an arbitrary amount.
pub const MAX_JOB_MESSAGE_BYTES: usize = 4 << 20;

/// The file in the attempt's directory from which the job process learns what to do.
pub const DESCRIPTION_FILE: &str = "job.json";

/// The environment variable that names the attempt's directory to the job process.
pub const DIRECTORY_VARIABLE: &str = "CORRAL_ATTEMPT_DIRECTORY";

/// Everything a job process needs to know at its start.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobDescription {
    pub start: Start,
    /// Where each input lies on this machine.
    pub inputs: Vec<(BlobHash, PathBuf)>,
    /// The file with the state of an earlier attempt.
    pub checkpoint: Option<PathBuf>,
}

/// Said by the job process.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromJob {
    Progress {
        fraction: f32,
        message: String,
        detail: Value,
    },
    /// The file holds state to go on from; answered by [`ToJob::CheckpointKept`].
    Checkpoint {
        file: PathBuf,
    },
    Succeeded(JobOutput),
    Failed(JobFailure),
}

/// Said by the worker.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToJob {
    /// End; the process is killed after a short grace.
    Stop {
        reason: StopReason,
    },
    /// The worker itself ends: keep state now, the job goes on elsewhere.
    WorkerEnds,
    Limits {
        limits: Limits,
    },
    /// The state is on the worker's disk, or why not.
    CheckpointKept {
        refused: Option<String>,
    },
}

/// A frame that breaks the protocol.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a message of {bytes} bytes is over the limit of {MAX_JOB_MESSAGE_BYTES}")]
    TooLong { bytes: usize },
    #[error("a message is not understood")]
    Json(#[source] serde_json::Error),
}

/// The message as a frame.
///
/// # Errors
/// When it is longer than [`MAX_JOB_MESSAGE_BYTES`].
pub fn encode_frame(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Json)?;
    let bytes = frame.len() - 4;
    if bytes > MAX_JOB_MESSAGE_BYTES {
        return Err(FrameError::TooLong { bytes });
    }
    frame[..4].copy_from_slice(&(bytes as u32).to_le_bytes());
    Ok(frame)
}

/// The whole frames at the front of `buffer`, which keeps the rest.
///
/// # Errors
/// On a frame that is too long or not a message; the channel is then of no further use.
pub fn decode_frames<M: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Vec<M>, FrameError> {
    let mut messages = Vec::new();
    let mut at = 0;
    while let Some(length) = buffer.get(at..at + 4) {
        let bytes = u32::from_le_bytes(length.try_into().expect("a slice of four bytes")) as usize;
        if bytes > MAX_JOB_MESSAGE_BYTES {
            return Err(FrameError::TooLong { bytes });
        }
        let Some(body) = buffer.get(at + 4..at + 4 + bytes) else { break };
        messages.push(serde_json::from_slice(body).map_err(FrameError::Json)?);
        at += 4 + bytes;
    }
    buffer.drain(..at);
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_being_cut_anywhere() {
        let said = [
            FromJob::Progress { fraction: 0.5, message: "half".into(), detail: Value::Null },
            FromJob::Failed(JobFailure::permanent("no")),
        ];
        let bytes: Vec<u8> =
            said.iter().flat_map(|message| encode_frame(message).expect("short")).collect();
        for cut in 0..=bytes.len() {
            let mut buffer = bytes[..cut].to_vec();
            let mut heard: Vec<FromJob> = decode_frames(&mut buffer).expect("well formed");
            buffer.extend_from_slice(&bytes[cut..]);
            heard.extend(decode_frames::<FromJob>(&mut buffer).expect("well formed"));
            assert_eq!(heard, said);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn long_and_foreign_frames_are_refused() {
        let mut long = u32::MAX.to_le_bytes().to_vec();
        assert!(matches!(decode_frames::<FromJob>(&mut long), Err(FrameError::TooLong { .. })));
        let mut foreign = vec![2, 0, 0, 0, b'{', b'}'];
        assert!(matches!(decode_frames::<FromJob>(&mut foreign), Err(FrameError::Json(_))));
        let huge = JobFailure::permanent("x".repeat(MAX_JOB_MESSAGE_BYTES));
        assert!(matches!(encode_frame(&huge), Err(FrameError::TooLong { .. })));
    }
}
