"""Planners against QuantEcon, mdpsolver and Storm, one sweep against a bare gather, and what a model costs to build.

    python -m rlkit.experiments.benchmarks.tabular [--quick] [--only NAME]

Every planner has two threads and answers with an error of at most 1e-6 in the sup norm; the errors shown are
against values computed to 1e-9. Each solver in turn, some rounds, and of several rounds the least and the median;
a library's own model object is made apart. Instances are kept in the temporary folder. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from typing import Any

import numpy as np
from numba import njit, prange

from rlkit.experiments.benchmarks._instances import GAMMA, INSTANCES, Instance, cached, instance
from rlkit.experiments.benchmarks._measuring import Contestant, alternate, milliseconds, set_up, table
from rlkit.experiments.benchmarks._peers import TOLERANCE, QuantEcon, Solver, peers

QUICK = ("taxi", "frozen-lake-100", "garnet-10000")
"""Instances of --quick."""

SLOW = {("mdpsolver", "frozen-lake-1000"), ("mdpsolver", "garnet-1000000"), ("Storm", "garnet-1000000")}
"""Minutes each: only with --all."""

SWEPT = ("garnet-100000", "garnet-1000000", "frozen-lake-1000")
"""Instances that a sweep is timed on."""


class Rlkit:
    """`auto`, which chooses the planner itself; a new model each time, so that nothing is remembered."""

    name = "rlkit auto"
    fresh = True

    def build(self, instance: Instance) -> Any:  # noqa: ANN401 - as of every solver
        """A FiniteMDP."""
        from rlkit.exact.mdp import FiniteMDP

        return FiniteMDP(instance.outcomes, instance.rewards, gamma=GAMMA, terminal=instance.terminal)

    def solve(self, model: Any) -> Any:  # noqa: ANN401
        """A Solution."""
        from rlkit.agents.planning.planners import solve

        return solve(model, "auto", tolerance=TOLERANCE)

    def values(self, answer: Any, states: int) -> np.ndarray:  # noqa: ANN401
        """They are an array already."""
        return np.asarray(answer.values)[:states]


def planners(name: str, rounds: int, everything: bool) -> bool:
    """Measure all solvers on one instance; whether every answer is within the tolerance."""
    found = instance(name)
    exact = QuantEcon(1e-9)
    reference = cached(
        f"values-{name}", lambda: {"values": exact.values(exact.solve(exact.build(found)), found.compared)}
    )["values"]
    solvers: list[Solver] = [Rlkit()]
    solvers += [s for s in peers(name) if everything or (s.name.split()[0], name) not in SLOW]
    contestants = [
        Contestant(s.name, lambda s=s: s.build(found), s.solve, s.fresh)  # type: ignore[misc] # s is bound here
        for s in solvers
    ]
    warm_up(name, solvers)
    alternate(contestants, rounds)
    first, rows, right = contestants[0], [], True
    for solver, c in zip(solvers, contestants, strict=True):
        error = float(np.abs(solver.values(c.answer, found.compared) - reference).max())
        right &= error <= 1.001 * TOLERANCE  # the reference has an error of its own
        build, best, median = (milliseconds(t) for t in (min(c.prepared), c.best, c.median))
        ratios = f"{c.best / first.best:.2f}", f"{c.median / first.median:.2f}"
        rows.append([c.name, build, best, median, *ratios, f"{error:.1e}", str(len(c.seconds))])
    heads = ["solver", "build", "least", "median", "x least", "x median", "error", "rounds"]
    answer: Any = first.answer
    if not answer.converged or answer.bound > TOLERANCE:
        sys.exit(f"rlkit proves a bound of {answer.bound:.1e} only, expected {TOLERANCE:g}")
    table(f"{name}: {found.states:,} states, {found.outcomes.nnz:,} outcomes (milliseconds)", heads, rows)
    print(f"  rlkit: {answer.solver} ({answer.why}), bound {answer.bound:.1e}, {answer.iterations} iterations")
    return right


def warm_up(name: str, solvers: list[Solver]) -> None:
    """Compile what is compiled: rlkit on the instance itself, whose size decides on its kernels, others on Taxi."""
    for solver in solvers:
        small = instance(name if isinstance(solver, Rlkit) else "taxi")
        solver.solve(solver.build(small))


@njit(parallel=True, fastmath=True)
def _gather(indices: np.ndarray, probabilities: np.ndarray, v: np.ndarray) -> float:
    """The sum of probability x v[index] over all outcomes: what no sweep can do without."""
    total = 0.0
    for k in prange(len(indices)):
        total += probabilities[k] * v[indices[k]]
    return total


def sweep(name: str, rounds: int) -> None:
    """One Bellman backup of all states against reading the same arrays at the same places."""
    from rlkit.exact import backups
    from rlkit.exact.mdp import FiniteMDP

    found = instance(name)
    mdp = FiniteMDP(found.outcomes, found.rewards, gamma=GAMMA, terminal=found.terminal)
    v = np.random.default_rng(0).random(mdp.states)
    into = backups.back_up(mdp, v)
    _gather(mdp.indices, mdp.probabilities, v)
    contestants = [
        Contestant("bare gather", lambda: None, lambda _: _gather(mdp.indices, mdp.probabilities, v)),
        Contestant("rlkit sweep", lambda: None, lambda _: backups.back_up(mdp, v, 0.0, into)),
    ]
    alternate(contestants, 3 * rounds)
    gather, rows = contestants[0], []
    for c in contestants:
        ratios = f"{c.best / gather.best:.2f}", f"{c.median / gather.median:.2f}"
        rows.append([c.name, milliseconds(c.best), milliseconds(c.median), *ratios, f"{c.best / mdp.nnz * 1e9:.2f}"])
    heads = ["one sweep", "least", "median", "x least", "x median", "ns an outcome"]
    table(f"{name}: {mdp.nnz:,} outcomes (milliseconds)", heads, rows)


def building(rounds: int, quick: bool) -> None:
    """A FiniteMDP of a million states from arrays, and of as many from Gymnasium's ``P``."""
    from rlkit.exact.mdp import FiniteMDP

    found = instance("garnet-100000" if quick else "garnet-1000000")
    m = found.outcomes
    arrays = (m.indptr, m.indices, m.data)

    def build() -> FiniteMDP:
        return FiniteMDP(arrays, found.rewards, gamma=GAMMA)

    mdp = build()
    shared = all(map(np.shares_memory, arrays, (mdp.indptr, mdp.indices, mdp.probabilities)))
    shared &= np.shares_memory(found.rewards, mdp.rewards)
    contestant = Contestant("", lambda: None, lambda _: build())
    alternate([contestant], rounds)
    tracemalloc.start()
    build()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = f"{sum(a.nbytes for a in arrays) / 2**20:,.0f} MiB"
    row = [f"{mdp.states:,} states from CSR arrays of {size}", milliseconds(contestant.best)]
    row += [milliseconds(contestant.median), f"{peak / 2**20:.1f}", "no" if shared else "yes"]
    table("FiniteMDP", ["", "least ms", "median ms", "peak MiB", "copied"], [row])
    from_table(100 if quick else 1000)


