"""Networks of Keras' own layers and operations, so that a file of one needs no rlkit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from rlkit.networks.layers import (
    EMBEDDING,
    MIDPOINTS,
    Dueling,
    Expectation,
    FractionEmbedding,
    MidpointMean,
    NarrowDense,
    OneHot,
    PatchConv2D,
    cosines,
    midpoints,
)


def plain(network: keras.Model) -> keras.Model:
    """The same model of layers and operations that Keras itself has, so that a file of it needs no rlkit."""
    own = Dueling | OneHot | NarrowDense | PatchConv2D | Expectation | FractionEmbedding | MidpointMean
    if not any(isinstance(layer, own) for layer in network.layers):
        return network

    def replaced(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, NarrowDense):
            return keras.layers.Dense(layer.units, name=layer.name)
        if isinstance(layer, PatchConv2D):
            return keras.layers.Conv2D.from_config(layer.get_config())
        if isinstance(layer, FractionEmbedding):
            return keras.layers.Dense(layer.kernel.shape[1], "relu", name=layer.name)
        return layer if isinstance(layer, own) else type(layer).from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=replaced, call_function=_called)
    copy.set_weights(network.get_weights())
    return copy


def _called(layer: keras.layers.Layer, *inputs: Any, **options: Any) -> Any:  # noqa: ANN401 - tensors of Keras
    """A layer's outputs, by Keras' own operations where the layer is rlkit's."""
    if isinstance(layer, Dueling):
        value, advantages = inputs
        return value + advantages - keras.ops.mean(advantages, axis=1, keepdims=True)
    if isinstance(layer, Expectation):
        scale = np.linspace(layer.low, layer.high, inputs[0].shape[-1]).tolist()
        shares = keras.layers.Softmax(name=f"{layer.name}_probabilities")(*inputs)
        return keras.ops.sum(keras.layers.Rescaling(scale, name=f"{layer.name}_atoms")(shares), axis=-1)
    if layer.name == EMBEDDING:
        features = inputs[0][:, None]  # [B, 1, D]
        waves = np.asarray(cosines(midpoints(MIDPOINTS)))  # [N, COSINES]
        rows = features * layer(keras.ops.zeros_like(features[..., :1]) + waves)  # [B, N, D]
        return keras.ops.reshape(rows, (-1, features.shape[-1]))
    if isinstance(layer, MidpointMean):
        return keras.ops.mean(keras.ops.reshape(inputs[0], (-1, MIDPOINTS, inputs[0].shape[-1])), axis=1)
    if isinstance(layer, OneHot):
        codes = keras.ops.cast(inputs[0], "int32")
        return keras.ops.one_hot(codes - layer.start if layer.start else codes, layer.depth)
    return layer(*inputs, **options)
