"""Seconds to learn once from 2,000 JPEGs, with the input pipeline's settings switched on one by one, in turn.

    python -m rlkit.experiments.benchmarks.tf_data [--rounds 5] [--images 2000] [--picture FILE]

The images are drawn, 384 x 384 pixels, written as JPEG, and read, decoded and shrunk to 64 x 64 by the pipeline; a
small convolutional network learns from each batch of 50, an operation a thread. Plain: one image after another, and
each batch only when the model asks for it. With `cache`, later epochs decode nothing; it is timed on its second.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf

from rlkit.api.configuration import resolve_fit
from rlkit.devices import configure
from rlkit.experiments.benchmarks._measuring import Contestant, alternate, print_machine, table
from rlkit.runs.checkpoint import Checkpointer
from rlkit.supervised import datasets, models
from rlkit.supervised.datasets import SHAPES, draw_shapes
from rlkit.supervised.pipeline import Pipeline
from rlkit.supervised.training import FitLoop, Supervised

SETTINGS = {
    "plain": {"parallel": False, "prefetch": False},
    "prefetch": {"parallel": False, "prefetch": True},
    "parallel map": {"parallel": True, "prefetch": False},
    "both": {"parallel": True, "prefetch": True},
    "both and cache": {"parallel": True, "prefetch": True, "cache": "memory"},
}
"""The pipeline's fields of each contestant."""


def write_images(folder: Path, count: int) -> None:
    """JPEGs in a folder a class."""
    pictures, labels = draw_shapes(count, 384)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        path = folder / SHAPES[label] / f"{i:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_jpeg(picture, quality=92).numpy())


def learner(folder: Path, settings: dict[str, object]) -> FitLoop:
    """A loop that has learned from everything once: traced, compiled, and the cache filled."""
    fields = {
        **settings, "data_dir": str(folder), "holdout": 0, "threads": 1, "filters": (8, 8), "kernel_size": 3,
        "hidden": (16,), "steps": 10**6, "log_interval": 10**6, "eval_interval": 10**6, "checkpoint_interval": 10**6,
    }  # fmt: skip
    config, _ = resolve_fit("cnn", "images", fields=fields)
    data = datasets.load(config, print)
    for name, value in settings.items():
        if getattr(config, name) != value:
            raise RuntimeError(f"{name} of the pipeline is {getattr(config, name)}, expected {value}")
    trainee = Supervised(config, models.build(config, data.facts), data.facts)
    loop = FitLoop(trainee, Pipeline(data.train, config), dict, Checkpointer(folder / "none", trainee))
    epoch(loop)
    return loop


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--picture", type=Path, help="Draw the seconds into this file.")
    chosen = parser.parse_args()
    print_machine()
    config, _ = resolve_fit("cnn", "images", fields={"threads": 1})
    with tempfile.TemporaryDirectory() as name, configure(config):
        folder = Path(name) / "images"
        write_images(folder, chosen.images)
        timed = [
            Contestant(name, lambda settings=settings: learner(folder, settings), epoch)  # type: ignore[misc]
            for name, settings in SETTINGS.items()
        ]
        alternate(timed, chosen.rounds)
        print(f"\ntwo threads that only decode do {speed_up(folder):.2f} times the work of one on this machine")
    plain = timed[0]
    rows = []
    for c in timed:
        ratio = statistics.median(a / b for a, b in zip(plain.seconds, c.seconds, strict=True))
        rows.append((c.name, f"{c.median:.2f}", f"{min(c.seconds):.2f} to {max(c.seconds):.2f}", f"{ratio:.2f}x"))
    table(f"{chosen.images:,} JPEGs, one epoch, {chosen.rounds} rounds", ("settings", "s", "from, to", "gain"), rows)
    if chosen.picture:
        draw(timed, chosen.images, chosen.picture)


def speed_up(folder: Path, count: int = 300) -> float:
    """How much more two threads decode than one at the same time: what two cores can give at most."""
    encoded = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))[:count]]

    def decode(_: int = 0) -> None:
        for image in encoded:
            tf.io.decode_jpeg(image)

    with ThreadPoolExecutor(2) as pool:
        ratios = []
        for _ in range(5):
            begun = time.perf_counter()
            decode()
            alone = time.perf_counter() - begun
            list(pool.map(decode, range(2)))
            ratios.append(2 * alone / (time.perf_counter() - begun - alone))
    return statistics.median(ratios)


def epoch(loop: object) -> None:
    """Learn once from every image, by an iterator that ends then: one that lived on would prepare batches meanwhile."""
    assert isinstance(loop, FitLoop)
    assert loop.programs
    loop.programs.advance(iter(loop.pipeline.stream(0)), tf.constant(loop.pipeline.batches, tf.int64))


def draw(timed: list[Contestant], images: int, path: Path) -> None:
    """Bars of the median seconds."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(7, 2.6), dpi=110, layout="constrained")
    panel = drawn.subplots()
    names = [c.name for c in timed][::-1]
    seconds = [c.median for c in timed][::-1]
    bars = panel.barh(names, seconds, color="#0072b2", height=0.6)
    panel.bar_label(bars, [f"{value:.2f} s, {seconds[-1] / value:.2f}x" for value in seconds], padding=4, fontsize=9)
    panel.set_xlim(0, 1.22 * max(seconds))
    panel.set_xlabel(f"seconds to learn once from {images:,} JPEGs, two cores")
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path)


if __name__ == "__main__":
    main()
