//! Answers as tensors, in JSON or in binary after it.

use corral_serving::{Answer, Scored};
use serde::Serialize;

use super::binary::write_elements;
use super::request::{Form, Output};

/// What of a request decides how its answer is written.
pub struct Reply<'a> {
    pub id: Option<String>,
    pub model: &'a str,
    pub version: u32,
    /// Given, every output of classes has so many columns; else none.
    pub top_k: Option<u32>,
    pub outputs: &'a [(Output, Form)],
}

/// A body: JSON, and the binary tensors after it.
pub struct Written {
    pub body: Vec<u8>,
    pub json_bytes: usize,
}

#[derive(Serialize)]
struct Header<'a> {
    model_name: &'a str,
    model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Tensor<'a>>,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'static str,
    datatype: &'static str,
    shape: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Elements<'a>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Elements<'a> {
    Texts(Vec<&'a str>),
    Numbers(Vec<f32>),
}

impl Elements<'_> {
    fn to_binary(&self) -> Vec<u8> {
        match self {
            Self::Texts(texts) => write_elements(texts),
            Self::Numbers(numbers) => numbers.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }
}

impl Reply<'_> {
    /// Writes the answers, one for each text. Where there are fewer classes than were asked
    /// for, none passing a threshold say, the rest are empty texts of probability 0.
    pub fn write(&self, answers: &[Answer]) -> Written {
        let mut binary = Vec::new();
        let tensors = self.outputs.iter().map(|(output, form)| {
            let (elements, shape) = self.elements(*output, answers);
            let mut tensor = Tensor {
                name: output.as_str(),
                datatype: output.datatype(),
                shape,
                parameters: None,
                data: None,
            };
            match form {
                Form::Json => tensor.data = Some(elements),
                Form::Binary => {
                    let bytes = elements.to_binary();
                    tensor.parameters = Some(BinarySize { binary_data_size: bytes.len() });
                    binary.extend(bytes);
                }
            }
            tensor
        });
        let header = Header {
            outputs: tensors.collect(),
            model_name: self.model,
            model_version: self.version.to_string(),
            id: self.id.as_deref(),
        };
        let mut body = serde_json::to_vec(&header).expect("texts and numbers are JSON");
        let json_bytes = body.len();
        body.extend(binary);
        Written { body, json_bytes }
    }

    /// An output of all answers, row by row, and its shape.
    fn elements<'a>(&self, output: Output, answers: &'a [Answer]) -> (Elements<'a>, Vec<usize>) {
        let rows = answers.len();
        let columns = self.top_k.map(|top_k| top_k as usize);
        let ranked = move || {
            let row = move |answer: &'a Answer| {
                let columns = 0..columns.unwrap_or(1);
                columns.map(move |column| answer.scored.get(column))
            };
            answers.iter().flat_map(row)
        };
        let backed_off = || answers.iter().map(|answer| answer.backed_off.as_ref());
        let of_classes = || match columns {
            Some(columns) => vec![rows, columns],
            None => vec![rows],
        };
        match output {
            Output::Label => (names(ranked()), of_classes()),
            Output::Id => (ids(ranked()), of_classes()),
            Output::Probability => (probabilities(ranked()), of_classes()),
            Output::BackedOff => (ids(backed_off()), vec![rows]),
            Output::BackedOffProbability => (probabilities(backed_off()), vec![rows]),
        }
    }
}

fn names<'a>(classes: impl Iterator<Item = Option<&'a Scored>>) -> Elements<'a> {
    Elements::Texts(classes.map(|class| class.map_or("", |class| &class.name)).collect())
}

fn ids<'a>(classes: impl Iterator<Item = Option<&'a Scored>>) -> Elements<'a> {
    Elements::Texts(classes.map(|class| class.map_or("", |class| &class.id)).collect())
}

fn probabilities<'a>(classes: impl Iterator<Item = Option<&'a Scored>>) -> Elements<'a> {
    Elements::Numbers(classes.map(|class| class.map_or(0.0, |class| class.probability)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn scored(id: &str, probability: f32) -> Scored {
        Scored { id: id.to_owned(), name: id.to_uppercase(), probability }
    }

    fn write(top_k: Option<u32>, outputs: &[(Output, Form)]) -> (Value, Vec<u8>) {
        let answers = [
            Answer { scored: vec![scored("a", 0.75), scored("b", 0.25)], ..Answer::default() },
            Answer::default(),
        ];
        let reply = Reply { id: Some("7".to_owned()), model: "m", version: 3, top_k, outputs };
        let written = reply.write(&answers);
        let (json, binary) = written.body.split_at(written.json_bytes);
        (serde_json::from_slice(json).unwrap(), binary.to_vec())
    }

    #[test]
    fn answers_are_columns_of_a_fixed_shape() {
        let (json, binary) =
            write(None, &[(Output::Label, Form::Json), (Output::Probability, Form::Json)]);
        assert!(binary.is_empty());
        let label = json!({"name": "label", "datatype": "BYTES", "shape": [2], "data": ["A", ""]});
        assert_eq!(json["outputs"][0], label);
        assert_eq!(json["outputs"][1]["data"], json!([0.75, 0.0]));
        assert_eq!((&json["id"], &json["model_version"]), (&json!("7"), &json!("3")));
        let (json, _) = write(Some(3), &[(Output::Id, Form::Json)]);
        assert_eq!(json["outputs"][0]["shape"], json!([2, 3]));
        assert_eq!(json["outputs"][0]["data"], json!(["a", "b", "", "", "", ""]));
    }

    #[test]
    fn binary_outputs_follow_the_json_in_order() {
        let outputs = [
            (Output::Id, Form::Binary),
            (Output::BackedOff, Form::Json),
            (Output::Probability, Form::Binary),
        ];
        let (json, binary) = write(None, &outputs);
        assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 9);
        assert!(json["outputs"][0]["data"].is_null());
        assert_eq!(json["outputs"][1]["data"], json!(["", ""]));
        let expected = [&b"\x01\0\0\0a\0\0\0\0"[..], &0.75f32.to_le_bytes(), &[0; 4]].concat();
        assert_eq!(binary, expected);
    }
}
