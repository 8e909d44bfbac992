"""Models of envs: found, read and compared with what the env does, so that no plan is about something else.

Letters: S states, A actions.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from numbers import Integral, Real
from typing import Any, NamedTuple, NoReturn, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces, wrappers

from rlkit.errors import UserError
from rlkit.exact.model import Model

NEUTRAL = (
    wrappers.TimeLimit,
    wrappers.OrderEnforcing,
    wrappers.PassiveEnvChecker,
    wrappers.RecordEpisodeStatistics,
    wrappers.RecordVideo,
    wrappers.RenderCollection,
    wrappers.HumanRendering,
)
"""Wrappers that change no state, action, reward or end; a time limit is not part of the model."""

STEPS = 1_000
"""Steps in which a model is compared with its env."""

EPISODE = 100
"""Most of them in one episode."""

SURPRISE = math.log(1e9)
"""Log likelihood ratio from which outcomes speak against a model: where it is right, once in 1e9 envs."""

SWEEPS = 100
"""Sweeps for the policy that a part of the steps follows."""

WORK = 500_000
"""Outcomes that these sweeps look at, at most."""


class NoModelError(UserError):
    """An env that does not say how it works."""


M = TypeVar("M", bound=Model)


def of_env(env: gymnasium.Env[Any, Any], gamma: float, make: type[M]) -> M:
    """The model of an env, where it has one that is the env's; see `FiniteMDP.from_env`.

    Args:
        env: as it is named: with its wrappers.
        gamma: discount of a step.
        make: the class of the model, FiniteMDP.

    Raises:
        NoModelError: it has none.
        UserError: it has one that is not well formed, or not that of this env.
    """
    name = f"env {_name(env)!r}"
    layer = modelled(env)
    try:
        if callable(getattr(layer, "mdp", None)):
            mdp = _from_method(layer, gamma, make)
        else:
            actions = getattr(layer, "action_space", None)
            if not isinstance(actions, spaces.Discrete):
                raise UserError(f"P is given and the actions are {actions}, expected Discrete")
            space, start = getattr(layer, "observation_space", None), getattr(layer, "initial_state_distrib", None)
            states = int(space.n) if isinstance(space, spaces.Discrete) else None
            table: Any = layer.P  # type: ignore[attr-defined] # `modelled` has seen it
            mdp = make(**from_table(table, states, int(actions.n), start), gamma=gamma)
        _check_spaces(layer, mdp)
        compare(layer, mdp)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    return mdp


def _name(env: gymnasium.Env[Any, Any]) -> str:
    return env.spec.id if env.spec else type(env.unwrapped).__name__


def modelled(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """The layer of an env that has a model, of the whole env: none of the wrappers around it changes anything.

    Raises:
        NoModelError: there is none.
        UserError: a wrapper that the model knows nothing of, or something else that it leaves out.
    """
    layer, around = env, None
    while not (callable(getattr(layer, "mdp", None)) or isinstance(getattr(layer, "P", None), Mapping | Sequence)):
        if not isinstance(layer, gymnasium.Wrapper):
            wanted = "it needs P as FrozenLake-v1 has, or mdp(gamma)"
            raise NoModelError(f"env {_name(env)!r} has no model to plan with: {wanted}")
        if around is None and type(layer) not in NEUTRAL:
            around = type(layer).__name__
        layer = layer.env
    if around:
        raise UserError(
            f"env {_name(env)!r} is wrapped in {around}, which its model knows nothing of: expected the env without "
            "it, or a wrapper with a P or mdp(gamma) of its own"
        )
    if getattr(layer, "fickle_passenger", False) and getattr(layer, "fickle_probability", 1.0) > 0:
        raise UserError(
            f"env {_name(env)!r}: its P leaves out that a fickle passenger changes the destination: expected "
            "fickle_passenger false"
        )
    return layer


def _from_method(layer: Any, gamma: float, make: type[M]) -> M:  # noqa: ANN401 - an env with a method of its own
    try:
        mdp = layer.mdp(gamma)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"mdp({gamma:g}) raised {type(error).__name__}: {error}") from error
    if not isinstance(mdp, make):
        raise UserError(f"mdp({gamma:g}) is a {type(mdp).__name__}, expected a rlkit.FiniteMDP")
    return mdp if mdp.gamma == gamma else mdp.replace(gamma=gamma)


def _check_spaces(layer: gymnasium.Env[Any, Any], mdp: Model) -> None:
    for what, name, count in (("states", "observation_space", mdp.states), ("actions", "action_space", mdp.actions)):
        space = getattr(layer, name, None)
        if isinstance(space, spaces.Discrete) and space.n != count:
            raise UserError(f"its model has {count} {what} and its space is {space}, expected {space.n} {what}")


# ---- Gymnasium's P


def from_table(table: Any, states: int | None, actions: int, start: Any) -> dict[str, Any]:  # noqa: ANN401 - from outside
    """The arguments of FiniteMDP for Gymnasium's ``P[s][a] = [(probability, next state, reward, terminated), ...]``.

    States and actions are counted from 0. What ends an episode is the outcome. A state is terminal where no step is
    taken: an outcome that ends the episode is the only way in from another state, and no episode starts there, or
    all that happens there is to stay for nothing.

    Args:
        table: ``P``, a dict or list of dicts or lists; terminated is a bool, 0 or 1.
        states: how many there are; None: as many as the table has.
        actions: how many there are.
        start: [S], probabilities of the first state; None: it is state 0.

    Raises:
        UserError: whatever is not so, by its place in the table.
    """
    rows = _rows(table, states, actions)
    states = len(rows) // actions
    counts = np.fromiter(map(len, rows), np.int64, len(rows))
    probability, next_state, reward, ended = _columns(rows, states, actions)
    indptr = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    first = None if start is None else _first(start)
    origin = np.repeat(np.arange(states, dtype=np.int32), counts.reshape(states, actions).sum(axis=1))
    terminal = _terminal(origin, probability, next_state, reward, ended, first, states)
    flagged = ended & ~terminal[next_state] & ~terminal[origin]
    return {
        "transitions": (indptr, next_state, probability),
        "rewards": reward,
        "terminal": terminal,
        "terminated": flagged if flagged.any() else None,
        "start": first,
    }


def _first(start: Any) -> np.ndarray:  # noqa: ANN401 - from outside
    try:
        return np.array(start, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"initial_state_distrib is {start!r}, expected a probability of each state") from None


def _terminal(
    origin: np.ndarray, probability: np.ndarray, next_state: np.ndarray, reward: np.ndarray, ended: np.ndarray,
    start: np.ndarray | None, states: int,
) -> np.ndarray:  # fmt: skip
    """[S] bool: states in which no step is taken, or in which steps change nothing."""
    happens, moves = probability > 0, origin != next_state
    entering = happens & moves
    terminal, active = np.zeros(states, np.bool_), np.zeros(states, np.bool_)
    terminal[next_state[entering & ended]] = True
    terminal[next_state[entering & ~ended]] = False
    active[origin[happens & (moves | (reward != 0))]] = True
    begins = np.arange(states) == 0 if start is None else np.resize(start, states) != 0
    terminal &= ~(active & begins)
    return terminal


def _rows(table: Any, states: int | None, actions: int) -> list[Sequence[Any]]:  # noqa: ANN401 - from outside
    """The rows of all states and actions in order."""
    rows = list[Sequence[Any]]()
    for state, of_state in _numbered(table, states, "P", "state"):
        for action, row in _numbered(of_state, actions, f"P[{state}]", "action"):
            if not isinstance(row, list | tuple) or not row:
                found = "empty" if isinstance(row, list | tuple) else f"a {type(row).__name__}"
                raise UserError(f"P[{state}][{action}] is {found}, expected a list of {OUTCOME}")
            rows.append(row)
    return rows


OUTCOME = "(probability, next state, reward, terminated)"


def _numbered(found: Any, count: int | None, name: str, what: str) -> Iterable[tuple[int, Any]]:  # noqa: ANN401
    """The entries 0, 1, ... of a dict or list, which has no others."""
    if not isinstance(found, Mapping | list | tuple) or not len(found):
        kind = "empty" if isinstance(found, Mapping | list | tuple) else f"a {type(found).__name__}"
        raise UserError(f"{name} is {kind}, expected a dict or list by {what}")
    count = len(found) if count is None else count
    if isinstance(found, Mapping):
        for i in range(count):
            if i not in found:
                key = next(iter(found))
                other = "" if isinstance(key, Integral) else f"; its keys are such as {key!r}"
                raise UserError(f"{name} has no {what} {i}, expected {what}s 0 to {count - 1}{other}")
    if len(found) != count:
        raise UserError(f"{name} has {len(found)} {what}s, expected {count}")
    return ((i, found[i]) for i in range(count))


class Field(NamedTuple):
    """A part of an outcome."""

    name: str
    is_kind: Callable[[type], bool]
    """Whether it may be of a type."""
    fits: Callable[[np.ndarray], np.ndarray]
    """Which of these numbers it may be, float64 to bool."""
    expected: str
    dtype: type


def _is_number(kind: type) -> bool:
    return issubclass(kind, Real) and not issubclass(kind, bool)


def _is_whole(kind: type) -> bool:
    return issubclass(kind, Integral) and not issubclass(kind, bool)


def _is_flag(kind: type) -> bool:
    return issubclass(kind, Integral | np.bool_)


def _columns(rows: list[Sequence[Any]], states: int, actions: int) -> list[np.ndarray]:
    """Probabilities, next states, rewards and ends of all outcomes in order: float64, int32, float64, bool."""
    flat = list(itertools.chain.from_iterable(rows))

    def refuse(index: int, what: str) -> NoReturn:
        row = int(np.searchsorted(np.cumsum([len(row) for row in rows]), index, side="right"))
        raise UserError(f"P[{row // actions}][{row % actions}] has {what}")

    if not all(issubclass(kind, tuple | list) for kind in set(map(type, flat))):
        i = next(i for i, outcome in enumerate(flat) if not isinstance(outcome, tuple | list))
        refuse(i, f"the outcome {flat[i]!r}, expected {OUTCOME}")
    if set(map(len, flat)) != {4}:
        i = next(i for i, outcome in enumerate(flat) if len(outcome) != 4)
        refuse(i, f"an outcome of {len(flat[i])} values, {flat[i]!r}, expected 4: {OUTCOME}")
    fields = (
        Field("probability", _is_number, np.isfinite, "a finite number", np.float64),
        Field("next state", _is_whole, lambda x: (x >= 0) & (x < states), f"a state, 0 to {states - 1}", np.int32),
        Field("reward", _is_number, np.isfinite, "a finite number", np.float64),
        Field("terminated", _is_flag, lambda x: (x == 0) | (x == 1), "a bool, 0 or 1", np.bool_),
    )
    columns = list[np.ndarray]()
    for field, column in zip(fields, zip(*flat, strict=True), strict=True):
        typed = all(map(field.is_kind, set(map(type, column))))
        wide = _float64(column) if typed else np.empty(0)
        good = field.fits(wide) if typed else np.array([field.is_kind(type(x)) for x in column])
        if not good.all():
            i = int(np.argmin(good))
            refuse(i, f"the {field.name} {column[i]!r}, expected {field.expected}")
        columns.append(wide.astype(field.dtype))
    return columns


def _float64(column: Sequence[Any]) -> np.ndarray:
    """Numbers as float64; those that are too large as infinity."""
    with suppress(OverflowError):
        return np.array(column, np.float64)
    return np.array([x if abs(x) < 2**1023 else math.inf for x in column], np.float64)


# ---- the env beside its model


def compare(env: gymnasium.Env[Any, Any], mdp: Model) -> None:
    """Refuse a model that cannot be the env's, from `STEPS` seeded steps in a copy of the env.

    Half of the episodes take random actions, the others those of a policy that is good by the model. What the env
    does and the model gives probability 0 is a proof. That outcomes are as likely as the model says is tested by a
    likelihood ratio to shares learned on the way, among rows of the same probabilities: by Ville's inequality it
    passes `SURPRISE` with probability 1e-9 at most where the model is right.

    An env whose observations are not the states, or that has no reset or step, is not compared.

    Raises:
        UserError: an outcome, a start or shares that the model does not have.
    """
    states, actions = getattr(env, "observation_space", None), getattr(env, "action_space", None)
    if not (isinstance(states, spaces.Discrete) and isinstance(actions, spaces.Discrete)):
        return
    inner = type(env.unwrapped)
    if inner.reset is gymnasium.Env.reset or inner.step is gymnasium.Env.step:
        return
    actor, random = _copied(env, type(mdp)), np.random.default_rng(0)
    witness, policy, here = Witness(mdp), _good_policy(mdp), -1
    length = episode = 0
    for step in range(STEPS):
        try:
            if here < 0:
                observation, _ = actor.reset(seed=0 if step == 0 else None)
                here, length, episode = int(observation) - int(states.start), 0, episode + 1
                witness.starts(here)
            if mdp.terminal[here]:  # an episode without a step
                here = -1
                continue
            action = int(policy[here]) if episode % 2 else witness.any_action(here, float(random.random()))
            observation, reward, terminated, truncated, _ = actor.step(action + int(actions.start))
            following = int(observation) - int(states.start)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise UserError(f"its model cannot be compared with it: {type(error).__name__}: {error}") from error
        witness.steps(here, action, following, float(reward), bool(terminated))
        length += 1
        here = -1 if terminated or truncated or length == EPISODE else following


class Witness:
    """Comparison of what an env did with a model."""

    def __init__(self, mdp: Model) -> None:
        self.mdp = mdp
        self.ends = mdp.terminal[mdp.indices] if mdp.terminated is None else mdp.terminal[mdp.indices] | mdp.terminated
        self._counts: dict[bytes, np.ndarray] = {}
        self._evidence = 0.0

    def starts(self, state: int) -> None:
        """An episode began in a state."""
        if not (0 <= state < self.mdp.states and self.mdp.start[state] > 0):
            likely = int(self.mdp.start.argmax())
            raise UserError(
                f"its model is not what it does: reset() led to state {state}, which initial_state_distrib, or the "
                f"model's start, gives probability 0, and state {likely} the most"
            )

    def any_action(self, state: int, draw: float) -> int:
        """One of the actions that are available in a state, by a draw from [0, 1)."""
        if not self.mdp.masked:
            return int(draw * self.mdp.actions)
        there = np.flatnonzero(self.mdp.rewards[state] > -np.inf)
        return int(there[int(draw * len(there))])

    def steps(self, state: int, action: int, following: int, reward: float, terminated: bool) -> None:
        """A step was made."""
        mdp, row = self.mdp, state * self.mdp.actions + action
        lo, hi = int(mdp.indptr[row]), int(mdp.indptr[row + 1])
        p = mdp.probabilities[lo:hi]
        same = (mdp.indices[lo:hi] == following) & (self.ends[lo:hi] == terminated)
        if mdp.outcome_rewards is not None:
            given = mdp.outcome_rewards[lo:hi]
            same &= np.abs(given - reward) <= 1e-6 * (1 + np.abs(given))
        share = p @ same
        if not share > 0:
            raise UserError(
                f"its model is not what it does: in state {state} action {action} led to state {following}, reward "
                f"{reward:g}, {'' if terminated else 'not '}terminated, which the model gives probability 0"
            )
        if share < 1:
            self._weigh(p, same, share)

    def _weigh(self, p: np.ndarray, same: np.ndarray, share: float) -> None:
        """Add an outcome's log likelihood ratio, then learn from it. Krichevsky and Trofimov 1981."""
        counts = self._counts.setdefault(p.tobytes(), np.full(len(p), 0.5))
        self._evidence += math.log(float(counts @ same) / float(counts.sum()) / share)
        counts += p * same / share
        if self._evidence > SURPRISE:
            raise UserError(
                "its model is not what it does: outcomes came in other shares than its probabilities, as they would "
                "once in 1e9 envs"
            )


def _good_policy(mdp: Model) -> np.ndarray:
    """Actions that are good by the model within some steps, [S]."""
    soon, values = mdp.replace(gamma=0.95, horizon=None), np.zeros(mdp.states)
    q = soon.q_values(values)
    for _ in range(min(SWEEPS, WORK // mdp.nnz)):
        values = q.max(axis=1)
        q = soon.q_values(values)
    return np.asarray(q.argmax(axis=1))


def _copied(env: gymnasium.Env[Any, Any], shared: type) -> gymnasium.Env[Any, Any]:
    """An env that can be stepped without a trace in the given one, and that draws nothing on a screen.

    What cannot be copied, such as a window, is shared; so are the model, by its class, and the parts of it.
    """
    actor = copy.copy(env)
    memo = {id(env): actor} | ({id(env.P): env.P} if hasattr(env, "P") else {})
    for name, value in vars(env).items():
        if isinstance(value, gymnasium.Env):
            vars(actor)[name] = _copied(value, shared)
            continue
        with suppress(Exception):
            vars(actor)[name] = value if isinstance(value, shared) else copy.deepcopy(value, memo)
    if "render_mode" in vars(actor):
        vars(actor)["render_mode"] = None
    return actor
