"""Every random draw is a function of (seed, what it is for, absolute count): no hidden generator state.

So the same seed gives the same run, and a resumed run draws what the uninterrupted one would have drawn.
Two counter-based families serve this: TensorFlow's stateless Philox ops inside compiled programs, and NumPy's
Philox generator for the host's own rare draws (env seeds, say). Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Purposes of draws. Appending is safe; changing a number changes every run. 5 is not used any more."""

    PARAMETERS = 0
    EXPLORATION = 1
    REPLAY = 2
    TRAINING_ENV = 3
    EVALUATION_ENV = 4
    ACTIONS = 6
    TRIANGLE = 7
    GARNET = 8
    OUTCOMES = 9
    COIN = 10
    MINIBATCHES = 11
    SHUFFLE = 12
    AUGMENTATION = 13
    SPLIT = 14
    TEXT = 15
    SHAPES = 16
    NOISE = 17
    FRACTIONS = 18
    EVALUATION_ACTIONS = 19


_PURPOSES = 64


def key(seed: int, purpose: Purpose) -> int:
    """One int64 number for a seed and a purpose; different pairs give different numbers."""
    return seed * _PURPOSES + int(purpose)


def generator(seed: int, purpose: Purpose, *counts: int) -> np.random.Generator:
    """NumPy's Philox generator for up to three counts (an env's number and its episode, say)."""
    counter = [0, *counts, *([0] * (3 - len(counts)))]
    return np.random.Generator(np.random.Philox(key=key(seed, purpose), counter=counter))


_ENV_SEEDS = 2**30


def env_seed(seed: int, env: int, episode: int) -> int:
    """Seed of a training episode, in [0, 2**30): never one that an evaluation uses."""
    return int(generator(seed, Purpose.TRAINING_ENV, env, episode).integers(_ENV_SEEDS))


def evaluation_seed(seed: int, episode: int, occasion: int = 0) -> int:
    """Seed of an evaluation episode, in [2**30, 2**31): never one that training uses.

    `occasion` tells evaluations of one run apart: 0 is the command's, a training step's is that step, and that of the
    episodes that confirm what they found is `CONFIRMATION` more.
    """
    draw = generator(seed, Purpose.EVALUATION_ENV, occasion, episode).integers(_ENV_SEEDS)
    return _ENV_SEEDS + int(draw)


CONFIRMATION = 2**40
"""Number added to an evaluation's occasion for that of the episodes which confirm it: no run has as many steps."""


def run_evaluation_seed(seed: int, run_seed: int) -> int:
    """Seed of a command's evaluation of a run; another one for each pair.

    Runs of different training seeds are judged on different episodes, so that their spread holds the error which is
    due to the choice of the episodes.

    Args:
        seed: the command's.
        run_seed: that the run was trained with, below 2^31; 0 where it is not known.
    """
    return seed * 2**31 + run_seed
