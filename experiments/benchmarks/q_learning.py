"""Tabular Q-learning in samples of the env's model against the plain Python loop over Gymnasium: speed and returns.

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

from rlkit.agents.tabular import kernels
from rlkit.agents.tabular.config import QLearningConfig
from rlkit.agents.tabular.tabular import Tabular
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.sampling import simulator
from rlkit.experiments.benchmarks._measuring import set_up, table

ENVS: dict[str, dict[str, Any]] = {"FrozenLake-v1": {"map_name": "8x8"}, "Taxi-v4": {}}
"""Ids and what they are made with."""

ALPHA, GAMMA, LOWEST = 0.1, 0.99, 0.05

PARTS = 5
"""Stretches of a run that the mean return is given of."""


class Learned(NamedTuple):
    """One run."""

    seconds: float
    means: list[float]
    """Mean return of the episodes that ended in each part of the steps."""


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
    seconds = time.perf_counter() - begun
    part = np.array(ends) * PARTS // steps
    return Learned(seconds, [float(np.array(returns)[part == i].mean()) for i in range(PARTS)])


def simulated(name: str, steps: int, seed: int) -> Learned:
    """The same settings on outcomes that are drawn from the env's model, in compiled code."""
    config = QLearningConfig(
        env=name, env_args=ENVS[name], seed=seed, gamma=GAMMA, step_size=ALPHA, step_size_schedule="constant",
        epsilon_end=LOWEST,
        epsilon_duration=steps / 2,
    )  # fmt: skip
    env = gymnasium.make(name, **ENVS[name])
    learner = Tabular(config, env.observation_space, env.action_space)
    assert env.spec is not None
    tables = simulator(FiniteMDP.from_env(env, gamma=GAMMA), env.spec.max_episode_steps or 0)
    assert tables is not None
    learner.start(tables)
    seconds, updates, means = 0.0, 0.0, []
    for part in range(PARTS):
        begun = time.perf_counter()
        learner.simulate(tables, steps * part // PARTS, steps * (part + 1) // PARTS)
        seconds += time.perf_counter() - begun
        means.append(float(learner.sums[kernels.RETURNS] / learner.sums[kernels.ENDED]))
        updates += learner.sums[kernels.UPDATES]
        learner.sums[:] = 0
    if updates != steps:
        raise RuntimeError(f"{updates:,.0f} updates were timed, expected one for each of {steps:,} steps")
    return Learned(seconds, means)


LOOPS: dict[str, Callable[[str, int, int], Learned]] = {"plain Python loop": plain, "rlkit, model": simulated}
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
        means = np.array([run.means for run in learned])
        curve = [f"{m:.3g}+-{d:.1g}" for m, d in zip(means.mean(axis=0), means.std(axis=0), strict=True)]
        rows.append([loop, f"{rates.max():,.0f}", f"{np.median(rates):,.0f}", *ratios, *curve])
    heads = ["steps a second", "most", "median", "x most", "x median", *(f"part {i + 1}" for i in range(PARTS))]
    title = f"{name}: {steps:,} steps, {rounds} seeds; mean return and its standard deviation over seeds, by fifths"
    table(title, heads, rows)


def main() -> None:
    """Every env, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--quick", action="store_true", help="two rounds of 50,000 steps")
    parser.add_argument("--only", nargs="+", choices=list(ENVS), metavar="ENV", default=list(ENVS))
    options = parser.parse_args()
    set_up()
    for name in options.only:
        simulated(name, 1_000, 0)  # what it compiles
    steps, rounds = (50_000, 2) if options.quick else (options.steps, options.rounds)
    for name in options.only:
        compare(name, steps, rounds)


if __name__ == "__main__":
    main()
