"""Reference data of an export: the live model's answers to inputs that it really met, and the score that it reaches.

Letters: N parallel envs, n rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlkit.agents.dqn.recurrent import DRQN
from rlkit.agents.tabular.tabular import Tabular
from rlkit.api import policy_models
from rlkit.api.agent_run import Run
from rlkit.api.fitting import FitRun, same
from rlkit.config import Config
from rlkit.envs import lookup
from rlkit.errors import UserError
from rlkit.export.portable import Arrays, Portable, Runtime
from rlkit.interaction.evaluation import evaluate
from rlkit.interaction.vector import make_vector
from rlkit.learning.agent import Clock
from rlkit.reporting import Say
from rlkit.supervised import datasets, models, portable
from rlkit.supervised.pipeline import Pipeline

INPUTS = 1_000
"""Observations or examples on which an export is compared."""
EPISODES = 20
"""That an export plays."""
SEED = 0
"""Of these episodes."""


@dataclass(frozen=True)
class Subject:
    """A trained model to export, and what tells whether an export is right."""

    portable: Portable
    step: int
    """At which it was saved."""
    inputs: Arrays
    """By name, `INPUTS` rows, or as many as there are."""
    expected: Arrays
    """What the live model says to them."""
    measure: str
    """What the score is."""
    live_score: float
    score: Callable[[Runtime, Arrays], float]
    """Of an export as it runs, and of what it said to the inputs."""


def subject(run: Run | FitRun, checkpoint: str, say: Say) -> Subject:
    """Of a run's checkpoint: "best", "last" or a step's number.

    Raises:
        UserError: there is no such checkpoint, or the run's data are not there.
    """
    return of_examples(run, checkpoint, say) if isinstance(run, FitRun) else of_episodes(run, checkpoint)


def trained(run: Run | FitRun, checkpoint: str) -> tuple[Portable, Runtime, int]:
    """The model to export, the live one, and the step that it was saved at."""
    if isinstance(run, FitRun):
        trainee, step = run.trainee(checkpoint)
        network = trainee.model
        if run.config.style == "subclass":  # the same layers, in a style that says how they are connected
            network = models.build(run.config.replace(style="functional"), run.facts)
            network.set_weights(trainee.model.get_weights())
        made = portable.of_supervised(network, run.facts)
        return made, _live(made, run.config, lambda x: {"predictions": _predictions(trainee.model, run, x)}), step
    agent, step = run.agent(checkpoint)
    made = policy_models.of_agent(agent)
    return made, _live(made, run.config, _answers(agent)), step


def _answers(agent: Any) -> Callable[..., dict[str, tf.Tensor]]:  # noqa: ANN401 - one of three kinds
    """What an agent says to observations, by its own functions."""
    zero = tf.constant(0, tf.int64)
    now = Clock(zero, zero)

    def remembering(observations: tf.Tensor, memory: tf.Tensor) -> dict[str, tf.Tensor]:
        values, after = agent.recall(agent.state().weights, observations, memory)
        return {"q_values": values, "action": agent.pick(values, now, None), "next_memory": after}

    def by_table(observations: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.reduce_sum(tf.gather(agent.q, observations - agent.first_state, axis=1), axis=0)
        return {"q_values": values, "action": agent.act(observations, now, explore=False)}

    def by_network(observations: tf.Tensor) -> dict[str, tf.Tensor]:
        values = agent.q_values(agent.state().weights, observations)
        return {"q_values": values, "action": agent.act(observations, now, explore=False)}

    return remembering if isinstance(agent, DRQN) else by_table if isinstance(agent, Tabular) else by_network


def _predictions(model: keras.Model, run: FitRun, inputs: tf.Tensor) -> tf.Tensor:
    outputs = model(tf.cast(inputs, tf.float32) / 255.0 if inputs.dtype == tf.uint8 else inputs, training=False)
    if run.facts.kind == "numbers":
        return outputs * run.facts.target_deviation + run.facts.target_mean
    return tf.nn.softmax(outputs)


def _live(made: Portable, config: Config, answer: Callable[..., dict[str, tf.Tensor]]) -> Runtime:
    """A live model's answers for arrays of any number of rows."""
    function = tf.function(answer, jit_compile=getattr(config, "jit", False))

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        given = [tf.constant(inputs[name], spec.dtype) for name, spec in made.inputs.items()]
        found = {name: value.numpy() for name, value in function(*given).items()}
        if made.choice and made.choice not in found:
            found[made.choice] = found[made.values].argmax(axis=-1)
        return found

    return run


