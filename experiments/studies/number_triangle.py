"""The number triangle, from known to unknown probabilities, step by step.

    python -m rlkit.experiments.studies.number_triangle [--out DIR] [--seed N] [--quick]

1. Deterministic: the largest sum of a path from the top to the bottom row, by trying every path, by recursion, and by
   the backward recurrence V(i, j) = r(i, j) + max(V(i+1, j), V(i+1, j+1)).
2. Known probabilities: a chosen step slips to the other cell with probability p, V = r + max_a Q, and
   Q(i, j, down) = (1 - p) V(i+1, j) + p V(i+1, j+1), Q(i, j, right) = p V(i+1, j) + (1 - p) V(i+1, j+1).
3. Unknown probabilities: the learner only sees transitions. Q by layers from the bottom row up, the mean of K trials;
   then step by step, with four targets; then as a network.

docs/number-triangle.md goes through it. With --out, pictures of each.
"""

from __future__ import annotations

import argparse
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.api import solution_pictures, solving
from rlkit.envs.number_triangle import NumberTriangleEnv
from rlkit.experiments.studies.triangle_recurrences import (
    EULER,
    HAND,
    SLIP,
    SMALL,
    Rows,
    best_path,
    brute_force,
    known,
    recurrence,
    recursion,
)
from rlkit.experiments.studies.triangle_trials import Layers, Table, incremental, layered, network
from rlkit.pictures.learning_curves import COLOURS, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def deterministic(rows: Rows, name: str) -> None:
    """Print the three ways to the largest sum."""
    n = len(rows)
    values = recurrence(rows)
    print(f"{name}: {n} rows")
    print(f"  every path:          {brute_force(rows):g}, the best of {2 ** (n - 1):,} paths")
    largest, calls = recursion(rows)
    print(f"  recursion:           {largest:g}, in {calls:,} calls")
    print(f"  backward recurrence: {values[0][0]:g}, in {n * (n + 1) // 2} cells")
    path = best_path(values)
    print("  " + " + ".join(f"{row[j]:g}" for row, j in zip(rows, path, strict=True)) + f" = {values[0][0]:g}")


def show_known(rows: Rows, slip: float) -> None:
    """Print the recurrence with probabilities, cell by cell."""
    values, action_values = known(rows, slip)
    stay = 1 - slip
    print(f"  row {len(rows) - 1}: V = " + ", ".join(f"{v:g}" for v in values[-1]))
    for i in reversed(range(len(rows) - 1)):
        for j, (down, right) in enumerate(action_values[i]):
            a, b = values[i + 1][j : j + 2]
            print(
                f"  Q({i},{j},down) = {stay:g}·{a:g} + {slip:g}·{b:g} = {down:g}, "
                f"Q({i},{j},right) = {slip:g}·{a:g} + {stay:g}·{b:g} = {right:g}"
            )
            choice = "right" if right > down else "down"
            print(f"    V({i},{j}) = {rows[i][j]:g} + {max(down, right):g} = {values[i][j]:g}, {choice}")


def show_layered(rows: Rows, slip: float, counts: Sequence[int], seed: int) -> dict[int, Layers]:
    """Print the estimates of each pair for growing K under the exact values; all of them, by K."""
    env = NumberTriangleEnv(rows, slip=slip)
    _, exact = known(rows, slip)
    pairs = [(i, j, a) for i in reversed(range(len(rows) - 1)) for j in range(i + 1) for a in (0, 1)]

    def line(head: str, cells: Sequence[str]) -> None:
        print(f"{head:>8}" + "".join(f"{cell:>15}" for cell in cells))

    line("K", [f"Q({i},{j},{('down', 'right')[a]})" for i, j, a in pairs])
    found = {}
    for trials in counts:
        found[trials] = layered(env, trials, seed)
        line(f"{trials:,}", [f"{e.mean:.3f} ± {e.half:.3f}" for e in (found[trials][i][j][a] for i, j, a in pairs)])
    line("exact", [f"{exact[i][j][a]:.2f}" + 8 * " " for i, j, a in pairs])
    return found


def show_tables(rows: Rows, slip: float, tables: Mapping[str, Table]) -> None:
    """Print Q of each pair by each way, under the exact values."""
    _, exact = known(rows, slip)
    pairs = [(i, j, a) for i in reversed(range(len(rows) - 1)) for j in range(i + 1) for a in (0, 1)]

    def line(head: str, cells: Sequence[str]) -> None:
        print(f"  {head:<26}" + "".join(f"{cell:>12}" for cell in cells))

    line("", [f"({i},{j}) {('down', 'right')[a]}" for i, j, a in pairs])
    for head, table in tables.items():
        line(head, [f"{table[i, j][a]:.3f}" for i, j, a in pairs])
    line("exact", [f"{exact[i][j][a]:.2f} " for i, j, a in pairs])


