"""The learner's graph and a trace of some updates, as TensorBoard shows them."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf


class Profiler:
    """Writes the graph at once, and a trace of the rounds of updates from `first` to `last`.

    Args:
        directory: TensorBoard's log folder.
        graph: of the program that learns.
        first: round of this process before which the trace starts; the ones before it warm up.
        last: round after which it stops.
    """

    def __init__(self, directory: Path, graph: tf.Graph, first: int = 3, last: int = 53) -> None:
        self.directory, self.first, self.last = directory, first, last
        self._rounds, self._tracing = 0, False
        with tf.summary.create_file_writer(str(directory)).as_default():
            tf.summary.graph(graph)

    def round(self, number: int) -> None:
        """Call before each round of updates; they are counted here, as a resumed run's numbers go on."""
        del number
        if self._rounds == self.first:
            tf.profiler.experimental.start(str(self.directory))
            self._tracing = True
        elif self._rounds > self.last:
            self.stop()
        self._rounds += 1

    def stop(self) -> None:
        """Write the trace, if one is being taken."""
        if self._tracing:
            self._tracing = False
            tf.profiler.experimental.stop()
