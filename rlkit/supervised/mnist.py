"""MNIST from the files that it comes in: Keras' .npz, and the original idx."""

from __future__ import annotations

import contextlib
import gzip
import math
import sys
import zlib
from pathlib import Path

import numpy as np

from rlkit import npz
from rlkit.errors import UserError
from rlkit.files import MOST_DATA, check_file
from rlkit.supervised.config import FitConfig
from rlkit.supervised.description import Data, Pair, Say, classified, in_order

DIGITS = tuple(map(str, range(10)))


def load(config: FitConfig, say: Say) -> Data:
    """Handwritten digits. LeCun et al. 1998, "Gradient-based learning applied to document recognition"."""
    if config.data_dir:
        train, test = _idx_folder(Path(config.data_dir))
    elif config.data_file:
        train, test = _npz(Path(config.data_file))
    else:
        import keras  # noqa: PLC0415 - the other data sets need none

        say("mnist: from Keras' cache, or downloaded to it")
        try:
            with contextlib.redirect_stdout(sys.stderr):
                train, test = keras.datasets.mnist.load_data()
        except Exception as error:
            raise UserError(
                f"mnist cannot be downloaded ({str(error).splitlines()[0]}): name a copy with --data-file mnist.npz, "
                "or a folder of its idx files with --data-dir"
            ) from None
    if test is None:
        train, test = in_order(*train, config.holdout)
    (x, y), (x_test, y_test) = train, test
    return classified((x[..., None], y), (x_test[..., None], y_test), DIGITS)


def _npz(path: Path) -> tuple[Pair, Pair | None]:
    """x_train, y_train and, where they are there, x_test and y_test of an .npz file."""
    try:
        arrays = npz.read(path)
    except FileNotFoundError:
        raise UserError(f"data file {path} does not exist") from None
    except (OSError, UserError) as error:
        raise UserError(f"data file {path} cannot be read as .npz: {getattr(error, 'strerror', error)}") from None
    if not {"x_train", "y_train"} <= set(arrays):
        raise UserError(f"data file {path} has no x_train and y_train: it has {', '.join(sorted(arrays)) or 'nothing'}")
    pairs = [_digits_of(path, *(arrays.get(f"{part}_{name}") for part in "xy")) for name in ("train", "test")]
    assert pairs[0] is not None
    return pairs[0], pairs[1]


def _digits_of(path: Path, x: np.ndarray | None, y: np.ndarray | None) -> Pair | None:
    """Checked images and labels; None where there are none."""
    if x is None or y is None:
        return None
    if x.shape[1:] != (28, 28) or y.shape != x.shape[:1] or x.dtype != np.uint8 or y.dtype.kind not in "iu":
        raise UserError(
            f"{path} holds arrays of shapes {x.shape} {x.dtype} and {y.shape} {y.dtype}, expected images "
            "(n, 28, 28) uint8 and n whole labels"
        )
    if y.size and (y.min() < 0 or y.max() > 9):
        raise UserError(f"{path} has a label {y.min() if y.min() < 0 else y.max()}, expected 0 to 9")
    return x, y


def _idx_folder(folder: Path) -> tuple[Pair, Pair | None]:
    """The idx files of the original data, compressed or not: both parts, or one of them."""
    if not folder.is_dir():
        raise UserError(f"data folder {folder} does not exist")
    parts = [
        _digits_of(folder, _idx(folder, f"{part}-images-idx3-ubyte"), _idx(folder, f"{part}-labels-idx1-ubyte"))
        for part in ("train", "t10k")
    ]
    first, second = parts if parts[0] else (parts[1], None)
    if first is None:
        raise UserError(
            f"data folder {folder} has neither train-images-idx3-ubyte(.gz) nor t10k-images-idx3-ubyte(.gz)"
        )
    return first, second


def _idx(folder: Path, name: str) -> np.ndarray | None:
    """An array of bytes in the idx format: two zeros, the type, the number of axes, their lengths, the values."""
    for path, opened in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if not path.exists():
            continue
        try:
            check_file(path)
            with opened(path, "rb") as file:
                raw: bytes = file.read(MOST_DATA + 1)
            if len(raw) > MOST_DATA:
                raise ValueError(f"it unpacks to more than {MOST_DATA:,} bytes")
            axes = raw[3]
            shape = tuple(map(int, np.frombuffer(raw, ">u4", axes, 4)))
            return np.frombuffer(raw, np.uint8, math.prod(shape), 4 + 4 * axes).reshape(shape)
        except (OSError, EOFError, ValueError, IndexError, OverflowError, zlib.error, UserError) as error:
            raise UserError(f"data file {path} cannot be read: {error}") from None
    return None
