//! New versions that share the parts of an old one: rows labelled or split anew.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use corral_types::{ErrorKind, Explain};

use crate::counting::{for_each_batch, layer_counts};
use crate::dataset::{Batch, Dataset, ReadError};
use crate::ipc_writer::{IpcFileWriter, WriteError};
use crate::layers::{
    NO_SPLIT, NO_WEIGHT, label_batch, layer_schema, put, shares_batch, split_batch, weight_batch,
};
use crate::limits::Limits;
use crate::manifest::{LabelArity, Layer, LayerFile, LayerKind, Manifest};
use crate::split::{Draw, DrawError, DrawFrom, DrawSplits, canonical_split_name};
use crate::store::PartStore;

/// What becomes of a row's labels.
#[derive(Clone, Debug, PartialEq)]
pub enum NewLabels {
    Keep,
    Unlabelled,
    One(String),
    /// Only in a data set whose rows may have several.
    Several(Vec<String>),
    /// How likely each label is. Only in a data set whose rows may have several.
    Shares(Vec<(String, f32)>),
    /// The same, and what the row counts from now on.
    Weighed {
        shares: Vec<(String, f32)>,
        weight: f32,
    },
}

/// What becomes of the splits.
pub enum Resplit<'f> {
    /// Drawn anew; see [`DrawSplits`].
    Draw(&'f DrawSplits),
    /// Decided row by row; `None` is no split.
    Assign(&'f mut dyn FnMut(&Batch, usize) -> Option<String>),
}

/// Why a new version could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReviseError {
    #[error("row {row_id} was given {labels} labels, but rows of this data set have one")]
    SeveralLabels { row_id: u64, labels: usize },
    #[error("row {row_id} was given a label of {bytes} bytes; a label has at most {limit}")]
    LabelTooLong { row_id: u64, bytes: usize, limit: usize },
    #[error("row {row_id} was given an empty label")]
    EmptyLabel { row_id: u64 },
    #[error("row {row_id} was given the share {share}; shares are finite, from 0 on and not all 0")]
    WrongShare { row_id: u64, share: f32 },
    #[error("row {row_id} was given the weight {weight}; weights are finite, from 0 on")]
    WrongWeight { row_id: u64, weight: f32 },
    #[error("the new labels name more than {limit} classes")]
    TooManyClasses { limit: usize },
    #[error("the new splits have more than {limit} names")]
    TooManySplits { limit: usize },
    #[error("the data set has no hashes of its texts to draw splits by")]
    NoTextHashes,
    #[error(transparent)]
    Draw(#[from] DrawError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Explain for ReviseError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::SeveralLabels { .. }
            | Self::EmptyLabel { .. }
            | Self::WrongShare { .. }
            | Self::WrongWeight { .. } => ErrorKind::Invalid,
            Self::LabelTooLong { .. }
            | Self::TooManyClasses { .. }
            | Self::TooManySplits { .. } => ErrorKind::TooLarge,
            Self::NoTextHashes => ErrorKind::DataLoss,
            Self::Draw(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Write(_) => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Draw(error) => error.hint(),
            Self::Read(error) => error.hint(),
            _ => None,
        }
    }
}

