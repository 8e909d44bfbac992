"""Checkpoints under Keras 3: what restores, what silently does not, and a run that goes on where it was stopped.

python -m rlkit.experiments.studies.checkpoints
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlkit.api import fitting


class Model(keras.Model):
    """Two layers by subclassing, which have no weights before the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.logits = keras.layers.Dense(8, "relu"), keras.layers.Dense(2)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.logits(self.hidden(inputs))


def restored(path: str, x: tf.Tensor, *, built: bool) -> tuple[np.ndarray, bool]:
    """What a new model says after restoring, before or after it was built; and whether TensorFlow says all is used."""
    model = Model()
    if built:
        model(x)
    status = tf.train.Checkpoint(model=model).restore(path)
    outputs = model(x).numpy()
    try:
        status.assert_consumed()
    except AssertionError:
        status.expect_partial()
        return outputs, False
    return outputs, True


def main() -> dict[str, bool]:
    """Save, restore, go on; print and return what held."""
    x = tf.ones([1, 3])
    model = Model()
    before = model(x).numpy()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = tf.train.Checkpoint(model=model).save(str(folder / "model"))
        for built in (True, False):
            after, consumed = restored(path, x, built=built)
            state = "built first" if built else "restored before it is built"
            same = bool(np.array_equal(after, before))
            print(f"{state}: the same outputs: {same}; assert_consumed passes: {consumed}")
            found[state] = same and consumed
        manager = tf.train.CheckpointManager(tf.train.Checkpoint(model=model), str(folder / "kept"), max_to_keep=3)
        for number in range(5):
            manager.save(checkpoint_number=number)
        kept = [Path(p).name for p in manager.checkpoints]
        print(f"of 5 checkpoints the manager keeps {', '.join(kept)}")
        found["three kept"] = kept == ["ckpt-2", "ckpt-3", "ckpt-4"]
        common: dict[str, Any] = {"hidden": (16,), "checkpoint_interval": 10, "eval_interval": 20, "threads": 1}
        whole = fitting.fit("mlp", "digits", run_dir=folder / "whole", steps=60, **common)
        part = fitting.fit("mlp", "digits", run_dir=folder / "part", steps=37, **common)
        rest = fitting.resume(part.path, steps=60)
        pairs = zip(whole.trainee("last")[0].kept, rest.trainee("last")[0].kept, strict=True)
        found["to the bit"] = all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)
        print(f"37 updates and then 23 end where 60 at once do, to the bit: {found['to the bit']}")
    return found


if __name__ == "__main__":
    main()
