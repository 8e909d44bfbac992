"""TensorFlow.js graph model, for the browser and Node.js.

Its converter does not install beside current TensorFlow, so it has an environment of its own in the user's cache.
"""

from __future__ import annotations

import base64
import fcntl
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rlkit.errors import UserError
from rlkit.export import savedmodel
from rlkit.export.portable import SERVING, Arrays, Portable, Runtime, Settings
from rlkit.files import cache

FILE = "model.json"

VERSION = "4.22.0"
"""Of TensorFlow.js, the converter and what runs in Node.js."""
CONVERTER = (f"tensorflowjs=={VERSION}", "ydf==0.15.0")
"""The second brings the newest TensorFlow that the first works with, 2.19."""
ROWS = 50
"""Most that are sent to Node.js at once."""


def write(portable: Portable, folder: Path, settings: Settings) -> None:
    """Write model.json and the weights beside it, by way of a SavedModel.

    Raises:
        UserError: there is no Node.js, the converter cannot be had, or it refuses the model.
    """
    portable.require_float32("tfjs")
    _node()
    if portable.recurs:  # TensorFlow.js does not get through Keras' loop over a sequence
        portable = portable.unrolled()
    python = settings.converter or _converter(settings)
    with tempfile.TemporaryDirectory(prefix="rlkit-") as beside:
        saved = Path(beside) / "savedmodel"
        savedmodel.write(portable, saved, settings)
        module = [python, "-m", "tensorflowjs.converters.converter"]
        command = [*module, "--input_format=tf_saved_model", f"--signature_name={SERVING}", str(saved), str(folder)]
        _run(command, "the converter of TensorFlow.js refuses the model")
    if not (folder / FILE).is_file():
        raise UserError(f"the converter of TensorFlow.js in {python} wrote no {FILE}")
    _packages(settings)  # for `opened`, which has nobody to tell that it takes long


@contextmanager
def _kept(name: str, settings: Settings, what: str) -> Iterator[Path | None]:
    """A folder of the cache to make ready, held for this process; None where that has been done before."""
    folder = cache() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / "ready").exists():
                yield None
                return
            settings.say(f"{what}, once, in {folder}")
            yield folder
            (folder / "ready").touch()
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from None


def _converter(settings: Settings) -> str:
    """The Python of the converter's environment, which is made where it is not there."""
    python = cache() / f"tfjs-converter-{VERSION}" / "venv" / "bin" / "python"
    what = "installing the converter of TensorFlow.js, 3 GB with a TensorFlow of its own"
    with _kept(f"tfjs-converter-{VERSION}", settings, what) as folder:
        if folder:
            if sys.version_info >= (3, 13):
                raise UserError(
                    "the converter of TensorFlow.js needs Python 3.12 or older: name one that has "
                    f"{' and '.join(CONVERTER)} with --converter-python"
                )
            reason = "the converter of TensorFlow.js cannot be installed"
            _run([sys.executable, "-m", "venv", "--clear", str(folder / "venv")], reason)
            _run([str(python), "-m", "pip", "install", "--quiet", *CONVERTER], reason)
    return str(python)


def _node() -> str:
    found = shutil.which("node")
    if not found:
        raise UserError("tfjs is checked in Node.js, and there is no node on the PATH: install it, or take tflite")
    return found


def _packages(settings: Settings) -> Path:
    """The folder with TensorFlow.js for Node.js, which is filled where it is not there."""
    name = f"tfjs-{VERSION}"
    with _kept(name, settings, "installing TensorFlow.js for Node.js") as folder:
        if folder:
            npm = shutil.which("npm")
            if not npm:
                raise UserError("TensorFlow.js is installed by npm, and there is none on the PATH")
            command = [
                npm,
                "install",
                "--no-audit",
                "--no-fund",
                "--prefix",
                str(folder),
                f"@tensorflow/tfjs@{VERSION}",
            ]
            _run(command, "TensorFlow.js cannot be installed")
    return cache() / name


def _run(command: Sequence[str], reason: str) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"{reason}: {command[0]}: {error.strerror}") from None
    if result.returncode:
        lines = [line for line in (result.stderr or result.stdout).splitlines() if line.strip()]
        raise UserError(f"{reason}: {lines[-1].strip() if lines else f'exit code {result.returncode}'}")


@contextmanager
def opened(folder: Path, portable: Portable) -> Iterator[Runtime]:
    """By TensorFlow.js in Node.js, on its plain CPU backend."""
    del portable
    script = Path(__file__).with_name("tfjs_runtime.mjs")
    command = [_node(), str(script), str(_packages(Settings())), str(folder)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def ask(inputs: Arrays) -> dict[str, np.ndarray]:
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps({name: _packed(value) for name, value in inputs.items()}) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            said = process.communicate()[1].splitlines()
            told = next((line for line in said if "Error" in line), "it ended")
            raise UserError(f"TensorFlow.js cannot run the model: {told.strip()}")
        return {name: _unpacked(value) for name, value in json.loads(answer).items()}

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        length = len(next(iter(inputs.values())))
        parts = [ask({n: v[i : i + ROWS] for n, v in inputs.items()}) for i in range(0, length, ROWS)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    try:
        yield run
    finally:
        process.kill()
        process.communicate()


def _packed(value: np.ndarray) -> dict[str, Any]:
    """An array as JSON; TensorFlow.js has no other whole numbers than int32."""
    value = np.ascontiguousarray(value, np.float32 if value.dtype.kind == "f" else np.int32)
    return {"shape": value.shape, "dtype": value.dtype.name, "data": base64.b64encode(value.tobytes()).decode()}


def _unpacked(value: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(value["data"]), value["dtype"]).reshape(value["shape"])
