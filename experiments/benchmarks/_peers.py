"""Other libraries' solvers of discounted MDPs, called as their documentation recommends.

Each is two steps, measured apart: make the library's own model object, and solve it to a sup-norm error that the
library's own stopping rule keeps below the tolerance.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from scipy import sparse

from rlkit.experiments.benchmarks._instances import GAMMA, Instance

TOLERANCE = 1e-6
"""Sup-norm error of the values."""

Model = Any
"""A library's own object."""


class Solver(Protocol):
    """What is measured."""

    name: str
    fresh: bool
    """Whether a model can be solved only once, because it remembers the answer."""

    def build(self, instance: Instance) -> Model:
        """The library's model object."""

    def solve(self, model: Model) -> Any:  # noqa: ANN401 - the library's answer
        """Its answer."""

    def values(self, answer: Any, states: int) -> np.ndarray:  # noqa: ANN401 - the library's answer
        """The values in an answer, [states]; not measured."""


class QuantEcon:
    """DiscreteDP on sparse state-action pairs, which its docs advise for large sparse problems."""

    name = "QuantEcon modified PI"
    fresh = False

    def __init__(self, tolerance: float = TOLERANCE) -> None:
        # It stops at span(Tv - v) < epsilon (1 - beta) / beta and takes the middle: an error below epsilon / 2.
        self.epsilon = 2 * tolerance

    def build(self, instance: Instance) -> Model:
        """A DiscreteDP."""
        from quantecon.markov import DiscreteDP

        states, actions = np.divmod(np.arange(instance.rewards.size), instance.actions)
        return DiscreteDP(instance.rewards.reshape(-1), instance.probabilities, GAMMA, states, actions)

    def solve(self, model: Model) -> Any:  # noqa: ANN401
        """Modified policy iteration with its default of k = 20; its default of 250 iterations can be too few."""
        answer = model.solve(method="modified_policy_iteration", epsilon=self.epsilon, max_iter=1_000_000, k=20)
        if answer.num_iter >= 1_000_000:
            raise RuntimeError("QuantEcon did not converge")
        return answer

    def values(self, answer: Any, states: int) -> np.ndarray:  # noqa: ANN401
        """They are an array already."""
        return np.asarray(answer.v)[:states]


class MDPSolver:
    """mdpsolver's modified policy iteration; a model solved again begins with its answer."""

    fresh = True

    def __init__(self, update: str, limit: int) -> None:
        self.name = f"mdpsolver modified PI ({update}, {limit})"
        # Standard updates stop on the span and correct by its lower end, so the error is below the tolerance; the
        # others stop on the sup norm, with an error below half of it.
        tolerance = TOLERANCE if update == "standard" else 2 * TOLERANCE
        self.options = {"algorithm": "mpi", "update": update, "tolerance": tolerance, "parIterLim": limit}

    def build(self, instance: Instance) -> Model:
        """Nested lists, the one form in memory that it takes."""
        import mdpsolver

        s, a, m = instance.states, instance.actions, instance.probabilities
        p, to = m.data.tolist(), m.indices.tolist()
        at = m.indptr.tolist()
        model = mdpsolver.model()
        model.mdp(
            discount=GAMMA,
            rewards=instance.rewards.tolist(),
            tranMatProbs=[[p[at[i] : at[i + 1]] for i in range(j * a, j * a + a)] for j in range(s)],
            tranMatColumns=[[to[at[i] : at[i + 1]] for i in range(j * a, j * a + a)] for j in range(s)],
        )
        return model

    def solve(self, model: Model) -> Any:  # noqa: ANN401
        """On every core, where the update allows it."""
        model.solve(parallel=True, verbose=False, **self.options)
        return model

    def values(self, answer: Any, states: int) -> np.ndarray:  # noqa: ANN401
        """A list of them."""
        return np.array(answer.getValueVector())[:states]


class Storm:
    """Storm's sparse engine, by its discounted operator or with the discount as a way to a sink.

    Args:
        method: "discounted", Gauss-Seidel value iteration stopped where the error is below the precision; or, of
            its MinMaxMethod, one that is sound, on the model with a sink.
    """

    fresh = False

    def __init__(self, method: str) -> None:
        self.name = f"Storm {method.lower().replace('_', ' ')}"
        self.method = method

    def build(self, instance: Instance) -> Model:
        """An MDP with one reward model, entries added in one call for each 100,000 rows."""
        from stormpy import datastructures, models

        s, a, m, rewards = instance.states, instance.actions, instance.probabilities, instance.rewards.reshape(-1)
        sink = self.method != "discounted"
        if sink:
            away = sparse.csr_array(np.full((s * a, 1), 1 - GAMMA))
            stay = sparse.csr_array(([1.0], ([0], [s])), shape=(1, s + 1))
            m = sparse.vstack([sparse.hstack([m * GAMMA, away]), stay]).tocsr()
            rewards = np.append(rewards, 0.0)
        rows, columns = m.shape
        builder = datastructures.SparseMatrixBuilder[float](
            rows=rows, columns=columns, entries=m.nnz, has_custom_row_grouping=True, row_groups=columns
        )
        chunk = 25_000 * a
        for first in range(0, rows, chunk):
            last = min(first + chunk, rows)
            part = slice(int(m.indptr[first]), int(m.indptr[last]))
            row = np.repeat(np.arange(first, last), np.diff(m.indptr[first : last + 1]))
            groups = range(first, last, a)
            builder.add_next_values(row.tolist(), m.indices[part].tolist(), m.data[part].tolist(), list(groups))
        labels = models.StateLabeling(columns)
        for label, state in {"init": 0, "sink": columns - 1}.items():
            labels.add_label(label)
            labels.add_label_to_state(label, state)
        rewarded = models.SparseRewardModel[float](optional_state_action_reward_vector=rewards.tolist())
        parts = models.SparseModelComponents[float](
            transition_matrix=builder.build(), state_labeling=labels, reward_models={"r": rewarded}
        )
        return models.SparseMdp[float](parts)

    def solve(self, model: Model) -> Any:  # noqa: ANN401
        """Model checking with an absolute precision, in the environment that enforces sound results."""
        import stormpy

        environment = stormpy.environments.sound()
        options = environment.solver().min_max()
        options.precision, options.relative_termination_criterion = stormpy.Rational(TOLERANCE), False
        if self.method == "discounted":
            asked = f'R{{"r"}}max=? [Cdiscount={GAMMA}]'
        else:
            options.method = getattr(stormpy.environments.MinMaxMethod, self.method)
            asked = 'R{"r"}max=? [F "sink"]'
        return stormpy.model_checking(model, stormpy.parse_property(asked), environment=environment)

    def values(self, answer: Any, states: int) -> np.ndarray:  # noqa: ANN401
        """Of all states, in the model's order."""
        return np.array(answer.get_value_vector())[:states]


def peers(name: str) -> list[Solver]:
    """The solvers to measure on an instance: of each library the options that were fastest on that kind.

    Of mdpsolver's, value iteration, policy iteration and modified policy iteration with limits 1 to 100 were tried,
    with standard and Gauss-Seidel updates; of Storm's, the discounted operator and topological, optimistic, interval
    and sound value iteration. (The last was wrong by 0.009 on garnet-10000.)
    """
    lake, small = name.startswith("frozen-lake"), name == "taxi"
    return [
        QuantEcon(),
        MDPSolver("gs", 1) if small else MDPSolver("standard", 5),
        Storm("TOPOLOGICAL" if lake else "discounted"),
    ]
