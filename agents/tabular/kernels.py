"""The tabular learners' steps, compiled by Numba: one code for a simulated model and for any env.

Letters: S states, A actions, T tables (2 for double Q-learning). The learners' equations are in
agents/tabular/tabular.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from rlkit.exact.sampling import Simulator, bits, first_state, fraction

TEMPORAL_DIFFERENCE, MONTE_CARLO, LAYERED = range(3)
SAMPLE, EXPECTED, MAX = range(3)
CONSTANT, LINEAR, EXPONENTIAL, VISITS = range(4)

FAINT = 1e-8
"""An eligibility below this changes nothing any more, and is forgotten."""


class Schedule(NamedTuple):
    """A number by an absolute count."""

    kind: int
    start: float
    end: float
    duration: float
    by_episode: bool


class Rule(NamedTuple):
    """A learner's settings, as compiled code takes them."""

    kind: int
    target: int
    double: bool
    n_step: int
    trace_decay: float
    replacing: bool
    first_visit: bool
    gamma: float
    epsilon: Schedule
    step_size: Schedule
    power: float
    trials: int
    budget: int
    """Steps in all, of which each layer has a share (layered only)."""
    exploration: np.uint64
    """Random stream of the behaviour policy."""
    coin: np.uint64
    """Random stream of which table is updated."""
    env: np.uint64
    """Random stream of the simulated outcomes."""
    start: np.uint64
    """Random stream of the simulated first states."""


class Tables(NamedTuple):
    """What is learned."""

    q: np.ndarray
    """[T, S, A] float64."""
    visits: np.ndarray
    """[T, S, A] int64, updates of each pair."""
    squares: np.ndarray
    """[S, A] float64: sum of the squared deviations of the targets from their mean (layered only)."""
    layer: np.ndarray
    """[S] int32: the step of an episode at which a state is met, or -1 (layered only)."""


class Memory(NamedTuple):
    """What a learner remembers of the episode so far."""

    numbers: np.ndarray
    """[8] int64, by the names below."""
    total: np.ndarray
    """[1] float64: the episode's return so far."""
    states: np.ndarray
    """[C] int32."""
    actions: np.ndarray
    """[C] int32."""
    rewards: np.ndarray
    """[C] float64."""
    stamp: np.ndarray
    """[S, A] int64: the step at which a pair was first met in the episode that it was last met in."""
    trace: np.ndarray
    """[C] float64: eligibilities of states and actions (trace_decay above 0 only)."""
    sizes: np.ndarray
    """[C] float64: step size of each at its last visit (trace_decay above 0 only)."""


STATE, PENDING, EPISODE, LENGTH, KEPT, LAYER, LAST = range(7)
"""Places in `Memory.numbers`: state; next action if it is chosen, else -1; episodes that have ended; steps in this one;
entries of states, actions and rewards in use; layer that is learned and length of episodes, -1 where the env has no
layers (layered only)."""

DONE = -2
"""The layer after the first one."""

NO_LAYERS = -1
"""The length of episodes where they differ, or a state is met at several of their steps."""

RETURNS, LENGTHS, ENDED, ERRORS, UPDATES = range(5)
"""Places in the statistics: sums over ended episodes, and of |TD error| over updates."""


@njit(cache=True, nogil=True, forceinline=True)
def scheduled(schedule: Schedule, step: int, episode: int) -> float:
    """A schedule's value."""
    if schedule.kind == CONSTANT or schedule.kind == VISITS:
        return schedule.start
    share = min((episode if schedule.by_episode else step) / schedule.duration, 1.0)
    if schedule.kind == LINEAR:
        return schedule.start + share * (schedule.end - schedule.start)
    value: float = schedule.start * (schedule.end / schedule.start) ** share
    return value


@njit(cache=True, nogil=True, forceinline=True)
def _greedy(q: np.ndarray, s: int) -> int:
    """The action of the largest value, of all tables together; the lowest of equals."""
    best, largest = 0, -np.inf
    for a in range(q.shape[2]):
        value = q[0, s, a]
        for table in range(1, q.shape[0]):
            value += q[table, s, a]
        if value > largest:
            best, largest = a, value
    return best


