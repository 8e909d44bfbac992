"""rlkit: reinforcement learning for TensorFlow and Keras 3.

The names below load on first use, so that ``import rlkit`` costs nothing and loads no TensorFlow; it sets
TF_ENABLE_ONEDNN_OPTS where nobody has, for the TensorFlow that is loaded later:

>>> import rlkit
>>> run = rlkit.train("dqn", env="CartPole-v1", seed=0)  # doctest: +SKIP
>>> run.evaluate(episodes=100).mean  # doctest: +SKIP
500.0
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from typing import TYPE_CHECKING

from rlkit.version import __version__

if TYPE_CHECKING:
    from rlkit.api.agent_run import Run
    from rlkit.api.comparison import compare
    from rlkit.api.exporting import export_run
    from rlkit.api.fitting import FitRun, fit, fit_seeds
    from rlkit.api.runs import load, resume
    from rlkit.api.solving import solve
    from rlkit.api.training import train, train_seeds

if platform.machine() in ("x86_64", "AMD64") and "tensorflow" not in sys.modules:
    # TensorFlow reads it as it is loaded, and leaves oneDNN out on CPUs without AVX512-VNNI otherwise: decision 0024
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_LAZY = {
    "Run": "rlkit.api.agent_run",
    "train": "rlkit.api.training",
    "train_seeds": "rlkit.api.training",
    "FitRun": "rlkit.api.fitting",
    "fit": "rlkit.api.fitting",
    "fit_seeds": "rlkit.api.fitting",
    "resume": "rlkit.api.runs",
    "load": "rlkit.api.runs",
    "export_run": "rlkit.api.exporting",
    "solve": "rlkit.api.solving",
    "compare": "rlkit.api.comparison",
}
_WITHOUT_TENSORFLOW = ("compare", "solve")
__all__ = [
    "FitRun",
    "Run",
    "__version__",
    "compare",
    "export_run",
    "fit",
    "fit_seeds",
    "load",
    "resume",
    "solve",
    "train",
    "train_seeds",
]

_ENVS = "rlkit.envs"
_SPEC = globals().pop("__spec__")


def _attribute(name: str) -> object:
    """The module's `__getattr__`: what `_LAZY` names, loaded when it is asked for."""
    if name == "__spec__":
        _register_envs()
        return _SPEC
    if name not in _LAZY:
        raise AttributeError(f"module 'rlkit' has no attribute {name!r}")
    if name in _WITHOUT_TENSORFLOW:
        return getattr(importlib.import_module(_LAZY[name]), name)
    from rlkit.loading import loading  # noqa: PLC0415 - import rlkit loads nothing

    with loading():
        return getattr(importlib.import_module(_LAZY[name]), name)


if not TYPE_CHECKING:  # where it is seen, each name that does not exist has a type
    __getattr__ = _attribute


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


def _register_envs() -> None:
    """Register rlkit's envs if Gymnasium is loaded, so that ``gymnasium.make("rlkit:rlkit/NumberTriangle-v0")`` works.

    It imports what stands before the colon, and rlkit without Gymnasium does not load that. Importing a module that is
    loaded already does nothing but look at its ``__spec__``, which therefore is found by `__getattr__` until then.
    """
    if "gymnasium" in sys.modules:
        globals()["__spec__"] = _SPEC
        importlib.import_module(_ENVS)


_register_envs()
