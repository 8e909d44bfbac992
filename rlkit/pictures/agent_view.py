"""What an agent sees, and the value that it gives each action, as a picture beside the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

BACKGROUND, LABEL, TEXT = (28, 32, 40), (150, 160, 175), (255, 255, 255)
BAR, BEST = (74, 94, 128), (236, 168, 60)
SCREEN = 320
"""Pixels; a narrower screen is enlarged by a whole number."""
CELL, GAP, ROW = 84, 8, 24
"""Pixels of a frame that the agent sees, between two of them, and of the highest row of an action."""


def font(size: int) -> FreeTypeFont:
    """Pillow's own font, in pixels."""
    from PIL import ImageFont  # noqa: PLC0415 - only those who render wait for it

    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont)
    return found


def views(observation: np.ndarray) -> list[np.ndarray]:
    """The grey pictures of an observation, the oldest first: of a stack [F, H, W], or of one [H, W]; else none."""
    if observation.dtype != np.uint8 or observation.ndim not in (2, 3):
        return []
    if observation.ndim == 2:
        return [observation]
    return list(observation) if observation.shape[0] < observation.shape[2] else []


class Panel:
    """Draws beside the screens of a rollout.

    Args:
        actions: their names.
        pictures: how many pictures the agent sees at once.
    """

    def __init__(self, actions: Sequence[str], pictures: int) -> None:
        self._actions, self._pictures = actions, pictures
        self._low, self._high = np.inf, -np.inf

    def beside(self, screen: np.ndarray, observation: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The screen, [height, width, 3] uint8, enlarged, and at its right what the agent makes of it.

        Args:
            screen: as the env renders it.
            observation: of the agent.
            values: of each action, [A].
        """
        from PIL import Image, ImageDraw  # noqa: PLC0415

        scale = -(-SCREEN // screen.shape[1])
        left = Image.fromarray(np.ascontiguousarray(screen))
        left = left.resize((left.width * scale, left.height * scale), Image.Resampling.NEAREST)
        top = CELL + 2 * ROW if self._pictures else ROW
        width = max(self._pictures, 3) * (CELL + GAP) + GAP
        row = min(ROW, max(12, (left.height - top) // len(values)))
        height = max(left.height, top + row * len(values) + GAP)
        canvas = Image.new("RGB", (left.width + width, height), BACKGROUND)
        canvas.paste(left)
        draw, small, x = ImageDraw.Draw(canvas), font(13), left.width + GAP
        if self._pictures:
            draw.text((x, ROW / 2), "what the agent sees, the newest at the right", LABEL, small, anchor="lm")
            for i, view in enumerate(views(observation)):
                cell = Image.fromarray(view).resize((CELL, CELL), Image.Resampling.NEAREST)
                canvas.paste(cell.convert("RGB"), (x + i * (CELL + GAP), ROW))
        draw.text((x, top - ROW / 2), "value of each action", LABEL, small, anchor="lm")
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        names = font(min(13, row - 1))
        first = x + max(names.getlength(name) for name in self._actions) + GAP
        last = left.width + width - GAP - names.getlength("-88.88") - GAP
        best = int(np.argmax(values))
        for i, (name, value) in enumerate(zip(self._actions, values, strict=True)):
            y = top + row * i
            share = (float(value) - self._low) / max(self._high - self._low, 1e-9)
            colour = BEST if i == best else BAR
            draw.text((x, y + row / 2), name, TEXT if i == best else LABEL, names, anchor="lm")
            draw.rectangle((first, y + 2, first + max(1, share * (last - first)), y + row - 3), colour)
            end = (left.width + width - GAP, y + row / 2)
            draw.text(end, f"{value:.2f}", TEXT if i == best else LABEL, names, anchor="rm")
        return np.asarray(canvas)
