//! Asking the model, one chunk of rows after the other.

use std::sync::Arc;

use corral_classifier::{Encoder, Model, PredictOptions, Scratch};
use corral_data::{Batch, Dataset, Manifest, PartStore};
use rayon::prelude::*;

use crate::answers::{AnswerFile, encode};
use crate::{BatchError, BatchOptions};

/// Rows of a chunk of a model without an encoder: some 50 ms of work, so that a wish to end is
/// heard soon.
const CHUNK_ROWS: usize = 8192;
/// Rows of a chunk whose embeddings are held at once.
const ENCODED_CHUNK_ROWS: usize = 512;
/// Rows that one thread answers in a piece.
const ROWS_PER_TASK: usize = 256;

/// Watches the work and can end it.
pub trait Watch {
    /// Called after every chunk, with the file of answers: a flushed copy of it is state to go
    /// on from.
    ///
    /// # Errors
    /// When the file cannot be flushed.
    fn advance(&self, answers: &mut AnswerFile, rows: u64) -> Result<(), BatchError>;

    /// Asked before every chunk.
    fn is_cancelled(&self) -> bool;
}

/// Answers the rows of a data set that `answers` does not have yet, in order, on `threads`
/// threads. Parts are opened one after the other, so that memory does not grow with the rows.
///
/// # Errors
/// When a part cannot be read, the model cannot answer, the answers cannot be written, or the
/// watch says to end.
pub fn answer_rows(
    model: &Model,
    encoder: Option<&dyn Encoder>,
    manifest: &Arc<Manifest>,
    store: &dyn PartStore,
    options: &BatchOptions,
    threads: usize,
    answers: &mut AnswerFile,
    watch: &dyn Watch,
) -> Result<(), BatchError> {
    options.check()?;
    let subset = options.subset(model)?;
    let asked = options.asked(subset.as_ref());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|source| BatchError::Threads { source })?;
    let chunk_rows = if model.encoder().is_some() { ENCODED_CHUNK_ROWS } else { CHUNK_ROWS };
    let total = manifest.rows();
    let mut passed = 0;
    for part in 0..manifest.parts.len() {
        let part_rows = manifest.parts[part].rows;
        if passed + part_rows <= answers.rows() {
            passed += part_rows;
            continue;
        }
        let dataset = Dataset::open_parts(Arc::clone(manifest), part..part + 1, store)?;
        for batch in dataset.iter() {
            let batch = batch?;
            let done = (answers.rows() - passed).min(batch.len() as u64) as usize;
            for first in (done..batch.len()).step_by(chunk_rows) {
                if watch.is_cancelled() {
                    return Err(BatchError::Cancelled);
                }
                let rows = first..(first + chunk_rows).min(batch.len());
                let count = rows.len() as u64;
                let entries = pool.install(|| answer(model, encoder, &batch, rows, &asked))?;
                for entries in entries {
                    answers.append(&entries, 0)?;
                }
                answers.append(&[], count)?;
                watch.advance(answers, total)?;
            }
            passed += batch.len() as u64;
        }
    }
    answers.flush()
}

/// The entries of a chunk, in pieces.
fn answer(
    model: &Model,
    encoder: Option<&dyn Encoder>,
    batch: &Batch,
    rows: std::ops::Range<usize>,
    asked: &PredictOptions<'_>,
) -> Result<Vec<Vec<u8>>, BatchError> {
    let failed = |source| BatchError::Predict { source };
    let texts: Vec<&str> = rows.map(|row| batch.text(row)).collect();
    let embeddings = model.encode(&texts, encoder).map_err(failed)?;
    let indexed: Vec<(usize, &str)> = texts.into_iter().enumerate().collect();
    indexed
        .par_chunks(ROWS_PER_TASK)
        .map_init(Scratch::default, |scratch, piece| {
            let mut entries = Vec::new();
            for &(index, text) in piece {
                let answer = model.predict(text, embeddings.text(index), scratch, asked);
                encode(&answer.map_err(failed)?, &mut entries);
            }
            Ok(entries)
        })
        .collect()
}
