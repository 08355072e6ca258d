//! What is wrong with a request of the protocol.

use corral_types::{ErrorKind, Explain};

use super::request::{INPUT, Output};

#[derive(Debug, thiserror::Error)]
pub enum InferError {
    #[error("Inference-Header-Content-Length is {found}, which is no length of this body's JSON")]
    HeaderLength { found: String },
    #[error("the JSON of the request cannot be read")]
    Json(#[source] serde_json::Error),
    #[error("the parameter `{name}` is not {expected}")]
    Parameter { name: &'static str, expected: &'static str },
    #[error("there is no parameter `{name}`")]
    UnknownParameter { name: String },
    #[error("models are loaded as they are stored; `{name}` cannot be given")]
    Load { name: String },
    #[error("the request has {found} inputs; a model has one, `{INPUT}`")]
    Inputs { found: usize },
    #[error("the input `{name}` is of type {found}; texts are of type BYTES")]
    Datatype { name: String, found: String },
    #[error("the input `{name}` has shape {shape:?}; texts have [n] or [n, 1]")]
    Shape { name: String, shape: Vec<u64> },
    #[error("the input `{name}` holds {found} elements, and its shape says {expected}")]
    Elements { name: String, expected: u64, found: usize },
    #[error("the input `{name}` has neither `data` nor a `binary_data_size`, or both")]
    NoElements { name: String },
    #[error("element {index} of the input `{name}` is not a text in UTF-8")]
    NotText { name: String, index: usize },
    #[error("the binary data of the input `{name}` breaks off in element {index}")]
    Binary { name: String, index: usize },
    #[error("the binary data of the request has {found} bytes; its tensors say {expected}")]
    BinarySize { expected: u64, found: usize },
    #[error("there is no output `{name}`")]
    UnknownOutput { name: String },
    #[error("the parameter `{name}` of the output `{output}` is not one of ours")]
    OutputParameter { name: String, output: String },
}

impl Explain for InferError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownParameter { .. } => Some(
                "those there are: top_k, threshold, prefix, back_off, answer_all, key, \
                 timeout, binary_data_output"
                    .to_owned(),
            ),
            Self::UnknownOutput { .. } => {
                Some(format!("those there are: {}", Output::ALL.map(Output::as_str).join(", ")))
            }
            Self::OutputParameter { .. } => {
                Some("ask for `top_k` classes by the request's parameters".to_owned())
            }
            Self::Load { .. } => Some("import the model, and deploy it".to_owned()),
            _ => None,
        }
    }
}