@njit(cache=True, nogil=True, forceinline=True)
def _knows_nothing(q: np.ndarray, s: int) -> bool:
    """Whether all actions are worth the same, as at first: then any is as good as the lowest, and tells more."""
    first = 0.0
    for a in range(q.shape[2]):
        value = q[0, s, a]
        for table in range(1, q.shape[0]):
            value += q[table, s, a]
        first = value if a == 0 else first
        if value != first:
            return False
    return True


@njit(cache=True, nogil=True, forceinline=True)
def _uniform(random: np.uint64, actions: int) -> int:
    return np.int64(((random & np.uint64(0xFFFFFFFF)) * np.uint64(actions)) >> np.uint64(32))  # type: ignore[return-value]


@njit(cache=True, nogil=True, forceinline=True)
def choose(rule: Rule, tables: Tables, memory: Memory, s: int, step: int) -> int:
    """The behaviour policy's action at an absolute step; epsilon-greedy, or for the layered learner its next trial."""
    actions = tables.q.shape[2]
    random = bits(rule.exploration, step)
    if rule.kind == LAYERED:
        if memory.numbers[LENGTH] == memory.numbers[LAYER]:
            least = 0
            for a in range(1, actions):
                if tables.visits[0, s, a] < tables.visits[0, s, least]:
                    least = a
            return least
        return _uniform(random, actions)
    epsilon = scheduled(rule.epsilon, step, memory.numbers[EPISODE])
    if float(random >> np.uint64(32)) * 2.0**-32 < epsilon or _knows_nothing(tables.q, s):
        return _uniform(random, actions)
    return _greedy(tables.q, s)


@njit(cache=True, nogil=True, forceinline=True)
def _policy_value(rule: Rule, tables: Tables, memory: Memory, s: int, step: int) -> float:
    """E q(s, a) under the epsilon-greedy policy."""
    actions = tables.q.shape[2]
    epsilon = scheduled(rule.epsilon, step, memory.numbers[EPISODE])
    mean = 0.0
    for a in range(actions):
        mean += tables.q[0, s, a] / actions
    value: float = epsilon * mean + (1 - epsilon) * tables.q[0, s, _greedy(tables.q, s)]
    return value


@njit(cache=True, nogil=True, forceinline=True)
def _bootstrap(rule: Rule, tables: Tables, memory: Memory, s: int, a: int, step: int, table: int) -> float:
    """The value of what follows, by the learner's target; action -1: none was chosen, as the time was up."""
    q = tables.q
    if rule.double:
        return float(q[1 - table, s, _greedy(q[table : table + 1], s)])
    if rule.target == MAX:
        return float(q[0, s, _greedy(q, s)])
    if rule.target == SAMPLE and a >= 0:
        return float(q[0, s, a])
    return _policy_value(rule, tables, memory, s, step)


@njit(cache=True, nogil=True, forceinline=True)
def _step_size(rule: Rule, tables: Tables, memory: Memory, s: int, a: int, step: int, table: int) -> float:
    """Counts the visit."""
    tables.visits[table, s, a] += 1
    if rule.step_size.kind == VISITS:
        return float(tables.visits[table, s, a] ** -rule.power)
    return scheduled(rule.step_size, step, memory.numbers[EPISODE])


@njit(cache=True, nogil=True, forceinline=True)
def _move(
    rule: Rule, tables: Tables, memory: Memory, s: int, a: int, target: float, step: int, table: int, sums: np.ndarray
) -> None:
    """q += step size x (target - q)."""
    error = target - tables.q[table, s, a]
    tables.q[table, s, a] += _step_size(rule, tables, memory, s, a, step, table) * error
    sums[ERRORS] += abs(error)
    sums[UPDATES] += 1


@njit(cache=True, nogil=True, forceinline=True)
def _n_steps(
    rule: Rule, tables: Tables, memory: Memory, s: int, a: int, terminated: bool, ended: bool, step: int,
    sums: np.ndarray,
) -> None:  # fmt: skip
    """Update the state and action of n steps ago; at an episode's end all that are left. s and a are the next ones."""
    n, length, kept = rule.n_step, memory.numbers[LENGTH], memory.numbers[KEPT]
    while kept == n or (ended and kept > 0):
        table = 0
        if rule.double:
            table = np.int64(bits(rule.coin, step * n + kept) >> np.uint64(63))  # type: ignore[assignment]
        target = 0.0
        if not terminated:
            target = _bootstrap(rule, tables, memory, s, a, step + 1, table)
        for back in range(kept):
            target = memory.rewards[(length - back) % n] + rule.gamma * target
        first = (length - kept + 1) % n
        _move(rule, tables, memory, memory.states[first], memory.actions[first], target, step, table, sums)
        kept -= 1
    memory.numbers[KEPT] = kept


