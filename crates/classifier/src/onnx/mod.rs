//! A model's heads, calibration and ensemble as a graph of ONNX, from features to probabilities.
//!
//! What turns a text into features is not part of it. A lexicon holds hashes of n-grams and not
//! the n-grams themselves, so that there is nothing from which a `TfIdfVectorizer` could be made,
//! and an encoder runs on an engine of its own; both give the graph its inputs, as
//! [`Model::onnx_inputs`] does. Each lexicon is two inputs, the columns of a text's n-grams and
//! their values, padded with zeros to the longest text's number; each view of an embedding is one.
//!
//! Linear heads, networks of two layers and tiers of a taxonomy can be written. Neighbours and
//! kernels keep rows of the training and compare by integers: models with such members are refused.

mod graph;
mod protobuf;

use std::io::{self, Write};

use corral_types::{ErrorKind, Explain, display_bytes};

use crate::calibration::{Calibration, EXPONENT_RANGE, Link, SMALLEST_PROBABILITY, Tempering};
use crate::encoder::{EmbeddingView, Embeddings};
use crate::head::{Activation, Head, LinearHead, LocalHead};
use crate::lexical::LexicalScratch;
use crate::model::{MemberView, Model};
use graph::{Attribute, Graph, Value};

/// The bytes of constants at most: a protobuf file ends at 2 GiB.
const MAX_CONSTANT_BYTES: u64 = 2_000_000_000;
/// Where the exponential of predictions ends, to either side.
const EXP_RANGE: (f32, f32) = (-87.0, 88.0);

/// Why a model cannot be written as ONNX.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnnxError {
    #[error(
        "member {member} of the model is {kind}, which ONNX has no operators for as we compute it"
    )]
    Head { member: usize, kind: &'static str },
    #[error(
        "the weights take {} as plain numbers, and an ONNX file holds {}",
        display_bytes(*bytes),
        display_bytes(MAX_CONSTANT_BYTES)
    )]
    TooLarge { bytes: u64 },
}

impl Explain for OnnxError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Head { .. } => ErrorKind::Unsupported,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Head { .. } => {
                "models of linear heads, networks and tiers can be written: train \
                                  with `--members 1`, or with `--candidates` of such learners"
                    .to_owned()
            }
            Self::TooLarge { .. } => "train with a smaller `--model-size`".to_owned(),
        })
    }
}

/// The values of one input of the graph, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxInput {
    pub name: String,
    /// How many values a row has.
    pub width: usize,
    pub values: OnnxValues,
}

#[derive(Clone, Debug, PartialEq)]
pub enum OnnxValues {
    Ints(Vec<i64>),
    Floats(Vec<f32>),
}

fn columns_name(lexicon: usize) -> String {
    format!("lexicon_{lexicon}_columns")
}

fn values_name(lexicon: usize) -> String {
    format!("lexicon_{lexicon}_values")
}

fn embedding_name(view: EmbeddingView) -> String {
    format!("embedding_{view}")
}

impl Model {
    /// Says whether the model can be written as ONNX.
    ///
    /// # Errors
    /// When a member cannot be, or the weights are too many.
    pub fn check_onnx(&self) -> Result<(), OnnxError> {
        let members = self.members();
        check_heads(&members)?;
        build(self, &members).map(drop)
    }

    /// Writes the model as an ONNX file; weights are read as they are written. The file's output
    /// is `probabilities`, one a class in the order of the metadata's `classes`.
    ///
    /// # Errors
    /// When it cannot be written as ONNX, which is said before the first byte, or the writer
    /// fails.
    pub fn write_onnx(&self, writer: &mut dyn Write) -> io::Result<()> {
        let members = self.members();
        let graph = build(self, &members).map_err(io::Error::other)?;
        graph.write(self.name(), writer)
    }

    /// What the graph's inputs are for texts, whose embeddings are at hand where the model reads
    /// any.
    pub fn onnx_inputs<T: AsRef<str>>(
        &self,
        texts: &[T],
        embeddings: &Embeddings,
    ) -> Vec<OnnxInput> {
        let mut inputs = Vec::new();
        let mut scratch = LexicalScratch::default();
        for index in self.lexicons_read() {
            let lexicon = self.lexicon(index);
            let rows: Vec<Vec<(u32, f32)>> = texts
                .iter()
                .map(|text| lexicon.transform(text.as_ref(), &mut scratch).iter().collect())
                .collect();
            let width = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
            let (mut columns, mut values) = (Vec::new(), Vec::new());
            for row in &rows {
                let padded = row.iter().copied().chain(std::iter::repeat((0, 0.0))).take(width);
                for (column, value) in padded {
                    columns.push(i64::from(column));
                    values.push(value);
                }
            }
            let (name, values_name) = (columns_name(index), values_name(index));
            inputs.push(OnnxInput { name, width, values: OnnxValues::Ints(columns) });
            let values = OnnxValues::Floats(values);
            inputs.push(OnnxInput { name: values_name, width, values });
        }
        for view in self.views() {
            let Some(rows) = embeddings.view(view) else { continue };
            let values = (0..rows.rows()).flat_map(|row| rows.row(row).to_vec()).collect();
            let (name, width) = (embedding_name(view), rows.width());
            inputs.push(OnnxInput { name, width, values: OnnxValues::Floats(values) });
        }
        inputs
    }

