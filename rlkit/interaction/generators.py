"""The random generators that an env may draw from: one that no episode's seed sets makes each episode another."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, VectorEnv

OBJECTS = 2000
"""Most objects below an env that are looked at."""

GENERATORS = np.random.Generator | np.random.RandomState | random.Random


def generators(root: object) -> Iterator[GENERATORS]:
    """The generators among an object's attributes, and those of what it holds, nearest first."""
    waiting, seen = [root], {id(root)}
    for place in range(OBJECTS):
        if place == len(waiting):
            return
        holder = waiting[place]
        if isinstance(holder, GENERATORS):
            yield holder
            continue
        parts: list[Any] = []
        if isinstance(holder, Mapping):
            parts = list(holder.values())
        elif isinstance(holder, list | tuple):
            parts = list(holder)
        elif hasattr(holder, "__dict__") and not isinstance(holder, type | ModuleType | FunctionType | MethodType):
            parts = list(vars(holder).values())
        for part in parts:
            if not isinstance(part, str | bytes | int | float | np.ndarray | None) and id(part) not in seen:
                seen.add(id(part))
                waiting.append(part)


def digest(root: object) -> bytes:
    """Eight bytes that depend on the state of each generator below an object, and of Python's and NumPy's modules."""
    total = hashlib.blake2b(digest_size=8)
    _add(total, (random.getstate(), np.random.get_state()))  # noqa: NPY002 - envs draw from it
    for generator in generators(root):
        if isinstance(generator, np.random.Generator):
            _add(total, generator.bit_generator.state)
        elif isinstance(generator, np.random.RandomState):
            _add(total, generator.get_state(legacy=False))
        else:
            _add(total, generator.getstate())
    return total.digest()


def _add(total: Any, state: Any) -> None:  # noqa: ANN401 - a hash object; nested containers
    if isinstance(state, Mapping):
        for name, part in state.items():
            _add(total, name)
            _add(total, part)
    elif isinstance(state, tuple | list):
        for part in state:
            _add(total, part)
    else:
        total.update(state.tobytes() if isinstance(state, np.ndarray) else repr(state).encode())


def generator_states(envs: VectorEnv) -> np.ndarray:
    """Digests of the generators of each env, [N] uint64; empty where the single envs are out of reach."""
    if isinstance(envs, AsyncVectorEnv):
        digests = envs.call("generators")
    else:
        digests = tuple(map(digest, getattr(envs.unwrapped, "envs", ())))
    return np.frombuffer(b"".join(digests), np.uint64)
