"""The compiled loop on CartPole-v1 against its peers and the host loop; every measurement is a process of its own.

    python -m rlkit.experiments.benchmarks.compiled [--only dqn|profile|cartpole|seeds|host|env] [--rounds 5]

    dqn       500,000 env steps in PureJaxRL's configuration: 10 envs, 120-84 network, batch 128, an update in 10 steps
    profile   where the time of an update cycle of that configuration goes, and the least that its products take
    cartpole  from process start to the end: rlkit's preset to its target, above 475 over 100 greedy episodes and
              confirmed by as many, and Stable-Baselines3's zoo preset
    seeds     the same for seeds 0 to 19 at once, and for one of them
    host      env steps a second of both loops in PureJaxRL's configuration
    env       CartPole alone with 1,024 envs and random actions: rlkit and gymnax

Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.experiments.benchmarks._measuring import check_run, last_line, print_machine

if TYPE_CHECKING:
    from rlkit.loops.compiled import CompiledLoop

CONFIGURATION: dict[str, Any] = {
    "num_envs": 10,
    "hidden": (120, 84),
    "double": False,
    "loss": "squared",
    "max_gradient_norm": 0.0,
    "learning_rate": 2.5e-4,
    "batch_size": 128,
    "buffer_size": 10_000,
    "learning_starts": 10_000,
    "train_interval": 10,
    "gradient_steps": 1,
    "target_interval": 500,
    "epsilon_end": 0.05,
    "epsilon_duration": 250_000,
    "threads": 2,
}
"""PureJaxRL's DQN on CartPole-v1 (Lu et al. 2022)."""


def prepared(steps: int) -> CompiledLoop:
    """The compiled loop in PureJaxRL's configuration."""
    from rlkit.agents.dqn.config import DQNConfig
    from rlkit.agents.dqn.dqn import DQN
    from rlkit.devices import configure
    from rlkit.envs import lookup, twins
    from rlkit.loops.compiled import CompiledLoop
    from rlkit.loops.off_policy import ReplayProgram
    from rlkit.replay.uniform import Replay
    from rlkit.runs.checkpoint import Checkpointer

    config = DQNConfig(env="CartPole-v1", steps=steps, **CONFIGURATION)
    configure(config)
    env = twins.twin(config.env, {})
    assert env is not None
    agent = DQN(config, env.observation_space, env.action_space)
    replay = Replay(config.buffer_size, config.num_envs, env.observation_space, 1, config.gamma)
    program = ReplayProgram(agent, replay, env, lookup.find(config.env).max_episode_steps)
    return CompiledLoop(program, agent, Checkpointer(Path("unused"), agent, replay))


