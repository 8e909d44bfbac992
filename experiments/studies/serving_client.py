"""A client of TensorFlow Serving's protocol plays CartPole, over REST with the standard library and over gRPC.

    python -m rlkit.experiments.studies.serving_client
    python -m rlkit.experiments.studies.serving_client --rest http://127.0.0.1:8501 --grpc 127.0.0.1:8500

Without an address it starts `rlkit serve` on a policy of its own: push to the side that the pole falls to. With
addresses it plays whatever agent of CartPole is served there, by `rlkit serve RUN` or by TensorFlow Serving.
`studies/serving_client.mjs` is the same in JavaScript.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import grpc
import gymnasium as gym
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

Policy = Callable[[np.ndarray], int]


class Pushes(tf.Module):
    """A policy that balances: the value of pushing right is how far the pole will lean that way."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable([[0.0, 0.0], [-0.5, 0.5], [-1.0, 1.0], [-1.0, 1.0]])

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "observation")])
    def serving_default(self, observation: tf.Tensor) -> dict[str, tf.Tensor]:
        """As an exported agent answers."""
        q = observation @ self.weights  # [B, 2]
        return {"action": tf.argmax(q, -1), "q_values": q}


@contextmanager
def own_server() -> Iterator[tuple[str, str]]:
    """Serve `Pushes` in a process of its own; the REST and gRPC addresses."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Pushes()
        tf.saved_model.save(policy, f"{folder}/1", {"serving_default": policy.serving_default})
        command = [sys.executable, "-m", "rlkit", "serve", folder, "--port", "0", "--grpc-port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            assert server.stdout
            try:
                told = server.stdout.readline() + server.stdout.readline()
                found = re.search(r"(http://[^/]+)/.*gRPC (\S+)", told, re.DOTALL)
                assert found, f"the server did not start: {told}"
                yield found[1], found[2]
            finally:
                server.terminate()


@contextmanager
def over_rest(url: str, name: str) -> Iterator[Policy]:
    """A policy behind REST, on one connection."""
    with closing(http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc)) as connection:

        def act(observation: np.ndarray) -> int:
            body = json.dumps({"instances": [observation.tolist()]})
            connection.request("POST", f"/v1/models/{name}:predict", body, {"Content-Type": "application/json"})
            answer = json.load(connection.getresponse())
            if "error" in answer:
                raise RuntimeError(answer["error"])
            return int(answer["predictions"][0]["action"])

        yield act


@contextmanager
def over_grpc(address: str, name: str) -> Iterator[Policy]:
    """A policy behind gRPC."""
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def act(observation: np.ndarray) -> int:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.inputs["observation"].CopyFrom(tf.make_tensor_proto(observation[None]))
            response = stub.Predict(request, timeout=10)
            return int(tf.make_ndarray(response.outputs["action"])[0])

        yield act


def play(policy: Policy, seed: int) -> float:
    """The return of an episode of CartPole-v1."""
    env = gym.make("CartPole-v1")
    observation, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy(observation))
        total += float(reward)
        over = terminated or truncated
    env.close()
    return total


def both(rest: str, remote: str, name: str) -> dict[str, float]:
    """An episode over each, from the same start."""
    with over_rest(rest, name) as by_rest, over_grpc(remote, name) as by_grpc:
        returns = {"REST": play(by_rest, seed=0), "gRPC": play(by_grpc, seed=0)}
    for way, total in returns.items():
        print(f"over {way}: return {total:g}")
    return returns


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Play over REST and gRPC; the returns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rest", help="Address of the REST API.  [a server of its own]")
    parser.add_argument("--grpc", help="Address of the gRPC API.")
    parser.add_argument("--name", default="default", help="The model's name.")
    chosen = parser.parse_args(arguments)
    if bool(chosen.rest) != bool(chosen.grpc):
        parser.error("--rest and --grpc belong together")
    if chosen.rest:
        return both(chosen.rest, chosen.grpc, chosen.name)
    with own_server() as (rest, remote):
        return both(rest, remote, chosen.name)


if __name__ == "__main__":
    main()
