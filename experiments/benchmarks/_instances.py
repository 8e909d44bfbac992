"""The MDPs that planners are measured on, built as arrays and kept on disk between runs.

Letters: S states, A actions, nnz outcomes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import sparse

from rlkit.files import whole

FOLDER = Path(tempfile.gettempdir()) / "rlkit-benchmarks"
"""Where built instances are kept."""

GAMMA = 0.99
"""The discount of every instance."""


@dataclass(frozen=True)
class Instance:
    """An MDP in the form that every solver reads: ends are absorbing states without reward, all actions available.

    Attributes:
        name: as `--only` takes it.
        outcomes: probabilities as CSR [S A, S], in the env's order; a next state can stand in a row twice.
        rewards: expected, [S, A].
        terminal: [S] bool, the absorbing states.
        compared: how many of the first states are the env's own.
    """

    name: str
    outcomes: sparse.csr_array
    rewards: np.ndarray
    terminal: np.ndarray
    compared: int

    @cached_property
    def probabilities(self) -> sparse.csr_array:
        """CSR [S A, S], each next state once in a row, as libraries have it."""
        merged = self.outcomes.copy()
        merged.sum_duplicates()
        return merged

    @property
    def states(self) -> int:
        """How many, the absorbing ones counted."""
        return int(self.rewards.shape[0])

    @property
    def actions(self) -> int:
        """The same number in every state."""
        return int(self.rewards.shape[1])


def garnet(states: int) -> Instance:
    """A Garnet with 4 actions and branching 5; no reward is negative, because some of Storm's methods need that."""
    from rlkit.envs.garnet import garnet as made

    mdp = made(states, actions=4, branching=5, gamma=GAMMA, rewards="uniform")
    return Instance(f"garnet-{states}", mdp.transitions, mdp.rewards, mdp.terminal, states)


def lake_arrays(desc: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Gymnasium's slippery FrozenLake on a map, outcome for outcome in the order of its ``P``.

    Args:
        desc: letters, [rows, columns] of one byte.

    Returns:
        indptr [S A + 1], indices, probabilities and rewards of outcomes [nnz], terminal [S].
    """
    height, width = desc.shape
    states = height * width
    row, column = np.divmod(np.arange(states, dtype=np.int32), np.int32(width))
    left, right = np.maximum(column - 1, 0), np.minimum(column + 1, width - 1)
    up, down = np.maximum(row - 1, 0), np.minimum(row + 1, height - 1)
    moves = np.stack([row * width + left, down * width + column, row * width + right, up * width + column], axis=1)
    terminal = ((desc == b"G") | (desc == b"H")).reshape(-1)
    goal = (desc == b"G").reshape(-1)
    slips = (np.arange(4)[:, None] + np.array([-1, 0, 1])) % 4  # [A, 3]
    to = moves[:, slips]  # [S, A, 3]
    to[terminal] = np.flatnonzero(terminal)[:, None, None]
    sure = 1.0 / 3.0
    slippery = np.array([(1.0 - sure) / 2.0, sure, (1.0 - sure) / 2.0])
    p = np.broadcast_to(np.where(terminal[:, None, None], 1.0, slippery), to.shape)
    reward = (goal[to] & ~terminal[:, None, None]).astype(np.float64)
    counted = np.broadcast_to(~terminal[:, None, None] | (np.arange(3) == 0), to.shape)  # a terminal state has one
    indptr = np.zeros(4 * states + 1, np.int32)
    np.cumsum(counted.sum(axis=2).reshape(-1), out=indptr[1:])
    return indptr, to[counted], p[counted], reward[counted], terminal


def frozen_lake(size: int, seed: int = 0) -> Instance:
    """A slippery lake of size x size from Gymnasium's map generator, four cells in five frozen."""
    from gymnasium.envs.toy_text.frozen_lake import generate_random_map

    _check_lake(8)
    desc = np.asarray(generate_random_map(size, p=0.8, seed=seed), dtype="c")
    indptr, to, p, reward, terminal = lake_arrays(desc)
    states = size * size
    matrix = sparse.csr_array((p, to, indptr), shape=(4 * states, states))
    expected = np.add.reduceat(p * reward, indptr[:-1]).reshape(states, 4)
    return Instance(f"frozen-lake-{size}", matrix, expected, terminal, states)


def _check_lake(size: int) -> None:
    """Hold `lake_arrays` to Gymnasium's own ``P``."""
    import gymnasium
    from gymnasium.envs.toy_text.frozen_lake import generate_random_map

    letters = generate_random_map(size, p=0.8, seed=1)
    table = gymnasium.make("FrozenLake-v1", desc=letters).unwrapped.P  # type: ignore[attr-defined] # toy text has it
    indptr, to, p, reward, terminal = lake_arrays(np.asarray(letters, dtype="c"))
    for state in range(size * size):
        for action in range(4):
            lo, hi = indptr[4 * state + action], indptr[4 * state + action + 1]
            ours = [(p[k], to[k], reward[k], terminal[to[k]]) for k in range(lo, hi)]
            if ours != table[state][action]:
                raise RuntimeError(f"state {state}, action {action}: {ours}, but Gymnasium has {table[state][action]}")


def taxi() -> Instance:
    """Gymnasium's Taxi-v4; what ends an episode leads to one more state, the end."""
    import gymnasium

    env = gymnasium.make("Taxi-v4").unwrapped
    table, actions = env.P, 6  # type: ignore[attr-defined] # toy text has it
    states = len(table) + 1
    end = states - 1
    dense, rewards = np.zeros((states, actions, states)), np.zeros((states, actions))
    dense[end, :, end] = 1.0
    for state in range(end):
        for action in range(actions):
            for p, to, reward, terminated in table[state][action]:
                dense[state, action, end if terminated else to] += p
                rewards[state, action] += p * reward
    terminal = np.zeros(states, np.bool_)
    terminal[end] = True
    return Instance("taxi", sparse.csr_array(dense.reshape(states * actions, states)), rewards, terminal, end)


INSTANCES: dict[str, Callable[[], Instance]] = {
    "taxi": taxi,
    "frozen-lake-100": lambda: frozen_lake(100),
    "garnet-10000": lambda: garnet(10_000),
    "garnet-100000": lambda: garnet(100_000),
    "garnet-1000000": lambda: garnet(1_000_000),
    "frozen-lake-1000": lambda: frozen_lake(1_000),
}
"""By name, in the order they are measured."""


def cached(name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays from the file of that name, made and written first where there is none."""
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        made = make()
        with whole(path) as beside, beside.open("wb") as file:
            np.savez(file, allow_pickle=False, **made)
        return made
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def instance(name: str) -> Instance:
    """The instance of that name, from disk if it was built before."""

    def arrays() -> dict[str, np.ndarray]:
        made = INSTANCES[name]()
        m = made.outcomes
        return {
            "indptr": m.indptr, "indices": m.indices, "data": m.data,
            "rewards": made.rewards, "terminal": made.terminal, "compared": np.array(made.compared),
        }  # fmt: skip

    found = cached(name, arrays)
    rewards = found["rewards"]
    matrix = sparse.csr_array(
        (found["data"], found["indices"], found["indptr"]), shape=(rewards.size, rewards.shape[0]), copy=False
    )
    return Instance(name, matrix, rewards, found["terminal"], int(found["compared"]))
