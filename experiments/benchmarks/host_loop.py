"""Env steps a second of DQN on CartPole-v1 with one env: rlkit's host loop and Stable-Baselines3, in turn.

    python -m rlkit.experiments.benchmarks.host_loop [--rounds 5] [--steps 20000]

Both: 120-84 network, batch 128, one update in 10 steps, epsilon from 1 to 0.05 over the first half, one
thread, no evaluations. Each measurement is a process of its own; imports and compiling are not counted. Needs
the extra `bench`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time

from rlkit.experiments.benchmarks._measuring import check_run, last_line, print_machine

WARM_UP = 5_000
"""Steps before the clock starts, and between the rows of metrics that tell the time; the peer writes none."""


def rlkit_rate(steps: int) -> float:
    """Env steps a second of the host loop."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import rlkit

    clock: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        run = rlkit.train(
            "dqn", "CartPole-v1", run_dir=folder, preset="none", loop="host", num_envs=1, hidden=(120, 84),
            batch_size=128, train_interval=10, gradient_steps=1, learning_starts=1_000, buffer_size=10_000,
            target_interval=500, learning_rate=2.5e-4, epsilon_duration=(WARM_UP + steps) / 2, steps=WARM_UP + steps,
            eval_interval=0, checkpoint_interval=10**9, log_interval=WARM_UP, threads=1,
        )  # fmt: skip
        check_run(run, loop="host", vectorization="auto", num_envs=1, threads=1, precision="float32")
        for line in (run.path / "timing.csv").read_text(encoding="utf-8").splitlines()[1:]:
            step, seconds = line.split(",")
            clock.append((int(step), float(seconds)))
    times = dict(clock)
    return steps / (times[WARM_UP + steps] - times[WARM_UP])


def sb3_rate(steps: int) -> float:
    """Env steps a second of Stable-Baselines3's DQN."""
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback

    class Clock(BaseCallback):
        began = 0.0

        def _on_step(self) -> bool:
            if self.num_timesteps == WARM_UP:
                self.began = time.perf_counter()
            return True

    torch.set_num_threads(1)
    model = DQN(
        "MlpPolicy", "CartPole-v1", learning_rate=2.5e-4, batch_size=128, train_freq=10, gradient_steps=1,
        learning_starts=1_000, buffer_size=10_000, target_update_interval=500, exploration_fraction=0.5,
        policy_kwargs={"net_arch": [120, 84]}, device="cpu",
    )  # fmt: skip
    clock = Clock()
    model.learn(WARM_UP + steps, callback=clock)
    return steps / (time.perf_counter() - clock.began)


def main() -> None:
    """Alternate the two, print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--only", choices=["rlkit", "sb3"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps % WARM_UP:
        parser.error(f"--steps is {options.steps}, expected a multiple of {WARM_UP}")
    if options.only:
        print((rlkit_rate if options.only == "rlkit" else sb3_rate)(options.steps))
        return
    print_machine()
    rates: dict[str, list[float]] = {"rlkit": [], "sb3": []}
    for i in range(options.rounds):
        for name, measured in rates.items():
            measured.append(float(last_line(["-m", __spec__.name, "--only", name, "--steps", str(options.steps)])))
        print(
            f"round {i + 1}: rlkit {rates['rlkit'][-1]:,.0f} steps/s, Stable-Baselines3 {rates['sb3'][-1]:,.0f}",
            flush=True,
        )
    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    ratios = [a / b for a, b in zip(rates["rlkit"], rates["sb3"], strict=True)]
    print(f"medians: rlkit {medians['rlkit']:,.0f} steps/s, Stable-Baselines3 {medians['sb3']:,.0f} steps/s")
    print(f"ratio of medians {medians['rlkit'] / medians['sb3']:.2f}, of rounds {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
