"""Devices and threads, in processes of their own where TensorFlow takes them: it does so once a process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from rlkit import devices
from rlkit.errors import UserError
from rlkit.learning.config import TrainConfig

PRELUDE = """
import json, sys
import tensorflow as tf
from rlkit.learning.config import TrainConfig
from rlkit.devices import configure, describe
from rlkit.errors import UserError

def refused(**fields):
    try:
        configure(TrainConfig(**fields))
    except UserError as error:
        return str(error)
    return None

told = {}
"""

STARTED = (
    ", but TensorFlow has started in this process with other settings: start a new process, and train before anything "
    "else computes in it"
)


def process(code: str) -> dict[str, Any]:
    """What code that fills `told` has told, run where there is no GPU."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", PRELUDE + code + "\nprint(json.dumps(told))"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


ONEDNN = """
import json
from {first} import {name}
import rlkit
from rlkit.devices import onednn
from tensorflow.python.util import _pywrap_util_port
print(json.dumps([onednn(), _pywrap_util_port.IsMklEnabled()]))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="TensorFlow's own choice elsewhere")
@pytest.mark.parametrize(
    ("first", "given", "told"),
    [("rlkit", None, True), ("rlkit", "0", False), ("rlkit", "1", True), ("tensorflow", None, None)],
)
def test_tensorflow_computes_by_onednn_where_nobody_chose(first: str, given: str | None, told: bool | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    if given is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = given
    code = ONEDNN.format(first=first, name="cli" if first == "rlkit" else "version")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, timeout=120
    )
    said, enabled = json.loads(done.stdout)
    assert said is told
    if told is not None:
        assert enabled is told, "TensorFlow has taken it"


def test_threads_logical_devices_and_the_scope_take_effect_once_a_process() -> None:
    told = process("""
config = dict(threads=2, logical_devices=2)
told["missing"] = [refused(visible_gpus="0"), refused(visible_gpus="none", device="tpu")]
with configure(TrainConfig(**config, device="cpu:1")):
    told["computed"] = tf.random.stateless_uniform([2], [0, 0]).device
told["threads"] = tf.config.threading.get_intra_op_parallelism_threads()
told["logical"] = [d.name for d in tf.config.list_logical_devices()]
with configure(TrainConfig(**config, visible_gpus="none", memory_growth=False, memory_limit=100)):
    told["default"] = tf.constant(1.0).device
told["again"] = [refused(**config), refused(logical_devices=2), refused(threads=2), refused()]
told["more"] = refused(logical_devices=3)
told["devices"] = [refused(**config, device=name) for name in ("gpu", "cpu:7", "gpu:1", "cpu:0", "auto")]
told["describe"] = describe()
""")
    assert told["missing"] == [
        "visible_gpus is 0, but TensorFlow sees 0 GPUs",
        "device is 'tpu', expected auto, cpu, gpu or one by number such as gpu:1",
    ]
    assert told["threads"] == 2
    assert told["logical"] == ["/device:CPU:0", "/device:CPU:1"]
    assert told["computed"].endswith("/device:CPU:1")
    assert told["default"].endswith("/device:CPU:0"), "where there is no GPU, its settings do not matter"
    assert told["again"] == [None, None, None, None], "what it has holds what is asked for, or it keeps its threads"
    assert told["more"] == "logical_devices is 3" + STARTED
    there = "but TensorFlow has cpu:0, cpu:1"
    assert told["devices"] == [
        f"device is gpu, {there}", f"device is cpu:7, {there}", f"device is gpu:1, {there}", None, None,
    ]  # fmt: skip
    assert told["describe"] == {
        "physical": ["CPU:0"],
        "logical": ["CPU:0", "CPU:1"],
        "gpus": [],
        "built_with_cuda": tf.test.is_built_with_cuda(),
    }


def test_where_tensorflow_computes_already_its_devices_stay_as_they_are() -> None:
    told = process("""
tf.constant(1.0)
told["two devices"] = refused(logical_devices=2)
told["one thread"] = refused(threads=1)
""")
    assert told["two devices"] == "logical_devices is 2" + STARTED
    assert told["one thread"] is None  # it keeps its own number of threads, and that stops nobody


def test_train_and_fit_follow_each_other_and_say_and_record_the_threads_that_are_there(tmp_path: Path) -> None:
    told = process(f"""
