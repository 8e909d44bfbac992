"""The REST API: paths, and what each answers."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import orjson
from google.protobuf.json_format import MessageToDict

from rlkit.serving import json_tensors, messages
from rlkit.serving.batching import Answer, Batcher, Call
from rlkit.serving.errors import Code, ServingError, invalid, told
from rlkit.serving.examples import batch, classifications, regressions, serialized, signature_for
from rlkit.serving.http import JSON_TYPE, Respond, error_body
from rlkit.serving.json_tensors import JSON
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
    number = found["version"]
    if number is not None and int(number[:20]) >= 2**63:
        raise invalid(f"Failed to convert version: {number} to numeric.")
    label = found["label"]
    verb = (found["verb"] or "status").lower().lstrip("/")
    return Route(verb, _unquoted(found["name"]), None if number is None else int(number), label and _unquoted(label))


def _unquoted(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1")).decode(errors="replace")


class Rest:
    """Answers requests for a model.

    Args:
        model: its versions.
        batcher: computes.
        metrics: counts.
        nan: take NaN and Infinity in requests.
    """

    def __init__(self, model: Model, batcher: Batcher, metrics: Metrics, nan: bool) -> None:
        self.model, self.batcher, self.metrics, self.nan = model, batcher, metrics, nan

    def __call__(self, method: str, path: str, body: bytes, respond: Respond) -> None:
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
                self._compute(asked, body, lambda told: self._finish(told, api, begun, respond))
                return
        except Exception as error:  # whatever it is, the client waits for an answer
            answer = _own(error)
        self._finish(answer, api, begun, respond)

    def _finish(self, answer: bytes | ServingError, api: str, begun: float, respond: Respond) -> None:
        code = answer.code if isinstance(answer, ServingError) else Code.OK
        self.metrics.request(api, "REST", code.name, time.perf_counter() - begun)
        if isinstance(answer, ServingError):
            respond(code.http, error_body(answer.message), JSON_TYPE)
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

    def _compute(self, asked: Route, body: bytes, finish: Callable[[bytes | ServingError], None]) -> None:
        """Start the computation of a predict, classify or regress request; ServingError where it is wrong."""
        version = self.model.find(asked.name, asked.version, asked.label)
        request = json_tensors.parse(body, self.nan)
        name = request.get("signature_name", "")
        if type(name) is not str:
            raise invalid(
                f"JSON Value: {json_tensors.shown(request)} not formatted correctly. "
                "'signature_name' key must be a string value."
            )
        if asked.verb == "predict":
            call, encode = self._predict(version, request, name, b"true" in body or b"false" in body)
        else:
            call, encode = self._examples(version, request, name, asked.verb)

        def answered(answer: Answer) -> None:
            if not isinstance(answer, ServingError):
                try:
                    finish(encode(answer))
                    return
                except Exception as error:  # as above
                    answer = _own(error)
            finish(answer)

        call.answer = answered
        self.batcher.submit(call)

    def _predict(
        self, version: Version, request: dict[str, JSON], name: str, strict: bool
    ) -> tuple[Call, Callable[[Outputs], bytes]]:
        signature = version.signatures.get(name or DEFAULT)
        if signature is None:
            raise invalid(f'Serving signature name: "{name or DEFAULT}" not found in signature def')
        arrays, by_row = json_tensors.inputs_of(request, signature.inputs, strict)
        signature.check(arrays)
        return Call(version, signature, arrays), lambda outputs: json_tensors.answer(outputs, by_row)

    def _examples(
        self, version: Version, request: dict[str, JSON], name: str, verb: str
    ) -> tuple[Call, Callable[[Outputs], bytes]]:
        method = CLASSIFY if verb == "classify" else REGRESS
        read = classifications if verb == "classify" else regressions
        examples = serialized(request)
        signature = signature_for(version.signatures, name, method)
        arrays = batch(examples)
        signature.check(arrays)
        count = len(examples)
        return (
            Call(version, signature, arrays),
            lambda outputs: json.dumps({"results": read(outputs.arrays, count)}).encode(),
        )


def _own(error: Exception) -> ServingError:
    """An exception while a request was read or its answer written; all but a ServingError are faults of this code."""
    if not isinstance(error, ServingError):
        logging.getLogger(__name__).error("a request ended in an exception", exc_info=error)
    return told(error)


def _as_json(message: object, names: bool = True) -> JSON:
    """A message as proto3 JSON, with fields that hold their defaults."""
    return MessageToDict(message, always_print_fields_with_no_presence=True, preserving_proto_field_name=names)
