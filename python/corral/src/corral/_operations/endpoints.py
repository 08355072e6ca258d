"""`/v1/endpoints`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._decode import decode
from .._exchange import Call, Operation, ask_json, delete, get, json_body, put
from .._frames import texts_of
from ..options import CanaryOptions, PredictOptions, check_options
from ..tables import Predictions, Table
from ..types import Endpoint, Info, Prediction
from .common import Referred, listed, name_and_version, reference, removed

# Texts of one request. The server takes 4,096; a quarter keeps each answer prompt, and lets
# other clients in between.
TEXTS_PER_REQUEST = 1024
# Bytes of texts in one request, as JSON. The server takes 32 MiB.
BYTES_PER_REQUEST = 8 << 20


def listing() -> Operation[Table[Endpoint]]:
    return Table((yield from listed(Endpoint, get("v1", "endpoints"))))


def show(name: str) -> Operation[Endpoint]:
    return decode(Endpoint, (yield from ask_json(get("v1", "endpoints", name))))


def deploy(model: str | Referred, name: str | None, alias: str | None) -> Operation[Endpoint]:
    name = name or name_and_version(model)[0]
    body = {"model": reference(model)} | ({} if alias is None else {"alias": alias})
    return changed(put("v1", "endpoints", name, json=body))


def deploy_answer(name: str, labels: Mapping[str, float], alias: str | None) -> Operation[Endpoint]:
    answer = [{"id": label, "probability": share} for label, share in labels.items()]
    body = {"answer": answer} | ({} if alias is None else {"alias": alias})
    return changed(put("v1", "endpoints", name, json=body))


def remove(name: str) -> Operation[None]:
    return removed(delete("v1", "endpoints", name))


def remove_version(name: str, number: int) -> Operation[Endpoint]:
    return changed(delete("v1", "endpoints", name, "versions", str(number)))


def set_alias(name: str, alias: str, version: str | int) -> Operation[Endpoint]:
    path = ("v1", "endpoints", name, "aliases", alias)
    return changed(put(*path, json={"version": str(version)}))


def remove_alias(name: str, alias: str) -> Operation[Endpoint]:
    return changed(delete("v1", "endpoints", name, "aliases", alias))


def send_to(name: str, version: str | int) -> Operation[Endpoint]:
    is_latest = version == "latest"
    traffic = {"kind": "latest"} if is_latest else {"kind": "to", "version": str(version)}
    return changed(put("v1", "endpoints", name, "traffic", json=traffic))


def split(name: str, weights: Mapping[str | int, int], by: str) -> Operation[Endpoint]:
    shares = [{"version": str(side), "weight": weight} for side, weight in weights.items()]
    traffic = {"kind": "split", "by": by, "shares": shares}
    return changed(put("v1", "endpoints", name, "traffic", json=traffic))


def canary(name: str, options: CanaryOptions) -> Operation[Endpoint]:
    check_options(options, CanaryOptions.__annotations__, "a canary")
    traffic: dict[str, object] = {"kind": "canary", **options}
    if "to" in options:
        traffic["to"] = str(options["to"])
    return changed(put("v1", "endpoints", name, "traffic", json=traffic))


def mirror(name: str, version: str | int | None, share: float | None) -> Operation[Endpoint]:
    path = ("v1", "endpoints", name, "mirror")
    if version is None:
        return changed(delete(*path))
    body: dict[str, object] = {"version": str(version)}
    return changed(put(*path, json=body if share is None else body | {"share": share}))


def keep_warm(
    name: str, replicas: int, windows: Sequence[str], time_zone: str | None
) -> Operation[Endpoint]:
    path = ("v1", "endpoints", name, "keep-warm")
    if replicas == 0:
        return changed(delete(*path))
    body: dict[str, object] = {"replicas": replicas, "windows": list(windows)}
    return changed(put(*path, json=body if time_zone is None else body | {"time_zone": time_zone}))


def changed(call: Call) -> Operation[Endpoint]:
    """The endpoint as the call left it."""
    return decode(Endpoint, (yield from ask_json(call)))


def predict(endpoint: str | Endpoint, texts: Any, options: PredictOptions) -> Operation[Any]:
    """One prediction for one text, `Predictions` for several."""
    check_options(options, PredictOptions.__annotations__, "a prediction")
    name = endpoint if isinstance(endpoint, str) else endpoint.name
    if isinstance(texts, str):
        predictions = yield from _predict_all(name, [texts], None, options)
        return predictions[0]
    found, index = texts_of(texts)
    return (yield from _predict_all(name, found, index, options))


def _predict_all(
    endpoint: str, texts: list[str], index: Any, options: PredictOptions
) -> Operation[Predictions]:
    found: list[Prediction] = []
    models: list[str] = []
    # No texts are asked for all the same: whether the endpoint is there should not depend on it.
    for chunk in list(chunks(texts)) or [[]]:
        answer = yield from ask_json(predict_call(endpoint, chunk, options))
        model = f"{answer['model']}@{answer['version']}" if answer.get("model") else "fixed"
        # A model that is deployed meanwhile, or a split, may answer the next request.
        if model not in models:
            models.append(model)
        found.extend(decode(Prediction, prediction) for prediction in answer["predictions"])
    return Predictions(found, texts=texts, models=models, index=index)


def predict_call(endpoint: str, texts: Sequence[str], options: PredictOptions) -> Call:
    """The request; what follows a `/` in the endpoint's name chooses below it."""
    given = {name: value for name, value in options.items() if value is not None}
    path = ("v1", "endpoints", *endpoint.split("/"), "predict")
    return Call("POST", path, body=json_body({"texts": texts, **given}))


def chunks(
    texts: Sequence[str],
    most_texts: int = TEXTS_PER_REQUEST,
    most_bytes: int = BYTES_PER_REQUEST,
) -> Iterator[list[str]]:
    """The texts in requests of bounded number and size. A text that alone is too large goes
    alone: the server knows best what to say of it."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        length = len(json.dumps(text))
        if chunk and (len(chunk) == most_texts or size + length > most_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += length
    if chunk:
        yield chunk


def whoami() -> Operation[Info]:
    return decode(Info, (yield from ask_json(get("v1", "whoami"))))
