"""The sources of TFRecord files again: images in class folders, or an .npz file of arrays."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from rlkit.data.tfrecord.reading import Damage, Records, batches
from rlkit.data.tfrecord.schema import Feature
from rlkit.errors import UserError

TEXT = Feature("bytes", "string", ())


def unpack(records: Records, folder: Path, damaged: Sequence[Damage] = ()) -> Path:
    """Write records as the files that they were made from, whole or not at all.

    Args:
        records: of images, with the features `image`, `file` and `label`; or of arrays only.
        folder: a new or empty one. Images are CLASS/FILE in it, arrays are all in arrays.npz.
        damaged: what `rlkit.data.tfrecord.reading.damages` found; records before it are written.

    Returns:
        the folder, or the file of arrays in it.

    Raises:
        UserError: the folder is not empty or cannot be written, or the records are neither.
    """
    features = records.schema.features
    images = features.get("image") == TEXT and features.get("file") == TEXT
    if images and features.get("label") != Feature("int64", "int64", ()):
        raise UserError(f"{records.files[0]} has images without a label: they belong to no class folder")
    texts = [name for name, feature in features.items() if feature.dtype == "string"]
    if texts and not images:
        raise UserError(f"{records.files[0]} holds neither images nor only arrays: {texts[0]!r} is of bytes")
    try:
        with _new_folder(folder) as beside:
            if images:
                _write_images(records, beside, damaged)
                return folder
            _write_arrays(records, beside / "arrays.npz", damaged)
            return folder / "arrays.npz"
    except OSError as error:
        raise UserError(f"folder {folder} cannot be written: {error.strerror or error}") from None


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside the place of a new one: moved there at the end, removed after any exception."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder: name a new one with --to")
    folder.parent.mkdir(exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        beside.chmod(0o777 & ~_umask())  # mkdtemp lets nobody else in
        yield beside
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _umask() -> int:
    """Which permissions new files do not get; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _write_arrays(records: Records, path: Path, damaged: Sequence[Damage]) -> None:
    """An .npz file; not by np.savez, which has no arrays that are called as its own arguments are."""
    columns = list(batches(records, damaged))
    with zipfile.ZipFile(path, "w") as archive:
        for name in records.schema.features:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.concatenate([batch[name] for batch in columns]), allow_pickle=False)


def _write_images(records: Records, folder: Path, damaged: Sequence[Damage]) -> None:
    """Each image in the folder of its class, with the bytes and the name that it had."""
    for batch in batches(records, damaged):
        for image, label, file in zip(batch["image"], batch["label"].tolist(), batch["file"], strict=True):
            name, kind = PurePosixPath(os.fsdecode(file)), records.schema.class_name(label)
            if len(name.parts) > 1 and name.parts[0] == kind:  # as it is where subfolders were the classes
                name = name.relative_to(kind)
            target = PurePosixPath(kind) / name
            # A name from a file must not lead out of the folder.
            outside = {"..", "/"} & {*name.parts, *target.parts} or not name.parts or "\0" in str(target)
            if outside or len(PurePosixPath(kind).parts) != 1 or (folder / target).exists():
                raise UserError(f"{records.files[0]} has an image that cannot be a file: {kind!r}, {str(name)!r}")
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            (folder / target).write_bytes(image)
