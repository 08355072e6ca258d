"""Asks a server by the official client of the Open Inference Protocol.

Reads CORRAL_URL, CORRAL_TOKEN and the class that EXPECTED_CLASS names from the environment;
ends with an error where an answer is not as it should be.
"""

import asyncio
import os

import numpy as np
import tritonclient.http as http
import tritonclient.http.aio as aio
from tritonclient.utils import InferenceServerException

ADDRESS = os.environ["CORRAL_URL"].removeprefix("http://")
HEADERS = {"Authorization": f"Bearer {os.environ['CORRAL_TOKEN']}"}
EXPECTED = os.environ["EXPECTED_CLASS"].encode()
PARCEL = "my parcel was lost on the way"
MODEL = "support"


def tensor(texts, binary=True, column=False):
    """The input tensor of some texts, of shape [n] or [n, 1]."""
    array = np.array(texts, dtype=object)
    if column:
        array = array.reshape(-1, 1)
    given = http.InferInput("text", list(array.shape), "BYTES")
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def refused(word, status, call, *arguments, **keywords):
    """Checks that a call is refused with this status, and a message that has the word."""
    try:
        call(*arguments, **keywords)
    except InferenceServerException as error:
        assert word in error.message(), error
        assert error.status() == str(status), error
    else:
        raise AssertionError(f"{call.__name__} was not refused: {word}")


def check_metadata(client):
    assert client.is_server_live() and client.is_server_ready()
    server = client.get_server_metadata()
    assert server["name"] == "corral" and "binary_tensor_data" in server["extensions"]
    assert client.is_model_ready(MODEL, headers=dict(HEADERS))
    assert not client.is_model_ready("none", headers=dict(HEADERS))
    model = client.get_model_metadata(MODEL, headers=dict(HEADERS))
    assert model["name"] == MODEL
    assert model["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    outputs = {output["name"]: output["datatype"] for output in model["outputs"]}
    assert outputs["label"] == outputs["id"] == "BYTES" and outputs["probability"] == "FP32"
    version = model["versions"][0]
    assert client.is_model_ready(MODEL, version, headers=dict(HEADERS))
    assert not client.is_model_ready(MODEL, "77", headers=dict(HEADERS))
    index = client.get_model_repository_index(headers=dict(HEADERS))
    assert [(entry["name"], entry["state"]) for entry in index] == [(MODEL, "READY")]
    return version


def check_repository(client):
    for _ in range(2):
        client.unload_model(MODEL, headers=dict(HEADERS))
        client.load_model(MODEL, headers=dict(HEADERS))
    refused("no endpoint", 404, client.load_model, "none", headers=dict(HEADERS))
    refused("cannot be given", 400, client.load_model, MODEL, config="{}", headers=dict(HEADERS))
    client.unload_model(MODEL, headers=dict(HEADERS))


def check_inference(client, version):
    def infer(given, **more):
        return client.infer(MODEL, [given], headers=dict(HEADERS), **more)

    texts = [PARCEL, "the invoice was charged twice", "späte Lieferung ☂"]
    # Everything in binary, as the client does without a word.
    plain = infer(tensor(texts), request_id="seven", model_version=version)
    assert plain.get_response()["id"] == "seven"
    assert plain.get_response()["model_version"] == version
    assert plain.as_numpy("id").tolist()[0] == EXPECTED
    assert plain.as_numpy("label").shape == (3,)
    probability = plain.as_numpy("probability")
    assert probability.dtype == np.float32 and (probability > 0).all()

    # The same in every mixture of JSON and binary, and packed.
    for binary_in in (False, True):
        for binary_out in (False, True):
            for packing in (None, "gzip", "deflate"):
                wanted = [
                    http.InferRequestedOutput("probability", binary_data=binary_out),
                    http.InferRequestedOutput("id", binary_data=not binary_out),
                ]
                answer = infer(
                    tensor(texts, binary=binary_in, column=binary_out),
                    outputs=wanted,
                    request_compression_algorithm=packing,
                    response_compression_algorithm=packing,
                )
                assert answer.as_numpy("label") is None
                ids = [value if isinstance(value, bytes) else value.encode()
                       for value in answer.as_numpy("id").tolist()]
                assert ids == plain.as_numpy("id").tolist()
                assert np.allclose(answer.as_numpy("probability"), probability)

    ranked = infer(tensor(texts), parameters={"top_k": 2})
    assert ranked.as_numpy("id").shape == ranked.as_numpy("probability").shape == (3, 2)
    assert (np.diff(ranked.as_numpy("probability")) <= 0).all()
    unsure = infer(tensor(texts), parameters={"threshold": 1.0})
    named, sure = unsure.as_numpy("id").tolist(), unsure.as_numpy("probability").tolist()
    assert all(p == (1.0 if name else 0.0) for name, p in zip(named, sure)), (named, sure)
    backed = infer(tensor(texts), parameters={"back_off": 0.1})
    assert backed.as_numpy("backed_off").shape == (3,)

    # A body that is long, packed both ways.
    many = infer(
        tensor([PARCEL] * 4096),
        request_compression_algorithm="gzip",
        response_compression_algorithm="gzip",
        timeout=60_000_000,
    )
    assert many.as_numpy("id").tolist() == [EXPECTED] * 4096
    assert infer(tensor([])).as_numpy("probability").shape == (0,)

    pending = [client.async_infer(MODEL, [tensor(texts)], headers=dict(HEADERS)) for _ in range(8)]
    for answer in pending:
        assert answer.get_result().as_numpy("id").tolist()[0] == EXPECTED


def check_errors(client):
    good = tensor([PARCEL])

    def infer(given, model=MODEL, headers=HEADERS, **more):
        return client.infer(model, [given], headers=dict(headers), **more)

    refused("did you mean `support`", 404, infer, good, model="suport")
    refused("no version `9`", 404, infer, good, model_version="9")
    refused("topk", 400, infer, good, parameters={"topk": 2})
    refused("top_k", 400, infer, good, parameters={"top_k": 0})
    wanted = [http.InferRequestedOutput("logits")]
    refused("no output `logits`", 400, infer, good, outputs=wanted)
    wanted = [http.InferRequestedOutput("label", class_count=3)]
    refused("classification", 400, infer, good, outputs=wanted)
    refused("at most 4096", 413, infer, tensor(["a"] * 5000))
    numbers = http.InferInput("text", [1], "FP32")
    numbers.set_data_from_numpy(np.zeros(1, dtype=np.float32))
    refused("BYTES", 400, infer, numbers)
    raw = http.InferInput("text", [1], "BYTES")
    raw.set_data_from_numpy(np.array([b"\xff\xfe"], dtype=object))
    refused("UTF-8", 400, infer, raw)
    refused("no token", 401, infer, good, headers={})
    refused("not known", 401, infer, good, headers={"Authorization": "Bearer corral_0"})
    refused("nothing at", 404, client.get_log_settings, headers=dict(HEADERS))


async def check_async_client():
    async with aio.InferenceServerClient(ADDRESS) as client:
        assert await client.is_server_ready()
        answer = await client.infer(
            MODEL, [tensor([PARCEL] * 300)], headers=dict(HEADERS),
            response_compression_algorithm="gzip",
        )
        assert answer.as_numpy("id").tolist() == [EXPECTED] * 300


def main():
    with http.InferenceServerClient(ADDRESS, concurrency=4) as client:
        version = check_metadata(client)
        check_repository(client)
        check_inference(client, version)
        check_errors(client)
    asyncio.run(check_async_client())
    print("all checks passed")


if __name__ == "__main__":
    main()
