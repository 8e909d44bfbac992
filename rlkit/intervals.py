"""The 95% interval of a mean, and both as text."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95% interval of the mean over the first axis by Student's t: mean ± t(0.975, n - 1) s / √n.

    It covers the true mean of independent normal values with probability 0.95 for any n from 2 on, and that of other
    values nearly so where n is not small (Student 1908, "The probable error of a mean").

    Args:
        values: [n, ...].

    Returns:
        The lower and the upper end, [...] each; NaN for a single value, which has none.
    """
    n, mean = len(values), np.mean(values, axis=0)
    if n < 2:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = stdtrit(n - 1, 0.975) * np.std(values, axis=0, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def decimals(mean: float, low: float = math.nan, high: float = math.nan) -> int:
    """How many decimals a mean is told with: four digits, three below 1, and two of the interval's half width.

    >>> [decimals(mean) for mean in (0.74, 9.35, 497.4, 12_345.0)]
    [3, 3, 1, 0]
    >>> decimals(499.98, 499.96, 500.0)
    3
    """
    found = [0]
    if mean and math.isfinite(mean):
        size = abs(mean)
        found.append((2 if size < 1 else 3) - math.floor(math.log10(size)))
    half = (high - low) / 2
    if half > 1e-9 * abs(mean):  # less is rounding
        found.append(1 - math.floor(math.log10(half)))
    return min(max(found), 12)


def mean_texts(values: np.ndarray) -> tuple[str, str]:
    """The mean of values [n] and what is known of its error, in words.

    Values that are all alike have no spread to make an interval of, which proves nothing of rare other ones.

    >>> mean_texts(np.array([490.0, 500.0, 500.0]))
    ('496.7', '95% interval 482.3 to 511.0')
    >>> mean_texts(np.array([1.0, 1.0])), mean_texts(np.array([0.5]))
    (('1.000', 'all alike'), ('0.500', 'no interval from one'))
    """
    mean, (low, high) = float(np.mean(values)), map(float, interval(values))
    digits = decimals(mean, low, high)
    if math.isnan(low):
        known = "no interval from one"
    elif np.ptp(values) == 0:
        known = "all alike"
    else:
        known = f"95% interval {low:,.{digits}f} to {high:,.{digits}f}"
    return f"{mean:,.{digits}f}", known


def several_text(values: np.ndarray) -> str:
    """The mean of several values [n], what is known of its error, and the two ends, in words.

    >>> several_text(np.array([490.0, 500.0, 500.0]))
    'mean 496.7 (95% interval 482.3 to 511.0), lowest 490.0, highest 500.0'
    """
    mean, known = mean_texts(values)
    lowest, highest = (mean_texts(values[[i]])[0] for i in (np.argmin(values), np.argmax(values)))
    return f"mean {mean} ({known}), lowest {lowest}, highest {highest}"
