//! A graph of ONNX while it is put together, and how it is written.

use std::io::{self, Write};

use super::protobuf::{Message, field_head};
use crate::head::LinearHead;

/// The version of the operators: the first of which every one used here has this form.
const OPSET: i64 = 17;
/// The version of the file's format that came with it.
const IR_VERSION: i64 = 8;

const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// The name of a value in the graph.
pub type Value = String;

/// A constant: small ones are held, matrices of weights are read as they are written.
enum Constant<'m> {
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    /// The rows `first..end` of a linear head, which are columns of features.
    Weights {
        head: &'m LinearHead<'m>,
        first: usize,
        end: usize,
    },
}

impl Constant<'_> {
    fn bytes(&self) -> u64 {
        match self {
            Self::Floats(values) => 4 * values.len() as u64,
            Self::Ints(values) => 8 * values.len() as u64,
            Self::Weights { head, first, end } => 4 * (end - first) as u64 * head.outputs() as u64,
        }
    }

    fn write(&self, writer: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Floats(values) => {
                values.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes()))
            }
            Self::Ints(values) => {
                values.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes()))
            }
            Self::Weights { head, first, end } => {
                let mut bytes = Vec::new();
                for column in *first..*end {
                    bytes.clear();
                    bytes.extend(head.column(column).iter().flat_map(|it| it.to_le_bytes()));
                    writer.write_all(&bytes)?;
                }
                Ok(())
            }
        }
    }
}

/// The head of a tensor's message, and its numbers.
struct Initializer<'m> {
    head: Message,
    constant: Constant<'m>,
}

impl Initializer<'_> {
    /// `raw_data`, the last field.
    fn raw_head(&self) -> Vec<u8> {
        field_head(9, self.constant.bytes())
    }

    fn length(&self) -> u64 {
        (self.head.as_bytes().len() + self.raw_head().len()) as u64 + self.constant.bytes()
    }
}

/// A graph: nodes in the order of evaluation, constants, inputs and outputs.
#[derive(Default)]
pub struct Graph<'m> {
    nodes: Vec<Message>,
    initializers: Vec<Initializer<'m>>,
    inputs: Vec<Message>,
    outputs: Vec<Message>,
    metadata: Vec<Message>,
    names: usize,
}

impl<'m> Graph<'m> {
    fn fresh(&mut self, what: &str) -> Value {
        self.names += 1;
        format!("{what}_{}", self.names)
    }

    /// A node of one output.
    pub fn node(&mut self, operator: &str, inputs: &[&Value]) -> Value {
        self.node_with(operator, inputs, &[])
    }

    /// The same with attributes, as `name` and whole number.
    pub fn node_with(
        &mut self,
        operator: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute)],
    ) -> Value {
        let output = self.fresh(operator);
        let mut node = Message::default();
        for input in inputs {
            node = node.text(1, input);
        }
        node = node.text(2, &output).text(3, &output).text(4, operator);
        for (name, attribute) in attributes {
            let message = Message::default().text(1, name);
            node = node.message(
                5,
                &match attribute {
                    Attribute::Int(value) => message.int(3, *value).int(20, 2),
                    Attribute::Ints(values) => {
                        let with = |message: Message, value: &i64| message.int(8, *value);
                        values.iter().fold(message, with).int(20, 7)
                    }
                },
            );
        }
        self.nodes.push(node);
        output
    }

    fn constant(&mut self, dims: &[usize], data_type: i64, constant: Constant<'m>) -> Value {
        let name = self.fresh("constant");
        let head = dims.iter().fold(Message::default(), |head, dim| head.int(1, *dim as i64));
        let head = head.int(2, data_type).text(8, &name);
        self.initializers.push(Initializer { head, constant });
        name
    }

    /// A row of numbers, or a matrix of one.
    pub fn floats(&mut self, dims: &[usize], values: Vec<f32>) -> Value {
        self.constant(dims, FLOAT, Constant::Floats(values))
    }

    pub fn number(&mut self, value: f32) -> Value {
        self.floats(&[], vec![value])
    }

    pub fn ints(&mut self, dims: &[usize], values: Vec<i64>) -> Value {
        self.constant(dims, INT64, Constant::Ints(values))
    }

    /// The weights of some columns of features, one row each.
    pub fn weights(&mut self, head: &'m LinearHead<'m>, first: usize, end: usize) -> Value {
        let dims = [end - first, head.outputs()];
        self.constant(&dims, FLOAT, Constant::Weights { head, first, end })
    }

    /// An input of the graph; a dimension that is `None` may be of any length.
    pub fn float_input(&mut self, name: &str, dims: &[Option<usize>]) -> Value {
        self.inputs.push(value_info(name, FLOAT, dims));
        name.to_owned()
    }

    pub fn int_input(&mut self, name: &str, dims: &[Option<usize>]) -> Value {
        self.inputs.push(value_info(name, INT64, dims));
        name.to_owned()
    }

    /// Gives a value out under a name.
    pub fn output(&mut self, value: &Value, name: &str, dims: &[Option<usize>]) {
        let node = Message::default().text(1, value).text(2, name).text(3, name);
        self.nodes.push(node.text(4, "Identity"));
        self.outputs.push(value_info(name, FLOAT, dims));
    }

    /// A text about the model, by key.
    pub fn note(&mut self, key: &str, value: &str) {
        self.metadata.push(Message::default().text(1, key).text(2, value));
    }

    /// The bytes of all constants.
    pub fn constant_bytes(&self) -> u64 {
        self.initializers.iter().map(|initializer| initializer.constant.bytes()).sum()
    }

    /// Writes the model's file.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write(&self, name: &str, writer: &mut dyn Write) -> io::Result<()> {
        let mut before = Message::default();
        for node in &self.nodes {
            before = before.message(1, node);
        }
        before = before.text(2, name);
        let mut after = Message::default();
        for input in &self.inputs {
            after = after.message(11, input);
        }
        for output in &self.outputs {
            after = after.message(12, output);
        }
        let held = |initializer: &Initializer<'_>| {
            let length = initializer.length();
            field_head(5, length).len() as u64 + length
        };
        let graph_bytes = (before.as_bytes().len() + after.as_bytes().len()) as u64
            + self.initializers.iter().map(held).sum::<u64>();
        let opset = Message::default().text(1, "").int(2, OPSET);
        let mut model = Message::default()
            .int(1, IR_VERSION)
            .text(2, "corral")
            .text(3, env!("CARGO_PKG_VERSION"))
            .message(8, &opset);
        for note in &self.metadata {
            model = model.message(14, note);
        }
        writer.write_all(model.as_bytes())?;
        writer.write_all(&field_head(7, graph_bytes))?;
        writer.write_all(before.as_bytes())?;
        for initializer in &self.initializers {
            writer.write_all(&field_head(5, initializer.length()))?;
            writer.write_all(initializer.head.as_bytes())?;
            writer.write_all(&initializer.raw_head())?;
            initializer.constant.write(writer)?;
        }
        writer.write_all(after.as_bytes())
    }
}

/// What a node is told beside its inputs.
pub enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
}

fn value_info(name: &str, element: i64, dims: &[Option<usize>]) -> Message {
    let mut shape = Message::default();
    for (index, dim) in dims.iter().enumerate() {
        let dim = match dim {
            Some(length) => Message::default().int(1, *length as i64),
            // Rows are one and the same dimension wherever they come first.
            None if index == 0 => Message::default().text(2, "rows"),
            None => Message::default().text(2, &format!("{name}_{index}")),
        };
        shape = shape.message(1, &dim);
    }
    let tensor = Message::default().int(1, element).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}
