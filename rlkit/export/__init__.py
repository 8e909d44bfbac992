"""Trained models for other runtimes: one file a format, one line in the registry below."""

from __future__ import annotations

import importlib
from types import ModuleType

from rlkit.errors import unknown

FORMATS = {
    "savedmodel": "rlkit.export.savedmodel",
    "keras": "rlkit.export.keras_files",
    "h5": "rlkit.export.h5_files",
    "tflite": "rlkit.export.tflite",
    "onnx": "rlkit.export.onnx_files",
    "tfjs": "rlkit.export.tfjs",
}
"""What a model can be written as, and the module that writes it and runs what was written."""

QUANTIZATIONS = ("none", "float16", "dynamic", "int8")
"""How a .tflite keeps its numbers."""


def module(name: str) -> ModuleType:
    """The module of a format; loads TensorFlow. UserError with the nearest names where there is none."""
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    return importlib.import_module(FORMATS[name])