/// A version with other labels. `assign` is called for every row in order. Codes of known
/// classes stay as they are; new classes are added after them. Rows that keep their labels keep
/// their shares, others have those they are given; weights stay as they are where none is given.
///
/// # Errors
/// When a row is given labels that it cannot have, or files cannot be read or written.
pub fn relabel(
    dataset: &Dataset,
    store: &dyn PartStore,
    limits: &Limits,
    arity: LabelArity,
    assign: &mut dyn FnMut(&Batch, usize) -> NewLabels,
) -> Result<Manifest, ReviseError> {
    let mut table = LabelNames::of(&dataset.manifest().labels.names);
    let [labels, shares, weights] = write_layers(
        dataset.shared_manifest(),
        store,
        [LayerKind::Label, LayerKind::Shares, LayerKind::Weight],
        arity,
        &mut |dataset, index| {
            let batch = dataset.batch(index)?;
            let (mut codes, mut ends) = (Vec::new(), Vec::with_capacity(batch.len()));
            let (mut shares, mut share_ends) = (Vec::new(), Vec::with_capacity(batch.len()));
            let mut weights = Vec::with_capacity(batch.len());
            for row in 0..batch.len() {
                let start = codes.len();
                let mut weight_of_row = batch.weight(row).unwrap_or(NO_WEIGHT);
                let assigned = match assign(&batch, row) {
                    NewLabels::Weighed { weight, .. } if !(weight.is_finite() && weight >= 0.0) => {
                        return Err(ReviseError::WrongWeight { row_id: batch.row_id(row), weight });
                    }
                    NewLabels::Weighed { shares, weight } => {
                        weight_of_row = weight;
                        NewLabels::Shares(shares)
                    }
                    other => other,
                };
                weights.push(weight_of_row);
                match assigned {
                    NewLabels::Keep => {
                        codes.extend_from_slice(batch.labels().codes(row));
                        shares.extend_from_slice(batch.shares(row).unwrap_or_default());
                    }
                    NewLabels::Unlabelled => {}
                    NewLabels::One(name) => {
                        codes.push(table.code(&name, batch.row_id(row), limits)?)
                    }
                    NewLabels::Several(names) => {
                        for name in names {
                            let code = table.code(&name, batch.row_id(row), limits)?;
                            if !codes[start..].contains(&code) {
                                codes.push(code);
                            }
                        }
                    }
                    NewLabels::Shares(given) | NewLabels::Weighed { shares: given, .. } => {
                        let row_id = batch.row_id(row);
                        let total: f32 = given.iter().map(|(_, share)| share).sum();
                        let is_wrong = |share: &f32| !(share.is_finite() && *share >= 0.0);
                        let wrong = given.iter().map(|(_, share)| *share).find(is_wrong);
                        if let Some(share) = wrong.or((total <= 0.0).then_some(total)) {
                            return Err(ReviseError::WrongShare { row_id, share });
                        }
                        for (name, share) in given.iter().filter(|(_, share)| *share > 0.0) {
                            let code = table.code(name, row_id, limits)?;
                            add_share(&mut codes, &mut shares, start, (code, *share));
                        }
                    }
                }
                let labels = codes.len() - start;
                if labels > 1 && arity == LabelArity::Single {
                    return Err(ReviseError::SeveralLabels { row_id: batch.row_id(row), labels });
                }
                ends.push(codes.len() as u32);
                share_ends.push(shares.len() as u32);
            }
            let any = [!codes.is_empty(), !shares.is_empty() && arity == LabelArity::Multi];
            let labels = label_batch(codes, &ends, arity);
            let shares = shares_batch(shares, &share_ends);
            let has_weight = weights.iter().any(|weight| !weight.is_nan());
            Ok([(labels, any[0]), (shares, any[1]), (weight_batch(weights), has_weight)])
        },
    )?;
    let mut manifest = Manifest::clone(dataset.manifest());
    manifest.labels.names = table.names;
    manifest.labels.arity = arity;
    replace_layer(&mut manifest, LayerKind::Label, labels);
    replace_layer(&mut manifest, LayerKind::Shares, shares);
    replace_layer(&mut manifest, LayerKind::Weight, weights);
    recount(manifest, store)
}

/// A version with other splits.
///
/// # Errors
/// When the draw is not possible, there are too many splits, or files cannot be read or written.
pub fn resplit(
    dataset: &Dataset,
    store: &dyn PartStore,
    limits: &Limits,
    how: Resplit<'_>,
) -> Result<Manifest, ReviseError> {
    let manifest = match how {
        Resplit::Draw(draw) => drawn(dataset.shared_manifest(), store, limits, draw)?,
        Resplit::Assign(assign) => assigned(dataset.shared_manifest(), store, limits, assign)?,
    };
    recount(manifest, store)
}

fn assigned(
    manifest: &Arc<Manifest>,
    store: &dyn PartStore,
    limits: &Limits,
    assign: &mut dyn FnMut(&Batch, usize) -> Option<String>,
) -> Result<Manifest, ReviseError> {
    let mut names: Vec<String> = Vec::new();
    let [files] = write_layers(
        manifest,
        store,
        [LayerKind::Split],
        LabelArity::Single,
        &mut |dataset, index| {
            let batch = dataset.batch(index)?;
            let mut codes = Vec::with_capacity(batch.len());
            for row in 0..batch.len() {
                codes.push(match assign(&batch, row) {
                    None => NO_SPLIT,
                    Some(name) => split_code(&mut names, &canonical_split_name(&name), limits)?,
                });
            }
            let any = codes.iter().any(|&code| code != NO_SPLIT);
            Ok([(split_batch(codes), any)])
        },
    )?;
    let mut manifest = Manifest::clone(manifest);
    manifest.splits = names;
    replace_layer(&mut manifest, LayerKind::Split, files);
    Ok(manifest)
}

