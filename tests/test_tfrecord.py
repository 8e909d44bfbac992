"""TFRecord files: what goes in comes out, damage is named, nothing is half-written; and `rlkit tfrecord`."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from rlkit.cli import main
from rlkit.data.image_folders import image_folder
from rlkit.data.tfrecord.reading import (
    Damage,
    Records,
    batches,
    class_counts,
    damages,
    first_damage,
    open_records,
    shard_names,
)
from rlkit.data.tfrecord.schema import Feature, Schema
from rlkit.data.tfrecord.unpacking import unpack
from rlkit.data.tfrecord.writing import from_arrays, open_source, read_npz, targets, write
from rlkit.errors import UserError

ROOT = Path(__file__).resolve().parents[1]


# ---- an independent reader of the format


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum bit by bit (RFC 3720, appendix B.4), as slow as it is simple."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    """The checksum rotated right by 15 bits plus a constant, as the TFRecord format has it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frames(content: bytes) -> Iterator[bytes]:
    """The records of a file, with every checksum looked at."""
    at = 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        (length_crc,) = struct.unpack_from("<I", content, at + 8)
        data = content[at + 12 : at + 12 + length]
        (data_crc,) = struct.unpack_from("<I", content, at + 12 + length)
        assert masked(content[at : at + 8]) == length_crc
        assert masked(data) == data_crc
        yield data
        at += 16 + length


def frame(data: bytes) -> bytes:
    """A record as the format has it."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def test_the_reader_knows_published_checksums() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def values(example: bytes) -> dict[str, Any]:
    """A serialized example's values by name."""
    found = tf.train.Example.FromString(example).features.feature
    return {name: list(getattr(found[name], found[name].WhichOneof("kind")).value) for name in found}


# ---- what the tests write


