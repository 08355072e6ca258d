//! A request for inference, read into texts and what is asked about them.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::binary::{BrokenAt, read_elements};
use super::error::InferError;
use crate::api::PredictQuery;

/// The name of the input. A single tensor of texts may have any name.
pub const INPUT: &str = "text";

/// What a model puts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The class's name.
    Label,
    Probability,
    /// The class's id.
    Id,
    /// With `back_off`, the id of the class that an unsure answer is taken back to.
    BackedOff,
    BackedOffProbability,
}

impl Output {
    pub const ALL: [Self; 5] =
        [Self::Label, Self::Probability, Self::Id, Self::BackedOff, Self::BackedOffProbability];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Probability => "probability",
            Self::Id => "id",
            Self::BackedOff => "backed_off",
            Self::BackedOffProbability => "backed_off_probability",
        }
    }

    pub const fn datatype(self) -> &'static str {
        match self {
            Self::Label | Self::Id | Self::BackedOff => "BYTES",
            Self::Probability | Self::BackedOffProbability => "FP32",
        }
    }
}

/// How an output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Json,
    Binary,
}

impl Form {
    const fn of(is_binary: bool) -> Self {
        if is_binary { Self::Binary } else { Self::Json }
    }
}

/// A request as it was read.
#[derive(Debug)]
pub struct Inference {
    pub id: Option<String>,
    pub texts: Vec<String>,
    pub options: PredictQuery,
    pub timeout: Option<Duration>,
    pub outputs: Vec<(Output, Form)>,
}

#[derive(Deserialize)]
struct Header {
    id: Option<String>,
    #[serde(default)]
    parameters: Map<String, Value>,
    inputs: Vec<Tensor>,
    #[serde(default)]
    outputs: Vec<Wanted>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<u64>,
    datatype: String,
    #[serde(default)]
    parameters: Map<String, Value>,
    data: Option<Value>,
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

impl Inference {
    /// Reads a body of which the first `json_bytes` are JSON, or all.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub fn read(body: &[u8], json_bytes: Option<usize>) -> Result<Self, InferError> {
        let json_bytes = json_bytes.unwrap_or(body.len());
        let Some((json, binary)) = body.split_at_checked(json_bytes) else {
            return Err(InferError::HeaderLength { found: json_bytes.to_string() });
        };
        let Header { id, parameters, inputs, outputs } =
            serde_json::from_slice(json).map_err(InferError::Json)?;
        let asked = Asked::read(&parameters)?;
        let outputs = wanted(&outputs, &asked)?;
        let texts = texts(inputs, binary)?;
        Ok(Self { id, texts, options: asked.options, timeout: asked.timeout, outputs })
    }
}

/// The request's parameters.
#[derive(Default)]
struct Asked {
    options: PredictQuery,
    timeout: Option<Duration>,
    form: Option<Form>,
}

impl Asked {
    fn read(parameters: &Map<String, Value>) -> Result<Self, InferError> {
        let mut asked = Self::default();
        let options = &mut asked.options;
        for (name, value) in parameters {
            let wrong = |name, expected| InferError::Parameter { name, expected };
            match name.as_str() {
                "top_k" => {
                    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
                    let number = number.ok_or(wrong("top_k", "a number of classes"));
                    options.top_k = Some(number?);
                }
                "threshold" => options.threshold = Some(probability("threshold", value)?),
                "back_off" => options.back_off = Some(probability("back_off", value)?),
                "prefix" => {
                    let prefix = value.as_str().ok_or(wrong("prefix", "a text"))?;
                    options.prefix = Some(prefix.to_owned());
                }
                "key" => {
                    let key = value.as_str().ok_or(wrong("key", "a text"))?;
                    options.key = Some(key.to_owned());
                }
                "answer_all" => {
                    let all = value.as_bool().ok_or(wrong("answer_all", "true or false"));
                    options.answer_all = all?;
                }
                "timeout" => {
                    let micros = value.as_u64().ok_or(wrong("timeout", "microseconds"))?;
                    // Nothing means no limit, as it does where it is not given.
                    asked.timeout = (micros > 0).then(|| Duration::from_micros(micros));
                }
                "binary_data_output" => {
                    let binary = value.as_bool();
                    let binary = binary.ok_or(wrong("binary_data_output", "true or false"))?;
                    asked.form = Some(Form::of(binary));
                }
                _ => return Err(InferError::UnknownParameter { name: name.clone() }),
            }
        }
        Ok(asked)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "probabilities are f32 throughout")]
