"""Supervised training: a model, its optimizer and its loss, and the loop over batches.

Letters: B batch, M metrics, A classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlkit.errors import UserError
from rlkit.learning.optimizers import clipped
from rlkit.loops.base import Loop
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.observers import Observer
from rlkit.spaces import Arrays
from rlkit.supervised.config import FitConfig
from rlkit.supervised.description import Facts
from rlkit.supervised.pipeline import Pipeline, Source


class Supervised(tf.Module):
    """A model with what it learns by.

    Args:
        config: of the run.
        model: built; classes and characters as logits.
        facts: of the data.
    """

    def __init__(self, config: FitConfig, model: keras.Model, facts: Facts) -> None:
        super().__init__(name="supervised")
        self.config, self.model, self.facts = config, model, facts
        self.numbers = facts.kind == "numbers"
        self.loss = (
            keras.losses.MeanSquaredError()
            if self.numbers
            else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        rate: float | keras.optimizers.schedules.LearningRateSchedule = config.learning_rate
        if config.learning_rate_end is not None:
            rate = keras.optimizers.schedules.CosineDecay(
                config.learning_rate, config.learning_rate_duration, config.learning_rate_end / config.learning_rate
            )
        self.optimizer = keras.optimizers.get({"class_name": config.optimizer, "config": {"learning_rate": rate}})
        self.optimizer.build(model.trainable_variables)
        self.metrics = ("loss", "gradient_norm") if self.numbers else ("loss", "accuracy", "gradient_norm")
        self.kept = [variable.value for variable in (*model.variables, *self.optimizer.variables)]

    def update(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """One gradient step on a batch; the metrics, [M] float32."""
        weights = self.model.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self.model(x, training=True)
            loss = self.loss(y, outputs)
        gradients, norm = clipped(
            tape.gradient(loss, [weight.value for weight in weights]), self.config.max_gradient_norm
        )
        self.optimizer.apply(gradients, weights)
        if self.numbers:
            return tf.stack([loss, norm])
        return tf.stack([loss, tf.reduce_mean(keras.metrics.sparse_categorical_accuracy(y, outputs)), norm])

    def sums(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Of a batch: sum of losses, sum of right ones or of absolute errors, count of predictions; [3] float64."""
        outputs = self.model(x, training=False)
        if self.numbers:
            errors = tf.cast(outputs - y, tf.float64)
            losses, scores = errors**2, tf.abs(errors) * self.facts.target_deviation
        else:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs)
            scores = keras.metrics.sparse_categorical_accuracy(y, outputs)
        count = tf.cast(tf.size(losses), tf.float64)
        return tf.stack([*(tf.reduce_sum(tf.cast(part, tf.float64)) for part in (losses, scores)), count])

    def evaluation(self, sums: np.ndarray) -> dict[str, float]:
        """What the sums over all batches say; better is a larger accuracy, or a smaller loss."""
        loss, score = (float(value) for value in sums[:2] / sums[2])
        if self.numbers:
            return {"loss": loss, "mean_absolute_error": score}
        values = {"loss": loss, "accuracy": score}
        return values if self.facts.kind == "classes" else {**values, "perplexity": math.exp(min(loss, 700.0))}

    @property
    def learning_rate(self) -> float:
        """The optimizer's step size now."""
        return float(self.optimizer.learning_rate)


class Programs:
    """A model's compiled programs: many updates in one call, and a pass over the data held out."""

    def __init__(self, trainee: Supervised, pipeline: Pipeline, jit: bool) -> None:
        self.traces = 0
        spec = pipeline.stream(0).element_spec
        self._update = tf.function(trainee.update, input_signature=spec, jit_compile=jit)

        @tf.function(input_signature=[tf.data.IteratorSpec(spec), tf.TensorSpec([], tf.int64)])
        def advance(batches: Iterator[Any], updates: tf.Tensor) -> tf.Tensor:
            self.traces += 1
            sums = tf.zeros([len(trainee.metrics)])
            for _ in tf.range(updates):
                sums += self._update(*next(batches))
            return sums

        self.advance = advance.get_concrete_function()

    @property
    def graph(self) -> tf.Graph:
        """Of one update."""
        return self._update.get_concrete_function().graph


def evaluator(trainee: Supervised, pipeline: Pipeline) -> Callable[[], dict[str, float]]:
    """A compiled pass over every example of a pipeline."""
    batches = pipeline.once()

    @tf.function(input_signature=[])
    def measure() -> tf.Tensor:
        sums = tf.zeros([3], tf.float64)
        for x, y in batches:
            sums += trainee.sums(x, y)
        return sums

    program = measure.get_concrete_function()

    def evaluate() -> dict[str, float]:
        with naming_damage(pipeline.source):
            return trainee.evaluation(program().numpy())

    return evaluate


