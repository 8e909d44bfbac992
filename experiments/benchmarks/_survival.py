"""Runs in processes that are killed, what must come out of them to the bit, and the runs that this is tried with."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

LOADED = multiprocessing.get_context("forkserver")
"""Processes that begin with all modules loaded."""

LOADED.set_forkserver_preload(["rlkit.api.training", "rlkit.api.fitting"])

LIMIT = 900.0
"""Seconds after which a process hangs."""


@dataclass(frozen=True)
class Case:
    """A run: what learns, from what, and how."""

    who: str
    what: str
    fields: dict[str, Any]
    verb: str = "train"
    seeds: tuple[int, ...] = ()
    """Seeds of several runs that the compiled loop trains at once; none for one run."""


COMMON = {"preset": "none", "target_return": "none", "threads": 1}
NETWORK: dict[str, Any] = {"hidden": [16], "batch_size": 16, "learning_starts": 100, "eval_episodes": 3, **COMMON}
FAST = {"eval_interval": 200, "checkpoint_interval": 100, "log_interval": 50}
TEXT = {"data_file": str(Path(inspect.__file__)), "batch_size": 8, "length": 20, "units": 16}
"""Fields of a character model on a text that each Python has."""


def _cases() -> dict[str, Case]:
    def dqn(env: str = "CartPole-v1", who: str = "dqn", **fields: Any) -> Case:  # noqa: ANN401 - a config's
        return Case(who, env, {**NETWORK, **FAST, "steps": 1200, "buffer_size": 500, **fields})

    def table(who: str, env: str = "FrozenLake-v1", **fields: Any) -> Case:  # noqa: ANN401 - a config's
        return Case(who, env, {"preset": "none", "eval_episodes": 3, **fields})

    def fit(who: str, data: str, **fields: Any) -> Case:  # noqa: ANN401 - a config's
        intervals = {"eval_interval": 40, "checkpoint_interval": 20, "log_interval": 10, "steps": 240}
        return Case(who, data, {"preset": "none", "threads": 1, **intervals, **fields}, "fit")

    host: dict[str, Any] = {"loop": "host", "jit": False}
    model: dict[str, Any] = {
        "steps": 12_000_000,
        "eval_interval": 2_000_000,
        "checkpoint_interval": 500_000,
        "log_interval": 200_000,
    }
    inside: dict[str, Any] = {"steps": 30_000, "eval_interval": 6000, "checkpoint_interval": 1500, "log_interval": 500}
    inside |= {"simulate": "env"}
    compiled: dict[str, Any] = {
        "loop": "compiled",
        "num_envs": 4,
        "steps": 40_000,
        "buffer_size": 5000,
        "eval_interval": 5000,
    }
    compiled |= {"checkpoint_interval": 1000, "log_interval": 500}
    small = {"preprocessing": "mnih2015", "screen_size": 36, "max_num_frames_per_episode": 400}
    pictures: dict[str, Any] = {"network": "nature-cnn", "env_args": small, "num_envs": 2, "steps": 700}
    pictures |= {"eval_interval": 0, "buffer_size": 300, "atoms": 5}
    rollouts: dict[str, Any] = {
        "eval_interval": 2048,
        "checkpoint_interval": 512,
        "log_interval": 512,
        "num_envs": 8,
        "steps": 16_384,
    }
    rollouts |= {"eval_episodes": 3, "hidden": [16], "rollout_length": 16, **COMMON}
    layers = {**model, "steps": 400_000, "trials": 5000, "checkpoint_interval": 5000, "eval_interval": 50_000}
    layers |= {"log_interval": 2000}
    return {
        "dqn, host": dqn(**host, num_envs=4),
        "dqn, one env, n-step": dqn(**host, n_step=3),
        "dqn, overlap, by priority": dqn(**host, num_envs=4, overlap=True, priority_exponent=0.6),
        "dqn, compiled": dqn(**compiled),
        "dqn, compiled, two seeds": Case(
            "dqn", "CartPole-v1", {**dqn(**compiled).fields, "steps": 20_000}, seeds=(0, 1)
        ),
        "dqn, lstm": dqn(
            "rlkit/MaskedCartPole-v0", network="lstm", lstm_units=8, sequence_length=5, burn_in=3, jit=False
        ),
        "rainbow, frames": dqn("ALE/Pong-v5", "rainbow", **pictures, jit=False),
        "rainbow, Catch": dqn("rlkit/Catch-v0", "rainbow", jit=False, v_min=-1.0, v_max=1.0),
        "pqn, host": Case("pqn", "CartPole-v1", {**rollouts, "loop": "host", "jit": False}),
        "pqn, compiled": Case("pqn", "CartPole-v1", {**rollouts, "loop": "compiled", "steps": 65_536}),
        "q-learning, model": table("q-learning", **model),
        "q-learning, chains": table("q-learning", loop="compiled", num_envs=200, **model),
        "double-q-learning, env": table("double-q-learning", **inside),
        "sarsa, env": table("sarsa", "Taxi-v4", trace_decay=0.8, **inside),
        "expected-sarsa, model": table("expected-sarsa", **model),
        "monte-carlo, env": table("monte-carlo", **inside),
        "layered-q-iteration, model": table("layered-q-iteration", "rlkit/NumberTriangle-v0", **layers),
        "mlp": fit("mlp", "digits"),
        "linear, csv": fit("linear", "house-prices"),
        "cnn, keras": fit("cnn", "digits", loop="keras"),
        "lstm, text": fit("lstm", "text", **TEXT),
    }


CASES = _cases()


def _work(job: dict[str, Any], said: Path) -> None:
    """Train or resume as a job says; what is said, and the traceback of what is not a UserError, goes into a file."""
    from rlkit.api import fitting, runs, training
    from rlkit.errors import UserError

    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)

    def say(text: str) -> None:
        print(text, flush=True)

    try:
        if "load" in job:
            say(_loaded(job["load"], say))
        elif "resume" in job:
            runs.resume(job["resume"], say=say)
        elif job["seeds"]:
            training.train_seeds(job["who"], job["what"], job["seeds"], run_dir=job["root"], say=say, **job["fields"])
        else:
            begin: Callable[..., object] = fitting.fit if job["verb"] == "fit" else training.train
            begin(job["who"], job["what"], run_dir=job["root"], say=say, **job["fields"])
    except UserError as error:
        say(f"UserError: {error}")
        os._exit(2)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _loaded(path: str, say: Callable[[str], None]) -> str:
    """The step of a run's best agent or model, and a hash of all of it."""
    import tensorflow as tf

    from rlkit.api import runs
    from rlkit.api.fitting import FitRun

    found = runs.load(path, say)
    learned, step = found.trainee() if isinstance(found, FitRun) else found.agent()
    parts = tf.train.TrackableView(learned).descendants()
    values = [part.numpy().tobytes() for part in parts if isinstance(part, tf.Variable)]
    return f"loaded {step} {hashlib.sha256(b''.join(values)).hexdigest()}"


