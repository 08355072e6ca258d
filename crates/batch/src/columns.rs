//! Answers as columns beside those of the data set.

use std::io;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{BooleanBuilder, Float64Builder, LargeStringBuilder};
use corral_classifier::{Link, Model, Prediction, Ranked};
use corral_data::{Batch, Beside, Column, ColumnType, Manifest, TextName, text_column_name};

use crate::answers::AnswerReader;
use crate::{BatchError, BatchOptions};

/// What stands in a column of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// The id of the class of a rank, from 0 on.
    Label(usize),
    /// Its name, where names and ids differ.
    Name(usize),
    Confidence(usize),
    /// The ids of all chosen classes, as a JSON list, of a model of several labels a row.
    ChosenLabels,
    Refused,
    RefusalScore,
    BackedOffLabel,
    BackedOffConfidence,
}

/// The columns of answers, read from their file as the rows are written.
pub struct AnswerColumns<'m> {
    model: &'m Model,
    threshold: Option<f32>,
    fields: Vec<Field>,
    columns: Vec<Column>,
    reader: AnswerReader,
}

impl<'m> AnswerColumns<'m> {
    /// The columns over a finished file of answers.
    pub fn new(model: &'m Model, options: &BatchOptions, reader: AnswerReader) -> Self {
        let fields = fields(model, options);
        let columns = columns(&fields, options);
        Self { model, threshold: options.threshold, fields, columns, reader }
    }

    /// Refuses answers whose columns would be called as columns of the data set are.
    ///
    /// # Errors
    /// When one of them would.
    pub fn check_names(
        model: &Model,
        options: &BatchOptions,
        manifest: &Manifest,
    ) -> Result<(), BatchError> {
        let text = text_column_name(manifest, TextName::AsImported);
        let others = manifest.schema.columns.iter().map(|column| column.name.as_str());
        let taken: Vec<&str> = others.chain([text]).collect();
        let own = columns(&fields(model, options), options);
        match own.into_iter().find(|column| taken.contains(&column.name.as_str())) {
            Some(column) => Err(BatchError::ColumnTaken { column: column.name }),
            None => Ok(()),
        }
    }
}

fn fields(model: &Model, options: &BatchOptions) -> Vec<Field> {
    let mut classes = (0..model.output_count()).filter_map(|output| model.output_class(output));
    let has_names = classes.any(|class| class.id != class.name);
    let mut fields = Vec::new();
    for rank in 0..options.top_k as usize {
        fields.push(Field::Label(rank));
        fields.extend(has_names.then_some(Field::Name(rank)));
        fields.push(Field::Confidence(rank));
    }
    if model.link() == Link::Sigmoid {
        fields.push(Field::ChosenLabels);
    }
    if model.refusal().is_some() {
        fields.extend([Field::Refused, Field::RefusalScore]);
    }
    if options.back_off.is_some() {
        fields.extend([Field::BackedOffLabel, Field::BackedOffConfidence]);
    }
    fields
}

fn columns(fields: &[Field], options: &BatchOptions) -> Vec<Column> {
    let ranked = |name: &str, rank: usize| match rank {
        0 => name.to_owned(),
        rank => format!("{name}_{}", rank + 1),
    };
    let column = |field: &Field| {
        let (name, column_type) = match *field {
            Field::Label(rank) => (ranked("predicted_label", rank), ColumnType::String),
            Field::Name(rank) => (ranked("predicted_name", rank), ColumnType::String),
            Field::Confidence(rank) => (ranked("confidence", rank), ColumnType::Float),
            Field::ChosenLabels => ("predicted_labels".to_owned(), ColumnType::String),
            Field::Refused => ("refused".to_owned(), ColumnType::Bool),
            Field::RefusalScore => ("refusal_score".to_owned(), ColumnType::Float),
            Field::BackedOffLabel => ("backed_off_label".to_owned(), ColumnType::String),
            Field::BackedOffConfidence => ("backed_off_confidence".to_owned(), ColumnType::Float),
        };
        Column { name: format!("{}{name}", options.column_prefix), column_type }
    };
    fields.iter().map(column).collect()
}

impl Beside for AnswerColumns<'_> {
    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn values(&mut self, batch: &Batch) -> io::Result<Vec<ArrayRef>> {
        let mut builders: Vec<Builder> = self.columns.iter().map(Builder::of).collect();
        let mut prediction = Prediction::default();
        for _ in 0..batch.len() {
            if !self.reader.next(&mut prediction)? {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "there are fewer answers than rows",
                ));
            }
            let is_refused = prediction.refusal.is_some_and(|verdict| verdict.is_refused);
            // As an endpoint names them.
            prediction.ranked.retain(|ranked| {
                !is_refused && self.threshold.is_none_or(|least| ranked.probability >= least)
            });
            for (field, builder) in self.fields.iter().zip(&mut builders) {
                builder.append(self.model, *field, &prediction);
            }
        }
        Ok(builders.into_iter().map(Builder::finish).collect())
    }
}

/// One column while it is made.
enum Builder {
    Texts(LargeStringBuilder),
    Numbers(Float64Builder),
    Truths(BooleanBuilder),
}

impl Builder {
    fn of(column: &Column) -> Self {
        match column.column_type {
            ColumnType::Bool => Self::Truths(BooleanBuilder::new()),
            ColumnType::Float => Self::Numbers(Float64Builder::new()),
            ColumnType::String | ColumnType::Int => Self::Texts(LargeStringBuilder::new()),
        }
    }

    fn append(&mut self, model: &Model, field: Field, prediction: &Prediction) {
        let at = |rank: usize| prediction.ranked.get(rank);
        let id = |ranked: &Ranked| model.class(ranked.class).map(|class| class.id);
        let probability = |ranked: &Ranked| as_written(ranked.probability);
        match self {
            Self::Texts(builder) => match field {
                Field::ChosenLabels => {
                    let chosen: Vec<&str> = prediction.chosen().filter_map(id).collect();
                    let list = serde_json::to_string(&chosen).expect("texts are JSON");
                    builder.append_value(list);
                }
                Field::Name(rank) => {
                    let class = at(rank).and_then(|ranked| model.class(ranked.class));
                    builder.append_option(class.map(|class| class.name));
                }
                Field::BackedOffLabel => {
                    builder.append_option(prediction.backed_off.as_ref().and_then(id));
                }
                Field::Label(rank) => builder.append_option(at(rank).and_then(id)),
                _ => builder.append_null(),
            },
            Self::Numbers(builder) => builder.append_option(match field {
                Field::Confidence(rank) => at(rank).map(probability),
                Field::RefusalScore => prediction.refusal.map(|verdict| as_written(verdict.score)),
                _ => prediction.backed_off.as_ref().map(probability),
            }),
            Self::Truths(builder) => {
                builder.append_option(prediction.refusal.map(|verdict| verdict.is_refused));
            }
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Texts(mut builder) => Arc::new(builder.finish()),
            Self::Numbers(mut builder) => Arc::new(builder.finish()),
            Self::Truths(mut builder) => Arc::new(builder.finish()),
        }
    }
}

/// The number that a person would write for it, without the digits that a wider type adds: the
/// same that an endpoint answers.
fn as_written(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}
