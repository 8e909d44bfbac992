"""Text as numbers for models of characters, and text from them.

Letters: B batch, T characters of a sequence, V vocabulary's size.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from rlkit.errors import UserError
from rlkit.files import MOST_DATA, read_bytes
from rlkit.random_bits import draws, fraction
from rlkit.seeding import Purpose
from rlkit.supervised.pipeline import Source


def read_text(path: Path) -> str:
    """A UTF-8 file's text, without a byte order mark.

    Raises:
        UserError: there is no such file, it is empty, or it is no UTF-8.
    """
    try:
        text = read_bytes(path, MOST_DATA).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError:
        raise UserError(f"text file {path} does not exist") from None
    except UnicodeDecodeError as error:
        raise UserError(f"text file {path} is not UTF-8: byte {error.start} cannot be read") from None
    except OSError as error:
        raise UserError(f"text file {path} cannot be read: {error.strerror}") from None
    if not text.strip():
        raise UserError(f"text file {path} is empty")
    return text


def encode(text: str, vocabulary: str, what: str = "the text") -> np.ndarray:
    """Places of characters in the vocabulary, [n] int32.

    Raises:
        UserError: it has characters that the vocabulary lacks; they are named.
    """
    places = {character: i for i, character in enumerate(vocabulary)}
    strange = list(dict.fromkeys(c for c in text if c not in places))
    if strange:
        named = ", ".join(map(repr, strange[:8])) + (f" and {len(strange) - 8} more" if len(strange) > 8 else "")
        raise UserError(f"{what} has characters that the model was not trained on: {named}")
    return np.array([places[c] for c in text], np.int32)


def windows(codes: np.ndarray, length: int, stride: int) -> Source:
    """Sequences of `length` characters and, for each of them, the one that follows: x and y [B, T] int32."""
    starts = np.arange(0, len(codes) - length, stride)
    held, reach = tf.constant(codes), tf.range(length + 1)

    def collect(places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found = tf.gather(held, tf.cast(places * stride, tf.int32)[:, None] + reach)  # [B, T + 1]
        return found[:, :-1], found[:, 1:]

    return Source(tf.data.Dataset.range(len(starts)), len(starts), collect=collect)


class Generator(tf.Module):
    """Characters drawn one after the other from a model of them, in one compiled program.

    Args:
        model: as `models.build` makes it: "one_hot", "lstm" and "logits" layers.
        seed: of the draws.
    """

    def __init__(self, model: keras.Model, seed: int = 0) -> None:
        super().__init__()
        self.cell, self.output, self.seed = model.get_layer("lstm").cell, model.get_layer("logits"), seed
        self.size, self.units = int(self.output.units), int(self.cell.units)

    def generate(self, prompt: np.ndarray, length: int, temperature: float) -> np.ndarray:
        """The characters that follow a prompt, [length] int32: each drawn from softmax(logits / temperature).

        Args:
            prompt: codes, [n] with n > 0.
            length: how many.
            temperature: below 1 the likely become likelier; 0 takes the likeliest.
        """
        codes: np.ndarray = self._generate(tf.constant(prompt, tf.int32), length, tf.constant(temperature)).numpy()
        return codes

    @tf.function(reduce_retracing=True)
    def _generate(self, prompt: tf.Tensor, length: int, temperature: tf.Tensor) -> tf.Tensor:
        state = (tf.zeros([1, self.units]), tf.zeros([1, self.units]))
        logits = tf.zeros([1, self.size])
        for code in prompt:
            logits, state = self._read(code, state)
        written = tf.TensorArray(tf.int32, size=length, element_shape=[])
        for i in tf.range(length):
            code = self._draw(logits[0], tf.cast(i, tf.int64), temperature)
            written = written.write(i, code)
            logits, state = self._read(code, state)
        return written.stack()

    def _read(self, code: tf.Tensor, state: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        output, state = self.cell(tf.one_hot(code, self.size)[None], state)
        return self.output(output), tuple(state)

    def _draw(self, logits: tf.Tensor, at: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """A code by Gumbel's trick: the largest of logits / temperature plus noise (Gumbel 1954)."""
        uniform = tf.maximum(fraction(draws(self.seed, Purpose.TEXT, at, [self.size])), 2.0**-25)  # [V], in (0, 1)
        noise = -tf.math.log(-tf.math.log(uniform))
        return tf.argmax(logits + temperature * noise, output_type=tf.int32)
