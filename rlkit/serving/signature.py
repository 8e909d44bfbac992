"""A signature of a SavedModel: named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from rlkit.serving.errors import ServingError, invalid

Arrays = dict[str, np.ndarray]


class Outputs(NamedTuple):
    """What a call gave."""

    arrays: Arrays
    finite: bool
    """No NaN and no infinity in them, which need care in JSON."""


CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
DEFAULT = "serving_default"

NAMED = 20
"""Names of inputs that an error repeats."""


@dataclass(frozen=True)
class Spec:
    """What an input or output is.

    Args:
        type: its dtype in TensorFlow.
        shape: None where a dimension may be anything; None for any rank.
        array: the dtype of its arrays; object for strings, whose elements are bytes.
    """

    type: tf.DType
    shape: tuple[int | None, ...] | None
    array: np.dtype

    @classmethod
    def of(cls, info: Any) -> Spec:  # noqa: ANN401 - a TensorInfo message
        """From a SavedModel's TensorInfo."""
        kind, shape = tf.dtypes.as_dtype(info.dtype), info.tensor_shape
        dims = None if shape.unknown_rank else tuple(d.size if d.size >= 0 else None for d in shape.dim)
        return cls(kind, dims, np.dtype(kind.as_numpy_dtype))

    @property
    def batched(self) -> bool:
        """Whether the first dimension may be anything."""
        return bool(self.shape) and self.shape is not None and self.shape[0] is None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape may be given."""
        wanted = self.shape
        if wanted is None:
            return True
        if len(shape) != len(wanted):
            return False
        for want, have in zip(wanted, shape, strict=True):  # noqa: SIM110 - all() costs each request a microsecond
            if want is not None and want != have:
                return False
        return True

    def __str__(self) -> str:
        dims = "[?]" if self.shape is None else "[" + ",".join("-1" if d is None else str(d) for d in self.shape) + "]"
        return f"{self.type.name} {dims}"


class Signature:
    """A function of a loaded SavedModel.

    Args:
        name: its key.
        definition: its SignatureDef message.
        function: what `tf.saved_model.load` made of it.
    """

    def __init__(self, name: str, definition: Any, function: Any) -> None:  # noqa: ANN401 - TensorFlow's
        self.name = name
        self.method: str = definition.method_name
        self.inputs = {key: Spec.of(definition.inputs[key]) for key in sorted(definition.inputs)}
        self.outputs = {key: Spec.of(definition.outputs[key]) for key in sorted(definition.outputs)}
        self.batchable = all(spec.batched for spec in (*self.inputs.values(), *self.outputs.values()))
        self.seconds = 0.0
        """What its last call took."""
        self._call = self._shortest(function)

    def _shortest(self, function: Any) -> Callable[[Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]]:  # noqa: ANN401
        """The call that costs least: a signature's own binds its arguments each time, a third of a small model's call.

        The order of several inputs is known to the own call alone.
        """
        flat = getattr(function, "_call_flat", None)
        if flat is None or len(self.inputs) != 1:
            return lambda tensors: function(**tensors)
        captured = function.captured_inputs
        return lambda tensors: flat(list(tensors.values()), captured)

    def __call__(self, arrays: Arrays) -> Outputs:
        """Compute; what it raises is TensorFlow's."""
        try:
            made = self._call({key: tf.constant(value, self.inputs[key].type) for key, value in arrays.items()})
        except UnicodeDecodeError as error:  # TensorFlow's error repeats bytes of the request that are no text
            raise invalid(bytes(error.object).decode(errors="replace")) from None
        outputs = {key: made[key].numpy() for key in self.outputs}
        return Outputs(outputs, all(v.dtype.kind != "f" or bool(np.isfinite(v).all()) for v in outputs.values()))

    def check(self, arrays: Arrays) -> None:
        """ServingError where the names, dtypes or shapes are not the signature's."""
        if arrays.keys() != self.inputs.keys():
            raise self.wrong_names(arrays)
        for key, array in arrays.items():
            spec = self.inputs[key]
            if array.dtype != spec.array:
                raise invalid(f"input {key} expects {spec}, but {array.dtype} is provided")
            if not spec.fits(array.shape):
                raise invalid(f"input {key} expects {spec}, but the shape {list(array.shape)} is provided")

    def wrong_names(self, given: Collection[str]) -> ServingError:
        """The error for inputs of these names."""
        extra, missing = sorted(set(given) - self.inputs.keys()), sorted(self.inputs.keys() - set(given))
        return invalid(
            f"input size does not match signature: {len(given)}!={len(self.inputs)} len({{{_names(given)}}}) != "
            f"len({{{_names(self.inputs)}}}). Sent extra: {{{_names(extra)}}}. "
            f"Missing but required: {{{_names(missing)}}}."
        )

    def rows(self, arrays: Arrays) -> int:
        """The common first dimension of the inputs; 0 where such a call cannot share a batch."""
        if not self.batchable:
            return 0
        count = -1
        for array in arrays.values():
            if count not in (-1, len(array)):
                return 0
            count = len(array)
        return count

    def example(self) -> Arrays | None:
        """Zeros to try it on, one row; None where an input is text, which may mean anything."""
        if any(spec.type == tf.string or spec.shape is None for spec in self.inputs.values()):
            return None
        return {key: np.zeros([d or 1 for d in spec.shape or ()], spec.array) for key, spec in self.inputs.items()}


def _names(names: Collection[str]) -> str:
    return ",".join(sorted(names)[:NAMED]) + (",..." if len(names) > NAMED else "")
