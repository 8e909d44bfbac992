"""JSON to arrays and back, as TensorFlow Serving's REST API has them.

Row format: `instances` holds one value for each row, or an object of named values; answered by `predictions`. Column
format: `inputs` holds a whole array, or an object of named ones; answered by `outputs`. A name is left out where there
is but one. Bytes are `{"b64": "..."}`. In answers NaN, Infinity and -Infinity stand for themselves.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import tensorflow as tf

from rlkit.serving.errors import Code, ServingError, invalid
from rlkit.serving.signature import Arrays, Outputs, Spec

JSON = Any
"""What a JSON document may hold."""

TAKES = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}
"""For each kind of dtype, the kinds that NumPy makes of the JSON that may stand for it."""

SHOWN = 200
"""Characters of a wrong value that an error repeats."""


def parse(body: bytes, nan: bool) -> dict[str, JSON]:
    """A request's JSON object.

    Args:
        body: the request's.
        nan: take NaN, Infinity and -Infinity, which JSON proper does not have and TensorFlow Serving takes.

    Raises:
        ServingError: it is not JSON, or no object.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        value = _parse_loosely(body, nan, error)
    if type(value) is not dict:
        raise invalid(f"JSON Value: {shown(value)} Is not object")
    return value


def _parse_loosely(body: bytes, nan: bool, error: orjson.JSONDecodeError) -> JSON:
    """What orjson refused: NaN and Infinity are the only reason to take it all the same."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    if re.match(r"-?(NaN|Infinity)", error.doc[error.pos :]) or error.doc[error.pos - 1 :].startswith("-Infinity"):
        try:
            value = json.loads(body.decode())
            orjson.dumps(value)  # which refuses what the loose parser takes beside: half of a surrogate pair
        except (ValueError, TypeError, RecursionError) as worse:
            raise invalid(f"JSON Parse error: {worse}") from None
        if nan:
            return value
        raise invalid("JSON Parse error: NaN and Infinity are taken with --allow-nan only")
    raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}")


def shown(value: JSON) -> str:
    """The beginning of a value, for an error."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError, TypeError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def inputs_of(request: Mapping[str, JSON], specs: Mapping[str, Spec], strict: bool) -> tuple[Arrays, bool]:
    """The arrays of a predict request, and whether it has the row format.

    Args:
        request: the JSON object.
        specs: the signature's inputs.
        strict: look for true and false among numbers, which NumPy would take for 1 and 0.

    Raises:
        ServingError: the request is not as the protocol wants it, or not of these inputs.
    """
    if not specs:
        raise invalid("Failed to get input map for signature: it has no inputs")
    if "instances" in request:
        if "inputs" in request:
            raise invalid(
                f"JSON Value: {shown(request)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
                "keys to exist "
            )
        return _rows(request["instances"], specs, strict), True
    if "inputs" not in request:
        raise invalid("Missing 'inputs' or 'instances' key")
    return _columns(request["inputs"], specs, strict), False


