"""Examples of Sutton and Barto's book as finite MDPs, solved: their printed values and policies come out.

    python -m rlkit.experiments.studies.sutton_barto [--out DIR]

Sutton and Barto 2018, "Reinforcement Learning: An Introduction", second edition: examples 3.5 and 3.8 (gridworld),
4.1 (gridworld), 4.2 (Jack's car rental), 4.3 (gambler's problem). With --out, pictures like the book's.

Letters: S states, A actions.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from rlkit.agents.planning import planners
from rlkit.exact.mdp import FiniteMDP
from rlkit.exact.solution import Solution
from rlkit.pictures.learning_curves import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEPS = ((-1, 0), (1, 0), (0, 1), (0, -1))
"""North, south, east and west: the actions of both gridworlds."""

GAMBLER_GOAL = 100

CARS, MOVED = 20, 5
"""Most cars at a location of Jack's, and most that he moves in a night."""

REQUESTS, RETURNS = (3, 4), (3, 2)
"""Expected numbers of cars a day at Jack's two locations."""


def averaged(mdp: FiniteMDP, policy: np.ndarray) -> FiniteMDP:
    """The process of a random policy, as one with a single action.

    Args:
        mdp: S states, A actions.
        policy: [S, A], probability of each action.
    """
    pairs = np.arange(mdp.states * mdp.actions)
    weights = sparse.csr_array((policy.ravel(), (pairs // mdp.actions, pairs)), shape=(mdp.states, len(pairs)))
    rewards = np.where(policy > 0, policy * np.where(policy > 0, mdp.rewards, 0.0), 0.0).sum(axis=1, keepdims=True)
    return FiniteMDP(
        sparse.csr_array(weights @ mdp.transitions), rewards, gamma=mdp.gamma, terminal=mdp.terminal, start=mdp.start
    )


def random_values(mdp: FiniteMDP) -> np.ndarray:
    """The value of each state under the policy that takes each available action alike, [S]."""
    chances = mdp.available / mdp.available.sum(axis=1, keepdims=True)
    return averaged(mdp, chances).policy_values(np.zeros(mdp.states, np.int64))


def gridworld(gamma: float = 0.9) -> FiniteMDP:
    """Example 3.5: 5 x 5 cells; off the grid costs 1; A leads to A' for 10, B to B' for 5, whatever the action."""
    transitions, rewards = np.zeros((25, 4, 25)), np.zeros((25, 4))
    for state in range(25):
        for action, (down, right) in enumerate(STEPS):
            i, j = state // 5 + down, state % 5 + right
            inside = 0 <= i < 5 and 0 <= j < 5
            to, reward = (5 * i + j, 0.0) if inside else (state, -1.0)
            to, reward = {1: (21, 10.0), 3: (13, 5.0)}.get(state, (to, reward))
            transitions[state, action, to], rewards[state, action] = 1.0, reward
    return FiniteMDP.from_dense(transitions, rewards, gamma=gamma)


def corners() -> FiniteMDP:
    """Example 4.1: 4 x 4 cells, undiscounted; each step costs 1 until one of two corners is reached."""
    transitions = np.zeros((16, 4, 16))
    for state in range(16):
        for action, (down, right) in enumerate(STEPS):
            i, j = min(max(state // 4 + down, 0), 3), min(max(state % 4 + right, 0), 3)
            transitions[state, action, 4 * i + j] = 1.0
    terminal = np.isin(np.arange(16), (0, 15))
    start = ~terminal / 14
    return FiniteMDP.from_dense(transitions, -np.ones((16, 4)), terminal=terminal, start=start)


def gambler(heads: float = 0.4) -> FiniteMDP:
    """Example 4.3: capital 0 to 100, of which 100 is worth 1; action a stakes a + 1, if that is there and missing."""
    goal = GAMBLER_GOAL
    transitions, rewards = np.zeros((goal + 1, goal // 2, goal + 1)), np.zeros((goal + 1, goal // 2))
    for capital in range(1, goal):
        for stake in range(1, min(capital, goal - capital) + 1):
            transitions[capital, stake - 1, capital + stake] += heads
            transitions[capital, stake - 1, capital - stake] += 1 - heads
            rewards[capital, stake - 1] = heads * (capital + stake == goal)
    terminal = np.isin(np.arange(goal + 1), (0, goal))
    return FiniteMDP.from_dense(transitions, rewards, terminal=terminal, start=np.eye(goal + 1)[goal // 2])


def car_rental(gamma: float = 0.9) -> FiniteMDP:
    """Example 4.2: state (n, m), cars at the two locations, is 21 n + m; action a moves a - 5 cars to the second.

    A rental earns $10, a car moved costs $2. Requests and returns are Poisson, and taken exactly, not cut off; cars
    that are returned can be rented the next day. A move of more cars than are there is not available.
    """
    days = [_day(*rates) for rates in zip(REQUESTS, RETURNS, strict=True)]
    n = CARS + 1
    transitions, rewards = np.zeros((n * n, 2 * MOVED + 1, n * n)), np.zeros((n * n, 2 * MOVED + 1))
    for first in range(n):
        for second in range(n):
            for moved in range(-min(MOVED, second), min(MOVED, first) + 1):
                morning = min(first - moved, CARS), min(second + moved, CARS)
                following = [day[0][cars] for day, cars in zip(days, morning, strict=True)]
                rented = sum(day[1][cars] for day, cars in zip(days, morning, strict=True))
                row = n * first + second, moved + MOVED
                transitions[row] = np.outer(*following).ravel()
                rewards[row] = 10 * rented - 2 * abs(moved)
    return FiniteMDP.from_dense(transitions, rewards, gamma=gamma, start=np.eye(n * n)[-1])


def _day(requests: float, returns: float) -> tuple[np.ndarray, np.ndarray]:
    """Of cars in the morning: probabilities of cars in the evening [21, 21], and expected rentals [21]."""
    asked = [math.exp(-requests) * requests**k / math.factorial(k) for k in range(CARS + 1)]
    back = [math.exp(-returns) * returns**k / math.factorial(k) for k in range(CARS + 1)]
    evening, rentals = np.zeros((CARS + 1, CARS + 1)), np.zeros(CARS + 1)
    for cars in range(CARS + 1):
        rented = [*asked[:cars], 1 - sum(asked[:cars])]
        rentals[cars] = sum(k * p for k, p in enumerate(rented))
        for k, p in enumerate(rented):
            left = cars - k
            for returned in range(CARS - left):
                evening[cars, left + returned] += p * back[returned]
            evening[cars, CARS] += p * (1 - sum(back[: CARS - left]))
    return evening, rentals


def car_moves(solution: Solution) -> np.ndarray:
    """Cars moved to the second location, [21, 21] by cars at the first and the second."""
    return solution.policy.reshape(CARS + 1, CARS + 1) - MOVED


def stakes(solution: Solution) -> np.ndarray:
    """The gambler's smallest optimal stake at each capital, [101]; 0 at both ends."""
    return np.where(solution.mdp.terminal, 0, solution.policy + 1)


def run(out: Path | None = None) -> None:
    """Solve each example and print it; with a folder, draw it there."""
    grid = gridworld()
    print("Example 3.5, values of the random policy (figure 3.2)\n" + _numbers(random_values(grid).reshape(5, 5)))
    best = planners.solve(grid, tolerance=1e-9)
    print("\nExample 3.8, optimal values (figure 3.5)\n" + _numbers(best.values.reshape(5, 5)))
    print("optimal actions, each one of N, S, E and W\n" + _optimal_actions(best, 5))
    small = corners()
    print("\nExample 4.1, values of the random policy (figure 4.1)\n" + _numbers(random_values(small).reshape(4, 4)))
    shortest = planners.solve(small)
    print("optimal values\n" + _numbers(shortest.values.reshape(4, 4)))
    rental = planners.solve(car_rental(), "policy-iteration")
    moves = car_moves(rental)
    print(
        "\nExample 4.2, cars that Jack moves from the first location to the second (figure 4.2)\n"
        "rows: cars at the first location, 20 at the top; columns: cars at the second, 0 to 20"
    )
    print("\n".join(" ".join(f"{m:2d}" for m in row) for row in moves[::-1]))
    ends = rental.values[0], rental.values[-1]
    print(
        f"worth of no cars ${ends[0]:.0f}, of 20 and 20 ${ends[1]:.0f}; {rental.iterations} policies, {_proof(rental)}"
    )
    coins = planners.solve(gambler(), tolerance=1e-9)
    chances = ", ".join(f"{capital}: {coins.values[capital]:.6f}" for capital in (25, 50, 75))
    print(f"\nExample 4.3, chance to reach 100 from a capital of {chances}; {_proof(coins)}")
    print("smallest optimal stakes at 1 to 99 (figure 4.3)")
    staked = [f"{stake:2d}" for stake in stakes(coins)[1:-1]]
    print("\n".join(" ".join(staked[i : i + 25]) for i in range(0, 99, 25)))
    if out is not None:
        for name, drawn in (("car-rental", draw_car_rental(rental)), ("gambler", draw_gambler(coins))):
            print(save_figure(drawn, out / f"{name}.png"))


def _proof(solution: Solution) -> str:
    return f"within {solution.bound:.1g} of the optimum, proven"


def _numbers(values: np.ndarray) -> str:
    return "\n".join("".join(f"{value + 0.0:7.1f}" for value in row) for row in np.round(values, 1))


def _optimal_actions(solution: Solution, columns: int) -> str:
    words = ["".join(name for name, best in zip("NSEW", row, strict=True) if best) for row in solution.optimal]
    return "\n".join("".join(f"{w:>7}" for w in words[i : i + columns]) for i in range(0, len(words), columns))


def draw_car_rental(solution: Solution) -> Figure:
    """Figure 4.2's last policy and its values."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only those who draw wait for it

    drawn = Figure(figsize=(8.5, 3.8), dpi=100, layout="constrained")
    left, right = drawn.subplots(1, 2)
    moves = car_moves(solution)
    picture = left.imshow(moves, origin="lower", cmap="RdBu", vmin=-MOVED, vmax=MOVED)
    for i, j in np.ndindex(moves.shape):
        colour = "white" if abs(moves[i, j]) > 3 else "black"
        left.text(j, i, f"{moves[i, j]}", ha="center", va="center", fontsize=5.5, color=colour)
    drawn.colorbar(picture, ax=left, label="cars moved to the second location", ticks=range(-MOVED, MOVED + 1))
    left.set_title("policy", loc="left", fontsize=10)
    values = right.imshow(solution.values.reshape(moves.shape), origin="lower", cmap="viridis")
    drawn.colorbar(values, ax=right, label="value ($)")
    right.set_title("value", loc="left", fontsize=10)
    for panel in (left, right):
        panel.set_xlabel("cars at the second location")
        panel.set_ylabel("cars at the first location")
        panel.set_xticks(range(0, CARS + 1, 5))
        panel.set_yticks(range(0, CARS + 1, 5))
    return drawn


def draw_gambler(solution: Solution) -> Figure:
    """Figure 4.3: sweeps of value iteration, and the smallest optimal stakes."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only those who draw wait for it

    drawn = Figure(figsize=(6.5, 6), dpi=100, layout="constrained")
    above, below = drawn.subplots(2, 1)
    capital = np.arange(1, GAMBLER_GOAL)
    values = np.zeros(GAMBLER_GOAL + 1)
    for sweep in range(1, 33):
        values = solution.mdp.q_values(values).max(axis=1)
        if sweep in (1, 2, 3, 32):
            above.plot(capital, values[1:-1], linewidth=1, label=f"sweep {sweep}")
    above.plot(capital, solution.values[1:-1], color="black", linewidth=1.8, label="optimal")
    above.set_ylabel("chance to reach 100")
    above.legend(frameon=False, fontsize=8.5)
    below.step(capital, stakes(solution)[1:-1], where="mid", color="black", linewidth=1)
    below.set_ylabel("smallest optimal stake")
    for panel in (above, below):
        _plain(panel)
    below.set_xlabel("capital")
    return drawn


def _plain(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_xticks([1, 25, 50, 75, 99])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="draw pictures in this folder")
    run(parser.parse_args().out)


if __name__ == "__main__":
    main()