def draw_layered(rows: Rows, slip: float, found: Mapping[int, Layers]) -> Figure:
    """Each pair's estimate with its interval over K, around its exact value."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only those who draw wait for it

    _, exact = known(rows, slip)
    drawn = Figure(figsize=(7, 4.5), dpi=100, layout="constrained")
    panel = drawn.subplots()
    pairs = [(i, j, a) for i in range(len(rows) - 1) for j in range(i + 1) for a in (0, 1)]
    for place, ((i, j, a), colour) in enumerate(zip(pairs, itertools.cycle(COLOURS))):
        estimates = [layers[i][j][a] for layers in found.values()]
        panel.axhline(exact[i][j][a], color=colour, linewidth=0.8, linestyle="--")
        panel.errorbar(
            [trials * 1.1 ** (place - (len(pairs) - 1) / 2) for trials in found],  # beside each other
            [e.mean for e in estimates],
            [e.half for e in estimates],
            color=colour,
            fmt="o",
            markersize=4,
            capsize=3,
            linewidth=1.2,
            label=f"Q({i},{j},{('down', 'right')[a]}), exact {exact[i][j][a]:.2f}",
        )
    panel.set_xscale("log")
    panel.set_xlabel("trials of each cell and action, K")
    panel.set_ylabel("Q, with the 95% interval of all together")
    panel.spines[["top", "right"]].set_visible(False)
    drawn.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return drawn


def run(*, out: Path | None = None, seed: int = 0, quick: bool = False) -> None:
    """Go through all variants and print them; with a folder, draw them there.

    Args:
        out: folder for pictures.
        seed: of all that is random.
        quick: fewer trials, and no network.
    """
    print("1. Deterministic: the largest sum of a path\n")
    deterministic(SMALL, "Project Euler 18, the example")
    deterministic(EULER, "Project Euler 18")
    print(f"\n2. Known probabilities: slip {SLIP:g}, on 1 / 1 2 / 1 2 1\n")
    show_known(HAND, SLIP)
    env = NumberTriangleEnv(HAND, slip=SLIP)
    solution = solving.solve(env)
    print(f"  {solution.solver} says {solution.value_at_start:g}, within {solution.bound:.1g}, proven:")
    print(textwrap.indent(str(solution_pictures.text(env, solution)), "    "))
    large = NumberTriangleEnv(EULER, slip=SLIP)
    print(f"  Project Euler 18 with the same slip: {solving.solve(large).value_at_start:.10g}")
    print("\n3. Unknown probabilities: the mean of K trials, by layers from the bottom up")
    print("(± is such that all intervals of a line hold together with a probability of 95%)\n")
    found = show_layered(HAND, SLIP, (10, 100, 1_000) if quick else (10, 100, 1_000, 10_000, 100_000), seed)
    episodes = 2_000 if quick else 50_000
    print(f"\nStep by step, Q += step (target - Q), after {episodes:,} episodes\n")
    tables = {
        name: incremental(env, target, episodes, step_size=step_size, seed=seed)
        for name, target, step_size in (
            ("return, averaged", "return", None),
            ("return, step 0.05", "return", 0.05),
            ("r + Q(next, next action)", "sarsa", None),
            ("r + max Q(next)", "max", None),
        )
    }
    if not quick:
        tables["a network (DQN)"] = network(HAND, SLIP, steps=8_000, seed=seed)
    show_tables(HAND, SLIP, tables)
    if out is not None:
        draw(out, found)


def draw(out: Path, found: Mapping[int, Layers]) -> None:
    """The hand-worked triangle and Project Euler's, each solved, and the estimates over K."""
    for name, rows in (("hand", HAND), ("euler", EULER)):
        for slip in (0.0, SLIP):
            env = NumberTriangleEnv(rows, slip=slip)
            path = out / f"{name}{'-slip' if slip else ''}.png"
            solution_pictures.draw(env, solving.solve(env), path)
            print(path)
    env = NumberTriangleEnv(EULER, slip=SLIP)
    solution_pictures.draw(env, solving.solve(env), out / "euler-slip.gif")
    print(out / "euler-slip.gif")
    print(save_figure(draw_layered(HAND, SLIP, found), out / "trials.png"))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="draw pictures in this folder")
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--quick", action="store_true", help="fewer trials, and no network")
    options = parser.parse_args()
    run(out=options.out, seed=options.seed, quick=options.quick)


if __name__ == "__main__":
    main()
