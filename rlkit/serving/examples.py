"""The classify and regress APIs: examples in, labels with scores or numbers out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from rlkit.serving.errors import Code, ServingError, invalid
from rlkit.serving.json_reader import JSON, groups, is_list, shown
from rlkit.serving.json_tensors import bytes_of
from rlkit.serving.signature import CLASSIFY, DEFAULT, REGRESS, Arrays, Signature

KINDS = {CLASSIFY: "classification", REGRESS: "regression"}
"""What TensorFlow Serving calls a signature of each method."""

LARGEST = float(np.finfo(np.float32).max)

FLUSH = 1000
"""Features after which those of an example are serialized: as messages they take a hundred times their JSON."""

OUTPUTS = {CLASSIFY: ("classes", "scores"), REGRESS: ("outputs",)}


def signature_for(signatures: Mapping[str, Signature], name: str, method: str) -> Signature:
    """A signature that may be classified or regressed with.

    Args:
        signatures: of a version.
        name: the key, or nothing for the default.
        method: CLASSIFY or REGRESS.

    Raises:
        ServingError: there is none of that name, or it is of another method.
    """
    found = signatures.get(name or DEFAULT)
    if found is None:
        raise invalid(f"No signature was found with the name: {name or DEFAULT}")
    if found.method != method:
        raise invalid(f"Expected {KINDS[method]} signature method_name to be {method}. Was: {found.method}")
    if list(found.inputs) != ["inputs"] or not any(key in found.outputs for key in OUTPUTS[method]):
        needs = " or ".join(OUTPUTS[method])
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"A {KINDS[method]} signature has the input inputs and the output {needs}; {found.name} has "
            f"{', '.join(found.inputs)} and {', '.join(found.outputs)}",
        )
    return found


def serialized(request: Mapping[str, JSON], limit: int) -> list[bytes]:
    """The examples of a JSON request as serialized tf.train.Example messages, each with the context before it.

    Args:
        request: the JSON object.
        limit: bytes that all copies of the context may have together.

    Raises:
        ServingError: the request is not as the protocol wants it, or too large.
    """
    context = _example(request["context"]) if "context" in request else b""
    examples = request.get("examples")
    if examples is None and "examples" not in request:
        raise invalid(
            f"JSON Value: {shown(request)} When method is classify, key 'examples' is expected and was not found"
        )
    if not is_list(examples):
        raise invalid(f"JSON Value: {shown(request)} Expecting 'examples' value to be an list/array")
    found: list[bytes] = []
    for group in groups(examples):
        check_context(context, len(found) + len(group), limit)
        found += [context + _example(value) for value in group]
    if not found:
        raise invalid(f"JSON Value: {shown(request)} 'examples' value is an empty array")
    return found


def check_context(context: bytes, count: int, limit: int) -> None:
    """ServingError where a context would be copied before so many examples that it takes more than the limit."""
    if len(context) * count > limit:
        raise ServingError(
            Code.RESOURCE_EXHAUSTED,
            f"A context of {len(context)} bytes before {count} examples has more than {limit} bytes",
        )


def _example(value: JSON) -> bytes:
    """An example, serialized: what is serialized later is added to what was before."""
    if type(value) is not dict:
        raise invalid(f"Example must be JSON object but got JSON {shown(value)}")
    made, done = tf.train.Example(), bytearray()
    for name, item in value.items():
        _fill(made.features.feature[name], name, item)
        if len(made.features.feature) == FLUSH:
            done += made.SerializeToString()
            made.Clear()
    return bytes(done + made.SerializeToString()) if done else made.SerializeToString()


def _fill(feature: tf.train.Feature, name: str, value: JSON) -> None:
    """A feature of whole numbers, of decimal numbers or of bytes: by the JSON, as a feature does not know its dtype."""
    expected: type | None = None
    for items in groups(value):
        kinds = {_kind(name, item) for item in items}
        expected = expected or (_kind(name, items[0]) if items else None)
        if kinds - {expected}:
            told = expected.__name__ if expected else ""
            raise invalid(f"Unexpected element type in feature: {name} expecting type: {told}")
        try:
            if expected is int:
                feature.int64_list.value.extend([int(item) for item in items])
            elif expected is float:
                if any(LARGEST < abs(item) < math.inf for item in items):
                    raise invalid(f"Cannot convert JSON value of feature {name} to float without loss of precision.")
                feature.float_list.value.extend(items)
            elif expected is bytes:
                feature.bytes_list.value.extend([bytes_of(item, name) for item in items])
        except ValueError:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.") from None


def _kind(name: str, item: JSON) -> type:
    if type(item) in (bool, int):
        return int
    if type(item) is float:
        return float
    if type(item) is str or (type(item) is dict and len(item) == 1 and type(item.get("b64")) is str):
        return bytes
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {shown(item)}")


def batch(examples: Sequence[bytes]) -> Arrays:
    """The input of a classify or regress signature, [B] strings."""
    if not examples:
        raise invalid("Input is empty.")
    made = np.empty(len(examples), object)
    made[:] = examples
    return {"inputs": made}


def classifications(outputs: Arrays, count: int) -> list[list[tuple[str, float]]]:
    """For each example its labels with scores: "" where the model has no labels, 0 where it has no scores.

    Raises:
        ServingError: the outputs have other shapes or dtypes than such a signature may have.
    """
    classes, scores = outputs.get("classes"), outputs.get("scores")
    for name, array, kind, text in (("classes", classes, "O", "DT_STRING"), ("scores", scores, "f", "DT_FLOAT")):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}")
        if array.dtype.kind != kind:
            raise invalid(f"Expected {name} Tensor of {text}. Got: {array.dtype}")
        if len(array) != count:
            raise invalid(f"Expected {name} output batch size of {count}. Got: {len(array)}")
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    shape = classes.shape if classes is not None else scores.shape if scores is not None else (count, 0)
    labels = [[v.decode(errors="replace") for v in row] for row in classes] if classes is not None else None
    values = scores.tolist() if scores is not None else None
    return [
        [(labels[i][j] if labels else "", values[i][j] if values else 0.0) for j in range(shape[1])]
        for i in range(shape[0])
    ]


def regressions(outputs: Arrays, count: int) -> list[float]:
    """One number for each example.

    Raises:
        ServingError: the output has another shape or dtype than such a signature may have.
    """
    array = outputs["outputs"]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {list(array.shape)}"
        )
    if len(array) != count:
        raise invalid(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    if array.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {array.dtype}")
    values: list[float] = array.reshape(-1).tolist()
    return values
