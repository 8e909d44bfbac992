"""A user's mistake, told in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

DISTRIBUTION = "rlkit-keras"
"""Name by which pip knows rlkit: another project has the name rlkit on the index."""


EXTRAS = {
    "box2d": "box2d",
    "minatar": "minatar",
    "pygame": "video",
    "ale_py": "atari",
    "cv2": "atari",
    "opencv": "atari",
}
"""Which extra of rlkit installs a module that an env imports."""


class UserError(Exception):
    """A mistake of the user's: the message names what was wrong and what would be right.

    The command line prints it as one sentence on stderr and exits with code 2.
    """


class WriteError(UserError):
    """A file of a run cannot be written, as where the disk is full; what was saved before is still good."""


class EnvError(UserError):
    """An env that raises, or breaks Gymnasium's interface, while it is used: whose it was and where."""


ALIASES: dict[str, tuple[str, ...]] = {
    "alpha": ("step_size", "learning_rate", "priority_exponent"),
    "batch": ("batch_size",),
    "beta": ("importance_exponent",),
    "bs": ("batch_size",),
    "buffer": ("buffer_size",),
    "capacity": ("buffer_size",),
    "checkpoint_freq": ("checkpoint_interval",),
    "cuda": ("device",),
    "dataset": ("data",),
    "discount": ("gamma",),
    "discount_factor": ("gamma",),
    "env_args": ("set",),
    "env_id": ("env",),
    "env_kwargs": ("env_args", "set"),
    "env_name": ("env",),
    "environment": ("env",),
    "episodes": ("steps",),
    "epochs": ("epochs", "steps"),
    "eps": ("epsilon_start", "epsilon_end"),
    "eps_decay": ("epsilon_duration",),
    "eps_end": ("epsilon_end",),
    "eps_start": ("epsilon_start",),
    "epsilon": ("epsilon_start", "epsilon_end"),
    "epsilon_decay": ("epsilon_duration",),
    "eval_every": ("eval_interval",),
    "eval_freq": ("eval_interval",),
    "exploration_final_eps": ("epsilon_end",),
    "exploration_fraction": ("epsilon_duration",),
    "exploration_initial_eps": ("epsilon_start",),
    "gpu": ("device",),
    "grad_clip": ("max_gradient_norm",),
    "hidden_sizes": ("hidden",),
    "iterations": ("steps",),
    "lam": ("trace_decay",),
    "lambda": ("trace_decay",),
    "layers": ("hidden",),
    "log_dir": ("run_dir",),
    "log_freq": ("log_interval",),
    "log_path": ("run_dir",),
    "logdir": ("run_dir",),
    "lr": ("learning_rate", "step_size"),
    "max_epochs": ("epochs", "steps"),
    "max_grad_norm": ("max_gradient_norm",),
    "max_steps": ("steps",),
    "memory": ("buffer_size",),
    "memory_size": ("buffer_size",),
    "model_dir": ("run_dir",),
    "n_envs": ("num_envs",),
    "n_epochs": ("epochs", "steps"),
    "n_eval_episodes": ("eval_episodes",),
    "n_steps": ("steps", "n_step", "rollout_length"),
    "net_arch": ("hidden",),
    "num_episodes": ("steps",),
    "num_epochs": ("epochs", "steps"),
    "num_steps": ("steps", "rollout_length"),
    "num_timesteps": ("steps",),
    "num_workers": ("num_envs",),
    "out": ("run_dir", "to"),
    "out_dir": ("run_dir", "out"),
    "output": ("run_dir", "to", "out"),
    "output_dir": ("run_dir", "out"),
    "policy": ("network",),
    "random_seed": ("seed",),
    "replay_buffer_size": ("buffer_size",),
    "replay_size": ("buffer_size",),
    "results_dir": ("run_dir",),
    "save_dir": ("run_dir",),
    "save_freq": ("checkpoint_interval",),
    "start_steps": ("learning_starts",),
    "target_update": ("target_interval",),
    "target_update_interval": ("target_interval",),
    "tau": ("polyak",),
    "tensorboard_log": ("run_dir",),
    "timesteps": ("steps",),
    "total_episodes": ("steps",),
    "total_steps": ("steps",),
    "total_timesteps": ("steps",),
    "train_freq": ("train_interval",),
    "train_frequency": ("train_interval",),
    "update_interval": ("train_interval",),
    "use_cuda": ("device",),
    "warmup_steps": ("learning_starts",),
    "workers": ("num_envs",),
}
"""Names that other libraries and habit have for ours; of several, those that exist where one is asked for."""


class FailedRunsError(UserError):
    """Runs that failed after they had begun, such as by a loss that is not finite.

    Args:
        failures: for each seed what was wrong.
        runs: those of the same series that did not fail.
    """

    def __init__(self, failures: Mapping[int, str], runs: Sequence[Any] = ()) -> None:
        self.failures, self.runs = dict(failures), list(runs)
        tried = len(failures) + len(runs)
        told = [f"seed {seed} failed: {text}" for seed, text in failures.items()]
        told.append(f"{len(runs)} of {tried} seeds did not fail")
        super().__init__("; ".join(told) if tried > 1 else next(iter(failures.values())))


def install(extra: str) -> str:
    """How to install an extra of rlkit, for who reads it: in its clone where it lies in one, else by its name."""
    clone = Path(__file__).resolve().parents[1]
    if (clone / "setup.cfg").is_file():
        return f"pip install -e '.[{extra}]' in {clone}"
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def lacking(error: Exception) -> str:
    """Sentence on the package that an env lacks, and how to install it, from the error that it raised."""
    missing = (getattr(error, "name", None) or str(error)).casefold()
    module = next((module for module in EXTRAS if module in missing), None)
    return f"{module} is not installed: {install(EXTRAS[module])}" if module else str(error)


def unknown(kind: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest ones that do.

    >>> print(unknown("agent", "dqm", ["dqn", "sarsa"]))
    unknown agent 'dqm': did you mean 'dqn'?
    >>> print(unknown("flag", "--total-timesteps", ["--seed", "--steps"]))
    unknown flag '--total-timesteps': did you mean '--steps'?
    """
    if not isinstance(name, str):
        return UserError(f"{kind} is {short(name)}, expected a name, as text")
    names = sorted(known, key=str.casefold)
    folded = {n.casefold(): n for n in names}
    plain = {_plain(n): n for n in names}
    close = [plain[n] for n in ALIASES.get(_plain(name), ()) if n in plain]
    close = close or ([plain[_plain(name)]] if _plain(name) in plain else [])
    close = close or [folded[n] for n in difflib.get_close_matches(name.casefold(), list(folded), n=3, cutoff=0.6)]
    if close:
        hint = "did you mean " + " or ".join(repr(n) for n in close) + "?"
    elif names:
        shown = ", ".join(names[:12])
        hint = f"there is {shown}" + (" and more" if len(names) > 12 else "")
    else:
        hint = "there is none"
    return UserError(f"unknown {kind} {name!r}: {hint}")


def _plain(name: str) -> str:
    """A flag or a field as a field is written."""
    return name.casefold().lstrip("-").replace("-", "_")


def short(value: object) -> str:
    """A value of any type in a sentence: its repr, cut where it is long, on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
