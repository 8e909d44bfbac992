"""rlkit doctor: versions, devices, optional parts."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.util import find_spec

import click

from rlkit.cli.common import json_option, print_json
from rlkit.errors import install
from rlkit.loading import loading

OPTIONAL = {
    "pygame": ("video", "draws Gymnasium's classic envs"),
    "imageio_ffmpeg": ("video", "writes mp4"),
    "sklearn": ("data", "the data set digits"),
    "tensorflow_datasets": ("data", "the data set flowers"),
    "Box2D": ("box2d", "LunarLander, BipedalWalker, CarRacing"),
    "ale_py": ("atari", "Atari's games"),
    "cv2": ("atari", "scales the screen of one game"),
    "minatar": ("minatar", "MinAtar's five games"),
    "ai_edge_litert": ("export", "runs .tflite"),
    "tf2onnx": ("export", "writes ONNX"),
    "onnxruntime": ("export", "runs ONNX"),
    "tensorflow_serving": ("serve", "serves TensorFlow Serving's protocol"),
    "httptools": ("serve", "serves it over REST"),
}
"""Module of each optional part: the extra that installs it, and what it is for."""


@click.command(short_help="Show versions, devices, optional parts.")
@json_option
def doctor(as_json: bool) -> None:
    """Show versions, devices, and which optional parts are installed."""
    from rlkit.runs.run_directory import versions

    with loading():
        from rlkit.devices import describe

        devices = describe()
    optional = {module: find_spec(module) is not None for module in OPTIONAL}
    display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or platform.system() != "Linux")
    report: dict[str, object] = {
        "versions": versions(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "devices": devices,
        "optional": optional,
        "ffmpeg": shutil.which("ffmpeg"),
        "display": display,
    }
    if as_json:
        print_json(report)
        return
    click.echo("  ".join(f"{name} {number}" for name, number in versions().items()))
    click.echo(f"{report['platform']}, {report['cores']} cores, {'a display' if display else 'no display'}")
    click.echo("TensorFlow sees: " + ", ".join(devices["physical"]))
    for name in devices["gpus"]:
        click.echo(f"  GPU: {name}")
    if not devices["gpus"]:
        built = "was built with CUDA but finds no GPU" if devices["built_with_cuda"] else "was built without CUDA"
        click.echo(f"  no GPU: this TensorFlow {built}")
    for module, (extra, purpose) in OPTIONAL.items():
        state = "installed" if optional[module] else f"missing: {install(extra)}"
        click.echo(f"{module:<19} {purpose}: {state}")
