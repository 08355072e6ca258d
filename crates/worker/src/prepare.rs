//! What an attempt needs on this machine before its process starts, and after it has ended:
//! inputs from the server, outputs into the store.

use std::fs;
use std::path::{Path, PathBuf};

use corral_blobs::{BlobError, BlobStore};
use corral_types::{BlobHash, Explain, source_chain};
use corral_worker_api::{Output, Start};

use crate::Worker;
use crate::attempt::Attempt;
use crate::backoff::Backoff;
use crate::connection::CallError;
use crate::directory::{WORK_DIRECTORY, write_durably};
use crate::job::{DESCRIPTION_FILE, JobDescription, JobFailure, JobOutput};

/// Fetches what is missing and writes what the job process reads. Goes on for as long as the
/// server is away.
///
/// # Errors
/// When the server does not have an input, or this machine has no room for it.
pub async fn prepare(worker: &Worker, attempt: &Attempt, start: Start) -> Result<(), JobFailure> {
    let wanted: Vec<BlobHash> = start.inputs.iter().copied().chain(start.checkpoint).collect();
    attempt.hold_inputs(wanted.iter().copied());
    let mut paths = Vec::with_capacity(wanted.len());
    for hash in wanted {
        paths.push(have_blob(worker, attempt, hash).await?);
    }
    let checkpoint = start.checkpoint.and_then(|_| paths.pop());
    let inputs = start.inputs.iter().copied().zip(paths).collect();
    let description = JobDescription { start, inputs, checkpoint };
    let file = attempt.directory.join(DESCRIPTION_FILE);
    let bytes = serde_json::to_vec(&description).map_err(|error| JobFailure::from_error(&error))?;
    write_durably(&file, &bytes)
        .map_err(|error| JobFailure::retryable(format!("write {}: {error}", file.display())))
}

async fn have_blob(
    worker: &Worker,
    attempt: &Attempt,
    hash: BlobHash,
) -> Result<PathBuf, JobFailure> {
    let mut backoff = Backoff::default();
    loop {
        // Making it young again keeps it from being dropped before others.
        let kept = in_background(&worker.blobs, move |blobs| {
            if blobs.revive(&hash)? { blobs.local_path(&hash).map(Some) } else { Ok(None) }
        });
        if let Some(path) = kept.await? {
            return Ok(path);
        }
        match worker.connection.fetch_blob(hash, &worker.blobs).await {
            Ok(()) => {}
            Err(error) if error.is_temporary() => {
                tracing::debug!(attempt = %attempt.id, %hash, %error, "an input must wait");
                backoff.wait().await;
            }
            Err(error) => return Err(not_fetched(hash, &error)),
        }
    }
}

fn not_fetched(hash: BlobHash, error: &CallError) -> JobFailure {
    let mut causes = vec![error.to_string()];
    causes.extend(source_chain(error));
    // Another worker may have the room or the luck; a blob that is gone is gone for all.
    let retryable = !matches!(error, CallError::BlobNotFound(_));
    let hint = match error {
        CallError::Blob(error) => error.hint(),
        _ => None,
    };
    let message = format!("the input {} could not be fetched", hash.short());
    JobFailure { message, causes, hint, retryable }
}

/// Stores the files of a job that succeeded.
///
/// # Errors
/// When one is not a file in the job's work directory, or cannot be stored.
pub async fn keep_outputs(
    worker: &Worker,
    attempt: &Attempt,
    outputs: &JobOutput,
) -> Result<Vec<Output>, JobFailure> {
    let work_dir = attempt.directory.join(WORK_DIRECTORY);
    let mut kept = Vec::with_capacity(outputs.outputs.len());
    for (name, path) in &outputs.outputs {
        let path = file_below(&work_dir, path).map_err(|error| {
            JobFailure::permanent(format!("the output `{name}` ({}): {error}", path.display()))
        })?;
        let put = in_background(&worker.blobs, move |blobs| blobs.adopt_file(path)).await?;
        attempt.hold_fresh(put.hash);
        kept.push(Output { name: name.clone(), blob: put.hash, bytes: put.bytes });
    }
    Ok(kept)
}

/// Stores the state that a job hands over.
///
/// # Errors
/// When it is not a file in the attempt's directory, or cannot be stored.
pub async fn keep_checkpoint(
    worker: &Worker,
    attempt: &Attempt,
    file: &Path,
) -> Result<BlobHash, JobFailure> {
    let path = file_below(&attempt.directory, file)
        .map_err(|error| JobFailure::permanent(format!("the checkpoint: {error}")))?;
    let put = in_background(&worker.blobs, move |blobs| blobs.adopt_file(path)).await?;
    attempt.hold_fresh(put.hash);
    Ok(put.hash)
}

/// The regular file at `path`, which must be below `directory` when every link is followed:
/// a job shall not hand over files of the machine.
fn file_below(directory: &Path, path: &Path) -> std::io::Result<PathBuf> {
    let directory = fs::canonicalize(directory)?;
    let path = fs::canonicalize(directory.join(path))?;
    if !path.starts_with(&directory) {
        return Err(std::io::Error::other("it is not below the job's directory"));
    }
    if !fs::metadata(&path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    Ok(path)
}

/// Runs a call of the blob store, which blocks on the disk, where that is allowed.
async fn in_background<T: Send + 'static>(
    blobs: &BlobStore,
    call: impl FnOnce(&BlobStore) -> Result<T, BlobError> + Send + 'static,
) -> Result<T, JobFailure> {
    let blobs = blobs.clone();
    let result = tokio::task::spawn_blocking(move || call(&blobs)).await;
    result.expect("calls of the blob store do not panic").map_err(|error| {
        let hint = error.hint();
        JobFailure { hint, retryable: true, ..JobFailure::from_error(&error) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_below_the_directory_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        fs::create_dir(&work).unwrap();
        fs::write(work.join("good"), b"x").unwrap();
        fs::write(dir.path().join("outside"), b"x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", work.join("link")).unwrap();
        assert!(file_below(&work, Path::new("good")).is_ok());
        assert!(file_below(&work, &work.join("good")).is_ok());
        for bad in ["../outside", "link", "/etc/passwd", "missing", "."] {
            assert!(file_below(&work, Path::new(bad)).is_err(), "{bad}");
        }
    }
}
