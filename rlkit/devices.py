"""What TensorFlow computes on, set through tf.config before it starts."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import keras
import tensorflow as tf
from tensorflow.python.eager import context

from rlkit.config import Config
from rlkit.errors import UserError
from rlkit.files import cache, reason
from rlkit.loading import silenced

C = TypeVar("C", bound=Config)

PROGRAMS = 200
"""Compiled programs that are kept from process to process; the oldest make room."""


def configure(config: Config) -> AbstractContextManager[None]:
    """Apply a config's device fields, and give the scope to compute in.

    TensorFlow takes them once a process, as it starts. Where it has started before, or was set by the program that
    calls, it keeps its threads (`settled` tells), its way of taking memory, and what it sees if the config sees all.
    In the scope Keras and TensorFlow have their defaults; afterwards those of the program that calls.

    Raises:
        UserError: the device does not exist, or TensorFlow has started without what the config asks for.
    """
    with _programs_kept():  # TensorFlow reads its flags when it first looks for devices
        _apply(config, visible_gpus(config))
        return _scope(device_name(config.device))


@contextmanager
def _scope(device: str) -> Iterator[None]:
    """Compute on a device, with Keras' and TensorFlow's defaults for what is not said where it is used."""
    policy, floatx, order = keras.config.dtype_policy(), keras.config.floatx(), keras.config.image_data_format()
    eager, jit = tf.config.functions_run_eagerly(), tf.config.optimizer.get_jit()
    state = context.context()
    seed, state._seed = state._seed, None  # tf.data mixes the global seed into its own, and only its setter is public
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    tf.config.run_functions_eagerly(False)
    if jit:
        tf.config.optimizer.set_jit(False)
    try:
        with tf.device(device):
            yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        raise UserError(f"there is not enough memory: {reason(error)}") from error
    finally:
        state._seed = seed
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)
        keras.config.set_image_data_format(order)
        tf.config.run_functions_eagerly(eager)
        if jit:
            tf.config.optimizer.set_jit(jit)


def settled(config: C, say: Callable[[str], None]) -> C:
    """A config with the threads that TensorFlow has once it has started, which is said where they are others."""
    has = tf.config.threading.get_intra_op_parallelism_threads()
    if has == config.threads:
        return config
    text = f"{has} of one operation" if has else f"TensorFlow's choice, {threads()}"
    say(f"threads: {text}, not {config.threads}, as TensorFlow is set up once a process; some results depend on it")
    return config.replace(threads=has)


def threads() -> int:
    """How many threads an operation has, TensorFlow's own choice counted too: a core that it may use each."""
    chosen = int(tf.config.threading.get_intra_op_parallelism_threads())
    if chosen:
        return chosen
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def onednn() -> bool | None:
    """Whether TensorFlow was told to compute by oneDNN as it was loaded; None where it chose itself."""
    return {"0": False, "1": True}.get(os.environ.get("TF_ENABLE_ONEDNN_OPTS", ""))


def fast_precision() -> Literal["float32", "mixed_bfloat16"]:
    """The faster precision of the GPU that TensorFlow sees, or else of the CPU: by whether it has bfloat16."""
    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        fast = capability >= (8, 0)
    else:
        cpu = Path("/proc/cpuinfo")
        flags = cpu.read_text(encoding="utf-8") if cpu.exists() else ""
        fast = bool(re.search(r"\b(avx512_bf16|amx_bf16)\b", flags))
    return "mixed_bfloat16" if fast else "float32"


def visible_gpus(config: Config) -> list[Any]:
    """The physical GPUs that a config lets TensorFlow see.

    Raises:
        UserError: there are not so many, or they cannot be split as the config says.
    """
    gpus: list[Any] = tf.config.list_physical_devices("GPU")
    if config.visible_gpus != "all":
        numbers = [] if config.visible_gpus == "none" else [int(n) for n in config.visible_gpus.split(",")]
        if any(n >= len(gpus) for n in numbers):
            raise UserError(f"visible_gpus is {config.visible_gpus}, but TensorFlow sees {len(gpus)} GPUs")
        gpus = [gpus[n] for n in dict.fromkeys(numbers)]
    if gpus and config.logical_devices > 1 and not config.memory_limit:
        raise UserError(
            f"logical_devices is {config.logical_devices}, for which a GPU needs a memory_limit, the MB of each part"
        )
    return gpus


