"""The gRPC services: PredictionService and ModelService."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any, NoReturn, TypeVar

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from rlkit.serving import messages
from rlkit.serving.batching import Answer, Batcher, Call
from rlkit.serving.errors import Code, ServingError, invalid
from rlkit.serving.examples import batch, classifications, regressions, signature_for
from rlkit.serving.metrics import Metrics
from rlkit.serving.models import Model, Version
from rlkit.serving.signature import CLASSIFY, DEFAULT, REGRESS, Arrays, Signature

Context = Any
Request = Any
"""A message; the generated modules have no types."""
R = TypeVar("R")


class Services(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Both services, on one model.

    Args:
        model: its versions.
        batcher: computes.
        metrics: counts.
        limit: bytes that an input may have.
    """

    def __init__(self, model: Model, batcher: Batcher, metrics: Metrics, limit: int) -> None:
        self.model, self.batcher, self.metrics, self.limit = model, batcher, metrics, limit

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, server)

    async def Predict(self, request: Request, context: Context) -> predict_pb2.PredictResponse:  # noqa: N802
        return await self._answer("Predict", context, self._predict(request))

    async def Classify(self, request: Request, context: Context) -> classification_pb2.ClassificationResponse:  # noqa: N802
        return await self._answer("Classify", context, self._classify(request))

    async def Regress(self, request: Request, context: Context) -> regression_pb2.RegressionResponse:  # noqa: N802
        return await self._answer("Regress", context, self._regress(request))

    async def GetModelMetadata(  # noqa: N802
        self, request: Request, context: Context
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        return await self._answer("GetModelMetadata", context, self._metadata(request))

    async def GetModelStatus(  # noqa: N802
        self, request: Request, context: Context
    ) -> get_model_status_pb2.GetModelStatusResponse:
        return await self._answer("GetModelStatus", context, self._status(request))

    async def _answer(self, api: str, context: Context, answer: Awaitable[R]) -> R:
        begun = time.perf_counter()
        code = Code.INTERNAL
        try:
            result = await answer
            code = Code.OK
            return result
        except ServingError as error:
            code = error.code
            await _abort(context, error)
        finally:
            self.metrics.request(api, "GRPC", code.name, time.perf_counter() - begun)

    def _version(self, request: Request) -> Version:
        return self.model.find(*_named(request))

    async def _compute(self, version: Version, signature: Signature, arrays: Arrays) -> Arrays:
        signature.check(arrays)
        future: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()

        def answered(answer: Answer) -> None:
            if future.done():  # the client went away
                return
            if isinstance(answer, ServingError):
                future.set_exception(answer)
            else:
                future.set_result(answer.arrays)

        call = Call(version, signature, arrays)
        call.answer = answered
        self.batcher.submit(call)
        return await future

    async def _predict(self, request: Request) -> predict_pb2.PredictResponse:
        version = self._version(request)
        name = request.model_spec.signature_name or DEFAULT
        signature = version.signatures.get(name)
        if signature is None:
            raise ServingError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        wanted = _filter(request.output_filter, signature)
        arrays = {key: messages.array_of(key, tensor, self.limit) for key, tensor in request.inputs.items()}
        outputs = await self._compute(version, signature, arrays)
        response = predict_pb2.PredictResponse(model_spec=messages.model_spec(self.model.name, version.number, name))
        for key in wanted:
            response.outputs[key].CopyFrom(messages.tensor_of(outputs[key]))
        return response

    async def _examples(self, request: Request, method: str) -> tuple[Arrays, int, Version, str]:
        version = self._version(request)
        signature = signature_for(version.signatures, request.model_spec.signature_name, method)
        kind = request.input.WhichOneof("kind")
        if kind == "example_list":
            examples = [e.SerializeToString() for e in request.input.example_list.examples]
        elif kind == "example_list_with_context":
            given = request.input.example_list_with_context
            context = given.context.SerializeToString()
            examples = [context + e.SerializeToString() for e in given.examples]
        else:
            examples = []
        outputs = await self._compute(version, signature, batch(examples))
        return outputs, len(examples), version, signature.name

    async def _classify(self, request: Request) -> classification_pb2.ClassificationResponse:
        outputs, count, version, name = await self._examples(request, CLASSIFY)
        response = classification_pb2.ClassificationResponse(
            model_spec=messages.model_spec(self.model.name, version.number, name)
        )
        for labelled in classifications(outputs, count):
            row = response.result.classifications.add()
            for label, score in labelled:
                row.classes.add(label=label, score=score)
        return response

    async def _regress(self, request: Request) -> regression_pb2.RegressionResponse:
        outputs, count, version, name = await self._examples(request, REGRESS)
        response = regression_pb2.RegressionResponse(
            model_spec=messages.model_spec(self.model.name, version.number, name)
        )
        for value in regressions(outputs, count):
            response.result.regressions.add(value=value)
        return response

    async def _metadata(self, request: Request) -> get_model_metadata_pb2.GetModelMetadataResponse:
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
        return response

    async def _status(self, request: Request) -> get_model_status_pb2.GetModelStatusResponse:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        return messages.model_status(self.model.states(*_named(request)))


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
