"""Trained policies as models that an export can hold.

Letters: B batch, A actions, M numbers remembered, S states.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import keras
import numpy as np
import tensorflow as tf

from rlkit.agents.tabular.tabular import Tabular
from rlkit.export.portable import Portable, Settings
from rlkit.learning.agent import Learner
from rlkit.learning.q_agent import QAgent
from rlkit.networks.layers import OneHot
from rlkit.networks.plain import plain


def write_tflite(agent: Learner, path: Path) -> None:
    """Write an agent's policy as a .tflite, unchecked, for a page or for fast acting.

    Raises:
        UserError: LiteRT cannot hold the model.
    """
    from rlkit.export.tflite import convert  # noqa: PLC0415 - a format is loaded where it is written

    convert(of_agent(agent), path, Settings())


def of_agent(agent: Learner) -> Portable:
    """An agent's greedy policy."""
    if isinstance(agent, Tabular):
        return of_table(agent.q.numpy().sum(axis=0), agent.first_state, agent.first_action)
    return of_network(cast("QAgent", agent).q, cast("QAgent", agent).first_action)


def of_network(network: keras.Model, first_action: int) -> Portable:
    """A policy from its Q-network, [B, ...] to [B, A]; or [B, ...] and [B, M] to [B, A] and [B, M]."""
    model = plain(network)
    names = ("observation", "memory")
    inputs = {name: tf.TensorSpec(t.shape, t.dtype, name) for name, t in zip(names, model.inputs, strict=False)}
    codes = next((layer for layer in network.layers if isinstance(layer, OneHot)), None)
    states = (codes.start, codes.start + codes.depth) if codes else None
    return Portable(model, inputs, "q_values", "action", first_action, states=states)


def of_table(values: np.ndarray, first_state: int, first_action: int) -> Portable:
    """A policy from a table of action values, [S, A]."""
    inputs = keras.Input((), dtype="int32", name="observation")
    states = inputs - first_state if first_state else inputs
    table = keras.layers.Embedding(*values.shape, name="q_values")
    model = keras.Model(inputs, table(states))
    table.set_weights([values])
    specs = {"observation": tf.TensorSpec([None], tf.int32)}
    return Portable(model, specs, "q_values", "action", first_action, states=(first_state, first_state + len(values)))