fn probability(name: &'static str, value: &Value) -> Result<f32, InferError> {
    let number = value.as_f64().ok_or(InferError::Parameter { name, expected: "a probability" })?;
    Ok(number as f32)
}

/// The outputs that are asked for; without a word those that every request has.
fn wanted(outputs: &[Wanted], asked: &Asked) -> Result<Vec<(Output, Form)>, InferError> {
    let default = asked.form.unwrap_or(Form::Json);
    if outputs.is_empty() {
        let backs_off = asked.options.back_off.is_some();
        let given = Output::ALL.into_iter().filter(|output| {
            backs_off || !matches!(output, Output::BackedOff | Output::BackedOffProbability)
        });
        return Ok(given.map(|output| (output, default)).collect());
    }
    let read = |wanted: &Wanted| {
        let known = Output::ALL.into_iter().find(|output| output.as_str() == wanted.name);
        let output = known.ok_or(InferError::UnknownOutput { name: wanted.name.clone() })?;
        let mut form = default;
        for (name, value) in &wanted.parameters {
            match value.as_bool() {
                Some(binary) if name == "binary_data" => form = Form::of(binary),
                _ => {
                    let (name, output) = (name.clone(), wanted.name.clone());
                    return Err(InferError::OutputParameter { name, output });
                }
            }
        }
        Ok((output, form))
    };
    outputs.iter().map(read).collect()
}

/// The texts of the one input.
fn texts(inputs: Vec<Tensor>, binary: &[u8]) -> Result<Vec<String>, InferError> {
    let found = inputs.len();
    let Ok([tensor]) = <[Tensor; 1]>::try_from(inputs) else {
        return Err(InferError::Inputs { found });
    };
    let Tensor { name, shape, datatype, parameters, data } = tensor;
    if datatype != "BYTES" {
        return Err(InferError::Datatype { name, found: datatype });
    }
    let expected = match shape[..] {
        [count] | [count, 1] => count,
        _ => return Err(InferError::Shape { name, shape }),
    };
    let size = parameters.get("binary_data_size").map(|size| {
        let wrong = InferError::Parameter { name: "binary_data_size", expected: "a size" };
        size.as_u64().ok_or(wrong)
    });
    let size = size.transpose()?;
    if size.unwrap_or(0) != binary.len() as u64 {
        return Err(InferError::BinarySize { expected: size.unwrap_or(0), found: binary.len() });
    }
    let texts = match (data, size) {
        (Some(data), None) => {
            let mut texts = Vec::new();
            flatten(data, shape.len(), &mut texts)
                .map_err(|index| InferError::NotText { name: name.clone(), index })?;
            texts
        }
        (None, Some(_)) => {
            let elements = read_elements(binary)
                .map_err(|BrokenAt(index)| InferError::Binary { name: name.clone(), index })?;
            let texts = elements.into_iter().enumerate().map(|(index, element)| {
                let text = utf8(element);
                text.ok_or_else(|| InferError::NotText { name: name.clone(), index })
            });
            texts.collect::<Result<_, _>>()?
        }
        _ => return Err(InferError::NoElements { name }),
    };
    if texts.len() as u64 != expected {
        return Err(InferError::Elements { name, expected, found: texts.len() });
    }
    Ok(texts)
}

