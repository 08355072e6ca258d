//! A small random network in the published format, for tests that need a real encoder and
//! have no network to fetch one. Behind the feature `test-support`.
//!
//! ```
//! let directory = tempfile::tempdir()?;
//! let path = corral_encoder::test_support::write_tiny_encoder(directory.path())?;
//! let encoder = corral_encoder::MiniLm::open(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Its embeddings mean nothing, but equal words make texts more alike, so that a classifier
//! can learn from them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::convert::{PublishedNetwork, convert};
use crate::install::ENCODER_EXTENSION;
use crate::shape::Precision;

/// The dimensions of the tiny network.
const HIDDEN: usize = 32;
const LAYERS: usize = 2;
const HEADS: usize = 2;
const INTERMEDIATE: usize = 80;
const POSITIONS: usize = 48;

/// The published files of a tiny network.
#[derive(Clone, Debug)]
pub struct TinyNetwork {
    pub safetensors: Vec<u8>,
    pub tokenizer_json: Vec<u8>,
    pub config_json: Vec<u8>,
}

impl TinyNetwork {
    /// The length of its embeddings.
    pub const DIMENSION: usize = HIDDEN;
    /// Longer texts are cut.
    pub const MAX_TOKENS: usize = 40;

    /// A network whose weights follow from the seed, with a vocabulary of letters, digits,
    /// punctuation and some words.
    pub fn new(seed: u64) -> Self {
        let entries = tiny_vocabulary();
        Self::with_tokenizer(seed, tokenizer_json(&entries), entries.len())
    }

    /// A network with a tokenizer of one's own, whose vocabulary has so many entries.
    pub fn with_tokenizer(seed: u64, tokenizer_json: Vec<u8>, vocabulary: usize) -> Self {
        let config = json!({
            "model_type": "bert",
            "hidden_act": "gelu",
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_attention_heads": HEADS,
            "num_hidden_layers": LAYERS,
            "max_position_embeddings": POSITIONS,
            "vocab_size": vocabulary,
            "layer_norm_eps": 1e-12,
        });
        Self {
            safetensors: random_weights(seed, vocabulary),
            tokenizer_json,
            config_json: config.to_string().into_bytes(),
        }
    }

    /// The files as [`convert()`] takes them.
    pub fn published(&self) -> PublishedNetwork<'_> {
        PublishedNetwork {
            name: "tiny-test-encoder",
            safetensors: &self.safetensors,
            tokenizer_json: &self.tokenizer_json,
            config_json: &self.config_json,
            max_tokens: Self::MAX_TOKENS,
        }
    }
}

/// Writes the encoder file of a tiny network to `directory`: always the same bytes.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_tiny_encoder(directory: &Path) -> io::Result<PathBuf> {
    let bytes =
        convert(TinyNetwork::new(1).published(), Precision::Int8).map_err(io::Error::other)?;
    let path = directory.join(format!("tiny-test-encoder.{ENCODER_EXTENSION}"));
    fs::write(&path, bytes)?;
    Ok(path)
}

/// The `tokenizer.json` of an uncased BERT tokenizer with these entries, of which `[PAD]`,
/// `[UNK]`, `[CLS]`, `[SEP]` and `[MASK]` must be five.
pub fn tokenizer_json(entries: &[String]) -> Vec<u8> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let added: Vec<Value> = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| special.contains(&entry.as_str()))
        .map(|(id, entry)| {
            json!({"id": id, "content": entry, "special": true, "single_word": false,
                   "lstrip": false, "rstrip": false, "normalized": false})
        })
        .collect();
    let vocabulary: Map<String, Value> =
        entries.iter().enumerate().map(|(id, entry)| (entry.clone(), id.into())).collect();
    let id = |text: &str| entries.iter().position(|entry| entry == text);
    let template =
        |text: &str| (text.to_owned(), json!({"id": text, "ids": [id(text)], "tokens": [text]}));
    let special_tokens: Map<String, Value> = ["[CLS]", "[SEP]"].map(template).into_iter().collect();
    let sequence = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
    let mark = |name: &str, kind: u32| json!({"SpecialToken": {"id": name, "type_id": kind}});
    let definition = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true,
                       "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [mark("[CLS]", 0), sequence("A", 0), mark("[SEP]", 0)],
            "pair": [mark("[CLS]", 0), sequence("A", 0), mark("[SEP]", 0),
                     sequence("B", 1), mark("[SEP]", 1)],
            "special_tokens": special_tokens,
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    definition.to_string().into_bytes()
}

