//! Reads `tokenizer.json`, as the `tokenizers` library writes it, and refuses whatever
//! describes another tokenizer than the one implemented here.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::TokenizerRules;
use crate::vocabulary::CONTINUATION;

/// No special text of a BERT tokenizer is longer; the list stands in a small header.
const MAX_SPECIAL_BYTES: usize = 64;
/// BERT has five; each costs a pass over the text.
const MAX_SPECIAL_TEXTS: usize = 64;
/// BERT has 100. Bounds the work on one word, which grows with the square of it.
const MAX_WORD_CHARS: usize = 1000;

/// Why a `tokenizer.json` is not usable.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error("the tokenizer's definition is not the JSON of a WordPiece tokenizer")]
    Json(#[source] serde_json::Error),
    #[error("the tokenizer's {part} is not the uncased BERT one")]
    Unsupported { part: &'static str },
    #[error("the vocabulary's {entries} entries do not have the ids 0 to {last}")]
    Ids { entries: usize, last: usize },
    #[error("the vocabulary has no entry `{entry}`")]
    MissingEntry { entry: String },
    #[error("the special texts are more than {MAX_SPECIAL_TEXTS}, or one is empty or long")]
    SpecialTexts,
    #[error("words of {chars} characters are asked for, more than {MAX_WORD_CHARS}")]
    WordChars { chars: usize },
}

/// A tokenizer as its definition describes it.
#[derive(Debug)]
pub(crate) struct TokenizerDefinition {
    pub rules: TokenizerRules,
    /// The vocabulary, an entry's id being its place.
    pub entries: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    added_tokens: Vec<AddedToken>,
    normalizer: Normalizer,
    pre_tokenizer: Typed,
    post_processor: PostProcessor,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
}

#[derive(Deserialize)]
struct Typed {
    r#type: String,
}

#[derive(Deserialize)]
struct Normalizer {
    r#type: String,
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

#[derive(Deserialize)]
struct PostProcessor {
    r#type: String,
    single: Vec<TemplatePiece>,
}

#[derive(Deserialize)]
enum TemplatePiece {
    SpecialToken { id: String },
    Sequence {},
}

#[derive(Deserialize)]
struct Model {
    /// Old definitions have none.
    r#type: Option<String>,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: BTreeMap<String, usize>,
}

impl TokenizerDefinition {
    /// Reads a whole `tokenizer.json`.
    pub fn parse(json: &[u8]) -> Result<Self, TokenizerError> {
        let file: File = serde_json::from_slice(json).map_err(TokenizerError::Json)?;
        file.check_kind()?;
        let special = file.special_texts()?;
        let File { model, post_processor, .. } = file;
        if model.max_input_chars_per_word > MAX_WORD_CHARS {
            return Err(TokenizerError::WordChars { chars: model.max_input_chars_per_word });
        }
        let [
            TemplatePiece::SpecialToken { id: first },
            TemplatePiece::Sequence {},
            TemplatePiece::SpecialToken { id: last },
        ] = post_processor.single.as_slice()
        else {
            return Err(TokenizerError::Unsupported { part: "post-processor" });
        };
        let id = |entry: &str| {
            let id = model.vocab.get(entry).and_then(|&id| u32::try_from(id).ok());
            id.ok_or_else(|| TokenizerError::MissingEntry {
                entry: entry.chars().take(MAX_SPECIAL_BYTES).collect(),
            })
        };
        let rules = TokenizerRules {
            unknown: id(&model.unk_token)?,
            first: id(first)?,
            last: id(last)?,
            max_word_chars: model.max_input_chars_per_word,
            special,
        };
        let count = model.vocab.len();
        let ids_error = TokenizerError::Ids { entries: count, last: count.saturating_sub(1) };
        let mut entries = vec![None; count];
        for (entry, id) in model.vocab {
            match entries.get_mut(id) {
                Some(place @ None) => *place = Some(entry),
                _ => return Err(ids_error),
            }
        }
        let entries: Option<Vec<String>> = entries.into_iter().collect();
        let entries = entries.ok_or(ids_error)?;
        if rules.special.iter().any(|&(_, id)| id as usize >= count) {
            return Err(TokenizerError::SpecialTexts);
        }
        Ok(Self { rules, entries })
    }
}

impl File {
    fn check_kind(&self) -> Result<(), TokenizerError> {
        let normalizer = &self.normalizer;
        let model_type = self.model.r#type.as_deref();
        let checks = [
            (
                "normalizer",
                normalizer.r#type == "BertNormalizer"
                    && normalizer.clean_text
                    && normalizer.handle_chinese_chars
                    && normalizer.lowercase
                    && normalizer.strip_accents != Some(false),
            ),
            ("pre-tokenizer", self.pre_tokenizer.r#type == "BertPreTokenizer"),
            ("post-processor", self.post_processor.r#type == "TemplateProcessing"),
            ("model", matches!(model_type, None | Some("WordPiece"))),
            (
                "continuation prefix",
                self.model.continuing_subword_prefix.as_bytes() == CONTINUATION,
            ),
        ];
        match checks.into_iter().find(|&(_, holds)| !holds) {
            Some((part, _)) => Err(TokenizerError::Unsupported { part }),
            None => Ok(()),
        }
    }

    fn special_texts(&self) -> Result<Vec<(String, u32)>, TokenizerError> {
        if self.added_tokens.len() > MAX_SPECIAL_TEXTS {
            return Err(TokenizerError::SpecialTexts);
        }
        let text = |token: &AddedToken| {
            if token.single_word || token.lstrip || token.rstrip || token.normalized {
                return Err(TokenizerError::Unsupported { part: "list of special texts" });
            }
            if token.content.is_empty() || token.content.len() > MAX_SPECIAL_BYTES {
                return Err(TokenizerError::SpecialTexts);
            }
            Ok((token.content.clone(), token.id))
        };
        self.added_tokens.iter().map(text).collect()
    }
}
