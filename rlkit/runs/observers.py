"""Observers of a run: CSV files, TensorBoard scalars, a progress bar or plain lines, a forecast and a warning."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rlkit.errors import WriteError
from rlkit.files import opener, reason, whole, write_whole
from rlkit.reporting import Say, time_text
from rlkit.runs.digests import ROWS, Digest, Manifest, digest, fault, remove
from rlkit.runs.disk import with_room

Row = Mapping[str, float | None]


class Observer(Protocol):
    """Sees every row of metrics and every evaluation."""

    def row(self, step: int, row: Row, seconds: float) -> None:
        """Metrics of the steps since the row before; `seconds` since the run began, without pauses."""
        ...

    def evaluation(self, step: int, values: Row, returns: Sequence[float] = ()) -> None:
        """What an evaluation at a step found, and the returns of its episodes if an agent played any."""
        ...


def number(value: float | None) -> str:
    """A number in the fewest digits that keep a float32; empty for none."""
    if value is None or math.isnan(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.9g}"


class CsvFile:
    """A CSV file that grows by whole lines; its first column is the step."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, columns
        if not path.exists() or not path.stat().st_size:
            self._append(columns)
        else:  # a resumed run's: an earlier version may have had fewer columns
            with path.open(encoding="utf-8", newline="") as file:
                self.columns = next(csv.reader(file))

    def write(self, values: Sequence[str]) -> None:
        """Append a row, at once on disk."""
        self._append(values)

    def _append(self, values: Sequence[str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        try:
            with open(self.path, "a", encoding="utf-8", newline="", opener=opener) as file:
                file.write(line.getvalue())
        except OSError as error:
            why = with_room(reason(error), self.path.parent, len(line.getvalue()))
            raise WriteError(f"{self.path} cannot be written: {why}") from error

    @staticmethod
    def cut(path: Path, step: int, before: Digest | None = None) -> str | None:
        """Drop the rows after a step's checkpoint, and a last line that was cut short: a resumed run writes them again.

        Args:
            path: the file.
            step: of the checkpoint.
            before: digest of the file when it was saved; None for one of a version of old.

        Returns:
            A sentence on rows that are lost; None where none is.
        """
        if before is not None and not before.size:
            remove(path)
            return None
        if before is not None and fault(path, before, grows=True) is None:
            if path.stat().st_size > before.size:
                write_whole(path, path.read_bytes()[: before.size])
            return None
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        whole_lines = [line for line in lines if line.endswith(b"\n")]
        steps = [_step(line, whole_lines[0].count(b",")) for line in whole_lines[1:]]
        kept = [line for at, line in zip(steps, whole_lines[1:], strict=True) if at is not None and at <= step]
        if whole_lines and whole_lines[0].startswith(b"step,"):
            write_whole(path, b"".join(whole_lines[:1] + kept))
        else:
            remove(path)
            kept = []
        if before is None:
            unread = steps.count(None)
            return f"{path.name} is damaged: {unread:,} of its rows are lost" if unread else None
        rows = before.lines - 1
        return (
            f"{path.name} is damaged: {max(rows - len(kept), 0):,} of its {rows:,} rows are lost, others may be changed"
        )


def _step(line: bytes, commas: int) -> int | None:
    """The step of a row; None for what is none."""
    try:
        first, *cells = line.decode("ascii").split(",")
        for number in " ".join(cells).split():
            float(number)
        return int(first) if len(cells) == commas else None
    except ValueError:
        return None


METRICS = (
    "step",
    "episode",
    "episode_return",
    "episode_length",
    "loss",
    "td_error",
    "q",
    "gradient_norm",
    "updates",
    "epsilon",
    "learning_rate",
)
"""Columns of metrics.csv. Return and length are means over the episodes that ended since the row before."""

EVALUATIONS = ("step", "mean", "regret", "returns", "confirmation")
"""Columns of evaluations.csv. Regret: what the greedy policy loses on the optimal one, where the model is known.
Confirmation: where the mean reached the target return, that of as many fresh episodes."""

FIT_METRICS = ("step", "epoch", "loss", "accuracy", "gradient_norm", "learning_rate")
"""Columns of a supervised run's metrics.csv: means over the updates since the row before, each measured before it."""

FIT_EVALUATIONS = ("step", "loss", "accuracy", "perplexity", "mean_absolute_error")
"""Columns of its evaluations.csv, of the data held out; each kind of data fills those that it has."""


class CsvObserver:
    """metrics.csv and evaluations.csv, which a run and its resumed twin share to the byte, and timing.csv."""

    def __init__(
        self, directory: Path, metrics: Sequence[str] = METRICS, evaluations: Sequence[str] = EVALUATIONS
    ) -> None:
        self._metrics = CsvFile(directory / "metrics.csv", metrics)
        self._evaluations = CsvFile(directory / "evaluations.csv", evaluations)
        self._timing = CsvFile(directory / "timing.csv", ("step", "seconds"))

    @staticmethod
    def cut(directory: Path, step: int, manifest: Manifest | None = None) -> list[str]:
        """Drop what was written after a step's checkpoint, by its manifest if it has one; sentences on what is lost."""
        none = digest(b"")
        before = {name: manifest.rows.get(name, none) if manifest else None for name in ROWS}
        return [lost for name in ROWS if (lost := CsvFile.cut(directory / name, step, before[name]))]

    def row(self, step: int, row: Row, seconds: float) -> None:
        self._metrics.write([str(step), *(number(row.get(name)) for name in self._metrics.columns[1:])])
        self._timing.write([str(step), f"{seconds:.3f}"])

    def evaluation(self, step: int, values: Row, returns: Sequence[float] = ()) -> None:
        cells = {name: number(value) for name, value in values.items()} | {"returns": " ".join(map(number, returns))}
        self._evaluations.write([str(step), *(cells.get(name, "") for name in self._evaluations.columns[1:])])


EVENTS = "events.out.tfevents"
"""How TensorBoard knows its files."""


class TensorBoardObserver:
    """The same numbers as TensorBoard events, in a file of the process that trains the run.

    At its first step, what earlier processes wrote of this and later steps is cut, since a resumed run writes it again,
    and the rest put into one file, so that there are never more than two; and a TensorBoard that has read it is told to
    drop it, by the mark of a restart.
    """

    def __init__(self, directory: Path) -> None:
        import tensorflow as tf  # noqa: PLC0415
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # noqa: PLC0415 - plain text needs none
        from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb  # noqa: PLC0415
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb  # noqa: PLC0415

        self._tf, self._event, self._summary = tf, Event, Summary
        self._scalar, self._histogram = scalar_pb, histogram_pb
        self._restart = SessionLog(status=SessionLog.START)
        self._path = directory / f"{EVENTS}.{time.time():.6f}.{os.getpid()}"
        self._writer: Any = None  # a process that is killed before its first row leaves no file

    def row(self, step: int, row: Row, seconds: float) -> None:
        del seconds
        self._write(step, self._scalars("train", row))

    def evaluation(self, step: int, values: Row, returns: Sequence[float] = ()) -> None:
        histograms = [self._histogram("evaluate/returns", list(returns))] if returns else []
        self._write(step, self._scalars("evaluate", values) + histograms)

    def _scalars(self, where: str, row: Row) -> list[Any]:
        known = {name: value for name, value in row.items() if value is not None and math.isfinite(value)}
        return [self._scalar(f"{where}/{name}", value) for name, value in known.items()]

    def _write(self, step: int, parts: Sequence[Any]) -> None:
        """All of a step as one event, for a tenth of the time that an event for each number takes."""
        first = [{"file_version": "brain.Event:2"}, {"step": step, "session_log": self._restart}]
        summary = self._summary.FromString(b"".join(part.SerializeToString() for part in parts))  # end to end: one
        try:
            begins = self._writer is None
            if begins:
                self._cut(step)
                self._writer = self._tf.io.TFRecordWriter(str(self._path))
            for event in (*(first if begins else []), {"step": step, "summary": summary}):
                self._writer.write(self._event(wall_time=time.time(), **event).SerializeToString())
            self._writer.flush()
        except (self._tf.errors.OpError, OSError) as error:
            why = with_room(reason(error), self._path.parent, summary.ByteSize())
            raise WriteError(f"{self._path} cannot be written: {why}") from error

    def _cut(self, step: int) -> None:
        """Drop what earlier processes wrote of a step and of those behind it, and put the rest into one file."""
        files = [
            path
            for path in sorted(self._path.parent.glob(f"{EVENTS}.*"))
            if path.suffix[1:].isdigit() and path.is_file()
        ]
        files = [path for path in files if path != self._path]
        records, read = dict[bytes, None](), 0
        for path in files:
            with suppress(self._tf.errors.DataLossError):  # a last record that was cut short
                for record in self._tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                    event, read = self._event.FromString(record), read + 1
                    if event.step < step if event.HasField("summary") else path == files[0]:  # one beginning
                        records[record] = None
        if len(files) > 1 or read > len(records):
            with whole(files[0]) as beside, self._tf.io.TFRecordWriter(str(beside)) as writer:
                for record in records:
                    writer.write(record)
            for path in files[1:]:
                path.unlink()


SHOWN = ("episode_return", "epsilon", "accuracy", "loss")
"""Metrics that a progress bar has room for, the most telling first."""

LABELS = {"episode_return": "return", "mean": "eval", "regret": "regret", "confirmation": "again"}
"""What a progress bar calls a metric or a value of an evaluation, where not by its name."""


class ProgressObserver(AbstractContextManager["ProgressObserver"]):
    """A progress bar on a terminal, else a line now and then; on stderr.

    Args:
        steps: where the run ends.
        start: where it begins, or goes on.
        interval: seconds between two plain lines.
        label: set before each line, to tell several runs apart.
    """

    def __init__(self, steps: int, start: int = 0, interval: float = 5.0, label: str = "") -> None:
        self._console = Console(stderr=True)
        self._steps, self._start, self._interval, self._label = steps, start, interval, label
        self._began = self._told = time.monotonic()
        self._said: dict[str, str] = {}
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn(label + "{task.completed:,.0f}/{task.total:,.0f} steps"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[said]}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
                expand=True,
            )
            self._task = self._bar.add_task("", total=steps, completed=start, said="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            with suppress(OSError):
                self._bar.stop()

    def say(self, text: str) -> None:
        """A line above the bar."""
        with suppress(OSError):  # of a terminal that was closed: the run is saved all the same
            self._console.print(self._label + text, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def row(self, step: int, row: Row, seconds: float) -> None:
        del seconds
        elapsed = time.monotonic() - self._began
        rate = (step - self._start) / max(elapsed, 1e-9)
        self._said["rate"] = f"{rate:,.0f} steps/s"
        for name in SHOWN:
            value = row.get(name)
            if value is not None and not math.isnan(value):
                self._said[name] = f"{LABELS.get(name, name)} {value:.4g}"
        self._show(step, max(self._steps - step, 0) / max(rate, 1e-9))

    def evaluation(self, step: int, values: Row, returns: Sequence[float] = ()) -> None:
        del returns
        known = {name: value for name, value in values.items() if value is not None}
        self._said = {name: text for name, text in self._said.items() if not name.startswith("eval ")} | {
            f"eval {name}": f"{LABELS.get(name, f'test {name}')} {value:.4g}" for name, value in known.items()
        }
        self._show(step, None)

    def _show(self, step: int, left: float | None) -> None:
        evaluated = [name for name in self._said if name.startswith("eval ")]
        order = ("rate", SHOWN[0], *evaluated, *SHOWN[1:])
        parts = [self._said[k] for k in order if k in self._said]
        said = "  ".join(parts)
        if self._bar:
            while parts and len(said) > self._room():
                said = "  ".join(parts := parts[:-1])
            with suppress(OSError):
                self._bar.update(self._task, completed=step, said=said)
        elif left is not None and (time.monotonic() - self._told >= self._interval or step >= self._steps):
            self._told = time.monotonic()
            minutes, rest = divmod(round(left), 60)
            self.say(f"{step:,}/{self._steps:,} steps  {said}  {minutes}:{rest:02d} left")

    def _room(self) -> int:
        """Characters that a line of the terminal has for metrics, beside the steps, the time left and a short bar."""
        counts, bar, time_left, gaps = f"{self._steps:,}/{self._steps:,} steps", 8, 7, 3
        return self._console.width - len(self._label) - len(counts) - bar - time_left - gaps


class Forecast:
    """Says once how long the rest will take, at the rate of the first minute of learning.

    Args:
        steps: where the run ends.
        say: told it.
    """

    MINUTE = 60.0

    def __init__(self, steps: int, say: Say) -> None:
        self.steps, self.say = steps, say
        self.begun: tuple[int, float] | None = None
        self.said = False

    def row(self, step: int, row: Row, seconds: float) -> None:
        if self.said or row.get("loss") is None:
            return
        if self.begun is None:
            self.begun = step, seconds
            return
        first, since = self.begun
        if seconds - since >= self.MINUTE:
            rate = (step - first) / (seconds - since)
            self.say(f"{rate:,.0f} steps/s: about {time_text((self.steps - step) / rate)} to go")
            self.said = True

    def evaluation(self, step: int, values: Row, returns: Sequence[float] = ()) -> None:
        del step, values, returns


class RangeWatch:
    """Says once that returns leave the range of head c51: at the first row in which 1% of the targets do at one end.

    Args:
        v_min: the lower end.
        v_max: the upper end.
        say: told it.
    """

    SHARE = 0.01

    def __init__(self, v_min: float, v_max: float, say: Say) -> None:
        self.ends = {"below_v_min": f"below v_min, {v_min:g}", "above_v_max": f"above v_max, {v_max:g}"}
        self.flags = {"below_v_min": "a lower --v-min", "above_v_max": "a higher --v-max"}
        self.say, self.said = say, False

    def row(self, step: int, row: Row, seconds: float) -> None:
        del seconds
        shares = {name: row.get(name) or 0.0 for name in self.ends}
        left = [name for name, share in shares.items() if share >= self.SHARE]
        if self.said or not left:
            return
        self.said = True
        where = " and ".join(f"{shares[name]:.0%} are {self.ends[name]}" for name in left)
        flags = " and ".join(self.flags[name] for name in left)
        self.say(
            f"step {step:,}: head c51 cannot hold these returns: of the targets {where}, and are clipped to it: "
            f"give {flags}"
        )

    def evaluation(self, step: int, values: Row, returns: Sequence[float] = ()) -> None:
        del step, values, returns
