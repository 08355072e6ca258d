//! An open encoder.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use corral_classifier::{EmbeddingView, Encoder, ViewRows};
use corral_types::{BlobHash, ErrorKind, Explain};
use rayon::prelude::*;

use crate::bytes::FileBytes;
use crate::encoder_file::{Contents, FormatError};
use crate::kernel::Level;
use crate::network::{ForwardScratch, Network, TextPlaces, TokenBatch};
use crate::shape::{Precision, Shape};

/// Tokens that go through the network together. More would push the intermediate rows out
/// of the second-level cache; fewer would read the weights from the third more often.
const CHUNK_TOKENS: usize = 256;
/// Fewer tokens than this are not worth handing to another thread: some 200 µs of work.
const SMALLEST_CHUNK_TOKENS: usize = 16;
/// Texts whose tokens are held at once; bounds memory for callers with millions.
const SLAB_TEXTS: usize = 4096;
/// Texts that one thread turns into tokens at a time.
const TOKENIZE_TEXTS: usize = 64;
/// Memory kept for later passes: one for each thread of a large machine, a few MiB each.
const MAX_KEPT_SCRATCH: usize = 64;

/// Why an encoder file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    #[error("open encoder {path}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("read encoder {path}")]
    Format {
        path: PathBuf,
        #[source]
        source: FormatError,
    },
}

impl Explain for EncoderError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Open { .. } => ErrorKind::Internal,
            Self::Format { source, .. } => match source {
                FormatError::Foreign => ErrorKind::Invalid,
                FormatError::Version { .. } => ErrorKind::Unsupported,
                _ => ErrorKind::DataLoss,
            },
        }
    }

    fn hint(&self) -> Option<String> {
        Some("`corral encoder install` makes a new one".to_owned())
    }
}

/// A BERT sentence encoder with mean pooling, such as all-MiniLM-L6-v2 (Wang et al. 2020;
/// Reimers and Gurevych 2019), open for use.
///
/// One encoder serves any number of threads. A batch is spread over the threads of the rayon
/// pool in which [`Encoder::encode`] is called; a single text stays on the calling thread.
/// Embeddings are the same bits whatever the machine, the threads, and the rest of the batch.
pub struct MiniLm {
    id: BlobHash,
    network: Network,
    level: Level,
    kept: Mutex<Vec<Scratch>>,
}

/// What one chunk's forward pass uses.
#[derive(Default)]
struct Scratch {
    batch: TokenBatch,
    forward: ForwardScratch,
}

impl MiniLm {
    /// Maps an encoder file and computes its hash, which reads it once.
    ///
    /// The file must not be changed or cut short while it is open: a file of the store, or
    /// one that [`install_from_wheel`](crate::install_from_wheel) made. For any other use
    /// [`MiniLm::load`].
    ///
    /// # Errors
    /// Where it cannot be mapped, is no encoder file, is of a newer format, or is damaged.
    pub fn open(path: &Path) -> Result<Self, EncoderError> {
        let bytes = Self::bytes(path, FileBytes::map)?;
        let id = BlobHash::of(bytes.as_slice());
        Self::from_bytes(path, bytes, id)
    }

    /// Maps an encoder file whose hash is known, as that of a file in the store is. Header
    /// and length are checked; the rest is read when it is used.
    ///
    /// # Errors
    /// As [`MiniLm::open`].
    pub fn open_verified(path: &Path, id: BlobHash) -> Result<Self, EncoderError> {
        Self::from_bytes(path, Self::bytes(path, FileBytes::map)?, id)
    }

    /// Reads an encoder file into memory, after which the file may change.
    ///
    /// # Errors
    /// As [`MiniLm::open`].
    pub fn load(path: &Path) -> Result<Self, EncoderError> {
        let bytes = Self::bytes(path, FileBytes::read)?;
        let id = BlobHash::of(bytes.as_slice());
        Self::from_bytes(path, bytes, id)
    }

    fn bytes(
        path: &Path,
        take: impl FnOnce(&File) -> io::Result<FileBytes>,
    ) -> Result<FileBytes, EncoderError> {
        File::open(path)
            .and_then(|file| take(&file))
            .map_err(|source| EncoderError::Open { path: path.to_owned(), source })
    }

