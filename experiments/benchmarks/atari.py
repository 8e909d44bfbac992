"""DQN on Atari's Pong from pixels: agent steps a second, replay memory, and what bounds an update.

    python -m rlkit.experiments.benchmarks.atari [--rounds 5] [--steps 2000] [--only rates|memory|update]

All: Nature-CNN, batch 32, one update in 4 steps, a buffer of 100,000, no evaluations; two threads an operation in
PyTorch, one in rlkit, which has operations beside each other. Stable-Baselines3's DQN stands for itself; `cleanrl` is
the loop of CleanRL's dqn_atari.py (one env, its wrappers, Stable-Baselines3's buffer with shared frames), written anew
on the same parts. rlkit acts in 16 envs at once, as its preset for any game does, beside its updates, in bfloat16 where
the machine has it; `rlkit-in-turn` does not act beside its updates, `rlkit-float32` has no bfloat16.
Each measurement is a process of its own, in turn; imports, compiling and the steps before learning are not counted.
Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

from rlkit.experiments.benchmarks._measuring import check_run, last_line, print_machine

ENV = "PongNoFrameskip-v4"
STARTS = 1_000
"""Steps before learning begins."""
WARM_UP = 600
"""Steps of learning that are not counted."""
CAPACITY = 100_000
THREADS = 2
"""Of an operation, in PyTorch and where an update alone is timed."""


def rlkit_rate(steps: int, *, overlap: bool = True, precision: str = "auto") -> float:
    """Agent steps a second of rlkit's host loop."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import rlkit
    from rlkit.devices import fast_precision

    with tempfile.TemporaryDirectory() as folder:
        run = rlkit.train(
            "dqn", ENV, run_dir=folder, preset="none", network="nature-cnn", double=False, num_envs=16, batch_size=32,
            train_interval=16, gradient_steps=4, learning_starts=STARTS, buffer_size=CAPACITY, target_interval=1_000,
            clip_reward=True, overlap=overlap, precision=precision, learning_rate=1e-4, epsilon_duration=10_000,
            jit=False, threads=1, steps=STARTS + WARM_UP + steps, eval_interval=0, checkpoint_interval=10**9,
            log_interval=200,
        )  # fmt: skip
        check_run(
            run, loop="host", num_envs=16, overlap=overlap, network="nature-cnn",
            precision=fast_precision() if precision == "auto" else precision,
        )  # fmt: skip
        rows = (run.path / "timing.csv").read_text(encoding="utf-8").splitlines()[1:]
    times = {int(step): float(seconds) for step, seconds in (row.split(",") for row in rows)}
    return steps / (times[STARTS + WARM_UP + steps] - times[STARTS + WARM_UP])


def sb3_rate(steps: int) -> float:
    """Agent steps a second of Stable-Baselines3's DQN."""
    import ale_py
    import gymnasium
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    class Clock(BaseCallback):
        began = 0.0

        def _on_step(self) -> bool:
            if self.num_timesteps == STARTS + WARM_UP:
                self.began = time.perf_counter()
            return True

    gymnasium.register_envs(ale_py)
    torch.set_num_threads(THREADS)
    model = DQN(
        "CnnPolicy", VecFrameStack(make_atari_env(ENV, n_envs=1), n_stack=4), learning_rate=1e-4, batch_size=32,
        train_freq=4, gradient_steps=1, learning_starts=STARTS, buffer_size=CAPACITY, target_update_interval=1_000,
        optimize_memory_usage=False, device="cpu",
    )  # fmt: skip
    clock = Clock()
    model.learn(STARTS + WARM_UP + steps, callback=clock)
    return steps / (time.perf_counter() - clock.began)


