"""Supervised models by name, in Keras' three styles, all of which make the same layers with the same weights.

Letters: B batch, T characters of a sequence, V vocabulary's size, A classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rlkit.errors import UserError
from rlkit.files import home
from rlkit.networks.layers import OneHot
from rlkit.seeding import Purpose, key
from rlkit.supervised.config import CNNConfig, FitConfig, LinearConfig, LSTMConfig, MLPConfig, MobileNetConfig
from rlkit.supervised.description import Facts

Layers = list[keras.layers.Layer]


@keras.saving.register_keras_serializable("rlkit")
class Stack(keras.Model):
    """Layers one after the other, by subclassing."""

    def __init__(self, stack: Sequence[keras.layers.Layer], **kwargs: object) -> None:
        super().__init__(autocast=False, **kwargs)  # the first layer may want float64
        self.stack = list(stack)

    def call(self, inputs: Any, training: bool | None = None) -> Any:  # noqa: ANN401 - a tensor of any kind
        for layer in self.stack:
            inputs = layer(inputs, training=training) if isinstance(layer, keras.layers.Dropout) else layer(inputs)
        return inputs

    def get_layer(self, name: str) -> keras.layers.Layer:
        """The layer of that name; ValueError if there is none."""
        found = [layer for layer in self.stack if layer.name == name]
        if not found:
            raise ValueError(f"there is no layer {name}")
        return found[0]

    def get_config(self) -> dict[str, object]:
        return {**super().get_config(), "stack": [keras.saving.serialize_keras_object(layer) for layer in self.stack]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Stack:
        stack = [keras.saving.deserialize_keras_object(layer) for layer in config.pop("stack")]
        return cls(stack, **config)


class Seeds:
    """Initializers, each with a seed of its own, all of them functions of one seed."""

    def __init__(self, seed: int) -> None:
        self._sequence = np.random.SeedSequence(key(seed, Purpose.PARAMETERS))
        self._numbers = iter(self._sequence.generate_state(256).tolist())

    def glorot(self) -> keras.initializers.Initializer:
        """Uniform within sqrt(6 / (inputs + outputs)). Glorot and Bengio 2010, equation 16."""
        return keras.initializers.GlorotUniform(seed=next(self._numbers))

    def orthogonal(self) -> keras.initializers.Initializer:
        """A random rotation. Saxe, McClelland and Ganguli 2014."""
        return keras.initializers.Orthogonal(seed=next(self._numbers))

    def number(self) -> int:
        """A seed for something else."""
        return int(next(self._numbers))


def build(config: FitConfig, facts: Facts) -> keras.Model:
    """The model that a config describes, for inputs [B, *facts.shape]; its weights are a function of the seed.

    Classes and characters come as logits, [B, A] and [B, T, V]; numbers as they are, [B, 1].

    Raises:
        UserError: the data are nothing for this model, or given weights are not its own.
    """
    if isinstance(config, MobileNetConfig):
        return mobilenet(config, facts)
    layers = LAYERS[type(config)](config, facts, Seeds(config.seed))
    text = facts.kind == "text"
    inputs = keras.Input((None,) if text else facts.shape, dtype="int32" if text else facts.dtype, name="inputs")
    if config.style == "sequential":
        return keras.Sequential([inputs, *layers])
    if config.style == "subclass":
        model = Stack(layers)
        model(keras.ops.zeros((1, *facts.shape), inputs.dtype))  # builds it
        return model
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def _outputs(facts: Facts) -> int:
    return {"classes": len(facts.classes), "numbers": 1, "text": len(facts.vocabulary)}[facts.kind]


def _inputs(facts: Facts) -> Layers:
    """Numbers of a row brought to mean 0 and standard deviation 1, and axes into one."""
    layers: Layers = []
    if facts.mean:
        middle, scale = [-mean for mean in facts.mean], [1 / (deviation or 1.0) for deviation in facts.deviation]
        layers.append(keras.layers.Rescaling(1.0, offset=middle, dtype=facts.dtype, name="normal_mean"))
        layers.append(keras.layers.Rescaling(scale, dtype=facts.dtype, name="normal_deviation"))
    if len(facts.shape) > 1:
        layers.append(keras.layers.Flatten(name="flat"))
    return layers


def linear(config: LinearConfig, facts: Facts, seeds: Seeds) -> Layers:
    """One layer."""
    initializer = "zeros" if config.initial == "zeros" else seeds.glorot()
    return [*_inputs(facts), keras.layers.Dense(_outputs(facts), kernel_initializer=initializer, name="logits")]


def _dense(hidden: Sequence[int], dropout: float, facts: Facts, seeds: Seeds) -> Iterator[keras.layers.Layer]:
    for i, units in enumerate(hidden):
        yield keras.layers.Dense(units, "relu", kernel_initializer=seeds.glorot(), name=f"hidden_{i}")
        if dropout:
            yield keras.layers.Dropout(dropout, seed=seeds.number(), name=f"dropout_{i}")
    yield keras.layers.Dense(_outputs(facts), kernel_initializer=seeds.glorot(), name="logits")


def mlp(config: MLPConfig, facts: Facts, seeds: Seeds) -> Layers:
    """Dense layers with ReLU."""
    return [*_inputs(facts), *_dense(config.hidden, config.dropout, facts, seeds)]


def cnn(config: CNNConfig, facts: Facts, seeds: Seeds) -> Layers:
    """Blocks of a convolution with ReLU and a pooling by 2, then dense layers."""
    blocks = len(config.filters)
    if len(facts.shape) != 3 or min(facts.shape[:2]) < 2**blocks:
        shape = " x ".join(map(str, facts.shape))
        raise UserError(
            f"the data's examples are {shape}, expected images of {2**blocks} x {2**blocks} pixels at least for "
            f"{blocks} blocks of filters"
        )
    layers: Layers = []
    for i, filters in enumerate(config.filters):
        glorot = seeds.glorot()
        convolution = partial(keras.layers.Conv2D, padding="same", activation="relu", kernel_initializer=glorot)
        layers += [convolution(filters, config.kernel_size, name=f"convolution_{i}")]
        layers += [keras.layers.MaxPooling2D(name=f"pooling_{i}")]
    return [*layers, keras.layers.Flatten(name="flat"), *_dense(config.hidden, config.dropout, facts, seeds)]


def lstm(config: LSTMConfig, facts: Facts, seeds: Seeds) -> Layers:
    """Characters one-hot, an LSTM over them, and logits of the character after each.

    Dropout is of the LSTM's outputs, the same ones all along a sequence. Gal and Ghahramani 2016, "A theoretically
    grounded application of dropout in recurrent neural networks".
    """
    size = _outputs(facts)
    recurrent = keras.layers.LSTM(
        config.units,
        return_sequences=True,
        kernel_initializer=seeds.glorot(),
        recurrent_initializer=seeds.orthogonal(),
        seed=seeds.number(),
        name="lstm",
    )
    logits = keras.layers.Dense(size, kernel_initializer=seeds.glorot(), name="logits")
    if not config.dropout:
        return [OneHot(size, name="one_hot"), recurrent, logits]
    same = (None, 1, config.units)
    dropout = keras.layers.Dropout(config.dropout, noise_shape=same, seed=seeds.number(), name="dropout")
    return [OneHot(size, name="one_hot"), recurrent, dropout, logits]


def mobilenet(config: MobileNetConfig, facts: Facts) -> keras.Model:
    """Keras' MobileNetV2 with a dense layer for the classes; images in [0, 1] are brought to [-1, 1]."""
    if len(facts.shape) != 3 or min(facts.shape[:2]) < 32 or facts.shape[2] not in (1, 3):
        shape = " x ".join(map(str, facts.shape))
        raise UserError(f"the data's examples are {shape}, expected images of 32 x 32 pixels at least")
    if facts.kind != "classes":
        raise UserError("mobilenet tells classes, and these data have none")
    inputs = keras.Input(facts.shape, name="inputs")
    x = keras.layers.Rescaling(2.0, offset=-1.0, name="rescale")(inputs)
    if facts.shape[2] == 1:
        x = keras.layers.Concatenate(name="grey")([x, x, x])
    try:
        base = keras.applications.MobileNetV2(
            input_shape=(*facts.shape[:2], 3),
            alpha=config.width,
            include_top=False,
            weights="imagenet" if config.weights == "imagenet" else None,
            pooling="avg",
        )
    except Exception as error:
        raise UserError(f"MobileNetV2 cannot be made of these: {str(error).splitlines()[0]}") from None
    seeds = Seeds(config.seed)
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = config.batch_momentum
        elif config.weights == "random" and isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            layer.kernel.assign(seeds.glorot()(layer.kernel.shape))  # Keras draws them from a hidden generator
    base.trainable = config.train_base
    logits = keras.layers.Dense(len(facts.classes), kernel_initializer=seeds.glorot(), name="logits")
    model = keras.Model(inputs, logits(base(x)))
    if config.weights not in ("random", "imagenet"):
        _load(model, base, home(config.weights))
    return model


def _load(model: keras.Model, base: keras.Model, path: Path) -> None:
    """Weights of the whole model, or of all of it but the classes, from a file."""
    if not path.is_file():
        raise UserError(f"weights is {str(path)!r}, expected random, imagenet or an .h5 file that is there")
    reasons, fresh = [], model.get_weights()
    for target in (model, base):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that it left as they were
                target.load_weights(path)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            reasons.append(str(error).strip().splitlines()[0])
            model.set_weights(fresh)
        else:
            return
    raise UserError(f"weights file {path} is of another model ({reasons[0]})")


LAYERS: dict[type[FitConfig], Callable[..., Layers]] = {
    LinearConfig: linear,
    MLPConfig: mlp,
    CNNConfig: cnn,
    LSTMConfig: lstm,
}
"""What makes the layers of a model, by its config."""
