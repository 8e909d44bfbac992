"""A character model of a small text: perplexity before and after, and what it writes at four temperatures.

python -m rlkit.experiments.studies.text [FILE]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from rlkit.api import fitting
from rlkit.seeding import Purpose, generator

WHO = ("the agent", "a learner", "the planner", "an env")
DOES = ("looks at", "remembers", "forgets", "improves")
WHAT = ("the reward", "a policy", "the value of a state", "its next action")
TEMPERATURES = (0.2, 0.5, 1.0, 1.2)


def made_up(sentences: int = 600) -> str:
    """A text of short sentences, four ways to begin, go on and end: 6 bits each."""
    rng = generator(0, Purpose.TEXT)
    words = [" ".join(part[rng.integers(4)] for part in (WHO, DOES, WHAT)) for _ in range(sentences)]
    return ".\n".join(words) + ".\n"


def main(path: Path | None = None, steps: int = 400) -> dict[str, float]:
    """Train, write, print; the perplexities before and after."""
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            path = Path(folder) / "sentences.txt"
            path.write_text(made_up(), encoding="utf-8")
        run = fitting.fit(
            "lstm", "text", preset="none", run_dir=Path(folder), data_file=str(path), steps=steps, units=64, length=40,
            learning_rate=1e-2, log_interval=steps, threads=1,
        )  # fmt: skip
        result = run.evaluate()
        guess = float(len(run.facts.vocabulary))
        texts = run.generate(160, TEMPERATURES, "the ")
    print(f"perplexity: {guess:g} characters to guess from; {result['perplexity']:.3f} after {steps} updates")
    for temperature, text in zip(TEMPERATURES, texts, strict=True):
        print(f"\ntemperature {temperature:g}\nthe {text}")
    return {"before": guess, "after": result["perplexity"], "entropy": float(np.log(64))}


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
