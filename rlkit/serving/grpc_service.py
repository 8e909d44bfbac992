"""The gRPC services: PredictionService and ModelService."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

import grpc
import numpy as np
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    regression_pb2,
)

from rlkit.serving import messages
from rlkit.serving.batching import Answer, Batcher, Call
from rlkit.serving.errors import Code, ServingError, invalid, logged
from rlkit.serving.examples import batch, check_context, classifications, regressions, signature_for
from rlkit.serving.json_answers import Slice
from rlkit.serving.lane import LONG, NUMBERS, Lane
from rlkit.serving.metrics import Metrics
from rlkit.serving.models import Model, Version
from rlkit.serving.signature import CLASSIFY, DEFAULT, REGRESS, Arrays, Signature

Context = Any
Request = Any
"""A message; the generated modules have no types."""
T = TypeVar("T")


def serialize(message: Message) -> bytes:
    """A message's bytes."""
    data: bytes = message.SerializeToString()
    return data


class Services:
    """Both services, on one model.

    Messages are parsed and written here, not by gRPC: there, one that is no message would end in UNKNOWN, and a long
    one would hold up the loop.

    Args:
        model: its versions.
        batcher: computes.
        lane: for what is long.
        metrics: counts.
        limit: bytes that a request may have.
    """

    def __init__(self, model: Model, batcher: Batcher, lane: Lane, metrics: Metrics, limit: int) -> None:
        self.model, self.batcher, self.lane, self.metrics, self.limit = model, batcher, lane, metrics, limit
        self.active = 0
        """Requests that wait for an answer."""

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        services: dict[str, dict[str, tuple[type[Message], Callable[[Request], Awaitable[bytes]]]]] = {
            "tensorflow.serving.PredictionService": {
                "Predict": (predict_pb2.PredictRequest, self._predict),
                "Classify": (classification_pb2.ClassificationRequest, self._classify),
                "Regress": (regression_pb2.RegressionRequest, self._regress),
                "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, self._metadata),
            },
            "tensorflow.serving.ModelService": {
                "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, self._status)
            },
        }
        for service, methods in services.items():
            handlers = {
                api: grpc.unary_unary_rpc_method_handler(self._handler(api, kind, answer))
                for api, (kind, answer) in methods.items()
            }
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    def _handler(
        self, api: str, kind: type[Message], answer: Callable[[Request], Awaitable[bytes]]
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        """The function that answers a method's requests, from bytes to bytes."""

        async def handle(data: bytes, context: Context) -> bytes:
            begun = time.perf_counter()
            self.active += 1
            code = Code.INTERNAL
            try:
                long = len(data) > LONG
                try:
                    request = await self._beside(long, lambda: kind.FromString(data))
                except DecodeError as error:
                    raise invalid(f"The message is no {kind.DESCRIPTOR.name}: {error}") from None
                response = await answer(request)
                code = Code.OK
                return response
            except Exception as error:  # whatever it is, the client is told by its code
                found = logged(error)
                code = found.code
                await _abort(context, found)
            finally:
                self.active -= 1
                self.metrics.request(api, "GRPC", code.name, time.perf_counter() - begun)

        return handle

    async def _beside(self, long: bool, work: Callable[[], T]) -> T:
        """Work's result; what is long is done beside the loop."""
        return await self.lane.future(work) if long else work()

    def _version(self, request: Request) -> Version:
        return self.model.find(*_named(request))

    async def _compute(self, version: Version, signature: Signature, arrays: Arrays) -> Arrays:
        call = Call(version, signature, arrays)
        version.active += 1
        try:
            if self.lane.takes(call):
                return await self.lane.future(lambda: _joined(self.lane.slices(call)))
            future: asyncio.Future[Arrays] = self.lane.loop.create_future()

            def answered(answer: Answer) -> None:
                if future.done():  # the client went away
                    return
                if isinstance(answer, ServingError):
                    future.set_exception(answer)
                else:
                    future.set_result(answer.arrays)

            call.answer = answered
            self.batcher.submit(call)
            return await future
        finally:
            version.active -= 1

    async def _predict(self, request: Request) -> bytes:
        version = self._version(request)
        name = request.model_spec.signature_name or DEFAULT
        signature = version.signatures.get(name)
        if signature is None:
            raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        wanted = _filter(request.output_filter, signature)
        long = request.ByteSize() > LONG
        arrays = await self._beside(long, lambda: messages.arrays_of(request.inputs, signature))
        outputs = await self._compute(version, signature, arrays)

        def respond() -> bytes:
            response = predict_pb2.PredictResponse(
                model_spec=messages.model_spec(self.model.name, version.number, name)
            )
            for key in wanted:
                messages.fill(response.outputs[key], outputs[key])
            return serialize(response)

        return await self._beside(sum(outputs[key].size for key in wanted) > NUMBERS, respond)

    async def _examples(self, request: Request, method: str) -> tuple[Arrays, int, Version, str]:
        version = self._version(request)
        signature = signature_for(version.signatures, request.model_spec.signature_name, method)
        examples = await self._beside(request.ByteSize() > LONG, lambda: _serialized(request.input, self.limit))
        arrays = batch(examples)
        signature.check(arrays)
        return await self._compute(version, signature, arrays), len(examples), version, signature.name

    async def _classify(self, request: Request) -> bytes:
        outputs, count, version, name = await self._examples(request, CLASSIFY)
        response = classification_pb2.ClassificationResponse(
            model_spec=messages.model_spec(self.model.name, version.number, name)
        )

        def fill() -> bytes:
            for labelled in classifications(outputs, count):
                row = response.result.classifications.add()
                for label, score in labelled:
                    row.classes.add(label=label, score=score)
            return serialize(response)

        return await self._beside(count > NUMBERS // 4, fill)

    async def _regress(self, request: Request) -> bytes:
        outputs, count, version, name = await self._examples(request, REGRESS)
        response = regression_pb2.RegressionResponse(
            model_spec=messages.model_spec(self.model.name, version.number, name)
        )

        def fill() -> bytes:
            for value in regressions(outputs, count):
                response.result.regressions.add(value=value)
            return serialize(response)

        return await self._beside(count > NUMBERS // 4, fill)

    async def _metadata(self, request: Request) -> bytes:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        version = self._version(request)
        response = get_model_metadata_pb2.GetModelMetadataResponse(
            model_spec=messages.model_spec(self.model.name, version.number)
        )
        response.metadata["signature_def"].Pack(messages.signature_map(version))
        return serialize(response)

    async def _status(self, request: Request) -> bytes:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        return serialize(messages.model_status(self.model.states(*_named(request))))


def _serialized(given: Request, limit: int) -> list[bytes]:
    """The examples of an Input message, serialized, each with the context before it."""
    kind = given.WhichOneof("kind")
    if kind == "example_list":
        return [example.SerializeToString() for example in given.example_list.examples]
    if kind != "example_list_with_context":
        return []
    listed = given.example_list_with_context
    context = listed.context.SerializeToString()
    check_context(context, len(listed.examples), limit)
    return [context + example.SerializeToString() for example in listed.examples]


def _joined(slices: Iterable[Slice]) -> Arrays:
    """The outputs of all rows."""
    parts = [outputs.arrays for _, outputs in slices]
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _named(request: Request) -> tuple[str, int | None, str | None]:
    """Name, version and label in a request's model_spec."""
    spec = request.model_spec
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    return (
        spec.name,
        spec.version.value if choice == "version" else None,
        spec.version_label if choice == "version_label" else None,
    )


def _filter(asked: Sequence[str], signature: Signature) -> Sequence[str]:
    """The outputs that a request asks for, else all."""
    for i, name in enumerate(asked):
        if name not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{{{','.join(signature.outputs)}}}."
            )
        if name in asked[:i]:
            raise invalid(f"duplicate output tensor alias: {name}")
    return asked or list(signature.outputs)


async def _abort(context: Context, error: ServingError) -> NoReturn:
    await context.abort(getattr(grpc.StatusCode, error.code.name), error.message)
    raise AssertionError("abort raises")