    fn from_bytes(path: &Path, bytes: FileBytes, id: BlobHash) -> Result<Self, EncoderError> {
        let contents = Contents::parse(bytes.as_slice())
            .map_err(|source| EncoderError::Format { path: path.to_owned(), source })?;
        let network = Network::new(bytes, contents);
        Ok(Self { id, network, level: Level::detect(), kept: Mutex::new(Vec::new()) })
    }

    /// The dimensions of the network.
    pub fn shape(&self) -> &Shape {
        self.network.shape()
    }

    pub fn precision(&self) -> Precision {
        self.network.precision()
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.network.file_bytes().len() as u64
    }

    /// The instructions used, such as `avx512-vnni`, for reports.
    pub fn instructions(&self) -> &'static str {
        self.level.as_str()
    }

    /// The ids of a text's word pieces as the network gets them, ends marked and cut to its
    /// length.
    pub fn token_ids(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.network.tokenizer().encode(text, self.shape().max_tokens, &mut ids);
        ids
    }

    fn encode_slab(&self, texts: &[&str], mut places: Vec<TextPlaces<'_>>) {
        if let [text] = texts {
            let mut scratch = self.take_scratch();
            let Scratch { batch, forward } = &mut scratch;
            batch.ids.clear();
            batch.lengths.clear();
            self.network.tokenizer().encode(text, self.shape().max_tokens, &mut batch.ids);
            batch.lengths.push(batch.ids.len());
            self.network.embed(self.level, batch, forward, &mut places);
            self.keep_scratch(scratch);
            return;
        }
        let tokens = TokenizedTexts::new(&self.network, texts);
        let chunks: Vec<(Vec<usize>, Vec<TextPlaces<'_>>)> = tokens
            .chunks()
            .into_iter()
            .map(|texts| {
                // A text is in one chunk, so that its places are taken once.
                let places = texts.iter().map(|&text| std::mem::take(&mut places[text])).collect();
                (texts, places)
            })
            .collect();
        chunks.into_par_iter().for_each(|(texts, mut places)| {
            self.encode_chunk(texts.into_iter().map(|text| tokens.ids(text)), &mut places);
        });
    }

    fn encode_chunk<'t>(
        &self,
        texts: impl Iterator<Item = &'t [u32]>,
        places: &mut [TextPlaces<'_>],
    ) {
        let mut scratch = self.take_scratch();
        let Scratch { batch, forward } = &mut scratch;
        batch.ids.clear();
        batch.lengths.clear();
        for ids in texts {
            batch.ids.extend_from_slice(ids);
            batch.lengths.push(ids.len());
        }
        self.network.embed(self.level, batch, forward, places);
        self.keep_scratch(scratch);
    }

    fn take_scratch(&self) -> Scratch {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.pop().unwrap_or_default()
    }

    fn keep_scratch(&self, scratch: Scratch) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_KEPT_SCRATCH {
            kept.push(scratch);
        }
    }
}

impl Encoder for MiniLm {
    fn id(&self) -> BlobHash {
        self.id
    }

    fn name(&self) -> &str {
        self.network.name()
    }

    fn dimension(&self, view: EmbeddingView) -> Option<usize> {
        Some(self.shape().dimension(view))
    }

    fn encode(&self, texts: &[&str], views: &mut [ViewRows<'_>]) {
        let mut rest: Vec<(EmbeddingView, &mut [f32])> =
            views.iter_mut().map(|rows| (rows.view, &mut *rows.values)).collect();
        for (index, (view, values)) in rest.iter().enumerate() {
            let width = self.shape().dimension(*view);
            assert_eq!(values.len(), texts.len() * width, "a row of each view for each text");
            let again = rest[..index].iter().any(|(other, _)| other == view);
            assert!(!again, "each view is asked for once");
        }
        for texts in texts.chunks(SLAB_TEXTS) {
            let mut places: Vec<TextPlaces<'_>> =
                texts.iter().map(|_| TextPlaces::default()).collect();
            for (view, values) in &mut rest {
                let width = self.shape().dimension(*view);
                let (slab, left) = std::mem::take(values).split_at_mut(texts.len() * width);
                *values = left;
                for (places, row) in places.iter_mut().zip(slab.chunks_exact_mut(width)) {
                    match view {
                        EmbeddingView::Pooled => places.pooled = Some(row),
                        EmbeddingView::Layers => places.layers = Some(row),
                    }
                }
            }
            self.encode_slab(texts, places);
        }
    }
}

impl fmt::Debug for MiniLm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MiniLm")
            .field("id", &self.id)
            .field("name", &self.name())
            .field("precision", &self.precision())
            .field("shape", self.shape())
            .finish_non_exhaustive()
    }
}

