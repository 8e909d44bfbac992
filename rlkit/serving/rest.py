"""The REST API: paths, and what each answers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import orjson
from google.protobuf.json_format import MessageToDict

from rlkit.serving import messages
from rlkit.serving.batching import Answer, Batcher, Call
from rlkit.serving.bodies import Compressed
from rlkit.serving.errors import Code, ServingError, invalid, logged
from rlkit.serving.examples import batch, classifications, regressions, serialized, signature_for
from rlkit.serving.http import JSON_TYPE, Body, Respond, error_body
from rlkit.serving.json_answers import Slice, answer, long_answer, parts_of, results_answer
from rlkit.serving.json_reader import JSON, Reader, shown
from rlkit.serving.json_tensors import inputs_of
from rlkit.serving.lane import LONG, NUMBERS, ROWS, Lane
from rlkit.serving.metrics import TYPE, Metrics
from rlkit.serving.models import Model, Version
from rlkit.serving.signature import CLASSIFY, DEFAULT, REGRESS, Outputs

METRICS = "/monitoring/prometheus/metrics"
HEALTH = "/health"

VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
POST = re.compile(rf"/v1/models/(?P<name>[^/:]+){VERSION}:(?P<verb>classify|regress|predict)", re.IGNORECASE | re.ASCII)
GET = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{VERSION}(?P<verb>/metadata)?", re.IGNORECASE | re.ASCII)


class Route(NamedTuple):
    """What a path means."""

    verb: str
    name: str
    version: int | None
    label: str | None


@lru_cache(256)
def route(method: str, path: str) -> Route | None:
    """What a request means; None for a path outside of the API.

    Raises:
        ServingError: the path is the API's and malformed.
    """
    path = path.partition("?")[0]
    if path[:4].lower() != "/v1/":
        return None
    pattern = {"POST": POST, "GET": GET, "HEAD": GET}.get(method)
    found = pattern.fullmatch(path) if pattern else None
    if found is None:
        raise invalid(f"Malformed request: {method} {path}")
    if not found["name"]:
        raise invalid("Missing model name in request.")
    digits = found["version"] and (found["version"].lstrip("0") or "0")
    if digits and (len(digits) > 19 or int(digits) >= 2**63):
        raise invalid(f"Failed to convert version: {found['version']} to numeric.")
    label = found["label"]
    verb = (found["verb"] or "status").lower().lstrip("/")
    return Route(
        verb,
        _unquoted(found["name"]),
        int(digits) if digits else None,
        label and _unquoted(label),
    )


def _unquoted(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1")).decode(errors="replace")


class Work(NamedTuple):
    """A request that was read, and how its answer is written."""

    call: Call
    short: Callable[[Outputs], bytes]
    long: Callable[[Iterable[Slice]], bytes]


class Rest:
    """Answers requests for a model.

    Args:
        model: its versions.
        batcher: computes.
        lane: for what is long.
        metrics: counts.
        nan: take NaN and Infinity in requests.
        limit: bytes that a request may have.
    """

    def __init__(self, model: Model, batcher: Batcher, lane: Lane, metrics: Metrics, *, nan: bool, limit: int) -> None:
        self.model, self.batcher, self.lane, self.metrics = model, batcher, lane, metrics
        self.nan, self.limit = nan, limit

    def __call__(self, method: str, path: str, body: Body, respond: Respond) -> None:
        """Answer a request, at once or when it is computed."""
        begun = time.perf_counter()
        api = "Unknown"
        answer: bytes | ServingError
        try:
            asked = route(method, path)
            if asked is None:
                respond(*self._page(method, path))
                return
            api = asked.verb.capitalize()
            if asked.verb in ("status", "metadata"):
                answer = self._status(asked) if asked.verb == "status" else self._metadata(asked)
            else:
                self._compute(asked, body, lambda answer: self._finish(answer, api, begun, respond))
                return
        except Exception as error:  # whatever it is, the client waits for an answer
            answer = logged(error)
        self._finish(answer, api, begun, respond)

    def _finish(self, answer: bytes | ServingError, api: str, begun: float, respond: Respond) -> None:
        code = answer.code if isinstance(answer, ServingError) else Code.OK
        self.metrics.request(api, "REST", code.name, time.perf_counter() - begun)
        if isinstance(answer, ServingError):
            respond(answer.http, error_body(answer.message), JSON_TYPE)
        else:
            respond(200, answer, JSON_TYPE)

    def _page(self, method: str, path: str) -> tuple[int, bytes, str]:
        """What is not the protocol's: health, metrics, and 404 for the rest."""
        place = path.partition("?")[0]
        if method in ("GET", "HEAD") and place == METRICS:
            return 200, self.metrics.page(), TYPE
        if method in ("GET", "HEAD") and place == HEALTH:
            serving = sorted(self.model.loaded)
            page = {"status": "SERVING" if serving else "NOT_SERVING", "model": self.model.name, "versions": serving}
            if self.model.trouble:
                page["trouble"] = self.model.trouble
            return (200 if serving else 503), orjson.dumps(page), JSON_TYPE
        return 404, error_body(f"Not found: {method} {path}"), JSON_TYPE

    def _status(self, asked: Route) -> bytes:
        states = self.model.states(asked.name, asked.version, asked.label)
        message = messages.model_status(states)
        return json.dumps(_as_json(message, names=False), indent=1).encode()

    def _metadata(self, asked: Route) -> bytes:
        version = self.model.find(asked.name, asked.version, asked.label)
        signatures = messages.signature_map(version)
        page = {
            "model_spec": _as_json(messages.model_spec(asked.name, version.number)),
            "metadata": {"signature_def": _as_json(signatures)},
        }
        return json.dumps(page, indent=1).encode()

    def _compute(self, asked: Route, body: Body, finish: Callable[[bytes | ServingError], None]) -> None:
        """Start the computation of a predict, classify or regress request; ServingError where it is wrong."""
        version = self.model.find(asked.name, asked.version, asked.label)
        if not isinstance(body, Compressed) and len(body) <= LONG:
            self._submit(self._read(version, asked, body), finish)
            return

        def read() -> Work:
            return self._read(version, asked, body.inflated() if isinstance(body, Compressed) else body)

        def submit(work: Work | ServingError) -> None:
            version.active -= 1
            if isinstance(work, ServingError):
                finish(work)
            else:
                self._submit(work, finish)

        version.active += 1
        self.lane.run(read, submit)

    def _submit(self, work: Work, finish: Callable[[bytes | ServingError], None]) -> None:
        """Have what was read computed and answered."""
        call = work.call
        if (call.rows > ROWS or not call.rows) and self.lane.takes(call):

            def done(answer: bytes | ServingError) -> None:
                call.version.active -= 1
                finish(answer)

            call.version.active += 1
            self.lane.run(lambda: work.long(self.lane.slices(call)), done)
            return

        # The call holds this function, which must not hold the call: a cycle waits for the garbage collector.
        rows, short, long = call.rows, work.short, work.long

        def answered(answer: Answer) -> None:
            if isinstance(answer, ServingError):
                finish(answer)
                return
            for array in answer.arrays.values():
                if array.size > NUMBERS or ((not array.size or array.ndim > 2) and parts_of(array) > NUMBERS):
                    self.lane.run(lambda: long([(rows, answer)]), finish)
                    return
            try:
                body: bytes | ServingError = short(answer)
            except Exception as error:  # as above
                body = logged(error)
            finish(body)

        call.answer = answered
        self.batcher.submit(call)

    def _read(self, version: Version, asked: Route, body: bytes | bytearray) -> Work:
        reader = Reader(body, self.nan)
        request = reader.request()
        name = request.get("signature_name", "")
        if type(name) is not str:
            raise invalid(
                f"JSON Value: {shown(request)} not formatted correctly. 'signature_name' key must be a string value."
            )
        if asked.verb == "predict":
            work = self._predict(version, request, name)
        else:
            work = self._examples(version, request, name, asked.verb)
        reader.finish()
        return work

    def _predict(self, version: Version, request: dict[str, JSON], name: str) -> Work:
        signature = version.signatures.get(name or DEFAULT)
        if signature is None:
            raise invalid(f'Serving signature name: "{name or DEFAULT}" not found in signature def')
        arrays, by_row = inputs_of(request, signature.inputs)
        signature.check(arrays)
        return Work(
            Call(version, signature, arrays),
            lambda outputs: answer(outputs, by_row),
            lambda slices: long_answer(slices, by_row),
        )

    def _examples(self, version: Version, request: dict[str, JSON], name: str, verb: str) -> Work:
        method = CLASSIFY if verb == "classify" else REGRESS
        rows = classifications if verb == "classify" else regressions
        signature = signature_for(version.signatures, name, method)
        examples = serialized(request, self.limit)
        arrays = batch(examples)
        signature.check(arrays)
        count = len(examples)

        def write(slices: Iterable[Slice]) -> bytes:
            return results_answer(((size or count, outputs) for size, outputs in slices), rows)

        return Work(Call(version, signature, arrays), lambda outputs: write([(count, outputs)]), write)


def _as_json(message: object, names: bool = True) -> JSON:
    """A message as proto3 JSON, with fields that hold their defaults."""
    return MessageToDict(message, always_print_fields_with_no_presence=True, preserving_proto_field_name=names)