def cleanrl_rate(steps: int) -> float:
    """Agent steps a second of a loop as CleanRL's: act, store, and now and then one update, in PyTorch."""
    import ale_py
    import gymnasium
    import torch
    from stable_baselines3.common import atari_wrappers
    from stable_baselines3.common.buffers import ReplayBuffer
    from torch import nn

    gymnasium.register_envs(ale_py)
    torch.set_num_threads(THREADS)
    env: gymnasium.Env[Any, Any] = gymnasium.make(ENV)
    env = gymnasium.wrappers.RecordEpisodeStatistics(env)
    env = atari_wrappers.NoopResetEnv(env, noop_max=30)
    env = atari_wrappers.MaxAndSkipEnv(env, skip=4)
    env = atari_wrappers.EpisodicLifeEnv(env)
    env = atari_wrappers.FireResetEnv(env)
    env = atari_wrappers.ClipRewardEnv(env)
    env = gymnasium.wrappers.ResizeObservation(env, (84, 84))
    env = gymnasium.wrappers.GrayscaleObservation(env)
    env = gymnasium.wrappers.FrameStackObservation(env, 4)

    def network() -> Any:  # noqa: ANN401 - PyTorch's
        return nn.Sequential(
            nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(), nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
            nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 6),
        )  # fmt: skip

    online, target = network(), network()
    target.load_state_dict(online.state_dict())
    adam = torch.optim.Adam(online.parameters(), lr=1e-4)
    shared = {"optimize_memory_usage": True, "handle_timeout_termination": False}
    buffer = ReplayBuffer(CAPACITY, env.observation_space, env.action_space, "cpu", **shared)
    observation, _ = env.reset(seed=0)
    began, rng = 0.0, np.random.default_rng(0)
    for step in range(STARTS + WARM_UP + steps):
        if step == STARTS + WARM_UP:
            began = time.perf_counter()
        if rng.random() < max(0.01, 1 - step / 10_000):
            action = int(rng.integers(6))
        else:
            seen = torch.as_tensor(np.asarray(observation)[None]) / 255.0
            action = int(online(seen).argmax())
        following, reward, terminated, truncated, _ = env.step(action)
        done = np.array([terminated])
        buffer.add(observation, following, np.array([action]), np.array([reward]), done, [{}])
        observation = env.reset()[0] if terminated or truncated else following
        if step >= STARTS and step % 4 == 0:
            batch = buffer.sample(32)
            with torch.no_grad():
                best = target(batch.next_observations / 255.0).max(dim=1).values
                wanted = batch.rewards.flatten() + 0.99 * best * (1 - batch.dones.flatten())
            values = online(batch.observations / 255.0).gather(1, batch.actions).squeeze()
            loss = nn.functional.mse_loss(wanted, values)
            adam.zero_grad()
            loss.backward()
            adam.step()
        if step % 1_000 == 0:
            target.load_state_dict(online.state_dict())
    return steps / (time.perf_counter() - began)


def memory() -> None:
    """Bytes that a transition takes in either replay, and what a million would."""
    from gymnasium import spaces
    from stable_baselines3.common.buffers import ReplayBuffer

    from rlkit.replay.frames import FrameReplay
    from rlkit.reporting import size_text

    space, actions, rows = spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(6), 2_000
    ours = FrameReplay(rows, 8, space, n_step=3).nbytes / rows
    peer = ReplayBuffer(rows, space, actions, "cpu", n_envs=1)
    arrays = (peer.observations, peer.next_observations, peer.actions, peer.rewards, peer.dones, peer.timeouts)
    theirs = sum(array.nbytes for array in arrays) / rows
    print(f"a transition: rlkit {ours:,.0f} bytes, Stable-Baselines3 {theirs:,.0f}: 1/{theirs / ours:.2f}")
    print(f"a million: {size_text(1e6 * ours)} and {size_text(1e6 * theirs)}")


