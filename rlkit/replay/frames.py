"""Replay of stacked frames: each frame is kept once, and stacks are put together as they are sampled.

Letters: N parallel envs, F frames of a stack, K updates a round, B batch.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import DTypeLike

from rlkit.errors import UserError
from rlkit.interaction.vector import Step
from rlkit.replay.uniform import Replay
from rlkit.spaces import Arrays, observation_dtype


class FrameReplay(Replay):
    """A replay of observations [F, ...] that are the last F frames, the newest last.

    A row holds one frame, and what was done and came of it if it is the newest of an observation that was acted on.
    An episode begins with the other frames of its first observation and ends with the newest frame of its last one, in
    rows of their own. So the F rows up to any that was acted on are its observation, and those up to the next row are
    what came after, at the ends of episodes as elsewhere.

    Args:
        capacity: frames in all; an episode takes F more than it has steps.
        num_envs: N.
        observation_space: of one env, a Box [F, ...].
        n_step: as any replay's, like what follows.
        gamma: see there.
        priority_exponent: see there.
        lap: see there.

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
        super().__init__(capacity, num_envs, observation_space, n_step, gamma, priority_exponent, lap)
        assert observation_space.shape is not None
        self.frames = observation_space.shape[0]
        self.lead, self.span = self.frames - 1, n_step + 1
        self.marked = 2
        self._fresh = np.ones(num_envs, np.bool_)  # an episode begins with the next observation
        self._before: np.ndarray | None = None  # the last observations, [N, F, ...]
        self._begin = np.zeros((self.rows, num_envs), np.int64)
        """A ring for each env of the rows that were acted on, counted since the beginning."""
        self._begun = np.zeros(num_envs, np.int64)
        """How many that were, [N]."""
        self._first_whole = np.zeros(num_envs, np.int64)
        """Which of them is the first whose stack is still there, [N]; no later than that."""
        self._first_open = np.zeros(num_envs, np.int64)
        """Which of them is the first whose later rows are not all there, [N]; no later than that."""
        self.nbytes += self._begin.nbytes

    def _kept(self, space: gymnasium.Space[Any]) -> dict[str, tuple[tuple[int, ...], DTypeLike]]:
        """Shape and dtype of each field of a row."""
        assert space.shape is not None
        of_step = {name: how for name, how in super()._kept(space).items() if not name.endswith("observation")}
        return {"frame": (space.shape[1:], observation_dtype(space)), **of_step, "acted": ((), np.bool_)}

    def add(self, observation: np.ndarray, action: np.ndarray, step: Step) -> None:
        """Store the valid rows of a step, [N, ...] each.

        Raises:
            UserError: an observation is not that before it with one frame more.
        """
        going = step.valid & ~self._fresh
        if self._before is not None and not np.array_equal(observation[going, :-1], self._before[going, 1:]):
            raise UserError("the env's observations are no stacks of the last frames, though it says that they are")
        self._before = observation
        begins = step.valid & self._fresh
        if begins.any():
            for f in range(self.frames - 1):
                self._write_frame(observation[:, f], begins)
        self._begin[self._begun[step.valid] % self.rows, self._columns[step.valid]] = self.written[step.valid]
        self._begun += step.valid
        values = (observation[:, -1], action, step.reward, ~step.bootstraps, step.truncated, step.valid)
        self._write(dict(zip(self.fields, values, strict=True)), step.valid)
        ended = step.valid & (step.terminated | step.truncated)
        if ended.any():
            self._write_frame(step.next_observation[:, -1], ended)
        self._fresh[step.valid] = ended[step.valid]

    def _write_frame(self, frame: np.ndarray, keep: np.ndarray) -> None:
        """A row of each env that is kept with nothing but a frame, [N, ...]."""
        nothing = {name: np.zeros(self.num_envs, field.dtype) for name, field in self.fields.items() if name != "frame"}
        self._write({"frame": frame, **nothing}, keep)

    def _openable(self, places: np.ndarray) -> np.ndarray:
        """Those of some places that a draw can begin with."""
        acted: np.ndarray = places[self._flat["acted"][places]]
        return acted

    def cut(self) -> None:
        """End the episodes under way, as any replay does; a frame whose next one is not held ends its own."""
        self._cuts.append(self.written.copy())
        for e in np.flatnonzero(~self._fresh):
            last = self.written[e] - 1
            self.fields["acted"][last % self.rows, e] = False
            self.fields["truncated"][(last - 1) % self.rows, e] = True
            self._begun[e] -= 1
        self._fresh[:], self._before = True, None

    def usable(self) -> np.ndarray:
        """Rows of each env that a draw can begin with, [N] int64."""
        oldest, newest = self.written - self.rows + self.lead, self.written - self.span
        self._first_whole = self._advanced(self._first_whole, oldest)
        self._first_open = self._advanced(self._first_open, newest + 1)
        usable: np.ndarray = np.maximum(self._first_open - self._first_whole, 0)
        return usable

    def _advanced(self, which: np.ndarray, row: np.ndarray) -> np.ndarray:
        """The first acted-on row of each env, from the given one on, that is not before some row."""
        which = np.maximum(which, self._begun - self.rows)
        while (behind := (which < self._begun) & (self._begin[which % self.rows, self._columns] < row)).any():
            which = which + behind
        return which

    def _row(self, position: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The rows at some positions among those that a draw can begin with, the oldest first."""
        row: np.ndarray = self._begin[(self._first_whole[column] + position) % self.rows, column]
        return row

    def _seen_shape(self) -> tuple[tuple[int, ...], np.dtype]:
        field = self.fields["frame"]
        return (self.frames, *field.shape[2:]), field.dtype

    def _seen(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The stacks that end with some rows, [..., F, ...]."""
        rows = row[..., None] + np.arange(1 - self.frames, 1)
        stacks: np.ndarray = self._flat["frame"][self._place(rows, column[..., None])]
        return stacks

    def _after(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The stacks that end with the rows after some, [..., F, ...]."""
        return self._seen(row + 1, column)

    def load(self, segments: list[Arrays]) -> int:
        """As any replay's."""
        missing = super().load(segments)
        self._first_whole[:], self._first_open[:], self._before = 0, 0, None
        for e in range(self.num_envs):
            held = np.arange(max(self.written[e] - self.rows, 0), self.written[e])
            acted = held[self.fields["acted"][held % self.rows, e]]
            for first, last in self._lost:
                acted = acted[(acted < first[e]) | (acted >= last[e])]
            self._begin[: len(acted), e], self._begun[e] = acted, len(acted)
            self._fresh[e] = not len(held) or not self.fields["acted"][held[-1] % self.rows, e]
        return missing
