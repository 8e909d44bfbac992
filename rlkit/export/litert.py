"""Running a .tflite by LiteRT's interpreter; nothing here loads TensorFlow."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlkit.errors import UserError, short
from rlkit.files import read_bytes
from rlkit.quiet import quiet
from rlkit.spaces import bounds, observed

MOST_BYTES = 2**31 - 1
"""Bytes of a .tflite at most: its offsets have 32 bits."""

PATIENCE = 30.0
"""Seconds that loading a model and a few answers of it may take."""

ERRORS = (ValueError, RuntimeError, OSError, TypeError, LookupError, MemoryError, OverflowError)
"""Raised by LiteRT for a model that it cannot load or compute."""

LARGE = 1_000_000
"""Bytes above which a model is worth several threads."""


class LiteRT:
    """A .tflite with one signature, as a function of named arrays.

    Args:
        path: the file.
        own: whether rlkit has just written it. LiteRT checks little of a file, and one that is damaged can end the
            process; so another's is tried in a child process before.

    Raises:
        UserError: the file is missing or no such model, LiteRT dies of it, or is not installed.
    """

    def __init__(self, path: Path, own: bool = False) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - an extra
        except ImportError:
            raise UserError("a .tflite needs ai-edge-litert: pip install ai-edge-litert") from None
        if not path.is_file():
            raise UserError(f"{path} is no file, expected a .tflite that rlkit export wrote")
        self._path = path
        try:
            content = read_bytes(path, MOST_BYTES)
            threads = os.cpu_count() if len(content) > LARGE else 1

            def load() -> Any:  # noqa: ANN401 - LiteRT's, which may be missing
                made = Interpreter(model_content=content, num_threads=threads)
                made.allocate_tensors()
                return made

            if not own and (end := _end(lambda: _try(load()))):
                raise UserError(f"{path} is damaged: LiteRT {end}")
            with quiet(always=True):  # that it has made its delegate
                self._interpreter = load()
            runner = self._interpreter.get_signature_runner()
            taken, given = runner.get_input_details(), runner.get_output_details()
            self.inputs = {name: (tuple(map(int, d["shape"])), np.dtype(d["dtype"])) for name, d in taken.items()}
            self.results = {name: (tuple(map(int, d["shape"])), np.dtype(d["dtype"])) for name, d in given.items()}
            self._in, self._out = ({name: int(d["index"]) for name, d in part.items()} for part in (taken, given))
        except ERRORS as error:
            raise UserError(f"{path} is no .tflite with one signature: {_words(error)}") from None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._out)

    def one(self, observation: np.ndarray) -> np.ndarray:
        """The output `action` alone, [1], for the input `observation`, [1, ...]: the shortest way through."""
        interpreter = self._interpreter
        try:
            interpreter.set_tensor(self._in["observation"], observation)
            interpreter.invoke()
            action: np.ndarray = interpreter.get_tensor(self._out["action"])
        except ERRORS as error:
            raise UserError(f"{self._path} cannot be computed: {_words(error)}") from None
        return action

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs for inputs of the shapes and dtypes that the file has."""
        interpreter = self._interpreter
        try:
            for name, place in self._in.items():
                interpreter.set_tensor(place, inputs[name])
            interpreter.invoke()
            return {name: interpreter.get_tensor(place) for name, place in self._out.items()}
        except ERRORS as error:
            raise UserError(f"{self._path} cannot be computed: {_words(error)}") from None


