"""Requests as they go over the wire, REST and gRPC, altered by chance."""

from __future__ import annotations

import gzip
import json
import random
from typing import Any

from rlkit.experiments.benchmarks._hostile import SIGNATURES
from rlkit.experiments.benchmarks.serving import GOOD, NAME, PREDICT


def altered(data: bytes, by: random.Random) -> bytes:
    """Bytes of which some are changed, left out, put in, repeated or in another place."""
    found = bytearray(data)
    for _ in range(by.choice((1, 1, 1, 2, 4, 8))):
        at = by.randrange(len(found) + 1)
        kind = by.randrange(6)
        if kind == 0 and at < len(found):
            found[at] = by.randrange(256)
        elif kind == 1 and at < len(found):
            found[at] ^= 1 << by.randrange(8)
        elif kind == 2:
            del found[at : at + by.choice((1, 2, 5, 20))]
        elif kind == 3:
            found[at:at] = by.choice(TOKENS)
        elif kind == 4:
            found[at:at] = found[at : at + by.choice((1, 4, 16))] * by.choice((1, 3, 30))
        else:
            found[at:at] = bytes(by.randrange(256) for _ in range(by.choice((1, 3, 9))))
    return bytes(found)


TOKENS = (
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b'"',
    b"\\",
    b"\r\n",
    b"\n",
    b"\0",
    b" ",
    b"NaN",
    b"1e999",
    b"-",
    b"null",
    b"true",
    b'{"b64":"',
    b"0" * 400,
    b"[" * 70,
    b"\xff",
    b"\xf0\x9f\x98\x80",
    b"\\ud800",
    b"Content-Length: 5\r\n",
    b"%00",
    b"../",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: h2c\r\nConnection: upgrade\r\n",
    b"Expect: 100-continue\r\n",
    b"9" * 25,
    b"Content-Encoding: gzip\r\n",
    b"Host: evil.example\r\n",
    b"\x80\x80\x80\x80\x10",
    b"\xff\xff\xff\xff\x0f",
    b"\x0a\x00",
)


def raw_request(by: random.Random) -> bytes:
    """A request as it goes over the wire, wrong in its head, its chunks or its body."""
    body = by.choice(BODIES)
    fields = [b"Host: 127.0.0.1", b"Content-Type: application/json"]
    where = by.randrange(3)  # which part is altered
    if where == 0:
        body = altered(body, by)
    if by.random() < 0.2:
        fields.append(b"Content-Encoding: " + by.choice((b"gzip", b"deflate", b"br", b"identity", b"gzip, gzip")))
        body = altered(gzip.compress(body, 1), by) if by.random() < 0.7 else body
    method, path = by.choice(METHODS), by.choice(PATHS)
    if by.random() < 0.2:
        cut = by.randrange(len(body) + 1)
        parts = [part for part in (body[:cut], body[cut:]) if part]
        body = (
            b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            + b"0\r\n"
            + by.choice((b"", b"X: y\r\n"))
            + b"\r\n"
        )
        fields.append(b"Transfer-Encoding: chunked")
        if where == 1:
            body = altered(body, by)
    else:
        fields.append(b"Content-Length: %d" % len(body))
    head = b"\r\n".join([b"%b %b HTTP/1.1" % (method, path), *fields, b"", b""])
    return (altered(head, by) if where == 2 else head) + body


METHODS = (*[b"POST"] * 12, b"GET", b"PUT", b"DELETE", b"OPTIONS", b"HEAD", b"PATCH", b"TRACE", b"CONNECT", b"PRI")
PATHS = tuple(
    path.encode()
    for path in (
        *[PREDICT] * 12,
        f"/v1/models/{NAME}:classify",
        f"/v1/models/{NAME}:regress",
        f"/v1/models/{NAME}/versions/1:predict",
        f"/v1/models/{NAME}/versions/{'0' * 5000}:predict",
        f"/v1/models/{NAME}/versions/{'9' * 5000}",
        "/v1/models/x:predict",
        f"/v1/models/{NAME}/labels/x:predict",
        f"/v1/models/{NAME}/metadata",
        f"/v1/models/{NAME}",
        "/health",
        "*",
        "/v1/models/",
        f"http://example.test{PREDICT}",
        f"{PREDICT}?a=b",
        "/v1/models/%00:predict",
        "//",
        "/monitoring/prometheus/metrics",
    )
)
GIVEN: tuple[Any, ...] = (
    GOOD,
    {"inputs": {"observation": [[1, 2, 3, 4], [0.5, -1e9, 0, 7]]}},
    {"instances": [{"observation": [1, 2, 3, 4]}] * 3},
    {"signature_name": "text", "instances": ["a", {"b64": "YWI="}, 'é\\"']},
    {"signature_name": "whole", "instances": [2**63, -1]},
    {"signature_name": "any", "inputs": [[[1.5]], [[2]]]},
    {"signature_name": "classify", "examples": [{"x": 0.5}, {"x": [1.0]}]},
    {
        "signature_name": "regress",
        "context": {"x": 0.5},
        "examples": [{}, {"y": ["a", {"b64": "YQ"}]}, {"z": [1, 2]}],
    },
    {"signature_name": "wide", "instances": [[1, 2], [3]]},
    {"instances": [[True, None, "x", []]]},
    {},
    [],
    3,
)
BODIES = tuple(json.dumps(value).encode() for value in GIVEN)


def grpc_messages() -> dict[str, list[bytes]]:
    """Good messages of each method, by its full name."""
    import tensorflow as tf
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        predict_pb2,
        regression_pb2,
    )

    found: dict[str, list[bytes]] = {}

    def add(service: str, method: str, message: Any) -> None:  # noqa: ANN401 - a message
        message.model_spec.name = NAME
        found.setdefault(f"/tensorflow.serving.{service}/{method}", []).append(message.SerializeToString())

    values: dict[str, Any] = {
        "numbers": [[0.5, 1, 2, 3]],
        "wide": [[1.0], [2.0]],
        "whole": [1, 2**62],
        "text": [b"a", b"\xff"],
        "any": 1.5,
    }
    for signature, value in values.items():
        request = predict_pb2.PredictRequest()
        request.model_spec.signature_name = signature
        request.inputs["observation"].CopyFrom(tf.make_tensor_proto(value, SIGNATURES[signature][0]))
        request.output_filter.append("y")
        add("PredictionService", "Predict", request)
        for field, numbers in {"float_val": [1, 2, 3, 4], "int_val": [2**31 - 1, -1], "half_val": [100_000]}.items():
            tensor = request.inputs["observation"]
            dtype = tensor.dtype
            tensor.Clear()
            tensor.dtype = dtype
            for dim in (1, 4):
                tensor.tensor_shape.dim.add(size=dim)
            getattr(tensor, field).extend(numbers)
            add("PredictionService", "Predict", request)
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(0.5)
    for method, kind in {
        "Classify": classification_pb2.ClassificationRequest,
        "Regress": regression_pb2.RegressionRequest,
    }.items():
        request = kind()
        request.model_spec.signature_name = method.lower()
        request.input.example_list.examples.append(example)
        add("PredictionService", method, request)
        request.input.example_list_with_context.context.CopyFrom(example)
        request.input.example_list_with_context.examples.add()
        add("PredictionService", method, request)
    add(
        "PredictionService",
        "GetModelMetadata",
        get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"]),
    )
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.version.value = 1
    add("ModelService", "GetModelStatus", status)
    return found
