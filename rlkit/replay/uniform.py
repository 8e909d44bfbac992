"""Replay: the last transitions of N envs, allocated once, drawn by given random bits, uniformly or by priority.

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
from numpy.typing import DTypeLike

from rlkit.errors import UserError
from rlkit.interaction.vector import Step
from rlkit.learning.agent import Transition
from rlkit.replay.priorities import Priorities, importance
from rlkit.reporting import size_text
from rlkit.spaces import Arrays, observation_dtype


class Replay:
    """A ring of capacity // N rows for each of N envs. Lin 1992; Mnih et al. 2015.

    Args:
        capacity: transitions in all.
        num_envs: N.
        observation_space: of one env, Box or Discrete.
        n_step: rewards summed before bootstrapping.
        gamma: discount of a step.
        priority_exponent: draw in proportion to priorities to this power; 0: uniformly.
        lap: the priorities are at least 1.

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
        priority_exponent: float = 0.0,
        lap: bool = False,
    ) -> None:
        self.rows, self.num_envs = capacity // num_envs, num_envs
        self.n_step, self.gamma = n_step, gamma
        self.span = n_step
        """Rows of an env that a draw takes, from its first on."""
        self.lead = 0
        """Rows before them that it takes too."""
        self.marked = 1
        """Rows of an env that a cut changes, up to the newest."""
        kept = self._kept(observation_space)
        each = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in kept.values())
        self.nbytes = self.rows * num_envs * each + (priority_exponent > 0) * 16 * self.rows * num_envs
        free = psutil.virtual_memory().available
        if self.nbytes > 0.9 * free:
            raise UserError(
                f"buffer_size is {capacity}, which takes {size_text(self.nbytes)} of memory where "
                f"{size_text(free)} are free: at most {int(0.9 * free * capacity / self.nbytes)} would fit"
            )
        lead = (self.rows, num_envs)
        self.fields: Arrays = {name: np.zeros((*lead, *shape), dtype) for name, (shape, dtype) in kept.items()}
        self._flat = {name: array.reshape(-1, *array.shape[2:]) for name, array in self.fields.items()}
        self.written = np.zeros(num_envs, np.int64)
        self.priorities: Priorities | None = None
        if priority_exponent > 0:
            self.priorities = Priorities(self.rows * num_envs, priority_exponent, least=1.0 if lap else 0.0)
        self.drawn = np.zeros((0, 0), np.int64)
        """Places of the last draws, [K, B]."""
        self._columns = np.arange(num_envs)
        self._together = True  # every env has written as many rows
        self._cuts: list[np.ndarray] = []
        """Rows that each env had written at each cut, [N]."""
        self._lost: list[tuple[np.ndarray, np.ndarray]] = []
        """Where rows are missing after a `load`: each env's first and last and one that draws cannot begin with."""

    def _kept(self, space: gymnasium.Space[Any]) -> dict[str, tuple[tuple[int, ...], DTypeLike]]:
        """Shape and dtype of each field of a row."""
        observation = (space.shape or (), observation_dtype(space))
        return {
            "observation": observation,
            "action": ((), np.int32),
            "reward": ((), np.float32),
            "terminated": ((), np.bool_),
            "truncated": ((), np.bool_),
            "next_observation": observation,
        }

    def add(self, observation: np.ndarray, action: np.ndarray, step: Step) -> None:
        """Store the valid rows of a step, [N, ...] each."""
        values = (observation, action, step.reward, ~step.bootstraps, step.truncated, step.next_observation)
        self._write(dict(zip(self.fields, values, strict=True)), step.valid)

    def _write(self, values: Arrays, keep: np.ndarray) -> None:
        """A row of each env that is kept, [N] bool."""
        if self._together and keep.all():
            row = int(self.written[0]) % self.rows
            for name, field in self.fields.items():
                field[row] = values[name]
            self.written += 1
        else:
            self._together = False
            rows, columns = self.written[keep] % self.rows, self._columns[keep]
            for name, field in self.fields.items():
                field[rows, columns] = values[name][keep]
            self.written[keep] += 1
        if self.priorities:
            self._open_and_close(self.priorities, self._columns[keep])

    def _open_and_close(self, priorities: Priorities, columns: np.ndarray) -> None:
        """What can be drawn, and no longer, as some envs have just written a row."""
        newest = self.written[columns] - 1
        gone = newest - self.rows + self.lead  # the first of its rows has just been written over
        priorities.close(self._place(gone, columns)[gone >= 0])
        whole = newest - (self.span - 1)
        whole, columns = whole[whole >= 0], columns[whole >= 0]
        priorities.open(self._openable(self._place(whole, columns)))

    def _openable(self, places: np.ndarray) -> np.ndarray:
        """Those of some places that a draw can begin with."""
        return places

    def _place(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Flat places of rows by their count since the beginning."""
        place: np.ndarray = (row % self.rows) * self.num_envs + column
        return place

    def cut(self) -> None:
        """End the episodes under way as a time limit does: the next rows are of fresh ones.

        What follows the last rows is then not theirs: no n-step return, sequence or stack runs on into it, and what is
        bootstrapped is the value of their own next observation.
        """
        last = self._place(self.written - 1, self._columns)[self.written > 0]
        self._flat["truncated"][last] |= ~self._flat["terminated"][last]
        self._cuts.append(self.written.copy())

    def usable(self) -> np.ndarray:
        """Rows of each env that a draw can begin with, [N] int64: all but the newest span - 1, and what was lost."""
        held = np.minimum(self.written, self.rows)
        usable: np.ndarray = np.maximum(held - (self.span - 1), 0)
        if self._lost:
            usable = usable - sum(last - first for first, last in self.lost())
        return usable

    def sample(self, bits: np.ndarray, importance_exponent: float | None = 1.0) -> Transition:
        """Draws with replacement, one for each of the given random numbers: uniform ones, or by priority.

        Args:
            bits: uniform over all of uint32, [K, B].
            importance_exponent: beta of the weights that go with priorities; none: weights of 1.

        Returns:
            n-step transitions, [K, B, ...].
        """
        if self.priorities is None:
            row, column = self._first(bits)
            return self._n_step(row, column)
        self.drawn, probabilities = self.priorities.draw(bits)
        row, column = np.divmod(self.drawn, self.num_envs)
        held = int(self.usable().sum())
        weight = importance(probabilities, held, importance_exponent or 0.0)
        correction = (1.0 / (held * probabilities)).astype(np.float32)
        return self._n_step(row, column)._replace(weight=weight, correction=correction)

    def specs(self, lead: Sequence[int]) -> Transition:
        """Shapes and dtypes of what is sampled by random bits of shape `lead`."""
        shape, dtype = self._seen_shape()
        image = tf.TensorSpec([*lead, *shape], dtype)
        number = tf.TensorSpec(lead, tf.float32)
        undoing = number if self.priorities else ()
        return Transition(image, tf.TensorSpec(lead, tf.int32), number, number, image, undoing, undoing)

    def _seen_shape(self) -> tuple[tuple[int, ...], np.dtype]:
        field = self.fields["observation"]
        return field.shape[2:], field.dtype

    def _first(self, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first row of each draw, and its env's column, [K, B] each; the column [] for one env."""
        usable = self.usable()
        ends = np.cumsum(usable)
        position = ((bits.astype(np.uint64) * np.uint64(ends[-1])) >> np.uint64(32)).astype(np.int64)  # [K, B]
        if self.num_envs == 1:
            column = np.zeros((), np.int64)
        else:
            column = np.searchsorted(ends, position, side="right")  # [K, B]
            position = position - (ends - usable)[column]
        return self._row(position, column), column

    def _row(self, position: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The rows at some positions among those that a draw can begin with, the oldest first."""
        oldest = np.maximum(self.written - self.rows, 0)  # [N]
        row: np.ndarray = oldest[column] + position
        if self._lost:
            for first, last in self.lost():
                row = row + np.where(row >= first[column], (last - first)[column], 0)
        return row

    def _n_step(self, row: np.ndarray, column: np.ndarray) -> Transition:
        """sum_k gamma^k r_(t+k), up to n rewards or the episode's end, and the observation after the last."""
        flat = self._flat
        first = last = self._place(row, column)
        steps: np.ndarray | int = 0
        reward = flat["reward"][first]
        discount = np.full(first.shape, self.gamma, np.float32)
        for k in range(1, self.n_step):
            going = ~(flat["terminated"][last] | flat["truncated"][last])
            if not going.any():
                break
            following = self._place(row + k, column)
            last = np.where(going, following, last)
            steps = steps + going
            reward = reward + np.where(going, np.float32(self.gamma**k) * flat["reward"][following], 0)
            discount = np.where(going, np.float32(self.gamma ** (k + 1)), discount)
        return Transition(
            self._seen(row, column),
            flat["action"][first],
            reward.astype(np.float32, copy=False),
            np.where(flat["terminated"][last], np.float32(0), discount),
            self._after(row + steps, column),
        )

    def _seen(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The observations of some rows."""
        seen: np.ndarray = self._flat["observation"][self._place(row, column)]
        return seen

    def _after(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The observations after some rows."""
        after: np.ndarray = self._flat["next_observation"][self._place(row, column)]
        return after

    def state(self) -> Arrays:
        """What `restore` needs beside the rows."""
        return {"priorities": self.priorities.state()} if self.priorities else {}

    def restore(self, state: Arrays) -> None:
        """Continue from a `state`, after the rows are back."""
        if self.priorities:
            self.priorities.restore(state["priorities"])
            for first, last in self.lost():
                self.priorities.close(self._places(first, last))

    def export(self, since: np.ndarray) -> Arrays:
        """The rows written after the counts `since`, [N], as far as they are still held, env by env.

        The rows that a cut has changed since then come again.
        """
        start = since
        for cut in self._cuts:
            start = np.where(since <= cut, np.minimum(start, cut - self.marked), start)
        start = np.maximum(start, np.maximum(self.written - self.rows, 0))
        where = self._places(start, self.written)
        return {
            "start": start,
            "stop": self.written.copy(),
            **{name: field[where] for name, field in self._flat.items()},
        }

    def load(self, segments: list[Arrays]) -> int:
        """Put exported rows back where they were, the oldest segment first.

        Returns:
            How many rows are missing that the replay must hold: no draw begins with one, or runs on into it.

        Raises:
            ValueError: the rows are of another shape.
        """
        final, missing = segments[-1]["stop"], 0
        held = np.maximum(final - self.rows, 0)
        if held.shape != self.written.shape:
            raise ValueError("the replay's rows are of another number of envs")
        self._lost.clear()
        for rows in segments:
            start = np.maximum(rows["start"], held)
            if (gone := int((start - held).sum())) > 0:
                missing += gone
                first, last = held - (self.span - 1), start + self.lead
                self._lost.append((np.where(start > held, first, held), np.where(start > held, last, held)))
            where = self._places(rows["start"], rows["stop"])
            for name, field in self._flat.items():
                field[where] = rows[name]
            held = np.maximum(rows["stop"], held)
        self.written = final.copy()
        self._cuts.clear()
        self._together = bool((final == final[0]).all())
        return missing

    def lost(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows of each env that no draw can begin with though they are held, from first to last and one: [N] each.

        They were lost with a damaged file, or lead into such. The oldest come first.
        """
        oldest, newest = np.maximum(self.written - self.rows, 0), np.maximum(self.written - (self.span - 1), 0)
        found, before = [], oldest
        if all((last <= oldest).all() for _, last in self._lost):
            self._lost.clear()
        for first, last in self._lost:
            start = np.clip(first, before, np.maximum(newest, before))
            before = np.clip(last, start, np.maximum(newest, start))
            found.append((start, before))
        return found

    def gap(self) -> tuple[int, int]:
        """The first row that a draw may not begin with as rows were lost, and the last and one; 0 and 0 if none were.

        Between the gaps of several losses, and of several envs, nothing counts then.
        """
        if not self._lost:
            return 0, 0
        return int(min(first.min() for first, _ in self._lost)), int(max(last.max() for _, last in self._lost))

    def _places(self, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Flat places of the rows from start to stop of each env, one env after the other."""
        counts = stop - start
        column = np.repeat(self._columns, counts)
        offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = (offset + np.repeat(start, counts)) % self.rows
        places: np.ndarray = rows * self.num_envs + column
        return places
