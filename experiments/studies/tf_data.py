"""Input pipelines: order and randomness by seed, the middle of an epoch, and images turned, moved and scaled.

    python -m rlkit.experiments.studies.tf_data [--picture FILE]

How much time parallel reading and prefetching save is measured by `python -m rlkit.experiments.benchmarks.tf_data`.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import tensorflow as tf

from rlkit.supervised import datasets
from rlkit.supervised.config import MLPConfig
from rlkit.supervised.pipeline import Pipeline, Source, augmentation

NUMBERS = 20


def batches(config: MLPConfig, step: int, count: int) -> list[list[int]]:
    """Some batches of the numbers below 20 from a step on."""
    source = Source(tf.data.Dataset.range(NUMBERS), NUMBERS, collect=lambda x: (x, x))
    stream = Pipeline(source, config).stream(step)
    return [x.numpy().tolist() for x, _ in itertools.islice(stream, count)]


def augmented() -> tuple[np.ndarray, np.ndarray]:
    """Twelve real digits, and as they come turned by up to 25 degrees, moved and scaled; [12, 8, 8, 1] each."""
    config = MLPConfig(data="digits", batch_size=12, shuffle=0, rotation=25, shift=0.1, zoom=0.2)
    source = datasets.load(config, print).train
    plain, _ = next(iter(Pipeline(source, config).stream(0)))
    changed, _ = next(iter(Pipeline(source, config, augmentation(config)).stream(0)))
    return plain.numpy(), changed.numpy()


def draw(plain: np.ndarray, changed: np.ndarray, path: Path) -> None:
    """Both, one row above the other."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only those who draw wait for it

    drawn = Figure(figsize=(9, 1.9), dpi=100, layout="constrained")
    panels = drawn.subplots(2, len(plain))
    for row, images in zip(panels, (plain, changed), strict=True):
        for panel, image in zip(row, images, strict=True):
            panel.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1)
            panel.set_axis_off()
    drawn.savefig(path)


def main(picture: Path | None = None) -> dict[str, bool]:
    """Show and print; what held."""
    config = MLPConfig(batch_size=6)
    first, again = batches(config, 0, 6), batches(config, 0, 6)
    other = batches(config.replace(seed=1), 0, 6)
    middle = batches(config, 2, 4)
    for i, batch in enumerate(first):
        print(f"epoch {i // 3}, batch {i % 3}: {batch}")
    plain, changed = augmented()
    found = {
        "the same seed gives the same batches": first == again,
        "another seed gives others": first != other,
        "from the third batch on, they are those that follow": middle == first[2:],
        "no number comes twice in an epoch": all(len(set(itertools.chain(*first[i : i + 3]))) == 18 for i in (0, 3)),
        "a turned digit is another picture": bool(np.abs(plain - changed).max() > 0.1),
    }
    for sentence, held in found.items():
        print(f"{sentence}: {held}")
    if picture is not None:
        draw(plain, changed, picture)
        print(picture)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, help="draw the digits into this file")
    main(parser.parse_args().picture)
