//! The forward pass over the tokens of a few texts.
//!
//! Texts stand one after another without padding: matrices are multiplied with all tokens at
//! once, attention runs text by text. What one text becomes depends on nothing but itself.

use std::ops::Range;

use corral_classifier::EmbeddingView;

use crate::bytes::FileBytes;
use crate::encoder_file::Contents;
use crate::kernel::{
    AttentionScratch, AttentionShape, FloatMatrix, IntegerMatrix, Level, Product, QuantizedRow,
    QuantizedRows, add_and_normalize, attend, gelu, multiply_floats, multiply_integers, normalize,
    pool, quantize, quantized_word,
};
use crate::layout::{LayerPlace, MatrixPlace, PANEL, padded};
use crate::shape::{Precision, Shape};
use crate::tokenizer::Tokenizer;
use crate::vocabulary::Vocabulary;

/// An open file as a network.
#[derive(Debug)]
pub(crate) struct Network {
    bytes: FileBytes,
    contents: Contents,
}

/// Tokens of texts, one text after another.
#[derive(Debug, Default)]
pub(crate) struct TokenBatch {
    pub ids: Vec<u32>,
    /// How many tokens each text has; never zero.
    pub lengths: Vec<usize>,
}

impl TokenBatch {
    /// The rows of each text out of those of all tokens.
    fn texts<'r>(&self, mut rows: &'r [f32], hidden: usize) -> impl Iterator<Item = &'r [f32]> {
        self.lengths.iter().map(move |&length| {
            let (text, rest) = rows.split_at(length * hidden);
            rows = rest;
            text
        })
    }
}

/// Where a text's embedding goes, in the views that were asked for.
#[derive(Debug, Default)]
pub(crate) struct TextPlaces<'a> {
    pub pooled: Option<&'a mut [f32]>,
    pub layers: Option<&'a mut [f32]>,
}

/// What the view of all layers has of each: the mean and the first token.
const PARTS_PER_LAYER: usize = 2;

impl Shape {
    /// Layers of which the view of all layers tells: those of the network and the embeddings
    /// that the first one reads.
    const fn embedded_layers(&self) -> usize {
        self.layers + 1
    }

    /// The length of an embedding.
    pub(crate) const fn dimension(&self, view: EmbeddingView) -> usize {
        match view {
            EmbeddingView::Pooled => self.hidden,
            EmbeddingView::Layers => PARTS_PER_LAYER * self.embedded_layers() * self.hidden,
        }
    }
}

/// Memory of a forward pass, kept for the next one.
#[derive(Debug, Default)]
pub(crate) struct ForwardScratch {
    rows: Vec<f32>,
    projected: Vec<f32>,
    attended: Vec<f32>,
    inner: Vec<f32>,
    update: Vec<f32>,
    quantized: Quantized,
    attention: AttentionScratch,
}

#[derive(Debug, Default)]
struct Quantized {
    bytes: Vec<u8>,
    rows: Vec<QuantizedRow>,
}

impl Network {
    /// The network in these bytes, whose header was read from them.
    pub fn new(bytes: FileBytes, contents: Contents) -> Self {
        Self { bytes, contents }
    }

    pub fn shape(&self) -> &Shape {
        &self.contents.header.shape
    }

    pub fn name(&self) -> &str {
        &self.contents.header.name
    }

    pub fn precision(&self) -> Precision {
        self.contents.header.precision
    }

