"""Every kind of model in every format: how far from the live one, or why it is refused; and what acting takes.

    python -m rlkit.experiments.benchmarks.exports [--runs FOLDER] [--only formats|latency|runtime] [--models dqn,cnn]

Runs that FOLDER does not have are trained first; each model is exported and timed in a process of its own. `formats`
prints the tables of docs/exports.md. `latency` times one observation by the public call of each runtime, in turn.
`runtime` times 20 episodes of CartPole-v1 one after the other, as rendering plays them, and 100 at once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlkit.experiments.benchmarks._measuring import print_machine

ROOT = Path(__file__).resolve().parents[2]

FEW = ("--steps", "20000")

MODELS: dict[str, tuple[str, ...]] = {
    "dqn": ("train", "dqn", "--env", "CartPole-v1"),
    "dueling": ("train", "dqn", "--env", "CartPole-v1", "--dueling"),
    "c51": ("train", "dqn", "--env", "CartPole-v1", "--head", "c51", "--v-min", "0", "--v-max", "50", *FEW),
    "qr": ("train", "dqn", "--env", "CartPole-v1", "--head", "qr", "--quantiles", "50", *FEW),
    "iqn": ("train", "dqn", "--env", "CartPole-v1", "--head", "iqn", "--quantiles", "16", *FEW),
    "pqn": ("train", "pqn", "--env", "CartPole-v1"),
    "nature-cnn": ("train", "dqn", "--env", "rlkit/Catch-v0", "--no-dueling"),
    "lstm-dqn": ("train", "dqn", "--env", "rlkit/MaskedCartPole-v0", *FEW),
    "q-learning": ("train", "q-learning", "--env", "FrozenLake-v1"),
    "linear": ("fit", "linear", "--data", "house-prices"),
    "mlp": ("fit", "mlp", "--data", "digits"),
    "cnn": ("fit", "cnn", "--data", "digits"),
    "mobilenet": ("fit", "mobilenet", "--data", "shapes", "--steps", "300"),
    "lstm": ("fit", "lstm", "--data", "text", "--data-file", str(ROOT / "LICENSE"), "--steps", "500"),
}
"""What each kind is trained by."""

FORMATS = ("savedmodel", "keras", "h5", "onnx", "tfjs", "tflite", "tflite-float16", "tflite-dynamic", "tflite-int8")


def prepare(models: Sequence[str], folder: Path) -> None:
    """Train what is not there yet."""
    for model in models:
        if not list((folder / model).rglob("run.json")):
            command = [sys.executable, "-m", "rlkit", *MODELS[model], "--run-dir", str(folder / model)]
            subprocess.run(command, check=True, capture_output=True)


def alone(model: str, folder: Path) -> list[str]:
    """A process for one model: TensorFlow takes its threads once a process, and presets differ in them."""
    return [sys.executable, "-m", "rlkit.experiments.benchmarks.exports", "--one", model, "--runs", str(folder)]


def export_all(model: str, folder: Path) -> None:
    """Print a line of JSON for each format."""
    from rlkit.api.exporting import export_run
    from rlkit.errors import UserError

    for name in FORMATS:
        to, _, quantize = name.partition("-")
        try:
            found = export_run(folder / model, to, quantize=quantize or "none").report
        except UserError as error:
            found = {"refused": str(error)}
        print(json.dumps({"name": name, **found}), flush=True)


def formats(models: Sequence[str], folder: Path) -> None:
    """The tables."""
    reasons: dict[str, list[str]] = {}
    print(f"\n| model | live score | {' | '.join(FORMATS)} |\n| --- | --- |{' ---: |' * len(FORMATS)}")
    for model in models:
        lines = subprocess.run(alone(model, folder), check=True, capture_output=True, text=True).stdout.splitlines()
        found = {row.pop("name"): row for row in map(json.loads, lines)}
        score = next((f"{row['measure']} {row['live']:.4g}" for row in found.values() if "live" in row), "-")
        cells = []
        for name in FORMATS:
            row = found[name]
            if "refused" in row:
                if row["refused"] not in reasons:
                    reasons[row["refused"]] = []
                reasons[row["refused"]].append(f"{model}, {name}")
                cells.append(f"refused ({list(reasons).index(row['refused']) + 1})")
            elif "-" in name:
                cells.append(f"{row['equal']:.1%}, {row['exported']:.4g}, {kilobytes(row)}")
            else:
                cells.append(f"{row['difference'] / max(1, row['scale']):.1g}, {kilobytes(row)}")
        print(f"| {model} | {score} | {' | '.join(cells)} |", flush=True)
    print()
    for i, (reason, where) in enumerate(reasons.items(), 1):
        print(f"{i}. {'; '.join(where)}: {reason}")


def kilobytes(row: dict[str, Any]) -> str:
    """What was written takes."""
    return f"{row['bytes'] / 1000:,.0f} kB"


def timed(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Microseconds of a call, a median of many in each round, the contestants in turn."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            each: list[float] = []
            begun = time.perf_counter()
            while time.perf_counter() - begun < 0.5 or len(each) < 5:
                before = time.perf_counter()
                for _ in range(10):
                    call()
                each.append((time.perf_counter() - before) * 1e5)
            found[name].append(statistics.median(each))
    return found


def latency(model: str, folder: Path, rounds: int) -> None:
    """One observation by each runtime."""
    import onnxruntime
    import tensorflow as tf

    from rlkit.api import agent_run
    from rlkit.api.exporting import export_run
    from rlkit.export.litert import LiteRTPolicy

    run = agent_run.load(folder / model)
    paths = {to: export_run(run.path, to).path for to in ("tflite", "onnx", "savedmodel")}
    live, step = run.policy()
    small = LiteRTPolicy(paths["tflite"])
    session = onnxruntime.InferenceSession(paths["onnx"])
    signature = tf.saved_model.load(str(paths["savedmodel"] / str(step))).signatures["serving_default"]
    agent, _ = run.agent()
    network: Any = agent.q  # type: ignore[attr-defined]
    observation = _observation(run.config.env, dict(run.config.env_args))
    tensor = tf.constant(observation)
    calls: dict[str, Callable[[], object]] = {
        "LiteRT, rlkit.export.litert.LiteRTPolicy": lambda: small(observation),
        "onnxruntime": lambda: session.run(["action"], {"observation": observation}),
        "the live policy, run.policy()": lambda: live(observation),
        "SavedModel, its signature": lambda: signature(observation=tensor),
        "Keras, model(observation)": lambda: network(tensor),
    }
    answers = {int(small(observation)[0]), int(live(observation)[0]), int(np.argmax(network(tensor)))}
    answers |= {int(session.run(["action"], {"observation": observation})[0][0])}
    answers |= {int(signature(observation=tensor)["action"][0])}
    if len(answers) > 1:
        raise RuntimeError(f"the runtimes choose different actions, {sorted(answers)}: they are not one policy")
    print(f"\n{model} on {run.config.env}, microseconds for one observation, median (least to most) of {rounds} rounds")
    for name, each in timed(calls, rounds).items():
        print(f"  {name:<36} {statistics.median(each):10,.1f}  ({min(each):,.1f} to {max(each):,.1f})", flush=True)


def _observation(env: str, env_args: dict[str, Any]) -> np.ndarray:
    """The first one of an episode, [1, ...]."""
    from rlkit.envs import lookup
    from rlkit.interaction.vector import make_vector

    vector = make_vector(lookup.find(env), env_args, 1, "resettable")
    try:
        return np.asarray(vector.reset(seed=0)[0])
    finally:
        vector.close()


def runtime(folder: Path, rounds: int) -> None:
    """Episodes by either runtime."""
    from rlkit.api import agent_run
    from rlkit.envs import lookup
    from rlkit.interaction.evaluation import evaluate
    from rlkit.interaction.vector import make_vector

    run = agent_run.load(folder / "dqn")
    for num_envs, episodes in ((1, 20), (100, 100)):
        seconds: dict[str, list[float]] = {"tensorflow": [], "litert": []}
        policies = {name: run.policy(num_envs, runtime=name)[0] for name in seconds}
        vector = make_vector(lookup.find(run.config.env), run.config.env_args, num_envs, "resettable")
        for _ in range(rounds):
            returns = []
            for name, policy in policies.items():
                begun = time.perf_counter()
                returns.append(evaluate(policy, vector, episodes, 0).returns)
                seconds[name].append(time.perf_counter() - begun)
            assert returns[0] == returns[1]
        vector.close()
        a, b = (statistics.median(seconds[name]) for name in ("tensorflow", "litert"))
        print(
            f"{episodes} episodes, {num_envs} at once: tensorflow {a:.2f} s, litert {b:.2f} s, {a / b:.2f}x", flush=True
        )


def main() -> None:
    """Train, export, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/exports"), help="Folder of the runs.")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--only", choices=("formats", "latency", "runtime"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one and chosen.only == "latency":
        latency(chosen.one, chosen.runs, chosen.rounds)
    elif chosen.one:
        export_all(chosen.one, chosen.runs)
    if chosen.one:
        return
    print_machine()
    models = chosen.models.split(",")
    prepare(models, chosen.runs)
    if chosen.only in (None, "formats"):
        formats(models, chosen.runs)
    if chosen.only in (None, "latency"):
        for model in [name for name in models if name in ("dqn", "nature-cnn")]:
            sys.stdout.flush()
            subprocess.run(
                [*alone(model, chosen.runs), "--only", "latency", "--rounds", str(chosen.rounds)], check=True
            )
    if chosen.only in (None, "runtime") and "dqn" in models:
        runtime(chosen.runs, chosen.rounds)


if __name__ == "__main__":
    main()
