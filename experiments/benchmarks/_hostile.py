"""Bodies that are to take much memory, and a model that gives back what it is given."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

SIGNATURES: dict[str, tuple[str, list[int | None] | None]] = {
    "numbers": ("float32", [None, 4]),
    "wide": ("float64", [None, None]),
    "whole": ("int64", [None]),
    "text": ("string", [None]),
    "any": ("float32", None),
}
"""Inputs of what `write_model` writes, each of which a signature gives back."""


def write_model(folder: Path) -> None:
    """A SavedModel that gives back what it is given, and a classifier and a regressor of examples."""
    import tensorflow as tf

    def echo(dtype: str, shape: list[int | None] | None) -> Any:  # noqa: ANN401 - a tf.function
        @tf.function(input_signature=[tf.TensorSpec(shape, dtype, "observation")])
        def same(observation: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": tf.identity(observation)}

        return same

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def examples(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        x = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32, 0.0)})["x"]
        return {"scores": tf.stack([x, 1 - x], -1), "outputs": x}

    module = tf.Module()
    signatures = {name: echo(*of) for name, of in SIGNATURES.items()}
    methods = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}
    signatures |= dict.fromkeys(methods, examples)
    for name, function in signatures.items():
        setattr(module, name, function)
    tf.saved_model.save(module, str(folder), {**signatures, "serving_default": signatures["numbers"]})
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for name, method in methods.items():
        updater.replace_method_name(name, method, tags="serve")
    updater.save()


class Case(NamedTuple):
    """A body and for what it is sent."""

    name: str
    verb: str
    body: bytes


def corpus(size: int) -> Iterator[Case]:
    """Bodies of about so many bytes, each made to take much memory."""

    def fill(element: str, last: str = "", signature: str = "numbers", key: str = "instances") -> bytes:
        count = max(1, size // (len(element) + 1))
        elements = ",".join([element] * count) + (f",{last}" if last else "")
        return f'{{"signature_name":"{signature}","{key}":[{elements}]}}'.encode()

    row = "[0.5,1,-2,3e4]"
    for signature in SIGNATURES:
        for element in ("0", "0.5", "1e9", "[]", "[1]", "[[1]]", '""', '"ab"', "{}", '{"x":1}', "null", "true", row):
            yield Case(f"{element} for {signature}", "predict", fill(element, signature=signature))
    half = size // 2
    yield Case(
        "a long string among numbers", "predict", b'{"instances":[["%b"%b]]}' % (b"a" * half, b",1" * (half // 2))
    )
    yield Case("a long string among rows", "predict", fill(row, f'"{"a" * half}"'))
    yield Case("one wrong row after many", "predict", fill(row, "[1,2,3]"))
    yield Case("one wrong number after many", "predict", fill(row, '[1,2,3,"é"]'))
    yield Case("rows of one number too many", "predict", fill("[1,2,3,4,5]"))
    yield Case("named rows", "predict", fill(f'{{"observation":{row}}}'))
    yield Case("named rows of another name", "predict", fill(f'{{"x":{row}}}'))
    yield Case(
        "a column",
        "predict",
        b'{"inputs":{"observation":%b}}' % b"".join([b"[", b"[1,2,3,4]," * (size // 10), b"[1,2,3,4]]"]),
    )
    yield Case(
        "one row of many numbers", "predict", b'{"signature_name":"any","inputs":[[[%b]]]}' % b",".join([b"0"] * half)
    )
    yield Case(
        "many lists in a row",
        "predict",
        b'{"signature_name":"any","instances":[[%b]]}' % b",".join([b"[1]"] * (size // 4)),
    )
    yield Case("deep lists", "predict", b'{"instances":%b' % (b"[" * half + b"]" * half) + b"}")
    yield Case("deep lists, side by side", "predict", fill("[" * 60 + "]" * 60, signature="any"))
    yield Case("deep objects", "predict", b'{"instances":%b1%b}' % (b'{"a":' * (size // 6), b"}" * (size // 6)))
    yield Case("lists without an end", "predict", b'{"instances":' + b"[" * size)
    yield Case(
        "many names", "predict", b'{%b,"instances":[[1,2,3,4]]}' % b",".join(b'"%x":0' % i for i in range(size // 9))
    )
    yield Case(
        "a list that nobody asks for",
        "predict",
        b'{"x":[%b],"instances":[[1,2,3,4]]}' % b",".join([b"[]"] * (size // 3)),
    )
    yield Case("escaped", "predict", fill('"\\u00e9\\""', signature="text"))
    yield Case("letters of four bytes", "predict", fill('"\U0001f600"', signature="text"))
    yield Case("NaN", "predict", fill("NaN", signature="wide"))
    yield Case("blanks", "predict", b'{"instances":[%b[1,2,3,4]]}' % (b" " * size))
    yield Case(
        "a long b64", "predict", b'{"signature_name":"text","instances":[{"b64":"%b"}]}' % base64.b64encode(b"x" * half)
    )
    yield Case("short b64", "predict", fill('{"b64":"YQ"}', signature="text"))
    for verb in ("classify", "regress"):
        for element in ("{}", '{"x":1}', '{"x":0.5}', '{"x":[""]}', "0"):
            yield Case(f"{verb} {element}", verb, fill(element, signature=verb, key="examples"))
    long = b",".join([b"0.5"] * (size // 4))
    yield Case("a feature of many numbers", "classify", b'{"signature_name":"classify","examples":[{"y":[%b]}]}' % long)
    strings = b",".join([b'""'] * (size // 3))
    yield Case(
        "a feature of many strings", "classify", b'{"signature_name":"classify","examples":[{"y":[%b]}]}' % strings
    )
    names = b",".join(b'"%x":1' % i for i in range(60_000))
    yield Case("an example of many features", "classify", b'{"signature_name":"classify","examples":[{%b}]}' % names)
    context = b'{"y":"%b"}' % (b"a" * half)
    many = b",".join([b"{}"] * (half // 3))
    yield Case("a context", "classify", b'{"signature_name":"classify","context":%b,"examples":[%b]}' % (context, many))