@njit(cache=True, nogil=True, forceinline=True)
def _traces(
    rule: Rule, tables: Tables, memory: Memory, s: int, a: int, reward: float, following: int, action: int,
    terminated: bool, step: int, sums: np.ndarray,
) -> None:  # fmt: skip
    """Update the episode's states and actions by their eligibility. Sutton and Barto 2018, sections 12.7, 12.10.

    Each moves by a step size of its own: by visits, what its last visit gave it.
    """
    target = reward
    if not terminated:
        target += rule.gamma * _bootstrap(rule, tables, memory, following, action, step + 1, 0)
    error = target - tables.q[0, s, a]
    cut = False
    if rule.target == MAX and action >= 0:
        cut = tables.q[0, following, action] < tables.q[0, following, _greedy(tables.q, following)]
    size = _step_size(rule, tables, memory, s, a, step, 0)
    kept = memory.numbers[KEPT]
    found = -1
    for i in range(kept):
        if memory.states[i] == s and memory.actions[i] == a:
            found = i
    if found < 0:
        found = kept
        memory.states[found], memory.actions[found], memory.trace[found] = s, a, 0.0
        kept += 1
    memory.trace[found] = 1.0 if rule.replacing else memory.trace[found] + 1.0
    memory.sizes[found] = size
    by_visits = rule.step_size.kind == VISITS
    left = 0
    for i in range(kept):
        size = memory.sizes[i] if by_visits else size
        tables.q[0, memory.states[i], memory.actions[i]] += size * error * memory.trace[i]
        trace = memory.trace[i] * rule.gamma * rule.trace_decay
        if trace > FAINT:
            memory.states[left], memory.actions[left], memory.trace[left] = memory.states[i], memory.actions[i], trace
            memory.sizes[left] = size
            left += 1
    memory.numbers[KEPT] = 0 if cut else left  # Watkins: what follows is not the greedy policy's
    sums[ERRORS] += abs(error)
    sums[UPDATES] += 1


@njit(cache=True, nogil=True, forceinline=True)
def _whole_episode(
    rule: Rule, tables: Tables, memory: Memory, s: int, terminated: bool, step: int, sums: np.ndarray
) -> None:
    """Monte Carlo: every state and action of the episode moves to the return that followed it."""
    target = 0.0 if terminated else _policy_value(rule, tables, memory, s, step + 1)
    kept = memory.numbers[KEPT]
    for i in range(kept - 1, -1, -1):
        s, a = memory.states[i], memory.actions[i]
        target = memory.rewards[i] + rule.gamma * target
        if not rule.first_visit or memory.stamp[s, a] == step - (kept - 1 - i):
            _move(rule, tables, memory, s, a, target, step, 0, sums)
    memory.numbers[KEPT] = 0


@njit(cache=True, nogil=True, forceinline=True)
def _trial(
    rule: Rule, tables: Tables, memory: Memory, s: int, a: int, reward: float, following: int, terminated: bool,
    sums: np.ndarray,
) -> None:  # fmt: skip
    """The layered learner's update: the mean of r + max q(s'), and squares for its variance (Welford 1962)."""
    length = memory.numbers[LENGTH]
    if tables.layer[s] < 0:
        tables.layer[s] = length
    elif tables.layer[s] != length:
        memory.numbers[LAST] = -1
    if length != memory.numbers[LAYER]:
        return
    target = reward
    if not terminated:
        target += rule.gamma * tables.q[0, following, _greedy(tables.q, following)]
    tables.visits[0, s, a] += 1
    error = target - tables.q[0, s, a]
    tables.q[0, s, a] += error / tables.visits[0, s, a]
    tables.squares[s, a] += error * (target - tables.q[0, s, a])
    sums[ERRORS] += abs(error)
    sums[UPDATES] += 1


