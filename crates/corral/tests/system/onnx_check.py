"""Runs a graph by onnxruntime and holds its probabilities against those that Corral answers."""

import json
import sys

import numpy
import onnxruntime

# Sums of a few hundred products of 32-bit numbers, in another order.
TOLERANCE = 2e-5


def main(graph: str, inputs_file: str, answers_file: str) -> None:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    kinds = {"tensor(int64)": numpy.int64, "tensor(float)": numpy.float32}
    with open(inputs_file, encoding="utf-8") as file:
        given = json.load(file)
    feed = {
        wanted.name: numpy.array(given[wanted.name], dtype=kinds[wanted.type])
        for wanted in session.get_inputs()
    }
    (probabilities,) = session.run(["probabilities"], feed)
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    with open(answers_file, encoding="utf-8") as file:
        predictions = json.load(file)["predictions"]
    assert probabilities.shape == (len(predictions), len(classes)), probabilities.shape
    compared = 0
    for row, prediction in zip(probabilities, predictions, strict=True):
        for label in prediction["labels"]:
            found = row[classes.index(label["id"])]
            difference = abs(float(found) - label["probability"])
            assert difference < TOLERANCE, (label, float(found))
            compared += 1
    assert compared >= len(predictions)
    print(f"{compared} probabilities of {len(predictions)} rows agree")


main(*sys.argv[1:])
