"""Milliseconds of an update: rlkit's compiled step, the same step uncompiled, and Keras' fit, in turn.

    python -m rlkit.experiments.benchmarks.supervised [--rounds 5] [--models linear,mlp,cnn,lstm,mobilenet]

One process, the same data, batches of 50 (of MobileNet 16), Adam, one epoch a measurement, or for the uncompiled step
some updates of one. Keras' fit is given the arrays, as its users do, with its own shuffling and default compiling.
Data pipelines, metrics and shuffling count for all three; building and tracing do not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlkit.api.configuration import resolve_fit
from rlkit.devices import configure
from rlkit.experiments.benchmarks._measuring import Contestant, alternate, print_machine
from rlkit.runs.checkpoint import Checkpointer
from rlkit.supervised import models
from rlkit.supervised.config import FitConfig
from rlkit.supervised.description import Facts
from rlkit.supervised.pipeline import Pipeline, Source
from rlkit.supervised.training import FitLoop, Supervised

EAGER = 10
"""Updates of the uncompiled step in a measurement."""

SHAPES = {
    "linear": ((784,), 8_000),
    "mlp": ((28, 28, 1), 8_000),
    "cnn": ((28, 28, 1), 1_000),
    "lstm": ((40,), 500),
    "mobilenet": ((96, 96, 3), 96),
}
"""For each model, an example's shape, and how many there are."""


def arrays(model: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of the model's kind; their values do not matter here."""
    shape, count = SHAPES[model]
    rng = np.random.default_rng(0)
    if model == "lstm":
        codes = rng.integers(0, 57, (count, 41)).astype(np.int32)
        return codes[:, :-1], codes[:, 1:]
    return rng.random((count, *shape), np.float32), rng.integers(0, 10, count).astype(np.int32)


def contestants(model: str, folder: Path) -> tuple[list[Contestant], list[int]]:
    """The three, and how many updates a measurement of each has."""
    x, y = arrays(model)
    if model == "lstm":
        config, _ = resolve_fit("lstm", "text", preset="none")
        facts = Facts(kind="text", shape=(40,), vocabulary="".join(map(chr, range(57))), train=0, held_out=0)
    else:
        config, _ = resolve_fit(
            model, "digits", preset="none", fields={"batch_size": 16 if model == "mobilenet" else 50}
        )
        facts = Facts(kind="classes", shape=x.shape[1:], classes=tuple("0123456789"), train=0, held_out=0)
    updates = len(x) // config.batch_size
    config = config.replace(steps=10**6, eval_interval=10**6, checkpoint_interval=10**6, log_interval=10**6)
    held = [tf.constant(x), tf.constant(y)]
    source = Source(
        tf.data.Dataset.range(len(x)), len(x), collect=lambda places: tuple(tf.gather(part, places) for part in held)
    )

    def loop(kind: str) -> FitLoop:
        own = config.replace(loop=kind)
        trainee = Supervised(own, models.build(own, facts), facts)
        made = FitLoop(trainee, Pipeline(source, own), dict, Checkpointer(folder, trainee))
        if (made.programs is not None) != (kind == "compiled"):
            raise RuntimeError(f"the loop that is to be {kind} is not")
        return made

    def keras_model() -> keras.Model:
        made = models.build(config, facts)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        made.compile(keras.optimizers.Adam(config.learning_rate), loss, metrics=["accuracy"])
        made.fit(x, y, batch_size=config.batch_size, verbose=0)
        return made

    def warm(kind: str, first: int) -> Callable[[], FitLoop]:
        def make() -> FitLoop:
            made = loop(kind)
            made.advance(first)
            return made

        return make

    few = min(EAGER, updates)
    return [
        Contestant("compiled", warm("compiled", updates), lambda made: made.advance(updates)),  # type: ignore[attr-defined]
        Contestant("eager", warm("eager", 2), lambda made: made.advance(few)),  # type: ignore[attr-defined]
        Contestant(
            "Keras fit",
            keras_model,
            lambda made: made.fit(x, y, batch_size=config.batch_size, verbose=0),  # type: ignore[attr-defined]
        ),
    ], [updates, few, updates]


def measure(model: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of an update, medians over the rounds, and the medians of the rounds' ratios."""
    with tempfile.TemporaryDirectory() as folder:
        timed, updates = contestants(model, Path(folder))
        alternate(timed, rounds)
    each = {c.name: [1e3 * seconds / n for seconds in c.seconds] for c, n in zip(timed, updates, strict=True)}
    found: dict[str, Any] = {name: statistics.median(values) for name, values in each.items()}
    for name in ("eager", "Keras fit"):
        pairs = zip(each[name], each["compiled"], strict=False)  # a slow one is measured once
        found[f"{name} / compiled"] = statistics.median(a / b for a, b in pairs)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default=",".join(SHAPES))
    chosen = parser.parse_args()
    print_machine()
    print(f"{'ms an update':<12} {'compiled':>9} {'eager':>9} {'Keras fit':>9}   eager/compiled   fit/compiled")
    with configure(FitConfig()):
        for model in chosen.models.split(","):
            found = measure(model, chosen.rounds)
            times = " ".join(f"{found[name]:>9.3f}" for name in ("compiled", "eager", "Keras fit"))
            eager, fit = (found[f"{name} / compiled"] for name in ("eager", "Keras fit"))
            print(f"{model:<12} {times}   {eager:>13.2f}x  {fit:>12.2f}x", flush=True)


if __name__ == "__main__":
    main()
