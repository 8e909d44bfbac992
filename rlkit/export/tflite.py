"""LiteRT, once TensorFlow Lite: a .tflite for phones, small machines and the browser, for one input at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from rlkit.errors import UserError
from rlkit.export.litert import LiteRT
from rlkit.export.portable import Arrays, Portable, Runtime, Settings
from rlkit.quiet import quiet

FILE = "model.tflite"


def write(portable: Portable, folder: Path, settings: Settings) -> None:
    """Write model.tflite with one signature, all outputs and a batch of one.

    Raises:
        UserError: LiteRT has no such operation, or the numbers are none after the conversion.
    """
    convert(portable, folder / FILE, settings)


def convert(portable: Portable, path: Path, settings: Settings) -> None:
    """As `write`, to a path."""
    portable.require_float32("tflite")
    quantize = settings.quantize
    if quantize == "int8" and portable.recurs:  # on whose loop the converter crashes
        portable = portable.unrolled()
    with quiet(always=True):
        function = portable.function(batch=1).get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], portable.module())
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            converter.representative_dataset = lambda: _rows(settings.samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        try:
            content: bytes = converter.convert()
        except Exception as error:  # the converter's own errors have no common class
            raise UserError(f"LiteRT cannot hold this model: {str(error).strip().splitlines()[0]}") from None
    inspect(content)
    path.write_bytes(content)


def _rows(samples: Arrays) -> Iterator[list[np.ndarray]]:
    """Inputs one at a time."""
    for i in range(_length(samples)):
        yield [value[i : i + 1] for value in samples.values()]


def inspect(content: bytes) -> None:
    """Refuse what no phone runs, or what is silently broken.

    Raises:
        UserError: operations of TensorFlow (Flex), variables that are read from outside, or weights that are NaN.
    """
    from tensorflow.lite.python import schema_py_generated as schema  # noqa: PLC0415 - where it is needed

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for code in model.operatorCodes:
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = (code.customCode or b"").decode()
        if custom.startswith("Flex"):
            raise UserError(f"LiteRT has no operation {custom.removeprefix('Flex')}, which this model needs")
        if builtin in (schema.BuiltinOperator.READ_VARIABLE, schema.BuiltinOperator.VAR_HANDLE):
            raise UserError("the conversion left variables outside of the file, where they would be NaN")
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            dtype = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}.get(tensor.type)
            data: Any = model.buffers[tensor.buffer].data
            if dtype and data is not None and not np.isfinite(np.asarray(data, np.uint8).view(dtype)).all():
                raise UserError(f"the conversion made weights of {tensor.name.decode()} that are no finite numbers")


@contextmanager
def opened(folder: Path, portable: Portable) -> Iterator[Runtime]:
    """By LiteRT's interpreter, a row at a time."""
    del portable
    runtime = LiteRT(folder / FILE, own=True)

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        rows = [runtime({name: value[i : i + 1] for name, value in inputs.items()}) for i in range(_length(inputs))]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    yield run


def _length(inputs: Arrays) -> int:
    return len(next(iter(inputs.values())))
