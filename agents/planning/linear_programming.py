"""Planning as a linear programme, solved by HiGHS: slow, and independent of all the other planners.

d'Epenoux 1963; Puterman 1994, section 6.9.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from rlkit.agents.planning.goal import Goal, Progress
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP


def linear_programming(mdp: FiniteMDP, v: np.ndarray, goal: Goal) -> Progress:
    """Minimise sum v(s) over v(s) >= r(s, a) + gamma E v(s') for every available action: the optimal values.

    Raises:
        UserError: HiGHS finds no solution, as where the values are infinite.
    """
    del goal
    live = ~mdp.terminal
    if not live.any():
        return Progress(v, 0)
    rows = np.flatnonzero((mdp.available & live[:, None]).ravel())
    following = sparse.csr_array((mdp.weights, mdp.indices, mdp.indptr), shape=(mdp.states * mdp.actions, mdp.states))
    mine = sparse.csr_array(
        (np.ones(len(rows)), (np.arange(len(rows)), rows // mdp.actions)), shape=(len(rows), mdp.states)
    )
    left = (mdp.gamma * following[rows] - mine)[:, np.flatnonzero(live)]
    found = linprog(
        np.ones(int(live.sum())),
        A_ub=left,
        b_ub=-mdp.rewards.ravel()[rows],
        bounds=(None, None),
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if found.x is None:
        raise UserError(f"linear-programming finds no solution: {found.message.split('(')[0].strip()}")
    v[live] = found.x
    return Progress(v, int(found.nit))