import json, tomllib
import rlkit
said = []
def go(kind, **fields):
    if kind == "train":
        run = rlkit.train("dqn", "CartPole-v1", steps=60, run_dir={str(tmp_path)!r}, preset="none", say=said.append,
            learning_starts=30, hidden=(4,), eval_interval=0, loop="host", jit=False, **fields)
    else:
        run = rlkit.fit("linear", "digits", steps=3, run_dir={str(tmp_path)!r}, say=said.append, **fields)
    info = json.loads((run.path / "run.json").read_text())
    return [run.status, info["threads"], tomllib.loads((run.path / "config.toml").read_text())["threads"]]

told["train"], told["fit"], told["train on"] = go("train"), go("fit"), go("train", threads=3)
told["said"] = [line for line in said if line.startswith("threads")]
""")
    assert told["train"] == told["fit"] == told["train on"] == ["finished", 1, 1]
    why = "as TensorFlow is set up once a process; some results depend on it"
    assert told["said"] == [f"threads: 1 of one operation, not {n}, {why}" for n in (0, 3)]


def test_after_fit_or_the_callers_own_tensorflow_its_choice_of_threads_is_recorded(tmp_path: Path) -> None:
    told = process(f"""
import json, os
import rlkit
tf.constant(1.0)
said = []
run = rlkit.train("dqn", "CartPole-v1", steps=60, run_dir={str(tmp_path)!r}, preset="none", say=said.append,
    learning_starts=30, hidden=(4,), eval_interval=0, loop="host", jit=False)
told["run"] = [run.config.threads, json.loads((run.path / "run.json").read_text())["threads"]]
told["cores"] = len(os.sched_getaffinity(0))
told["said"] = said[0]
run.directory.update(threads=told["cores"] + 1, onednn=None)
said.clear()
rlkit.resume(run.path, steps=90, say=said.append)
told["resumed"] = [line for line in said if "bit for bit" in line]
""")
    cores = told["cores"]
    assert told["run"] == [0, cores]
    assert told["said"].startswith(f"threads: TensorFlow's choice, {cores}, not 1, ")
    assert told["resumed"] == [f"threads {cores + 1} is now {cores}: the run may not go on bit for bit"]


def test_the_callers_tensorflow_is_as_it_was_and_does_not_change_a_run(tmp_path: Path) -> None:
    told = process(f"""
import os, random
import keras, numpy as np
import rlkit
def state():
    return [keras.config.dtype_policy().name, keras.config.floatx(), keras.config.image_data_format(),
        tf.config.functions_run_eagerly(), tf.config.optimizer.get_jit(), dict(os.environ), random.getstate(),
        np.random.get_state()[1].tolist(), tf.random.uniform([2], seed=1).numpy().tolist()]
def train():
    run = rlkit.train("dqn", "CartPole-v1", steps=60, run_dir={str(tmp_path)!r}, preset="none", eval_interval=0,
        learning_starts=30, hidden=(4,), loop="host", jit=False)
    fitted = rlkit.fit("mlp", "digits", steps=3, hidden=(4,), run_dir={str(tmp_path)!r})
    agent, _ = run.agent("last")
    return [w.numpy().tolist() for w in [*agent.q.weights, *fitted.model("last").weights]]