/// The tokens of some texts.
struct TokenizedTexts {
    /// The ids of [`TOKENIZE_TEXTS`] texts each, and where each text's end.
    groups: Vec<(Vec<u32>, Vec<usize>)>,
    texts: usize,
}

impl TokenizedTexts {
    fn new(network: &Network, texts: &[&str]) -> Self {
        let tokenizer = network.tokenizer();
        let max_tokens = network.shape().max_tokens;
        let tokenize = |texts: &[&str]| {
            let mut ids = Vec::new();
            let mut ends = Vec::with_capacity(texts.len());
            for text in texts {
                tokenizer.encode(text, max_tokens, &mut ids);
                ends.push(ids.len());
            }
            (ids, ends)
        };
        let groups = texts.par_chunks(TOKENIZE_TEXTS).map(tokenize).collect();
        Self { groups, texts: texts.len() }
    }

    fn ids(&self, text: usize) -> &[u32] {
        let (ids, ends) = &self.groups[text / TOKENIZE_TEXTS];
        let place = text % TOKENIZE_TEXTS;
        let start = if place == 0 { 0 } else { ends[place - 1] };
        &ids[start..ends[place]]
    }

    /// Divides the texts, the longest first, into chunks of at most [`CHUNK_TOKENS`] tokens
    /// (or one longer text), and into enough for every thread where there are few.
    fn chunks(&self) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.texts).collect();
        order.sort_by_key(|&text| std::cmp::Reverse(self.ids(text).len()));
        let total: usize = self.groups.iter().map(|(ids, _)| ids.len()).sum();
        let share = total.div_ceil(rayon::current_num_threads());
        let budget = share.clamp(SMALLEST_CHUNK_TOKENS, CHUNK_TOKENS);
        let mut chunks: Vec<Vec<usize>> = Vec::new();
        let mut room = 0;
        for text in order {
            let length = self.ids(text).len();
            match chunks.last_mut() {
                Some(chunk) if length <= room => {
                    chunk.push(text);
                    room -= length;
                }
                _ => {
                    chunks.push(vec![text]);
                    room = budget.saturating_sub(length);
                }
            }
        }
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::TinyNetwork;

    #[test]
    fn every_level_gives_the_same_bits() {
        let directory = tempfile::tempdir().unwrap();
        let long = "top up my card with 50 € ".repeat(9);
        let texts = ["", "x", "how do i top up my card?", "[SEP] Zürich, 東京", &long];
        for precision in [Precision::Int8, Precision::F32] {
            let path = directory.path().join(precision.as_str());
            let bytes = crate::convert(TinyNetwork::new(5).published(), precision).unwrap();
            std::fs::write(&path, bytes).unwrap();
            let outcomes: Vec<Vec<u32>> = Level::available()
                .into_iter()
                .map(|level| {
                    let encoder = MiniLm { level, ..MiniLm::open(&path).unwrap() };
                    let out = encoder.embed(&texts, &EmbeddingView::ALL);
                    let bits = |view| out.view(view).unwrap().values().iter().map(|v| v.to_bits());
                    EmbeddingView::ALL.into_iter().flat_map(bits).collect()
                })
                .collect();
            assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{precision:?}");
        }
    }

    #[test]
    fn chunks_hold_every_text_once_within_their_budget() {
        let directory = tempfile::tempdir().unwrap();
        let path = crate::test_support::write_tiny_encoder(directory.path()).unwrap();
        let encoder = MiniLm::open(&path).unwrap();
        for count in [2, 3, 50, 1000] {
            let texts: Vec<String> = (0..count).map(|n| "card ".repeat(20 + n * 7 % 60)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let tokens = TokenizedTexts::new(&encoder.network, &texts);
            let chunks = tokens.chunks();
            let mut seen: Vec<usize> = chunks.iter().flatten().copied().collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
            for chunk in &chunks {
                let total: usize = chunk.iter().map(|&text| tokens.ids(text).len()).sum();
                assert!(total <= CHUNK_TOKENS || chunk.len() == 1);
            }
            let enough = rayon::current_num_threads().min(count);
            assert!(chunks.len() >= enough.min(2), "{count} texts in {} chunks", chunks.len());
        }
    }
}