PIXELS = np.random.default_rng(0).integers(0, 256, (9, 6, 5, 3), np.uint8)  # [n, h, w, c]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes of three images, JPEG and PNG, with names of any letters."""
    folder = tmp_path / "photos"
    for i, pixels in enumerate(PIXELS):
        kind = ("ant", "bée", "猫 cat")[i // 3]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        content = tf.io.encode_jpeg(pixels) if i % 2 else tf.io.encode_png(pixels)
        (folder / kind / f"{i} ü.{'JPG' if i % 2 else 'png'}").write_bytes(content.numpy())
    return folder


def small(rows: int = 6) -> dict[str, np.ndarray]:
    """A few short arrays."""
    return {"x": np.arange(rows * 2, dtype=np.float32).reshape(rows, 2), "label": np.arange(rows) % 2}


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def read_back(records: Records, found: list[Damage] | None = None) -> dict[str, np.ndarray]:
    """All records' features, [n, ...] each."""
    parts = list(batches(records, found or []))
    return {name: np.concatenate([part[name] for part in parts]) for name in records.schema.features}


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal to the bit, of one type and shape, whatever the byte order."""
    a, b = a.astype(a.dtype.newbyteorder("<")), b.astype(b.dtype.newbyteorder("<"))
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as told:
        call()
    assert "\n" not in str(told.value)
    return str(told.value)


# ---- round trips


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("shards", [1, 2, 4, 9])
def test_images_come_back_as_they_were(photos: Path, tmp_path: Path, shards: int, compression: Any) -> None:
    write(open_source(photos), tmp_path / "p.tfrecord", shards, compression)
    records = open_records(tmp_path / "p.tfrecord")
    assert records.size == 9
    assert [file.name for file in records.files] == shard_names("p", shards)
    folder = image_folder(photos)
    found = read_back(records)
    assert found["image"].tolist() == [Path(path).read_bytes() for path in folder.paths]
    assert found["label"].tolist() == folder.labels.tolist()
    assert [name.decode() for name in found["file"]] == [str(Path(p).relative_to(photos)) for p in folder.paths]
    assert records.schema.classes == folder.classes
    assert unpack(records, tmp_path / "back") == tmp_path / "back"
    assert files_below(tmp_path / "back") == files_below(photos)


def test_images_with_a_label_file_come_back_in_class_folders(photos: Path, tmp_path: Path) -> None:
    names = sorted(files_below(photos), reverse=True)
    labels = tmp_path / "labels.csv"
    labels.write_text("".join(f"{name},{'odd' if i % 2 else 'even'}\n" for i, name in enumerate(names)), "utf-8")
    records = write(open_source(photos, labels), tmp_path / "p.tfrecord")
    assert [name.decode() for name in read_back(records)["file"]] == names
    unpack(records, tmp_path / "back")
    expected = {f"{'odd' if i % 2 else 'even'}/{name}": (photos / name).read_bytes() for i, name in enumerate(names)}
    assert files_below(tmp_path / "back") == expected


ARRAYS = {
    "uint8 images": np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5),
    "uint8 labels": np.array([0, 255, 7], np.uint8),
    "bool": np.array([[True, False], [False, False], [True, True]]),
    "int8": np.array([-128, 127, 0], np.int8),
    "int16": np.array([-(2**15), 2**15 - 1, 0], np.int16),
    "int32": np.array([[-(2**31)], [2**31 - 1], [0]], np.int32),
    "int64": np.array([-(2**63), 2**63 - 1, 0]),
    "uint16": np.array([0, 2**16 - 1, 1], np.uint16),
    "uint32": np.array([0, 2**32 - 1, 1], np.uint32),
    "uint64": np.array([[0, 1], [2**64 - 1, 2**63], [5, 6]], np.uint64),
    "float16": np.array([0.1, -np.inf, np.nan], np.float16),
    "float32": np.array([[1e-45, -0.0], [np.inf, np.nan], [0.1, 3e38]], np.float32),
    "float64": np.array([5e-324, np.nan, 0.1]),
    "empty float32": np.zeros((3, 0, 2), np.float32),
    "empty uint8": np.zeros((3, 0), np.uint8),
    "empty int64": np.zeros((3, 2, 0), np.int64),
    "empty float64": np.zeros((3, 0), np.float64),
    "big-endian": np.array([1, 2**40, -3], ">i8"),
    "big-endian float": np.array([0.1, 2, 3], ">f8"),
    "transposed": np.arange(12, dtype=np.float32).reshape(4, 3).T,
    "größe": np.ones((3, 1), np.float32),
    "file": np.arange(3),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_every_type_comes_back_to_the_bit(name: str, compression: Any, tmp_path: Path) -> None:
    records = write(from_arrays({name: ARRAYS[name]}), tmp_path / "a.tfrecord", 2, compression)
    assert same(read_back(records)[name], ARRAYS[name])
    for i, row in enumerate(records.dataset()):
        one = records.parse(row)[name]
        assert one.shape == ARRAYS[name].shape[1:]
        assert same(one.numpy(), ARRAYS[name][i])


def test_all_types_at_once_also_as_a_file(tmp_path: Path) -> None:
    records = write(from_arrays(ARRAYS), tmp_path / "a.tfrecord")
    with np.load(unpack(records, tmp_path / "back")) as back:
        assert set(back.files) == set(ARRAYS)
        assert all(same(back[name], array) for name, array in ARRAYS.items())


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["uint8", "float32", "float64", "int64", "int8", "uint64", "bool", "float16"]),
            st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 7),
    st.integers(1, 3),
    st.data(),
)
def test_any_arrays_come_back(kinds: list[tuple[str, tuple[int, ...]]], rows: int, shards: int, data: Any) -> None:
    drawn = {
        f"{dtype} {i}": data.draw(st_numpy.arrays(dtype, (rows, *shape))) for i, (dtype, shape) in enumerate(kinds)
    }
    # A float feature passes through float64, where a signalling NaN becomes quiet.
    arrays = {
        name: np.where(np.isnan(a), a.dtype.type(np.nan), a) if a.dtype.kind == "f" else a for name, a in drawn.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        records = write(from_arrays(arrays), Path(folder, "a.tfrecord"), min(rows, shards))
        found = read_back(open_records(Path(folder, "a.tfrecord")))
        assert first_damage(records) is None
    assert all(same(found[name], array) for name, array in arrays.items())


def test_a_quiet_nan_keeps_its_bits(tmp_path: Path) -> None:
    bits = np.array([0x7FC12345, 0xFFC00001], np.uint32)
    records = write(from_arrays({"x": bits.view(np.float32)}), tmp_path / "a.tfrecord")
    assert read_back(records)["x"].view(np.uint32).tolist() == bits.tolist()


# ---- the files, by the independent reader


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_an_independent_reader_finds_the_same(photos: Path, tmp_path: Path, compression: Any) -> None:
    records = write(open_source(photos), tmp_path / "p.tfrecord", 2, compression)
    contents = [file.read_bytes() for file in records.files]
    if compression == "gzip":
        contents = [gzip.decompress(content) for content in contents]
    folder = image_folder(photos)
    found = [values(example) for content in contents for example in frames(content)]
    assert [row["image"] for row in found] == [[Path(path).read_bytes()] for path in folder.paths]
    assert [row["label"] for row in found] == [[label] for label in folder.labels]
    assert [len(list(frames(content))) for content in contents] == [5, 4]


def test_the_kinds_of_features_are_as_the_schema_says(tmp_path: Path) -> None:
    records = write(from_arrays(ARRAYS), tmp_path / "a.tfrecord")
    example = tf.train.Example.FromString(next(frames(records.files[0].read_bytes())))
    kinds = {name: feature.WhichOneof("kind") for name, feature in example.features.feature.items()}
    assert kinds == {name: f"{feature.kind}_list" for name, feature in records.schema.features.items()}
    assert kinds["uint8 images"] == kinds["float64"] == "bytes_list"
    assert kinds["uint8 labels"] == kinds["int64"] == "int64_list"
    assert kinds["float32"] == "float_list"
    assert values(next(frames(records.files[0].read_bytes())))["float64"] == [struct.pack("<d", 5e-324)]


def test_the_schema_is_a_readable_file(photos: Path, tmp_path: Path) -> None:
    write(open_source(photos), tmp_path / "p.tfrecord", 4, "gzip")
    text = {"kind": "bytes", "dtype": "string", "shape": []}
    assert json.loads((tmp_path / "p.schema.json").read_text()) == {
        "format": 1,
        "features": {"image": text, "label": {"kind": "int64", "dtype": "int64", "shape": []}, "file": text},
        "records": [3, 2, 2, 2],
        "compression": "gzip",
        "classes": ["ant", "bée", "猫 cat"],
    }


def test_the_same_source_gives_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    a = write(open_source(photos), tmp_path / "a.tfrecord")
    b = write(open_source(photos), tmp_path / "b.tfrecord")
    assert a.files[0].read_bytes() == b.files[0].read_bytes()


@pytest.mark.parametrize("shards", [1, 2, 3, 5, 7])
def test_shards_in_order_are_the_source_in_order(shards: int, tmp_path: Path) -> None:
    records = write(from_arrays({"i": np.arange(7)}), tmp_path / "a.tfrecord", shards)
    assert [records.parse(row)["i"].numpy() for row in records.dataset()] == list(range(7))
    assert max(records.schema.records) - min(records.schema.records) <= 1
    assert records.dataset().cardinality() == 7


def test_a_batch_of_any_size_is_parsed_in_a_pipeline(tmp_path: Path) -> None:
    arrays = {"image": PIXELS, "label": np.arange(9), "w": np.linspace(0, 1, 9)}
    records = write(from_arrays(arrays), tmp_path / "a.tfrecord", 2)
    batched = records.dataset().repeat(2).batch(4).map(records.parse)
    assert batched.element_spec["image"].shape == (None, 6, 5, 3)
    assert batched.element_spec["w"] == tf.TensorSpec((None,), tf.float64)
    found = np.concatenate([batch["image"] for batch in batched])
    assert same(found, np.concatenate([PIXELS, PIXELS]))
    single = records.dataset().map(records.parse)
    assert single.element_spec["image"].shape == (6, 5, 3)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_set_is_opened_by_any_of_its_names(shards: int, tmp_path: Path) -> None:
    records = write(from_arrays(small()), tmp_path / "a.tfrecord", shards)
    for path in (tmp_path / "a.tfrecord", tmp_path / "a.schema.json", *records.files):
        assert open_records(path) == records


def test_a_name_that_looks_like_a_shard_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a-00000-of-00002.tfrecord"
    records = write(from_arrays(small()), path)
    assert records.files == (path,)
    assert open_records(path) == records


def test_classes_are_counted(photos: Path, tmp_path: Path) -> None:
    assert class_counts(write(open_source(photos), tmp_path / "p.tfrecord")) == {"ant": 3, "bée": 3, "猫 cat": 3}
    assert class_counts(write(from_arrays(small(5)), tmp_path / "a.tfrecord", 2)) == {"0": 3, "1": 2}
    assert class_counts(write(from_arrays({"x": np.ones(3)}), tmp_path / "x.tfrecord")) == {}
    assert class_counts(write(from_arrays({"label": np.ones((3, 2), int)}), tmp_path / "y.tfrecord")) == {}


# ---- damage


def whole_before(content: bytes, cut: int) -> int:
    """How many records end at or before a cut."""
    ends = np.cumsum([16 + len(data) for data in frames(content)])
    return int((ends <= cut).sum())


def test_every_cut_gives_the_records_before_it_and_the_right_number(tmp_path: Path) -> None:
    records = write(from_arrays({"i": np.arange(3)}), tmp_path / "a.tfrecord")
    (file,) = records.files
    content, rows = file.read_bytes(), list(frames(file.read_bytes()))
    for cut in range(len(content)):
        file.write_bytes(content[:cut])
        good = whole_before(content, cut)
        found = list(damages(records))
        assert found == [Damage(file, good + 1, "truncated")], cut
        assert list(records.dataset(found).as_numpy_iterator()) == rows[:good], cut
    file.write_bytes(content)
    assert list(damages(records)) == []


@pytest.mark.parametrize("shard", [0, 1, 2])
def test_training_on_a_cut_file_fails_rather_than_ends_early(shard: int, tmp_path: Path) -> None:
    records = write(from_arrays(small()), tmp_path / "a.tfrecord", 3)
    content = records.files[shard].read_bytes()
    for cut in (0, 5, len(content) // 2, len(content) // 2 + 7, len(content) - 1):
        records.files[shard].write_bytes(content[:cut])
        with pytest.raises((tf.errors.DataLossError, tf.errors.FailedPreconditionError)):
            list(records.dataset().batch(2).map(records.parse))
        damage = first_damage(records)
        assert damage is not None
        file, number, _ = damage
        assert (file, number) == (records.files[shard], 1 if cut < len(content) // 2 else 2)


def test_a_flipped_bit_anywhere_is_found_and_what_is_before_it_is_right(tmp_path: Path) -> None:
    records = write(from_arrays({"i": np.arange(2)}), tmp_path / "a.tfrecord")
    (file,) = records.files
    content, rows = file.read_bytes(), list(frames(file.read_bytes()))
    for at in range(len(content)):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        good = whole_before(content, at)
        (damage,) = damages(records)
        assert damage[:2] == (file, good + 1), at
        assert damage.reason == ("corrupted" if good else "corrupted, or this is no TFRecord file"), at
        assert list(records.dataset([damage]).as_numpy_iterator()) == rows[:good], at


@pytest.mark.parametrize("change", ["cut", "flip"])
def test_damaged_gzip_never_gives_a_wrong_record(change: str, tmp_path: Path) -> None:
    """Where the damage does no harm, as in the header's time, all records are there; else it is told."""
    arrays = {"x": np.random.default_rng(1).normal(size=(12, 20))}
    records = write(from_arrays(arrays), tmp_path / "a.tfrecord", compression="gzip")
    (file,) = records.files
    content = file.read_bytes()
    rows = list(frames(gzip.decompress(content)))
    reasons = set()
    for at in [0, 2, 5, *range(11, len(content), 83), len(content) - 6]:
        flipped = content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]
        file.write_bytes(content[:at] if change == "cut" else flipped)
        found = list(damages(records))
        kept = list(records.dataset(found).as_numpy_iterator())
        assert kept == rows[: found[0].number - 1 if found else 12]
        reasons |= {damage.reason for damage in found}
        if found:
            with pytest.raises((tf.errors.DataLossError, tf.errors.FailedPreconditionError)):
                list(records.dataset())
    assert reasons == ({"truncated"} if change == "cut" else {"no gzip file", "its gzip block is corrupted"})


