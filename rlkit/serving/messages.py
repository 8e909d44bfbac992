"""Protocol buffers of the protocol, made from versions and arrays, and arrays from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.status_pb2 import StatusProto

from rlkit.serving.errors import Code, ServingError, invalid
from rlkit.serving.models import Status, Version

FIELDS = {
    "float32": "float_val", "float64": "double_val", "int8": "int_val", "int16": "int_val", "int32": "int_val",
    "uint8": "int_val", "uint16": "int_val", "int64": "int64_val", "bool": "bool_val", "object": "string_val",
    "uint32": "uint32_val", "uint64": "uint64_val",
}  # fmt: skip
"""Where a TensorProto holds the elements of each dtype; clients read these fields, so answers use them."""


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


def array_of(name: str, message: TensorProto, limit: int) -> np.ndarray:
    """A TensorProto's array; of strings, an array of objects.

    Args:
        name: the input's, for errors.
        message: the tensor.
        limit: bytes that the array may have: a short message may stand for a large array of one value.

    Raises:
        ServingError: its parts contradict each other, or it is too large.
    """
    dims = [d.size for d in message.tensor_shape.dim]
    if message.tensor_shape.unknown_rank or any(d < 0 for d in dims):
        raise invalid(f"input {name} has a shape that is not known: {dims}")
    try:
        kind = tf.dtypes.as_dtype(message.dtype)
        if math.prod(dims) * (kind.size or 1) > limit:
            raise ServingError(Code.RESOURCE_EXHAUSTED, f"input {name} of shape {dims} has more than {limit} bytes")
        made = tf.make_ndarray(message)
    except (TypeError, ValueError, KeyError) as error:
        raise invalid(f"input {name} is no whole tensor: {error}") from None
    return made if isinstance(made, np.ndarray) else np.asarray(made)


def tensor_of(array: np.ndarray) -> Any:  # noqa: ANN401 - a message
    """An array as a TensorProto whose elements stand in the field of their dtype."""
    field = FIELDS.get(array.dtype.name)
    if field is None:  # half, bfloat16, complex
        return tf.make_tensor_proto(array)
    kind = tf.string if array.dtype == object else tf.dtypes.as_dtype(array.dtype)
    message = TensorProto(dtype=kind.as_datatype_enum)
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    getattr(message, field).extend(array.ravel().tolist())
    return message
