"""What TensorFlow computes on, set through tf.config before it starts."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf

from rlkit.config import Config
from rlkit.errors import UserError
from rlkit.files import cache

_configured: dict[str, object] = {}

PROGRAMS = 200
"""Compiled programs that are kept from process to process; the oldest make room."""


def configure(config: Config) -> AbstractContextManager[Any]:
    """Apply a config's device fields, and give the scope to compute in.

    TensorFlow takes them once a process: a second run in the same process must agree with the first.

    Raises:
        UserError: the device does not exist, or TensorFlow has started with other settings.
    """
    if not _configured:
        keep_programs()  # TensorFlow reads its flags when it first looks for devices
    gpus = visible_gpus(config)
    fields = ["logical_devices", "threads"]
    if tf.config.list_physical_devices("GPU"):
        fields += ["visible_gpus", "memory_growth", "memory_limit"]
    wanted: dict[str, object] = {name: getattr(config, name) for name in fields}
    different = [name for name in fields if _configured.get(name, wanted[name]) != wanted[name]]
    if different:
        raise UserError(
            f"TensorFlow has started in this process with other settings of {', '.join(different)}: start a new process"
        )
    if not _configured:
        try:
            _apply(config, gpus)
        except RuntimeError as error:
            raise UserError(
                f"TensorFlow has started in this process before rlkit could set it up ({str(error).rstrip('.')}): "
                "start a new process, and train before anything else computes in it"
            ) from None
        _configured.update(wanted)
    scope: AbstractContextManager[Any] = tf.device(device_name(config.device))
    return scope


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
    if config.threads:
        with suppress(RuntimeError):  # TensorFlow has started and keeps its threads: that alone stops nobody
            tf.config.threading.set_intra_op_parallelism_threads(config.threads)
    if config.visible_gpus != "all":
        tf.config.set_visible_devices(gpus, "GPU")
    for gpu in gpus:
        if config.memory_limit:
            split = [tf.config.LogicalDeviceConfiguration(memory_limit=config.memory_limit)] * config.logical_devices
            tf.config.set_logical_device_configuration(gpu, split)
        else:
            tf.config.experimental.set_memory_growth(gpu, config.memory_growth)
    if not gpus and config.logical_devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        split = [tf.config.LogicalDeviceConfiguration()] * config.logical_devices
        tf.config.set_logical_device_configuration(cpu, split)


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


def keep_programs() -> None:
    """Let XLA keep what it compiles for the CPU in the user's cache, so that the next process starts without.

    Programs belong to a version of TensorFlow and to a CPU, each of which has a folder of its own. Where the folder
    cannot be written, or TF_XLA_FLAGS names another one, nothing is changed.
    """
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if "persistent_cache" in flags:
        return
    try:
        features = re.findall(r"^(?:model name|flags)\s*:.*", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[:2]
    except OSError:
        features = [platform.machine(), platform.processor()]
    cpu = hashlib.sha256("".join(features).encode()).hexdigest()[:12]
    folder = cache() / f"xla-{tf.__version__}-{cpu}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return
        for stale in sorted(folder.iterdir(), key=lambda f: f.stat().st_mtime, reverse=True)[PROGRAMS:]:
            stale.unlink(missing_ok=True)
    except OSError:
        return
    os.environ["TF_XLA_FLAGS"] = f"{flags} --tf_xla_persistent_cache_directory={folder}".strip()