def _rows(instances: JSON, specs: Mapping[str, Spec], strict: bool) -> Arrays:
    if type(instances) is not list:
        raise invalid(f"JSON Value: {shown(instances)} Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid("JSON Value: [] No values in 'instances' array")
    named = _named(instances[0])
    if not named:
        if len(specs) > 1:
            raise invalid(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map"
            )
        for i, item in enumerate(instances):
            if type(item) is dict and _named(item):
                raise invalid(f"Expecting value/list but got object at item {i} of input list")
        [(name, spec)] = specs.items()
        return {name: array_of(instances, spec, name, strict)}
    for i, item in enumerate(instances):
        if not _named(item):
            raise invalid(f"Expecting object but got list at item {i} of input list")
        if item.keys() != specs.keys():
            raise invalid(
                f"Failed to process element: {i} of 'instances' list. JSON object: {shown(item)} "
                f"keys must be equal to: {','.join(sorted(specs))}"
            )
    return {name: array_of([item[name] for item in instances], spec, name, strict) for name, spec in specs.items()}


def _columns(inputs: JSON, specs: Mapping[str, Spec], strict: bool) -> Arrays:
    if not _named(inputs):
        if len(specs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        [(name, spec)] = specs.items()
        return {name: array_of(inputs, spec, name, strict)}
    for name in specs:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    for name in inputs:
        if name not in specs:
            raise invalid(f"JSON object: does not have named input: {shown(name)}")
    return {name: array_of(inputs[name], spec, name, strict) for name, spec in specs.items()}


def _named(value: JSON) -> bool:
    """Whether it is an object of names, which {"b64": "..."} is not."""
    return type(value) is dict and not (len(value) == 1 and type(value.get("b64")) is str)


def array_of(value: JSON, spec: Spec, name: str, strict: bool) -> np.ndarray:
    """An array of an input's dtype from nested lists; its shape is not checked.

    Raises:
        ServingError: ragged lists, or elements of another type than the input's.
    """
    takes = TAKES.get(spec.array.kind)
    if spec.type == tf.string:
        return _text(value, name)
    if takes is None:
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {shown(value)} to type: {spec.type.name}")
    try:
        found = np.array(value)
    except (ValueError, OverflowError, RecursionError):
        raise invalid(f"JSON Value: {shown(value)} of input {name}: its lists are not of one size") from None
    kind = found.dtype.kind
    if kind == "f" and spec.array.kind in "iu" and _types(value) == {int}:
        found, kind = _large(value, spec, name), spec.array.kind
    if (kind not in takes and found.size) or (strict and kind != "b" and bool in _types(value)):
        raise invalid(f"JSON Value: {shown(value)} of input {name} is not of expected type: {spec.type.name}")
    return found if found.dtype == spec.array else _cast(found, spec, name)


def _large(value: JSON, spec: Spec, name: str) -> np.ndarray:
    """Whole numbers of which NumPy makes decimal ones: some fit an int64, others only a uint64."""
    try:
        return np.array(value, spec.array)
    except OverflowError:
        raise invalid(_lossy(spec, name)) from None


def _lossy(spec: Spec, name: str) -> str:
    return f"Cannot convert a number of input {name} to {spec.type.name} without loss of precision."


def _cast(found: np.ndarray, spec: Spec, name: str) -> np.ndarray:
    """Numbers in another dtype; ServingError where that would change one past rounding."""
    if found.dtype.kind == "f":
        try:
            with np.errstate(over="raise"):
                return found.astype(spec.array)
        except FloatingPointError:
            raise invalid(_lossy(spec, name)) from None
    if found.size:
        least, most = int(found.min()), int(found.max())
        if spec.array.kind == "f":
            whole = 2 ** (np.finfo(spec.array).nmant + 1) - 1
            if max(most, -least) > whole:
                raise invalid(_lossy(spec, name))
        elif least < np.iinfo(spec.array).min or most > np.iinfo(spec.array).max:
            raise invalid(_lossy(spec, name))
    return found.astype(spec.array)


def _types(value: JSON) -> set[type]:
    """The types of what is in nested lists."""
    waiting, found = [value], set()
    while waiting:
        item = waiting.pop()
        if type(item) is list:
            waiting += item
        else:
            found.add(type(item))
    return found


def _text(value: JSON, name: str) -> np.ndarray:
    """Nested lists of strings and {"b64": "..."} objects as bytes, in an array of objects."""
    shape: list[int] = []
    inner = value
    while type(inner) is list:
        shape.append(len(inner))
        inner = inner[0] if inner else None
    flat: list[JSON] = [value]
    for size in shape:
        if any(type(item) is not list or len(item) != size for item in flat):
            raise invalid(f"JSON Value: {shown(value)} of input {name}: its lists are not of one size")
        flat = [inside for item in flat for inside in item]
    made = np.empty(len(flat), object)
    made[:] = [bytes_of(item, name) for item in flat]
    return made.reshape(shape)


def bytes_of(value: JSON, name: str) -> bytes:
    """A string, or {"b64": "..."}, as bytes; ServingError for anything else."""
    if type(value) is str:
        return value.encode()
    if type(value) is dict and len(value) == 1 and type(value.get("b64")) is str:
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError):
            raise invalid(f"Unable to base64 decode input {name}") from None
    raise invalid(f"JSON Value: {shown(value)} of input {name} is not of expected type: string")


def answer(outputs: Outputs, by_row: bool) -> bytes:
    """The JSON of a predict response.

    Raises:
        ServingError: in row format, an output has no rows or another number of them than the others.
    """
    arrays = outputs.arrays
    values = {name: array if array.dtype.kind in "fiub" else _plain(name, array) for name, array in arrays.items()}
    body: JSON
    if by_row:
        rows = range(_same_rows(arrays))
        if len(values) == 1:
            [body] = values.values()
        else:
            body = [{name: value[i] for name, value in values.items()} for i in rows]
        body = {"predictions": body}
    else:
        body = {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    if outputs.finite:
        return orjson.dumps(body, None, orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(body, default=_listed).encode()


def _same_rows(arrays: Arrays) -> int:
    count = -1
    for name, array in arrays.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if count not in (-1, len(array)):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {count}")
        count = len(array)
    return count


def _plain(name: str, array: np.ndarray) -> JSON:
    """An output of another dtype than orjson writes: nested lists of text, or an array of numbers."""
    if array.dtype.kind == "O":
        binary = name.endswith("_bytes")
        holder = np.empty(array.size, object)
        holder[:] = [
            {"b64": base64.b64encode(v).decode()} if binary else v.decode(errors="replace") for v in array.flat
        ]
        return holder.reshape(array.shape).tolist()
    if array.dtype.kind == "c":
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype}")
    return array.astype(np.float32)  # bfloat16 and the like


def _listed(value: JSON) -> JSON:
    """For json.dumps: arrays as lists, with float32 as short as orjson writes it."""
    if isinstance(value, np.float32):
        return float(str(value))
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return [_listed(item) for item in value]
    return value.tolist()
