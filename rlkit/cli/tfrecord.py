"""rlkit tfrecord: images or arrays to TFRecord files, and back."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlkit.cli.common import PATH, Help, Name, count, json_option, print_json, say, words
from rlkit.errors import UserError
from rlkit.loading import loading

if TYPE_CHECKING:
    from rlkit.data.image_folders import OnError
    from rlkit.data.tfrecord.reading import Damage, Records
    from rlkit.data.tfrecord.schema import Compression, Feature, Schema

ON_ERROR = Name("--on-error", ["stop", "skip"])


@click.group(
    cls=Help,
    short_help="Write data as TFRecord files, read them.",
    epilog="Such as: rlkit tfrecord write photos photos.tfrecord --shards 4; rlkit tfrecord read photos.tfrecord",
)
def tfrecord() -> None:
    """Write images or arrays as TFRecord files with a schema beside them, and read those."""


@tfrecord.command(short_help="Images or arrays to TFRecord files.")
@click.argument("source", type=PATH)
@click.argument("file", type=PATH)
@click.option("--labels", type=PATH, metavar="FILE.csv", help="File name and label of each image.")
@click.option("--shards", default=1, show_default=True, type=count("--shards"), help="Number of files.")
@click.option(
    "--compression",
    default="none",
    show_default=True,
    type=Name("--compression", ["none", "gzip"]),
    help="none or gzip.",
)
@click.option("--on-error", default="stop", show_default=True, type=ON_ERROR, help="At a broken image: stop or skip.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
def write(
    source: Path,
    file: Path,
    labels: Path | None,
    shards: int,
    compression: Compression,
    on_error: OnError,
    force: bool,
) -> None:
    """Write SOURCE as FILE, NAME.tfrecord, and its schema, NAME.schema.json.

    SOURCE is a folder of images, with a subfolder a class or with --labels; or an .npz file of arrays with a row a
    record. Images stay as they are encoded. Several files are called NAME-00000-of-00004.tfrecord and so on.
    """
    with loading():
        from rlkit.data.tfrecord import writing
    writing.targets(file, shards, force)  # before every image is looked at
    opened = writing.open_source(source, labels, on_error, say)
    records = writing.write(opened, file, shards, compression, force)
    click.echo(printable(f"{file}: {size(records)}"))
    click.echo(printable(f"next: {words('rlkit', 'tfrecord', 'read', file)}"))


@tfrecord.command(short_help="What TFRecord files hold.")
@click.argument("file", type=PATH)
@click.option("--limit", default=5, show_default=True, type=count("--limit", 0), help="How many records are shown.")
@click.option(
    "--on-error",
    default="stop",
    show_default=True,
    type=ON_ERROR,
    help="At a damaged record: stop, or skip it and those after it in its file.",
)
@click.option(
    "--to",
    "folder",
    type=PATH,
    metavar="FOLDER",
    help="Write the images back as files in class folders, or the arrays as arrays.npz.",
)
@json_option
def read(file: Path, limit: int, on_error: OnError, folder: Path | None, as_json: bool) -> None:
    """Check every record of FILE and show its schema, its classes and the first records.

    FILE is the name given to `rlkit tfrecord write`, one of the files that it wrote, or their schema.
    """
    with loading():
        from rlkit.data.tfrecord import unpacking
        from rlkit.data.tfrecord.reading import class_counts, damages, open_records
    records = open_records(file)
    damaged = []
    for damage in damages(records):
        if on_error == "stop":
            raise damage.error()
        say(f"{damage}: it and what follows it in this file is left out")
        damaged.append(damage)
    lost = {damage.file: damage.number - 1 for damage in damaged}
    readable = sum(lost.get(name, n) for name, n in zip(records.files, records.schema.records, strict=True))
    if not readable:
        raise UserError(f"{file}: no record can be read")
    written = unpacking.unpack(records, folder, damaged) if folder else None
    found = {"readable": readable, "classes": class_counts(records, damaged), "first": first(records, limit, damaged)}
    if as_json:
        print_json(summary(file, records, damaged) | found | ({"to": str(written)} if written else {}))
        return
    show(file, records, found)
    if written:
        click.echo(printable(str(written)))


def first(records: Records, limit: int, damaged: list[Damage]) -> list[dict[str, int | float | str]]:
    """The first records in a short form."""
    from rlkit.data.tfrecord.reading import batches

    rows = (
        {name: shown(values[i]) for name, values in batch.items()}
        for batch in batches(records, damaged)
        for i in range(len(next(iter(batch.values()))))
    )
    return list(islice(rows, limit))


def shown(value: Any) -> int | float | str:  # noqa: ANN401 - an element of any of the types
    """A parsed value of one record in a short form: a number, a short text, or what it is."""
    import numpy as np

    if isinstance(value, bytes):
        text = value.decode(errors="replace")
        return text if len(text) <= 80 and text.isprintable() and value else f"{len(value):,} bytes"
    array = np.asarray(value)
    form = ".6g" if array.dtype.kind == "f" else ""
    if array.dtype == object:
        return f"{array.size} strings"
    if array.ndim == 0:
        number: int | float = array.item()
        return number if np.isfinite(number) else str(number)
    if array.size <= 8:
        return "[" + ", ".join(f"{x:{form}}" for x in array.ravel()) + "]"
    return f"{array.dtype} {list(array.shape)}, {array.min():{form}} to {array.max():{form}}"


def size(records: Records) -> str:
    """How many records in how many files."""
    files = len(records.files)
    packed = ", gzip" if records.schema.compression == "gzip" else ""
    noun = "record" if records.size == 1 else "records"
    return f"{records.size:,} {noun} in {files} file{'s' * (files > 1)}{packed}"


def summary(file: Path, records: Records, damaged: list[Damage]) -> dict[str, Any]:
    """What --json says of the set."""
    return {
        "file": str(file),
        "files": [str(name) for name in records.files],
        "records": list(records.schema.records),
        "compression": records.schema.compression,
        "features": {name: feature._asdict() for name, feature in records.schema.features.items()},
        "damaged": [{"file": str(d.file), "record": d.number, "reason": d.reason} for d in damaged],
    }


def show(file: Path, records: Records, found: dict[str, Any]) -> None:
    """The same for people."""
    lost = f", {found['readable']:,} readable" if found["readable"] < records.size else ""
    click.echo(printable(f"{file}: {size(records)}{lost}"))
    click.echo("features:")
    table([(name, kept(feature)) for name, feature in records.schema.features.items()])
    if found["classes"]:
        click.echo("classes:")
        table([(name, f"{number:,}") for name, number in found["classes"].items()])
    if found["first"]:
        click.echo(f"first {len(found['first']):,}:")
    for number, row in enumerate(found["first"], 1):
        values = [f"{name} {text(name, value, records.schema)}" for name, value in row.items()]
        click.echo(printable(f"  {number}  " + "  ".join(values)))


def kept(feature: Feature) -> str:
    """A feature's type and shape."""
    dtype = f"{feature.dtype} {list(feature.shape)}" if feature.shape else feature.dtype
    return dtype if feature.dtype in ("string", feature.kind) else f"{dtype}, kept as {feature.kind}"


def table(rows: list[tuple[str, str]]) -> None:
    """Two columns."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(printable(f"  {name:<{width}}  {value}"))


def text(name: str, value: float | str, schema: Schema) -> str:
    """A value; a label with its class."""
    if name == "label" and isinstance(value, int) and schema.classes:
        return f"{value} ({schema.class_name(value)})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def printable(text: str) -> str:
    """Text with a stand-in for what is no text, such as in a file name of another encoding."""
    return text.encode(errors="surrogateescape").decode(errors="replace")
