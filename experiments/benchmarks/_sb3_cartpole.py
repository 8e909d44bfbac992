"""Stable-Baselines3's DQN on CartPole-v1 by its zoo's preset, as a process: prints mean and steps as JSON.

The preset is the one in rl-baselines3-zoo's hyperparams/dqn.yml.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

STEPS = 50_000


def main() -> None:
    """Train and evaluate 100 greedy episodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    torch.set_num_threads(1)
    model = DQN(
        "MlpPolicy", "CartPole-v1", learning_rate=2.3e-3, batch_size=64, buffer_size=100_000, learning_starts=1_000,
        gamma=0.99, target_update_interval=10, train_freq=256, gradient_steps=128, exploration_fraction=0.16,
        exploration_final_eps=0.04, policy_kwargs={"net_arch": [256, 256]}, seed=seed, device="cpu",
    )  # fmt: skip
    model.learn(STEPS)
    mean, _ = evaluate_policy(model, make_vec_env("CartPole-v1", 20, seed=10**6 + seed), n_eval_episodes=100)
    print(json.dumps({"mean": float(np.mean(mean)), "steps": STEPS}))


if __name__ == "__main__":
    main()
