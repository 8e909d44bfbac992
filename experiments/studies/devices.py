"""Devices: what TensorFlow sees, a CPU split in two, and how rlkit's fields set that up.

    python -m rlkit.experiments.studies.devices

TensorFlow takes these settings once a process, before it computes anything.
"""

from __future__ import annotations

import tensorflow as tf

from rlkit.config import Config
from rlkit.devices import configure, describe


def main() -> dict[str, list[str]]:
    """Set up, compute on each part, print; the physical and the logical devices, and where each result is."""
    config = Config(device="cpu", logical_devices=2, threads=1, memory_growth=True)
    with configure(config):
        logical = [device.name for device in tf.config.list_logical_devices("CPU")]
        places = []
        for name in logical:
            with tf.device(name):
                places.append((tf.ones([2, 2]) @ tf.ones([2, 2])).device)
    seen = describe()
    print("physical: " + ", ".join(seen["physical"]))
    print("a CPU as two: " + ", ".join(logical))
    print("results are on " + " and ".join(place.rpartition("/")[2] for place in places))
    print("as flags: --device cpu --logical-devices 2 --threads 1; on a GPU also --memory-growth, --memory-limit MB")
    return {"physical": list(seen["physical"]), "logical": logical, "places": places}


if __name__ == "__main__":
    main()