    fn members(&self) -> Vec<MemberView<'_>> {
        (0..self.info().members.len()).map(|index| self.member(index)).collect()
    }

    /// The lexicons that members read, each once.
    fn lexicons_read(&self) -> Vec<usize> {
        let members = self.members();
        let reads = |index: usize| {
            members.iter().any(|member| member.lexicon.is_some_and(|used| used.lexicon == index))
        };
        (0..self.info().lexicon_columns.len()).filter(|index| reads(*index)).collect()
    }
}

fn check_heads(members: &[MemberView<'_>]) -> Result<(), OnnxError> {
    for (member, view) in members.iter().enumerate() {
        let kind = match view.head {
            Head::Linear(_) | Head::Network(_) | Head::Local(_) => continue,
            Head::Neighbours(_) => "a vote of nearest neighbours",
            Head::Kernel(_) => "a kernel machine",
        };
        return Err(OnnxError::Head { member: member + 1, kind });
    }
    Ok(())
}

fn build<'m>(model: &Model, members: &'m [MemberView<'m>]) -> Result<Graph<'m>, OnnxError> {
    check_heads(members)?;
    let info = model.info();
    let mut graph = Graph::default();
    let mut lexical: Vec<Option<Lexical>> = info.lexicon_columns.iter().map(|_| None).collect();
    for index in model.lexicons_read() {
        let columns = graph.int_input(&columns_name(index), &[None, None]);
        let values = graph.float_input(&values_name(index), &[None, None]);
        let axis = graph.ints(&[1], vec![1]);
        // One row of weights for each text, to be multiplied with its columns' rows.
        let values = graph.node("Unsqueeze", &[&values, &axis]);
        lexical[index] =
            Some(Lexical { columns, values, width: info.lexicon_columns[index], axis });
    }
    let mut embeddings = Vec::new();
    for view in model.views() {
        let dimension = info.encoder.as_ref().and_then(|encoder| encoder.dimension_of(view));
        embeddings.push((view, graph.float_input(&embedding_name(view), &[None, dimension])));
    }
    let mut joined: Option<Value> = None;
    for member in members {
        let features = Features {
            lexical: member.lexicon.and_then(|used| {
                lexical[used.lexicon].as_ref().map(|lexical| (lexical, used.scale))
            }),
            embedding: member.embedding.and_then(|used| {
                let found = embeddings.iter().find(|(view, _)| *view == used.view);
                found.map(|(_, value)| (value, used.scale))
            }),
        };
        let scores = match &member.head {
            Head::Linear(head) => linear(&mut graph, head, &features),
            Head::Network(head) => {
                let hidden = linear(&mut graph, &head.hidden, &features);
                let hidden = match head.activation {
                    Activation::Identity => hidden,
                    Activation::Rectified => graph.node("Relu", &[&hidden]),
                };
                let weights = graph.weights(&head.output, 0, head.output.columns());
                let product = graph.node("MatMul", &[&hidden, &weights]);
                add_bias(&mut graph, &product, &head.output)
            }
            Head::Local(head) => {
                let parents = linear(&mut graph, &head.parents, &features);
                let children = linear(&mut graph, &head.children, &features);
                tiers(&mut graph, head, &parents, &children)
            }
            Head::Neighbours(_) | Head::Kernel(_) => {
                unreachable!("`check_heads` has refused these")
            }
        };
        let probabilities = calibrated(&mut graph, &scores, &member.calibration, model.link());
        let share = graph.number(member.weight);
        let weighted = graph.node("Mul", &[&probabilities, &share]);
        joined = Some(match joined {
            None => weighted,
            Some(joined) => graph.node("Add", &[&joined, &weighted]),
        });
    }
    let joined = joined.expect("a model has a member");
    let tempered = tempered(&mut graph, &joined, model.link(), model.tempering());
    graph.output(&tempered, "probabilities", &[None, Some(info.outputs)]);
    describe(&mut graph, model);
    let bytes = graph.constant_bytes();
    if bytes > MAX_CONSTANT_BYTES {
        return Err(OnnxError::TooLarge { bytes });
    }
    Ok(graph)
}

/// What a person needs to know of the file who has nothing else.
fn describe(graph: &mut Graph<'_>, model: &Model) {
    let classes = (0..model.output_count()).filter_map(|output| model.output_class(output));
    let ids: Vec<&str> = classes.map(|class| class.id).collect();
    graph.note("classes", &serde_json::to_string(&ids).expect("texts are JSON"));
    graph.note(
        "link",
        match model.link() {
            Link::Softmax => "softmax: one class a text",
            Link::Sigmoid => "sigmoid: every class stands alone",
        },
    );
    graph.note(
        "left_out",
        "what turns texts into features, thresholds, and the refusal of texts of no class",
    );
}

/// The inputs of a lexicon.
struct Lexical {
    columns: Value,
    values: Value,
    width: usize,
    axis: Value,
}

/// What a member reads, and what multiplies it.
struct Features<'g> {
    lexical: Option<(&'g Lexical, f32)>,
    embedding: Option<(&'g Value, f32)>,
}

/// The scores of a linear head: its bias and the weighted sums of both kinds of features.
fn linear<'m>(graph: &mut Graph<'m>, head: &'m LinearHead<'m>, features: &Features<'_>) -> Value {
    let lexical_end = features.lexical.map_or(0, |(lexical, _)| lexical.width);
    let mut sum: Option<Value> = None;
    if let Some((lexical, scale)) = features.lexical {
        let weights = graph.weights(head, 0, lexical_end);
        let rows = graph.node_with(
            "Gather",
            &[&weights, &lexical.columns],
            &[("axis", Attribute::Int(0))],
        );
        let values = scaled(graph, &lexical.values, scale);
        let product = graph.node("MatMul", &[&values, &rows]);
        sum = Some(graph.node("Squeeze", &[&product, &lexical.axis]));
    }
    if let Some((embedding, scale)) = features.embedding {
        let weights = graph.weights(head, lexical_end, head.columns());
        let values = scaled(graph, embedding, scale);
        let product = graph.node("MatMul", &[&values, &weights]);
        sum = Some(match sum {
            None => product,
            Some(sum) => graph.node("Add", &[&sum, &product]),
        });
    }
    let sum = sum.expect("a member reads a lexicon or an embedding");
    add_bias(graph, &sum, head)
}

/// As [`crate::head::join_tiers`]: siblings are brought together by gathering each parent's, the
/// first of them again and again where there are fewer, which a mask takes out of the sum.
fn tiers(graph: &mut Graph<'_>, head: &LocalHead<'_>, parents: &Value, children: &Value) -> Value {
    let mut siblings: Vec<Vec<i64>> = vec![Vec::new(); head.parents()];
    for (output, &parent) in (0..).zip(head.parent_of.iter()) {
        // A damaged file may name parents that do not exist.
        if let Some(siblings) = siblings.get_mut(usize::from(parent)) {
            siblings.push(output);
        }
    }
    let width = siblings.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let (mut places, mut mask) = (Vec::new(), Vec::new());
    for siblings in &siblings {
        let first = siblings.first().copied().unwrap_or(0);
        for at in 0..width {
            places.push(siblings.get(at).copied().unwrap_or(first));
            mask.push(if at < siblings.len() { 1.0 } else { 0.0 });
        }
    }
    let dims = [siblings.len(), width];
    let (places, mask) = (graph.ints(&dims, places), graph.floats(&dims, mask));
    let parent_of = head.parent_of.iter().map(|parent| i64::from(*parent)).collect();
    let parent_of = graph.ints(&[head.outputs()], parent_of);
    let last = graph.ints(&[1], vec![-1]);
    let columns = || [("axis", Attribute::Int(1))];
    let grouped = graph.node_with("Gather", &[children, &places], &columns());
    let axes = [("axes", Attribute::Ints(vec![-1]))];
    let highest = graph.node_with("ReduceMax", &[&grouped], &axes);
    let below = graph.node("Sub", &[&grouped, &highest]);
    let shares = graph.node("Exp", &[&below]);
    let shares = graph.node("Mul", &[&shares, &mask]);
    let flat = [("keepdims", Attribute::Int(0))];
    let total = graph.node_with("ReduceSum", &[&shares, &last], &flat);
    let total = graph.node("Log", &[&total]);
    let highest = graph.node("Squeeze", &[&highest, &last]);
    let chosen = graph.node_with("LogSoftmax", &[parents], &[("axis", Attribute::Int(-1))]);
    let chosen = graph.node("Sub", &[&chosen, &highest]);
    let chosen = graph.node("Sub", &[&chosen, &total]);
    let of_parents = graph.node_with("Gather", &[&chosen, &parent_of], &columns());
    let scores = graph.node("Add", &[children, &of_parents]);
    scaled(graph, &scores, head.sharpness)
}

fn scaled(graph: &mut Graph<'_>, value: &Value, scale: f32) -> Value {
    if scale == 1.0 {
        return value.clone();
    }
    let scale = graph.number(scale);
    graph.node("Mul", &[value, &scale])
}

fn add_bias(graph: &mut Graph<'_>, sum: &Value, head: &LinearHead<'_>) -> Value {
    let bias = graph.floats(&[head.outputs()], head.bias.to_vec());
    graph.node("Add", &[sum, &bias])
}

/// As [`Calibration::apply`].
fn calibrated(
    graph: &mut Graph<'_>,
    scores: &Value,
    calibration: &Calibration<'_>,
    link: Link,
) -> Value {
    match calibration {
        Calibration::Temperature(temperature) => {
            let scores = scaled(graph, scores, temperature.recip());
            match link {
                Link::Softmax => softmax(graph, &scores),
                Link::Sigmoid => sigmoid(graph, &scores),
            }
        }
        Calibration::PerOutput { slopes, offsets } => {
            let slopes = graph.floats(&[slopes.len()], slopes.to_vec());
            let offsets = graph.floats(&[offsets.len()], offsets.to_vec());
            let scores = graph.node("Mul", &[scores, &slopes]);
            let scores = graph.node("Add", &[&scores, &offsets]);
            let alone = sigmoid(graph, &scores);
            match link {
                Link::Sigmoid => alone,
                Link::Softmax => {
                    let axis = graph.ints(&[1], vec![-1]);
                    let sum = graph.node("ReduceSum", &[&alone, &axis]);
                    graph.node("Div", &[&alone, &sum])
                }
            }
        }
    }
}

fn softmax(graph: &mut Graph<'_>, scores: &Value) -> Value {
    graph.node_with("Softmax", &[scores], &[("axis", Attribute::Int(-1))])
}

/// Clipped as in predictions, so that no probability is zero where none is there.
fn sigmoid(graph: &mut Graph<'_>, scores: &Value) -> Value {
    let (least, most) = (graph.number(EXP_RANGE.0), graph.number(EXP_RANGE.1));
    let scores = graph.node("Clip", &[scores, &least, &most]);
    graph.node("Sigmoid", &[&scores])
}

/// As [`crate::calibration::temper`].
fn tempered(
    graph: &mut Graph<'_>,
    probabilities: &Value,
    link: Link,
    tempering: Tempering,
) -> Value {
    if tempering == Tempering::NONE {
        return probabilities.clone();
    }
    let smallest = graph.number(SMALLEST_PROBABILITY);
    let common = graph.number(tempering.temperature.recip());
    let exponent = if tempering.confidence_power == 0.0 {
        common
    } else {
        let axes = ("axes", Attribute::Ints(vec![-1]));
        let highest = graph.node_with("ReduceMax", &[probabilities], &[axes]);
        let kept = graph.node("Max", &[&highest, &smallest]);
        let log = graph.node("Log", &[&kept]);
        let power = graph.number(tempering.confidence_power);
        let log = graph.node("Mul", &[&log, &power]);
        let (least, most) = (graph.number(EXP_RANGE.0), graph.number(EXP_RANGE.1));
        let log = graph.node("Clip", &[&log, &least, &most]);
        let of_row = graph.node("Exp", &[&log]);
        let product = graph.node("Mul", &[&of_row, &common]);
        let (least, most) = (graph.number(EXPONENT_RANGE.0), graph.number(EXPONENT_RANGE.1));
        graph.node("Clip", &[&product, &least, &most])
    };
    let kept = graph.node("Max", &[probabilities, &smallest]);
    let log = graph.node("Log", &[&kept]);
    match link {
        Link::Softmax => {
            let scores = graph.node("Mul", &[&log, &exponent]);
            softmax(graph, &scores)
        }
        Link::Sigmoid => {
            let one = graph.number(1.0);
            let other = graph.node("Sub", &[&one, probabilities]);
            let other = graph.node("Max", &[&other, &smallest]);
            let other = graph.node("Log", &[&other]);
            let odds = graph.node("Sub", &[&log, &other]);
            let scores = graph.node("Mul", &[&odds, &exponent]);
            sigmoid(graph, &scores)
        }
    }
}
