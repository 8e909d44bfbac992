"""Pixels of encoded images as a viewer shows them: upright, opaque and with their palette's colours.

TensorFlow decodes JPEG and PNG files. It takes no notice of Exif data, drops transparency and takes a BMP palette's
indices for greys: files that may have one of these, and formats that it does not know, are decoded by Pillow.
"""

from __future__ import annotations

import io
import math
import struct
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from rlkit.errors import UserError

MOST_PIXELS = 2**27
"""Pixels of an image at most: 134 million, more than any camera's; decoded, they take 1.6 GB."""

OVERSIZED = f"it has more than {MOST_PIXELS:,} pixels"
"""The reason why an image is not decoded."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
"""That Pillow may take a file for."""

OTHERS = (
    r"(?s)\C*Exif\x00\x00\C*"
    r"|\CPNG\C*(eXIf|tRNS)\C*|\CPNG\C{21}[\x04\x06]\C*"  # byte 25 is the colour type: 4 and 6 have transparency
    r"|BM\C{26}[\x01\x04\x08\x10\x20]\C*"  # byte 28 is the number of bits of a pixel: all but 24
    r"|(GIF8|RIFF|II\*\x00|MM\x00\*)\C*"
    r"|\C\n\C*|\x00\x00\x00\x0cJXL \C*"  # JPEG XL, whose header TensorFlow does not tell: Pillow refuses it
)
"""Files that Pillow decodes; \\C is any byte."""

ERRORS = (OSError, SyntaxError, ValueError, TypeError, struct.error, Image.DecompressionBombError)
"""Raised by Pillow for a file that it cannot decode."""


class Header(NamedTuple):
    """Facts of an image file that need no decoding."""

    size: tuple[int, int]
    """Width and height, pixels, upright."""
    turned: bool
    transparent: bool


def header(path: str) -> Header | None:
    """The facts of a file; None where it cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            turn = _orientation(image)
            size = image.size[::-1] if turn > 4 else image.size
            return Header(size, turn != 1, image.has_transparency_data)
    except ERRORS:
        return None


def _orientation(image: Image.Image) -> int:
    """The number in the Exif data, from 1, upright, to 8; above 4 height and width change places."""
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def pixels(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """[h, w, channels] float32 in [0, 1], of the image's own size; works within tf.data.

    Args:
        encoded: the file, [] string.
        channels: 1 for grey, 3 for red, green and blue.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, the image cannot be decoded.
    """
    asked = 3 if channels == 3 else 0  # a PNG of 16 bits is decoded to grey with all of them

    def by_tensorflow() -> tf.Tensor:
        with tf.control_dependencies([_bounded(encoded)]):
            return tf.io.decode_image(encoded, channels=asked, dtype=tf.float32, expand_animations=False)

    def by_pillow() -> tf.Tensor:
        shown = tf.numpy_function(_shown, [encoded], tf.uint8, stateful=False)
        return tf.image.convert_image_dtype(tf.ensure_shape(shown, [None, None, 3]), tf.float32)

    image = tf.cond(tf.strings.regex_full_match(encoded, OTHERS), by_pillow, by_tensorflow)
    if channels == 1:

        def grey() -> tf.Tensor:
            return tf.image.rgb_to_grayscale(tf.ensure_shape(image[..., :3], [None, None, 3]))

        image = tf.cond(tf.shape(image)[2] < 3, lambda: image[..., :1], grey)
    return tf.ensure_shape(image, [None, None, channels])


def _bounded(encoded: tf.Tensor) -> tf.Operation | None:
    """An assertion on the size that the head of a JPEG, PNG or BMP tells, before its pixels are decoded."""
    mark = tf.strings.substr(encoded, 0, 2)
    sizes = [
        (mark == b"\xff\xd8", lambda: tf.image.extract_jpeg_shape(encoded)[:2]),
        (mark == b"\x89P", lambda: tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False)),
        (mark == b"BM", lambda: tf.io.decode_raw(tf.strings.substr(encoded, 18, 8), tf.int32)),
    ]
    size = tf.cast(tf.case(sizes, lambda: tf.zeros([2], tf.int32)), tf.int64)  # of all others there is no decoder here
    return tf.debugging.Assert(tf.abs(tf.reduce_prod(size)) <= MOST_PIXELS, [OVERSIZED])


def _shown(encoded: bytes | np.ndarray) -> np.ndarray:
    """An image as Pillow shows it, [h, w, 3] uint8; ValueError, with one line, for one that cannot be decoded."""
    encoded = encoded if isinstance(encoded, bytes) else encoded.item()  # outside a graph it is an array of one object
    try:
        image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        if math.prod(image.size) > MOST_PIXELS:
            raise UserError(OVERSIZED)
        turn = _orientation(image)
        if encoded[:2] != b"\xff\xd8":
            return _opaque(ImageOps.exif_transpose(image))
        decoded = Image.fromarray(tf.io.decode_jpeg(encoded, channels=3).numpy())  # which sees more damage, as above
        decoded.getexif()[ExifTags.Base.Orientation] = turn
        return _opaque(ImageOps.exif_transpose(decoded))
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(str(error.message)) from None
    except UserError as error:
        raise ValueError(str(error)) from None
    except Image.DecompressionBombError:  # Pillow has a limit of its own, above this one
        raise ValueError(OVERSIZED) from None
    except UnidentifiedImageError:
        raise ValueError("unknown image file format") from None
    except ERRORS as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None


def _opaque(image: Image.Image) -> np.ndarray:
    """[h, w, 3] uint8; white shows through where the image is transparent."""
    if image.mode.startswith("I;16"):
        return np.repeat((np.asarray(image) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise UserError("its pixels have 32 bits, expected 8 or 16")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return np.asarray(image.convert("RGB"))
