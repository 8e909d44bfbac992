"""Finite Markov decision processes with a known model: sparse arrays, checked once, never copied.

Letters: S states, A actions, nnz outcomes (non-zero transition probabilities).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import gymnasium
import numpy as np
from scipy import sparse

from rlkit import npz
from rlkit.errors import UserError, short
from rlkit.exact import policy_evaluation
from rlkit.exact.rows import SUM_TOLERANCE, check, distance_to_end, expected, q_values
from rlkit.files import home, whole

FORMAT = 1
"""Version of the saved layout."""

Transitions = Any
"""A SciPy CSR array or matrix [S A, S], or its three arrays (indptr, indices, probabilities)."""


class FiniteMDP:
    """A Markov decision process with S states and A actions. Puterman 1994; Sutton and Barto 2018, chapter 3.

    The outcomes of action a in state s are row ``s A + a`` of a CSR matrix. A row without outcomes is an action
    that is not available in that state. Arrays that already have the right type are kept, not copied.

    >>> walk = FiniteMDP.from_dense([[[0.5, 0.5], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]],
    ...                             [[-1.0, -2.0], [0.0, 0.0]], terminal=[False, True])
    >>> walk.states, walk.actions, walk.rewards[0].tolist()
    (2, 2, [-1.0, -2.0])

    Args:
        transitions: probabilities of the next state, CSR [S A, S], each row's sum 1.
        rewards: expected, [S, A], or of each outcome, [nnz].
        gamma: discount of a step, in [0, 1].
        terminal: [S] bool. A terminal state has value 0, and its rows do not count.
        terminated: [nnz] bool. Outcomes that end the episode though the state they enter is not terminal.
        start: [S], probabilities of the first state; state 0 if not given.
        horizon: steps after which an episode ends, wherever it is; none if not given.

    Raises:
        UserError: a shape that does not fit, probabilities that are negative, not finite or do not sum to 1, rewards
            that are not finite, a state with no action, or, undiscounted and with no horizon, a state from which no
            policy ends the episode.
    """

    def __init__(
        self,
        transitions: Transitions,
        rewards: Any,  # noqa: ANN401 - anything that NumPy makes an array of
        *,
        gamma: float = 1.0,
        terminal: Any = None,  # noqa: ANN401
        terminated: Any = None,  # noqa: ANN401
        start: Any = None,  # noqa: ANN401
        horizon: int | None = None,
    ) -> None:
        self.indptr, self.indices, self.probabilities, columns = _csr(transitions)
        rows = len(self.indptr) - 1
        rewards = np.ascontiguousarray(_numbers("rewards", rewards), np.float64)
        self.states = _states(rewards, rows, columns, terminal)
        self.actions = rows // self.states
        self.terminal = _flags("terminal", terminal, self.states)
        self.terminated = None if terminated is None else _flags("terminated", terminated, len(self.indices))
        if rewards.ndim == 1 and len(rewards) != len(self.indices):
            raise UserError(f"the rewards have the shape {rewards.shape}, expected [S, A] or [{len(self.indices)}]")
        self.outcome_rewards: np.ndarray | None = rewards if rewards.ndim == 1 else None
        self.gamma, self.horizon = _discount(gamma), _horizon(horizon)
        self.start = _start(start, self.states)
        self._check_rows(rewards)
        if self.gamma == 1.0 and self.horizon is None:
            self._check_ends()

    def _check_rows(self, rewards: np.ndarray) -> None:
        """Read every outcome once: refuse what is no distribution, and note the shape of the whole."""
        shape = check(self.indptr, self.indices, self.probabilities, self.terminal, self.actions, rewards)
        if shape.bad < len(self.indptr) - 1:
            raise UserError(self._what_is_wrong(int(shape.bad), rewards))
        self._check_terminal_rows()
        self.masked = shape.empty > 0
        self.deviation, self.longest, self.ordered = float(shape.deviation), int(shape.longest), shape.back == 0
        even = shape.shortest == shape.longest and not self.masked
        self.width = self.longest if even else 0
        self.packed = even and shape.uneven == 0
        if rewards.ndim == 1:
            self.rewards = expected(self.indptr, self.probabilities, rewards).reshape(self.states, self.actions)
        else:
            self.rewards = rewards
        if self.masked:
            available = (np.diff(self.indptr) > 0).reshape(self.states, self.actions)
            none = np.flatnonzero(~available.any(axis=1) & ~self.terminal)
            if len(none):
                raise UserError(f"state {none[0]} has no action: each of its rows is empty, and it is not terminal")
            self.rewards = np.where(available, self.rewards, -np.inf)

    def _check_terminal_rows(self) -> None:
        """UserError where rows of terminal states, which count for nothing, would be read outside the arrays."""
        if not self.terminal.any():
            return
        back = np.diff(self.indptr) < 0
        if back.any():
            raise UserError(f"state {int(back.argmax()) // self.actions}: its row of outcomes ends before it begins")
        outside = (self.indices < 0) | (self.indices >= self.states)
        if outside.any():
            to = self.indices[outside][0]
            raise UserError(f"a row of a terminal state leads to state {to}, expected 0 to {self.states - 1}")

    def _what_is_wrong(self, row: int, rewards: np.ndarray) -> str:
        state, action = divmod(row, self.actions)
        here, lo, hi = f"state {state}, action {action}", int(self.indptr[row]), int(self.indptr[row + 1])
        p, to = self.probabilities[lo:hi], self.indices[lo:hi]
        if lo > hi or lo < 0 or hi > len(self.indices):
            return f"{here}: its row runs from {lo} to {hi} of {len(self.indices)} outcomes"
        if not np.isfinite(p).all():
            return f"{here}: the probability of state {to[~np.isfinite(p)][0]} is {p[~np.isfinite(p)][0]}"
        if (p < 0).any():
            return f"{here}: the probability of state {to[p < 0][0]} is {p[p < 0][0]:g}, which is negative"
        if ((to < 0) | (to >= self.states)).any():
            return f"{here}: leads to state {to[(to < 0) | (to >= self.states)][0]}, expected 0 to {self.states - 1}"
        if abs(p.sum() - 1) > SUM_TOLERANCE:
            return f"{here}: the probabilities sum to {p.sum():.12g}, expected 1"
        r = rewards[lo:hi] if rewards.ndim == 1 else rewards[state, action : action + 1]
        return f"{here}: the reward is {r[~np.isfinite(r)][0]}, expected a finite number"

    def _check_ends(self) -> None:
        """Every state must have a way to the end: then some policy ends with probability 1 from everywhere."""
        if not self.ends:
            raise UserError(
                "the discount is 1 and no state is terminal: give terminal states, a gamma below 1 or a horizon"
            )
        distance = distance_to_end(self, self.available)
        if (distance < 0).any():
            state = int(np.argmax(distance < 0))
            lo, hi = int(self.indptr[state * self.actions]), int(self.indptr[(state + 1) * self.actions])
            onward = ", ".join(map(str, np.unique(self.indices[lo:hi])[:4]))
            raise UserError(
                f"the discount is 1 and state {state} cannot reach a terminal state by any action (0 to "
                f"{self.actions - 1} lead to state {onward}): expected a gamma below 1, a horizon, or a way to the end"
            )

    @property
    def ending(self) -> np.ndarray:
        """[S A] float64: probability that a step ends the episode in a state that is not terminal."""
        if self.terminated is None:
            return np.zeros(self.states * self.actions)
        return expected(self.indptr, self.probabilities, self.terminated.astype(np.float64))

    @property
    def weights(self) -> np.ndarray:
        """[nnz] float64: the probabilities, 0 where the outcome ends the episode."""
        if self.terminated is None:
            return self.probabilities
        if not hasattr(self, "_weights"):
            self._weights = np.where(self.terminated, 0.0, self.probabilities)
        return self._weights

    @property
    def ends(self) -> bool:
        """Whether episodes can end at all, but by the horizon."""
        if not hasattr(self, "_ends"):
            self._ends = bool(self.terminal.any()) or bool(self.terminated is not None and self.terminated.any())
        return self._ends

    @property
    def nnz(self) -> int:
        """Outcomes in all."""
        return len(self.indices)

    @property
    def nbytes(self) -> int:
        """Size of the arrays in memory, bytes."""
        arrays = (self.indptr, self.indices, self.probabilities, self.rewards, self.terminal, self.start)
        more = (self.outcome_rewards, self.terminated)
        return sum(a.nbytes for a in arrays) + sum(a.nbytes for a in more if a is not None)

    @property
    def available(self) -> np.ndarray:
        """[S, A] bool: actions that have outcomes; all of them in a terminal state, where none counts."""
        available: np.ndarray = (self.rewards > -np.inf) | self.terminal[:, None]
        return available

    @property
    def transitions(self) -> sparse.csr_array:
        """The probabilities as a SciPy array, [S A, S], on the same memory."""
        return sparse.csr_array(
            (self.probabilities, self.indices, self.indptr), shape=(self.states * self.actions, self.states)
        )

    def q_values(self, values: np.ndarray) -> np.ndarray:
        """r(s, a) + gamma E v(s'), [S, A] float64, of values [S]; -inf where not available, 0 in terminal states."""
        return q_values(self, np.ascontiguousarray(values, np.float64))

    def expected_next(self, values: np.ndarray) -> np.ndarray:
        """E v(s'), [S, A] float64, of values [S]; 0 after the end of the episode and where not available."""
        following = np.where(self.terminal, 0.0, values)[self.indices]
        sums = expected(self.indptr, self.weights, following)
        return np.asarray(sums).reshape(self.states, self.actions)

    def policy_values(self, policy: np.ndarray) -> np.ndarray:
        """The expected (discounted) return of a policy from each state, [S] float64, by sparse linear algebra.

        Undiscounted, the value of a state from which the policy earns rewards for ever is infinite.
        With a horizon the policy is [horizon, S], or [S] at every step.

        Args:
            policy: action of each state, [S] integers.

        Raises:
            UserError: an action that is not available.
        """
        return policy_evaluation.policy_values(self, _numbers("policy's actions", policy, "iu"))

    def replace(self, *, gamma: float | None = None, horizon: int | None = None) -> FiniteMDP:
        """The same process with another discount or horizon, on the same arrays."""
        other = object.__new__(FiniteMDP)
        other.__dict__ |= self.__dict__
        other.gamma = self.gamma if gamma is None else _discount(gamma)
        other.horizon = self.horizon if horizon is None else _horizon(horizon)
        if other.gamma == 1.0 and other.horizon is None and (self.gamma < 1.0 or self.horizon is not None):
            other._check_ends()
        return other

    @classmethod
    def from_dense(cls, transitions: Any, rewards: Any, **rest: Any) -> Self:  # noqa: ANN401 - array-likes
        """From probabilities [S, A, S] and rewards [S, A], or [S, A, S] by next state; see the class."""
        dense = np.asarray(_numbers("transitions", transitions), np.float64)
        if dense.ndim != 3 or dense.shape[0] != dense.shape[2]:
            raise UserError(f"the transitions have the shape {dense.shape}, expected [S, A, S]")
        states, actions, _ = dense.shape
        rows = sparse.csr_array(dense.reshape(states * actions, states))
        given = np.asarray(_numbers("rewards", rewards), np.float64)
        if given.ndim == 3:
            if given.shape != dense.shape:
                raise UserError(f"the rewards have the shape {given.shape}, expected {dense.shape}")
            given = given.reshape(states * actions, states)[
                np.repeat(np.arange(states * actions), np.diff(rows.indptr)), rows.indices
            ]
        return cls(rows, given, **rest)

    @classmethod
    def from_env(cls, env: str | gymnasium.Env[Any, Any], *, gamma: float = 1.0, **env_args: Any) -> FiniteMDP:  # noqa: ANN401
        """The model of a Gymnasium env: its method ``mdp(gamma)``, or its ``P`` as Gymnasium's toy text has it.

        The model is read with all that it needs, and compared with some steps of the env: see rlkit/exact/env_model.py.
        The env's own time limit is not part of the model.

        Raises:
            UserError: the env has no model, one that is not well formed, or one that is not what the env does, as a
                wrapper around it may change that.
        """
        from rlkit.exact import env_model  # noqa: PLC0415 - Gymnasium's wrappers take a while

        if isinstance(env, str):
            made = gymnasium.make(env, **env_args)
            try:
                return cls.from_env(made, gamma=gamma)
            finally:
                made.close()
        return env_model.of_env(env, gamma, FiniteMDP)

    def save(self, path: str | Path) -> None:
        """Write the process to a file, .npz; whole or not at all."""
        arrays: dict[str, Any] = {
            "format": FORMAT,
            "indptr": self.indptr,
            "indices": self.indices,
            "probabilities": self.probabilities,
            "rewards": self.rewards if self.outcome_rewards is None else self.outcome_rewards,
            "terminal": self.terminal,
            "start": self.start,
            "gamma": self.gamma,
        }
        if self.outcome_rewards is None and self.masked:
            arrays["rewards"] = np.where(self.available, self.rewards, 0.0)
        if self.terminated is not None:
            arrays["terminated"] = self.terminated
        if self.horizon is not None:
            arrays["horizon"] = self.horizon
        with whole(home(path)) as beside, beside.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UserError: no such file, or not of this kind.
        """
        try:
            found = npz.read(home(path))
        except FileNotFoundError:
            raise UserError(f"MDP file {path} does not exist") from None
        except (OSError, UserError) as error:
            raise UserError(f"MDP file {path} cannot be read: {getattr(error, 'strerror', error)}") from None
        missing = {"format", "indptr", "indices", "probabilities", "rewards", "gamma"} - found.keys()
        if missing:
            raise UserError(
                f"MDP file {path} has no {', '.join(sorted(missing))}: it was not written by FiniteMDP.save"
            )
        try:
            if _number(found, "format") > FORMAT:
                raise UserError("it was written by a newer version: update rlkit")
            return cls(
                (found["indptr"], found["indices"], found["probabilities"]),
                found["rewards"],
                gamma=_number(found, "gamma"),
                terminal=found.get("terminal"),
                terminated=found.get("terminated"),
                start=found.get("start"),
                horizon=int(_number(found, "horizon")) if "horizon" in found else None,
            )
        except UserError as error:
            raise UserError(f"MDP file {path}: {error}") from None

    def __repr__(self) -> str:
        ends = f"horizon {self.horizon}" if self.horizon is not None else f"{int(self.terminal.sum())} terminal"
        size = f"{self.states} states, {self.actions} actions, {self.nnz} outcomes"
        return f"FiniteMDP({size}, gamma {self.gamma:g}, {ends})"


def _number(arrays: Mapping[str, np.ndarray], name: str) -> float:
    """A single finite number of a file."""
    array = arrays[name]
    if array.shape or array.dtype.kind not in "biuf" or not np.isfinite(array):
        raise UserError(f"{name} is {short(array.tolist())}, expected a number")
    return float(array)


def _numbers(name: str, given: Any, kinds: str = "biuf") -> np.ndarray:  # noqa: ANN401 - an array-like
    """An array-like as an array of numbers; UserError where it is one of another kind."""
    try:
        array = np.asarray(given)
    except ValueError:  # lists of several lengths
        raise UserError(f"the {name} are no array, expected rows of one length") from None
    if array.dtype.kind not in kinds:
        raise UserError(f"the {name} are of type {array.dtype}, expected {'numbers' if 'f' in kinds else 'integers'}")
    return array


def _csr(transitions: Transitions) -> tuple[np.ndarray, np.ndarray, np.ndarray, int | None]:
    """The three arrays and, where they are known, the number of columns."""
    if isinstance(transitions, tuple):
        indptr, indices, data = (np.asarray(part) for part in transitions)
        columns = None
    elif sparse.issparse(transitions):
        rows = transitions if transitions.format == "csr" else transitions.tocsr()
        indptr, indices, data, columns = rows.indptr, rows.indices, rows.data, int(rows.shape[1])
    else:
        raise UserError(
            f"the transitions are a {type(transitions).__name__}, expected a SciPy CSR array or its three arrays "
            "(FiniteMDP.from_dense takes [S, A, S])"
        )
    data = _numbers("probabilities", data)
    indptr, indices = _numbers("indptr", indptr, "iu"), _numbers("indices", indices, "iu" if indices.size else "iuf")
    if indptr.ndim != 1 or indices.ndim != 1 or data.shape != indices.shape or len(indptr) < 2:
        raise UserError("the transitions are not CSR: expected indptr [S A + 1], indices [nnz], probabilities [nnz]")
    if indptr[0] != 0 or indptr[-1] != len(indices):
        raise UserError(f"the transitions are not CSR: indptr ends at {indptr[-1]}, expected {len(indices)}")
    for name, part, most in (("indptr", indptr, len(indices)), ("indices", indices, 2**31 - 1)):
        if part.size and (part.min() < -(2**31) or part.max() > most):
            raise UserError(f"the transitions are not CSR: {name} has {part.max()}, expected at most {most}")
    wide = len(indices) >= 2**31
    return (
        np.ascontiguousarray(indptr, np.int64 if wide else np.int32),
        np.ascontiguousarray(indices, np.int32),
        np.ascontiguousarray(data, np.float64),
        columns,
    )


def _states(rewards: np.ndarray, rows: int, columns: int | None, terminal: Any) -> int:  # noqa: ANN401 - an array-like
    """How many states the shapes agree on."""
    if rewards.ndim == 2:
        states, actions = map(int, rewards.shape)
        if states * actions != rows or not rows:
            raise UserError(
                f"the rewards have the shape {rewards.shape}, expected S A = {rows} entries, as transitions"
            )
    elif rewards.ndim == 1:
        states = int(columns or (np.size(terminal) if terminal is not None else 0))
        if not states:
            raise UserError("give terminal with the rewards of outcomes: its length says how many states there are")
    else:
        raise UserError(f"the rewards have the shape {rewards.shape}, expected [S, A] or [nnz]")
    if (columns is not None and columns != states) or rows % states:
        raise UserError(
            f"the transitions have the shape [{rows}, {columns}], which is not [S A, S] for {states} states"
        )
    return states


def _flags(name: str, given: Any, length: int) -> np.ndarray:  # noqa: ANN401 - an array-like
    flags = np.zeros(length, np.bool_) if given is None else _numbers(name, given)
    if flags.shape != (length,):
        raise UserError(f"{name} has the shape {flags.shape}, expected [{length}]")
    if flags.dtype != np.bool_ and not (good := (flags == 0) | (flags == 1)).all():
        raise UserError(f"{name} has the value {flags[~good][0]:g}, expected true or false, 0 or 1")
    return np.ascontiguousarray(flags, np.bool_)


def _discount(gamma: Any) -> float:  # noqa: ANN401 - from outside
    if isinstance(gamma, bool) or not isinstance(gamma, Real):
        raise UserError(f"gamma is {short(gamma)}, expected a number")
    value = float(gamma)
    if not 0 <= value <= 1:
        raise UserError(f"gamma is {value:g}, expected at least 0 and at most 1")
    return value


def _horizon(horizon: Any) -> int | None:  # noqa: ANN401 - from outside
    if horizon is None:
        return None
    if isinstance(horizon, bool) or not isinstance(horizon, Integral):
        raise UserError(f"horizon is {short(horizon)}, expected a whole number")
    steps = int(horizon)
    if steps < 1:
        raise UserError(f"horizon is {steps}, expected at least 1")
    return steps


def _start(given: Any, states: int) -> np.ndarray:  # noqa: ANN401 - an array-like
    if given is None:
        start = np.zeros(states)
        start[0] = 1.0
        return start
    start = np.ascontiguousarray(_numbers("start probabilities", given), np.float64)
    if start.shape != (states,):
        raise UserError(f"start has the shape {start.shape}, expected [{states}]")
    if not (start >= 0).all() or not math.isclose(start.sum(), 1.0, abs_tol=1e-8):
        raise UserError(f"start sums to {start.sum():.12g}, expected probabilities that sum to 1")
    return start
