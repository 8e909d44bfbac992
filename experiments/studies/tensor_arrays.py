"""TensorArray: a list that a compiled loop writes, with gradients through it.

python -m rlkit.experiments.studies.tensor_arrays
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf


@tf.function
def returns(rewards: tf.Tensor, gamma: tf.Tensor) -> tf.Tensor:
    """G_t = r_t + gamma G_(t+1), from the last step to the first: [T] to [T]. Sutton and Barto 2018, equation 3.9."""
    steps = tf.shape(rewards)[0]
    written = tf.TensorArray(tf.float32, size=steps, element_shape=[])
    following = tf.constant(0.0)
    for t in tf.range(steps - 1, -1, -1):
        following = rewards[t] + gamma * following
        written = written.write(t, following)
    return written.stack()


def in_numpy(rewards: np.ndarray, gamma: float) -> np.ndarray:
    """The same as sums: G_t = sum_k gamma^k r_(t+k)."""
    powers = gamma ** np.arange(len(rewards))
    return np.array([rewards[t:] @ powers[: len(rewards) - t] for t in range(len(rewards))])


def main() -> dict[str, float]:
    """Compute and print; the difference from NumPy, and the derivative of the first return by gamma."""
    rewards, gamma = np.array([1.0, 0.0, -2.0, 3.0, 5.0], np.float32), tf.constant(0.9)
    with tf.GradientTape() as tape:
        tape.watch(gamma)
        found = returns(tf.constant(rewards), gamma)
        first = found[0]
    slope = float(tape.gradient(first, gamma))
    difference = float(np.abs(found.numpy() - in_numpy(rewards, 0.9)).max())
    print("returns " + ", ".join(f"{value:.4f}" for value in found.numpy()) + f"; NumPy's differ by {difference:.1e}")
    # d/dg of 1 - 2 g^2 + 3 g^3 + 5 g^4 is -4 g + 9 g^2 + 20 g^3.
    print(f"the first one's derivative by gamma: {slope:.4f}, by hand {-4 * 0.9 + 9 * 0.9**2 + 20 * 0.9**3:.4f}")
    return {"difference": difference, "slope": slope, "first": float(first)}


if __name__ == "__main__":
    main()
