"""Learners that keep a number for each state and action. Sutton and Barto 2018, chapters 5 to 7 and 12.

The targets G of q(s, a) += alpha (G - q(s, a)), with r the reward and s' the next state:

- Q-learning: r + gamma max_a' q(s', a'). Watkins 1989; equation 6.8.
- SARSA: r + gamma q(s', a'), a' the next action; equation 6.7. Expected SARSA: r + gamma E q(s', a'); equation 6.9.
- double Q-learning: r + gamma q2(s', argmax q1(s', a')), for one of two tables by a coin. van Hasselt 2010.
- n-step: n rewards before the value; equation 7.4. Traces: section 12.7, with Watkins's cut (12.10) for Q-learning.
  Expected SARSA's (12.9) can diverge near lambda 1, where nothing damps the difference of q(s', a') from the mean.
- Monte Carlo: the return; alpha = 1/n makes q the mean of the returns. Section 5.4.
- layered Q iteration: as Q-learning with alpha = 1/n, for states that are met at one step of an episode only: the last
  layer first, so that what it bootstraps from is already learned.

Monte Carlo learns from an episode when it ends. The one that is open when training stops is left out, and is longer
than most: where episodes are long and few, what is learned is of somewhat short ones (the compiled loop bootstraps).
Where an episode was cut off by its time limit, all of them bootstrap from the state that it had reached; SARSA, which
has no next action there, and Monte Carlo from the behaviour policy's mean value. Letters: S states, A actions.
"""

from __future__ import annotations

from typing import Any, cast

import gymnasium
import numpy as np
import tensorflow as tf
from gymnasium import spaces

from rlkit.agents.tabular import kernels
from rlkit.agents.tabular.config import (
    ControlConfig,
    LayeredQIterationConfig,
    MonteCarloConfig,
    TabularConfig,
    TemporalDifferenceConfig,
)
from rlkit.agents.tabular.kernels import Memory, Rule, Schedule, Tables
from rlkit.errors import UserError
from rlkit.exact.sampling import Simulator, bits, first_state, stream
from rlkit.learning.agent import Clock
from rlkit.learning.exploration import greedy
from rlkit.seeding import Purpose
from rlkit.spaces import Arrays

TARGETS = {"sample": kernels.SAMPLE, "expected": kernels.EXPECTED, "max": kernels.MAX}
KINDS = {
    "constant": kernels.CONSTANT,
    "linear": kernels.LINEAR,
    "exponential": kernels.EXPONENTIAL,
    "visits": kernels.VISITS,
}


def discrete(
    observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
) -> tuple[spaces.Discrete, spaces.Discrete]:
    """Both spaces; UserError where one of them is not Discrete."""
    for what, space in (("observations", observation_space), ("actions", action_space)):
        if not isinstance(space, spaces.Discrete):
            box = isinstance(observation_space, spaces.Box) and isinstance(action_space, spaces.Discrete)
            hint = ": take dqn" if box else ""  # which would refuse the others too
            raise UserError(f"a tabular learner needs Discrete {what}, as FrozenLake-v1 has, and not {space}{hint}")
    return cast("spaces.Discrete", observation_space), cast("spaces.Discrete", action_space)


