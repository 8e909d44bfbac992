"""TensorFlow and Keras, loaded as rlkit needs them: without their log, and with Keras computing by TensorFlow."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlkit.errors import UserError
from rlkit.quiet import quiet

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
"""Environment variable that TensorFlow reads once, as it is loaded."""

SILENT = "3"

_silenced = False


@contextmanager
def loading() -> Iterator[None]:
    """Around imports: TensorFlow is loaded without its log, and what is written to stderr shows only if they fail.

    The environment is afterwards as it was. A TensorFlow that is loaded already stays as it is.

    Raises:
        UserError: Keras computes, or is to compute, by another library than TensorFlow.
    """
    global _silenced  # noqa: PLW0603 - TensorFlow is loaded once a process
    check_backend()
    level = os.environ.get(LEVEL)
    if "tensorflow" not in sys.modules:
        os.environ.setdefault(LEVEL, SILENT)
        _silenced = os.environ[LEVEL] == SILENT
    try:
        with quiet():
            yield
    finally:
        if level is None:
            os.environ.pop(LEVEL, None)


def silenced() -> bool:
    """Whether TensorFlow was loaded without its log, as far as can be known."""
    return _silenced or os.environ.get(LEVEL) == SILENT


def check_backend() -> None:
    """UserError where Keras computes, or would compute once it is loaded, by another library than TensorFlow."""
    if "keras" in sys.modules:
        keras: Any = sys.modules["keras"]
        name, source = keras.config.backend(), "in this process"
    else:
        name, source = _chosen_backend()
    if name != "tensorflow":
        raise UserError(
            f"Keras' backend is {name!r} ({source}), expected 'tensorflow': set KERAS_BACKEND=tensorflow in the "
            "environment before Keras is loaded"
        )


def _chosen_backend() -> tuple[str, str]:
    """The backend that Keras will take, and what says so: the environment, else its own file."""
    if chosen := os.environ.get("KERAS_BACKEND"):
        return chosen, "KERAS_BACKEND"
    file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    return str(found.get("backend", "tensorflow")) if isinstance(found, dict) else "tensorflow", str(file)
