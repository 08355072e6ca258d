"""Reference embeddings of a BERT network with mean pooling, or of all its layers, computed in double precision
straight from the papers (Devlin et al. 2018; Reimers and Gurevych 2019).

    pip install numpy scipy safetensors tokenizers==0.23.3
    python3 embeddings.py MODEL_DIRECTORY MAX_TOKENS TEXTS.json OUT.f32 [layers [COUNT]]

MODEL_DIRECTORY holds model.safetensors, tokenizer.json and config.json: of the published
network, or of the tiny one that `examples/tiny_network.rs` writes. OUT receives a row of
little-endian single-precision numbers for each text (the first COUNT of them): of the pooled
view, or of all layers.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf
from tokenizers import Tokenizer

directory, max_tokens, texts, out = sys.argv[1:5]
view, count = (sys.argv[5:] + ["pooled", "1000000"][len(sys.argv) - 5 :])[:2]
directory = Path(directory)
config = json.loads((directory / "config.json").read_text())
weights = {
    name: tensor.astype(np.float64)
    for name, tensor in load_file(directory / "model.safetensors").items()
}
tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
tokenizer.no_padding()
tokenizer.enable_truncation(int(max_tokens))
heads = config["num_attention_heads"]


def linear(x, name):
    return x @ weights[name + ".weight"].T + weights[name + ".bias"]


def layer_norm(x, name):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    scaled = centred / np.sqrt(variance + config["layer_norm_eps"])
    return scaled * weights[name + ".weight"] + weights[name + ".bias"]


def attention(x, name):
    def split(part):
        projected = linear(x, f"{name}.self.{part}")
        return projected.reshape(len(x), heads, -1).transpose(1, 0, 2)

    query, key, value = split("query"), split("key"), split("value")
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    joined = (shares @ value).transpose(1, 0, 2).reshape(x.shape)
    return linear(joined, name + ".output.dense")


def embed(text):
    ids = tokenizer.encode(text).ids
    x = (
        weights["embeddings.word_embeddings.weight"][ids]
        + weights["embeddings.position_embeddings.weight"][: len(ids)]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    x = layer_norm(x, "embeddings.LayerNorm")
    parts = [x.mean(0), x[0]]
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        x = layer_norm(x + attention(x, name + ".attention"), name + ".attention.output.LayerNorm")
        inner = linear(x, name + ".intermediate.dense")
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        x = layer_norm(x + linear(inner, name + ".output.dense"), name + ".output.LayerNorm")
        parts += [x.mean(0), x[0]]
    parts = [part / np.linalg.norm(part) for part in parts]
    return np.concatenate(parts) / np.sqrt(len(parts)) if view == "layers" else parts[-2]


rows = [embed(text) for text in json.loads(Path(texts).read_text())[: int(count)]]
Path(out).write_bytes(np.array(rows, "<f4").tobytes())