class Player:
    """The policy of a runtime for N envs, which remembers what it should and keeps some of what it met.

    Args:
        run: from inputs to outputs.
        made: what they are.
        num_envs: N.
    """

    def __init__(self, run: Runtime, made: Portable, num_envs: int) -> None:
        self._run, self._spec = run, made.inputs["observation"]
        self._memory = np.zeros((num_envs, made.inputs["memory"].shape[1]), np.float32) if made.remembers else None
        self._met: list[dict[str, np.ndarray]] = []
        self._calls, self._stride = 0, 1

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Actions, [N], for observations, [N, ...]."""
        inputs = {"observation": np.array(observations, self._spec.dtype.as_numpy_dtype)}
        if self._memory is not None:
            inputs["memory"] = self._memory
        if self._calls % self._stride == 0:
            self._met.append(inputs)
        if len(self._met) > INPUTS:  # every other one: the rest are as far apart as before
            self._met, self._stride = self._met[::2], 2 * self._stride
        self._calls += 1
        outputs = self._run(inputs)
        self._memory = outputs.get("next_memory")
        return outputs["action"]

    def reset(self, fresh: np.ndarray) -> None:
        """Forget where an episode begins with the next observation, [N] bool."""
        if self._memory is not None:
            self._memory = np.where(fresh[:, None], np.float32(0), self._memory)

    def met(self) -> dict[str, np.ndarray]:
        """Inputs that it met, from all of its time, n rows each."""
        return {name: np.concatenate([inputs[name] for inputs in self._met]) for name in self._met[0]}


def of_episodes(run: Run, checkpoint: str) -> Subject:
    """Of an agent: observations of its greedy episodes, and their mean return."""
    made, live, step = trained(run, checkpoint)

    def play(runtime: Runtime, occasion: int = 0) -> tuple[float, dict[str, np.ndarray]]:
        vector = make_vector(lookup.find(run.config.env), run.config.env_args, EPISODES, "resettable")
        try:
            player = Player(runtime, made, EPISODES)
            return evaluate(player, vector, EPISODES, SEED, occasion=occasion).mean, player.met()
        finally:
            vector.close()

    mean, met = play(live)
    occasion = 0
    while len(met["observation"]) < INPUTS:
        occasion += 1
        more = play(live, occasion)[1]
        met = {name: np.concatenate([rows, more[name]]) for name, rows in met.items()}
    places = np.linspace(0, len(met["observation"]) - 1, INPUTS).round().astype(int)
    inputs = {name: rows[places] for name, rows in met.items()}
    return Subject(made, step, inputs, live(inputs), "mean return", mean, lambda runtime, _: play(runtime)[0])


def of_examples(run: FitRun, checkpoint: str, say: Say) -> Subject:
    """Of a supervised model: examples held out, and how right it is on them."""
    made, live, step = trained(run, checkpoint)
    data = datasets.load(run.config, say)
    same(data.facts, run.facts, run.path)
    batches, rows = [], 0
    for x, y in Pipeline(data.held_out, run.config).once():
        batches.append((x.numpy(), y.numpy()))
        rows += len(batches[-1][0])
        if rows >= INPUTS:
            break
    if not batches:
        raise UserError(f"run {run.path}: there are no examples to hold the export to")
    x, y = (np.concatenate(part)[:INPUTS] for part in zip(*batches, strict=True))
    spec = made.inputs["inputs"]
    inputs = {"inputs": (np.round(x * 255) if spec.dtype == tf.uint8 else x).astype(spec.dtype.as_numpy_dtype)}
    facts = run.facts

    def score(_: Runtime, outputs: Arrays) -> float:
        predictions = outputs["predictions"]
        if facts.kind == "numbers":
            return float(np.abs(predictions - (y * facts.target_deviation + facts.target_mean)).mean())
        return float((predictions.argmax(axis=-1) == y).mean())

    expected = live(inputs)
    measure = "mean absolute error" if facts.kind == "numbers" else "accuracy"
    return Subject(made, step, inputs, expected, measure, score(live, expected), score)
