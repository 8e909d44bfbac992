"""Noisy networks. Fortunato et al. 2018, "Noisy networks for exploration": learned noise in place of dithered actions.

The means are the weights of an ordinary network; the sizes of the noise stand behind them in a tuple. So whatever reads
the network alone, as evaluations and exports do, has the means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from rlkit.random_bits import draws, normal
from rlkit.seeding import Purpose, generator

SIZE = 0.5
"""sigma_0: the noise's size at first, times the square root of a layer's inputs. Section 3.2; Hessel et al. 2018."""


class FactorisedNoise:
    """Factorised Gaussian noise in the dense layers of a network.

    Args:
        network: of which all `keras.layers.Dense` get noise; convolutions have none.
    """

    def __init__(self, network: keras.Model) -> None:
        place = {variable.path: i for i, variable in enumerate(network.trainable_variables)}
        layers = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
        self.places = [(place[layer.kernel.path], place[layer.bias.path]) for layer in layers]
        """Of each layer's kernel and bias among the network's weights."""
        self.shapes = [tuple(layer.kernel.shape) for layer in layers]
        self.weights = len(network.trainable_variables)
        self.draws = sum(inputs + outputs for inputs, outputs in self.shapes)
        """Numbers that the noise of one network takes."""

    def begin(self, network: keras.Model, seed: int) -> list[np.ndarray]:
        """Set the means to U[-1/sqrt(p), 1/sqrt(p)] with p a layer's inputs; the noise's sizes, sigma_0 / sqrt(p).

        Section 3.2. The network is one like that which the noise was made for.

        Returns:
            Sizes of each kernel, [p, q], and bias, [q].
        """
        random, sizes = generator(seed, Purpose.PARAMETERS), []
        for places, (p, q) in zip(self.places, self.shapes, strict=True):
            for place, shape in zip(places, ((p, q), (q,)), strict=True):
                mean = random.uniform(-1 / math.sqrt(p), 1 / math.sqrt(p), shape)
                network.trainable_variables[place].assign(mean.astype(np.float32))
                sizes.append(np.full(shape, SIZE / math.sqrt(p), np.float32))
        return sizes

    def factors(self, seed: tf.Tensor, count: tf.Tensor, networks: int) -> tf.Tensor:
        """f(e) = sgn(e) sqrt(|e|) of independent standard normal e, a row for each of some networks, [networks, draws].

        Args:
            seed: int64 scalar.
            count: that no other draw of the noise has, int64 scalar.
            networks: at the count.
        """
        drawn = normal(draws(seed, Purpose.NOISE, count, [networks, self.draws]))
        return tf.sign(drawn) * tf.sqrt(tf.abs(drawn))

    def perturbed(self, weights: Sequence[tf.Tensor], factors: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The network's weights mu + sigma epsilon, with epsilon_ij = f(e_i) f(e_j) for a kernel and f(e_j) for a bias.

        Equations 10 and 11.

        Args:
            weights: means of all weights, then sizes as `begin` returns them.
            factors: a row of them, [draws].
        """
        parts = tf.split(factors, [side for shape in self.shapes for side in shape])
        found, sizes = list(weights[: self.weights]), weights[self.weights :]
        for i, (kernel, bias) in enumerate(self.places):
            e_in, e_out = parts[2 * i], parts[2 * i + 1]
            found[kernel] += sizes[2 * i] * (e_in[:, None] * e_out)
            found[bias] += sizes[2 * i + 1] * e_out
        return tuple(found)