DAMAGE = (
    tf.errors.InvalidArgumentError,
    tf.errors.DataLossError,
    tf.errors.FailedPreconditionError,
    tf.errors.NotFoundError,  # a link to nothing, or a file that was removed meanwhile
    tf.errors.PermissionDeniedError,
)
"""Errors of TensorFlow's that may be the data's fault."""


@contextmanager
def naming_damage(source: Source) -> Iterator[None]:
    """Name what is damaged of the data, as a UserError, where TensorFlow only says that something is."""
    try:
        yield
    except DAMAGE as error:
        found = source.diagnose()
        if found is None:
            raise
        raise UserError(found) from error


class FitLoop(Loop):
    """Learns from batches, epoch after epoch; a step is an update.

    Args:
        trainee: what learns.
        pipeline: of the data to learn from.
        evaluate: on the data held out.
        checkpointer: where to save.
        observers: see metrics and evaluations.
    """

    config: FitConfig

    def __init__(
        self,
        trainee: Supervised,
        pipeline: Pipeline,
        evaluate: Callable[[], dict[str, float]],
        checkpointer: Checkpointer,
        observers: Sequence[Observer] = (),
    ) -> None:
        super().__init__(trainee.config, checkpointer, observers)
        self.trainee, self.pipeline, self.evaluate = trainee, pipeline, evaluate
        self.programs = Programs(trainee, pipeline, self.config.jit) if self.config.loop == "compiled" else None
        self._batches: Iterator[Any] | None = None
        self._sums, self._summed, self._stale = np.zeros(len(trainee.metrics)), 0, 0
        if self.config.loop == "keras":
            metrics = [] if trainee.numbers else ["accuracy"]
            trainee.model.compile(trainee.optimizer, trainee.loss, metrics=metrics, jit_compile=self.config.jit)

    def _cycle(self) -> bool:
        """The updates up to the next step that is due."""
        updates = self.due() - self.step
        if self.profiler:
            self.profiler.round(self.step)
        with naming_damage(self.pipeline.source):
            sums = self._fit(updates) if self.config.loop == "keras" else self.advance(updates)
        self.step += updates
        known = len(sums) - (self.config.loop == "keras")  # which does not know the last one, the gradient's norm
        self._check_finite(self.trainee.metrics[:known], sums[:known] / updates)
        self._sums += sums
        self._summed += updates
        return True

    def advance(self, updates: int) -> np.ndarray:
        """That many updates by rlkit's own step; sums of the metrics, [M]."""
        if self._batches is None:
            self._batches = iter(self.pipeline.stream(self.step))
        if self.programs:
            return np.asarray(self.programs.advance(self._batches, tf.constant(updates, tf.int64)))
        return np.asarray(sum(self.trainee.update(*next(self._batches)) for _ in range(updates)))

    def _fit(self, updates: int) -> np.ndarray:
        """Keras' own loop, which does not tell the gradient's norm."""
        batches = self.pipeline.stream(self.step)
        history = self.trainee.model.fit(batches, steps_per_epoch=updates, verbose=0, shuffle=False).history
        known = [history[name][0] if name in history else math.nan for name in self.trainee.metrics]
        return np.array(known) * updates

    def _diverged(self, metric: str, value: float) -> UserError:
        """The error of a metric that is not finite: the data's fault where it is theirs."""
        fault = self.pipeline.source.diagnose()
        if fault is None:
            return super()._diverged(metric, value)
        return UserError(
            f"the {metric} is {value} at step {self.step}: stopped; the last good checkpoint, of step {self.saved_at}, "
            f"is kept; {fault}"
        )

    def _evaluate(self) -> str | None:
        values = self.evaluate()
        if not math.isfinite(values["loss"]):
            raise self._diverged("loss", values["loss"])
        for observer in self.observers:
            observer.evaluation(self.step, values)
        accuracy = values.get("accuracy")
        score = -values["loss"] if accuracy is None or self.trainee.facts.kind == "text" else accuracy
        if self.best is None or score > self.best:
            self.best, self._stale = score, 0
            self.checkpointer.keep_best(self.step, self.best)
        else:
            self._stale += 1
        c = self.config
        if c.target_accuracy is not None and accuracy is not None and accuracy >= c.target_accuracy:
            return "solved"
        return "stopped" if c.patience and self._stale >= c.patience else None

    def _row(self) -> dict[str, float | None]:
        means = self._sums / max(self._summed, 1)
        row = dict(zip(self.trainee.metrics, map(float, means), strict=True)) if self._summed else {}
        self._sums[:], self._summed = 0.0, 0
        return {"epoch": self.step / self.pipeline.batches, "learning_rate": self.trainee.learning_rate, **row}

    def _state(self) -> tuple[dict[str, Any], Arrays]:
        return {"summed": self._summed, "stale": self._stale}, {"sums": self._sums}

    def _restore(self, counters: dict[str, Any], state: Arrays, report: Callable[[str], None]) -> None:
        del report
        self._summed, self._stale, self._sums = counters["summed"], counters["stale"], state["sums"].copy()
        self._batches = None