/// The manifest after a draw; its statistics are still those from before.
pub(crate) fn drawn(
    manifest: &Arc<Manifest>,
    store: &dyn PartStore,
    limits: &Limits,
    draw: &DrawSplits,
) -> Result<Manifest, ReviseError> {
    draw.check()?;
    let from = match &draw.from {
        DrawFrom::Unassigned | DrawFrom::AllRows => None,
        DrawFrom::Split(name) => {
            let missing =
                || DrawError::NoSuchSplit { name: name.clone(), splits: manifest.splits.clone() };
            Some(manifest.split_code(name).ok_or_else(missing)?)
        }
    };
    let takes_part = |split: Option<u16>| match draw.from {
        DrawFrom::AllRows => true,
        DrawFrom::Unassigned => split.is_none(),
        DrawFrom::Split(_) => split == from,
    };

    let folder = store.scratch_dir();
    let spill = |source| WriteError::Spill { folder: folder.to_owned(), source };
    let mut state = Draw::new(draw, folder, limits.sort_memory_bytes);
    let mut first_row = 0;
    for_each_batch(manifest, store, &mut |dataset, index| {
        let labels = dataset.labels(index)?;
        let splits = dataset.splits(index)?;
        let hashes = dataset.text_hashes(index)?.ok_or(ReviseError::NoTextHashes)?;
        for (row, &hash) in hashes.values().iter().enumerate() {
            if takes_part(splits.as_ref().and_then(|splits| code_at(splits, row))) {
                let class = labels.codes(row).first().copied();
                state.add(first_row + row as u64, hash, class).map_err(spill)?;
            }
        }
        first_row += hashes.len() as u64;
        Ok::<_, ReviseError>(())
    })?;
    let mut choices = state.finish().map_err(spill)?.peekable();

    let mut names = match draw.from {
        DrawFrom::AllRows => Vec::new(),
        DrawFrom::Unassigned | DrawFrom::Split(_) => manifest.splits.clone(),
    };
    let codes: Vec<u16> =
        draw.names().map(|name| split_code(&mut names, &name, limits)).collect::<Result<_, _>>()?;
    let mut row_number = 0;
    let [files] = write_layers(
        manifest,
        store,
        [LayerKind::Split],
        LabelArity::Single,
        &mut |dataset, index| {
            let splits = dataset.splits(index)?;
            let mut row_codes = Vec::with_capacity(dataset.batch_rows(index));
            for row in 0..dataset.batch_rows(index) {
                let chosen = choices.next_if(|choice| {
                    choice.as_ref().map_or(true, |(chosen, _)| *chosen == row_number)
                });
                row_codes.push(match chosen.transpose().map_err(spill)? {
                    Some((_, choice)) => codes[choice],
                    None => {
                        splits.as_ref().and_then(|splits| code_at(splits, row)).unwrap_or(NO_SPLIT)
                    }
                });
                row_number += 1;
            }
            let any = row_codes.iter().any(|&code| code != NO_SPLIT);
            Ok([(split_batch(row_codes), any)])
        },
    )?;
    let mut manifest = Manifest::clone(manifest);
    manifest.splits = names;
    replace_layer(&mut manifest, LayerKind::Split, files);
    Ok(manifest)
}

fn code_at(splits: &arrow_array::UInt16Array, row: usize) -> Option<u16> {
    splits.is_valid(row).then(|| splits.value(row))
}

fn split_code(names: &mut Vec<String>, name: &str, limits: &Limits) -> Result<u16, ReviseError> {
    let code = names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    if names.len() > limits.splits {
        return Err(ReviseError::TooManySplits { limit: limits.splits });
    }
    Ok(code as u16)
}

struct LabelNames {
    names: Vec<String>,
    codes: HashMap<String, u32>,
}

impl LabelNames {
    fn of(names: &[String]) -> Self {
        let codes = names.iter().enumerate().map(|(code, name)| (name.clone(), code as u32));
        Self { names: names.to_vec(), codes: codes.collect() }
    }