fn tiny_vocabulary() -> Vec<String> {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let single = ('!'..='~').filter(|character| !character.is_ascii_uppercase());
    let mut entries: Vec<String> = special.into_iter().collect();
    entries.extend(single.clone().map(String::from));
    entries.extend(single.filter(char::is_ascii_alphanumeric).map(|c| format!("##{c}")));
    let words = "the a to of and in is my i for you it on with card money account how can not \
                 what do have transfer bank top up why pay time new good bad help ##ing ##ed \
                 ##er ##ly ##tion";
    entries.extend(words.split_whitespace().filter(|word| word.len() > 1).map(str::to_owned));
    entries
}

/// Weights about as large as a trained network's.
fn random_weights(seed: u64, vocabulary: usize) -> Vec<u8> {
    let mut writer = SafetensorsWriter { random: Random(seed), ..Default::default() };
    let embedding = |name: &str| format!("embeddings.{name}_embeddings.weight");
    writer.random(&embedding("word"), &[vocabulary, HIDDEN], 0.0, 0.6);
    writer.random(&embedding("position"), &[POSITIONS, HIDDEN], 0.0, 0.1);
    writer.random(&embedding("token_type"), &[2, HIDDEN], 0.0, 0.1);
    writer.norm("embeddings.LayerNorm");
    for layer in 0..LAYERS {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for part in ["query", "key", "value"] {
            writer.linear(&name(&format!("attention.self.{part}")), HIDDEN, HIDDEN);
        }
        writer.linear(&name("attention.output.dense"), HIDDEN, HIDDEN);
        writer.norm(&name("attention.output.LayerNorm"));
        writer.linear(&name("intermediate.dense"), HIDDEN, INTERMEDIATE);
        writer.linear(&name("output.dense"), INTERMEDIATE, HIDDEN);
        writer.norm(&name("output.LayerNorm"));
    }
    writer.finish()
}

#[derive(Default)]
struct SafetensorsWriter {
    random: Random,
    header: Map<String, Value>,
    body: Vec<u8>,
}

impl SafetensorsWriter {
    fn linear(&mut self, name: &str, inputs: usize, outputs: usize) {
        let spread = 2.0 / (inputs as f32).sqrt();
        self.random(&format!("{name}.weight"), &[outputs, inputs], 0.0, spread);
        self.random(&format!("{name}.bias"), &[outputs], 0.0, 0.1);
    }

    fn norm(&mut self, name: &str) {
        self.random(&format!("{name}.weight"), &[HIDDEN], 1.0, 0.2);
        self.random(&format!("{name}.bias"), &[HIDDEN], 0.0, 0.1);
    }

    fn random(&mut self, name: &str, shape: &[usize], middle: f32, spread: f32) {
        let start = self.body.len();
        for _ in 0..shape.iter().product() {
            let value = (self.random.unit() - 0.5).mul_add(2.0 * spread, middle);
            self.body.extend_from_slice(&value.to_le_bytes());
        }
        let tensor =
            json!({"dtype": "F32", "shape": shape, "data_offsets": [start, self.body.len()]});
        self.header.insert(name.to_owned(), tensor);
    }

    fn finish(self) -> Vec<u8> {
        let header = Value::Object(self.header).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// SplitMix64 (Steele et al. 2014).
#[derive(Default)]
struct Random(u64);

impl Random {
    /// A number from zero up to, not including, one.
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ (word >> 31)) >> 40) as f32 / 16_777_216.0
    }
}
