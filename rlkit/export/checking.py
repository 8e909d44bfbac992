"""Whether an exported model does what the live one does."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rlkit.errors import UserError
from rlkit.export.portable import Arrays, Portable

CLOSE = 1e-5
"""Largest difference in float32, as a share of the largest value where that is above 1."""
EQUAL = 0.99
"""Least share of equal choices."""
ROUGH = 0.1
"""Largest difference of quantized numbers, in standard deviations of the live ones, where nothing is chosen."""


@dataclass(frozen=True)
class Agreement:
    """How far an export is from the live model on the same inputs."""

    inputs: int
    """How many."""
    difference: float
    """Largest, of values."""
    scale: float
    """Largest size of the live values."""
    spread: float
    """Standard deviation of the live values."""
    equal: float
    """Share of equal actions, classes or likeliest characters; of numbers, of those that are close."""

    def to_dict(self) -> dict[str, Any]:
        """As export.json has it."""
        return asdict(self)

    def require(self, name: str, quantize: str) -> None:
        """UserError with what to try unless the export agrees."""
        if quantize != "none":
            if self.equal < EQUAL:
                other = {"int8": "dynamic or float16", "dynamic": "float16"}.get(quantize, "none")
                raise UserError(
                    f"the {name} in {quantize} chooses as the live model does on {self.equal:.1%} of {self.inputs:,} "
                    f"inputs only, expected {EQUAL:.0%}: nothing is written, try --quantize {other}"
                )
            return
        most = CLOSE * max(1.0, self.scale)
        if not self.difference <= most:
            raise UserError(
                f"the {name} is up to {self.difference:.2g} from the live model's values, expected {most:.2g} at most: "
                "nothing is written, try another format"
            )
        if self.equal < EQUAL:
            raise UserError(
                f"the {name} chooses as the live model does on {self.equal:.1%} of {self.inputs:,} inputs only, as "
                f"its values are closer to each other than float32 tells apart: nothing is written, train for longer"
            )


def compare(expected: Arrays, found: Arrays, portable: Portable) -> Agreement:
    """Outputs of the live model and of the export for the same inputs.

    Args:
        expected: by the model as it was trained.
        found: by the export.
        portable: what was exported.
    """
    a, b = (np.asarray(part[portable.values], np.float64) for part in (expected, found))
    if a.shape != b.shape:
        raise UserError(f"the export gives {portable.values} of the shape {b.shape}, the live model {a.shape}")
    difference, spread = float(np.abs(a - b).max()), float(a.std())
    if portable.choice:
        equal = expected[portable.choice] == found[portable.choice]
    elif a.shape[-1] > 1:
        equal = a.argmax(axis=-1) == b.argmax(axis=-1)
    else:
        equal = np.abs(a - b) <= ROUGH * spread
    if not np.isfinite(b).all():
        difference = math.inf
    return Agreement(len(a), difference, float(np.abs(a).max()), spread, float(np.mean(equal)))