fn utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// The texts of JSON data, flat or nested as the shape is, in order; an error gives the
/// index of what is no text.
fn flatten(data: Value, depth: usize, texts: &mut Vec<String>) -> Result<(), usize> {
    let Value::Array(elements) = data else { return Err(texts.len()) };
    for element in elements {
        match element {
            Value::String(text) => texts.push(text),
            nested @ Value::Array(_) if depth > 1 => flatten(nested, depth - 1, texts)?,
            _ => return Err(texts.len()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::binary::write_elements;
    use super::*;

    fn read(json: &Value) -> Result<Inference, String> {
        Inference::read(json.to_string().as_bytes(), None).map_err(|error| error.to_string())
    }

    fn tensor(shape: &Value, data: &Value) -> Value {
        serde_json::json!({"name": "text", "shape": shape, "datatype": "BYTES", "data": data})
    }

    #[test]
    fn texts_come_flat_or_nested() {
        use serde_json::json;
        for (shape, data) in [
            (json!([2]), json!(["a", "b"])),
            (json!([2, 1]), json!(["a", "b"])),
            (json!([2, 1]), json!([["a"], ["b"]])),
        ] {
            let read = read(&json!({"inputs": [tensor(&shape, &data)]})).unwrap();
            assert_eq!(read.texts, ["a", "b"]);
            let names: Vec<_> = read.outputs.iter().map(|(output, _)| output.as_str()).collect();
            assert_eq!(names, ["label", "probability", "id"]);
        }
        for (shape, data, word) in [
            (json!([2]), json!(["a"]), "holds 1"),
            (json!([1]), json!([["a"]]), "element 0"),
            (json!([2]), json!(["a", 3]), "element 1"),
            (json!([1, 2]), json!(["a", "b"]), "shape"),
            (json!([]), json!(["a"]), "shape"),
            (json!([u64::MAX]), json!(["a"]), "holds 1"),
            (json!([1]), json!("a"), "element 0"),
            (json!([0]), Value::Null, "neither"),
        ] {
            let error = read(&json!({"inputs": [tensor(&shape, &data)]})).unwrap_err();
            assert!(error.contains(word), "{shape} {data}: {error}");
        }
        assert!(read(&json!({"inputs": []})).unwrap_err().contains("0 inputs"));
    }

    #[test]
    fn parameters_are_read_strictly() {
        use serde_json::json;
        let with = |parameters: Value, outputs: Value| {
            let inputs = [tensor(&json!([1]), &json!(["a"]))];
            read(&json!({"inputs": inputs, "parameters": parameters, "outputs": outputs}))
        };
        let asked = json!({"top_k": 3, "threshold": 0.5, "prefix": "a", "back_off": 0.25, "key": "u",
            "timeout": 1500, "binary_data_output": true});
        let read = with(asked, json!([])).unwrap();
        assert_eq!((read.options.top_k, read.options.threshold), (Some(3), Some(0.5)));
        assert_eq!(read.timeout, Some(Duration::from_micros(1500)));
        assert_eq!(read.outputs.len(), 5);
        assert!(read.outputs.iter().all(|(_, form)| *form == Form::Binary));
        let outputs = json!([{"name": "id", "parameters": {"binary_data": true}},
            {"name": "label"}]);
        let read = with(json!({}), outputs).unwrap();
        assert_eq!(read.outputs, [(Output::Id, Form::Binary), (Output::Label, Form::Json)]);
        for (parameters, outputs, word) in [
            (json!({"topk": 3}), json!([]), "topk"),
            (json!({"top_k": -1}), json!([]), "top_k"),
            (json!({"threshold": "x"}), json!([]), "threshold"),
            (json!({"sequence_id": 3}), json!([]), "sequence_id"),
            (json!({}), json!([{"name": "logits"}]), "logits"),
            (
                json!({}),
                json!([{"name": "id", "parameters": {"classification": 2}}]),
                "classification",
            ),
        ] {
            let error = with(parameters, outputs).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn binary_tensors_are_read_and_any_damage_is_an_error() {
        let elements = write_elements(&["first text", "", "drίtter"]);
        let json = serde_json::json!({"inputs": [{"name": "any", "shape": [3, 1],
            "datatype": "BYTES", "parameters": {"binary_data_size": elements.len()}}]});
        let json = json.to_string().into_bytes();
        let body = [&json[..], &elements].concat();
        let read = Inference::read(&body, Some(json.len())).unwrap();
        assert_eq!(read.texts, ["first text", "", "drίtter"]);
        for length in (0..=body.len() + 3).filter(|length| *length != json.len()) {
            assert!(Inference::read(&body, Some(length)).is_err(), "{length} bytes of JSON");
        }
        assert!(Inference::read(&body, None).is_err());
        for end in 0..body.len() {
            assert!(Inference::read(&body[..end], Some(json.len())).is_err(), "cut at {end}");
        }
        let mut refused = 0;
        for seed in 0..5000u64 {
            let mut damaged = body.clone();
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            for _ in 0..=seed % 4 {
                random = random.wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31);
                let at = usize::try_from(random % damaged.len() as u64).unwrap();
                damaged[at] = u8::try_from(random >> 32 & 0xff).unwrap();
            }
            // What is read all the same has as many texts as its shape says.
            match Inference::read(&damaged, Some(json.len())) {
                Ok(read) => assert!(read.texts.len() <= 9, "seed {seed}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 2000, "{refused} of 5000");
    }
}
