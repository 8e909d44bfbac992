"""ONNX: one file for onnxruntime and all that reads the format."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rlkit.errors import UserError, install
from rlkit.export.portable import Arrays, Portable, Runtime, Settings
from rlkit.quiet import quiet

FILE = "model.onnx"
OPSET = 18
"""Version of ONNX' operations."""


def write(portable: Portable, folder: Path, settings: Settings) -> None:
    """Write model.onnx, for batches of any size.

    Raises:
        UserError: the converter is not installed, or does not know one of the model's operations.
    """
    del settings
    try:
        import onnxruntime  # noqa: F401, PLC0415 - an extra
        import tf2onnx  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UserError(f"onnx needs {error.name}: {install('export')}") from None
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    function = portable.function()
    with quiet(always=True):
        try:
            tf2onnx.convert.from_function(function, function.input_signature, OPSET, output_path=str(folder / FILE))
        except (ValueError, RuntimeError, NotImplementedError) as error:
            raise UserError(f"ONNX cannot hold this model: {str(error).strip().splitlines()[0]}") from None


@contextmanager
def opened(folder: Path, portable: Portable) -> Iterator[Runtime]:
    """By onnxruntime."""
    import onnxruntime  # noqa: PLC0415 - an extra

    del portable
    session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    yield run
