//! Makes an encoder file of published weights.

use std::ops::Range;

use corral_types::{ErrorKind, Explain};
use serde::Deserialize;

use crate::encoder_file::{FormatError, Header, write};
use crate::kernel::GROUP;
use crate::layout::{Layout, MatrixPlace, PANEL, VocabularySize, padded};
use crate::safetensors::{SafetensorsError, Tensors};
use crate::shape::{Precision, Shape};
use crate::tokenizer::{TokenizerDefinition, TokenizerError};
use crate::vocabulary::VocabularyTable;

/// The largest weight of eight bits; −128 is left out, so that scales are symmetric.
const LARGEST_BYTE: f32 = 127.0;
/// The same of sixteen bits.
const LARGEST_SHORT: f32 = 32_767.0;

/// The published files of a network.
#[derive(Clone, Copy, Debug)]
pub struct PublishedNetwork<'a> {
    /// A name for people, such as `all-MiniLM-L6-v2`.
    pub name: &'a str,
    /// `model.safetensors`: the weights.
    pub safetensors: &'a [u8],
    /// `tokenizer.json`: the tokenizer and its vocabulary.
    pub tokenizer_json: &'a [u8],
    /// `config.json`: the shape of the network.
    pub config_json: &'a [u8],
    /// Longer texts are cut to this many tokens, the two at the ends included.
    pub max_tokens: usize,
}

