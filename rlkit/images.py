"""Folders of images: which there are, what class each is of, and which of them cannot be decoded."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
import tensorflow as tf

from rlkit.errors import UserError

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp")
"""Of an image's file name, in small or capital letters."""

OnError = Literal["stop", "skip"]
"""What happens at data that cannot be read: an error, or going on without it."""


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Images and their classes.

    Attributes:
        paths: an image file each.
        labels: each image's index into the classes, [n] int64.
        classes: at least two names, sorted.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]


def image_folder(folder: Path, labels: Path | None = None) -> ImageFolder:
    """The images below a folder, sorted by class and path; or in the order of a label file.

    Args:
        folder: holds a subfolder a class, whose name is the class's; hidden files are passed over.
        labels: a CSV file of file name, relative to the folder, and label, a row for every image below it. A first
            row that names no image is a heading. Without it, the subfolders say the classes.

    Raises:
        UserError: the folder is missing or cannot be read, has no images or only one class; or the label file is
            not one, or does not name exactly the folder's images.
    """
    if not folder.is_dir():
        raise UserError(f"image folder {folder} " + ("is a file" if folder.exists() else "does not exist"))
    found = _images(folder)
    looked_for = f"images that end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
    if not found:
        raise UserError(f"image folder {folder} has no images: looked for {looked_for}, also in its subfolders")
    if labels is not None:
        named = _read_labels(labels, folder, found)
    else:
        named = {path: path.parts[0] for path in found if len(path.parts) > 1}
        if not named:
            raise UserError(
                f"image folder {folder} has no images in subfolders: give each class a subfolder, "
                "or name a file of labels with --labels FILE.csv"
            )
    classes = tuple(sorted(set(named.values())))
    if len(classes) == 1:
        raise UserError(f"image folder {folder} has only one class, {classes[0]!r}: at least two are needed")
    index = {name: i for i, name in enumerate(classes)}
    numbers = np.array([index[name] for name in named.values()], np.int64)  # [n]
    return ImageFolder(tuple(str(folder / path) for path in named), numbers, classes)


def _images(folder: Path) -> list[PurePath]:
    """Every visible image below a folder, relative to it, sorted.

    Links are followed only where they are the folder's own entries, so a circle of them has an end.
    """

    def fail(error: OSError) -> None:
        raise error

    found = []
    try:
        for top in folder.iterdir():
            tree = os.walk(top, onerror=fail) if top.is_dir() else [(str(folder), [], [top.name])]
            if top.name.startswith("."):
                continue
            for parent, folders, files in tree:
                folders[:] = [name for name in folders if not name.startswith(".")]
                found += [Path(parent, name).relative_to(folder) for name in files if _is_image(name)]
    except OSError as error:
        raise UserError(f"image folder {folder} cannot be read: {error.filename}: {error.strerror}") from None
    return sorted(found)


