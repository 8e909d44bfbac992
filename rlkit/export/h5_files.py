"""HDF5 as Keras wrote it before version 3: it holds layers, but no operations between them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlkit.errors import UserError
from rlkit.export.keras_files import loaded
from rlkit.export.portable import Portable, Runtime, Settings

FILE = "model.h5"


def write(portable: Portable, folder: Path, settings: Settings) -> None:
    """Write model.h5, and load it again.

    Raises:
        UserError: Keras cannot load what it wrote, as the model is of more than layers.
    """
    del settings
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)  # Keras says that the format is one of old
    try:
        portable.model.save(folder / FILE)
        loaded(folder / FILE, portable)
    except (ValueError, TypeError, NotImplementedError) as error:
        what = str(error).partition(".")[0]
        raise UserError(
            f"h5 cannot hold this model, take keras: it has operations that are no layers ({what})"
        ) from None
    finally:
        logger.setLevel(level)


@contextmanager
def opened(folder: Path, portable: Portable) -> Iterator[Runtime]:
    """As Keras loads it."""
    yield loaded(folder / FILE, portable)