    pub fn file_bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    pub fn tokenizer(&self) -> Tokenizer<'_> {
        let layout = &self.contents.layout;
        Tokenizer {
            rules: &self.contents.header.tokenizer,
            vocabulary: Vocabulary {
                slots: self.section(&layout.slots),
                offsets: self.section(&layout.offsets),
                text: self.section(&layout.text),
            },
        }
    }

    fn section<T: bytemuck::AnyBitPattern>(&self, place: &Range<usize>) -> &[T] {
        // Sections lie inside the file at multiples of 64, as opening checked.
        let body = &self.bytes.as_slice()[self.contents.body..];
        bytemuck::cast_slice(&body[place.clone()])
    }

    /// Embeds the batch's texts, each into its own places.
    pub fn embed(
        &self,
        level: Level,
        batch: &TokenBatch,
        scratch: &mut ForwardScratch,
        out: &mut [TextPlaces<'_>],
    ) {
        let shape = self.shape();
        let hidden = shape.hidden;
        let tokens = batch.ids.len();
        scratch.reserve(shape, tokens);
        self.look_up(level, batch, &mut scratch.rows[..tokens * hidden]);
        self.collect_layer(level, 0, batch, &scratch.rows, out);
        for (index, layer) in self.contents.layout.layers.iter().enumerate() {
            self.attention_part(level, layer, batch, scratch);
            self.feed_forward_part(level, layer, tokens, scratch);
            self.collect_layer(level, index + 1, batch, &scratch.rows, out);
        }
        for (text, out) in batch.texts(&scratch.rows, hidden).zip(out) {
            if let Some(pooled) = &mut out.pooled {
                pool(level, text, pooled);
            }
        }
    }

    /// Writes the part of one layer, counted from the word embeddings on, for texts that want
    /// all layers: the mean over the tokens and the first token, so that the parts of all
    /// layers make a vector of norm 1.
    fn collect_layer(
        &self,
        level: Level,
        layer: usize,
        batch: &TokenBatch,
        rows: &[f32],
        out: &mut [TextPlaces<'_>],
    ) {
        let hidden = self.shape().hidden;
        let scale = 1.0 / ((PARTS_PER_LAYER * self.shape().embedded_layers()) as f32).sqrt();
        for (text, out) in batch.texts(rows, hidden).zip(out) {
            let Some(layers) = &mut out.layers else { continue };
            let part = &mut layers[PARTS_PER_LAYER * layer * hidden..][..PARTS_PER_LAYER * hidden];
            let (mean, first) = part.split_at_mut(hidden);
            pool(level, text, mean);
            pool(level, &text[..hidden], first);
            for value in part {
                *value *= scale;
            }
        }
    }

    /// Word and position embeddings of each token, normalised.
    fn look_up(&self, level: Level, batch: &TokenBatch, rows: &mut [f32]) {
        let Shape { hidden, vocabulary, layer_norm_epsilon, .. } = *self.shape();
        let layout = &self.contents.layout;
        let positions: &[f32] = self.section(&layout.positions);
        let norm = self.section(&layout.embedding_norm);
        let places = batch.lengths.iter().flat_map(|&length| 0..length);
        for ((row, &id), place) in rows.chunks_exact_mut(hidden).zip(&batch.ids).zip(places) {
            // A damaged vocabulary may name a word that has no row.
            let word = (id as usize).min(vocabulary - 1);
            let cells = word * hidden..(word + 1) * hidden;
            let position = &positions[place * hidden..(place + 1) * hidden];
            match self.precision() {
                Precision::F32 => {
                    let words: &[f32] = self.section(&layout.words);
                    for ((value, word), position) in row.iter_mut().zip(&words[cells]).zip(position)
                    {
                        *value = word + position;
                    }
                }
                Precision::Int8 => {
                    let words: &[i16] = self.section(&layout.words);
                    let scales: &[f32] = self.section(&layout.word_scales);
                    quantized_word(level, row, &words[cells], scales[word], position);
                }
            }
            normalize(level, row, norm, layer_norm_epsilon);
        }
    }

    fn attention_part(
        &self,
        level: Level,
        layer: &LayerPlace,
        batch: &TokenBatch,
        scratch: &mut ForwardScratch,
    ) {
        let shape = self.shape();
        let (hidden, tokens) = (shape.hidden, batch.ids.len());
        let stride = padded(3 * hidden);
        let ForwardScratch { rows, projected, attended, update, quantized, attention, .. } =
            scratch;
        let rows = &mut rows[..tokens * hidden];
        self.multiply(level, &layer.query_key_value, rows, quantized, projected);
        let heads = AttentionShape { heads: shape.heads, head_width: shape.head_width(), stride };
        let mut first = 0;
        for &length in &batch.lengths {
            let last = first + length;
            attend(
                level,
                heads,
                &projected[first * stride..last * stride],
                &mut attended[first * hidden..last * hidden],
                attention,
            );
            first = last;
        }
        self.multiply(
            level,
            &layer.attention_output,
            &attended[..tokens * hidden],
            quantized,
            update,
        );
        let norm = self.section(&layer.attention_norm);
        self.add_update(level, rows, update, norm);
    }

    fn feed_forward_part(
        &self,
        level: Level,
        layer: &LayerPlace,
        tokens: usize,
        scratch: &mut ForwardScratch,
    ) {
        let Shape { hidden, intermediate, .. } = *self.shape();
        let ForwardScratch { rows, inner, update, quantized, .. } = scratch;
        let rows = &mut rows[..tokens * hidden];
        self.multiply(level, &layer.intermediate, rows, quantized, inner);
        let stride = padded(intermediate);
        if stride > intermediate {
            for row in 1..tokens {
                inner.copy_within(row * stride..row * stride + intermediate, row * intermediate);
            }
        }
        let inner = &mut inner[..tokens * intermediate];
        gelu(level, inner);
        self.multiply(level, &layer.output, inner, quantized, update);
        let norm = self.section(&layer.output_norm);
        self.add_update(level, rows, update, norm);
    }

    /// `rows ← norm(rows + update)`, where `update` is the outcome of a product.
    fn add_update(&self, level: Level, rows: &mut [f32], update: &[f32], norm: &[f32]) {
        let Shape { hidden, layer_norm_epsilon, .. } = *self.shape();
        let updates = update.chunks_exact(padded(hidden));
        for (row, update) in rows.chunks_exact_mut(hidden).zip(updates) {
            add_and_normalize(level, row, &update[..hidden], norm, layer_norm_epsilon);
        }
    }

    /// Rows of the matrix's inputs times the matrix, plus its bias. Rows of `out` have the
    /// padded length.
    fn multiply(
        &self,
        level: Level,
        matrix: &MatrixPlace,
        rows: &[f32],
        quantized: &mut Quantized,
        out: &mut [f32],
    ) {
        let bias: &[f32] = self.section(&matrix.bias);
        match self.precision() {
            Precision::F32 => {
                let weights: &[f32] = self.section(&matrix.weights);
                multiply_panels(level, rows, matrix.inputs, weights, bias, out);
            }
            Precision::Int8 => {
                let count = rows.len() / matrix.inputs;
                let bytes = &mut quantized.bytes[..rows.len()];
                let scales = &mut quantized.rows[..count];
                for ((row, bytes), scale) in rows
                    .chunks_exact(matrix.inputs)
                    .zip(bytes.chunks_exact_mut(matrix.inputs))
                    .zip(scales.iter_mut())
                {
                    *scale = quantize(level, row, bytes);
                }
                let matrix = IntegerMatrix {
                    weights: self.section(&matrix.weights),
                    scales: self.section(&matrix.scales),
                    sums: self.section(&matrix.sums),
                    bias,
                };
                multiply_integers(level, QuantizedRows { bytes, rows: scales }, matrix, out);
            }
        }
    }
}

fn multiply_panels(
    level: Level,
    rows: &[f32],
    inputs: usize,
    weights: &[f32],
    bias: &[f32],
    out: &mut [f32],
) {
    let left =
        FloatMatrix { values: rows, rows: rows.len() / inputs, columns: inputs, stride: inputs };
    let panels = weights.chunks_exact(inputs * PANEL).zip(bias.chunks_exact(PANEL));
    for (index, (panel, panel_bias)) in panels.enumerate() {
        let panel = FloatMatrix { values: panel, rows: inputs, columns: PANEL, stride: PANEL };
        let product = Product { values: &mut out[index * PANEL..], stride: bias.len() };
        multiply_floats(level, left, panel, Some(panel_bias), product);
    }
}

impl ForwardScratch {
    /// Makes room for this many tokens, and keeps what is there already.
    fn reserve(&mut self, shape: &Shape, tokens: usize) {
        let widest = shape.hidden.max(shape.intermediate);
        for (buffer, width) in [
            (&mut self.rows, shape.hidden),
            (&mut self.projected, padded(3 * shape.hidden)),
            (&mut self.attended, shape.hidden),
            (&mut self.inner, padded(shape.intermediate)),
            (&mut self.update, padded(shape.hidden)),
        ] {
            if buffer.len() < tokens * width {
                buffer.resize(tokens * width, 0.0);
            }
        }
        if self.quantized.rows.len() < tokens {
            self.quantized.rows.resize(tokens, QuantizedRow::default());
            self.quantized.bytes.resize(tokens * widest, 0);
        }
    }
}