def dqn_rlkit(steps: int) -> dict[str, float]:
    """Seconds of tracing and compiling and of running, and the mean return of the last episodes."""
    import tensorflow as tf

    loop = prepared(steps)
    begun = time.perf_counter()
    loop.advance(0)
    compiled = time.perf_counter()
    loop.advance((steps - 50_000) // 10)
    loop.variables.ended.assign(tf.zeros_like(loop.variables.ended))
    loop.advance(5_000)
    returns, _, number = loop.variables.ended.numpy()
    return {"compile": compiled - begun, "run": time.perf_counter() - compiled, "return": returns / number}


def dqn_jax(steps: int) -> dict[str, float]:
    """The same of the peer in JAX."""
    from rlkit.experiments.benchmarks import _jax_dqn

    program, seconds = _jax_dqn.compile(steps)
    run, mean = program(0)
    return {"compile": seconds, "run": run, "return": mean}


def profile_rlkit(cycles: int) -> dict[str, Any]:
    """Microseconds a cycle by kind of operation, of all operations together, and of the products at the peak rate."""
    import numpy as np
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    loop, traced = prepared(500_000), 300  # a trace holds so many events and no more
    loop.advance(2_000)  # learning has begun
    begun = time.perf_counter()
    loop.advance(cycles)
    taken = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            loop.advance(traced)
        space = xplane_pb2.XSpace()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        space.ParseFromString(trace.read_bytes())
    kinds: dict[str, float] = {}
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if re.match(
                    r"(?!while|cond|call|end: ).*(_fusion|wrapped_|\.\d+$)", name
                ):  # no control flow, no TensorFlow
                    product = "dot" in name or "MatMul" in name
                    kind = "products" if product else "gathers" if "gather" in name else "others"
                    kinds[kind] = kinds.get(kind, 0.0) + event.duration_ps / 1e6 / traced
    c: Any = loop.config
    sizes = [4, *c.hidden, 2]
    weights = sum(a * b for a, b in pairwise(sizes))
    products = 2 * c.batch_size * (4 * weights - sizes[0] * sizes[1])  # two forward, two backward, one of these less
    a = np.random.default_rng(0).normal(size=(1_024, 1_024)).astype(np.float32)
    multiply = tf.function(lambda x, y: x @ y, jit_compile=True)
    x = tf.constant(a)
    multiply(x, x)
    peak = 0.0
    for _ in range(20):
        begun = time.perf_counter()
        multiply(x, x).numpy()
        peak = max(peak, 2 * 1_024**3 / (time.perf_counter() - begun))
    return {
        "cycle": taken / cycles * 1e6,
        "kinds": kinds,
        "operations": products,
        "peak": peak / 1e9,
        "bound": products / peak * 1e6,
    }


def host_rlkit(steps: int) -> dict[str, float]:
    """Seconds for the given env steps of the host loop, by the rows of timing.csv, after as many to warm up."""
    import rlkit

    with tempfile.TemporaryDirectory() as folder:
        run = rlkit.train(
            "dqn", "CartPole-v1", run_dir=folder, preset="none", loop="host", steps=2 * steps, log_interval=steps,
            eval_interval=0, checkpoint_interval=10**9, **CONFIGURATION,
        )  # fmt: skip
        check_run(run, loop="host", precision="float32", **CONFIGURATION)
        lines = (run.path / "timing.csv").read_text(encoding="utf-8").splitlines()[1:]
        first, last = (float(line.split(",")[1]) for line in (lines[0], lines[-1]))
    return {"run": last - first}


def env_rlkit(steps: int) -> dict[str, float]:
    """Env steps a second of 1,024 envs in a program."""
    import numpy as np
    import tensorflow as tf

    from rlkit.envs import twins
    from rlkit.interaction import functional
    from rlkit.random_bits import below, draws
    from rlkit.seeding import Purpose

    tf.config.threading.set_intra_op_parallelism_threads(2)
    env, n = twins.twin("CartPole-v1", {}), 1_024
    assert env is not None

    @tf.function(jit_compile=True, autograph=False)
    def run(running: functional.Running, count: tf.Tensor) -> tuple[functional.Running, tf.Tensor]:
        def body(i: tf.Tensor, running: functional.Running, ended: tf.Tensor) -> tuple[Any, ...]:
            action = below(draws(0, Purpose.ACTIONS, i, [n]), 2)
            running, outcome = functional.step(env, 500, running, action, functional.env_draws(env, 0, i, n))
            return i + 1, running, ended + tf.math.count_nonzero(outcome.terminated)

        start = (tf.constant(0, tf.int64), running, tf.constant(0, tf.int64))
        _, running, ended = tf.while_loop(lambda i, *_: i < count, body, start)
        return running, ended

    first = functional.begin(env, functional.env_draws(env, 0, tf.constant(0, tf.int64), n))
    run(first, tf.constant(np.array(1)))
    begun = time.perf_counter()
    _, ended = run(first, tf.constant(np.array(steps // n)))
    episodes = int(ended)
    return {"run": time.perf_counter() - begun, "length": steps / episodes}


def env_jax(steps: int) -> dict[str, float]:
    """The same of gymnax."""
    from rlkit.experiments.benchmarks import _jax_dqn

    return {"run": steps / _jax_dqn.env_steps(1_024, steps)}


MEASUREMENTS: dict[str, Callable[[int], dict[str, float]]] = {
    f.__name__: f for f in (dqn_rlkit, dqn_jax, profile_rlkit, host_rlkit, env_rlkit, env_jax)
}


def measure(command: list[str]) -> dict[str, Any]:
    """What a process printed as its last line, a JSON object, and the seconds that it took in all."""
    begun = time.perf_counter()
    found = json.loads(last_line(command))
    return {"process": time.perf_counter() - begun, **found}


def part(name: str, steps: int) -> dict[str, Any]:
    """One of the measurements above."""
    return measure(["-m", __spec__.name, "--part", name, "--steps", str(steps)])


TRAIN = """
import json, rlkit
from rlkit.experiments.benchmarks._measuring import check_run
runs = rlkit.train_seeds("dqn", "CartPole-v1", range({first}, {last} + 1), run_dir={folder!r})
[check_run(run, loop="compiled", precision="float32") for run in runs]
target = runs[0].config.target_return
print(json.dumps({{"solved": sum(run.status == "solved" for run in runs), "target": target}}))
"""


def solve(first: int, last: int) -> dict[str, Any]:
    """A process that trains seeds by the preset until each reaches its target, 475 or more, in greedy episodes."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(["-c", TRAIN.format(first=first, last=last, folder=folder)])
    if not found["target"] >= 475:
        sys.exit(f"the preset's target_return is {found['target']}, expected at least 475")
    return found


def summary(name: str, values: list[float], unit: str = "s") -> float:
    """Print the median and range of some values; the median."""
    median = statistics.median(values)
    print(f"  {name:<34}{median:>12,.2f} {unit}   ({min(values):,.2f} to {max(values):,.2f})", flush=True)
    return median


def dqn(rounds: int) -> None:
    """PureJaxRL's configuration, in turn."""
    steps = 500_000
    taken: dict[str, list[dict[str, Any]]] = {"dqn_rlkit": [], "dqn_jax": []}
    for _ in range(rounds):
        for name, results in taken.items():
            results.append(part(name, steps))
    print(f"\nDQN on CartPole-v1, {steps:,} env steps, medians of {rounds} alternating runs")
    ours, theirs = taken["dqn_rlkit"], taken["dqn_jax"]
    for key, name in (("compile", "trace and compile"), ("run", "run")):
        a = summary(f"rlkit: {name}", [r[key] for r in ours])
        b = summary(f"JAX: {name}", [r[key] for r in theirs])
        print(f"  ratio {b / a:.2f}")
    for name, results in (("rlkit", ours), ("JAX", theirs)):
        summary(f"{name}: final return", [r["return"] for r in results], "")


def profile(rounds: int) -> None:
    """The median cycle's parts, and the bound."""
    found = sorted((part("profile_rlkit", 10_000) for _ in range(rounds)), key=lambda f: f["cycle"])[rounds // 2]
    kinds = ", ".join(f"{name} {taken:.0f}" for name, taken in sorted(found["kinds"].items(), key=lambda k: -k[1]))
    print(f"\nA cycle of PureJaxRL's configuration: 10 env steps and an update, median of {rounds}")
    print(f"  {found['cycle']:.0f} us; traced, of which some run side by side: {kinds} us")
    print(
        f"  the products are {found['operations'] / 1e6:.1f} million operations, {found['bound']:.0f} us at the "
        f"{found['peak']:.0f} GFLOP/s of a large product on both cores"
    )


def cartpole(rounds: int) -> None:
    """Time to solve, in turn."""
    ours, theirs = [], []
    for seed in range(rounds):
        ours.append(solve(seed, seed))
        theirs.append(measure(["-m", "rlkit.experiments.benchmarks._sb3_cartpole", "--seed", str(seed)]))
    print(f"\nCartPole-v1 from process start, seeds 0 to {rounds - 1} in turn")
    a = summary(f"rlkit, to {ours[0]['target']:g}, confirmed", [r["process"] for r in ours])
    b = summary("Stable-Baselines3, zoo preset", [r["process"] for r in theirs])
    print(
        f"  ratio {b / a:.2f}; rlkit solved {sum(r['solved'] for r in ours)} of {rounds}, Stable-Baselines3's means ",
        end="",
    )
    print(", ".join(f"{r['mean']:.0f}" for r in theirs))


def seeds(rounds: int) -> None:
    """Twenty seeds at once against one."""
    one = [solve(k, k) for k in range(rounds)]
    all_of_them = [solve(0, 19) for _ in range(max(1, rounds // 2))]
    print("\nCartPole-v1, 20 seeds in one program")
    a = summary("one seed", [r["process"] for r in one])
    b = summary("seeds 0 to 19", [r["process"] for r in all_of_them])
    print(f"  ratio {b / a:.2f}; solved {[r['solved'] for r in all_of_them]} of 20")


def host(rounds: int) -> None:
    """Both loops in turn."""
    python, program = [], []
    for _ in range(rounds):
        python.append(50_000 / part("host_rlkit", 50_000)["run"])
        program.append(500_000 / part("dqn_rlkit", 500_000)["run"])
    print("\nEnv steps a second in PureJaxRL's configuration")
    a = summary("host loop", python, "steps/s")
    b = summary("compiled loop", program, "steps/s")
    print(f"  ratio {b / a:.2f}")


def env(rounds: int) -> None:
    """Envs alone, in turn."""
    steps = 1_024 * 20_000
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(steps / part("env_rlkit", steps)["run"] / 1e6)
        theirs.append(steps / part("env_jax", steps)["run"] / 1e6)
    print("\nCartPole alone, 1,024 envs, random actions")
    a, b = summary("rlkit", ours, "million steps/s"), summary("gymnax", theirs, "million steps/s")
    print(f"  ratio {a / b:.2f}")


SECTIONS: dict[str, Callable[[int], None]] = {f.__name__: f for f in (dqn, profile, cartpole, seeds, host, env)}


def main() -> None:
    """Run the sections and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(SECTIONS))
    parser.add_argument("--part", choices=list(MEASUREMENTS), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(MEASUREMENTS[options.part](options.steps)))
        return
    print_machine()
    for name, section in SECTIONS.items():
        if options.only in (None, name):
            section(options.rounds)


if __name__ == "__main__":
    main()
