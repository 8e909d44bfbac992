"""JSON to arrays, as TensorFlow Serving's REST API has them.

Row format: `instances` holds one value for each row, or an object of named values. Column format: `inputs` holds a
whole array, or an object of named ones. A name is left out where there is but one. Bytes are `{"b64": "..."}`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from rlkit.serving.errors import Code, ServingError, invalid
from rlkit.serving.json_reader import JSON, Long, is_list, shown
from rlkit.serving.signature import Arrays, Spec

TAKES: dict[str, set[type]] = {"f": {float, int}, "i": {int}, "u": {int}, "b": {bool}}
"""For each kind of dtype, the types of the JSON that may stand for it."""

URL_SAFE = bytes.maketrans(b"-_", b"+/")


def inputs_of(request: Mapping[str, JSON], specs: Mapping[str, Spec]) -> tuple[Arrays, bool]:
    """The arrays of a predict request, and whether it has the row format.

    Args:
        request: the JSON object.
        specs: the signature's inputs.

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
        return _rows(request["instances"], specs), True
    if "inputs" not in request:
        raise invalid("Missing 'inputs' or 'instances' key")
    return _columns(request["inputs"], specs), False


def _rows(instances: JSON, specs: Mapping[str, Spec]) -> Arrays:
    if not is_list(instances):
        raise invalid(f"JSON Value: {shown(instances)} Excepting 'instances' to be an list/array")
    if type(instances) is list:
        if not instances:
            raise invalid("JSON Value: [] No values in 'instances' array")
        return _group(instances, specs, 0, _named(instances[0]))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in specs}
    count, named = 0, None
    for group in instances:
        named = _named(group[0]) if named is None else named
        for name, array in _group(group, specs, count, named).items():
            parts[name].append(array)
        count += len(group)
    return {name: _joined(arrays, name) for name, arrays in parts.items()}


def _group(rows: Sequence[JSON], specs: Mapping[str, Spec], before: int, named: bool) -> Arrays:
    """The arrays of some rows.

    Args:
        rows: their JSON.
        specs: the signature's inputs.
        before: how many rows there are before them.
        named: whether each is to be an object of named values.
    """
    if not named:
        if len(specs) > 1:
            raise invalid(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map"
            )
        for i, item in enumerate(rows, before):
            if type(item) is dict and _named(item):
                raise invalid(f"Expecting value/list but got object at item {i} of input list")
        [(name, spec)] = specs.items()
        return {name: array_of(rows, spec, name)}
    for i, item in enumerate(rows, before):
        if not _named(item):
            raise invalid(f"Expecting object but got list at item {i} of input list")
        if item.keys() != specs.keys():
            raise invalid(
                f"Failed to process element: {i} of 'instances' list. JSON object: {shown(item)} "
                f"keys must be equal to: {','.join(sorted(specs))}"
            )
    return {name: array_of([item[name] for item in rows], spec, name) for name, spec in specs.items()}


def _columns(inputs: JSON, specs: Mapping[str, Spec]) -> Arrays:
    if not _named(inputs):
        if len(specs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        [(name, spec)] = specs.items()
        return {name: array_of(inputs, spec, name)}
    for name in specs:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    for name in inputs:
        if name not in specs:
            raise invalid(f"JSON object: does not have named input: {shown(name)}")
    return {name: array_of(inputs[name], spec, name) for name, spec in specs.items()}


def _named(value: JSON) -> bool:
    """Whether it is an object of names, which {"b64": "..."} is not."""
    return type(value) is dict and not (len(value) == 1 and type(value.get("b64")) is str)


def array_of(value: JSON, spec: Spec, name: str) -> np.ndarray:
    """An array of an input's dtype from nested lists; its shape is not checked.

    What is in the lists is looked at before there is an array of it: NumPy would make one of strings, each as wide as
    the longest.

    Raises:
        ServingError: ragged lists, or elements of another type than the input's.
    """
    if type(value) is list:
        if len(value) == 1 and type(value[0]) is Long:
            return array_of(value[0], spec, name)[np.newaxis]
    elif type(value) is Long:
        return _joined([array_of(group, spec, name) for group in value], name)
    kind = spec.array.kind
    if kind == "O":
        return _text(value, name)
    takes = TAKES.get(kind)
    if takes is None:
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {shown(value)} to type: {spec.type.name}")
    types = _types(value)
    if not types <= takes:
        raise invalid(f"JSON Value: {shown(value)} of input {name} is not of expected type: {spec.type.name}")
    try:
        found = np.array(value)
        if found.dtype.kind == "f" and types == {int} and kind != "f":
            found = _large(value, spec, name)
    except (ValueError, OverflowError, RecursionError):
        raise _ragged(value, name) from None
    if found.dtype.kind == "O":  # whole numbers that no dtype of NumPy holds
        raise invalid(_lossy(spec, name))
    return found if found.dtype == spec.array else _cast(found, spec, name)


def _joined(parts: Sequence[np.ndarray], name: str) -> np.ndarray:
    """Arrays one after the other; ServingError where they differ in more than how many they are."""
    if any(part.shape[1:] != parts[0].shape[1:] for part in parts):
        raise invalid(f"JSON Value of input {name}: its lists are not of one size")
    return np.concatenate(parts)


def _ragged(value: JSON, name: str) -> ServingError:
    return invalid(f"JSON Value: {shown(value)} of input {name}: its lists are not of one size")


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
    if type(value) is not list:
        return {type(value)}
    found = set(map(type, value))
    while list in found:
        inner = value if len(found) == 1 else [item for item in value if type(item) is list]
        value = list(chain.from_iterable(inner))
        found.remove(list)
        found.update(map(type, value))
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
            raise _ragged(value, name)
        flat = [inside for item in flat for inside in item]
    made = np.empty(len(flat), object)
    made[:] = [bytes_of(item, name) for item in flat]
    return made.reshape(shape)


def bytes_of(value: JSON, name: str) -> bytes:
    """A string, or {"b64": "..."}, as bytes; ServingError for anything else.

    As TensorFlow Serving reads it, blanks in base64 are left out and its padding may be missing; as Python's clients
    may send it, - and _ stand for + and /.
    """
    if type(value) is str:
        return value.encode()
    if type(value) is dict and len(value) == 1 and type(value.get("b64")) is str:
        try:
            coded = value["b64"].encode("ascii").translate(URL_SAFE, b" \t\r\n\v\f")
            return base64.b64decode(coded if b"=" in coded else coded + b"=" * (-len(coded) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise invalid(f"Unable to base64 decode input {name}") from None
    raise invalid(f"JSON Value: {shown(value)} of input {name} is not of expected type: string")
