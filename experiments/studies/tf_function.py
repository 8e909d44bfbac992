"""tf.function: when it traces, what becomes of Python's loops, and how much time it saves.

python -m rlkit.experiments.studies.tf_function
"""

from __future__ import annotations

import time
from collections.abc import Callable

import tensorflow as tf


def traces(arguments: list[object], *, signature: bool) -> int:
    """How often a function is traced that is called with each argument in turn."""
    count = 0

    def square(x: tf.Tensor) -> tf.Tensor:
        nonlocal count
        count += 1  # Python runs while the function is traced, not when the graph runs
        return x * x

    function = tf.function(square, input_signature=[tf.TensorSpec([], tf.float32)] if signature else None)
    for argument in arguments:
        function(argument)
    return count


def collatz(n: tf.Tensor) -> tf.Tensor:
    """Steps from n to 1 by halving, or tripling and adding one; written in Python's words, a loop in the graph."""
    steps = tf.constant(0)
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def milliseconds(function: Callable[..., tf.Tensor], argument: tf.Tensor, calls: int) -> float:
    """Of one call, after a first one."""
    function(argument)
    begun = time.perf_counter()
    for _ in range(calls):
        function(argument)
    return 1e3 * (time.perf_counter() - begun) / calls


def main(calls: int = 30) -> dict[str, float]:
    """Count, time and print."""
    tensors: list[object] = [tf.constant(float(i)) for i in range(5)]
    found: dict[str, float] = {
        "five Python numbers": traces([0.0, 1.0, 2.0, 3.0, 4.0], signature=False),
        "five tensors of one shape": traces(tensors, signature=False),
        "a scalar, then a vector": traces([tf.constant(1.0), tf.constant([1.0, 2.0])], signature=False),
        "five Python numbers, with a signature": traces([0.0, 1.0, 2.0, 3.0, 4.0], signature=True),
    }
    for what, count in found.items():
        print(f"{what}: traced {count:g} time{'s' if count > 1 else ''}")
    start = tf.constant(97)
    compiled, fused = tf.function(collatz), tf.function(collatz, jit_compile=True)
    found["steps from 97"] = int(compiled(start))
    print(f"97 takes {found['steps from 97']:g} steps to 1")
    for name, function in (("eager", collatz), ("graph", compiled), ("XLA", fused)):
        found[name] = milliseconds(function, start, calls if name != "eager" else 3)
        print(f"  {name}: {found[name]:.3f} ms")
    return found


if __name__ == "__main__":
    main()
