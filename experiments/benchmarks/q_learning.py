"""Tabular Q-learning in the plain Python loop over Gymnasium: steps a second, and what it earns as it learns.

    python -m rlkit.experiments.benchmarks.q_learning [--quick] [--only ENV]

Step size 0.1, discount 0.99, zeros at the start, epsilon from 1 to 0.05 over the first half of the steps, the env's
own time limit, one env. Each round is another seed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from rlkit.experiments.benchmarks._measuring import set_up, table

ENVS: dict[str, dict[str, Any]] = {"FrozenLake-v1": {"map_name": "8x8"}, "Taxi-v4": {}}
"""Ids and what they are made with."""

ALPHA, GAMMA, LOWEST = 0.1, 0.99, 0.05

PARTS = 5
"""Stretches of a run that the mean return is given of."""


class Learned(NamedTuple):
    """One run."""

    seconds: float
    ends: np.ndarray
    """Step at which each episode ended."""
    returns: np.ndarray
    """Of each episode."""


def plain(name: str, steps: int, seed: int) -> Learned:
    """The loop as tutorials have it."""
    env = gymnasium.make(name, **ENVS[name])
    rng = np.random.default_rng(seed)
    states, actions = int(env.observation_space.n), int(env.action_space.n)  # type: ignore[attr-defined] # discrete
    q = np.zeros((states, actions))
    ends: list[int] = []
    returns: list[float] = []
    total = 0.0
    begun = time.perf_counter()
    state, _ = env.reset(seed=seed)
    for step in range(steps):
        epsilon = max(LOWEST, 1.0 - (1.0 - LOWEST) * 2 * step / steps)
        action = int(rng.integers(actions)) if rng.random() < epsilon else int(np.argmax(q[state]))
        next_state, reward, terminated, truncated, _ = env.step(action)
        target = reward if terminated else reward + GAMMA * np.max(q[next_state])
        q[state, action] += ALPHA * (target - q[state, action])
        total += float(reward)
        state = next_state
        if terminated or truncated:
            ends.append(step)
            returns.append(total)
            total = 0.0
            state, _ = env.reset()
    return Learned(time.perf_counter() - begun, np.array(ends), np.array(returns))


LOOPS: dict[str, Callable[[str, int, int], Learned]] = {"plain Python loop": plain}
"""What is timed, in turn; the first is what the others are compared with."""


def compare(name: str, steps: int, rounds: int) -> None:
    """Each loop with each seed, in turn."""
    runs: dict[str, list[Learned]] = {loop: [] for loop in LOOPS}
    for seed in range(rounds):
        for loop, learn in LOOPS.items():
            runs[loop].append(learn(name, steps, seed))
    rows: list[list[str]] = []
    first = np.array([steps / run.seconds for run in runs[next(iter(LOOPS))]])
    for loop, learned in runs.items():
        rates = np.array([steps / run.seconds for run in learned])
        ratios = f"{rates.max() / first.max():,.1f}", f"{np.median(rates) / np.median(first):,.1f}"
        curve = [_mean_return(learned, steps * i // PARTS, steps * (i + 1) // PARTS) for i in range(PARTS)]
        rows.append([loop, f"{rates.max():,.0f}", f"{np.median(rates):,.0f}", *ratios, *curve])
    heads = ["steps a second", "most", "median", "x most", "x median", *(f"part {i + 1}" for i in range(PARTS))]
    title = f"{name}: {steps:,} steps, {rounds} seeds; mean return and its standard deviation over seeds, by fifths"
    table(title, heads, rows)


def _mean_return(learned: list[Learned], first: int, last: int) -> str:
    """Of the episodes that ended in a stretch of steps: the mean of each run, and over runs mean and deviation."""
    means = [run.returns[(run.ends >= first) & (run.ends < last)].mean() for run in learned]
    return f"{np.mean(means):.3g}+-{np.std(means):.1g}"


def main() -> None:
    """Every env, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--quick", action="store_true", help="two rounds of 50,000 steps")
    parser.add_argument("--only", nargs="+", choices=list(ENVS), metavar="ENV", default=list(ENVS))
    options = parser.parse_args()
    set_up()
    steps, rounds = (50_000, 2) if options.quick else (options.steps, options.rounds)
    for name in options.only:
        compare(name, steps, rounds)


if __name__ == "__main__":
    main()
