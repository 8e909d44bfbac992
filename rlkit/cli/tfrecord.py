"""rlkit tfrecord: images or arrays to TFRecord files, and back."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlkit.cli.common import Help, Name, count, json_option, print_json, quiet_import, say
from rlkit.errors import UserError

if TYPE_CHECKING:
    from rlkit.images import OnError
    from rlkit.tfrecord import Compression, Damage, Records

ON_ERROR = Name("--on-error", ["stop", "skip"])


@click.group(
    cls=Help,
    short_help="Write data as TFRecord files, read them.",
    epilog="Such as: rlkit tfrecord write photos photos.tfrecord --shards 4; rlkit tfrecord read photos.tfrecord",
)
def tfrecord() -> None:
    """Write images or arrays as TFRecord files with a schema beside them, and read those."""


@tfrecord.command(short_help="Images or arrays to TFRecord files.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--labels", type=click.Path(path_type=Path), metavar="FILE.csv", help="File name and label of each image."
)
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
    with quiet_import():
        from rlkit import tfrecord_writing
    records = tfrecord_writing.write(
        tfrecord_writing.open_source(source, labels, on_error, say), file, shards, compression, force
    )
    click.echo(f"{file}: {size(records)}")
    click.echo(f"next: rlkit tfrecord read {file}")


@tfrecord.command(short_help="What TFRecord files hold.")
@click.argument("file", type=click.Path(path_type=Path))
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
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write the images back as files in class folders, or the arrays as arrays.npz.",
)
@json_option
def read(file: Path, limit: int, on_error: OnError, folder: Path | None, as_json: bool) -> None:
    """Check every record of FILE and show its schema, its classes and the first records.

    FILE is the name given to `rlkit tfrecord write`, one of the files that it wrote, or their schema.
    """
    with quiet_import():
        from rlkit import tfrecord_unpacking
        from rlkit.tfrecord import class_counts, damages, open_records
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
    written = tfrecord_unpacking.unpack(records, folder, damaged) if folder else None
    found = {"readable": readable, "classes": class_counts(records, damaged), "first": first(records, limit, damaged)}
    if as_json:
        print_json(summary(file, records, damaged) | found | ({"to": str(written)} if written else {}))
        return
    show(file, records, found)
    if written:
        click.echo(written)


def first(records: Records, limit: int, damaged: list[Damage]) -> list[dict[str, int | float | str]]:
    """The first records in a short form."""
    from rlkit.tfrecord import batches, shown

    rows = (
        {name: shown(values[i]) for name, values in batch.items()}
        for batch in batches(records, damaged)
        for i in range(len(next(iter(batch.values()))))
    )
    return list(islice(rows, limit))


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
    click.echo(f"{file}: {size(records)}" + (f", {found['readable']:,} readable" * (found["readable"] < records.size)))
    click.echo("features:")
    width = max(map(len, records.schema.features))
    for name, (kind, dtype, shape) in records.schema.features.items():
        kept = dtype if dtype in ("string", kind) else f"{dtype}, kept as {kind}"
        click.echo(printable(f"  {name:<{width}}  {list(shape) if shape else ''} {kept}".replace("   ", "  ")))
    if found["classes"]:
        click.echo("classes:")
        width = max(map(len, found["classes"]))
        for name, number in found["classes"].items():
            click.echo(printable(f"  {name:<{width}}  {number:,}"))
    if found["first"]:
        click.echo(f"first {len(found['first']):,}:")
    for number, row in enumerate(found["first"], 1):
        click.echo(printable(f"  {number}  " + "  ".join(f"{name} {value}" for name, value in row.items())))


def printable(text: str) -> str:
    """Text with a stand-in for what is no text, such as in a file name of another encoding."""
    return text.encode(errors="surrogateescape").decode(errors="replace")