@njit(cache=True, nogil=True, forceinline=True)
def _layer_is_learned(rule: Rule, tables: Tables, memory: Memory) -> bool:
    met = False
    for s in range(len(tables.layer)):
        if tables.layer[s] == memory.numbers[LAYER]:
            met = True
            for a in range(tables.q.shape[2]):
                if tables.visits[0, s, a] < rule.trials:
                    return False
    return met


@njit(cache=True, nogil=True, forceinline=True)
def deadline(budget: int, last: int, layer: int) -> int:
    """The step at which the learner leaves a layer as it is: the i-th has a share of the budget like (i + 1)^2.

    What random play seldom reaches lies low: the lower layers need most of the steps.
    """
    above = layer * (layer + 1) * (2 * layer + 1) / (last * (last + 1) * (2 * last + 1))
    return int(budget * (1.0 - above))


@njit(cache=True, nogil=True, forceinline=True)
def _end_of_trial(rule: Rule, tables: Tables, memory: Memory, step: int) -> None:
    """After the first episode learn the last layer; after a layer's last trial, or its time, the one above."""
    numbers = memory.numbers
    if numbers[LAST] == 0:
        numbers[LAST], numbers[LAYER] = numbers[LENGTH], numbers[LENGTH] - 1
    elif numbers[LENGTH] != numbers[LAST]:
        numbers[LAST] = NO_LAYERS
    elif _layer_is_learned(rule, tables, memory) or step >= deadline(rule.budget, numbers[LAST], numbers[LAYER]):
        numbers[LAYER] = numbers[LAYER] - 1 if numbers[LAYER] > 0 else DONE


@njit(cache=True, nogil=True, forceinline=True)
def observe(
    rule: Rule, tables: Tables, memory: Memory, s: int, a: int, reward: float, following: int, terminated: bool,
    truncated: bool, step: int, sums: np.ndarray,
) -> None:  # fmt: skip
    """Learn from a transition; `following` is the real next state, also where the episode ended."""
    numbers, ended = memory.numbers, terminated or truncated
    memory.total[0] += reward
    if rule.kind == LAYERED:
        _trial(rule, tables, memory, s, a, reward, following, terminated, sums)
    elif rule.kind == MONTE_CARLO:
        i = numbers[KEPT]
        memory.states[i], memory.actions[i], memory.rewards[i] = s, a, reward
        if memory.stamp[s, a] < step - i:  # not yet in this episode
            memory.stamp[s, a] = step
        numbers[KEPT] += 1
        if ended:
            _whole_episode(rule, tables, memory, following, terminated, step, sums)
    else:
        action = -1
        if not ended and (rule.target == SAMPLE or rule.trace_decay > 0):
            numbers[LENGTH] += 1  # as it will be when the action is taken
            action = choose(rule, tables, memory, following, step + 1)
            numbers[LENGTH] -= 1
        numbers[PENDING] = action
        if rule.trace_decay > 0:
            _traces(rule, tables, memory, s, a, reward, following, action, terminated, step, sums)
        else:
            i = numbers[LENGTH] % rule.n_step
            memory.states[i], memory.actions[i], memory.rewards[i] = s, a, reward
            numbers[KEPT] += 1
            _n_steps(rule, tables, memory, following, action, terminated, ended, step, sums)
    numbers[LENGTH] += 1
    if ended:
        if rule.kind == LAYERED:
            _end_of_trial(rule, tables, memory, step)
        sums[RETURNS] += memory.total[0]
        sums[LENGTHS] += numbers[LENGTH]
        sums[ENDED] += 1
        memory.total[0] = 0.0
        numbers[EPISODE] += 1
        numbers[LENGTH] = numbers[KEPT] = 0
        numbers[PENDING] = -1


