"""The TensorFlow Serving protocol: its own page's examples, its own tests' numbers, and independent clients."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import keras
import numpy as np
import ovmsclient
import pytest
import tensorflow as tf
import uvloop
from prometheus_client.parser import text_string_to_metric_families
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from rlkit.api.policy_models import of_network, of_table
from rlkit.experiments.benchmarks.serving import GOOD, NAME, PREDICT
from rlkit.experiments.benchmarks.serving_hostile import attack, sender
from rlkit.experiments.studies import serving_client
from rlkit.export import savedmodel
from rlkit.export.portable import Settings
from rlkit.networks.layers import OneHot
from rlkit.serving.batching import Batcher, Call
from rlkit.serving.metrics import Metrics
from rlkit.serving.ops import SAVER
from rlkit.serving.rest import HEALTH, METRICS
from rlkit.serving.server import Addresses, Options, Stop, serve
from rlkit.serving.signature import Outputs

Answered = tuple[int, Any]


# ---- models


def half_plus(folder: Path, offset: float) -> None:
    """TensorFlow Serving's own test model, y = x / 2 + offset, by the session API as theirs."""
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        half = v1.get_variable("half", initializer=0.5)
        examples = v1.placeholder(tf.string, [None], "examples")
        parsed = v1.parse_example(examples, {"x": v1.FixedLenFeature([1], tf.float32)})["x"]  # [B, 1]
        x = v1.placeholder(tf.float32, None, "x")
        y, of_examples = half * x + offset, half * parsed + offset
        session.run(v1.global_variables_initializer())
        info, signature = v1.saved_model.build_tensor_info, v1.saved_model.build_signature_def
        regress, classify = "tensorflow/serving/regress", "tensorflow/serving/classify"
        given, out = {"inputs": info(examples)}, info(of_examples)
        signatures = {
            "serving_default": signature({"x": info(x)}, {"y": info(y)}, "tensorflow/serving/predict"),
            regress: signature(given, {"outputs": out}, regress),
            "regress_x_to_y": signature(given, {"outputs": out}, regress),
            "classify_x_to_y": signature(given, {"scores": out}, classify),
        }
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


