"""Supervised training as a whole: from a model's and a data set's name to a finished run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rlkit import devices
from rlkit.api.configuration import resolve_fit
from rlkit.api.ending import in_turn, recorded
from rlkit.api.resuming import check_unfinished, go_on, texts
from rlkit.config import build, path_argument
from rlkit.devices import configure, onednn, threads
from rlkit.errors import FailedRunsError, UserError
from rlkit.files import read_text
from rlkit.reporting import Say, bar_label, labelled, silent
from rlkit.runs import run_directory
from rlkit.runs.checkpoint import Checkpointer
from rlkit.runs.disk import check_room, room_for
from rlkit.runs.observers import FIT_EVALUATIONS, FIT_METRICS, CsvObserver, ProgressObserver, TensorBoardObserver
from rlkit.runs.profiling import Profiler
from rlkit.runs.run_directory import AnyRun, RunDirectory
from rlkit.supervised import datasets, models
from rlkit.supervised.config import FitConfig, LSTMConfig, config_class
from rlkit.supervised.description import Data, Facts
from rlkit.supervised.pipeline import Pipeline, augmentation
from rlkit.supervised.text import Generator, encode
from rlkit.supervised.training import FitLoop, Supervised, evaluator

FACTS = "data.json"
"""File of a run with what its model must know of the data."""

FEW = 20
"""Epochs of a run up to which each is evaluated."""


@dataclass(frozen=True)
class FitRun(AnyRun):
    """A supervised run on disk, to evaluate, and to write text with."""

    config: FitConfig
    facts: Facts

    def trainee(self, checkpoint: str = "best") -> tuple[Supervised, int]:
        """The trained model with its optimizer, and the step that it was saved at.

        Args:
            checkpoint: "best", "last" or a step's number.

        Raises:
            UserError: there is no such checkpoint, or it is damaged or of another model.
        """
        with configure(self.config):
            trainee = Supervised(self.config, models.build(self.config, self.facts), self.facts)
            return trainee, Checkpointer(self.directory.checkpoints, trainee).restore_agent(checkpoint)

    def model(self, checkpoint: str = "best") -> keras.Model:
        """The trained model; classes and characters come as logits."""
        return self.trainee(checkpoint)[0].model

    def evaluate(self, checkpoint: str = "best", say: Say = silent) -> dict[str, Any]:
        """Loss, and accuracy, perplexity or error, on the data held out; also saved as evaluation.json in the run.

        Args:
            checkpoint: "best", "last" or a step's number.
            say: told what a person may want to know.

        Raises:
            UserError: there is no such checkpoint, or the data are not there or others than those of the run.
        """
        with configure(self.config):
            trainee, step = self.trainee(checkpoint)
            data = datasets.load(self.config, say)
            same(data.facts, self.facts, self.path)
            values = evaluator(trainee, Pipeline(data.held_out, self.config))()
        result = {**values, "examples": data.held_out.size, "held_out": bool(self.facts.held_out), "step": step}
        with contextlib.suppress(OSError):  # a run that cannot be written to can still be evaluated
            run_directory.replace_text(
                self.path / "evaluation.json", json.dumps({"checkpoint": checkpoint, **result}) + "\n"
            )
        return result

    def generate(
        self,
        length: int = 400,
        temperatures: Sequence[float] = (1.0,),
        prompt: str = "",
        seed: int = 0,
        checkpoint: str = "best",
    ) -> list[str]:
        """Text that goes on from a prompt, once for each temperature.

        Args:
            length: characters to write.
            temperatures: below 1 the likely characters become likelier; 0 takes the likeliest.
            prompt: what to go on from; if empty, a line's beginning.
            seed: of the draws.
            checkpoint: "best", "last" or a step's number.

        Raises:
            UserError: the run is of another model, or the prompt has characters that its text did not.
        """
        if not isinstance(self.config, LSTMConfig):
            raise UserError(f"run {self.path} is of the model {self.directory.agent}: text comes from lstm alone")
        vocabulary = self.facts.vocabulary
        prompt = prompt.lower() if self.config.lowercase else prompt
        start = encode(prompt or ("\n" if "\n" in vocabulary else vocabulary[0]), vocabulary, "the prompt")
        with configure(self.config):
            generator = Generator(self.model(checkpoint), seed)
            codes = [generator.generate(start, length, temperature) for temperature in temperatures]
        return ["".join(vocabulary[code] for code in written) for written in codes]


def fit(
    model: str,
    data: str | None = None,
    *,
    run_dir: str | Path = "runs",
    preset: str = "auto",
    config: str | Path | None = None,
    say: Say = silent,
    progress: str | bool | None = None,
    **fields: Any,  # noqa: ANN401 - any field of the model's config
) -> FitRun:
    """Train a model on a data set and return its run.

    >>> run = fit("mlp", "digits", epochs=2)  # doctest: +SKIP

    Args:
        model: name of the model, such as "mlp".
        data: name of the data set, such as "digits".
        run_dir: folder in which the run's own folder is made.
        preset: a preset's name, "none", or "auto" for the data set's own where there is one.
        config: a TOML file of fields.
        say: told what a person may want to know.
        progress: show a progress bar on stderr: True, or a label to set before it.
        **fields: any field of the model's config; the last word.

    Raises:
        UserError: whatever of this is wrong, before anything is written; or a metric is not finite.
    """
    label, folder = bar_label(progress), path_argument("run_dir", run_dir)
    resolved, taken = resolve_fit(
        model, data, preset=preset, config=path_argument("config", config) if config else None, fields=fields
    )
    with configure(resolved):
        found = datasets.load(resolved, say)
        resolved = scheduled(devices.settled(resolved, say), found)
        session = _Session(resolved, found)
        with run_directory.preparing(folder, model, resolved.data, resolved.seed, verb="fit") as directory:
            run_directory.replace_text(directory.path / FACTS, found.facts.to_json())
            say(f"preset: {taken}" if taken else "preset: none, the defaults")
            held = f"{found.facts.held_out:,} held out" if found.facts.held_out else "none held out: evaluated on these"
            say(f"data: {found.facts.train:,} examples to learn from, {held}")
            say(f"task: {found.facts.task}")
            for note in found.facts.notes:
                say(note)
            return session.train(directory, say, label)


def fit_seeds(
    model: str,
    data: str | None,
    seeds: Sequence[int],
    *,
    say: Say = silent,
    progress: bool = False,
    **options: Any,  # noqa: ANN401 - as fit's
) -> list[FitRun]:
    """Train a model with several seeds in turn, until one is interrupted; the other arguments are those of `fit`.

    Raises:
        FailedRunsError: some have failed; it has the runs of the others.
        UserError: whatever is wrong before anything is written.
    """

    def start(seed: int) -> list[FitRun]:
        label = f"seed {seed}: "
        told = labelled(say, label)
        return [fit(model, data, say=told, progress=label if progress else None, seed=seed, **options)]

    return in_turn(seeds, start)


def scheduled(config: FitConfig, data: Data) -> FitConfig:
    """A config whose intervals and steps are numbers of updates, for these data; no interval is longer than the run."""
    epoch = Pipeline(data.train, config).batches
    steps = config.steps or config.epochs * epoch
    # Each epoch is evaluated, unless that is oftener than every log_interval updates and more than FEW in all.
    few = min(-(-config.log_interval // epoch), max(1, -(-steps // (FEW * epoch)))) * epoch
    names = ("log_interval", "eval_interval", "checkpoint_interval")
    return config.replace(steps=steps, **{name: min(getattr(config, name) or few, steps) for name in names})


def resume(
    path: str | Path, *, steps: int | None = None, say: Say = silent, progress: str | bool | None = None
) -> FitRun:
    """Continue a supervised run from its newest good checkpoint, as if it had never stopped.

    Args:
        path: the run's folder.
        steps: go on to this many updates instead of the config's.
        say: told what a person may want to know.
        progress: show a progress bar on stderr: True, or a label to set before it.

    Raises:
        UserError: the path is no run, the run is in use, finished, or has no checkpoint that can be read; or its data
            are others than they were.
    """
    label, before = bar_label(progress), load(path, say, begun=True)
    config, directory = before.config, before.directory
    if steps is not None:
        config = config.replace(steps=steps)
    check_unfinished(directory, config.steps, given=steps is not None)
    with configure(config):
        data = datasets.load(config, say)
        same(data.facts, before.facts, directory.path)
        return _Session(config, data).train(directory, say, label, resuming=not directory.prepared)


def load(path: str | Path, say: Say = silent, *, begun: bool = False) -> FitRun:
    """The supervised run at a path, or the newest below it that has a checkpoint; UserError where there is none.

    Args:
        path: of the run, or of a folder.
        say: told what was passed over, and what is damaged.
        begun: take one too that was killed before its first checkpoint.
    """
    directory = run_directory.find(path, run_directory.untrained, verb="fit", say=say, begun=begun)
    directory.require("fit")
    kind, file = config_class(directory.agent), str(directory.path / "config.toml")
    config = build(kind, (file, directory.config(say)))
    try:
        facts = Facts.from_json(directory.kept(FACTS, say) or read_text(directory.path / FACTS))
        facts.check()
    except (OSError, ValueError, TypeError, RecursionError, UserError) as error:
        raise UserError(f"{directory.path / FACTS} cannot be read: {error}") from None
    return FitRun(directory, config, facts)


def same(now: Facts, before: Facts, path: Path) -> None:
    """UserError if the data are no longer what a run was made with."""
    for name, value in vars(before).items():
        if name != "notes" and not _equal(getattr(now, name), value):
            raise UserError(
                f"the data of run {path} have changed: {name} was {_short(value)} and is {_short(getattr(now, name))}"
            )


def _equal(now: object, before: object) -> bool:
    """Whether two facts are the same; numbers as float32 tells them, in which older runs computed them."""
    a, b = np.array(now, ndmin=1), np.array(before, ndmin=1)
    if a.dtype.kind == b.dtype.kind == "f" and a.shape == b.shape:
        return np.allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max(initial=0.0))
    return now == before


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


class _Session:
    """All that a run needs in memory, made and checked before its folder exists."""

    def __init__(self, config: FitConfig, data: Data) -> None:
        self.config, self.data = config, data
        self.trainee = Supervised(config, models.build(config, data.facts), data.facts)
        changes = augmentation(config)
        if changes and len(data.facts.shape) != 3:
            raise UserError(f"rotation, shift, zoom, flip and brightness are for images, which {config.data} has not")
        self.pipeline = Pipeline(data.train, config, changes)
        self.evaluate = evaluator(self.trainee, Pipeline(data.held_out, config.replace(cache="none")))

    def train(self, directory: RunDirectory, say: Say, progress: str | None, *, resuming: bool = False) -> FitRun:
        """Train in the run's folder until it ends one way or another."""
        c = self.config
        with contextlib.ExitStack() as stack:
            stack.enter_context(run_directory.resumable([directory]))
            stack.enter_context(directory.lock())
            if not resuming:
                directory.running(threads=threads(), onednn=onednn())
                directory.begin(c.to_dict())
            checkpointer = Checkpointer(directory.checkpoints, self.trainee, keep=c.keep_checkpoints)
            check_room([directory.checkpoints], room_for(c, checkpointer.nbytes), "keep_checkpoints")
            loop = FitLoop(self.trainee, self.pipeline, self.evaluate, checkpointer)
            if resuming:
                go_on(loop, directory, c.to_dict(), say)
                directory.running(threads=threads(), onednn=onednn())
            else:
                checkpointer.texts = texts(directory, c.to_dict())
                loop.begin_run()
                directory.settle(c.to_dict())
                checkpointer.move(directory.checkpoints)
            loop.observers = [
                CsvObserver(directory.path, FIT_METRICS, FIT_EVALUATIONS),
                TensorBoardObserver(directory.path),
            ]
            if c.profile and loop.programs:
                loop.profiler = Profiler(directory.path, loop.programs.graph, first=1, last=1)
            if progress is not None:
                bar = ProgressObserver(c.steps, loop.step, label=progress)
                loop.observers = [*loop.observers, stack.enter_context(bar)]
            statuses = ["failed"]
            with recorded([directory], [loop], statuses, say):
                try:
                    statuses[0] = loop.run()
                except UserError as error:
                    raise FailedRunsError({c.seed: str(error)}) from error
                if loop.interrupted and statuses[0] != "interrupted":
                    raise KeyboardInterrupt
        return FitRun(directory, c, self.data.facts)