@njit(cache=True, nogil=True)
def simulate(
    rule: Rule, tables: Tables, memory: Memory, simulator: Simulator, first: int, last: int, sums: np.ndarray
) -> int:
    """Act in the model and learn, from absolute step `first` to `last`; the step that was reached.

    It stops before `last` where the memory of an episode is full, or the layered learner has nothing left to do.
    """
    numbers, actions = memory.numbers, tables.q.shape[2]
    room = len(memory.states)
    for step in range(first, last):
        if (rule.kind == MONTE_CARLO and numbers[KEPT] >= room) or numbers[LAYER] == DONE or numbers[LAST] < 0:
            return step
        s = numbers[STATE]
        a = numbers[PENDING] if numbers[PENDING] >= 0 else choose(rule, tables, memory, s, step)
        row = s * actions + a
        u = fraction(bits(rule.env, step))
        k = 0
        while u >= simulator.threshold[row, k]:
            k += 1
        following, terminated = int(simulator.to[row, k]), bool(simulator.ends[row, k])
        truncated = not terminated and 0 < simulator.limit <= numbers[LENGTH] + 1
        observe(rule, tables, memory, s, a, simulator.reward[row, k], following, terminated, truncated, step, sums)
        if terminated or truncated:
            following = first_state(simulator.start, bits(rule.start, numbers[EPISODE]))
        numbers[STATE] = following
    return last


@njit(cache=True, nogil=True, forceinline=True)
def _look(q: np.ndarray, s: int) -> tuple[int, float]:
    """The lowest best action of a state [S, A], -1 where all are worth the same, and its value; without a branch."""
    best, largest, smallest = 0, q[s, 0], q[s, 0]
    for a in range(1, q.shape[1]):
        value = q[s, a]
        best = a if value > largest else best
        largest = max(largest, value)
        smallest = min(smallest, value)
    return (best if smallest < largest else -1), largest


@njit(cache=True, nogil=True)
def simulate_q_learning(
    rule: Rule, tables: Tables, memory: Memory, simulator: Simulator, first: int, last: int, sums: np.ndarray
) -> int:
    """What `simulate` does for one-step Q-learning, to the bit, many times as fast.

    The greedy action and largest value of each state are kept beside the table and looked up again after an update,
    which the processor does while the next step is already under way.
    """
    q, visits, numbers = tables.q[0], tables.visits[0], memory.numbers
    states, actions = q.shape
    greedy, largest = np.empty(states, np.int32), np.empty(states)
    for s in range(states):
        greedy[s], largest[s] = _look(q, s)
    width, limit = simulator.threshold.shape[1], simulator.limit if simulator.limit > 0 else 2**62
    s, length, episode, total = numbers[STATE], numbers[LENGTH], numbers[EPISODE], memory.total[0]
    threshold, to, ends, pays = simulator.threshold, simulator.to, simulator.ends, simulator.reward
    exploration, env, gamma = rule.exploration, rule.env, rule.gamma
    errors, returns, lengths, ended = sums[ERRORS], sums[RETURNS], sums[LENGTHS], sums[ENDED]
    by_visits = rule.step_size.kind == VISITS
    fixed_size, fixed_epsilon = rule.step_size.kind == CONSTANT, rule.epsilon.kind == CONSTANT
    size, epsilon = rule.step_size.start, rule.epsilon.start
    for step in range(first, last):
        if not fixed_epsilon:
            epsilon = scheduled(rule.epsilon, step, episode)
        random = bits(exploration, step)
        explores = float(random >> np.uint64(32)) * 2.0**-32 < epsilon or greedy[s] < 0
        a = _uniform(random, actions) if explores else int(greedy[s])
        row = s * actions + a
        u = fraction(bits(env, step))
        k = 0
        for j in range(width - 1):
            k += u >= threshold[row, j]
        following, terminated, reward = int(to[row, k]), ends[row, k], pays[row, k]
        error = reward + (0.0 if terminated else gamma * largest[following]) - q[s, a]
        visits[s, a] += 1
        if not fixed_size:
            size = visits[s, a] ** -rule.power if by_visits else scheduled(rule.step_size, step, episode)
        new = q[s, a] + size * error
        q[s, a] = new
        errors += abs(error)
        greedy[s], largest[s] = _look(q, s)
        total += reward
        length += 1
        s = following
        if terminated or length >= limit:
            returns, lengths, ended = returns + total, lengths + length, ended + 1
            episode += 1
            length, total = 0, 0.0
            s = first_state(simulator.start, bits(rule.start, episode))
    numbers[STATE], numbers[LENGTH], numbers[EPISODE], memory.total[0] = s, length, episode, total
    numbers[PENDING] = -1
    sums[RETURNS], sums[LENGTHS], sums[ENDED], sums[ERRORS] = returns, lengths, ended, errors
    sums[UPDATES] += last - first
    return last