class Adds(tf.Module):
    """q_values are the first two of four numbers plus the version's number: worked out in the head."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = tf.Variable(float(number))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "observation")])
    def serving_default(self, observation: tf.Tensor) -> dict[str, tf.Tensor]:
        q = observation[:, :2] + self.number
        return {"action": tf.argmax(q, -1), "q_values": q}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "observation")])
    def q_values(self, observation: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"q_values": observation[:, :2] + self.number}


def write_adds(folder: Path, number: float) -> None:
    module = Adds(number)
    tf.saved_model.save(module, str(folder), {"serving_default": module.serving_default, "q_values": module.q_values})


DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "uint32", "uint64", "bool")


class Zoo(tf.Module):
    """The page's three named inputs; each dtype as it came; rows that only some inputs may have; shapes of any kind."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "tag"),
            tf.TensorSpec([None, 5], tf.int64, "signal"),
            tf.TensorSpec([None, 2, 2], tf.float32, "sensor"),
        ]
    )
    def named(self, tag: tf.Tensor, signal: tf.Tensor, sensor: tf.Tensor) -> dict[str, tf.Tensor]:
        total = tf.cast(tf.reduce_sum(signal, -1), tf.float32) + tf.reduce_sum(sensor, [1, 2])
        return {"tag": tag, "tag_bytes": tag, "total": total}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def positive(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_positive(x, "it is for positive numbers")]):
            return {"y": tf.sqrt(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def reciprocal(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": 1 / x}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, "x")])
    def lengths(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"length": tf.fill([tf.shape(x)[0]], tf.shape(x)[1])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def total(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"total": tf.reduce_sum(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def labels(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        score = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]
        classes = tf.tile([["no", "yes"]], [tf.shape(score)[0], 1])
        return {"classes": classes, "scores": tf.stack([1 - score, score], -1)}


def echo(dtype: str) -> Any:
    @tf.function(input_signature=[tf.TensorSpec([None], dtype, "x")])
    def same(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.identity(x)}

    return same


def write_zoo(folder: Path) -> None:
    zoo = Zoo()
    echoes = {f"echo_{dtype}": echo(dtype) for dtype in (*DTYPES, "complex64")}
    for name, function in echoes.items():
        setattr(zoo, name, function)
    own = {name: getattr(zoo, name) for name in ("named", "positive", "reciprocal", "lengths", "total", "labels")}
    tf.saved_model.save(zoo, str(folder), {**own, **echoes, "serving_default": echoes["echo_float32"]})
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    updater.replace_method_name("labels", "tensorflow/serving/classify", tags="serve")
    updater.save()


# ---- servers and clients


@dataclass
class Running:
    """A server in a thread of this process."""

    at: Addresses
    name: str
    said: list[str]

    def send(self, method: str, path: str, body: bytes | str | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.at.host, self.at.port, timeout=20)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, path: str) -> Answered:
        status, body = self.send("GET", path)
        return status, json.loads(body)

    def post(self, verb: str, value: object, where: str = "") -> Answered:
        body = value if isinstance(value, bytes | str) else json.dumps(value)
        status, answer = self.send("POST", f"/v1/models/{self.name}{where}:{verb}", body)
        return status, json.loads(answer)

    def predict(self, value: object, where: str = "") -> Answered:
        return self.post("predict", value, where)

    def metric(self, name: str, **labels: str) -> float:
        _, page = self.send("GET", METRICS)
        return sum(
            sample.value
            for family in text_string_to_metric_families(page.decode())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@contextmanager
def running(path: Path, **options: Any) -> Iterator[Running]:
    """A server on free ports."""
    chosen = Options(path, **{"port": 0, "grpc_port": 0, "poll": 0.05, **options})
    ready, said = threading.Event(), list[str]()
    found: list[tuple[Addresses, Stop]] = []

    def started(at: Addresses, stop: Stop) -> None:
        found.append((at, stop))
        ready.set()

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(lambda: uvloop.run(serve(chosen, said.append, started)))
        ended.add_done_callback(lambda _: ready.set())
        assert ready.wait(60)
        if not found:
            ended.result()
        at, stop = found[0]
        try:
            yield Running(at, chosen.name, said)
        finally:
            stop()
            ended.result(60)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base = tmp_path_factory.mktemp("half")
    half_plus(base / "00000123", 3.0)
    with running(base, name="half_plus_three", operations=tuple(SAVER)) as server:
        yield server


@pytest.fixture(scope="module")
def adds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base = tmp_path_factory.mktemp("adds")
    for number in (1, 2, 3):
        write_adds(base / str(number), number)
    with running(base, name="adds", labels={"stable": 1, "gone": 7}, limit=100_000) as server:
        yield server


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("zoo") / "one"
    write_zoo(folder)
    with running(folder, nan=True) as server:
        yield server


def stubs(server: Running) -> tuple[Any, Any]:
    channel = grpc.insecure_channel(f"{server.at.host}:{server.at.grpc_port}")
    return prediction_service_pb2_grpc.PredictionServiceStub(channel), model_service_pb2_grpc.ModelServiceStub(channel)


def request_for(server: Running, signature: str = "", **inputs: Any) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = server.name
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(
            value if hasattr(value, "dtype") and not isinstance(value, np.ndarray) else tf.make_tensor_proto(value)
        )
    return request


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), error.details()


# ---- REST: the page's examples


def test_the_examples_of_the_page(half: Running) -> None:
    assert half.get("/v1/models/half_plus_three") == (
        200,
        {
            "model_version_status": [
                {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            ]
        },
    )
    assert half.predict({"instances": [1.0, 2.0, 5.0]}) == (200, {"predictions": [3.5, 4.0, 5.5]})
    asked = {"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, {"x": 2.0}]}
    assert half.post("regress", asked) == (200, {"results": [3.5, 4.0]})
    status, answer = half.send("POST", "/v1/models/half:predict", '{"instances": [1.0,5.0]}')
    assert (status, json.loads(answer)) == (404, {"error": "Servable not found for request: Latest(half)"})


def test_numbers_of_tensorflow_servings_own_tests(tmp_path: Path) -> None:
    """http_rest_api_handler_test.cc, with its model half_plus_two."""
    half_plus(tmp_path / "123", 2.0)
    with running(tmp_path, name="m", operations=tuple(SAVER)) as server:
        assert server.predict({"instances": [[1.0, 2.0], [3.0, 4.0]]}) == (
            200,
            {"predictions": [[2.5, 3.0], [3.5, 4.0]]},
        )
        assert server.predict({"instances": [1.0, 2.0]}, "/versions/123") == (200, {"predictions": [2.5, 3.0]})
        named = {"signature_name": "serving_default", "inputs": [3.0, 4.0]}
        assert server.predict(named, "/versions/123") == (200, {"outputs": [3.5, 4.0]})
        asked = {"signature_name": "regress_x_to_y", "examples": [{"x": 80.0}]}
        assert server.post("regress", asked) == (200, {"results": [42]})
        asked = {"signature_name": "classify_x_to_y", "examples": [{"x": 20.0}]}
        assert server.post("classify", asked) == (200, {"results": [[["", 12]]]})
        asked["examples"] = [{"x": 10.0}]
        assert server.post("classify", asked, "/versions/123") == (200, {"results": [[["", 7]]]})


def test_rows_and_columns_of_named_inputs(zoo: Running) -> None:
    """The page's request of three inputs, in both formats; its totals are 15 + 10 and 15 + 23."""
    rows = [
        {"tag": "foo", "signal": [1, 2, 3, 4, 5], "sensor": [[1, 2], [3, 4]]},
        {"tag": "bar", "signal": [3, 4, 1, 2, 5], "sensor": [[4, 5], [6, 8]]},
    ]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    foo, bar = ({"b64": base64.b64encode(word).decode()} for word in (b"foo", b"bar"))
    assert zoo.predict({"signature_name": "named", "instances": rows}) == (
        200,
        {
            "predictions": [
                {"tag": "foo", "tag_bytes": foo, "total": 25.0},
                {"tag": "bar", "tag_bytes": bar, "total": 38.0},
            ]
        },
    )
    assert zoo.predict({"signature_name": "named", "inputs": columns}) == (
        200,
        {"outputs": {"tag": ["foo", "bar"], "tag_bytes": [foo, bar], "total": [25.0, 38.0]}},
    )


def test_bytes_go_both_ways(zoo: Running) -> None:
    raw = bytes(range(256))
    sent = {"b64": base64.b64encode(raw).decode()}
    row = {"tag": sent, "signal": [0] * 5, "sensor": [[0, 0], [0, 0]]}
    status, answer = zoo.predict({"signature_name": "named", "instances": [row]})
    assert status == 200
    assert answer["predictions"][0]["tag_bytes"] == sent


def test_an_agent_answers_actions_and_values(adds: Running) -> None:
    assert adds.predict({"instances": [[1, 2, 0, 0], [5.5, 2, 0, 0]]}) == (
        200,
        {"predictions": [{"action": 1, "q_values": [4.0, 5.0]}, {"action": 0, "q_values": [8.5, 5.0]}]},
    )
    assert adds.predict({"inputs": {"observation": [[1, 2, 0, 0]]}}) == (
        200,
        {"outputs": {"action": [1], "q_values": [[4.0, 5.0]]}},
    )
    # One output: its name is left out.
    asked = {"signature_name": "q_values", "instances": [{"observation": [1, 2, 0, 0]}]}
    assert adds.predict(asked) == (200, {"predictions": [[4.0, 5.0]]})
    assert adds.predict({"signature_name": "q_values", "inputs": [[1, 2, 0, 0]]}) == (200, {"outputs": [[4.0, 5.0]]})


def test_versions_and_labels(adds: Running) -> None:
    """Of three versions the newest two are served, and the one that has a label."""

    def first(where: str) -> float:
        status, answer = adds.predict({"signature_name": "q_values", "instances": [[0, 0, 0, 0]]}, where)
        assert status == 200, answer
        value: float = answer["predictions"][0][0]
        return value

    assert [first(w) for w in ("", "/versions/3", "/versions/2", "/versions/1", "/labels/stable")] == [3, 3, 2, 1, 1]
    _, listed = adds.get("/v1/models/adds")
    assert [entry["version"] for entry in listed["model_version_status"]] == ["3", "2", "1"]
    status, one = adds.get("/v1/models/adds/labels/stable")
    assert (status, one["model_version_status"][0]["version"]) == (200, "1")
    assert adds.get("/v1/models/adds/versions/2")[1]["model_version_status"][0]["state"] == "AVAILABLE"
    assert adds.get("/V1/Models/adds/VERSIONS/2")[0] == 200  # as their expressions have it
    assert adds.predict({"instances": [[0, 0, 0, 0]]}, "/versions/9") == (
        404,
        {"error": "Servable not found for request: Specific(adds, 9)"},
    )
    assert adds.predict({"instances": [[0, 0, 0, 0]]}, "/labels/gone")[0] == 404
    assert adds.predict({"instances": [[0, 0, 0, 0]]}, "/labels/new") == (
        400,
        {"error": "Unrecognized servable version label: new"},
    )
    assert adds.get("/v1/models/adds/versions/9") == (404, {"error": "Could not find version 9 of model adds"})
    assert adds.get("/v1/models/other") == (404, {"error": "Could not find any versions of model other"})


def test_metadata(adds: Running) -> None:
    status, page = adds.get("/v1/models/adds/versions/2/metadata")
    assert status == 200
    assert page["model_spec"] == {"name": "adds", "signature_name": "", "version": "2"}
    default = page["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert default["method_name"] == "tensorflow/serving/predict"
    assert default["inputs"]["observation"]["dtype"] == "DT_FLOAT"
    assert [d["size"] for d in default["inputs"]["observation"]["tensor_shape"]["dim"]] == ["-1", "4"]
    assert default["outputs"]["action"]["dtype"] == "DT_INT64"


# ---- REST: dtypes


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back(zoo: Running, dtype: str) -> None:
    kind = np.dtype(dtype)
    values: list[Any]
    if kind.kind == "f":
        values = [0.0, -1.5, 0.1, 2.0]
    elif kind.kind == "b":
        values = [True, False]
    else:
        values = [int(np.iinfo(kind).min), 0, 7, int(np.iinfo(kind).max)]
    status, answer = zoo.predict({"signature_name": f"echo_{dtype}", "instances": values})
    assert status == 200, answer
    assert [type(value) for value in answer["predictions"]] == [type(value) for value in values]
    np.testing.assert_array_equal(np.array(answer["predictions"], kind), np.array(values, kind))


def test_decimal_numbers_are_written_short_and_as_decimals(zoo: Running) -> None:
    _, body = zoo.send("POST", "/v1/models/default:predict", '{"instances": [0.1, 1, 3e-5, 16777217.0]}')
    assert body.startswith(b'{"predictions":[0.1,1.0,')
    assert json.loads(body)["predictions"] == [0.1, 1.0, 3e-5, 16777216.0]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_nan_and_infinity_are_what_the_page_says(zoo: Running, dtype: str) -> None:
    """With --allow-nan; without it they are refused, see BAD_BODIES. A model's own go out either way."""
    asked = f'{{"signature_name": "echo_{dtype}", "instances": [1.5, NaN, Infinity, -Infinity]}}'
    status, body = zoo.send("POST", "/v1/models/default:predict", asked)
    assert status == 200
    assert body.replace(b" ", b"") == b'{"predictions":[1.5,NaN,Infinity,-Infinity]}'


def test_an_infinity_that_the_model_made_is_told(tmp_path: Path) -> None:
    write_zoo(tmp_path / "1")
    with running(tmp_path) as server:
        body = '{"signature_name": "reciprocal", "instances": [0.0, 4.0, -0.0]}'
        assert server.send("POST", "/v1/models/default:predict", body)[1].replace(b" ", b"") == (
            b'{"predictions":[Infinity,0.25,-Infinity]}'
        )


BAD_VALUES = [
    ("float32", '["x"]', "not of expected type: float32"),
    ("float32", "[true]", "not of expected type: float32"),
    ("float32", "[1.0, true]", "not of expected type: float32"),
    ("float32", "[null]", "not of expected type: float32"),
    ("float32", '[{"b64": "AA=="}]', "not of expected type: float32"),
    ("float32", "[1e39]", "without loss of precision"),
    ("float32", "[16777217]", "without loss of precision"),
    ("float64", "[9007199254740993]", "without loss of precision"),
    ("float32", "[[1.0], [2.0]]", "expects float32 [-1], but the shape [2, 1]"),
    ("float32", "[1.0, [2.0]]", "not of one size"),
    ("float32", "[NaN, [NaN]]", "not of one size"),
    ("int32", "[1.0]", "not of expected type: int32"),
    ("int32", "[NaN]", "not of expected type: int32"),
    ("int64", "[Infinity]", "not of expected type: int64"),
    ("int32", "[2147483648]", "without loss of precision"),
    ("uint8", "[256]", "without loss of precision"),
    ("uint8", "[-1]", "without loss of precision"),
    ("uint64", "[-1]", "without loss of precision"),
    ("int64", "[9223372036854775808]", "without loss of precision"),
    ("bool", "[1]", "not of expected type: bool"),
    ("bool", "[0.0]", "not of expected type: bool"),
]


@pytest.mark.parametrize(("dtype", "values", "why"), BAD_VALUES)
def test_a_value_of_another_type_is_refused(zoo: Running, dtype: str, values: str, why: str) -> None:
    status, answer = zoo.predict(f'{{"signature_name": "echo_{dtype}", "instances": {values}}}')
    assert status == 400, answer
    assert why in answer["error"]
    assert answer.keys() == {"error"}


def test_a_dtype_that_json_cannot_hold(zoo: Running) -> None:
    assert zoo.predict({"signature_name": "echo_complex64", "instances": [1.0]})[0] == 501


# ---- REST: what is refused

OBSERVATION = [0.0, 0.0, 0.0, 0.0]
BAD_BODIES = [
    ("", "The document is empty"),
    ("instances = [1, 2]", "JSON Parse error"),
    ('{"instances": [[0, 0, 0, 0]]', "JSON Parse error"),
    ('{"instances": [[0, 0, 0, NaN]]', "JSON Parse error: Expecting"),
    ('{"instances":["NaN",]}', "JSON Parse error: trailing comma is not allowed at offset: 19"),
    ('{"instances":["Infinity" 1]}', "JSON Parse error: unexpected character, expected ',' or ']' at offset: 25"),
    ("\xff\xfe", "JSON Parse error"),
    ("[" * 100_00 + "]" * 100_00, "JSON Parse error"),
    ('{"instances": [NaN, "\\ud800"]}', "JSON Parse error"),
    ('{"instances": [[0, 0, 0, NaN]]}', "NaN and Infinity are taken with --allow-nan only"),
    ('{"instances": [[0, 0, 0, -Infinity]]}', "NaN and Infinity are taken with --allow-nan only"),
    ('{"instances": [[0, 0, 0, 1e999]]}', "JSON Parse error"),
    ("[1, 2]", "Is not object"),
    ("{}", "Missing 'inputs' or 'instances' key"),
    ({"instances": [OBSERVATION], "inputs": [OBSERVATION]}, "expecting only one of"),
    ({"instances": []}, "No values in 'instances' array"),
    ({"instances": 3}, "to be an list/array"),
    ({"instances": {"observation": OBSERVATION}}, "to be an list/array"),
    ({"instances": [[0.0, 0.0]]}, "[-1,4], but the shape [1, 2]"),
    ({"instances": [OBSERVATION, 3]}, "not of one size"),
    ({"instances": [[[[[[0.0]]]]]]}, "but the shape"),
    ({"instances": [{"observation": OBSERVATION}, OBSERVATION]}, "Expecting object but got list at item 1"),
    ({"instances": [OBSERVATION, {"observation": OBSERVATION}]}, "Expecting value/list but got object at item 1"),
    ({"instances": [{"state": OBSERVATION}]}, "keys must be equal to: observation"),
    ({"instances": [{}]}, "keys must be equal to: observation"),
    ({"inputs": {"state": [OBSERVATION]}}, "Missing named input: observation"),
    ({"inputs": {"observation": [OBSERVATION], "state": 1}}, "does not have named input"),
    ({"inputs": []}, "but the shape [0]"),
    ({"inputs": None}, "not of expected type"),
    ({"signature_name": "other", "instances": [OBSERVATION]}, 'Serving signature name: "other" not found'),
    ({"signature_name": 3, "instances": [OBSERVATION]}, "'signature_name' key must be a string value"),
]


@pytest.mark.parametrize(("body", "why"), BAD_BODIES)
def test_a_wrong_predict_request_is_refused(adds: Running, body: object, why: str) -> None:
    status, answer = adds.predict(body.encode("latin-1") if isinstance(body, str) else body)
    assert status == 400, answer
    assert why in answer["error"]


def test_several_inputs_need_names(zoo: Running) -> None:
    for key, why in (("instances", "instances is a plain list"), ("inputs", "inputs is a plain value/list")):
        status, answer = zoo.predict({"signature_name": "named", key: [1]})
        assert (status, why in answer["error"]) == (400, True)


@pytest.mark.parametrize(
    "value", [3, None, ["a", ["b"]], [{"b64": "?"}], [{"b64": 3}], [{"b64": "AA==", "c": 1}], [[["a"]]]]
)
def test_text_that_is_none(zoo: Running, value: object) -> None:
    columns = {"tag": value, "signal": [[0] * 5], "sensor": [[[0, 0], [0, 0]]]}
    assert zoo.predict({"signature_name": "named", "inputs": columns})[0] == 400


def test_what_the_model_itself_refuses_is_the_clients_mistake(zoo: Running) -> None:
    status, answer = zoo.predict({"signature_name": "positive", "instances": [-1.0]})
    assert status == 400
    assert "it is for positive numbers" in answer["error"]


@pytest.mark.parametrize("kind", ["table", "network"])
def test_a_state_outside_the_space_is_the_clients_mistake(kind: str, tmp_path: Path) -> None:
    """States count from 5; a table's lookup takes -1 for its last row, and a network codes what is outside as zeros."""
    values = np.arange(8, dtype=np.float32).reshape(4, 2)[:, ::-1]
    if kind == "table":
        made = of_table(values, 5, 0)
    else:
        state = keras.Input((), dtype="int32")
        made = of_network(keras.Model(state, keras.layers.Dense(2)(OneHot(4, 5)(state))), 0)
    savedmodel.write(made, tmp_path / "1", Settings())
    with running(tmp_path, name="states") as server:
        prediction, _ = stubs(server)
        assert server.predict({"instances": [5, 8]})[0] == 200
        for state in (4, 99, -1):
            for signature in ("serving_default", "q_values"):
                status, answer = server.predict({"signature_name": signature, "instances": [5, state]})
                assert status == 400
                assert f"observations must be from 5 to 8, but are] [5 {state}]" in answer["error"]
            asked = request_for(server, observation=np.array([state], np.int32))
            code, told = refused(partial(prediction.Predict, asked, timeout=10))
            assert code == grpc.StatusCode.INVALID_ARGUMENT
            assert "observations must be from 5 to 8, but are" in told


def test_outputs_without_rows_have_no_row_format(zoo: Running) -> None:
    status, answer = zoo.predict({"signature_name": "total", "instances": [1.0, 2.0]})
    assert (status, answer) == (400, {"error": "Tensor name: total has no shape information "})
    assert zoo.predict({"signature_name": "total", "inputs": [1.0, 2.0]}) == (200, {"outputs": 3.0})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/foo", 400),
        ("POST", "/v1/foo", 400),
        ("GET", "/v1/models", 400),
        ("POST", "/v1/models", 400),
        ("GET", "/v1/models/adds:predict", 400),
        ("POST", "/v1/models/adds/version/50:regress", 400),
        ("POST", "/v1/models/adds/versions/HELLO:regress", 400),
        ("POST", f"/v1/models/adds/versions/{2**64 - 1}:regress", 400),
        ("POST", f"/v1/models/adds/versions/{'9' * 5000}:predict", 400),
        ("POST", "/v1/models/adds/labels/a/versions/1:predict", 400),
        ("DELETE", "/v1/models/adds", 400),
        ("POST", "/v1/models/%00%ff:predict", 404),
        ("GET", "/v1/models/adds/versions/4/metadata", 404),
        ("GET", "/", 404),
        ("GET", "/v2/models/adds", 404),
    ],
)
def test_a_wrong_path_is_refused(adds: Running, method: str, path: str, status: int) -> None:
    found, body = adds.send(method, path, '{"instances": [[0, 0, 0, 0]]}' if method == "POST" else None)
    assert found == status, body
    assert json.loads(body).keys() == {"error"}


# ---- REST: classify and regress


def test_classes_with_labels_and_a_context(zoo: Running) -> None:
    asked: dict[str, Any] = {"signature_name": "labels", "examples": [{"x": 0.25}, {"x": [1.0]}]}
    expected = {"results": [[["no", 0.75], ["yes", 0.25]], [["no", 0.0], ["yes", 1.0]]]}
    assert zoo.post("classify", asked) == (200, expected)
    asked = {"signature_name": "labels", "context": {"x": 0.25}, "examples": [{}, {"other": [1, 2]}]}
    assert zoo.post("classify", asked) == (200, {"results": [expected["results"][0]] * 2})


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, "'examples' is expected and was not found"),
        ({"examples": 3}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "is an empty array"),
        ({"examples": [3]}, "Example must be JSON object"),
        ({"examples": [{"x": None}]}, "unexpected JSON type"),
        ({"examples": [{"x": {"a": 1}}]}, "unexpected JSON type"),
        ({"examples": [{"x": [[1.0]]}]}, "unexpected JSON type"),
        ({"examples": [{"x": [1, 1.0]}]}, "Unexpected element type in feature: x"),
        ({"examples": [{"x": 2**63}]}, "Only int64 is supported"),
        ({"examples": [{"x": 1e39}]}, "without loss of precision"),
        ({"examples": [{"x": {"b64": "?"}}]}, "base64"),
        ({"examples": [{"x": 1}]}, "x"),  # whole numbers for a feature of decimal ones: the model refuses it
        ({"examples": [{"y": 1.0}]}, "x"),
        ({"examples": [{"x": 1.0}], "signature_name": "other"}, "No signature was found with the name: other"),
        ({"examples": [{"x": 1.0}], "signature_name": "positive"}, "Expected classification signature method_name"),
        ({"examples": [{"x": 1.0}], "context": 3}, "Example must be JSON object"),
    ],
)
def test_a_wrong_classify_request_is_refused(zoo: Running, asked: dict[str, Any], why: str) -> None:
    status, answer = zoo.post("classify", {"signature_name": "labels", **asked})
    assert status == 400, answer
    assert why in answer["error"]


def test_regress_wants_a_signature_for_it(half: Running) -> None:
    status, answer = half.post("regress", {"examples": [{"x": 1.0}]})
    assert (status, "Expected regression signature method_name" in answer["error"]) == (400, True)


# ---- HTTP


def exchange(server: Running, *parts: bytes, wait: float = 0.0) -> bytes:
    """Everything that the server sends until it closes, or until it waits for more."""
    with socket.create_connection((server.at.host, server.at.port), timeout=10) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(wait)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while more := client.recv(65536):
            answer += more
        return answer


def raw(body: bytes, *headers: str, path: str = "/v1/models/adds:predict", version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: x", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_requests_of_one_connection_are_answered_in_their_order(adds: Running) -> None:
    def asked(first: float) -> bytes:
        body = b'{"signature_name": "q_values", "instances": [[%f, 0, 0, 0]]}' % first
        return raw(body, f"Content-Length: {len(body)}")

    wrong = raw(b"?", "Content-Length: 1")
    answer = exchange(adds, asked(1) + wrong + asked(2) + asked(3))
    bodies = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert [b["predictions"][0][0] if "predictions" in b else None for b in bodies] == [4, None, 5, 6]


def test_many_requests_in_one_packet_are_all_answered(adds: Running) -> None:
    one = raw(b'{"instances": [[0, 0, 0, 0]]}', "Content-Length: 29")
    assert exchange(adds, one * 500).count(b"200 OK") == 500


def test_a_body_in_chunks_and_in_small_pieces(adds: Running) -> None:
    body = b'{"instances": [[0, 0, 0, 0]]}'
    chunked = raw(b"5\r\n" + body[:5] + b"\r\n18\r\n" + body[5:] + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
    assert b"200 OK" in exchange(adds, chunked)
    whole = raw(body, f"Content-Length: {len(body)}")
    assert b"200 OK" in exchange(adds, *[whole[i : i + 7] for i in range(0, len(whole), 7)], wait=0.001)


def test_an_old_client_and_one_that_closes(adds: Running) -> None:
    body = b'{"instances": [[0, 0, 0, 0]]}'
    for request in (
        raw(body, "Content-Length: 29", version="1.0"),
        raw(body, "Content-Length: 29", "Connection: close"),
    ):
        with socket.create_connection((adds.at.host, adds.at.port), timeout=10) as client:
            client.sendall(request)
            answer = b""
            while more := client.recv(65536):  # ends, as the server closes
                answer += more
        assert b"200 OK" in answer
        assert b"Connection: close" in answer


def test_a_client_that_asks_before_it_sends(adds: Running) -> None:
    body = b'{"instances": [[0, 0, 0, 0]]}'
    answer = exchange(adds, raw(b"", "Content-Length: 29", "Expect: 100-continue"), body, wait=0.2)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    answer = exchange(adds, raw(b"", "Content-Length: 100001", "Expect: 100-continue"))
    assert answer.startswith(b"HTTP/1.1 413")


def test_what_is_too_large_or_no_http_is_refused(adds: Running) -> None:
    assert adds.predict(b" " * 100_000)[0] == 400  # as large as may be, and no JSON
    status, answer = adds.predict(b" " * 100_001)
    assert (status, "more than 100000 bytes" in answer["error"]) == (413, True)
    huge = exchange(adds, raw(b"", "Transfer-Encoding: chunked"), b"186a0\r\n" + b" " * 100_000)
    assert huge == b""  # half a request, and the client's end: no answer is due
    assert exchange(adds, b"\x16\x03\x01 no HTTP\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert exchange(adds, raw(b"", "Content-Length: -1")).startswith(b"HTTP/1.1 400")
    assert exchange(adds, raw(b"", "Connection: upgrade", "Upgrade: websocket")).startswith(b"HTTP/1.1 400")
    assert exchange(adds, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000).startswith(b"HTTP/1.1 431")
    assert exchange(adds, b"GET /" + b"a" * 100_000).startswith(b"HTTP/1.1 431")


def test_a_client_that_goes_away_harms_nobody(adds: Running) -> None:
    request = raw(b'{"instances": [[0, 0, 0, 0]]}', "Content-Length: 29")
    for _ in range(20):
        with socket.create_connection((adds.at.host, adds.at.port)) as client:
            client.sendall(request * 10)
    assert adds.predict({"instances": [OBSERVATION]})[0] == 200


def test_health_and_metrics(adds: Running) -> None:
    assert adds.get(HEALTH) == (200, {"status": "SERVING", "model": "adds", "versions": [1, 2, 3]})
    assert adds.send("HEAD", HEALTH) == (200, b"")
    count = ":tensorflow:serving:request_count"
    before = [adds.metric(count, status=code) for code in ("OK", "INVALID_ARGUMENT", "NOT_FOUND")]
    latency = adds.metric(":tensorflow:serving:request_latency_count", API="Predict", entrypoint="REST")
    adds.predict({"instances": [OBSERVATION]})
    adds.predict("")
    adds.predict({"instances": [OBSERVATION]}, "/versions/9")
    after = [adds.metric(count, status=code) for code in ("OK", "INVALID_ARGUMENT", "NOT_FOUND")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]
    assert adds.metric(":tensorflow:serving:request_latency_count", API="Predict", entrypoint="REST") == latency + 3


# ---- gRPC


def test_grpc_predicts(adds: Running, zoo: Running) -> None:
    prediction, _ = stubs(adds)
    request = request_for(adds, observation=np.array([[1, 2, 0, 0], [5.5, 2, 0, 0]], np.float32))
    response = prediction.Predict(request, timeout=10)
    assert list(response.outputs["q_values"].float_val) == [4.0, 5.0, 8.5, 5.0]
    assert list(response.outputs["action"].int64_val) == [1, 0]
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["q_values"]), [[4, 5], [8.5, 5]])
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("adds", 3, "serving_default")
    request.model_spec.version.value = 1
    request.output_filter.append("action")
    response = prediction.Predict(request, timeout=10)
    assert (list(response.outputs), response.model_spec.version.value) == (["action"], 1)
    request.model_spec.version_label = "stable"
    assert prediction.Predict(request, timeout=10).model_spec.version.value == 1
    prediction, _ = stubs(zoo)
    inputs = {
        "tag": np.array([b"\xff\x00"], object),
        "signal": np.ones((1, 5), np.int64),
        "sensor": np.ones((1, 2, 2), "f"),
    }
    response = prediction.Predict(request_for(zoo, "named", **inputs), timeout=10)
    assert list(response.outputs["tag"].string_val) == [b"\xff\x00"]
    assert list(response.outputs["total"].float_val) == [9.0]


@pytest.mark.parametrize("dtype", [*DTYPES, "complex64"])
def test_grpc_takes_every_dtype(zoo: Running, dtype: str) -> None:
    prediction, _ = stubs(zoo)
    value = np.array([0, 1, 1], dtype)
    response = prediction.Predict(request_for(zoo, f"echo_{dtype}", x=value), timeout=10)
    found = tf.make_ndarray(response.outputs["y"])
    assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)


def give(request: Any, tensor: Any) -> None:
    request.inputs["observation"].CopyFrom(tensor)


def test_grpc_codes(adds: Running, zoo: Running) -> None:
    prediction, models = stubs(adds)
    observation = np.zeros((1, 4), np.float32)
    good = request_for(adds, observation=observation)

    def changed(change: Callable[[Any], object], request: Any = good) -> tuple[grpc.StatusCode, str]:
        copy = type(request)()
        copy.CopyFrom(request)
        change(copy)
        return refused(lambda: prediction.Predict(copy, timeout=10))

    invalid, missing = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
    assert changed(lambda r: setattr(r.model_spec, "name", "other")) == (
        missing,
        "Servable not found for request: Latest(other)",
    )
    assert changed(lambda r: setattr(r.model_spec.version, "value", 9))[0] == missing
    assert changed(lambda r: setattr(r.model_spec, "version_label", "new"))[0] == invalid
    assert changed(lambda r: r.ClearField("model_spec"))[0] == invalid
    assert changed(lambda r: setattr(r.model_spec, "signature_name", "other"))[0] == grpc.StatusCode.FAILED_PRECONDITION
    assert changed(lambda r: r.inputs.clear())[0] == invalid
    assert changed(lambda r: r.output_filter.append("other"))[0] == invalid
    assert changed(lambda r: r.output_filter.extend(["action", "action"]))[0] == invalid
    tensors = {
        "dtype": tf.make_tensor_proto(np.zeros((1, 4))),
        "shape": tf.make_tensor_proto(np.zeros((1, 5), np.float32)),
        "rank": tf.make_tensor_proto(np.zeros(4, np.float32)),
        "unknown dtype": tensor_pb2.TensorProto(dtype=0),
        "too few": tensor_pb2.TensorProto(dtype=1, tensor_content=b"123"),
    }
    tensors["too few"].tensor_shape.dim.add(size=4)
    negative = tensor_pb2.TensorProto(dtype=1)
    negative.tensor_shape.dim.add(size=-1)
    for name, tensor in {**tensors, "negative": negative}.items():
        assert changed(partial(give, tensor=tensor))[0] == invalid, name
    # Sixteen bytes that stand for 16 TB.
    vast = tensor_pb2.TensorProto(dtype=1, float_val=[1.0])
    for size in (10**12, 4):
        vast.tensor_shape.dim.add(size=size)
    assert changed(partial(give, tensor=vast))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    large = request_for(adds, observation=np.zeros((10_000, 4), np.float32))
    assert refused(lambda: prediction.Predict(large, timeout=10))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (
        refused(lambda: models.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(), timeout=10))[0] == invalid
    )
    other, _ = stubs(zoo)
    negative_number = request_for(zoo, "positive", x=np.array([-1.0], np.float32))
    assert refused(lambda: other.Predict(negative_number, timeout=10))[0] == invalid


def test_grpc_status_and_metadata(adds: Running) -> None:
    prediction, models = stubs(adds)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "adds"
    found = models.GetModelStatus(request, timeout=10).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert [(s.version, s.state) for s in found] == [(n, available) for n in (3, 2, 1)]
    request.model_spec.version.value = 9
    assert refused(lambda: models.GetModelStatus(request, timeout=10)) == (
        grpc.StatusCode.NOT_FOUND,
        "Could not find version 9 of model adds",
    )
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "adds"
    answer = prediction.GetModelMetadata(asked, timeout=10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert answer.model_spec.version.value == 3
    assert signatures.signature_def["q_values"].outputs["q_values"].dtype == tf.float32.as_datatype_enum
    for fields in ([], ["other"]):
        del asked.metadata_field[:]
        asked.metadata_field.extend(fields)
        code, _ = refused(lambda: prediction.GetModelMetadata(asked, timeout=10))
        assert code == grpc.StatusCode.INVALID_ARGUMENT


def test_grpc_classifies_and_regresses(half: Running, zoo: Running) -> None:
    prediction, _ = stubs(half)
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(80.0)
    asked = regression_pb2.RegressionRequest()
    asked.model_spec.name, asked.model_spec.signature_name = "half_plus_three", "regress_x_to_y"
    assert refused(lambda: prediction.Regress(asked, timeout=10)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Input is empty.",
    )
    asked.input.example_list.examples.append(example)
    response = prediction.Regress(asked, timeout=10)
    assert [r.value for r in response.result.regressions] == [43.0]
    assert response.model_spec.version.value == 123
    asked.model_spec.signature_name = "classify_x_to_y"
    assert refused(lambda: prediction.Regress(asked, timeout=10))[0] == grpc.StatusCode.INVALID_ARGUMENT
    prediction, _ = stubs(zoo)
    classes = classification_pb2.ClassificationRequest()
    classes.model_spec.name, classes.model_spec.signature_name = "default", "labels"
    example.features.feature["x"].float_list.value[:] = [0.25]
    classes.input.example_list_with_context.context.CopyFrom(example)
    classes.input.example_list_with_context.examples.add()
    found = prediction.Classify(classes, timeout=10).result.classifications
    assert [[(c.label, c.score) for c in row.classes] for row in found] == [[("no", 0.75), ("yes", 0.25)]]


# ---- an independent client


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_ovmsclient(adds: Running, way: str) -> None:
    if way == "http":
        client = ovmsclient.make_http_client(f"{adds.at.host}:{adds.at.port}")
    else:
        client = ovmsclient.make_grpc_client(f"{adds.at.host}:{adds.at.grpc_port}")
    answer = client.predict({"observation": np.array([[1, 2, 0, 0]], np.float32)}, "adds", 2)
    np.testing.assert_array_equal(answer["q_values"], [[3, 4]])
    np.testing.assert_array_equal(answer["action"], [1])
    assert client.get_model_status("adds", 2) == {2: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    assert "serving_default" in str(client.get_model_metadata("adds", 2)) or way == "grpc"
    with pytest.raises(ovmsclient.tfs_compat.base.errors.ModelNotFoundError):
        client.get_model_status("adds", 9)


# ---- batches


def test_requests_that_wait_together_are_computed_together(adds: Running, tmp_path: Path) -> None:
    write_adds(tmp_path / "1", 1.0)
    with running(tmp_path, batch_size=16, batch_timeout=5.0) as server:
        begun = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            asked = [{"signature_name": "q_values", "instances": [[i, 0, 0, 0]]} for i in range(16)]
            answers = list(pool.map(server.predict, asked))
        assert [a["predictions"][0][0] for _, a in answers] == [i + 1 for i in range(16)]  # each its own
        assert time.perf_counter() - begun < 4  # a full batch does not wait on
        assert server.metric("rlkit:serving:batch_size_count") == 1
        assert server.metric("rlkit:serving:batch_size_sum") == 16


def test_one_request_waits_no_longer_than_it_is_told(tmp_path: Path) -> None:
    write_adds(tmp_path / "1", 1.0)
    with running(tmp_path, batch_size=16, batch_timeout=0.2) as server:
        begun = time.perf_counter()
        assert server.predict({"instances": [OBSERVATION]})[0] == 200
        assert 0.2 <= time.perf_counter() - begun < 2


def test_a_batch_is_spoilt_for_nobody(zoo: Running, tmp_path: Path) -> None:
    """One request's mistake is its own; other signatures and shapes have batches of their own."""
    write_zoo(tmp_path / "1")
    with running(tmp_path, batch_size=40, batch_timeout=0.3) as server, ThreadPoolExecutor(40) as pool:
        asked: list[dict[str, Any]] = [{"signature_name": "positive", "instances": [float(i * i)]} for i in range(10)]
        asked += [{"signature_name": "lengths", "instances": [[0.0] * (i % 3)]} for i in range(10)]
        asked += [{"signature_name": "total", "inputs": [float(i), 1.0]} for i in range(10)]
        asked += [{"signature_name": "echo_float32", "instances": [float(i)] * i} for i in range(1, 11)]
        answers = list(pool.map(server.predict, asked))
    assert answers[0][0] == 400
    assert [a["predictions"] for _, a in answers[1:10]] == [[float(i)] for i in range(1, 10)]
    assert [a["predictions"] for _, a in answers[10:20]] == [[i % 3] for i in range(10)]
    assert [a["outputs"] for _, a in answers[20:30]] == [float(i) + 1 for i in range(10)]
    assert [a["predictions"] for _, a in answers[30:]] == [[float(i)] * i for i in range(1, 11)]


def test_a_slow_model_holds_up_no_other_request() -> None:
    """It is computed beside the loop, which takes the next batch meanwhile: 1 call, then 5 in one."""
    sizes: list[int] = []

    class Slow:
        batchable, seconds, outputs = True, 1.0, ("y",)

        def rows(self, arrays: dict[str, np.ndarray]) -> int:
            return len(arrays["x"])

        def __call__(self, arrays: dict[str, np.ndarray]) -> Outputs:
            sizes.append(len(arrays["x"]))
            time.sleep(0.3)
            return Outputs({"y": arrays["x"] * 2}, True)

    async def played() -> tuple[list[float], float]:
        loop = asyncio.get_running_loop()
        batcher = Batcher(loop, 64, 0.0, Metrics("m"))
        version: Any = SimpleNamespace(active=0)
        answers: list[float] = []
        signature: Any = Slow()

        def submit(value: float) -> None:
            call = Call(version, signature, {"x": np.array([value])})
            call.answer = lambda answer: answers.append(float(answer.arrays["y"][0]))  # type: ignore[union-attr]
            batcher.submit(call)

        submit(1.0)
        longest, last = 0.0, loop.time()
        while len(answers) < 6:
            await asyncio.sleep(0.005)
            longest, last = max(longest, loop.time() - last), loop.time()
            if not answers and version.active == 1:
                for value in range(2, 7):
                    submit(float(value))
        batcher.close()
        assert version.active == 0
        return answers, longest

    answers, longest = asyncio.run(played())
    assert answers == [2, 4, 6, 8, 10, 12]
    assert sizes == [1, 5]
    assert longest < 0.2


# ---- malformed requests


def test_malformed_requests_are_all_refused(tmp_path: Path) -> None:
    """As `python -m rlkit.experiments.benchmarks.serving_hostile --only fuzz` with 10,000 of them."""
    write_adds(tmp_path / "1", 1.0)
    with running(tmp_path, name=NAME) as server, sender(server.at.port) as send:
        statuses = attack(send, 300)
        assert sum(statuses.values()) >= 250  # a strategy that runs dry would end early
        assert {400, 404} <= statuses.keys()
        assert send("POST", PREDICT, json.dumps(GOOD).encode())[0] == 200
        assert server.metric(":tensorflow:serving:request_count", status="INTERNAL") == 0


# ---- the clients of the notes


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base = tmp_path_factory.mktemp("cartpole")
    policy = serving_client.Pushes()
    tf.saved_model.save(policy, str(base / "1"), {"serving_default": policy.serving_default})
    with running(base) as server:
        yield server


def test_a_client_balances_the_pole_over_rest_and_grpc(cartpole: Running) -> None:
    """To CartPole-v1's limit of 500 steps."""
    at = cartpole.at
    addresses = ["--rest", f"http://{at.host}:{at.port}", "--grpc", f"{at.host}:{at.grpc_port}"]
    assert serving_client.main(addresses) == {"REST": 500, "gRPC": 500}


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node to run serving_client.mjs")
def test_a_client_in_javascript_balances_the_pole(cartpole: Running) -> None:
    script = Path(__file__).parent.parent / "experiments" / "studies" / "serving_client.mjs"
    words = ["node", str(script), f"http://{cartpole.at.host}:{cartpole.at.port}"]
    said = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    assert said.stdout == "over REST: return 500\n"