def from_table(size: int) -> None:
    """A FiniteMDP from Gymnasium's FrozenLake of size x size, once: the dictionaries take gigabytes."""
    import gymnasium
    from gymnasium.envs.toy_text.frozen_lake import generate_random_map

    from rlkit.exact.mdp import FiniteMDP

    FiniteMDP.from_env("FrozenLake-v1", gamma=GAMMA)  # what it compiles
    begun = time.perf_counter()
    env = gymnasium.make("FrozenLake-v1", desc=generate_random_map(size, p=0.8, seed=0))
    made = time.perf_counter()
    mdp = FiniteMDP.from_env(env, gamma=GAMMA)
    read = time.perf_counter()
    same = instance(f"frozen-lake-{size}")
    equal = np.array_equal(mdp.indices, same.outcomes.indices) and np.array_equal(mdp.rewards, same.rewards)
    row = [f"{mdp.states:,} states", f"{made - begun:.2f}", f"{read - made:.2f}", "yes" if equal else "NO"]
    table("FiniteMDP from Gymnasium's FrozenLake P (seconds)", ["", "Gymnasium", "rlkit", "as from arrays"], [row])


def main() -> None:
    """Measure what was asked for; exit with 1 if an answer was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small instances, two rounds")
    parser.add_argument("--all", action="store_true", help="also what takes minutes for one answer")
    parser.add_argument("--only", nargs="+", choices=[*INSTANCES, "sweep", "building"], metavar="NAME", default=[])
    options = parser.parse_args()
    set_up()
    rounds = 2 if options.quick else options.rounds
    names = options.only or [*(QUICK if options.quick else INSTANCES), "sweep", "building"]
    right = True
    for name in names:
        if name == "sweep":
            for each in SWEPT[: 1 if options.quick else None]:
                sweep(each, rounds)
        elif name == "building":
            building(rounds, options.quick)
        else:
            right &= planners(name, rounds, options.all)
    if not right:
        sys.exit("an answer was wrong by more than the tolerance")


if __name__ == "__main__":
    main()
