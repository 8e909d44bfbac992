"""Proportional priorities for replay, by a sum tree. Schaul et al. 2016, "Prioritized experience replay"."""

from __future__ import annotations

import numpy as np

SMALLEST = 1e-6
"""Added to what a priority is made of, so that nothing is never drawn."""


class SumTree:
    """Weights of places in a binary tree of sums, each a function of the weights alone, whatever their order.

    Args:
        places: how many; all weights are 0 at first.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.levels = max(places - 1, 1).bit_length()
        self.leaf = 1 << self.levels
        self.sums = np.zeros(2 * self.leaf)

    @property
    def weights(self) -> np.ndarray:
        """[places] float64."""
        return self.sums[self.leaf : self.leaf + self.places]

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self.sums[1])

    def assign(self, places: np.ndarray, weights: np.ndarray) -> None:
        """Set the weights of some places, [n] each; the last one counts where a place comes again."""
        node = places + self.leaf
        self.sums[node] = weights
        for _ in range(self.levels):
            node = node >> 1
            self.sums[node] = self.sums[2 * node] + self.sums[2 * node + 1]

    def fill(self, weights: np.ndarray) -> None:
        """Set all weights, [places]."""
        self.weights[:] = weights
        for level in reversed(range(self.levels)):
            first = 1 << level
            below = self.sums[2 * first : 4 * first].reshape(first, 2)
            self.sums[first : 2 * first] = below[:, 0] + below[:, 1]

    def find(self, heights: np.ndarray) -> np.ndarray:
        """The place that each height in [0, total) falls to, if the weights lie one on the other; none of weight 0."""
        node, rest = np.ones(heights.shape, np.int64), heights.astype(np.float64)
        for _ in range(self.levels):
            node = 2 * node
            left = self.sums[node]
            right = (rest >= left) & (self.sums[node + 1] > 0)  # rounding may leave a height at the very end
            rest = np.where(right, rest - left, rest)
            node = node + right
        return node - self.leaf


class Priorities:
    """The priorities of a replay's places: each is drawn with probability p^exponent / sum of these.

    What is new has the largest priority there has been, so that it is soon drawn. Changes are put off until they count.

    Args:
        places: how many.
        exponent: alpha of equation 1.
        least: smaller priorities count as this. 1 makes the draws loss-adjusted: Huber's loss of them, without
            importance weights, has the expected gradient, up to a factor, of uniform draws and a loss that goes on
            from half the square at 1 with slope |error|^alpha. Fujimoto, Meger and Precup 2020, "An equivalence between
            loss functions and non-uniform sampling in experience replay".
    """

    def __init__(self, places: int, exponent: float, least: float = 0.0) -> None:
        self.tree, self.exponent, self.least = SumTree(places), exponent, least
        self.top = np.float32(1.0)
        """The largest weight so far, p^exponent."""
        self._due: list[tuple[np.ndarray, np.ndarray]] = []

    def open(self, places: np.ndarray) -> None:
        """Let places be drawn, [n]."""
        self._due.append((places, np.full(len(places), self.top, np.float64)))

    def close(self, places: np.ndarray) -> None:
        """Let places not be drawn any more, [n]."""
        self._due.append((places, np.zeros(len(places))))

    def draw(self, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One place from each of B equal parts of the sum, by random numbers.

        Args:
            bits: uniform over all of uint32, [K, B].

        Returns:
            Places, [K, B], and their probabilities, [K, B] float64.
        """
        self._settle()
        total, size = self.tree.total, bits.shape[-1]
        parts = (np.arange(size) + bits / 2.0**32) / size  # [K, B]
        places = self.tree.find(parts * total)
        return places, self.tree.weights[places] / total

    def update(self, places: np.ndarray, errors: np.ndarray) -> None:
        """New priorities |error| for places that can still be drawn; [K, B] each, the later of the K updates counts."""
        self._settle()
        places = places.reshape(-1)
        sizes = np.maximum(np.abs(errors.reshape(-1).astype(np.float64)) + SMALLEST, self.least)
        weights = (sizes**self.exponent).astype(np.float32)
        self.top = max(self.top, weights.max())
        still = self.tree.weights[places] > 0
        self.tree.assign(places[still], weights[still])

    def state(self) -> np.ndarray:
        """All weights and the largest so far, [places + 1] float32: all of it."""
        self._settle()
        return np.append(self.tree.weights.astype(np.float32), self.top)

    def restore(self, state: np.ndarray) -> None:
        """Continue from a `state`."""
        self.tree.fill(state[:-1])
        self.top = np.float32(state[-1])
        self._due.clear()

    def _settle(self) -> None:
        if self._due:
            places, weights = (np.concatenate(parts) for parts in zip(*self._due, strict=True))
            self.tree.assign(places, weights)
            self._due.clear()


def importance(probabilities: np.ndarray, held: int, exponent: float) -> np.ndarray:
    """(1 / (M P))^beta over the largest of its batch, [K, B] float32: undoes what the draws prefer.

    Schaul et al. 2016, section 3.4.

    Args:
        probabilities: P of each draw, [K, B].
        held: what could be drawn, M.
        exponent: beta.
    """
    weights = (held * probabilities) ** -exponent
    share: np.ndarray = (weights / weights.max(axis=-1, keepdims=True)).astype(np.float32)
    return share