class Tabular(tf.Module):
    """A table of action values, and the rule by which it learns.

    Raises:
        UserError: observations or actions that are not Discrete.
    """

    def __init__(
        self, config: TabularConfig, observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
    ) -> None:
        super().__init__(name="tabular")
        states, actions = discrete(observation_space, action_space)
        self.config = config
        self.first_state, self.first_action = int(states.start), int(actions.start)
        size = (int(states.n), int(actions.n))
        self.rule = rule(config)
        tables = 2 if self.rule.double else 1
        self.tables = Tables(
            np.full((tables, *size), config.initial_value),
            np.zeros((tables, *size), np.int64),
            np.zeros(size if self.rule.kind == kernels.LAYERED else (1, 1)),
            np.full(size[0], -1, np.int32),
        )
        self.memory = _memory(self.rule, size)
        self.q, self.visits, self.squares = (
            tf.Variable(array, trainable=False, name=name)
            for name, array in zip(("q", "visits", "squares"), self.tables[:3], strict=True)
        )
        self.sums = np.zeros(5)

    def act(self, observations: tf.Tensor, clock: Clock, *, explore: bool) -> tf.Tensor:
        """Greedy actions, [N] int32; the behaviour policy is `choose`."""
        del clock, explore
        values = tf.reduce_sum(tf.gather(self.q, tf.cast(observations, tf.int64) - self.first_state, axis=1), axis=0)
        return greedy(values) + self.first_action

    def begin(self, state: int) -> None:
        """An episode begins at a state, counted from 0; whatever was left of another one is forgotten."""
        numbers = self.memory.numbers
        numbers[kernels.STATE], numbers[kernels.PENDING] = state, -1
        numbers[kernels.LENGTH] = numbers[kernels.KEPT] = 0
        self.memory.total[0] = 0.0

    def choose(self, step: int) -> int:
        """The behaviour policy's action, counted from 0, at an absolute step."""
        numbers = self.memory.numbers
        if numbers[kernels.PENDING] >= 0:
            return int(numbers[kernels.PENDING])
        return int(kernels.choose(self.rule, self.tables, self.memory, int(numbers[kernels.STATE]), step))

    def observe(self, action: int, reward: float, following: int, terminated: bool, truncated: bool, step: int) -> None:
        """Learn from a transition; `following` is the real next state, counted from 0."""
        state = int(self.memory.numbers[kernels.STATE])
        kernels.observe(
            self.rule,
            self.tables,
            self.memory,
            state,
            action,
            reward,
            following,
            terminated,
            truncated,
            step,
            self.sums,
        )
        self.memory.numbers[kernels.STATE] = following
        self._make_room()

    def simulate(self, simulator: Simulator, first: int, last: int) -> int:
        """Act in a model and learn, from absolute step `first` to `last`; the step that was reached."""
        simple = (
            self.rule.kind == kernels.TEMPORAL_DIFFERENCE
            and self.rule.target == kernels.MAX
            and not self.rule.double
            and self.rule.n_step == 1
            and self.rule.trace_decay == 0
        )
        run = kernels.simulate_q_learning if simple else kernels.simulate
        while first < last and not self.complete:
            first = run(self.rule, self.tables, self.memory, simulator, first, last, self.sums)
            self._make_room()
        return first

    def start(self, simulator: Simulator) -> None:
        """The first episode of a simulation begins."""
        self.begin(int(first_state(simulator.start, np.uint64(bits(self.rule.start, 0)))))

    def _make_room(self) -> None:
        """Twice the memory where an episode has filled it."""
        if self.rule.kind == kernels.MONTE_CARLO and self.memory.numbers[kernels.KEPT] == len(self.memory.states):
            grown = {
                name: np.concatenate([array, np.zeros_like(array)])
                for name, array in self.memory._asdict().items()
                if name in ("states", "actions", "rewards")
            }
            self.memory = self.memory._replace(**grown)

    @property
    def episode(self) -> int:
        """Episodes that have ended."""
        return int(self.memory.numbers[kernels.EPISODE])

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to learn; only the layered learner ends by itself.

        Raises:
            UserError: its episodes are not all of the same length, or meet a state at different steps.
        """
        if self.rule.kind != kernels.LAYERED:
            return False
        if self.memory.numbers[kernels.LAST] < 0:
            raise UserError(
                "layered-q-iteration needs an env whose episodes all have the same length and meet a state at one of "
                "their steps only, such as rlkit/NumberTriangle-v0: take q-learning"
            )
        return bool(self.memory.numbers[kernels.LAYER] == kernels.DONE)

    def scalars(self, clock: Clock) -> dict[str, float]:
        """What the schedules say now."""
        if not isinstance(self.config, ControlConfig):
            return {}
        step, episode = int(clock.step), int(clock.episode)
        found = {"epsilon": float(kernels.scheduled(self.rule.epsilon, step, episode))}
        if self.rule.step_size.kind != kernels.VISITS:
            found["learning_rate"] = float(kernels.scheduled(self.rule.step_size, step, episode))
        return found

    def variance(self) -> np.ndarray:
        """The layered learner's: variance of the targets of each state and action, [S, A]; NaN below two trials."""
        visits = self.tables.visits[0]
        found: np.ndarray = np.where(visits > 1, self.tables.squares / np.maximum(visits - 1, 1), np.nan)
        return found

    def shortfall(self) -> int:
        """The layered learner's: pairs that it has met and that have had fewer trials than they should."""
        met = self.tables.layer >= 0
        return int((self.tables.visits[0][met] < self.rule.trials).sum())

    def publish(self) -> None:
        """Copy the table to where checkpoints and the greedy policy take it from."""
        for variable, array in zip((self.q, self.visits, self.squares), self.tables[:3], strict=True):
            variable.assign(array)

    def adopt(self) -> None:
        """The inverse of `publish`, after a checkpoint was restored."""
        for variable, array in zip((self.q, self.visits, self.squares), self.tables[:3], strict=True):
            array[:] = variable.numpy()

    def state(self) -> Arrays:
        """All that decides how learning goes on, as arrays."""
        return {
            **{f"tables.{name}": array for name, array in self.tables._asdict().items()},
            **{f"memory.{name}": array for name, array in self.memory._asdict().items()},
            "learner.sums": self.sums,
        }

    def restore(self, state: Arrays) -> None:
        """Continue from a `state`."""
        self.tables = Tables(**{name: state[f"tables.{name}"].copy() for name in Tables._fields})
        sizes = {"memory.sizes": self.memory.sizes}  # an older run has none: its traces begin anew
        self.memory = Memory(**{name: (sizes | state)[f"memory.{name}"].copy() for name in Memory._fields})
        self.sums = state["learner.sums"].copy()
        self.publish()