def begin(case: Case, root: Path, said: Path) -> BaseProcess:
    """Train a case in a process of its own, below a folder."""
    job = {"who": case.who, "what": case.what, "fields": case.fields, "verb": case.verb, "seeds": case.seeds}
    return _start({**job, "root": str(root)}, said)


def resume(path: Path, said: Path) -> BaseProcess:
    """Go on with a run in a process of its own."""
    return _start({"resume": str(path)}, said)


def load(path: Path, said: Path) -> tuple[int | None, str]:
    """Load a run's best agent in a process of its own: its exit code, and what it found."""
    code = ended(_start({"load": str(path)}, said))
    lines = said.read_text().splitlines()
    return code, next((line for line in lines if line.startswith("loaded ")), "")


def _start(job: dict[str, Any], said: Path) -> BaseProcess:
    process = LOADED.Process(target=_work, args=(job, said))
    process.start()
    return process


def ended(process: BaseProcess) -> int | None:
    """A process' exit code; None if it hangs, and is killed."""
    process.join(LIMIT)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def runs_in(root: Path) -> list[Path]:
    """The runs below a folder that have a place, by their seeds."""
    found = [file.parent for file in root.glob("*/*/[!.]*/run.json")]
    return sorted(found, key=lambda path: path.name.partition("seed")[2])


@dataclass
class Result:
    """All of a run that must not depend on what befell it."""

    values: dict[str, object] = field(default_factory=dict)

    def differing(self, other: Result) -> list[str]:
        """The names of what is not the same."""
        names = sorted({*self.values, *other.values})
        return [name for name in names if self.values.get(name) != other.values.get(name)]


def result(run: Path) -> Result:
    """Rows of metrics to the byte; the last and the best agent, the replay's draws and the counters to the bit."""
    import tensorflow as tf

    from rlkit.files import steps_in
    from rlkit.runs.segments import unpack

    found: dict[str, object] = {}
    for name in ("metrics.csv", "evaluations.csv", "config.toml", "data.json"):
        found[name] = (run / name).read_bytes() if (run / name).exists() else b""
    for folder in (run / "checkpoints", run / "checkpoints" / "best"):
        for step in steps_in(folder)[:1]:
            found[folder.name] = step
            reader = tf.train.load_checkpoint(str(folder / f"ckpt-{step}"))
            for name in reader.get_variable_to_shape_map():
                if name.startswith(("_CHECKPOINTABLE", "save_counter")):
                    continue
                value = reader.get_tensor(name)
                if not isinstance(value, bytes):
                    found[f"{folder.name}/{name}"] = _hash(value)
                    continue
                for key, array in unpack(io.BytesIO(value)).items():
                    found[f"{folder.name}/{name}/{key}"] = _counters(array) if key == "counters" else _hash(array)
    return Result(found)


def _hash(value: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()


def _counters(array: np.ndarray) -> dict[str, object]:
    """A loop's counters but for its clock."""
    counters: dict[str, object] = json.loads(str(array))
    counters.pop("seconds")
    return counters


def until(condition: Callable[[], bool], process: BaseProcess, seconds: float = LIMIT) -> bool:
    """Wait for a condition while a process runs; whether it came."""
    ends = time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < ends:
        if condition():
            return True
        time.sleep(0.002)
    return condition()


def chosen(names: str | None) -> dict[str, Case]:
    """The cases whose names hold one of some words, separated by commas; all for none."""
    words: Sequence[str] = names.split(",") if names else [""]
    return {name: case for name, case in CASES.items() if any(word.strip() in name for word in words)}
