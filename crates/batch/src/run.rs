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

/// Who is asked, and what.
pub struct Asking<'a> {
    pub model: &'a Model,
    pub encoder: Option<&'a dyn Encoder>,
    pub options: &'a BatchOptions,
    pub threads: usize,
}

/// Answers the rows of a data set that `answers` does not have yet, in order. Parts are opened
/// one after the other, so that memory does not grow with the rows.
///
/// # Errors
/// When a part cannot be read, the model cannot answer, the answers cannot be written, or the
/// watch says to end.
pub fn answer_rows(
    asking: &Asking<'_>,
    manifest: &Arc<Manifest>,
    store: &dyn PartStore,
    answers: &mut AnswerFile,
    watch: &dyn Watch,
) -> Result<(), BatchError> {
    let Asking { model, encoder, options, threads } = *asking;
    options.check()?;
    let subset = options.subset(model)?;
    let asked = options.asked(subset.as_ref());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|source| BatchError::Threads { source })?;
    let chunk_rows = if model.encoder().is_some() { ENCODED_CHUNK_ROWS } else { CHUNK_ROWS };
    let total = manifest.rows();
    // Rows of the parts and batches before the one at hand.
    let mut passed = 0;
    for (at, part) in manifest.parts.iter().enumerate() {
        if passed + part.rows <= answers.rows() {
            passed += part.rows;
            continue;
        }
        let dataset = Dataset::open_parts(Arc::clone(manifest), at..at + 1, store)?;
        for batch in dataset.iter() {
            let batch = batch?;
            let answered = answers.rows().saturating_sub(passed).min(batch.len() as u64);
            for first in (answered as usize..batch.len()).step_by(chunk_rows) {
                if watch.is_cancelled() {
                    return Err(BatchError::Cancelled);
                }
                let rows = first..(first + chunk_rows).min(batch.len());
                let count = rows.len() as u64;
                let pieces = pool.install(|| answer(model, encoder, &batch, rows, &asked))?;
                answers.append(&pieces, count)?;
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