def rule(config: TabularConfig) -> Rule:
    """A config as compiled code takes it."""
    never = Schedule(kernels.CONSTANT, 0.0, 0.0, 1.0, False)
    epsilon, step_size, power = never, never, 1.0
    if isinstance(config, ControlConfig):
        kind = kernels.CONSTANT if config.epsilon_start == config.epsilon_end else KINDS[config.epsilon_decay]
        by_episode = config.epsilon_unit == "episode"
        epsilon = Schedule(kind, config.epsilon_start, config.epsilon_end, float(config.epsilon_duration), by_episode)
        kind, ends = KINDS[config.step_size_schedule], (config.step_size, config.step_size_end)
        step_size = Schedule(kind, *ends, float(config.step_size_duration), False)
        power = config.step_size_power
    bootstraps = config if isinstance(config, TemporalDifferenceConfig) else None
    if isinstance(config, LayeredQIterationConfig):
        kind = kernels.LAYERED
    else:
        kind = kernels.TEMPORAL_DIFFERENCE if bootstraps else kernels.MONTE_CARLO
    return Rule(
        kind=kind,
        target=TARGETS[bootstraps.target] if bootstraps else kernels.SAMPLE,
        double=bool(bootstraps and bootstraps.double),
        n_step=bootstraps.n_step if bootstraps else 1,
        trace_decay=bootstraps.trace_decay if bootstraps else 0.0,
        replacing=not bootstraps or bootstraps.traces == "replacing",
        first_visit=not isinstance(config, MonteCarloConfig) or config.visits == "first",
        gamma=config.gamma,
        epsilon=epsilon,
        step_size=step_size,
        power=power,
        trials=config.trials if isinstance(config, LayeredQIterationConfig) else 0,
        budget=config.steps,
        exploration=np.uint64(stream(config.seed, Purpose.EXPLORATION)),
        coin=np.uint64(stream(config.seed, Purpose.COIN)),
        env=np.uint64(stream(config.seed, Purpose.OUTCOMES)),
        start=np.uint64(stream(config.seed, Purpose.TRAINING_ENV)),
    )


def _memory(rule: Rule, size: tuple[int, int]) -> Memory:
    """Empty, with room for what the rule looks back on."""
    traces = rule.trace_decay > 0
    room = size[0] * size[1] + 1 if traces else rule.n_step if rule.kind == kernels.TEMPORAL_DIFFERENCE else 1_024
    numbers = np.zeros(8, np.int64)
    numbers[[kernels.PENDING, kernels.LAYER]] = -1
    return Memory(
        numbers,
        np.zeros(1),
        np.zeros(room, np.int32),
        np.zeros(room, np.int32),
        np.zeros(room),
        np.full(size if rule.kind == kernels.MONTE_CARLO else (1, 1), -1, np.int64),
        np.zeros(room if traces else 1),
        np.zeros(room if traces else 1),
    )
