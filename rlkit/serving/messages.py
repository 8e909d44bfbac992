"""Protocol buffers of the protocol, made from versions and arrays, and arrays from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.framework.types_pb2 import DataType
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.status_pb2 import StatusProto

from rlkit.serving.errors import Code, ServingError, invalid
from rlkit.serving.models import Status, Version
from rlkit.serving.signature import Arrays, Signature, Spec

FIELDS = {
    "float32": "float_val", "float64": "double_val", "int8": "int_val", "int16": "int_val", "int32": "int_val",
    "uint8": "int_val", "uint16": "int_val", "int64": "int64_val", "bool": "bool_val", "object": "string_val",
    "uint32": "uint32_val", "uint64": "uint64_val",
}  # fmt: skip
"""Where a TensorProto holds the elements of each dtype; clients read these fields, so answers use them."""


MOST_DIMS = 32
"""Dimensions of an input."""

STRETCH = 8
"""Bytes that an input's array may have for each byte of its message,"""

FREE = 1 << 20
"""and those that it may have beside."""

STEP = 4096
"""Elements that are moved by one call."""


def model_spec(name: str, number: int, signature: str = "") -> ModelSpec:
    """What answered."""
    spec = ModelSpec(name=name, signature_name=signature)
    spec.version.value = number
    return spec


def model_status(states: Mapping[int, Status]) -> GetModelStatusResponse:
    """Where versions stand."""
    message = GetModelStatusResponse()
    for number, status in states.items():
        message.model_version_status.append(
            ModelVersionStatus(
                version=number,
                state=ModelVersionStatus.State.Value(status.state),
                status=StatusProto(error_code=status.code.number, error_message=status.message),
            )
        )
    return message


def signature_map(version: Version) -> SignatureDefMap:
    """Every signature of a version."""
    message = SignatureDefMap()
    for name, definition in version.definitions.items():
        message.signature_def[name].CopyFrom(definition)
    return message


def arrays_of(inputs: Mapping[str, TensorProto], signature: Signature) -> Arrays:
    """The arrays of a request's inputs; names, dtypes and shapes are checked before there is an array.

    Raises:
        ServingError: they are not the signature's, a tensor's parts contradict each other, or it is too large.
    """
    if set(inputs) != signature.inputs.keys():
        raise signature.wrong_names(inputs)
    return {key: _array_of(key, inputs[key], spec) for key, spec in signature.inputs.items()}


def _array_of(name: str, message: TensorProto, spec: Spec) -> np.ndarray:
    """A TensorProto's array; of strings, an array of objects."""
    if message.dtype != spec.type.as_datatype_enum:
        raise invalid(f"input {name} expects {spec}, but {_dtype_name(message.dtype)} is provided")
    count = len(message.tensor_shape.dim)
    dims = [d.size for d in message.tensor_shape.dim[:MOST_DIMS]]
    if message.tensor_shape.unknown_rank or count > MOST_DIMS or any(d < 0 for d in dims):
        raise invalid(f"input {name} has {count} dimensions, of which one is not known or too many: {dims}")
    if not spec.fits(tuple(dims)):
        raise invalid(f"input {name} expects {spec}, but the shape {dims} is provided")
    most = FREE + STRETCH * message.ByteSize()
    if (size := math.prod(dims) * spec.array.itemsize) > most:  # a short message may stand for many of one value
        raise ServingError(Code.RESOURCE_EXHAUSTED, f"input {name} of shape {dims} has {size} bytes, more than {most}")
    try:
        if message.tensor_content:
            return np.frombuffer(message.tensor_content, spec.array).reshape(dims)
        if spec.array.name not in FIELDS:  # half, bfloat16, complex
            return np.asarray(tf.make_ndarray(message))
        return _elements(getattr(message, FIELDS[spec.array.name]), spec.array, math.prod(dims)).reshape(dims)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(f"input {name} is no whole tensor: {error}") from None


def _dtype_name(number: int) -> str:
    return DataType.Name(number) if number in DataType.values() else f"the dtype {number}"


def _elements(values: Sequence[Any], dtype: np.dtype, count: int) -> np.ndarray:
    """So many elements of a field, [count]: the last stands for those that are missing, and zero for the last.

    Raises:
        ValueError: there are more.
        OverflowError: one is none of the dtype.
    """
    if len(values) > count:
        raise ValueError(f"{len(values)} elements for {count}")
    made = np.empty(count, dtype)
    for start in range(0, len(values), STEP):  # so that other threads run in between
        some = values[start : start + STEP]
        made[start : start + len(some)] = np.fromiter(some, dtype, len(some))
    made[len(values) :] = values[-1] if values else b"" if dtype.hasobject else 0
    return made


def fill(message: TensorProto, array: np.ndarray) -> None:
    """Write an array to a TensorProto: its elements stand in the field of their dtype."""
    field = FIELDS.get(array.dtype.name)
    if field is None:  # half, bfloat16, complex
        message.CopyFrom(tf.make_tensor_proto(array))
        return
    kind = tf.string if array.dtype == object else tf.dtypes.as_dtype(array.dtype)
    message.dtype = kind.as_datatype_enum
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    flat, elements = array.ravel(), getattr(message, field)
    for start in range(0, len(flat), STEP):
        elements.extend(flat[start : start + STEP].tolist())
