"""MobileNetV2 from random weights on drawn shapes, and its weights given to a model of other classes.

python -m rlkit.experiments.studies.mobilenet
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import numpy as np

from rlkit.api import fitting
from rlkit.api.configuration import resolve_fit
from rlkit.supervised import models
from rlkit.supervised.description import Facts


def main(epochs: int = 8) -> dict[str, float]:
    """Train, hand the weights on, print; the best accuracy, and how many weights the new model has to learn."""
    with tempfile.TemporaryDirectory() as folder:
        run = fitting.fit(
            "mobilenet", "shapes", run_dir=Path(folder), epochs=epochs, width=0.35, image_size=32, batch_size=20,
            learning_rate=2e-3, eval_interval=60, flip=True, threads=1,
        )  # fmt: skip
        rows = (run.path / "evaluations.csv").read_text(encoding="utf-8").splitlines()[1:]
        accuracies = [float(row.split(",")[2]) for row in rows]
        trained = run.model("last")
        base = next(layer for layer in trained.layers if isinstance(layer, keras.Model))
        base.save_weights(Path(folder) / "base.weights.h5")
        weights = str(Path(folder) / "base.weights.h5")
        config, _ = resolve_fit("mobilenet", "images", fields={"width": 0.35, "weights": weights, "train_base": False})
        classes = ("daisy", "dandelion", "rose", "sunflower", "tulip")
        other = models.build(config, Facts(kind="classes", shape=(32, 32, 3), classes=classes, train=0, held_out=0))
    taken = next(layer for layer in other.layers if isinstance(layer, keras.Model))
    same = all(np.array_equal(a, b) for a, b in zip(base.get_weights(), taken.get_weights(), strict=True))
    learned = sum(int(np.prod(weight.shape)) for weight in other.trainable_weights)
    print(f"{trained.count_params():,} weights, {run.directory.info['seconds']:.0f} s for {epochs} epochs of 1,200")
    print("accuracy on shapes held out, epoch by epoch: " + ", ".join(f"{value:.3f}" for value in accuracies))
    print(f"given to a model of {len(classes)} classes: the same weights: {same}; {learned:,} left to learn")
    return {"best": max(accuracies), "same": float(same), "learned": float(learned)}


if __name__ == "__main__":
    main()