def update(rounds: int, precision: Literal["float32", "mixed_bfloat16"]) -> None:
    """Times of an update and of drawing its batch, and the time that its multiplications alone would take."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    from gymnasium import spaces

    from rlkit.agents.dqn.config import DQNConfig
    from rlkit.agents.dqn.dqn import DQN
    from rlkit.devices import configure
    from rlkit.interaction.vector import Step
    from rlkit.loops.off_policy import HostProgram
    from rlkit.replay.frames import FrameReplay

    space, actions = spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(6)
    config = DQNConfig(
        env=ENV,
        network="nature-cnn",
        double=False,
        num_envs=8,
        batch_size=32,
        n_step=3,
        jit=False,
        threads=THREADS,
        precision=precision,
    )
    with configure(config):
        agent, replay = DQN(config, space, actions), FrameReplay(20_000, 8, space, 3)
        rng, none, all_ = np.random.default_rng(0), np.zeros(8, np.bool_), np.ones(8, np.bool_)
        stack = rng.integers(256, size=(8, 4, 84, 84), dtype=np.uint8)
        for _ in range(2_600):
            following = np.concatenate([stack[:, 1:], rng.integers(256, size=(8, 1, 84, 84), dtype=np.uint8)], axis=1)
            replay.add(stack, rng.integers(6, size=8).astype(np.int32), Step(following, np.ones(8), none, none, all_))
            stack = following
        program = HostProgram(agent, space, replay)
        bits = rng.integers(2**32, size=(1, 32), dtype=np.uint32)
        matrix = tf.cast(tf.random.normal([1024, 1024]), tf.bfloat16 if "bfloat16" in precision else tf.float32)
        product = tf.function(lambda: tf.matmul(matrix, matrix), autograph=False)
        works: dict[str, Callable[[], object]] = {
            "update": lambda: program.learn(replay, 0, 10_000, 0),
            "drawing 32 stacks and the ones after": lambda: replay.sample(bits),
            "1024 x 1024 x 1024 product": lambda: product().numpy(),
        }
        seconds: dict[str, list[float]] = {name: [] for name in works}
        for work in works.values():
            work()
        for _ in range(20 * rounds):
            for name, work in works.items():
                began = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - began)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    print(precision)
    for name, value in median.items():
        print(f"{name}: median {1e3 * value:.2f} ms, least {1e3 * min(seconds[name]):.2f} ms")
    each = 20 * 20 * 32 * 256 + 9 * 9 * 64 * 512 + 7 * 7 * 64 * 576 + 3136 * 512 + 512 * 6
    inward = each - 20 * 20 * 32 * 256  # no gradient goes to the picture
    needed = 32 * (2 * each + each + inward)  # both networks forward, then to the weights and inward
    peak = 1024**3 / min(seconds["1024 x 1024 x 1024 product"])
    print(
        f"an update multiplies and adds {needed / 1e6:,.0f} million times, at this machine's peak of {peak / 1e9:.0f} "
        f"thousand million a second {1e3 * needed / peak:.1f} ms: {needed / peak / median['update']:.0%} of the update"
    )
    share = median["drawing 32 stacks and the ones after"] / median["update"]
    print(f"drawing takes {share:.1%} of an update")


RATES: dict[str, Callable[[int], float]] = {
    "rlkit": rlkit_rate,
    "rlkit-in-turn": partial(rlkit_rate, overlap=False),
    "rlkit-float32": partial(rlkit_rate, precision="float32"),
    "sb3": sb3_rate,
    "cleanrl": cleanrl_rate,
}


def rates(rounds: int, steps: int) -> None:
    """Alternate them, print medians and their ratios."""
    measured: dict[str, list[float]] = {name: [] for name in RATES}
    for i in range(rounds):
        for name, found in measured.items():
            found.append(float(last_line(["-m", __spec__.name, "--one", name, "--steps", str(steps)])))
        print(
            f"round {i + 1}: " + ", ".join(f"{name} {found[-1]:,.0f}" for name, found in measured.items()), flush=True
        )
    median = {name: statistics.median(found) for name, found in measured.items()}
    print("agent steps a second, medians: " + ", ".join(f"{name} {value:,.0f}" for name, value in median.items()))
    print(", ".join(f"{median['rlkit'] / median[name]:.2f} times {name}" for name in RATES if name != "rlkit"))


def main() -> None:
    """All parts, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--only", choices=["rates", "memory", "update"])
    parser.add_argument("--one", choices=list(RATES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds}, expected at least 1")
    if options.steps < 1 or options.steps % 400:
        parser.error(f"--steps is {options.steps}, expected a multiple of 400 above 0")
    if options.one:
        print(RATES[options.one](options.steps))
        return
    print_machine()
    if options.only in (None, "memory"):
        memory()
    if options.only in (None, "update"):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from rlkit.devices import fast_precision

        update(options.rounds, "float32")
        if fast_precision() != "float32":
            update(options.rounds, fast_precision())
    if options.only in (None, "rates"):
        rates(options.rounds, options.steps)


if __name__ == "__main__":
    main()