plain = train()
os.environ.pop("PYGAME_HIDE_SUPPORT_PROMPT", None)
keras.config.set_floatx("float64"); keras.config.set_dtype_policy("mixed_float16")
keras.config.set_image_data_format("channels_first")
tf.config.run_functions_eagerly(True); tf.config.optimizer.set_jit("autoclustering")
tf.random.set_seed(5)
before = state()
tf.random.set_seed(5)
told["same"] = train() == plain
after = state()
told["changed"] = [i for i, (a, b) in enumerate(zip(before, after)) if a != b]
""")
    assert told["same"], "the caller's policy and precision are not the run's"
    assert told["changed"] == []


# ---- GPUs, simulated


class Simulated:
    """A TensorFlow that has some GPUs, and writes down what is asked of it; started, it takes nothing new."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.threads, self.started, self.entered = 0, False, ""
        self.gpus = [SimpleNamespace(name=f"/physical_device:GPU:{n}") for n in range(gpus)]
        self.cpu = SimpleNamespace(name="/physical_device:CPU:0")
        physical = {"GPU": self.gpus, "CPU": [self.cpu], None: [self.cpu, *self.gpus]}
        self.names = {"GPU": [f"/device:GPU:{n}" for n in range(gpus)], "CPU": ["/device:CPU:0"]}
        config = SimpleNamespace(
            list_physical_devices=lambda kind=None: physical[kind],
            list_logical_devices=self.logical,
            set_visible_devices=lambda found, kind: self.set("visible", kind, [d.name[-5:] for d in found]),
            LogicalDeviceConfiguration=lambda memory_limit=None: memory_limit,
            set_logical_device_configuration=lambda d, parts: self.set("split", d.name[-5:], parts),
            threading=SimpleNamespace(
                set_intra_op_parallelism_threads=self.set_threads,
                get_intra_op_parallelism_threads=lambda: self.threads,
            ),
            experimental=SimpleNamespace(
                set_memory_growth=lambda d, grow: self.set("growth", d.name[-5:], grow),
                get_device_details=lambda d: {"device_name": f"Simulated {d.name[-1]}"},
            ),
            functions_run_eagerly=lambda: False,
            run_functions_eagerly=lambda _: None,
            optimizer=SimpleNamespace(get_jit=lambda: ""),
        )
        test = SimpleNamespace(is_built_with_cuda=lambda: True)
        simulated = SimpleNamespace(config=config, test=test, device=self.device)
        monkeypatch.setattr(devices, "tf", simulated)
        monkeypatch.setattr(devices, "silenced", lambda: False)

    def set(self, *call: object) -> None:
        """As TensorFlow: what it has may be asked for again, but nothing else once it has started."""
        if call in self.calls:
            return
        if self.started:
            raise RuntimeError(f"{call[0]} cannot be modified after being initialized")
        self.calls.append(call)

    def set_threads(self, number: int) -> None:
        self.set("threads", number)
        self.threads = number

    def logical(self, kind: str | None = None) -> list[SimpleNamespace]:
        self.started = True
        return [SimpleNamespace(name=n) for n in (self.names[kind] if kind else self.names["CPU"] + self.names["GPU"])]

    def device(self, name: str) -> AbstractContextManager[None]:
        self.entered = name
        return nullcontext()


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    return Simulated(monkeypatch, 2)


def configure(**fields: Any) -> None:
    with devices.configure(TrainConfig(**fields)):
        pass


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        ({}, [("threads", 1), ("growth", "GPU:0", True), ("growth", "GPU:1", True)]),
        (
            {"threads": 3, "memory_growth": False},
            [("threads", 3), ("growth", "GPU:0", False), ("growth", "GPU:1", False)],
        ),
        (
            {"threads": 0, "memory_limit": 1024},
            [("split", "GPU:0", [1024]), ("split", "GPU:1", [1024])],
        ),
        (
            {"memory_limit": 512, "logical_devices": 3, "visible_gpus": "1"},
            [("threads", 1), ("visible", "GPU", ["GPU:1"]), ("split", "GPU:1", [512, 512, 512])],
        ),
        (
            {"visible_gpus": "1,0,1"},
            [
                ("threads", 1),
                ("visible", "GPU", ["GPU:1", "GPU:0"]),
                ("growth", "GPU:1", True),
                ("growth", "GPU:0", True),
            ],
        ),
        (
            {"visible_gpus": "none", "logical_devices": 2},
            [("threads", 1), ("visible", "GPU", []), ("split", "CPU:0", [None, None])],
        ),
    ],
    ids=str,
)
def test_fields_become_calls_before_tensorflow_starts(
    fields: dict[str, Any], calls: list[tuple[object, ...]], two: Simulated
) -> None:
    configure(**fields)
    assert two.calls == calls
    configure(**fields)
    assert two.calls == calls, "the second run finds them set"


@pytest.mark.parametrize(
    ("device", "name"),
    [("auto", "GPU:0"), ("gpu", "GPU:0"), ("gpu:1", "GPU:1"), ("cpu", "CPU:0"), ("cpu:0", "CPU:0")],
)
def test_a_device_is_named_by_its_number(device: str, name: str, two: Simulated) -> None:
    configure(device=device)
    assert two.entered == f"/device:{name}"


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Simulated(monkeypatch, 0)
    configure()
    assert simulated.entered == "/device:CPU:0"
    assert simulated.calls == [("threads", 1)]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"device": "gpu:2"}, r"device is gpu:2, but TensorFlow has cpu:0, gpu:0, gpu:1$"),
        ({"visible_gpus": "2"}, r"visible_gpus is 2, but TensorFlow sees 2 GPUs$"),
        ({"visible_gpus": "0,5"}, r"visible_gpus is 0,5, but TensorFlow sees 2 GPUs$"),
        ({"logical_devices": 2}, r"logical_devices is 2, for which a GPU needs a memory_limit, the MB of each part$"),
    ],
)
def test_what_the_gpus_cannot_do_is_refused(fields: dict[str, Any], told: str, two: Simulated) -> None:
    with pytest.raises(UserError, match=told):
        configure(**fields)


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"visible_gpus": "0"}, "visible_gpus is 0"),
        ({"memory_limit": 9}, "memory_limit is 9 with 1 logical_devices"),
    ],
    ids=["visible_gpus", "memory_limit"],
)
def test_what_a_started_tensorflow_cannot_give_is_refused(fields: dict[str, Any], asked: str, two: Simulated) -> None:
    configure()
    with pytest.raises(UserError) as refused:
        configure(**fields)
    assert str(refused.value) == asked + STARTED
    configure(device="cpu")


