//! `corral model tag`, `compare` and `features`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use corral_classifier::{Encoder, Model, OnnxInput, OnnxValues};
use corral_encoder::MiniLm;
use corral_server::api::{ModelDetail, ModelNotes};
use corral_types::{ErrorKind, Failure};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Versioned;
use crate::client::Client;
use crate::failure::{refusal, reported};
use crate::output::print_line;

/// Sets and takes away what is noted of a version.
pub async fn tag(
    client: &Client,
    name: &Versioned,
    tags: &[String],
    metrics: &[String],
    removed: &[String],
) -> anyhow::Result<ModelDetail> {
    let mut notes = ModelNotes::default();
    for text in tags {
        let (tag, value) = pair(text, "a tag", "stage=live")?;
        notes.tags.insert(tag, Some(value));
    }
    for text in metrics {
        let (metric, value) = pair(text, "a metric", "agreement=0.93")?;
        let number: Option<f64> = value.parse().ok().filter(|number: &f64| number.is_finite());
        let number = number.ok_or_else(|| invalid(format!("`{value}` is not a number")))?;
        notes.metrics.insert(metric, Some(number));
    }
    if !removed.is_empty() {
        let shown = show(client, name).await?;
        for gone in removed {
            let noted = shown.metrics["noted"].get(gone).is_some();
            match (shown.tags.contains_key(gone), noted) {
                (false, false) => {
                    let what = format!("{} has neither a tag nor a metric `{gone}`", shown.name);
                    return Err(refusal(Failure::new(ErrorKind::NotFound, what)));
                }
                (is_tag, is_metric) => {
                    let _old_tag = is_tag.then(|| notes.tags.entry(gone.clone()).or_default());
                    let _old_metric =
                        is_metric.then(|| notes.metrics.entry(gone.clone()).or_default());
                }
            }
        }
    }
    let path = ["v1", "models", &name.name, "notes"];
    client.json(client.request(Method::PATCH, &path).query(&name.query()).json(&notes)).await
}

fn pair(text: &str, what: &str, example: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| invalid(format!("`{text}` is not {what}: write it as in {example}")))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn invalid(message: String) -> anyhow::Error {
    refusal(Failure::new(ErrorKind::Invalid, message))
}

async fn show(client: &Client, name: &Versioned) -> anyhow::Result<ModelDetail> {
    client.json(client.get(&["v1", "models", &name.name]).query(&name.query())).await
}

/// Tags in a line.
pub fn tag_list(tags: &BTreeMap<String, String>) -> String {
    let written = tags.iter().map(|(name, value)| match value.as_str() {
        "" => name.clone(),
        value => format!("{name}={value}"),
    });
    written.collect::<Vec<_>>().join(" ")
}

/// What is known of each version, by plain names.
pub async fn compare(client: &Client, names: &[Versioned]) -> anyhow::Result<Vec<Value>> {
    let mut compared = Vec::new();
    for name in names {
        let model = show(client, name).await?;
        let mut values = Map::new();
        values.insert("model".to_owned(), json!(format!("{}@{}", model.name, model.version)));
        for (group, found) in [("", &model.metrics), ("", &model.lineage)] {
            flatten(group, found, &mut values);
        }
        for (tag, value) in &model.tags {
            values.insert(format!("tag.{tag}"), json!(value));
        }
        values.insert("bytes".to_owned(), json!(model.bytes));
        values.insert("classes".to_owned(), json!(model.classes));
        values.insert("members".to_owned(), json!(model.members));
        values.insert("encoder".to_owned(), json!(model.encoder));
        values.insert("created".to_owned(), json!(model.created));
        values.insert("hash".to_owned(), json!(model.hash));
        compared.push(Value::Object(values));
    }
    Ok(compared)
}

/// Values inside objects by their path.
fn flatten(path: &str, value: &Value, into: &mut Map<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, into);
            }
        }
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            into.insert(path.to_owned(), json!(items.join(", ")));
        }
        value => drop(into.insert(path.to_owned(), value.clone())),
    }
}

/// A line a name, a column a model; of names for which all are the same only with `all`.
pub fn side_by_side(compared: &[Value], all: bool) -> String {
    let cell = |model: &Value, name: &str| match &model[name] {
        Value::Null => "–".to_owned(),
        Value::String(text) if text.is_empty() => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            format!("{:.4}", number.as_f64().unwrap_or_default())
        }
        other => other.to_string(),
    };
    let names: BTreeSet<&String> =
        compared.iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    let differs =
        |name: &&&String| all || compared.iter().any(|one| one[**name] != compared[0][**name]);
    let names = names.iter().filter(differs).filter(|name| **name != "model");
    let rows: Vec<Vec<String>> = std::iter::once("model")
        .chain(names.map(|name| name.as_str()))
        .map(|name| {
            let cells = compared.iter().map(|model| cell(model, name));
            std::iter::once(name.to_owned()).chain(cells).collect()
        })
        .collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=compared.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        cells.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Prints what the ONNX graph of a model is given for texts: a list of rows an input.
pub fn features(file: &Path, texts: &[String], encoder: Option<&Path>) -> anyhow::Result<()> {
    let model = Model::read(file).map_err(reported)?;
    model.check_onnx().map_err(reported)?;
    let encoder = encoder.map(MiniLm::load).transpose().map_err(reported)?;
    let encoder = encoder.as_ref().map(|encoder| encoder as &dyn Encoder);
    let embeddings = model.encode(texts, encoder).map_err(reported)?;
    let inputs = model.onnx_inputs(texts, &embeddings);
    let inputs: Map<String, Value> = inputs.iter().map(|it| (it.name.clone(), rows(it))).collect();
    print_line(&Value::Object(inputs).to_string());
    Ok(())
}

fn rows(input: &OnnxInput) -> Value {
    match &input.values {
        OnnxValues::Ints(values) => values.chunks(input.width).collect(),
        OnnxValues::Floats(values) => values.chunks(input.width).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_stands_side_by_side() {
        let mut one = Map::new();
        flatten("", &json!({"cv": {"accuracy": 0.5}, "endpoints": ["a/1", "b/2"]}), &mut one);
        let mut two = one.clone();
        one.insert("model".to_owned(), json!("m@1"));
        two.insert("model".to_owned(), json!("m@2"));
        two.insert("cv.accuracy".to_owned(), json!(0.75));
        two.insert("tag.stage".to_owned(), json!("live"));
        let compared = [Value::Object(one), Value::Object(two)];
        let expect =
            "model        m@1     m@2\ncv.accuracy  0.5000  0.7500\ntag.stage    –       live";
        assert_eq!(side_by_side(&compared, false), expect);
        assert!(side_by_side(&compared, true).contains("a/1, b/2"));
    }
}
