"""The number triangle with unknown probabilities: Q by layers, step by step, and as a network."""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

from rlkit.api import solving
from rlkit.envs.number_triangle import NumberTriangleEnv
from rlkit.experiments.studies.triangle_recurrences import Rows
from rlkit.seeding import Purpose, generator


class Estimate(NamedTuple):
    """What K trials say about Q of one cell and action."""

    mean: float
    half: float
    """Half the width of the interval: of its own trials, and of what it took the cells below to be worth."""


Layers = list[list[tuple[Estimate, Estimate]]]
"""For each row above the bottom one, for each of its cells: down and right."""


def layered(env: NumberTriangleEnv, trials: int, seed: int = 0) -> Layers:
    """Q of each cell and action from transitions alone, row by row from the bottom up.

    Random actions lead from the top to a row; there the action with the fewest trials in the cell is tried, until each
    has K of them. Q is the mean over them of V(next) = number + max Q(next), as the rows below know it by now, and its
    interval is mean ± (z s / √K + the widest interval of a next cell), with z such that the intervals of all N (N - 1)
    pairs hold together with a probability of 95% as K grows (Bonferroni).

    The learner sees which cell it came to and what it got for that; neither the numbers nor the slip.

    Args:
        env: the triangle, of N rows.
        trials: K.
        seed: of the actions and of the env.
    """
    rows = env.triangle.rows
    z = NormalDist().inv_cdf(1 - 0.05 / (2 * rows * (rows - 1)))
    rng = generator(seed, Purpose.ACTIONS)
    env.reset(seed=seed)
    above: Layers = []
    for i in reversed(range(rows - 1)):
        seen: list[tuple[list[float], list[float]]] = [([], []) for _ in range(i + 1)]
        slack = [[0.0, 0.0] for _ in range(i + 1)]
        while min(len(tried) for cell in seen for tried in cell) < trials:
            env.reset()
            walked = 0.0
            for _ in range(i):
                _, reward, *_ = env.step(int(rng.integers(2)))
                walked += reward
            j = env.path[-1][1]
            action = int(len(seen[j][0]) > len(seen[j][1]))
            _, reward, *_ = env.step(action)
            below = env.path[-1][1]
            best, half = _best(above[0][below]) if above else (0.0, 0.0)
            top = env.triangle[0, 0] if i == 0 else 0.0  # the first reward has the top's number added
            seen[j][action].append(reward - top + best)
            slack[j][action] = max(slack[j][action], half)
        above.insert(
            0,
            [
                (_estimate(cell[0], z, widest[0]), _estimate(cell[1], z, widest[1]))
                for cell, widest in zip(seen, slack, strict=True)
            ],
        )
    return above


def _best(pair: tuple[Estimate, Estimate]) -> tuple[float, float]:
    return max(estimate.mean for estimate in pair), max(estimate.half for estimate in pair)


def _estimate(targets: list[float], z: float, slack: float) -> Estimate:
    spread = statistics.stdev(targets) if len(targets) > 1 else math.inf
    return Estimate(statistics.fmean(targets), z * spread / math.sqrt(len(targets)) + slack)


Table = dict[tuple[int, int], list[float]]
"""Q of each cell above the bottom row: [down, right]."""

TARGETS = ("return", "sarsa", "max")


def incremental(
    env: NumberTriangleEnv, target: str, episodes: int, *, step_size: float | None = None, seed: int = 0
) -> Table:
    """Q step by step, Q += step (target - Q), on episodes that take a random action ever more rarely.

    The target is "return", what the rest of the episode brought (Monte Carlo); "sarsa", r + Q(next, the action taken
    there); or "max", r + max Q(next). The chance of a random action in episode k is k^-0.3: each pair is tried for
    ever, and the policy becomes the greedy one, so that all three approach the optimal Q.

    Args:
        env: the triangle.
        target: as above.
        episodes: how many.
        step_size: the step; 1 / (visits of the pair) if not given, which makes Q the average of its targets.
        seed: of the actions and of the env.
    """
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}, expected one of {', '.join(TARGETS)}")
    rows, rng = env.triangle.rows, generator(seed, Purpose.ACTIONS)
    q: Table = {(i, j): [0.0, 0.0] for i in range(rows) for j in range(i + 1)}
    visits = {cell: [0, 0] for cell in q}

    def choose(cell: tuple[int, int], episode: int) -> int:
        down, right = q[cell]
        if down == right or rng.random() < episode**-0.3:
            return int(rng.integers(2))
        return int(right > down)

    def update(cell: tuple[int, int], action: int, aim: float) -> None:
        visits[cell][action] += 1
        q[cell][action] += (step_size or 1 / visits[cell][action]) * (aim - q[cell][action])

    env.reset(seed=seed)
    for episode in range(1, episodes + 1):
        env.reset()
        cell, action, walked = (0, 0), choose((0, 0), episode), []
        for i in range(rows - 1):
            _, reward, *_ = env.step(action)
            reward -= env.triangle[0, 0] if i == 0 else 0.0
            below = env.path[-1]
            following = choose(below, episode)
            walked.append((cell, action, reward))
            if target != "return":  # Q of the bottom row stays 0
                update(cell, action, reward + (max(q[below]) if target == "max" else q[below][following]))
            cell, action = below, following
        gain = 0.0
        for cell, action, reward in reversed(walked if target == "return" else []):
            gain += reward
            update(cell, action, gain)
    return {cell: pair for cell, pair in q.items() if cell[0] < rows - 1}


def network(rows: Rows, slip: float, *, steps: int, seed: int = 0) -> Table:
    """Q of each cell above the bottom row as a DQN has it after so many steps of random play and learning."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from rlkit.api import comparison, training  # noqa: PLC0415 - loads TensorFlow

    cells = len(rows) * (len(rows) + 1) // 2
    with tempfile.TemporaryDirectory(prefix="rlkit-study-") as folder:
        file = Path(folder) / "triangle.txt"
        file.write_text("\n".join(" ".join(map(str, row)) for row in rows))
        run = training.train(
            "dqn",
            solving.TRIANGLE,
            run_dir=folder,
            env_args={"triangle": str(file), "slip": slip},
            gamma=1.0,  # the sum counts, not when it comes
            steps=steps,
            seed=seed,
            hidden=(32,),
            learning_rate=2e-3,
            learning_rate_end=1e-4,  # so that it settles on the mean of what it sees
            learning_rate_duration=steps,
            epsilon_end=1.0,  # random play: every pair is seen as often as its cell is reached
            target_interval=200,
            learning_starts=200,
            eval_interval=0,
        )
        q = comparison.action_values(run, cells)
    q[0] -= rows[0][0]  # the first reward has the top's number added
    return {(i, j): q[i * (i + 1) // 2 + j].tolist() for i in range(len(rows) - 1) for j in range(i + 1)}
