"""A trained model as every format takes it: layers that plain Keras has, and one function of named tensors.

Letters: B batch, A actions or classes, M numbers remembered, T characters, V vocabulary's size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from rlkit.errors import UserError

Arrays = Mapping[str, np.ndarray]
Runtime = Callable[[Arrays], dict[str, np.ndarray]]
"""From named inputs to named outputs, a row of each for every row of the others."""

SERVING = "serving_default"
"""The signature with everything."""


@dataclass(frozen=True)
class Portable:
    """A trained model, ready to be written."""

    model: keras.Model
    """Plain Keras layers, from the inputs in their order to the values [B, A], or to those and the memory [B, M]."""
    inputs: dict[str, tf.TensorSpec]
    """By name; the first axis is the batch's and free."""
    values: str
    """What the values are called: q_values or predictions."""
    choice: str = ""
    """What the best value's place is called: action or class; empty where nothing is chosen."""
    first: int = 0
    """What places are counted from."""
    labels: tuple[str, ...] = ()
    """Names of the classes."""
    fixed: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of inputs without the batch for a runtime that cannot leave any axis free, where `inputs` does."""

    reads_once: bool = False
    """Whether each weight is read once, not by each step that uses it, of which a converter would make copies."""

    states: tuple[int, int] | None = None
    """The first observation and one beyond the last, where observations are states counted by whole numbers."""

    @property
    def recurs(self) -> bool:
        """Whether there is a loop over a sequence in it."""
        layers = [part for layer in self.model.layers for part in getattr(layer, "layers", [layer])]
        return any(isinstance(layer, keras.layers.RNN) for layer in layers)

    def unrolled(self) -> Portable:
        """The same for sequences of one length, `fixed`, without a loop, for a runtime that cannot run one."""

        def straight(layer: keras.layers.Layer) -> keras.layers.Layer:
            more = {"unroll": True} if isinstance(layer, keras.layers.RNN) else {}
            return type(layer).from_config({**layer.get_config(), **more})

        shape = self.fixed["inputs"]
        first = keras.Input(shape, dtype=self.model.inputs[0].dtype, name="inputs")
        x: Any = first
        for layer in self.model.layers[1:]:
            if isinstance(layer, keras.Model):
                copy = keras.models.clone_model(layer, input_tensors=x, clone_function=straight)
                copy.set_weights(layer.get_weights())
                x = copy.outputs[0]
            else:
                x = straight(layer)(x)
        spec = tf.TensorSpec([None, *shape], self.inputs["inputs"].dtype)
        return replace(self, model=keras.Model(first, x), inputs={"inputs": spec}, reads_once=True)

    @property
    def remembers(self) -> bool:
        """Whether what was remembered comes in and goes out again."""
        return "memory" in self.inputs

    def respond(self, *inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """All outputs by name."""
        given = list(inputs) if len(inputs) > 1 else inputs[0]
        if self.reads_once:
            weights = [
                [tf.convert_to_tensor(variable.value) for variable in part]
                for part in (self.model.trainable_variables, self.model.non_trainable_variables)
            ]
            outputs, _ = self.model.stateless_call(*weights, given, training=False)
        else:
            outputs = self.model(given, training=False)
        values = outputs[0] if self.remembers else outputs
        named = {self.values: values}
        if self.choice:
            named[self.choice] = tf.argmax(values, axis=-1, output_type=tf.int32) + self.first
        if self.remembers:
            named["next_memory"] = outputs[1]
        return named

    def function(self, batch: int | None = None, only: str = "", *, checks: bool = False) -> Any:  # noqa: ANN401 - a tf.function has no type
        """`respond` as a tf.function for batches of a size, or any; `only` one of its outputs.

        Where it `checks`, a state outside `states` is an error, which no lookup makes of it everywhere.
        """
        specs = []
        for name, spec in self.inputs.items():
            shape = spec.shape[1:] if batch is None else self.fixed.get(name, spec.shape[1:])
            specs.append(tf.TensorSpec([batch, *shape], spec.dtype, name=name))

        def call(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            if checks and self.states:
                low, high = self.states
                inside = tf.reduce_all((inputs[0] >= low) & (inputs[0] < high))
                told = [f"observations must be from {low} to {high - 1}, but are", inputs[0]]
                with tf.control_dependencies([tf.debugging.Assert(inside, told)]):  # before a lookup says it otherwise
                    inputs = (tf.identity(inputs[0]), *inputs[1:])
            named = self.respond(*inputs)
            return {only: named[only]} if only else named

        return tf.function(call, input_signature=specs, autograph=False)

    def require_float32(self, name: str) -> None:
        """UserError for a model of float64 inputs, which not every format has."""
        if any(spec.dtype == tf.float64 for spec in self.inputs.values()):
            raise UserError(
                f"the {name} has inputs of 32 bits only, and this table has numbers that float32 does not tell apart: "
                "savedmodel, keras, h5 and onnx keep them"
            )

    def module(self) -> tf.Module:
        """What holds the variables, as TensorFlow's own: a module that held Keras' would be written broken."""
        module = tf.Module()
        module.weights = [variable.value for variable in self.model.variables]
        return module


@dataclass(frozen=True)
class Settings:
    """What some formats want to know."""

    quantize: str = "none"
    """One of `QUANTIZATIONS`, of a .tflite."""
    samples: Arrays = field(default_factory=dict)
    """Inputs that the model met, by which int8 chooses its scales."""
    converter: str | None = None
    """A Python that has the converter of tfjs; None for one that is made and kept."""
    say: Callable[[str], None] = lambda _: None
    """Told what takes long."""


class Format(Protocol):
    """What a format's module has."""

    FILE: str
    """Name of what is written in the folder; "." for the folder itself."""

    def write(self, portable: Portable, folder: Any, settings: Settings) -> None:  # noqa: ANN401 - a path
        """Write into an empty folder; UserError where the format cannot hold the model."""
        ...

    def opened(self, folder: Any, portable: Portable) -> AbstractContextManager[Runtime]:  # noqa: ANN401 - a path
        """What was written, as another runtime runs it."""
        ...