@pytest.mark.parametrize("fields", [{"memory_growth": False}, {"threads": 2}], ids=["memory_growth", "threads"])
def test_a_started_tensorflow_keeps_its_threads_and_its_way_of_taking_memory(
    fields: dict[str, Any], two: Simulated
) -> None:
    configure()
    calls = list(two.calls)
    configure(**fields)
    assert two.calls == calls
    assert devices.threads() == 1


def test_threads_that_the_caller_has_set_stay(two: Simulated) -> None:
    two.threads = 2
    configure()
    said: list[str] = []
    assert devices.settled(TrainConfig(), said.append).threads == 2
    assert said == [
        "threads: 2 of one operation, not 1, as TensorFlow is set up once a process; some results depend on it"
    ]


def test_describe_names_the_gpus(two: Simulated) -> None:
    assert devices.describe() == {
        "physical": ["CPU:0", "GPU:0", "GPU:1"],
        "logical": ["CPU:0", "GPU:0", "GPU:1"],
        "gpus": ["Simulated 0", "Simulated 1"],
        "built_with_cuda": True,
    }


KEPT = """
import os
{first}
from rlkit.learning.config import TrainConfig
import rlkit
rlkit.train
import json, tensorflow as tf
from rlkit.devices import configure
told = dict(level=os.environ.get("TF_CPP_MIN_LOG_LEVEL"))
with configure(TrainConfig()):
    program = tf.function(lambda x: tf.tanh(x @ x), jit_compile=True)
    told["value"] = program(tf.eye(3) / 2).numpy().tolist()
told["flags"] = os.environ.get("TF_XLA_FLAGS")
print(json.dumps(told))
"""


def test_compiled_programs_are_kept_from_process_to_process_without_a_word(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    for name in ("TF_XLA_FLAGS", "TF_CPP_MIN_LOG_LEVEL"):
        environment.pop(name, None)

    def ask(first: str = "", **others: str) -> tuple[dict[str, Any], str]:
        done = subprocess.run(
            [sys.executable, "-c", KEPT.format(first=first)],
            capture_output=True, text=True, check=True, env={**environment, **others},
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1]), done.stderr

    def kept() -> dict[str, int]:
        return {f.name: f.stat().st_mtime_ns for f in (tmp_path / "rlkit").glob(f"xla-{tf.__version__}-*/*")}

    (first, _), programs = ask(), kept()
    assert len(programs) == 1
    assert first["flags"] is first["level"] is None, "the caller's environment is as it was"
    again, said = ask()
    assert again == first
    assert said == "", "nothing on stderr"
    assert kept() == programs, "it was loaded, not made again"
    own = f"--tf_xla_persistent_cache_directory={tmp_path / 'own'}"
    assert ask(TF_XLA_FLAGS=own)[0]["flags"] == own
    assert "text-format" not in ask("import tensorflow")[1], "a TensorFlow that logs would log each program"
    assert kept() == programs


@pytest.mark.parametrize(
    ("flags", "capability", "expected"),
    [
        ("flags : avx2 avx512f avx512_bf16 fma", None, "mixed_bfloat16"),
        ("flags : avx2 amx_bf16", None, "mixed_bfloat16"),
        ("flags : avx2 avx512f fma", None, "float32"),
        ("flags : avx512_bf16", (7, 5), "float32"),  # the GPU computes
        ("flags : avx2", (9, 0), "mixed_bfloat16"),
    ],
)
def test_precision_is_the_fast_one_of_what_computes(
    flags: str, capability: tuple[int, int] | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus = [] if capability is None else ["gpu"]
    cpu = SimpleNamespace(exists=lambda: True, read_text=lambda encoding: flags)
    monkeypatch.setattr(devices, "Path", lambda _: cpu)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: gpus)
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: details)
    assert devices.fast_precision() == expected