def test_a_large_gzip_file_gives_what_comes_before(tmp_path: Path) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (400, 4000), np.uint8)
    records = write(from_arrays({"x": noise}), tmp_path / "a.tfrecord", compression="gzip")
    content = bytearray(records.files[0].read_bytes())
    content[len(content) * 3 // 4] ^= 1
    records.files[0].write_bytes(content)
    (damage,) = damages(records)
    assert 200 < damage.number <= 302  # 300 whole ones of 4,024 bytes, less at most 256 KB
    assert same(read_back(records, [damage])["x"], noise[: damage.number - 1])


def test_each_damaged_file_loses_only_its_own(tmp_path: Path) -> None:
    records = write(from_arrays({"i": np.arange(9)}), tmp_path / "a.tfrecord", 3)
    sizes = [len(file.read_bytes()) for file in records.files]
    os.truncate(records.files[0], sizes[0] - 1)
    os.truncate(records.files[2], 3)
    found = list(damages(records))
    assert [damage[:2] for damage in found] == [(records.files[0], 3), (records.files[2], 1)]
    assert first_damage(records) == found[0]
    assert read_back(records, found)["i"].tolist() == [0, 1, 3, 4, 5]
    assert records.dataset(found).cardinality() == 5
    assert class_counts(records, found) == {}


def test_more_records_than_the_schema_says_are_found(tmp_path: Path) -> None:
    records = write(from_arrays(small(3)), tmp_path / "a.tfrecord")
    (file,) = records.files
    content = file.read_bytes()
    file.write_bytes(content + frame(next(frames(content))))
    (damage,) = damages(records)
    assert damage == Damage(file, 4, "the schema says 3 records")
    assert same(read_back(records, [damage])["x"], small(3)["x"])
    with pytest.raises(tf.errors.FailedPreconditionError, match="expected to contain 3 elements"):
        list(records.dataset())


def test_what_follows_the_last_record_is_damage(tmp_path: Path) -> None:
    records = write(from_arrays(small(3)), tmp_path / "a.tfrecord")
    with records.files[0].open("ab") as file:
        file.write(b"what is this doing here")
    (damage,) = damages(records)
    assert (damage.number, damage.reason) == (4, "corrupted")
    assert same(read_back(records, [damage])["x"], small(3)["x"])


@pytest.mark.parametrize(
    ("strange", "told"),
    [
        (b"no example", "not as the schema says: Could not parse"),
        (b"", "not as the schema says: Feature: label"),
        (tf.train.Example().SerializeToString(), "not as the schema says: Feature: label"),
    ],
)
def test_a_record_of_another_kind_is_damage(strange: bytes, told: str, tmp_path: Path) -> None:
    records = write(from_arrays(small(3)), tmp_path / "a.tfrecord")
    (file,) = records.files
    rows = list(frames(file.read_bytes()))
    file.write_bytes(frame(rows[0]) + frame(strange) + frame(rows[2]))
    (damage,) = damages(records)
    assert damage.number == 2
    assert damage.reason.startswith(told)
    assert "\n" not in damage.reason
    assert same(read_back(records, [damage])["x"], small(1)["x"])


def test_bytes_of_another_length_are_damage(tmp_path: Path) -> None:
    records = write(from_arrays({"x": np.ones((3, 2))}), tmp_path / "a.tfrecord")
    other = write(from_arrays({"x": np.ones((3, 3))}), tmp_path / "b.tfrecord")
    shutil.copy(other.files[0], records.files[0])
    (damage,) = damages(records)
    assert damage.number == 1
    assert damage.reason.startswith("not as the schema says")


@pytest.mark.parametrize(
    ("number", "way"),
    [
        (1, "nothing in this file can be read"),
        (2, "the one before it can be read with --on-error skip"),
        (17, "the 16 before it can be read with --on-error skip"),
    ],
)
def test_damage_is_told_in_a_sentence(number: int, way: str) -> None:
    error = Damage(Path("records.tfrecord"), number, "truncated").error()
    assert str(error) == f"records.tfrecord: record {number} is damaged (truncated): {way}"


# ---- sets that are no sets


def test_a_missing_file_schema_or_shard_is_told(tmp_path: Path) -> None:
    records = write(from_arrays(small()), tmp_path / "a.tfrecord", 3)
    (tmp_path / "lone.tfrecord").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("notes")
    assert refused(lambda: open_records(tmp_path / "no.tfrecord")) == f"{tmp_path}/no.tfrecord does not exist"
    assert refused(lambda: open_records(tmp_path / "no.schema.json")) == f"{tmp_path}/no.schema.json does not exist"
    assert refused(lambda: open_records(tmp_path / "lone.tfrecord")) == (
        f"{tmp_path}/lone.tfrecord has no schema: lone.schema.json is not beside it"
    )
    assert "is no TFRecord file by its name" in refused(lambda: open_records(tmp_path / "notes.txt"))
    records.files[1].unlink()
    assert (
        refused(lambda: open_records(records.files[0])) == f"{records.files[1]} is missing, which a.schema.json names"
    )
    records.files[2].unlink()
    assert refused(lambda: open_records(tmp_path / "a.tfrecord")).endswith("(2 of 3 files are)")
    (tmp_path / "a.schema.json").unlink()
    assert "a.schema.json is not beside it" in refused(lambda: open_records(records.files[0]))


def test_a_file_that_vanishes_is_told(tmp_path: Path) -> None:
    records = write(from_arrays(small()), tmp_path / "a.tfrecord")
    records.files[0].unlink()
    assert refused(lambda: first_damage(records)).endswith("a.tfrecord cannot be read: No such file or directory")


GOOD = Schema({"x": Feature("float", "float32", (2,))}, (3, 2), "gzip", ("a", "b"))


def test_a_schema_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.schema.json").write_text(GOOD.to_json())
    assert Schema.load(tmp_path / "a.schema.json") == GOOD
    assert [GOOD.class_name(label) for label in (0, 1, 2, -1)] == ["a", "b", "2", "-1"]


@pytest.mark.parametrize(
    "change",
    [
        {"records": []},
        {"records": [-1]},
        {"records": ["3"]},
        {"records": 3},
        {"compression": "zip"},
        {"classes": [1]},
        {"classes": None},
        {"features": {}},
        {"features": []},
        {"features": {"x": {"kind": "float", "dtype": "float64", "shape": []}}},
        {"features": {"x": {"kind": "bytes", "dtype": "complex64", "shape": []}}},
        {"features": {"x": {"kind": "float", "dtype": "float32", "shape": [-1]}}},
        {"features": {"x": {"kind": "float", "dtype": "float32"}}},
        {"features": {"x": 3}},
        {"format": "new"},
    ],
)
def test_a_file_that_is_no_schema_is_told(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.schema.json"
    path.write_text(json.dumps(json.loads(GOOD.to_json()) | change))
    assert refused(lambda: Schema.load(path)).startswith(f"{path} is no schema of TFRecord files: ")


def test_other_files_are_no_schemas(tmp_path: Path) -> None:
    path = tmp_path / "a.schema.json"
    for content in (b"", b"{", b"[]", b"3", b"\xff\xfe", b"{}"):
        path.write_bytes(content)
        assert refused(lambda: Schema.load(path)).startswith(f"{path} is no schema of TFRecord files: ")
    path.write_text(GOOD.to_json().replace('"format": 1', '"format": 2'))
    assert "newer version" in refused(lambda: Schema.load(path))
    assert "cannot be read" in refused(lambda: Schema.load(tmp_path))


# ---- sources and targets


def test_arrays_that_are_no_records_are_refused() -> None:
    assert refused(lambda: from_arrays({"image": np.zeros((10, 2)), "label": np.zeros(9)})) == (
        "the arrays differ in their numbers of rows: image 10, label 9"
    )
    assert "'gamma' is a single number" in refused(lambda: from_arrays({"gamma": np.array(1.0)}))
    assert "array 'z' is of type complex128" in refused(lambda: from_arrays({"z": np.ones(2, complex)}))
    assert "array 's' is of type <U3" in refused(lambda: from_arrays({"s": np.array(["abc"])}))
    assert refused(lambda: from_arrays({"x": np.zeros((0, 3))})) == "there are no rows to make records of"
    assert refused(lambda: from_arrays({})) == "there are no rows to make records of"


def test_a_source_that_is_none_is_refused(tmp_path: Path, photos: Path) -> None:
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    np.savez(good, x=np.ones(3))
    assert refused(lambda: open_source(tmp_path / "no.npz")) == f"source {tmp_path / 'no.npz'} does not exist"
    (tmp_path / "x.csv").write_text("1,2")
    assert "neither a folder of images nor an .npz file" in refused(lambda: open_source(tmp_path / "x.csv"))
    assert "--labels belongs to a folder" in refused(lambda: open_source(good, tmp_path / "x.csv"))
    bad.write_text("this is no archive")
    assert refused(lambda: open_source(bad)) == f"{bad}: this is no .npz file"
    np.savez(bad, x=np.array([{}], dtype=object))
    assert refused(lambda: open_source(bad)).startswith(f"{bad}: its arrays cannot be read: Object arrays")
    import zipfile

    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("notes.txt", "notes")
    assert refused(lambda: open_source(bad)) == f"{bad}: it holds 'notes.txt', which is no array"
    content = bytearray(good.read_bytes())
    content[len(content) // 2] ^= 255
    bad.write_bytes(content)
    with pytest.raises(UserError):
        read_npz(bad)
    assert open_source(good).size == 3


def test_an_image_that_vanishes_is_told_and_nothing_is_written(photos: Path, tmp_path: Path) -> None:
    source = open_source(photos)
    shutil.rmtree(photos / "bée")
    assert "cannot be read: No such file" in refused(lambda: write(source, tmp_path / "out" / "a.tfrecord", 2))
    assert files_below(tmp_path / "out") == {}


def test_what_exists_is_replaced_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    old = write(from_arrays(small(6)), path, 3)
    before = files_below(tmp_path)
    for shards in (1, 2, 3):
        assert refused(lambda n=shards: write(from_arrays(small(4)), path, n)) == (  # type: ignore[misc]
            f"{tmp_path / 'a.schema.json'} exists: choose another name, or replace what is there with --force"
        )
    assert files_below(tmp_path) == before
    new = write(from_arrays(small(4)), path, 2, force=True)
    assert set(files_below(tmp_path)) == {"a.schema.json", *shard_names("a", 2)}
    assert not any(file.exists() for file in old.files)
    assert open_records(path) == new
    assert same(read_back(new)["x"], small(4)["x"])


def test_a_stray_file_of_the_name_is_not_lost_and_a_broken_set_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"mine")
    assert refused(lambda: write(from_arrays(small()), path)).startswith(f"{path} exists")
    assert path.read_bytes() == b"mine"
    (tmp_path / "a.schema.json").write_text("{")
    assert read_back(write(from_arrays(small()), path, force=True))["label"].tolist() == [0, 1] * 3


def test_targets_that_cannot_be_are_refused(tmp_path: Path) -> None:
    assert refused(lambda: targets(tmp_path / "a.tfr", 1, False)).endswith("a.tfr must end in .tfrecord")
    assert "No such file" in refused(lambda: targets(tmp_path / "no" / "way" / "a.tfrecord", 1, False))
    (tmp_path / "f.tfrecord").mkdir()
    assert "is a folder" in refused(lambda: targets(tmp_path / "f.tfrecord", 1, True))
    assert refused(lambda: write(from_arrays(small(3)), tmp_path / "new" / "a.tfrecord", 4)) == (
        "--shards is 4, expected at most 3, the number of records"
    )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("limit", [0, 10, 1000, 5000])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_full_disk_leaves_what_was_there(limit: int, compression: Any, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    noise = {"x": np.random.default_rng(3).integers(0, 256, (40, 500), np.uint8)}
    path = tmp_path / "a.tfrecord"
    write(from_arrays(small()), path, 2)
    before = files_below(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))  # what is written beyond it fails
        with pytest.raises(UserError) as told:
            write(from_arrays(noise), path, 3, compression, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(told.value) == f"{path} cannot be written: File too large"
    assert files_below(tmp_path) == before


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    source = from_arrays(small())

    def interrupted(index: int) -> dict[str, Any]:
        if index == 4:
            raise KeyboardInterrupt
        return dict(source.record(index))

    with pytest.raises(KeyboardInterrupt):
        write(type(source)(source.features, source.size, interrupted), tmp_path / "a.tfrecord", 2)
    assert list(tmp_path.iterdir()) == []


# ---- unpacking


def test_only_a_new_or_empty_folder_is_filled(photos: Path, tmp_path: Path) -> None:
    records = write(open_source(photos), tmp_path / "p.tfrecord")
    assert "is not an empty folder" in refused(lambda: unpack(records, photos))
    assert "is not an empty folder" in refused(lambda: unpack(records, tmp_path / "p.tfrecord"))
    assert "cannot be written" in refused(lambda: unpack(records, tmp_path / "no" / "way" / "back"))
    (tmp_path / "empty").mkdir()
    unpack(records, tmp_path / "empty")
    assert files_below(tmp_path / "empty") == files_below(photos)
    assert (tmp_path / "empty").stat().st_mode == photos.stat().st_mode


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../out.png", "a"),
        ("/out.png", "a"),
        ("x/../../out.png", "a"),
        ("", "a"),
        (".", "a"),
        ("x\0.png", "a"),
        ("x.png", ".."),
        ("x.png", "a/../.."),
        ("x.png", "/"),
        ("x.png", ""),
        ("x.png", "."),
    ],
)
def test_a_name_that_leads_out_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    text = Feature("bytes", "string", ())
    features = {"image": text, "label": Feature("int64", "int64", ()), "file": text}
    from rlkit.data.tfrecord.writing import Source

    row = {"image": b"content", "label": np.int64(0), "file": name.encode()}
    inner = tmp_path / "inner"
    inner.mkdir()
    records = write(Source(features, 1, lambda _: row, (kind, "other")), inner / "a.tfrecord")  # type: ignore[arg-type,return-value]
    before = files_below(tmp_path)
    assert "has an image that cannot be a file" in refused(lambda: unpack(records, inner / "back"))
    assert files_below(tmp_path) == before
    assert not (inner / "back").exists()


def test_records_of_another_kind_are_not_unpacked(tmp_path: Path) -> None:
    from rlkit.data.tfrecord.writing import Source

    text = Feature("bytes", "string", ())
    source = Source({"text": text}, 1, lambda _: {"text": b"hi"})
    records = write(source, tmp_path / "a.tfrecord")
    assert "'text' is of bytes" in refused(lambda: unpack(records, tmp_path / "back"))
    source = Source({"image": text, "file": text}, 1, lambda _: {"image": b"hi", "file": b"hi"})
    records = write(source, tmp_path / "b.tfrecord")
    assert "images without a label" in refused(lambda: unpack(records, tmp_path / "back"))


# ---- the command line


class Said(NamedTuple):
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def rl(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs `rlkit tfrecord` in this process, in an empty folder; also what C libraries write is seen."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Said:
        with pytest.raises(SystemExit) as ended:
            main(["tfrecord", *map(str, words)])
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, *capfd.readouterr())

    return run


def test_images_are_written_read_and_written_back(photos: Path, rl: Command) -> None:
    said = rl("write", "photos", "p.tfrecord", "--shards", 4, "--compression", "gzip")
    assert said == (0, "p.tfrecord: 9 records in 4 files, gzip\nnext: rlkit tfrecord read p.tfrecord\n", "")
    said = rl("read", "p.tfrecord", "--limit", 2, "--to", "back")
    assert said.code == 0
    assert said.err == ""
    size = len((photos / "ant" / "0 ü.png").read_bytes())
    assert said.out.splitlines() == [
        "p.tfrecord: 9 records in 4 files, gzip",
        "features:",
        "  image  string",
        "  label  int64",
        "  file   string",
        "classes:",
        "  ant    3",
        "  bée    3",
        "  猫 cat  3",
        "first 2:",
        f"  1  image {size} bytes  label 0 (ant)  file ant/0 ü.png",
        f"  2  image {len((photos / 'ant' / '1 ü.JPG').read_bytes())} bytes  label 0 (ant)  file ant/1 ü.JPG",
        "back",
    ]
    assert files_below(Path("back")) == files_below(photos)


def test_arrays_are_written_and_shown(rl: Command) -> None:
    np.savez(
        "a.npz",
        image=PIXELS,
        flag=np.arange(9) % 2 == 0,
        x=np.full((9, 2), 1e6 + 1),
        n=np.full((9, 1), 10**9),
        y=np.full(9, np.inf),
    )
    assert rl("write", "a.npz", "a.tfrecord").out.startswith("a.tfrecord: 9 records in 1 file\n")
    said = rl("read", "a.tfrecord", "--limit", 1)
    assert said.out.splitlines()[1:] == [
        "features:",
        "  image  uint8 [6, 5, 3], kept as bytes",
        "  flag   bool, kept as int64",
        "  x      float64 [2], kept as bytes",
        "  n      int64 [1]",
        "  y      float64, kept as bytes",
        "first 1:",
        f"  1  image uint8 [6, 5, 3], {PIXELS[0].min()} to {PIXELS[0].max()}  flag True  "
        "x [1e+06, 1e+06]  n [1000000000]  y inf",
    ]
    assert "first" not in rl("read", "a.tfrecord", "--limit", 0).out


def test_json_is_one_object(rl: Command, photos: Path) -> None:
    rl("write", "photos", "p.tfrecord", "--shards", 2)
    said = rl("read", "p.tfrecord", "--json", "--limit", 1, "--to", "back")
    assert said.err == ""
    assert said.out.count("\n") == 1
    found = json.loads(said.out)
    assert found == {
        "file": "p.tfrecord",
        "files": shard_names("p", 2),
        "records": [5, 4],
        "compression": "none",
        "features": json.loads(Path("p.schema.json").read_text())["features"],
        "damaged": [],
        "readable": 9,
        "classes": {"ant": 3, "bée": 3, "猫 cat": 3},
        "first": [{"image": found["first"][0]["image"], "label": 0, "file": "ant/0 ü.png"}],
        "to": "back",
    }


def test_a_broken_image_stops_or_is_left_out(rl: Command, photos: Path) -> None:
    broken = photos / "ant" / "1 ü.JPG"
    broken.write_bytes(broken.read_bytes()[:100])
    said = rl("write", "photos", "p.tfrecord")
    assert said == (
        2,
        "",
        "rlkit: image photos/ant/1 ü.JPG cannot be decoded: invalid or truncated JPEG data; "
        "--on-error skip leaves it out\n",
    )
    assert not Path("p.tfrecord").exists()
    said = rl("write", "photos", "p.tfrecord", "--on-error", "skip")
    assert said.code == 0
    assert said.err == "image photos/ant/1 ü.JPG is left out: invalid or truncated JPEG data\n"
    assert json.loads(rl("read", "p.tfrecord", "--json").out)["classes"] == {"ant": 2, "bée": 3, "猫 cat": 3}


def test_damage_stops_or_is_left_out(rl: Command) -> None:
    np.savez("a.npz", **small())  # type: ignore[arg-type] # its own arguments have other types
    rl("write", "a.npz", "a.tfrecord", "--shards", 2)
    shard = Path("a-00001-of-00002.tfrecord")
    os.truncate(shard, shard.stat().st_size - 2)
    told = f"{shard}: record 3 is damaged (truncated)"
    assert rl("read", "a.tfrecord") == (2, "", f"rlkit: {told}: the 2 before it can be read with --on-error skip\n")
    said = rl("read", "a.tfrecord", "--on-error", "skip", "--limit", 0, "--to", "back")
    assert said.code == 0
    assert said.err == f"{told}: it and what follows it in this file is left out\n"
    assert said.out.startswith("a.tfrecord: 6 records in 2 files, 5 readable\n")
    with np.load("back/arrays.npz") as back:
        assert same(back["x"], small()["x"][:5])
    found = json.loads(rl("read", "a.tfrecord", "--on-error", "skip", "--json").out)
    assert found["damaged"] == [{"file": str(shard), "record": 3, "reason": "truncated"}]
    assert found["readable"] == 5


def test_a_file_that_is_no_tfrecord_is_told(rl: Command) -> None:
    np.savez("a.npz", x=np.ones(3))
    rl("write", "a.npz", "a.tfrecord")
    Path("a.tfrecord").write_text("Dear reader, this is a letter and no TFRecord file.")
    told = "a.tfrecord: record 1 is damaged (corrupted, or this is no TFRecord file)"
    assert rl("read", "a.tfrecord") == (2, "", f"rlkit: {told}: nothing in this file can be read\n")
    said = rl("read", "a.tfrecord", "--on-error", "skip")
    assert said.code == 2
    assert said.err.splitlines()[-1] == "rlkit: a.tfrecord: no record can be read"


MISTAKES = {
    "wrote a b": "unknown command 'wrote': did you mean 'write'",
    "write no a.tfrecord": "source no does not exist",
    "write photos a.tfrec": "a.tfrec must end in .tfrecord",
    "write photos a.tfrecord --shards 10": "--shards is 10, expected at most 9, the number of records",
    "write photos a.tfrecord --shards 0": "--shards is 0, expected at least 1",
    "write photos a.tfrecord --compression zip": "unknown --compression 'zip'",
    "write photos a.tfrecord --on-error go": "unknown --on-error 'go'",
    "write photos a.tfrecord --labels no.csv": "label file no.csv cannot be read: No such file or directory",
    "write photos/ant a.tfrecord": "image folder photos/ant has no images in subfolders",
    "write photos a.tfrecord --shard 2": "unknown flag '--shard': did you mean '--shards'?",
    "write photos": "missing argument 'FILE'",
    "read a.tfrecord": "a.tfrecord does not exist",
    "read photos": "photos is no TFRecord file by its name",
    "read a.tfrecord --limit -1": "--limit is -1, expected at least 0",
}


@pytest.mark.parametrize(("line", "told"), MISTAKES.items())
def test_a_mistake_ends_in_one_sentence(line: str, told: str, rl: Command, photos: Path, tmp_path: Path) -> None:
    before = files_below(tmp_path)
    said = rl(*line.split())
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("rlkit: " + told)
    assert said.err.count("\n") == 1
    assert files_below(tmp_path) == before


def test_force_replaces(rl: Command) -> None:
    np.savez("a.npz", x=np.ones(3))
    assert rl("write", "a.npz", "a.tfrecord").code == 0
    assert "--force" in rl("write", "a.npz", "a.tfrecord", "--shards", 2).err
    assert rl("write", "a.npz", "a.tfrecord", "--shards", 2, "--force").code == 0
    assert not Path("a.tfrecord").exists()
    assert rl("read", "a.tfrecord").out.startswith("a.tfrecord: 3 records in 2 files\n")


def test_names_of_any_bytes_are_written_read_and_shown(rl: Command, photos: Path) -> None:
    name = os.fsdecode(b"a \xff.tfrecord")
    try:
        shutil.copy(photos / "ant" / "0 ü.png", os.fsdecode(bytes(photos / "ant") + b"/\xff.png"))
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    said = rl("write", "photos", name, "--shards", 2)
    assert said.out == "a \ufffd.tfrecord: 10 records in 2 files\nnext: rlkit tfrecord read 'a \ufffd.tfrecord'\n"
    said = rl("read", name, "--limit", 10, "--to", "back")
    assert said.code == 0
    assert "file ant/\ufffd.png\n" in said.out
    assert files_below(Path("back")) == files_below(photos)
    assert json.loads(rl("read", name, "--json").out)["file"] == name


@pytest.mark.parametrize("words", [["--help"], ["write", "--help"], ["read", "--help"]])
def test_help_loads_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = (
        "import atexit, sys\n"
        "from rlkit.cli import main\n"
        "atexit.register(lambda: print('loaded', *sys.modules, file=sys.stderr))\n"
        f"main(['tfrecord', *{words!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: rlkit tfrecord" in done.stdout
    assert not {"tensorflow", "keras", "numpy", "gymnasium"} & set(done.stderr.split())
