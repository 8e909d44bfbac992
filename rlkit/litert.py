"""Running a .tflite by LiteRT's interpreter; nothing here loads TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlkit.errors import UserError
from rlkit.evaluation import observed
from rlkit.quiet import quiet

LARGE = 1_000_000
"""Bytes above which a model is worth several threads."""


class LiteRT:
    """A .tflite with one signature, as a function of named arrays.

    Args:
        path: the file.

    Raises:
        UserError: the file is missing or no such model, or LiteRT is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - an extra
        except ImportError:
            raise UserError("a .tflite needs ai-edge-litert: pip install ai-edge-litert") from None
        if not path.is_file():
            raise UserError(f"{path} is no file, expected a .tflite that rlkit export wrote")
        try:
            content = path.read_bytes()
            threads = os.cpu_count() if len(content) > LARGE else 1
            with quiet(always=True):  # that it has made its delegate
                self._interpreter = Interpreter(model_content=content, num_threads=threads)
                self._interpreter.allocate_tensors()
            runner = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError, OSError) as error:
            raise UserError(f"{path} is no .tflite with one signature: {str(error).splitlines()[0]}") from None
        taken, given = runner.get_input_details(), runner.get_output_details()
        self.inputs = {name: (tuple(map(int, d["shape"])), np.dtype(d["dtype"])) for name, d in taken.items()}
        self._in, self._out = ({name: int(d["index"]) for name, d in part.items()} for part in (taken, given))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._out)

    def one(self, observation: np.ndarray) -> np.ndarray:
        """The output `action` alone, [1], for the input `observation`, [1, ...]: the shortest way through."""
        interpreter = self._interpreter
        interpreter.set_tensor(self._in["observation"], observation)
        interpreter.invoke()
        action: np.ndarray = interpreter.get_tensor(self._out["action"])
        return action

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs for inputs of the shapes and dtypes that the file has."""
        interpreter = self._interpreter
        for name, place in self._in.items():
            interpreter.set_tensor(place, inputs[name])
        interpreter.invoke()
        return {name: interpreter.get_tensor(place) for name, place in self._out.items()}


class LiteRTPolicy:
    """The greedy policy of a .tflite for N observations; it remembers what its file says that it should.

    Args:
        path: a file with the input `observation`, of one observation, and the output `action`.
        num_envs: N.
        space: of an observation, which the file does not tell; states outside it are refused where it is given.

    Raises:
        UserError: as `LiteRT`; the file is of no policy.
    """

    def __init__(self, path: Path, num_envs: int = 1, space: gymnasium.Space[Any] | None = None) -> None:
        self._space = space
        self._model = LiteRT(path)
        if "observation" not in self._model.inputs or "action" not in self._model.outputs:
            raise UserError(
                f"{path} is of no agent: it takes {', '.join(self._model.inputs)} and gives "
                f"{', '.join(self._model.outputs)}, expected observation and action"
            )
        shape, self._dtype = self._model.inputs["observation"]
        self.shape = shape[1:]
        self._memory = None
        if "memory" in self._model.inputs:
            self._memory = np.zeros((num_envs, *self._model.inputs["memory"][0][1:]), np.float32)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Actions, [N] int32, for observations, [N, ...]."""
        number = None if self._memory is None else len(self._memory)
        given = observed(observations, (number, *self.shape), self._dtype, self._space).astype(self._dtype, copy=False)
        if self._memory is not None:
            return np.concatenate([self._remember(given, i) for i in range(len(given))])
        if len(given) == 1:
            return self._model.one(given)
        return np.concatenate([self._model.one(given[i : i + 1]) for i in range(len(given))])

    def _remember(self, observations: np.ndarray, i: int) -> np.ndarray:
        assert self._memory is not None
        found = self._model({"observation": observations[i : i + 1], "memory": self._memory[i : i + 1]})
        self._memory[i] = found["next_memory"][0]
        return found["action"]

    def reset(self, fresh: np.ndarray) -> None:
        """Forget where an episode begins with the next observation, [N] bool."""
        if self._memory is not None:
            self._memory[fresh] = 0
