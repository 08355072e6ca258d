//! Comparisons with the values of other columns, and votes that stand in one.

use std::cmp::Ordering;

use corral_data::value_at;
use serde_json::Value;

use super::{no_rows, rows_where, set};
use crate::block::Block;
use crate::definition::{Comparison, Given, Operator};

/// # Errors
/// When the operator and the value do not fit.
pub fn check(comparison: &Comparison) -> Result<(), String> {
    let needs_nothing = matches!(comparison.op, Operator::Missing | Operator::Present);
    match (&comparison.value, comparison.op) {
        (Value::Null, _) if needs_nothing => Ok(()),
        (_, _) if needs_nothing => Err("`missing` and `present` take no `value`".to_owned()),
        (Value::Array(values), Operator::In) if !values.is_empty() => Ok(()),
        (_, Operator::In) => Err("`in` takes a list of values".to_owned()),
        (Value::String(_) | Value::Number(_) | Value::Bool(_), _) => Ok(()),
        _ => Err("`value` is a text, a number or a truth value".to_owned()),
    }
}

/// The rows for which the comparison holds. An empty cell compares with nothing.
pub fn compare(comparison: &Comparison, block: &Block, column: &str) -> Vec<u64> {
    let Some(array) = block.column(column) else {
        let all = comparison.op == Operator::Missing;
        return rows_where(block.rows(), |_| all);
    };
    rows_where(block.rows(), |row| {
        let Some(found) = value_at(array, row) else { return comparison.op == Operator::Missing };
        let order = |value: &Value| order(&found, value);
        match comparison.op {
            Operator::Missing => false,
            Operator::Present => true,
            Operator::In => comparison.value.as_array().is_some_and(|values| {
                values.iter().any(|value| order(value) == Some(Ordering::Equal))
            }),
            Operator::Equal => order(&comparison.value) == Some(Ordering::Equal),
            Operator::Unequal => order(&comparison.value) != Some(Ordering::Equal),
            Operator::Less => order(&comparison.value) == Some(Ordering::Less),
            Operator::AtMost => order(&comparison.value).is_some_and(Ordering::is_le),
            Operator::More => order(&comparison.value) == Some(Ordering::Greater),
            Operator::AtLeast => order(&comparison.value).is_some_and(Ordering::is_ge),
        }
    })
}

/// How a cell stands to a value; `None` where they do not compare.
fn order(found: &corral_data::Value<'_>, value: &Value) -> Option<Ordering> {
    match (found, value) {
        (corral_data::Value::String(text), Value::String(value)) => {
            Some((*text).cmp(value.as_str()))
        }
        // Numbers in columns that were taken for text.
        (corral_data::Value::String(text), Value::Number(value)) => {
            text.trim().parse::<f64>().ok()?.partial_cmp(&value.as_f64()?)
        }
        (corral_data::Value::Int(number), Value::Number(value)) => match value.as_i64() {
            Some(value) => Some(number.cmp(&value)),
            None => (*number as f64).partial_cmp(&value.as_f64()?),
        },
        (corral_data::Value::Float(number), Value::Number(value)) => {
            number.partial_cmp(&value.as_f64()?)
        }
        (corral_data::Value::Bool(found), Value::Bool(value)) => Some(found.cmp(value)),
        _ => None,
    }
}

/// By class of the rule, the rows whose column says so.
pub fn given(given: &Given, classes: &[String], block: &Block, column: &str) -> Vec<Vec<u64>> {
    let mut found = vec![no_rows(block.rows()); classes.len()];
    let Some(array) = block.column(column) else { return found };
    for row in 0..block.rows() {
        let Some(value) = value_at(array, row) else { continue };
        let said = match (given.at, value) {
            (None, value) => written(&value),
            (Some(at), corral_data::Value::String(text)) => {
                let Some(said) = element(text, at) else { continue };
                said
            }
            (Some(_), _) => continue,
        };
        let class = given.votes.get(&said).and_then(|class| classes.binary_search(class).ok());
        if let Some(class) = class {
            set(&mut found[class], row);
        }
    }
    found
}

fn written(value: &corral_data::Value<'_>) -> String {
    match value {
        corral_data::Value::String(text) => (*text).to_owned(),
        corral_data::Value::Int(number) => number.to_string(),
        corral_data::Value::Float(number) => number.to_string(),
        corral_data::Value::Bool(value) => value.to_string(),
    }
}

/// An element of a list that is written as JSON.
fn element(text: &str, at: usize) -> Option<String> {
    let list: Vec<Value> = serde_json::from_str(text).ok()?;
    match list.get(at)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