def _is_image(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def _read_labels(file: Path, folder: Path, found: Sequence[PurePath]) -> dict[PurePath, str]:
    """The label of each image, in the file's order; UserError where the two do not match."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines)
            rows = [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise UserError(f"label file {file} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"label file {file} is no CSV file: {error}") from None
    if rows and not _is_image(PurePath(rows[0][1][0]).name):
        del rows[0]
    bad = [(line, row) for line, row in rows if len(row) != 2 or not all(cell.strip() for cell in row)]
    if bad:
        line, row = bad[0]
        has = f"has {len(row)} column{'s' * (len(row) > 1)}" if len(row) != 2 else "has an empty column"
        raise UserError(f"label file {file}: line {line} {has}, not a file name and a label{_many(bad, 'line')}")
    named = [PurePath(name.strip()) for _, (name, _) in rows]
    twice = [name for name, times in Counter(named).items() if times > 1]
    if twice:
        raise UserError(f"label file {file} names {twice[0]} more than once{_many(twice, 'file')}")
    there = set(found)
    absent = [name for name in named if name not in there]
    if absent:
        raise UserError(f"label file {file} names {absent[0]}, which is no image in {folder}{_many(absent, 'file')}")
    unnamed = sorted(there.difference(named))
    if unnamed:
        raise UserError(f"label file {file} has no label for {unnamed[0]} in {folder}{_many(unnamed, 'image')}")
    return {name: label.strip() for name, (_, (_, label)) in zip(named, rows, strict=True)}


def _many(offenders: Sequence[object], noun: str) -> str:
    """How many there are, if more than the first, which is named."""
    return f" ({len(offenders)} such {noun}s)" if len(offenders) > 1 else ""


def decode(encoded: tf.Tensor, size: tuple[int, int, int]) -> tf.Tensor:
    """Pixels of an encoded image, resized without regard to its proportions; works within tf.data.

    Args:
        encoded: a JPEG, PNG, GIF (its first frame) or BMP file, [] string.
        size: height, width and channels: 1 for grey, 3 for red, green and blue.

    Returns:
        [height, width, channels] float32 in [0, 1].

    Raises:
        ValueError: another number of channels.
        tf.errors.InvalidArgumentError: when it runs, the image cannot be decoded.
    """
    if size[2] not in (1, 3):
        raise ValueError(f"{size[2]} channels: an image has 1 or 3")
    pixels = _pixels(encoded, size[2])  # [h, w, c]
    same = tf.reduce_all(tf.shape(pixels)[:2] == size[:2])
    resized = tf.cond(same, lambda: pixels, lambda: tf.image.resize(pixels, size[:2]))
    return tf.ensure_shape(tf.clip_by_value(resized, 0.0, 1.0), size)


def _pixels(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """[h, w, channels] float32 in [0, 1], of the image's own size."""
    asked = 3 if channels == 3 else 0  # not every format is decoded to grey
    pixels = tf.io.decode_image(encoded, channels=asked, dtype=tf.float32, expand_animations=False)
    if channels == 1:

        def grey() -> tf.Tensor:
            return tf.image.rgb_to_grayscale(tf.ensure_shape(pixels[..., :3], [None, None, 3]))

        pixels = tf.cond(tf.shape(pixels)[2] < 3, lambda: pixels[..., :1], grey)
    return tf.ensure_shape(pixels, [None, None, channels])


def broken(paths: Sequence[str]) -> list[tuple[str, str]]:
    """The images that cannot be read and decoded, each with the reason, in the order of the paths."""

    def decoded(index: tf.Tensor, path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return index, tf.shape(_pixels(tf.io.read_file(path), 3))

    names = tf.constant([os.fsencode(path) for path in paths], tf.string, [len(paths)])
    images = tf.data.Dataset.from_tensor_slices(names).enumerate().map(decoded, tf.data.AUTOTUNE, deterministic=False)
    with _muted():
        good = {int(index) for index, _ in images.ignore_errors().as_numpy_iterator()}
        told = [(path, _reason(path)) for index, path in enumerate(paths) if index not in good]
    return [(path, reason) for path, reason in told if reason]


@contextmanager
def _muted() -> Iterator[None]:
    """Without stderr: the decoder of JPEGs writes a line there for each that is broken, besides its error."""
    try:
        stderr = os.dup(2)
    except OSError:  # there is none
        yield
        return
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - by its number
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _reason(path: str) -> str:
    """Why an image cannot be decoded; "" if it can."""
    try:
        _pixels(Path(path).read_bytes(), 3)
    except OSError as error:
        return error.strerror or str(error)
    except tf.errors.InvalidArgumentError as error:
        text = str(error.message).rpartition("}} ")[2].partition(" [Op:")[0].rstrip(".")
        if "jpeg::Uncompress" in text:
            return "invalid or truncated JPEG data"
        return (text[:1].lower() + text[1:]).replace(". ", ": ")
    return ""


def usable(folder: ImageFolder, on_error: OnError, say: Callable[[str], None]) -> ImageFolder:
    """The images that can be decoded.

    Args:
        folder: the images.
        on_error: "stop" for an error at a broken one, "skip" to leave those out.
        say: is told of each that is left out.

    Raises:
        UserError: an image is broken and the word is stop, or a class has no other images.
    """
    bad = broken(folder.paths)
    if not bad:
        return folder
    if on_error == "stop":
        raise UserError(
            f"image {bad[0][0]} cannot be decoded: {bad[0][1]}{_many(bad, 'image')}; "
            f"--on-error skip leaves {'them' if len(bad) > 1 else 'it'} out"
        )
    left_out = dict(bad)
    kept = [i for i, path in enumerate(folder.paths) if path not in left_out]
    labels = folder.labels[kept]
    empty = _absent(labels, folder.classes)
    if empty:
        raise UserError(f"no image of class {empty[0]!r} can be decoded, such as {bad[0][0]}: {bad[0][1]}")
    for path, reason in bad:
        say(f"image {path} is left out: {reason}")
    return ImageFolder(tuple(folder.paths[i] for i in kept), labels, folder.classes)


def _absent(labels: np.ndarray, classes: Iterable[str]) -> list[str]:
    """The classes that no label stands for."""
    seen = set(labels.tolist())
    return [name for i, name in enumerate(classes) if i not in seen]
