//! Where each part of a network lies in an encoder file.
//!
//! The places follow from the shape, the precision and the size of the vocabulary alone.
//! The header lists them too, for other readers; opening compares the two.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::shape::{Precision, Shape};

/// Sections begin at multiples of this: a cache line, and the widest vector register.
pub(crate) const SECTION_ALIGNMENT: usize = 64;

/// Columns of a packed panel: four registers of sixteen sums, the width of the kernels' tile.
pub(crate) const PANEL: usize = 64;

/// A named stretch of the file, from the first byte after the header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    pub name: String,
    pub offset: u64,
    pub bytes: u64,
}

/// Sizes of the vocabulary's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VocabularySize {
    /// Words and word pieces.
    pub entries: usize,
    /// Places of the hash table.
    pub slots: usize,
    /// Bytes of all entries' text together.
    pub text_bytes: usize,
}

/// A matrix with its bias, packed for the kernels.
#[derive(Clone, Debug)]
pub(crate) struct MatrixPlace {
    pub inputs: usize,
    pub outputs: usize,
    pub weights: Range<usize>,
    /// One scale per output, none in single precision.
    pub scales: Range<usize>,
    /// The sum of each output's quantised weights, none in single precision.
    pub sums: Range<usize>,
    pub bias: Range<usize>,
}

/// One transformer layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerPlace {
    pub query_key_value: MatrixPlace,
    pub attention_output: MatrixPlace,
    /// Gain, then bias.
    pub attention_norm: Range<usize>,
    pub intermediate: MatrixPlace,
    pub output: MatrixPlace,
    /// Gain, then bias.
    pub output_norm: Range<usize>,
}

/// Every place of a network, relative to the first byte after the header.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Single precision, or sixteen bits with a scale per word: of eight bits, a linear head
    /// on Banking77 would notice (0.1 points).
    pub words: Range<usize>,
    /// One scale per word, none in single precision.
    pub word_scales: Range<usize>,
    /// The embedding of each position with that of the first token type added.
    pub positions: Range<usize>,
    /// Gain, then bias.
    pub embedding_norm: Range<usize>,
    pub layers: Vec<LayerPlace>,
    pub slots: Range<usize>,
    pub offsets: Range<usize>,
    pub text: Range<usize>,
    pub sections: Vec<Section>,
    /// Bytes of all sections together.
    pub bytes: usize,
}

/// The number of columns a packed matrix of `outputs` columns has.
pub(crate) const fn padded(outputs: usize) -> usize {
    outputs.next_multiple_of(PANEL)
}

impl Layout {
    /// Plans the file of a network whose shape passed [`Shape::check`].
    ///
    /// The limits of that check keep every product here far below 2⁶⁴; a total that is
    /// not addressable gives `None`.
    pub fn plan(shape: &Shape, precision: Precision, vocabulary: VocabularySize) -> Option<Self> {
        let mut plan = Planner::default();
        let hidden = shape.hidden as u64;
        let norm_bytes = 2 * hidden * 4;
        let word_cells = shape.vocabulary as u64 * hidden;
        let (word_bytes, word_scale_bytes) = match precision {
            Precision::F32 => (word_cells * 4, 0),
            Precision::Int8 => (word_cells * 2, shape.vocabulary as u64 * 4),
        };
        let words = plan.place("embedding.words", word_bytes)?;
        let word_scales = plan.place("embedding.word_scales", word_scale_bytes)?;
        let positions = plan.place("embedding.positions", shape.positions as u64 * hidden * 4)?;
        let embedding_norm = plan.place("embedding.norm", norm_bytes)?;
        let mut layers = Vec::with_capacity(shape.layers);
        for index in 0..shape.layers {
            let name = |part: &str| format!("layer.{index}.{part}");
            let (hidden, inner) = (shape.hidden, shape.intermediate);
            layers.push(LayerPlace {
                query_key_value: plan.matrix(
                    &name("query_key_value"),
                    hidden,
                    3 * hidden,
                    precision,
                )?,
                attention_output: plan.matrix(
                    &name("attention_output"),
                    hidden,
                    hidden,
                    precision,
                )?,
                attention_norm: plan.place(&name("attention_norm"), norm_bytes)?,
                intermediate: plan.matrix(&name("intermediate"), hidden, inner, precision)?,
                output: plan.matrix(&name("output"), inner, hidden, precision)?,
                output_norm: plan.place(&name("output_norm"), norm_bytes)?,
            });
        }
        let slots = plan.place("vocabulary.slots", (vocabulary.slots as u64).checked_mul(4)?)?;
        let entries = (vocabulary.entries as u64).checked_add(1)?;
        let offsets = plan.place("vocabulary.offsets", entries.checked_mul(4)?)?;
        let text = plan.place("vocabulary.text", vocabulary.text_bytes as u64)?;
        Some(Self {
            words,
            word_scales,
            positions,
            embedding_norm,
            layers,
            slots,
            offsets,
            text,
            sections: plan.sections,
            bytes: plan.end,
        })
    }
}

#[derive(Default)]
struct Planner {
    sections: Vec<Section>,
    end: usize,
}

impl Planner {
    fn place(&mut self, name: &str, bytes: u64) -> Option<Range<usize>> {
        let start = self.end.checked_next_multiple_of(SECTION_ALIGNMENT)?;
        let end = start.checked_add(usize::try_from(bytes).ok()?)?;
        self.end = end;
        self.sections.push(Section { name: name.to_owned(), offset: start as u64, bytes });
        Some(start..end)
    }

    fn matrix(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: usize,
        precision: Precision,
    ) -> Option<MatrixPlace> {
        let columns = padded(outputs) as u64;
        let cells = columns * inputs as u64;
        let (weight_bytes, per_column_bytes) = match precision {
            Precision::F32 => (cells * 4, 0),
            Precision::Int8 => (cells, columns * 4),
        };
        Some(MatrixPlace {
            inputs,
            outputs,
            weights: self.place(&format!("{name}.weights"), weight_bytes)?,
            scales: self.place(&format!("{name}.scales"), per_column_bytes)?,
            sums: self.place(&format!("{name}.sums"), per_column_bytes)?,
            bias: self.place(&format!("{name}.bias"), columns * 4)?,
        })
    }
}