def _words(error: Exception) -> str:
    """The first line of what LiteRT says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _try(interpreter: Any) -> None:  # noqa: ANN401 - LiteRT's, which may be missing
    """Compute a few inputs: zeros, ones and numbers of all sizes."""
    for value in (0, 1, -1, 100, -1e6):
        for place in interpreter.get_input_details():
            kind = np.dtype(place["dtype"])
            wrapped = np.int64(value).astype(kind) if kind.kind in "iu" else np.float64(value).astype(kind)
            interpreter.set_tensor(place["index"], np.full(place["shape"], wrapped))
        interpreter.invoke()
        for place in interpreter.get_output_details():
            interpreter.get_tensor(place["index"])


def _end(work: Callable[[], object]) -> str:
    """How a child process ended that did some work, as a clause; empty where it came to an end by itself."""
    child = os.fork()
    if child == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (1, 2):
            os.dup2(nothing, number)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(BaseException):  # an error is told by the parent, which meets it too
            work()
        os._exit(0)
    ends = time.monotonic() + PATIENCE
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > ends:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"takes more than {PATIENCE:g} s for it"
        time.sleep(0.001)
    number = os.waitstatus_to_exitcode(ended[1])
    return f"dies of it ({signal.Signals(-number).name})" if number < 0 else ""


class LiteRTPolicy:
    """The greedy policy of a .tflite for N observations; it remembers what its file says that it should.

    Args:
        path: a file with the input `observation`, of one observation, and the output `action`.
        num_envs: N.
        space: of an observation, which the file does not tell; states outside it are refused where it is given.
        actions: the space of one; actions outside it are refused where it is given.
        own: as of `LiteRT`.

    Raises:
        UserError: as `LiteRT`; the file is of no policy.
    """

    def __init__(
        self,
        path: Path,
        num_envs: int = 1,
        space: gymnasium.Space[Any] | None = None,
        actions: gymnasium.Space[Any] | None = None,
        own: bool = False,
    ) -> None:
        self._path, self._space, self._actions = path, space, actions
        self._model = LiteRT(path, own)
        if "observation" not in self._model.inputs or "action" not in self._model.outputs:
            raise UserError(
                f"{path} is of no agent: it takes {', '.join(self._model.inputs)} and gives "
                f"{', '.join(self._model.outputs)}, expected observation and action"
            )
        self._check()
        shape, self._dtype = self._model.inputs["observation"]
        self.shape = shape[1:]
        self._memory = None
        if "memory" in self._model.inputs:
            self._memory = np.zeros((num_envs, *self._model.inputs["memory"][0][1:]), np.float32)

    def _check(self) -> None:
        """UserError where the file's inputs and outputs are not a policy's of one observation at a time."""
        given, results = self._model.inputs, self._model.results
        if odd := sorted(set(given) - {"observation", "memory"}):
            raise UserError(f"{self._path} takes {odd[0]} too, expected observation, and memory where it remembers")
        shape, dtype = given["observation"]
        if shape[:1] != (1,) or dtype.kind not in "biuf":
            raise UserError(
                f"{self._path} takes observations of {list(shape)} {dtype}, expected one at a time, [1, ...]"
            )
        shape, dtype = results["action"]
        if shape != (1,) or dtype.kind not in "iu":
            raise UserError(f"{self._path} gives actions of {list(shape)} {dtype}, expected [1] of whole numbers")
        if "memory" in given:
            memory = given["memory"]
            if memory != results.get("next_memory") or memory[0][:1] != (1,) or memory[1] != np.float32:
                raise UserError(
                    f"{self._path} has memory of {list(memory[0])} {memory[1]}, and gives none like it back"
                )

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Actions, [N] int32, for observations, [N, ...]."""
        number = None if self._memory is None else len(self._memory)
        given = observed(observations, (number, *self.shape), self._dtype, self._space).astype(self._dtype, copy=False)
        if self._memory is not None:
            actions = np.concatenate([self._remember(given, i) for i in range(len(given))])
        elif len(given) == 1:
            actions = self._model.one(given)
        else:
            actions = np.concatenate([self._model.one(given[i : i + 1]) for i in range(len(given))])
        if self._actions is not None:
            low, high = bounds(self._actions)
            if actions.shape != given.shape[:1] or not ((actions >= low) & (actions < high)).all():
                what = f"gives the action {short(actions.tolist())}, expected one of {self._actions}"
                raise UserError(f"{self._path} {what}")
        return actions

    def _remember(self, observations: np.ndarray, i: int) -> np.ndarray:
        assert self._memory is not None
        found = self._model({"observation": observations[i : i + 1], "memory": self._memory[i : i + 1]})
        self._memory[i] = found["next_memory"][0]
        return found["action"]

    def reset(self, fresh: np.ndarray) -> None:
        """Forget where an episode begins with the next observation, [N] bool."""
        if self._memory is not None:
            self._memory[fresh] = 0
