"""Envs in processes of their own, which may die."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import gymnasium
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from rlkit.errors import EnvError
from rlkit.interaction.checked import Checked

PATIENCE = 5.0
"""Seconds that the processes get to close their envs."""


class Workers(AsyncVectorEnv):
    """N envs, each `Checked` and in a process of its own, with autoreset disabled.

    Args:
        makers: what make the envs.
        name: the env's id, for messages.

    Raises:
        EnvError: also from `reset` and `step`, where a process has died or its env is at fault.
    """

    checked = True

    def __init__(self, makers: Sequence[Callable[[], gymnasium.Env[Any, Any]]], name: str) -> None:
        self.name = name
        # not by fork: this process may already run TensorFlow's threads
        super().__init__([_Maker(make) for make in makers], autoreset_mode=AutoresetMode.DISABLED, context="forkserver")

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
        with self._deaths():
            return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> Any:  # noqa: ANN401 - as Gymnasium's
        with self._deaths():
            return super().step(actions)

    @contextmanager
    def _deaths(self) -> Iterator[None]:
        """Report a process that has ended by itself."""
        try:
            yield
        except (EOFError, OSError) as error:
            time.sleep(0.1)  # what has closed its pipe is about to have an exit code
            codes = [(e, process.exitcode) for e, process in enumerate(self.processes) if process.exitcode is not None]
            e, code = codes[0] if codes else (None, None)
            which = "a process" if e is None else f"the process of copy {e} of {self.num_envs}"
            how = "" if code is None else f", by the signal {-code}" if code < 0 else f", with the exit code {code}"
            raise EnvError(f"env {self.name!r}: {which} has died{how}") from error

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        """Raise the first error of the processes, without its traceback on stderr."""
        failed = [success for success in successes if not success]
        errors = sorted((self.error_queue.get()[:3] for _ in failed), key=lambda error: error[0])
        if errors:
            _, kind, value = errors[0]
            raise value if isinstance(value, Exception) else kind(value)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Ask the processes to close their envs; end those that have not after some seconds.

        Args:
            timeout: seconds, `PATIENCE` if None.
            terminate: do not ask.
        """
        self._end(0.0 if terminate else PATIENCE if timeout is None else timeout)

    def _end(self, patience: float = 0.0) -> None:
        for pipe in self.parent_pipes if patience else ():
            with suppress(OSError):
                pipe.send(("close", None))
        until = time.monotonic() + patience
        for end in (lambda _: None, lambda process: process.terminate(), lambda process: process.kill()):
            for process in self.processes:
                end(process)
                process.join(max(0.0, until - time.monotonic()))
            until = time.monotonic() + 1.0
        for pipe in self.parent_pipes:
            pipe.close()


class _Maker:
    """Makes a checked env; in a worker's process, Ctrl-C, which a terminal sends to all, is left to the parent."""

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]]) -> None:
        self.make = make

    def __call__(self) -> gymnasium.Env[Any, Any]:
        if multiprocessing.parent_process() is None:
            return Checked(self.make())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return Checked(self.make())
        except (Exception, SystemExit) as error:  # raised where the parent hears of it
            return _Unmade(f"{type(error).__name__}: {error}")


class _Unmade(gymnasium.Env[Any, Any]):
    """In place of an env that cannot be made in its process."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.observation_space = self.action_space = gymnasium.spaces.Discrete(1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> NoReturn:
        del seed, options
        raise EnvError(f"a copy of the env cannot be made in a process of its own: {self.reason}")