    fn code(&mut self, name: &str, row_id: u64, limits: &Limits) -> Result<u32, ReviseError> {
        let name = name.trim();
        if let Some(&code) = self.codes.get(name) {
            return Ok(code);
        }
        if name.is_empty() {
            return Err(ReviseError::EmptyLabel { row_id });
        }
        if name.len() > limits.label_bytes {
            let (bytes, limit) = (name.len(), limits.label_bytes);
            return Err(ReviseError::LabelTooLong { row_id, bytes, limit });
        }
        if self.names.len() == limits.classes {
            return Err(ReviseError::TooManyClasses { limit: limits.classes });
        }
        let code = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.codes.insert(name.to_owned(), code);
        Ok(code)
    }
}

/// Makes the batches of layers over a batch of a part, and says of each whether it holds any
/// value.
type MakeBatches<'m, const LAYERS: usize> =
    dyn FnMut(&Dataset, usize) -> Result<[(RecordBatch, bool); LAYERS], ReviseError> + 'm;

/// The files of a layer, one entry a part.
type LayerFiles = Vec<Option<LayerFile>>;

/// Writes layers over all parts, one of them mapped at a time.
/// A part without any value gets no file.
fn write_layers<const LAYERS: usize>(
    manifest: &Arc<Manifest>,
    store: &dyn PartStore,
    kinds: [LayerKind; LAYERS],
    arity: LabelArity,
    make: &mut MakeBatches<'_, LAYERS>,
) -> Result<[LayerFiles; LAYERS], ReviseError> {
    let scratch = scratch_folder(store)?;
    let mut files = kinds.map(|_| Vec::with_capacity(manifest.parts.len()));
    for part in 0..manifest.parts.len() {
        let dataset = Dataset::open_parts(Arc::clone(manifest), part..part + 1, store)?;
        let mut writers = Vec::with_capacity(LAYERS);
        for kind in kinds {
            writers.push(IpcFileWriter::create(scratch.path(), &layer_schema(kind, arity))?);
        }
        let mut any = [false; LAYERS];
        for index in 0..dataset.batches() {
            let made = make(&dataset, index)?;
            for (at, (batch, holds_value)) in made.into_iter().enumerate() {
                any[at] |= holds_value;
                writers[at].write(&batch)?;
            }
        }
        for ((writer, any), files) in writers.into_iter().zip(any).zip(&mut files) {
            let file = writer.finish()?;
            files.push(if any { Some(put(file, store)?) } else { None });
        }
    }
    Ok(files)
}

/// Adds a label of a row whose labels begin at `start`: a class named twice has both shares. The
/// row's shares are the last ones, as many as its labels.
pub(crate) fn add_share(
    codes: &mut Vec<u32>,
    shares: &mut Vec<f32>,
    start: usize,
    (code, share): (u32, f32),
) {
    match codes[start..].iter().position(|&known| known == code) {
        Some(place) => {
            let first = shares.len() - (codes.len() - start);
            shares[first + place] += share;
        }
        None => {
            codes.push(code);
            shares.push(share);
        }
    }
}

/// A folder for the files of one operation, deleted with it.
pub(crate) fn scratch_folder(store: &dyn PartStore) -> Result<tempfile::TempDir, WriteError> {
    let folder: &Path = store.scratch_dir();
    tempfile::TempDir::with_prefix_in("data-", folder)
        .map_err(|source| WriteError::Create { folder: folder.to_owned(), source })
}

fn replace_layer(manifest: &mut Manifest, kind: LayerKind, files: Vec<Option<LayerFile>>) {
    let empty = files.iter().all(Option::is_none);
    let place = manifest.layers.iter().position(|layer| layer.kind == kind);
    match (place, empty) {
        (Some(place), true) => drop(manifest.layers.remove(place)),
        (Some(place), false) => manifest.layers[place].files = files,
        (None, true) => {}
        (None, false) => {
            manifest.layers.push(Layer { name: kind.column().to_owned(), kind, files });
            manifest.layers.sort_by_key(|layer| layer.kind as u8);
        }
    }
}

fn recount(manifest: Manifest, store: &dyn PartStore) -> Result<Manifest, ReviseError> {
    let manifest = Arc::new(manifest);
    let counts = layer_counts(&manifest, store)?;
    let mut manifest = Arc::unwrap_or_clone(manifest);
    counts.set(&mut manifest.statistics);
    manifest.set_format();
    Ok(manifest)
}