/// Why no encoder file could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error("read the network's `config.json`")]
    Config(#[source] serde_json::Error),
    #[error("the network's {setting} is `{value}`, only `{expected}` is served here")]
    Unsupported { setting: &'static str, value: String, expected: &'static str },
    #[error("read the network's weights")]
    Weights(#[from] SafetensorsError),
    #[error("read the network's tokenizer")]
    Tokenizer(#[from] TokenizerError),
    #[error("the vocabulary has {entries} entries, the network {rows}")]
    Vocabulary { entries: usize, rows: usize },
    #[error("the vocabulary is too large to index")]
    VocabularySize,
    #[error("write the encoder file")]
    Format(#[from] FormatError),
}

impl Explain for ConvertError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::VocabularySize => ErrorKind::TooLarge,
            _ => ErrorKind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(
            "Encoders are uncased BERT networks with a WordPiece tokenizer and mean pooling, \
             such as all-MiniLM-L6-v2"
                .to_owned(),
        )
    }
}

/// `config.json` as the `transformers` library writes it.
#[derive(Deserialize)]
struct Config {
    model_type: String,
    hidden_act: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    max_position_embeddings: usize,
    vocab_size: usize,
    layer_norm_eps: f32,
    position_embedding_type: Option<String>,
}

impl Config {
    fn shape(&self, max_tokens: usize) -> Result<Shape, ConvertError> {
        let position_type = self.position_embedding_type.as_deref().unwrap_or("absolute");
        for (setting, value, expected) in [
            ("model type", self.model_type.as_str(), "bert"),
            ("activation", self.hidden_act.as_str(), "gelu"),
            ("position embedding", position_type, "absolute"),
        ] {
            if value != expected {
                let value = value.chars().take(40).collect();
                return Err(ConvertError::Unsupported { setting, value, expected });
            }
        }
        let shape = Shape {
            hidden: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            intermediate: self.intermediate_size,
            vocabulary: self.vocab_size,
            positions: self.max_position_embeddings,
            max_tokens,
            layer_norm_epsilon: self.layer_norm_eps,
        };
        shape.check().map_err(FormatError::Shape)?;
        Ok(shape)
    }
}

/// The bytes of an encoder file of a published BERT network with mean pooling. The same
/// inputs give the same bytes.
///
/// # Errors
/// Where the files are damaged, do not belong together, or describe a network of another
/// kind.
pub fn convert(
    network: PublishedNetwork<'_>,
    precision: Precision,
) -> Result<Vec<u8>, ConvertError> {
    let config: Config =
        serde_json::from_slice(network.config_json).map_err(ConvertError::Config)?;
    let shape = config.shape(network.max_tokens)?;
    let definition = TokenizerDefinition::parse(network.tokenizer_json)?;
    let entries = definition.entries.len();
    if entries > shape.vocabulary {
        return Err(ConvertError::Vocabulary { entries, rows: shape.vocabulary });
    }
    let table = VocabularyTable::build(&definition.entries).ok_or(ConvertError::VocabularySize)?;
    let tensors = Tensors::parse(network.safetensors)?;
    let weights = Weights::read(&tensors, &shape)?;
    let header = Header {
        name: network.name.to_owned(),
        precision,
        shape,
        tokenizer: definition.rules,
        vocabulary: VocabularySize {
            entries,
            slots: table.slots.len(),
            text_bytes: table.text.len(),
        },
        sections: Vec::new(),
    };
    let bytes = write(header, |layout, body| {
        weights.fill(layout, precision, body);
        put(body, &layout.slots, &table.slots);
        put(body, &layout.offsets, &table.offsets);
        put(body, &layout.text, &table.text);
    })?;
    Ok(bytes)
}

/// A linear map as published: a row of inputs for each output.
struct Linear {
    inputs: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

struct LayerWeights {
    query_key_value: Linear,
    attention_output: Linear,
    attention_norm: Vec<f32>,
    intermediate: Linear,
    output: Linear,
    output_norm: Vec<f32>,
}

struct Weights {
    words: Vec<f32>,
    positions: Vec<f32>,
    embedding_norm: Vec<f32>,
    layers: Vec<LayerWeights>,
}

impl Weights {
    fn read(tensors: &Tensors<'_>, shape: &Shape) -> Result<Self, SafetensorsError> {
        let &Shape { hidden, intermediate, .. } = shape;
        let linear = |name: String, inputs: usize, outputs: usize| {
            Ok(Linear {
                inputs,
                weights: tensors.values(&format!("{name}.weight"), &[outputs, inputs])?,
                bias: tensors.values(&format!("{name}.bias"), &[outputs])?,
            })
        };
        let norm = |name: String| {
            let mut values = tensors.values(&format!("{name}.weight"), &[hidden])?;
            values.extend(tensors.values(&format!("{name}.bias"), &[hidden])?);
            Ok(values)
        };
        let types = "embeddings.token_type_embeddings.weight";
        let type_rows = tensors.shape(types)?.first().copied().unwrap_or(0);
        let first_type = tensors.values(types, &[type_rows, hidden])?;
        let mut positions =
            tensors.values("embeddings.position_embeddings.weight", &[shape.positions, hidden])?;
        for row in positions.chunks_exact_mut(hidden) {
            for (value, more) in row.iter_mut().zip(&first_type) {
                *value += more;
            }
        }
        let mut layers = Vec::with_capacity(shape.layers);
        for index in 0..shape.layers {
            let name = |part: &str| format!("encoder.layer.{index}.{part}");
            let mut query_key_value =
                Linear { inputs: hidden, weights: Vec::new(), bias: Vec::new() };
            for part in ["query", "key", "value"] {
                let one = linear(name(&format!("attention.self.{part}")), hidden, hidden)?;
                query_key_value.weights.extend(one.weights);
                query_key_value.bias.extend(one.bias);
            }
            layers.push(LayerWeights {
                query_key_value,
                attention_output: linear(name("attention.output.dense"), hidden, hidden)?,
                attention_norm: norm(name("attention.output.LayerNorm"))?,
                intermediate: linear(name("intermediate.dense"), hidden, intermediate)?,
                output: linear(name("output.dense"), intermediate, hidden)?,
                output_norm: norm(name("output.LayerNorm"))?,
            });
        }
        Ok(Self {
            words: tensors
                .values("embeddings.word_embeddings.weight", &[shape.vocabulary, hidden])?,
            positions,
            embedding_norm: norm("embeddings.LayerNorm".to_owned())?,
            layers,
        })
    }

    fn fill(&self, layout: &Layout, precision: Precision, body: &mut [u8]) {
        match precision {
            Precision::F32 => put(body, &layout.words, &self.words),
            Precision::Int8 => {
                let hidden = self.embedding_norm.len() / 2;
                let (words, scales) = quantize_words(&self.words, hidden);
                put(body, &layout.words, &words);
                put(body, &layout.word_scales, &scales);
            }
        }
        put(body, &layout.positions, &self.positions);
        put(body, &layout.embedding_norm, &self.embedding_norm);
        for (place, layer) in layout.layers.iter().zip(&self.layers) {
            for (place, linear) in [
                (&place.query_key_value, &layer.query_key_value),
                (&place.attention_output, &layer.attention_output),
                (&place.intermediate, &layer.intermediate),
                (&place.output, &layer.output),
            ] {
                linear.fill(place, precision, body);
            }
            put(body, &place.attention_norm, &layer.attention_norm);
            put(body, &place.output_norm, &layer.output_norm);
        }
    }
}

impl Linear {
    fn fill(&self, place: &MatrixPlace, precision: Precision, body: &mut [u8]) {
        let mut bias = self.bias.clone();
        bias.resize(padded(place.outputs), 0.0);
        put(body, &place.bias, &bias);
        match precision {
            Precision::F32 => put(body, &place.weights, &self.panels()),
            Precision::Int8 => {
                let packed = self.quantized_panels();
                put(body, &place.weights, &packed.weights);
                put(body, &place.scales, &packed.scales);
                put(body, &place.sums, &packed.sums);
            }
        }
    }

    fn rows(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.weights.chunks_exact(self.inputs).enumerate()
    }

    /// Panels of 64 columns, input after input.
    fn panels(&self) -> Vec<f32> {
        let mut packed = vec![0.0; padded(self.bias.len()) * self.inputs];
        for (output, row) in self.rows() {
            let panel = &mut packed[output / PANEL * PANEL * self.inputs..];
            for (input, &weight) in row.iter().enumerate() {
                panel[input * PANEL + output % PANEL] = weight;
            }
        }
        packed
    }

    /// Panels as the integer kernels read them. Each output is scaled by its largest weight.
    fn quantized_panels(&self) -> QuantizedPanels {
        let columns = padded(self.bias.len());
        let mut weights = vec![0i8; columns * self.inputs];
        let (mut scales, mut sums) = (vec![0.0; columns], vec![0i32; columns]);
        for (output, row) in self.rows() {
            let scale = scale_of(row, LARGEST_BYTE);
            let panel = &mut weights[output / PANEL * PANEL * self.inputs..];
            for (input, &weight) in row.iter().enumerate() {
                let rounded = rounded(weight, scale, LARGEST_BYTE) as i8;
                let group = input / GROUP * GROUP * PANEL;
                panel[group + output % PANEL * GROUP + input % GROUP] = rounded;
                sums[output] += i32::from(rounded);
            }
            scales[output] = scale;
        }
        QuantizedPanels { weights, scales, sums }
    }
}

struct QuantizedPanels {
    weights: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

fn quantize_words(words: &[f32], hidden: usize) -> (Vec<i16>, Vec<f32>) {
    let mut cells = Vec::with_capacity(words.len());
    let mut scales = Vec::with_capacity(words.len() / hidden);
    for row in words.chunks_exact(hidden) {
        let scale = scale_of(row, LARGEST_SHORT);
        cells.extend(row.iter().map(|&value| rounded(value, scale, LARGEST_SHORT) as i16));
        scales.push(scale);
    }
    (cells, scales)
}

/// The scale at which the largest of `values` becomes `largest`.
fn scale_of(values: &[f32], largest: f32) -> f32 {
    let magnitude = values.iter().fold(0.0f32, |highest, value| highest.max(value.abs()));
    magnitude / largest
}

fn rounded(value: f32, scale: f32, largest: f32) -> f32 {
    if scale.is_normal() { (value / scale).round_ties_even().clamp(-largest, largest) } else { 0.0 }
}

fn put<T: bytemuck::NoUninit>(body: &mut [u8], place: &Range<usize>, values: &[T]) {
    body[place.clone()].copy_from_slice(bytemuck::cast_slice(values));
}