def _apply(config: Config, gpus: list[Any]) -> None:
    """Set what TensorFlow takes before it starts; where it has started, what it has must do."""
    if config.threads and not tf.config.threading.get_intra_op_parallelism_threads():
        with suppress(RuntimeError):  # its own choice then: that alone stops nobody
            tf.config.threading.set_intra_op_parallelism_threads(config.threads)
    if config.visible_gpus != "all":
        _demand(f"visible_gpus is {config.visible_gpus}", lambda: tf.config.set_visible_devices(gpus, "GPU"))
    parts = [tf.config.LogicalDeviceConfiguration(memory_limit=config.memory_limit)] * config.logical_devices
    for gpu in gpus:
        if config.memory_limit:
            asked = f"memory_limit is {config.memory_limit} with {config.logical_devices} logical_devices"
            _demand(asked, partial(tf.config.set_logical_device_configuration, gpu, parts))
        else:
            with suppress(RuntimeError, ValueError):  # started or split already
                tf.config.experimental.set_memory_growth(gpu, config.memory_growth)
    if not gpus and config.logical_devices > 1:
        parts = [tf.config.LogicalDeviceConfiguration()] * config.logical_devices
        cpu = tf.config.list_physical_devices("CPU")[0]
        asked = f"logical_devices is {config.logical_devices}"
        _demand(asked, lambda: tf.config.set_logical_device_configuration(cpu, parts))


def _demand(asked: str, make: Callable[[], object]) -> None:
    """Set what TensorFlow takes before it starts; UserError where it has started with something else."""
    try:
        make()
    except (RuntimeError, ValueError):
        raise UserError(
            f"{asked}, but TensorFlow has started in this process with other settings: start a new process, and train "
            "before anything else computes in it"
        ) from None


def device_name(device: str) -> str:
    """The logical device's name for a config's `device`; auto is the first GPU, else the CPU.

    Raises:
        UserError: there is no such device.
    """
    kind, _, number = device.partition(":")
    if kind == "auto":
        kind = "gpu" if tf.config.list_logical_devices("GPU") else "cpu"
    name = f"/device:{kind.upper()}:{number or 0}"
    names = [d.name for d in tf.config.list_logical_devices()]
    if name not in names:
        there = ", ".join(n.removeprefix("/device:").lower() for n in names)
        raise UserError(f"device is {device}, but TensorFlow has {there}")
    return name


def describe() -> dict[str, Any]:
    """What TensorFlow sees: physical and logical devices, GPUs' names, CUDA and XLA builds."""
    gpus = tf.config.list_physical_devices("GPU")
    return {
        "physical": [d.name.removeprefix("/physical_device:") for d in tf.config.list_physical_devices()],
        "logical": [d.name.removeprefix("/device:") for d in tf.config.list_logical_devices()],
        "gpus": [tf.config.experimental.get_device_details(g).get("device_name", "unknown") for g in gpus],
        "built_with_cuda": tf.test.is_built_with_cuda(),
    }


@contextmanager
def _programs_kept() -> Iterator[None]:
    """Let XLA keep what it compiles for the CPU in the user's cache, so that the next process starts without.

    The flag stands in the environment until TensorFlow has read it. Nothing is changed where TF_XLA_FLAGS names a
    folder, ours cannot be written, or TensorFlow would log each program that it finds there.
    """
    flags = os.environ.get("TF_XLA_FLAGS")
    folder = _programs() if silenced() and "persistent_cache" not in (flags or "") else None
    if folder is None:
        yield
        return
    os.environ["TF_XLA_FLAGS"] = f"{flags or ''} --tf_xla_persistent_cache_directory={folder}".strip()
    try:
        yield
    finally:
        if flags is None:
            del os.environ["TF_XLA_FLAGS"]
        else:
            os.environ["TF_XLA_FLAGS"] = flags


def _programs() -> Path | None:
    """The folder of the programs of this version of TensorFlow on this CPU; None where it cannot be written."""
    try:
        features = re.findall(r"^(?:model name|flags)\s*:.*", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[:2]
    except OSError:
        features = [platform.machine(), platform.processor()]
    cpu = hashlib.sha256("".join(features).encode()).hexdigest()[:12]
    folder = cache() / f"xla-{tf.__version__}-{cpu}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return None
        for stale in sorted(folder.iterdir(), key=lambda f: f.stat().st_mtime, reverse=True)[PROGRAMS:]:
            stale.unlink(missing_ok=True)
    except OSError:
        return None
    return folder
