"""TFRecord: a folder of images written as files of records, read, learned from, and damaged.

python -m rlkit.experiments.studies.tfrecord_files
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rlkit.api import fitting
from rlkit.data.tfrecord import reading, writing
from rlkit.supervised.datasets import SHAPES, draw_shapes


def main(images: int = 90) -> dict[str, Any]:
    """Write, read, train, damage, print; what was found."""
    with tempfile.TemporaryDirectory() as name:
        folder, file = Path(name) / "shapes", Path(name) / "shapes.tfrecord"
        pictures, labels = draw_shapes(images, 32)
        for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            path = folder / SHAPES[label] / f"{i:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tf.io.encode_jpeg(picture).numpy())
        written = writing.write(writing.open_source(folder), file, shards=3, compression="gzip")
        print(f"{written.size} records in {len(written.files)} files: {', '.join(p.name for p in written.files)}")
        first = written.parse(next(iter(written.dataset())))
        size, label, where = (first[key].numpy() for key in ("image", "label", "file"))
        print(f"the first: {where.decode()}, {len(size):,} bytes of JPEG, label {label}")
        common: dict[str, Any] = {
            "run_dir": Path(name) / "runs", "image_size": 16, "filters": (4,), "hidden": (8,), "steps": 10,
            "batch_size": 8, "threads": 1, "rotation": 10.0,
        }  # fmt: skip
        runs = [
            fitting.fit("cnn", "images", data_dir=str(folder), **common),
            fitting.fit("cnn", "tfrecord", data_file=str(file), **common),
        ]
        weights = [run.model("last").get_weights() for run in runs]
        same = all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))
        print(f"learned from the folder and from the files, the weights are equal: {same}")
        plain = writing.write(writing.open_source(folder), Path(name) / "plain.tfrecord")
        whole = plain.files[0].read_bytes()
        plain.files[0].write_bytes(whole[: len(whole) // 2])
        damage = reading.first_damage(plain)
        assert damage is not None
        print(f"cut in the middle: record {damage.number} is damaged ({damage.reason})")
    return {"records": written.size, "same": same, "damaged": damage.number}


if __name__ == "__main__":
    main()
