//! Graphs of ONNX, held against predictions by onnxruntime.

use std::path::Path;
use std::process::Command;

use corral_classifier::{Encoder, Head, Link, Model, ModelSpec, OnnxError, OnnxValues, Scratch};
use serde_json::{Map, Value, json};

use crate::sample::{HashEncoder, TEXTS, sample, sample_of_every_head, sample_with_parents};

/// Every part that can be written: all three kinds of weights, both calibrations, networks, tiers,
/// and features of lexicons, embeddings and both.
fn expressible(link: Link, confidence_power: f32) -> ModelSpec {
    let mut spec = sample_with_parents(link);
    let is_written = |head: &Head<'_>| !matches!(head, Head::Neighbours(_) | Head::Kernel(_));
    spec.members.retain(|member| is_written(&member.head));
    assert_eq!(spec.members.len(), 7);
    spec.tempering.confidence_power = confidence_power;
    spec
}

fn model(spec: &ModelSpec) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    spec.write(&path).unwrap();
    Model::read(&path).unwrap()
}

/// Writes the graph, its inputs and our answers into a folder.
fn export(model: &Model, folder: &Path) {
    let mut graph = Vec::new();
    model.write_onnx(&mut graph).unwrap();
    std::fs::write(folder.join("graph.onnx"), graph).unwrap();
    let embeddings = model.encode(&TEXTS, Some(&HashEncoder as &dyn Encoder)).unwrap();
    let inputs = model.onnx_inputs(&TEXTS, &embeddings).into_iter().map(|input| {
        let rows: Value = match &input.values {
            OnnxValues::Ints(values) => values.chunks(input.width).collect(),
            OnnxValues::Floats(values) => values.chunks(input.width).collect(),
        };
        (input.name, rows)
    });
    let inputs: Map<String, Value> = inputs.collect();
    std::fs::write(folder.join("inputs.json"), Value::Object(inputs).to_string()).unwrap();
    let mut scratch = Scratch::default();
    let predictions = TEXTS.iter().enumerate().map(|(at, text)| {
        let found = model.probabilities(text, embeddings.text(at), &mut scratch).unwrap();
        let labels = found.iter().enumerate().map(|(output, probability)| {
            json!({"id": model.output_class(output).unwrap().id, "probability": probability})
        });
        json!({"labels": labels.collect::<Vec<_>>()})
    });
    let answers = json!({"predictions": predictions.collect::<Vec<_>>()});
    std::fs::write(folder.join("answers.json"), answers.to_string()).unwrap();
}

#[test]
fn every_part_that_can_be_written_predicts_the_same_in_onnxruntime() {
    let python = std::env::var_os("CORRAL_TEST_PYTHON");
    let has_runtime = python.as_ref().is_some_and(|python| {
        let import = Command::new(python).args(["-c", "import onnxruntime"]).output();
        import.is_ok_and(|output| output.status.success())
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corral/tests/system/onnx_check.py");
    let kinds = [(Link::Softmax, 0.0), (Link::Softmax, -0.25), (Link::Sigmoid, 0.0)];
    for (link, confidence_power) in kinds {
        let folder = tempfile::tempdir().unwrap();
        export(&model(&expressible(link, confidence_power)), folder.path());
        let (Some(python), true) = (&python, has_runtime) else {
            println!("skipped: CORRAL_TEST_PYTHON names no interpreter with onnxruntime");
            continue;
        };
        let file = |name| folder.path().join(name);
        let output = Command::new(python)
            .arg(&script)
            .args([file("graph.onnx"), file("inputs.json"), file("answers.json")])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{link:?} {confidence_power}: {said}");
    }
}

#[test]
fn what_cannot_be_written_is_refused_with_its_reason() {
    let check = |spec: &ModelSpec, kind: &str, at: usize| {
        let error = model(spec).check_onnx().unwrap_err();
        assert!(matches!(&error, OnnxError::Head { member, .. } if *member == at), "{error}");
        assert!(error.to_string().contains(kind), "{error}");
        assert!(model(spec).write_onnx(&mut Vec::new()).is_err());
    };
    check(&sample_of_every_head(Link::Softmax), "nearest neighbours", 7);
    let only = |kind: fn(&Head<'_>) -> bool| {
        let mut spec = sample_with_parents(Link::Softmax);
        spec.members.retain(|member| kind(&member.head));
        spec
    };
    check(&only(|head| matches!(head, Head::Kernel(_))), "kernel", 1);
    model(&sample(Link::Softmax)).check_onnx().unwrap();
}
