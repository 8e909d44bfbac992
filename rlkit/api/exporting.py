"""Trained runs as files for other runtimes, each held to the live model before it is left where it was asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from rlkit import export as formats
from rlkit.api import runs, webpage
from rlkit.api.agent_run import Run
from rlkit.api.export_reference import Subject, subject
from rlkit.api.fitting import FitRun
from rlkit.devices import configure
from rlkit.errors import UserError, unknown
from rlkit.export.checking import compare
from rlkit.export.portable import Format, Settings
from rlkit.files import home, whole_folder
from rlkit.reporting import Say, silent
from rlkit.trust import REPORT, seal_model


@dataclass(frozen=True)
class Exported:
    """An export that agrees with the live model."""

    path: Path
    """The file; of a SavedModel the folder of its versions, of a page its folder."""
    report: dict[str, Any]
    """As export.json has it; of a page, of its .tflite."""


def export_run(  # noqa: PLR0913 - a choice each
    run: str | Path,
    to: str,
    *,
    checkpoint: str = "best",
    out: str | Path | None = None,
    quantize: str = "none",
    converter: str | None = None,
    trust: bool = False,
    say: Say = silent,
) -> Exported:
    """Write a run's model in a format, load it in another runtime, and hold it to the live model.

    They are compared on 1,000 observations of greedy episodes, and by the mean return of 20 episodes; a supervised
    model on examples held out, and by its accuracy there.

    Args:
        run: the run's folder, or one that it is the newest in.
        to: one of `rlkit.export.FORMATS`, or "web".
        checkpoint: "best", "last" or a step's number.
        out: folder to write to; None for one in the run's own exports.
        quantize: one of `rlkit.export.QUANTIZATIONS`, of a .tflite.
        converter: a Python with the converter of tfjs; None for one that is made and kept in the user's cache.
        trust: import the code that the config of a run of another's names.
        say: told what takes long.

    Raises:
        UserError: the format cannot hold the model or what it holds does not agree; then nothing is written.
    """
    if to not in (*formats.FORMATS, "web"):
        raise unknown("format", to, (*formats.FORMATS, "web"))
    if quantize not in formats.QUANTIZATIONS:
        raise unknown("quantization", quantize, formats.QUANTIZATIONS)
    if quantize != "none" and to != "tflite":
        raise UserError(f"quantize is {quantize}, which is for tflite alone, not for {to}")
    loaded = runs.load(run, say, trust=trust)
    folder = home(out) if out else loaded.path / "exports" / (to if quantize == "none" else f"{to}-{quantize}")
    settings = Settings(quantize, converter=converter, say=say)
    if to == "web":
        return _page(loaded, checkpoint, folder, settings)
    with configure(loaded.config):
        return _export(loaded, to, checkpoint, folder, settings)


def _page(loaded: Run | FitRun, checkpoint: str, folder: Path, settings: Settings) -> Exported:
    """A page, of a policy that agrees with the live one as a .tflite."""
    webpage.check(loaded.directory)
    report: dict[str, Any] = {}
    with configure(loaded.config):
        held_to = subject(loaded, checkpoint, settings.say)

        def held(beside: Path) -> None:
            about = {"run": str(loaded.path), "format": "web", "quantize": "none", "checkpoint": checkpoint}
            report.update(_held("tflite", held_to, beside, about))

        return Exported(webpage.build(cast("Run", loaded), folder, checkpoint, held), report)


def _export(loaded: Run | FitRun, to: str, checkpoint: str, folder: Path, settings: Settings) -> Exported:
    """As `export_run`, in the scope of the run's device."""
    module = _module(to)
    versions = module.FILE == "."
    held_to = subject(loaded, checkpoint, settings.say)
    about = {"run": str(loaded.path), "format": to, "quantize": settings.quantize, "checkpoint": checkpoint}
    with whole_folder(folder / str(held_to.step) if versions else folder, REPORT) as beside:
        module.write(held_to.portable, beside, replace(settings, samples=held_to.inputs))
        report = _held(to, held_to, beside, about)
    return Exported(folder if versions else folder / module.FILE, report)


def _module(to: str) -> Format:
    return cast("Format", formats.module(to))


def _held(to: str, held_to: Subject, folder: Path, about: dict[str, str]) -> dict[str, Any]:
    """What the export in a folder was held to, also written beside it; UserError unless it agrees."""
    with _module(to).opened(folder, held_to.portable) as runtime:
        found = runtime(held_to.inputs)
        agreement = compare(held_to.expected, found, held_to.portable)
        agreement.require(to, about["quantize"])
        score = held_to.score(runtime, found)
    report = {
        **about,
        "step": held_to.step,
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        **agreement.to_dict(),
        "measure": held_to.measure,
        "live": held_to.live_score,
        "exported": score,
    }
    if to == "savedmodel":
        report["seal"] = seal_model(folder)
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report
