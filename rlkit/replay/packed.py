"""Transitions as rows of one tensor, for the compiled loop.

Letters: D numbers of a transition.
"""

from __future__ import annotations

import math

import tensorflow as tf

from rlkit.interaction.functional import Outcome
from rlkit.replay.uniform import Replay


class Layout:
    """Transitions as rows of float32: one write and one gather an update in place of six.

    Args:
        replay: whose fields are packed.
    """

    def __init__(self, replay: Replay) -> None:
        field = replay.fields["observation"]
        self.shape, self.dtype = field.shape[2:], field.dtype
        self.width = math.prod(self.shape)
        self.columns = 2 * self.width + 4

    def pack(self, observation: tf.Tensor, action: tf.Tensor, outcome: Outcome) -> tf.Tensor:
        """[..., D] of fields [..., *]."""
        lead = action.shape
        parts = [
            tf.reshape(observation, [*lead, self.width]),
            tf.reshape(outcome.next_observation, [*lead, self.width]),
            *(part[..., None] for part in (action, outcome.reward, outcome.terminated, outcome.truncated)),
        ]
        return tf.concat([tf.cast(part, tf.float32) for part in parts], axis=-1)

    def unpack(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """The replay's fields [..., *] of rows [..., D]."""
        lead, w = rows.shape[:-1], self.width
        return {
            "observation": tf.cast(tf.reshape(rows[..., :w], [*lead, *self.shape]), self.dtype),
            "next_observation": tf.cast(tf.reshape(rows[..., w : 2 * w], [*lead, *self.shape]), self.dtype),
            "action": tf.cast(rows[..., 2 * w], tf.int32),
            "reward": rows[..., 2 * w + 1],
            "terminated": rows[..., 2 * w + 2] > 0,
            "truncated": rows[..., 2 * w + 3] > 0,
        }
