"""A multilayer perceptron on real digits: Keras' three styles, and three loops, of one model.

python -m rlkit.experiments.studies.mlp
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from rlkit.api import fitting

STYLES = ("functional", "sequential", "subclass")
LOOPS = ("compiled", "eager", "keras")


def main(epochs: int = 5) -> dict[str, float]:
    """Train, print and return the accuracy of each style and loop; the last weights differ by rounding at most."""
    found, weights = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for style, loop in [*((style, "compiled") for style in STYLES), *(("functional", loop) for loop in LOOPS[1:])]:
            run = fitting.fit("mlp", "digits", run_dir=Path(folder), epochs=epochs, style=style, loop=loop, threads=1)
            name = f"{style}, {loop}"
            found[name] = run.evaluate("last")["accuracy"]
            weights.append(run.model("last").get_weights())
            print(f"{name:<22} accuracy {found[name]:.4f} after {run.directory.info['seconds']:.1f} s")
    found["difference"] = max(
        float(np.abs(a - b).max()) for other in weights[1:] for a, b in zip(weights[0], other, strict=True)
    )
    print(f"largest difference of a weight: {found['difference']:.1e}")
    return found


if __name__ == "__main__":
    main()
