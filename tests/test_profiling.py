"""The profile of a run: the learner's graph and a trace of its updates, for TensorBoard."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tensorflow as tf

from rlkit.runs import profiling
from rlkit.runs.profiling import Profiler

TRAINING = """
import json, sys
import rlkit

quick = dict(preset="none", hidden=(8,), batch_size=16, buffer_size=500, learning_starts=50, train_interval=4)
quick |= dict(eval_interval=0, run_dir=sys.argv[1])
# updates: 1 every 4 steps from step 52 on
runs = {
    "whole": rlkit.train("dqn", "CartPole-v1", loop="host", steps=400, profile=True, **quick),
    "short": rlkit.train("dqn", "CartPole-v1", loop="host", steps=120, profile=True, **quick),
    "compiled": rlkit.train("dqn", "CartPole-v1", loop="compiled", steps=400, log_interval=200, profile=True, **quick),
    "none": rlkit.train("dqn", "CartPole-v1", loop="host", steps=120, **quick),
}
print(json.dumps({name: str(run.path) for name, run in runs.items()}))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run with more updates than are traced, one with fewer, and one without a profile."""
    command = [sys.executable, "-c", TRAINING, str(tmp_path_factory.mktemp("profiled"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return {name: Path(path) for name, path in json.loads(done.stdout).items()}


def traces(run: Path) -> list[Path]:
    return list(run.glob("plugins/profile/*/*.xplane.pb"))


def graphs(run: Path) -> list[tf.compat.v1.GraphDef]:
    """The graphs among the run's TensorBoard events."""
    found = []
    for file in run.glob("events.out.*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            if event.graph_def:
                graph = tf.compat.v1.GraphDef()
                graph.ParseFromString(event.graph_def)
                found.append(graph)
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["whole", "short", "compiled"])
def test_a_profile_has_the_learners_graph(name: str, runs: dict[str, Path]) -> None:
    (graph,) = graphs(runs[name])
    operations = {node.op for node in graph.node} | {n.op for f in graph.library.function for n in f.node_def}
    assert "MatMul" in operations
    assert len(graph.node) + sum(len(f.node_def) for f in graph.library.function) > 50


@pytest.mark.parametrize(
    ("name", "part"),
    [("whole", "learn"), ("short", "learn"), ("compiled", "dot")],  # within one program, the operations have names
)
def test_a_profile_has_a_trace_of_updates(name: str, part: str, runs: dict[str, Path]) -> None:
    (trace,) = traces(runs[name])
    assert trace.stat().st_size > 10_000
    protocol = pytest.importorskip("tensorflow.tsl.profiler.protobuf.xplane_pb2")
    space = protocol.XSpace()
    space.ParseFromString(trace.read_bytes())
    events = [
        plane.event_metadata[event.metadata_id].name
        for plane in space.planes
        for line in plane.lines
        for event in line.events
    ]
    assert sum(part in event for event in events) >= 5, "calls of the learner"


def test_without_the_flag_there_is_no_profile(runs: dict[str, Path]) -> None:
    assert not (runs["none"] / "plugins").exists()
    assert traces(runs["none"]) == []


# ---- which rounds


@pytest.fixture
def traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, int]]]:
    """Profiles rounds with these numbers and stops; what was done, and before which round."""

    def run(numbers: range, stops: int = 1, **span: int) -> list[tuple[str, int]]:
        done: list[tuple[str, int]] = []
        now = [0]
        profiler_module = SimpleNamespace(
            start=lambda folder: done.append(("start", now[0])), stop=lambda: done.append(("stop", now[0]))
        )
        experimental = SimpleNamespace(experimental=profiler_module)
        fake = SimpleNamespace(summary=tf.summary, profiler=experimental)
        monkeypatch.setattr(profiling, "tf", fake)
        learn = cast("Any", tf.function(lambda x: x + 1)).get_concrete_function(tf.TensorSpec([], tf.float32))
        profiler = Profiler(tmp_path, learn.graph, **span)
        for number in numbers:
            now[0] = number
            profiler.round(number)
        now[0] = -1
        for _ in range(stops):
            profiler.stop()
        return done

    return run


Traced = Callable[..., list[tuple[str, int]]]


def test_the_trace_begins_after_a_warm_up_and_ends(traced: Traced) -> None:
    assert traced(range(100)) == [("start", 3), ("stop", 54)]
    assert traced(range(100), first=0, last=2) == [("start", 0), ("stop", 3)]


def test_a_run_that_ends_within_the_span_is_traced_to_its_end(traced: Traced) -> None:
    assert traced(range(20), stops=2) == [("start", 3), ("stop", -1)]


def test_a_run_that_ends_before_the_span_has_no_trace(traced: Traced) -> None:
    assert traced(range(3)) == []


def test_a_resumed_run_is_traced_by_its_own_rounds(traced: Traced) -> None:
    assert traced(range(5000, 5100), first=3, last=5) == [("start", 5003), ("stop", 5006)]
