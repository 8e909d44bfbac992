"""What a run writes for TensorBoard: scalars, the graph, a profile; read back.

python -m rlkit.experiments.studies.tensorboard
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import tensorflow as tf

from rlkit.api import fitting


def main(folder: Path | None = None) -> dict[str, int]:
    """Train with a profile, read the events, print; how many values each tag has, and of graphs and traces."""
    with tempfile.TemporaryDirectory() as name:
        run = fitting.fit(
            "mlp", "digits", run_dir=folder or Path(name), epochs=4, log_interval=14, eval_interval=28, profile=True,
            threads=1,
        )  # fmt: skip
        found: Counter[str] = Counter()
        for file in sorted(run.path.glob("events.out.tfevents*")):
            for event in tf.compat.v1.train.summary_iterator(str(file)):
                found["graph"] += bool(event.graph_def)
                found.update(value.tag for value in event.summary.value)
        found["profile"] = len(list(run.path.rglob("*.xplane.pb")))
    for tag, count in sorted(found.items()):
        print(f"{tag:<22} {count}")
    print("to see them: tensorboard --logdir runs")
    return dict(found)


if __name__ == "__main__":
    main()
