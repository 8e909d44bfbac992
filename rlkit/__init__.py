"""rlkit: reinforcement learning for TensorFlow and Keras 3.

The names below load on first use, so that ``import rlkit`` costs nothing and loads no TensorFlow:

>>> import rlkit
>>> run = rlkit.train("dqn", env="CartPole-v1", seed=0)  # doctest: +SKIP
>>> run.evaluate(episodes=100).mean  # doctest: +SKIP
500.0
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "Run": "rlkit.experiments.training",
    "train": "rlkit.experiments.training",
    "resume": "rlkit.experiments.training",
    "load": "rlkit.experiments.training",
}
__all__ = ["Run", "__version__", "load", "resume", "train"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module attribute has any type
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'rlkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
