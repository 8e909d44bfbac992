"""Uniform replay: the last transitions of N envs, allocated once, drawn by given random bits.

Each env is a column that is written in order, so that the steps after a transition are the rows after it:
n-step returns are summed when sampled and stop where the episode ended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import psutil
import tensorflow as tf

from rlkit.agent import Transition
from rlkit.errors import UserError
from rlkit.networks import observation_dtype
from rlkit.vector import Arrays, Step


class Replay:
    """A ring of capacity // N rows for each of N envs. Lin 1992; Mnih et al. 2015.

    Args:
        capacity: transitions in all.
        num_envs: N.
        observation_space: of one env, Box or Discrete.
        n_step: rewards summed before bootstrapping.
        gamma: discount of a step.

    Raises:
        UserError: if it cannot fit in the memory that is free.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_space: gymnasium.Space[Any],
        n_step: int = 1,
        gamma: float = 0.99,
    ) -> None:
        self.rows, self.num_envs = capacity // num_envs, num_envs
        self.n_step, self.gamma = n_step, gamma
        self.span = n_step
        """Rows of an env that a draw takes."""
        shape, dtype = observation_space.shape or (), observation_dtype(observation_space)
        self.nbytes = self.rows * num_envs * (2 * math.prod(shape) * dtype.itemsize + 4 + 4 + 1 + 1)
        free = psutil.virtual_memory().available
        if self.nbytes > 0.9 * free:
            raise UserError(
                f"buffer_size is {capacity}, which takes {size_text(self.nbytes)} of memory where "
                f"{size_text(free)} are free: at most {int(0.9 * free * capacity / self.nbytes)} would fit"
            )
        lead = (self.rows, num_envs)
        self.fields: Arrays = {
            "observation": np.zeros((*lead, *shape), dtype),
            "action": np.zeros(lead, np.int32),
            "reward": np.zeros(lead, np.float32),
            "terminated": np.zeros(lead, np.bool_),
            "truncated": np.zeros(lead, np.bool_),
            "next_observation": np.zeros((*lead, *shape), dtype),
        }
        self._flat = {name: array.reshape(-1, *array.shape[2:]) for name, array in self.fields.items()}
        self.written = np.zeros(num_envs, np.int64)
        self._fields = list(self.fields.values())
        self._columns = np.arange(num_envs)
        self._together = True  # every env has written as many rows

    def add(self, observation: np.ndarray, action: np.ndarray, step: Step) -> None:
        """Store the valid rows of a step, [N, ...] each."""
        values = (observation, action, step.reward, step.terminated, step.truncated, step.next_observation)
        if self._together and step.valid.all():
            row = int(self.written[0]) % self.rows
            for field, value in zip(self._fields, values, strict=True):
                field[row] = value
            self.written += 1
        else:
            self._together, keep = False, step.valid
            rows = self.written[keep] % self.rows
            for field, value in zip(self._fields, values, strict=True):
                field[rows, self._columns[keep]] = value[keep]
            self.written[keep] += 1

    def usable(self) -> np.ndarray:
        """Rows of each env that a draw can begin with: all but the newest span - 1, [N] int64."""
        held = np.minimum(self.written, self.rows)
        usable: np.ndarray = np.maximum(held - (self.span - 1), 0)
        return usable

    def sample(self, bits: np.ndarray) -> Transition:
        """Uniform draws, with replacement, one for each of the given random numbers.

        Args:
            bits: uniform over all of uint32, [K, B].

        Returns:
            n-step transitions, [K, B, ...].
        """
        row, column = self._first(bits)
        return self._n_step(row, column, (row % self.rows) * self.num_envs + column)

    def specs(self, lead: Sequence[int]) -> Transition:
        """Shapes and dtypes of what is sampled by random bits of shape `lead`."""
        observation = self.fields["observation"]
        image = tf.TensorSpec([*lead, *observation.shape[2:]], observation.dtype)
        number = tf.TensorSpec(lead, tf.float32)
        return Transition(image, tf.TensorSpec(lead, tf.int32), number, number, image)

    def _first(self, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first row of each draw, and its env's column, [K, B] each; the column [] for one env."""
        usable = self.usable()
        ends = np.cumsum(usable)
        position = ((bits.astype(np.uint64) * np.uint64(ends[-1])) >> np.uint64(32)).astype(np.int64)  # [K, B]
        oldest = np.maximum(self.written - self.rows, 0)  # [N]
        if self.num_envs == 1:
            column, row = np.zeros((), np.int64), oldest[0] + position  # [], [K, B]
        else:
            column = np.searchsorted(ends, position, side="right")  # [K, B]
            row = oldest[column] + position - (ends - usable)[column]  # [K, B]
        return row, column

    def _n_step(self, row: np.ndarray, column: np.ndarray, first: np.ndarray) -> Transition:
        """sum_k gamma^k r_(t+k), up to n rewards or the episode's end, and the observation after the last."""
        flat, last = self._flat, first
        reward = flat["reward"][first]
        discount = np.full(first.shape, self.gamma, np.float32)
        for k in range(1, self.n_step):
            going = ~(flat["terminated"][last] | flat["truncated"][last])
            if not going.any():
                break
            following = ((row + k) % self.rows) * self.num_envs + column
            last = np.where(going, following, last)
            reward = reward + np.where(going, np.float32(self.gamma**k) * flat["reward"][following], 0)
            discount = np.where(going, np.float32(self.gamma ** (k + 1)), discount)
        return Transition(
            flat["observation"][first],
            flat["action"][first],
            reward.astype(np.float32, copy=False),
            np.where(flat["terminated"][last], np.float32(0), discount),
            flat["next_observation"][last],
        )

    def export(self, since: np.ndarray) -> Arrays:
        """The rows written after the counts `since`, [N], as far as they are still held, env by env."""
        start = np.maximum(since, self.written - self.rows)
        where = self._places(start, self.written)
        return {
            "start": start,
            "stop": self.written.copy(),
            **{name: field[where] for name, field in self._flat.items()},
        }

    def load(self, segments: list[Arrays]) -> None:
        """Put exported rows back where they were, the oldest segment first.

        Raises:
            ValueError: rows that the replay must hold are missing, or are of another shape.
        """
        final = segments[-1]["stop"]
        held = np.maximum(final - self.rows, 0)
        if held.shape != self.written.shape:
            raise ValueError("the replay's rows are of another number of envs")
        for rows in segments:
            if (rows["start"] > held).any():
                raise ValueError("rows of the replay are missing")
            where = self._places(rows["start"], rows["stop"])
            for name, field in self._flat.items():
                field[where] = rows[name]
            held = np.maximum(rows["stop"], held)
        self.written = final.copy()
        self._together = bool((final == final[0]).all())

    def _places(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Flat places of the rows from start to stop of each env, one env after the other."""
        counts = stop - start
        column = np.repeat(self._columns, counts)
        offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = (offset + np.repeat(start, counts)) % self.rows
        places: np.ndarray = rows * self.num_envs + column
        return places


def size_text(size: float) -> str:
    """Bytes for people: 4.0 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
