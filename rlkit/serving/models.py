"""The versions of one model: what is loaded, which one a request means, and how new ones come in.

A version is a folder whose name is a number. One thread looks at the base folder; it loads a new version beside those
that serve, puts it in their place in one assignment, and lets go of an old one when its last request is answered. So a
request sees one version whole, and none fails for a change.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2

from rlkit.serving.errors import Code, ServingError, invalid, told
from rlkit.serving.folders import Listing, listing, versions_in
from rlkit.serving.ops import check
from rlkit.serving.signature import Signature

Say = Callable[[str], None]


class Version:
    """A loaded version.

    Args:
        number: its number.
        folder: its SavedModel.
        operations: that its graphs may have besides `rlkit.serving.ops.ALLOWED`.

    Raises:
        Exception: whatever loading raises for a folder that is no whole SavedModel.
    """

    def __init__(self, number: int, folder: Path, operations: Collection[str] = ()) -> None:
        self.number = number
        check(folder, operations)
        self.definitions = _definitions(folder)
        self._module = tf.saved_model.load(str(folder))
        self.signatures = {
            name: Signature(name, self.definitions[name], function)
            for name, function in self._module.signatures.items()
            if name in self.definitions
        }
        self.active = 0
        """Requests that wait for an answer of it."""
        for signature in self.signatures.values():
            zeros = signature.example()
            if zeros is not None:  # the first call of a function costs many times the second
                with contextlib.suppress(tf.errors.OpError):
                    signature(zeros)


def _definitions(folder: Path) -> dict[str, Any]:
    """A SavedModel's SignatureDef messages by name."""
    message = saved_model_pb2.SavedModel()
    try:
        message.ParseFromString((folder / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise ValueError(f"{folder / 'saved_model.pb'} is no whole SavedModel: {error}") from None
    graphs = [g for g in message.meta_graphs if "serve" in g.meta_info_def.tags]
    if not graphs:
        raise ValueError(f"{folder} has no graph with the tag serve")
    return dict(graphs[0].signature_def)


@dataclass
class Status:
    """Where a version stands: START, LOADING, AVAILABLE, UNLOADING or END; and what went wrong."""

    state: str
    code: Code = Code.OK
    message: str = ""


@dataclass
class Model:
    """A model: a base folder of versions, or one version's folder.

    Args:
        name: in requests.
        path: the folder.
        keep: how many of the newest versions are served.
        labels: names of versions, which are then served too.
        say: told what is loaded, unloaded, or cannot be.
        operations: as of a `Version`.
    """

    name: str
    path: Path
    keep: int
    labels: Mapping[str, int]
    say: Say
    operations: Collection[str] = ()
    loaded: dict[int, Version] = field(default_factory=dict)
    """Replaced as a whole, never changed: other threads read it."""
    status: dict[int, Status] = field(default_factory=dict)
    trouble: str = ""
    """The error that the last look at the folder ended in, if it did."""
    failures: int = 0
    """Looks at the folder that ended in an exception."""
    _seen: dict[int, Listing] = field(default_factory=dict)
    _tried: dict[int, Listing] = field(default_factory=dict)

    def find(self, name: str, number: int | None = None, label: str | None = None) -> Version:
        """The version that a request names, else the newest.

        Raises:
            ServingError: there is no such model, version or label.
        """
        if name == self.name and label is not None:
            if label not in self.labels:
                raise invalid(f"Unrecognized servable version label: {label}")
            number = self.labels[label]
        loaded = self.loaded
        if name == self.name and loaded:
            if number is None:
                return loaded[max(loaded)]
            if number in loaded:
                return loaded[number]
        asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
        raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {asked}")

    def states(self, name: str, number: int | None = None, label: str | None = None) -> dict[int, Status]:
        """Where each version stands that was ever to be served, the newest first; or the version that is named.

        Raises:
            ServingError: there is no such model, version or label.
        """
        found = dict(self.status) if name == self.name else {}
        if found and label is not None:
            if label not in self.labels:
                raise invalid(f"Unrecognized servable version label: {label}")
            number = self.labels[label]
        if number is not None:
            if number not in found:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {number} of model {name}")
            return {number: found[number]}
        if not found:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return dict(sorted(found.items(), reverse=True))

    def poll(self, settled: bool = True) -> None:
        """Look at the folder once: load what is new and whole, unload what is to go.

        Args:
            settled: take a folder only when it looks as it did the last time.
        """
        folders = versions_in(self.path)
        count = 0
        for number in sorted(folders, reverse=True):  # past one that is not whole or cannot be loaded, to an older one
            labelled = number in self.labels.values()
            if count < self.keep or labelled:
                count += number in self.loaded or self._take(number, folders[number], settled)
        # One whose folder vanished goes too, but the last one stays until there is another in its place.
        ready = sorted(self.loaded)
        present = [n for n in ready if n in folders] or ready[-1:]
        for number in sorted({*ready} - {*present[-self.keep :], *self.labels.values()}):
            self._unload(number)

    def _take(self, number: int, folder: Path, settled: bool) -> bool:
        """Load a version if its folder is whole, has settled, and is not the one that could not be loaded before."""
        now = listing(folder)
        if now is None or now == self._tried.get(number):
            return False
        if settled and now != self._seen.get(number):
            self._seen[number] = now
            return False
        self._tried[number] = now
        return self._load(number, folder)

    def _load(self, number: int, folder: Path) -> bool:
        self.status[number] = Status("LOADING")
        try:
            version = Version(number, folder, self.operations)
        except Exception as error:  # a broken folder may raise anything and must not stop the server
            reason = told(error)
            self.status[number] = Status("END", reason.code, reason.message)
            self.say(f"version {number} cannot be loaded: {reason.message}")
            return False
        self.loaded = {**self.loaded, number: version}
        self.status[number] = Status("AVAILABLE")
        self.say(f"version {number} of {self.name} is loaded from {folder}")
        return True

    def _unload(self, number: int) -> None:
        version = self.loaded[number]
        self.status[number] = Status("UNLOADING")
        self.loaded = {n: v for n, v in self.loaded.items() if n != number}
        drained = threading.Event()
        while version.active:
            drained.wait(0.01)
        del version
        self._tried.pop(number, None)
        self._seen.pop(number, None)
        gc.collect()
        self.status[number] = Status("END")
        self.say(f"version {number} of {self.name} is unloaded")

    def watch(self, stop: threading.Event, seconds: float) -> None:
        """Look at the folder every so many seconds until told to stop, whatever a look ends in."""
        while not stop.wait(seconds):
            try:
                self.poll()
                self.trouble = ""
            except Exception as error:  # what it may be is not known, and no version would come in any more
                self.failures += 1
                trouble = f"{self.path} cannot be looked through for versions: {type(error).__name__}: {error}"
                if trouble != self.trouble:
                    self.trouble = trouble
                    self._tell(trouble, error)

    def _tell(self, trouble: str, error: Exception) -> None:
        logging.getLogger(__name__).error("the look for versions failed", exc_info=error)
        with contextlib.suppress(Exception):  # stderr may be what fails
            self.say(trouble)
