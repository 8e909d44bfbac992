"""Devices and threads, in processes of their own where TensorFlow takes them: it does so once a process."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from rlkit import devices
from rlkit.config import TrainConfig
from rlkit.errors import UserError

PRELUDE = """
import json, sys
import tensorflow as tf
from rlkit.config import TrainConfig
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


def process(code: str) -> dict[str, Any]:
    """What code that fills `told` has told, run where there is no GPU."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", PRELUDE + code + "\nprint(json.dumps(told))"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
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
    started = "TensorFlow has started in this process with other settings of {}: start a new process"
    assert told["again"] == [
        None,
        *(started.format(n) for n in ("threads", "logical_devices", "logical_devices, threads")),
    ]
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
    assert told["two devices"].startswith("TensorFlow has started in this process before rlkit could set it up (")
    assert told["one thread"] is None  # it keeps its own number of threads, and that stops nobody


# ---- GPUs, simulated


class Simulated:
    """A TensorFlow that has some GPUs, and writes down what is asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.gpus = [SimpleNamespace(name=f"/physical_device:GPU:{n}") for n in range(gpus)]
        self.cpu = SimpleNamespace(name="/physical_device:CPU:0")
        physical = {"GPU": self.gpus, "CPU": [self.cpu], None: [self.cpu, *self.gpus]}
        names = {"GPU": [f"/device:GPU:{n}" for n in range(gpus)], "CPU": ["/device:CPU:0"]}
        names[None] = names["CPU"] + names["GPU"]  # type: ignore[index]
        config = SimpleNamespace(
            list_physical_devices=lambda kind=None: physical[kind],
            list_logical_devices=lambda kind=None: [SimpleNamespace(name=name) for name in names[kind]],
            set_visible_devices=lambda found, kind: self.calls.append(("visible", kind, [d.name[-5:] for d in found])),
            LogicalDeviceConfiguration=lambda memory_limit=None: memory_limit,
            set_logical_device_configuration=lambda d, parts: self.calls.append(("split", d.name[-5:], parts)),
            threading=SimpleNamespace(
                set_intra_op_parallelism_threads=lambda number: self.calls.append(("threads", number))
            ),
            experimental=SimpleNamespace(
                set_memory_growth=lambda d, grow: self.calls.append(("growth", d.name[-5:], grow)),
                get_device_details=lambda d: {"device_name": f"Simulated {d.name[-1]}"},
            ),
        )
        test = SimpleNamespace(is_built_with_cuda=lambda: True)
        simulated = SimpleNamespace(config=config, test=test, device=lambda name: ("scope", name))
        monkeypatch.setattr(devices, "tf", simulated)
        monkeypatch.setattr(devices, "_configured", {})
        monkeypatch.setattr(devices, "keep_programs", lambda: None)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    return Simulated(monkeypatch, 2)


def configure(**fields: Any) -> object:
    return devices.configure(TrainConfig(**fields))


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
    assert configure(device=device) == ("scope", f"/device:{name}")


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Simulated(monkeypatch, 0)
    assert configure() == ("scope", "/device:CPU:0")
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
    "fields",
    [{"visible_gpus": "0"}, {"memory_growth": False}, {"memory_limit": 9}, {"threads": 2}],
    ids=lambda fields: next(iter(fields)),
)
def test_a_second_run_with_other_settings_is_refused(fields: dict[str, Any], two: Simulated) -> None:
    configure()
    with pytest.raises(UserError, match=rf"with other settings of {next(iter(fields))}: start a new process$"):
        configure(**fields)
    configure(device="cpu")


def test_describe_names_the_gpus(two: Simulated) -> None:
    assert devices.describe() == {
        "physical": ["CPU:0", "GPU:0", "GPU:1"],
        "logical": ["CPU:0", "GPU:0", "GPU:1"],
        "gpus": ["Simulated 0", "Simulated 1"],
        "built_with_cuda": True,
    }


def test_compiled_programs_are_kept_from_process_to_process(tmp_path: Any) -> None:
    code = """
configure(TrainConfig())
import os
program = tf.function(lambda x: tf.tanh(x @ x), jit_compile=True)
told["value"] = program(tf.eye(3) / 2).numpy().tolist()
told["flags"] = os.environ["TF_XLA_FLAGS"]
"""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "TF_XLA_FLAGS": ""}
    command = [sys.executable, "-c", PRELUDE + code + "\nprint(json.dumps(told))"]

    def ask(**others: str) -> dict[str, Any]:
        env = {**environment, **others}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def kept() -> dict[str, int]:
        return {f.name: f.stat().st_mtime_ns for f in (tmp_path / "rlkit").glob(f"xla-{tf.__version__}-*/*")}

    first, programs = ask(), kept()
    assert len(programs) == 1
    assert ask() == first
    own = f"--tf_xla_persistent_cache_directory={tmp_path / 'own'}"
    assert ask(TF_XLA_FLAGS=own)["flags"] == own
    assert kept() == programs, "it was loaded, not made again"


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
