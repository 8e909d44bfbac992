"""Folders of images: their files, the class of each, and those that cannot be used."""

from __future__ import annotations

import csv
import io
import mimetypes
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
import tensorflow as tf

from rlkit.data.decoding import OVERSIZED, header, pixels
from rlkit.errors import UserError
from rlkit.files import MOST_DATA, check_file, read_bytes

ENDINGS = (".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
"""Of an image's file name, in small or capital letters."""

LOOKED_AT = 2_000
"""Images at most whose headers are read to describe a folder, evenly chosen."""

OnError = Literal["stop", "skip"]
"""What happens at data that cannot be read: an error, or going on without it."""


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Images and their classes.

    Attributes:
        paths: an image file each.
        labels: each image's index into the classes, [n] int64.
        classes: at least two names, sorted.
        notes: on files that were left out, a sentence each.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def image_folder(folder: Path, labels: Path | None = None) -> ImageFolder:
    """The images below a folder, sorted by class and path; or in the order of a label file.

    Args:
        folder: holds a subfolder a class, whose name is the class's; hidden files are passed over.
        labels: a CSV file of file name, relative to the folder, and label, a row for every image below it. A first
            row that names no image is a heading. Without it, the subfolders say the classes.

    Raises:
        UserError: the folder is missing or cannot be read, has no images or only one class, its subfolders may be
            parts rather than classes, or one of them holds no image that can be read; or the label file is not one,
            or does not name exactly the folder's images.
    """
    if not folder.is_dir():
        raise UserError(f"image folder {folder} " + ("is a file" if folder.exists() else "does not exist"))
    found, others = _files(folder)
    looked_for = f"images that end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
    if not found:
        raise UserError(f"image folder {folder} has no images: looked for {looked_for}, also in its subfolders")
    if labels is not None:
        named = _read_labels(labels, folder, found)
        others = [path for path in others if folder / path != labels]
    else:
        _check_classes(folder, found, others)
        named = {path: path.parts[0] for path in found if len(path.parts) > 1}
        if not named:
            raise UserError(
                f"image folder {folder} has no images in subfolders: give each class a subfolder, "
                "or name a file of labels with --labels FILE.csv"
            )
    classes = tuple(sorted(set(named.values())))
    odd = [name for name in classes if any("\udc80" <= letter <= "\udcff" for letter in name)]  # bytes, to Python
    if odd:
        raise UserError(f"image folder {folder}: the name of the class {odd[0]!r} is not UTF-8: rename it")
    if len(classes) == 1:
        inner = sorted({path.parts[1] for path in found if len(path.parts) > 2} if labels is None else ())
        hint = f"; it has the subfolders {_listed(inner)}: if they are the classes, name {folder / classes[0]}"
        raise UserError(
            f"image folder {folder} has only one class, {classes[0]!r}: at least two are needed{hint if inner else ''}"
        )
    index = {name: i for i, name in enumerate(classes)}
    numbers = np.array([index[name] for name in named.values()], np.int64)  # [n]
    notes = _left_out(folder, [path for path in found if path not in named], others)
    return ImageFolder(tuple(str(folder / path) for path in named), numbers, classes, notes)


def _check_classes(folder: Path, found: Sequence[PurePath], others: Sequence[PurePath]) -> None:
    """UserError where subfolders are perhaps no classes, or a class has no image that can be read."""
    inner: dict[str, set[str]] = {}
    for path in found:
        inner.setdefault(path.parts[0], set()).update(path.parts[1:-1][:1])
    for name, below in inner.items():
        alike = [other for other in inner if other != name and len(inner[other] & below) > 1]
        if alike:
            raise UserError(
                f"image folder {folder}: {name} and {alike[0]} hold the same subfolders, "
                f"{_listed(sorted(below & inner[alike[0]]))}, and are perhaps parts rather than classes: name the "
                "folder of one part, or the class of each image with --labels FILE.csv"
            )
    for path in others:
        top = path.parts[0]
        if len(path.parts) > 1 and top not in inner and not _is_text(path):
            files = sum(other.parts[0] == top for other in others)
            raise UserError(
                f"image folder {folder}: {top} has {files} file{'s' * (files > 1)} and no image that can be read, such "
                f"as {path}: convert them to one of {', '.join(ENDINGS)}, or move {top} elsewhere"
            )


def _is_text(path: PurePath) -> bool:
    """Whether a file by its name is a note beside images, or what a file browser leaves."""
    kind = mimetypes.guess_type(path.name)[0] or ""
    return kind.startswith(("text/", "application/json", "application/xml")) or path.name in (
        "Thumbs.db",
        "desktop.ini",
    )


def _left_out(folder: Path, loose: Sequence[PurePath], others: Sequence[PurePath]) -> tuple[str, ...]:
    """Sentences on the files of a folder that are not used."""
    notes = []
    if loose:
        notes.append(f"left out: {len(loose):,} image{'s' * (len(loose) > 1)} in no class folder, such as {loose[0]}")
    endings: dict[str, list[PurePath]] = {}
    for path in others:
        endings.setdefault(path.suffix.lower(), []).append(path)
    for ending, paths in sorted(endings.items()):
        what = f"that end{'s' * (len(paths) == 1)} in {ending}" if ending else "without an ending"
        notes.append(f"left out: {len(paths):,} file{'s' * (len(paths) > 1)} {what}, such as {paths[0]}")
    empty = sorted(top.name for top in folder.iterdir() if top.is_dir() and not any(top.iterdir()))
    if empty:
        notes.append(f"left out: {_listed(empty)}, without any file")
    return tuple(notes)


def _listed(names: Sequence[str]) -> str:
    """Names, the first ten."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def described(folder: ImageFolder) -> tuple[str, ...]:
    """Sentences on the images of each class, their sizes, and what is done to show them upright and opaque."""
    counts = Counter(folder.labels.tolist())
    classes = [f"{name} {counts[i]:,}" for i, name in enumerate(folder.classes)]
    step = -(-len(folder.paths) // LOOKED_AT)
    headers = [known for path in folder.paths[::step] if (known := header(path))]
    some = f" (of {len(headers):,} looked at)" if step > 1 else ""
    sizes = sorted({known.size for known in headers}, key=lambda size: (size[0] * size[1], size))
    ranged = " to ".join(dict.fromkeys(f"{width} x {height}" for width, height in (*sizes[:1], *sizes[-1:])))
    notes = [f"images: {_listed(classes)}" + (f"; {ranged} pixels{some}" if ranged else "")]
    turned, clear = sum(known.turned for known in headers), sum(known.transparent for known in headers)
    if turned:
        notes.append(f"turned upright as their Exif data say: {turned:,} image{'s' * (turned > 1)}{some}")
    if clear:
        notes.append(f"laid on white where they are transparent: {clear:,} image{'s' * (clear > 1)}{some}")
    return tuple(notes) + folder.notes


def _files(folder: Path) -> tuple[list[PurePath], list[PurePath]]:
    """Every visible image below a folder, and every other visible file, relative to it, sorted.

    `__MACOSX`, which holds the hidden files of a macOS archive, is as hidden as they are. Links are followed only where
    they are the folder's own entries, so a circle of them has an end.
    """

    def fail(error: OSError) -> None:
        raise error

    found: list[PurePath] = []
    try:
        for top in folder.iterdir():
            tree = os.walk(top, onerror=fail) if top.is_dir() else [(str(folder), [], [top.name])]
            if top.name.startswith(".") or top.name == "__MACOSX":
                continue
            for parent, folders, files in tree:
                folders[:] = [name for name in folders if not name.startswith(".")]
                found += [Path(parent, name).relative_to(folder) for name in files if not name.startswith(".")]
    except OSError as error:
        raise UserError(f"image folder {folder} cannot be read: {error.filename}: {error.strerror}") from None
    images = {path for path in found if path.name.lower().endswith(ENDINGS)}
    for path in images:
        with suppress(OSError):  # a link to nothing is an image that cannot be read
            check_file(folder / path)
    return sorted(images), sorted(path for path in found if path not in images)


def _read_labels(file: Path, folder: Path, found: Sequence[PurePath]) -> dict[PurePath, str]:
    """The label of each image, in the file's order; UserError where the two do not match."""
    try:
        reader = csv.reader(io.StringIO(read_bytes(file, MOST_DATA).decode("utf-8-sig"), newline=""))
        rows = [(reader.line_num, row) for row in reader if row]
    except OSError as error:
        raise UserError(f"label file {file} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"label file {file} is no CSV file: {error}") from None
    if rows and not PurePath(rows[0][1][0]).suffix:
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
        encoded: a JPEG, PNG, GIF, BMP, WebP or TIFF file, [] string; the first picture of several. It is turned
            upright as its Exif data say, and laid on white where it is transparent.
        size: height, width and channels: 1 for grey, 3 for red, green and blue.

    Returns:
        [height, width, channels] float32 in [0, 1].

    Raises:
        ValueError: another number of channels.
        tf.errors.InvalidArgumentError: when it runs, the image cannot be decoded.
    """
    if size[2] not in (1, 3):
        raise ValueError(f"{size[2]} channels: an image has 1 or 3")
    image = pixels(encoded, size[2])  # [h, w, c]
    same = tf.reduce_all(tf.shape(image)[:2] == size[:2])
    resized = tf.cond(same, lambda: image, lambda: tf.image.resize(image, size[:2]))
    return tf.ensure_shape(tf.clip_by_value(resized, 0.0, 1.0), size)


def broken(paths: Sequence[str]) -> list[tuple[str, str]]:
    """The images that cannot be read and decoded, each with the reason, in the order of the paths."""

    def decoded(index: tf.Tensor, path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return index, tf.shape(pixels(tf.io.read_file(path), 3))

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
        pixels(tf.constant(read_bytes(Path(path), MOST_DATA)), 3)
    except UserError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        text = str(getattr(error, "message", error)).rpartition("}} ")[2].partition(" [Op:")[0].strip().rstrip(".")
        if OVERSIZED in str(error):
            return OVERSIZED
        if "jpeg::Uncompress" in text or text.startswith("Invalid JPEG"):
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
    return replace(folder, paths=tuple(folder.paths[i] for i in kept), labels=labels)


def _absent(labels: np.ndarray, classes: Iterable[str]) -> list[str]:
    """The classes that no label stands for."""
    seen = set(labels.tolist())
    return [name for i, name in enumerate(classes) if i not in seen]
