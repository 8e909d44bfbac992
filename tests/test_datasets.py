"""Data sets: what each loads, what it holds out, and what is said where files are missing or wrong."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from rlkit.api import fitting
from rlkit.config import build
from rlkit.data import tables
from rlkit.data.tfrecord import writing
from rlkit.errors import UserError
from rlkit.supervised import datasets, models
from rlkit.supervised.config import CNNConfig, FitConfig, LinearConfig, LSTMConfig, MLPConfig, config_class
from rlkit.supervised.description import Data, Facts, split
from rlkit.supervised.pipeline import Pipeline, augmentation
from rlkit.supervised.portable import of_supervised
from rlkit.supervised.text import encode
from rlkit.supervised.training import naming_damage

REAL = Path(__file__).parents[2] / "shared" / "data" / "mnist"


def load(data: str, model: str = "mlp", **fields: Any) -> Data:
    return datasets.load(build(config_class(model), ("", {"data": data, **fields})), print)


def examples(data: Data, config: FitConfig | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All that is learned from, in order."""
    config = config or MLPConfig(batch_size=7, shuffle=0)
    parts = list(Pipeline(data.train, config).once())
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


# ---- digits of MNIST


def digits(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28)).astype(np.uint8), rng.integers(0, 10, count).astype(np.uint8)


def write_idx(folder: Path, part: str, x: np.ndarray, y: np.ndarray, *, packed: bool) -> None:
    """The original format: two zeros, 8 for bytes, the number of axes, each length in four bytes, the values."""
    opened: Callable[..., Any] = gzip.open if packed else open
    for name, array in ((f"{part}-images-idx3-ubyte", x), (f"{part}-labels-idx1-ubyte", y)):
        with opened(folder / (name + ".gz" * packed), "wb") as file:
            file.write(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_reads_the_original_files(packed: bool, tmp_path: Path) -> None:
    train, test = digits(30), digits(10, seed=1)
    write_idx(tmp_path, "train", *train, packed=packed)
    write_idx(tmp_path, "t10k", *test, packed=packed)
    data = load("mnist", data_dir=str(tmp_path))
    assert (data.facts.shape, data.facts.train, data.facts.held_out) == ((28, 28, 1), 30, 10)
    x, y = examples(data)
    np.testing.assert_allclose(x[..., 0], train[0] / 255, atol=1e-7)
    np.testing.assert_array_equal(y, train[1])


def test_one_part_alone_is_split_at_its_end(tmp_path: Path) -> None:
    x, y = digits(50)
    write_idx(tmp_path, "t10k", x, y, packed=True)
    data = load("mnist", data_dir=str(tmp_path), holdout=0.2)
    assert (data.facts.train, data.facts.held_out) == (40, 10)
    np.testing.assert_array_equal(examples(data)[1], y[:40])
    assert load("mnist", data_dir=str(tmp_path), holdout=0).facts.held_out == 0


def test_mnist_reads_keras_layout(tmp_path: Path) -> None:
    (x, y), (x_test, y_test) = digits(20), digits(6, seed=1)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    data = load("mnist", data_file=str(tmp_path / "mnist.npz"))
    assert (data.facts.train, data.facts.held_out) == (20, 6)
    np.testing.assert_array_equal(examples(data)[1], y)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real digits are not beside this checkout")
def test_real_digits_are_ten_thousand_of_ten_kinds() -> None:
    data = load("mnist", data_dir=str(REAL))
    assert (data.facts.train, data.facts.held_out) == (8_000, 2_000)
    assert np.bincount(examples(data)[1]).min() > 700


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x": np.zeros(3)}, "has no x_train and y_train: it has x"),
        ({"x_train": np.zeros((2, 8, 8), np.uint8), "y_train": np.zeros(2, int)}, r"expected images \(n, 28, 28\)"),
        ({"x_train": np.zeros((2, 28, 28), np.uint8), "y_train": np.array([1, 12])}, "has a label 12, expected 0 to 9"),
        ({"x_train": np.zeros((2, 28, 28), np.uint8), "y_train": np.zeros(3, int)}, "expected images"),
    ],
)
def test_arrays_that_are_no_digits_are_refused(arrays: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=sentence):
        load("mnist", data_file=str(tmp_path / "x.npz"))


def test_files_that_are_missing_or_cut_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing.npz does not exist"):
        load("mnist", data_file=str(tmp_path / "nothing.npz"))
    (tmp_path / "no.npz").write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"no.npz cannot be read as .npz"):
        load("mnist", data_file=str(tmp_path / "no.npz"))
    with pytest.raises(UserError, match="has neither train-images"):
        load("mnist", data_dir=str(tmp_path))
    write_idx(tmp_path, "train", *digits(4), packed=False)
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte cannot be read"):
        load("mnist", data_dir=str(tmp_path))


def test_what_cannot_be_downloaded_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("keras.datasets.mnist.load_data", fail)
    with pytest.raises(UserError, match=r"mnist cannot be downloaded \(no network\): name a copy with --data-file"):
        load("mnist")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r"flowers needs a folder of images, --data-dir, or TensorFlow Datasets"):
        load("flowers", "cnn")
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match=r"digits needs scikit-learn: pip install -e '\.\[data\]' in "):
        load("digits")


# ---- what the project makes


def test_digits_are_the_real_ones() -> None:
    data = load("digits")
    x, y = examples(data)
    assert (data.facts.train, data.facts.held_out, data.facts.shape) == (1438, 359, (8, 8, 1))
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert y[:10].tolist() == list(range(10))


def test_shapes_are_what_their_names_say() -> None:
    pictures, labels = datasets.draw_shapes(300, 64)
    assert np.bincount(labels).tolist() == [100, 100, 100]
    share = []
    for picture, label in zip(pictures.astype(float), labels, strict=True):
        background = np.median(picture[:4], axis=(0, 1))
        mask = ndimage.uniform_filter(np.abs((picture - background).sum(-1)), 3) > 60
        rows, columns = np.flatnonzero(mask.mean(1) > 0.05), np.flatnonzero(mask.mean(0) > 0.05)
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        share.append((label, mask.sum() / box))
    of = [np.median([value for label, value in share if label == i]) for i in range(3)]
    # A circle fills pi / 4 of its box, a square all of it, a triangle half; smoothing widens each a little.
    assert of == pytest.approx([np.pi / 4, 1.0, 0.5], abs=0.15)
    assert of[2] + 0.1 < of[0] < of[1] - 0.1


def test_house_prices_are_scaled_to_between_zero_and_one() -> None:
    x, y = examples(load("house-prices", "linear", holdout=0))
    assert x.ravel().tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert y.ravel() == pytest.approx([0, 4 / 11, 6 / 11, 9 / 11, 1])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.sampled_from([0.0, 0.1, 0.2, 0.5]))
def test_the_same_share_of_each_class_is_held_out(labels: list[int], share: float) -> None:
    held = split(np.array(labels), share)
    for label in set(labels):
        members = np.array(labels) == label
        assert held[members].sum() == round(share * members.sum())
    np.testing.assert_array_equal(held, split(np.array(labels), share))


# ---- tables


def table(tmp_path: Path, text: str) -> Path:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    return tmp_path / "t.csv"


def test_a_table_of_classes(tmp_path: Path) -> None:
    path = table(tmp_path, "\ufefflength,kind,width\n1,cat,2\n3,dog,4\n\n5,cat,6.5\n")
    found = tables.read(path, "kind")
    assert found.inputs.tolist() == [[1, 2], [3, 4], [5, 6.5]]
    assert (found.classes, found.targets.tolist()) == (("cat", "dog"), [0, 1, 0])


def test_a_table_of_numbers_is_learned_at_one_scale(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},7,{2 * i + 0.5}" for i in range(20))
    data = load("csv", "linear", data_file=str(table(tmp_path, f"a,b,y\n{rows}\n")), holdout=0.25)
    assert (data.facts.kind, data.facts.train, data.facts.held_out) == ("numbers", 15, 5)
    _, y = examples(data)
    assert y.mean() == pytest.approx(0, abs=1e-6)
    assert y.std() == pytest.approx(1, rel=1e-5)
    assert data.facts.deviation[1] == 0, "a column that does not change"


@pytest.mark.parametrize(
    ("column", "classes"),
    [
        (["0", "1", "1", "0"], ("0", "1")),
        (["10", "2", "2", "10"], ("2", "10")),
        (["0.5", "1", "1", "2"], ()),
        (["1", "2", "3", "4"], ()),
        (["yes", "no", "no", "1"], ("1", "no", "yes")),
        (["1", "1.0", "01", "2"], ("1", "2")),  # one number in three spellings
        (["9007199254740993", "9007199254740992"] * 2, ("9007199254740992", "9007199254740993")),  # one float64
        (["0" * 5_000 + "1", "1", "2", "2"], ("1", "2")),  # more digits than int() takes
        (["3rd", "18-25", "18-25", "x"], ("18-25", "3rd", "x")),
    ],
)
def test_what_is_a_class_is_told_by_the_column(column: list[str], classes: tuple[str, ...], tmp_path: Path) -> None:
    text = "x,y\n" + "\n".join(f"{i},{value}" for i, value in enumerate(column))
    assert tables.read(table(tmp_path, text)).classes == classes


@pytest.mark.parametrize(
    ("text", "target", "sentence"),
    [
        ("a,b\n1,2\n3,x1\n", "a", r"line 3, column b: 'x1' is no number; --on-error skip leaves such rows out"),
        ("a,b\n1,2\n3\n", "", r"line 3: 1 values, expected 2"),
        ("a,b\n1,\n3,4\n", "", r"line 2, column b: no value"),
        ("a,b\n1,2\n3,4\n", "c", r"unknown column of .*t.csv 'c'"),
        ("a,b\n1,x\n3,x\n", "", r"the column b has only one class, x"),
        ("a\n1\n2\n", "", r"has one column"),
        ("a,b\n1,2\n", "", r"has 2 lines, expected a heading and two rows"),
        ("a,b\n1,2\n3,nan\n5,6\n", "a", r"line 3, column b: 'nan' is no number"),
        ("a,b\n1,2\n3,1_000\n5,6\n", "a", r"line 3, column b: '1_000' is no number, expected one such as 1234.5"),
        ("a,b\n1,2\n3,-inf\n5,\n", "a", r"line 3, column b: '-inf' is no number \(2 such rows\)"),
        ("a,b\n1,0\n1e39,1\n5,1\n", "", r"line 3, column a: 1e39 is too large, expected at most 3.4e38, float32's"),
        ('a,b\n"1\n",0\n"\n\nx",1\n5,1\n', "", r"line 4, column a: 'x' is no number"),
        ("1,2\n3,4\n5,6\n", "", r"line 1 has '1' in place of a column's name: put a heading above it"),
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n7,3.2,virginica\n", "", r"line 1 has '5.1' in place of a column's name"),
        ("5.1,NA,setosa\n4.9,3.0,setosa\n7,3.2,virginica\n", "", r"line 1 has '5.1' in place of a column's name"),
        (",a,b\n0,1,2\n1,3,4\n", "", r"line 1: column 1 has no name: name it, or leave the column out"),
        ("a,b,\n0,1,\n1,3,\n", "", r"line 1: column 3 has no name"),
        ("a,b,a\n0,1,2\n1,3,4\n", "", r"line 1: two columns are called a"),
        ("a,b;c\n0,1;2\n1,3;4\n", "", r"its columns may be separated by commas or by semicolons"),
        ('a,b\n1,2\n3,"4\n', "", r"cannot be read as CSV: line 3: unexpected end of data"),
    ],
)
def test_a_table_that_is_wrong_is_told_by_line(text: str, target: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        tables.read(table(tmp_path, text), target)


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (
            ["1.5", "NA", "2.5", "3"],
            r"line 3, column y: 'NA' is no number, and 3 of 4 values are: give --task regression --on-error skip to "
            "leave such rows out, or --task classification to take the values for classes",
        ),
        (["1", "2", "2", "unknown"], r"line 5, column y: 'unknown' is no number, and 3 of 4 values are"),
        (["1", "1", "2", "?"], r"line 5, column y: '\?' is no number, and 3 of 4 values are"),
        (['"1,5"', '"2,5"', '"3,5"'], r"line 2, column y: '1,5' is no number, expected one such as 1234.5: write the"),
        (['"1,234.50"', "17", "20.5"], r"line 2, column y: '1,234.50' is no number, and 2 of 3 values are"),
        (["$12", "$13", "$14"], r"line 2, column y: '\$12' is no number, expected one such as"),
        (["12%", "13 %", "14%"], r"line 2, column y: '12%' is no number, expected one such as"),
        (["cat", "dog", "NA"], r"line 4, column y: 'NA' may be a class or a missing value: give --task classification"),
    ],
)
def test_a_target_that_can_be_two_things_is_refused_with_the_flag_that_decides(
    cells: list[str], sentence: str, tmp_path: Path
) -> None:
    path = table(tmp_path, "x,y\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells)))
    with pytest.raises(UserError, match=sentence):
        tables.read(path)
    found = tables.read(path, task="classification")
    assert len(found.classes) == len(set(cells))


def test_rows_with_faults_are_left_out_where_that_is_asked_for_and_counted(tmp_path: Path) -> None:
    text = "x,y\n1,2.5\n2,NA\nwide,3\n4,5,6\n,1\n6,-1.5\n"
    found = tables.read(table(tmp_path, text), on_error="skip")
    assert (found.inputs.tolist(), found.targets.tolist()) == ([[1], [6]], [2.5, -1.5])
    assert found.notes == (
        "table: 2 rows; y (the last column; --target names another) is predicted from x",
        "left out: 4 rows, the first is line 3, column y: 'NA' is no number",
    )
    found = tables.read(table(tmp_path, "x,y\n1,0\n2,NA\n3,1\n4,1\n5,0\n"), on_error="skip")
    assert (found.classes, found.targets.tolist()) == (("0", "1"), [0, 1, 1, 0])
    assert "y has whole numbers, taken for classes: --task regression predicts the number" in found.notes
    found = tables.read(table(tmp_path, "x,y\n1,cat\n2,NA\n3,dog\n4,\n"), on_error="skip")
    assert (found.classes, found.targets.tolist()) == (("cat", "dog"), [0, 1])
    with pytest.raises(UserError, match=r"has 0 rows without faults, expected 2 at least; line 2, column x: no value"):
        tables.read(table(tmp_path, "x,y\n,1.5\n,2.5\n"), on_error="skip")


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_column_of_text_is_named_where_leaving_out_its_rows_would_leave_little(on_error: Any, tmp_path: Path) -> None:
    path = table(tmp_path, "size,city,price\n1,Lyon,1.5\n2,Paris,2.5\n3,Lyon,3.5\n4,5,4.5\n")
    told = r"the column city is text in 3 of 4 rows, as 'Lyon'; .* write it as numbers or leave the column out$"
    with pytest.raises(UserError, match=told):
        tables.read(path, "price", on_error=on_error)
    assert tables.read(path, "city").classes == ("5", "Lyon", "Paris"), "text may be what is predicted"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("x;y\n1;2.5\n2;3.5\n", "columns are separated by semicolons"),
        ("sep=;\nx;y\n1;2.5\n2;3.5\n", "columns are separated by semicolons"),
        ("x\ty\n1\t2.5\n2\t3.5\n", "columns are separated by tabs"),
        ("x,y\r\n1,2.5\r\n,\r\n2,3.5\r\n,\r\n", "left out: 2 rows without any value"),
        ('"x", "y"\n"1", "2.5"\n2, 3.5\n', ""),
    ],
)
def test_what_other_programs_write_is_read_and_said(text: str, note: str, tmp_path: Path) -> None:
    found = tables.read(table(tmp_path, text))
    assert (found.inputs.tolist(), found.targets.tolist()) == ([[1], [2]], [2.5, 3.5])
    assert list(found.notes[1:]) == [note] * bool(note)


def test_encodings_are_told_by_their_mark_or_named_by_the_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text("größe,y\n1,2.5\n2,3.5\n", encoding=encoding)
        assert tables.read(path, "größe").targets.tolist() == [1, 2]
    path.write_text("x,y\n1,café\n2,b\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"cannot be read as CSV: line 2 is not UTF-8 \(byte 0xe9\): save it as UTF-8"):
        tables.read(path)
    path.write_text("x,y\n1,2\n3,4\n", encoding="utf-16-le")  # without its mark
    with pytest.raises(UserError, match=r"cannot be read as CSV: line 1 holds a zero byte: save it as UTF-8"):
        tables.read(path)


@pytest.mark.parametrize("start", ["1", "-"])
def test_a_long_cell_is_refused_at_once_and_cut_in_the_sentence(start: str, tmp_path: Path) -> None:
    path = table(tmp_path, f"x,y\n{start}{' ' * 100_000}x,1\n2,1.5\n3,2.5\n")
    began = time.process_time()
    with pytest.raises(UserError, match=r"line 2, column x: '.{1,60} is no number") as refused:
        tables.read(path)
    assert time.process_time() - began < 10  # each space tried with each other one takes minutes
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("style", ["functional", "sequential", "subclass"])
@pytest.mark.parametrize(
    "numbers",
    [
        [1_700_000_000_000 + 100 * i for i in range(200)],  # milliseconds, ten a second
        [20_240_100 + day for day in range(1, 31)],
        [1e-30 * i for i in range(1, 9)],
        [47.1 + 1e-7 * i for i in range(20)],
    ],
)
def test_numbers_that_float32_merges_are_told_apart_by_the_model(
    numbers: list[float], style: str, tmp_path: Path
) -> None:
    rows = "".join(f"{number!r},{0.37 * i + 5}\n" for i, number in enumerate(numbers))
    path = str(table(tmp_path, f"t,y\n{rows}"))
    data = load("csv", "linear", data_file=path, task="regression", holdout=0, style=style)
    assert data.facts.dtype == "float64"
    assert data.facts.mean[0] == pytest.approx(np.mean(numbers), rel=1e-12)
    assert data.facts.deviation[0] == pytest.approx(np.std(numbers), rel=1e-9)
    x = examples(data)[0]
    model = models.build(LinearConfig(initial="random", style=style), data.facts)  # type: ignore[arg-type]
    outputs = model(x).numpy()
    assert outputs.dtype == np.float32
    assert len(np.unique(outputs)) == len(numbers)
    if style != "functional":
        return
    with pytest.raises(UserError, match=r"the tflite has inputs of 32 bits only.*: savedmodel, keras, h5 and onnx"):
        of_supervised(model, data.facts).require_float32("tflite")


def test_numbers_that_float32_holds_stay_float32(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = "".join(
        f"{300 + a:.2f},{float(b)!r},{c},0.5\n" for a, b, c in zip(*rng.normal(size=(2, 500)), range(500), strict=False)
    )
    data = load("csv", "linear", data_file=str(table(tmp_path, f"a,b,c,y\n{rows}")), task="regression")
    assert data.facts.dtype == "float32"


def test_data_sets_of_an_older_run_are_told_from_others_by_more_than_rounding() -> None:
    facts = Facts(kind="numbers", shape=(1,), train=3, held_out=0, mean=(3.0,), deviation=(1.0,), notes=("a",))
    fitting.same(replace(facts, mean=(3.0000002,), notes=("b",)), facts, Path("run"))
    with pytest.raises(UserError, match=r"the data of run run have changed: mean was \(3.0,\) and is \(3.1,\)"):
        fitting.same(replace(facts, mean=(3.1,)), facts, Path("run"))


# ---- images and records


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    pictures, labels = datasets.draw_shapes(30, 24)
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        path = tmp_path / "photos" / datasets.SHAPES[label] / f"{i:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_jpeg(picture).numpy())
    return tmp_path / "photos"


def test_a_folder_gives_images_and_holds_out_some_of_each_class(photos: Path) -> None:
    data = load("images", "cnn", data_dir=str(photos), image_size=16)
    assert (data.facts.classes, data.facts.train, data.facts.held_out) == (datasets.SHAPES, 24, 6)
    x, y = examples(data)
    assert x.shape == (24, 16, 16, 3)
    assert 0 <= x.min() < x.max() <= 1
    assert np.bincount(y).tolist() == [8, 8, 8]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names of UTF-8 alone")
def test_an_image_may_have_a_name_of_another_encoding_and_a_class_may_not(photos: Path) -> None:
    first = next((photos / "circle").iterdir())
    first.rename(os.fsdecode(os.fsencode(first.parent) + b"/caf\xe9.jpg"))
    data = load("images", "cnn", data_dir=str(photos), image_size=16, holdout=0)
    assert len(examples(data)[0]) == 30
    (photos / "circle").rename(os.fsdecode(os.fsencode(photos) + b"/caf\xe9"))
    with pytest.raises(UserError, match=r"the name of the class 'caf\\udce9' is not UTF-8: rename it"):
        load("images", "cnn", data_dir=str(photos))


def test_an_image_that_is_gone_is_named_while_training(photos: Path) -> None:
    (photos / "circle" / "gone.jpg").symlink_to("nowhere")
    data = load("images", "cnn", data_dir=str(photos), image_size=16, holdout=0)
    with pytest.raises(UserError, match=r"circle/gone.jpg is damaged \(No such file"), naming_damage(data.train):
        examples(data)


def test_folders_for_training_and_test_are_taken_as_they_are(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    photos.rename(tmp_path / "both" / "train")
    (tmp_path / "both" / "test").mkdir()
    with pytest.raises(UserError, match=r"both/test has no images"):
        load("cats-vs-dogs", "cnn", data_dir=str(tmp_path / "both"))
    for name in datasets.SHAPES:
        (tmp_path / "both" / "test" / name).mkdir()
        first = next((tmp_path / "both" / "train" / name).iterdir())
        first.rename(tmp_path / "both" / "test" / name / first.name)
    data = load("cats-vs-dogs", "cnn", data_dir=str(tmp_path / "both"))
    assert (data.facts.train, data.facts.held_out) == (27, 3)


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("train", "Test"), ("seg_train", "seg_test"), ("training_set", "val")]
)
def test_parts_have_several_names_and_are_said(train: str, test: str, photos: Path, tmp_path: Path) -> None:
    for name in (train, test, "extra"):
        shutil.copytree(photos, tmp_path / "both" / name)
    data = load("images", "cnn", data_dir=str(tmp_path / "both"))
    assert (data.facts.classes, data.facts.train, data.facts.held_out) == (datasets.SHAPES, 30, 30)
    assert data.facts.notes[0] == (
        f"learned from: {tmp_path / 'both' / train}; held out: {tmp_path / 'both' / test}; not used: extra"
    )
    shutil.copytree(photos, tmp_path / "both" / f"{train}2")
    with pytest.raises(UserError, match=rf"has the folders {train} and {train}2 for one part"):
        load("images", "cnn", data_dir=str(tmp_path / "both"))


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_records_give_the_batches_that_their_folder_gives(compression: Any, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "photos.tfrecord"
    writing.write(writing.open_source(photos), file, shards=4, compression=compression)
    config = CNNConfig(image_size=16, batch_size=5, rotation=20.0, shuffle=11)
    sources = [
        load("images", "cnn", data_dir=str(photos), image_size=16),
        load("tfrecord", "cnn", data_file=str(file), image_size=16),
    ]
    assert sources[0].facts == sources[1].facts
    streams = [Pipeline(data.train, config, augmentation(config)).stream(3) for data in sources]
    for (x, y), (same, label) in zip(*(stream.take(7) for stream in streams), strict=True):
        np.testing.assert_array_equal(x, same)
        np.testing.assert_array_equal(y, label)


def test_a_damaged_image_is_named_when_it_is_met_or_left_out(photos: Path) -> None:
    bad = photos / "circle" / "03.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    data = load("images", "cnn", data_dir=str(photos), holdout=0)
    with pytest.raises(tf.errors.InvalidArgumentError):
        examples(data)
    assert "circle/03.jpg is damaged" in str(data.train.diagnose())
    assert load("images", "cnn", data_dir=str(photos), holdout=0, on_error="skip").facts.train == 29


def test_damaged_records_stop_or_are_left_out(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "photos.tfrecord"
    writing.write(writing.open_source(photos), file)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"record 30 is damaged .*: the 29 before it can be read with --on-error skip"):
        load("tfrecord", "cnn", data_file=str(file))
    assert load("tfrecord", "cnn", data_file=str(file), on_error="skip", holdout=0).facts.train == 29


def test_records_of_arrays_are_learned_from_too(tmp_path: Path) -> None:
    x, y = digits(20)
    np.savez(tmp_path / "a.npz", image=x, label=y.astype(np.int64))
    writing.write(writing.open_source(tmp_path / "a.npz"), tmp_path / "a.tfrecord")
    data = load("tfrecord", data_file=str(tmp_path / "a.tfrecord"), holdout=0)
    found, labels = examples(data)
    np.testing.assert_allclose(found, x / 255, atol=1e-7)
    np.testing.assert_array_equal(labels, y)


def records_of(folder: Path, **columns: np.ndarray) -> str:
    """A set of two files of TFRecord with these features."""
    np.savez(folder / "a.npz", allow_pickle=False, **columns)
    writing.write(writing.open_source(folder / "a.npz"), folder / "a.tfrecord", shards=2)
    return str(folder / "a.tfrecord")


FEATURES = np.random.default_rng(0).random((20, 3)).astype(np.float32)
LABELS = np.arange(20) % 2


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        (
            np.eye(2, dtype=np.int64)[LABELS],
            r"label is int64 of shape \[2\], expected one whole number, the index of a",
        ),
        (LABELS[:, None], r"label is int64 of shape \[1\], expected one whole number"),
        (LABELS.astype(np.float32), r"label is float32, expected one whole number"),
        (2 * LABELS - 1, r"a-00000-of-00002.tfrecord: record 1 has the label -1, expected 0 to 1, .* \(10 such\)"),
        (np.where(np.arange(20) == 12, 9_000_000, LABELS), r"00001-of-00002.tfrecord: record 3 has the label 9000000"),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_their_record(
    label: np.ndarray, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        load("tfrecord", data_file=records_of(tmp_path, x=FEATURES, label=label))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_an_input_that_is_not_finite_is_refused_with_its_record_or_left_out(value: float, tmp_path: Path) -> None:
    x = FEATURES.astype(np.float64)
    x[14, 1] = value
    path = records_of(tmp_path, x=x, label=np.where(np.arange(20) == 3, -1, LABELS))
    with pytest.raises(
        UserError, match=r"of-00002.tfrecord: record 4 has the label -1, .* \(2 such\); --on-error skip"
    ):
        load("tfrecord", data_file=path)
    data = load("tfrecord", data_file=path, on_error="skip", holdout=0)
    found, labels = examples(data)
    good = np.delete(np.arange(20), [3, 14])
    np.testing.assert_array_equal(found, FEATURES[good])
    np.testing.assert_array_equal(labels, LABELS[good])
    assert data.facts.notes[0].startswith("left out: ")
    (tmp_path / "alone").mkdir()
    path = records_of(tmp_path / "alone", x=x, label=LABELS)
    with pytest.raises(UserError, match=r"00001-of-00002.tfrecord: record 5 has a value in x that is no finite number"):
        load("tfrecord", data_file=path)


# ---- text


def test_text_is_cut_into_sequences_and_what_follows(tmp_path: Path) -> None:
    text = "abcdefghij" * 5
    (tmp_path / "t.txt").write_text(text)
    data = load("text", "lstm", data_file=str(tmp_path / "t.txt"), length=4, holdout=0.2)
    assert (data.facts.vocabulary, data.facts.train, data.facts.held_out) == ("abcdefghij", 36, 2)
    x, y = examples(data, LSTMConfig(batch_size=9, shuffle=0))
    for i, (sequence, following) in enumerate(zip(x, y, strict=True)):
        assert "".join("abcdefghij"[code] for code in sequence) == text[i : i + 4]
        assert "".join("abcdefghij"[code] for code in following) == text[i + 1 : i + 5]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"t.txt is empty"),
        (b"  \n ", r"t.txt is empty"),
        (b"abc\xff\xfe", r"t.txt is not UTF-8: byte 3 cannot be read"),
        (b"short", r"too short: one part has \d+ characters, expected more than length, 40"),
    ],
)
def test_a_text_that_cannot_be_learned_is_told(content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        load("text", "lstm", data_file=str(tmp_path / "t.txt"))


def test_a_byte_order_mark_is_no_character(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("ab" * 60, encoding="utf-8-sig")
    data = load("text", "lstm", data_file=str(tmp_path / "t.txt"), length=5)
    assert data.facts.vocabulary == "ab"


def test_letters_are_made_small_if_asked(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("AbBa" * 40)
    words = {"data_file": str(tmp_path / "t.txt"), "length": 5}
    assert load("text", "lstm", **words).facts.vocabulary == "ABab"
    assert load("text", "lstm", lowercase=True, **words).facts.vocabulary == "ab"


def test_strange_characters_are_named() -> None:
    assert encode("cab", "abc").tolist() == [2, 0, 1]
    with pytest.raises(UserError, match=r"the prompt has characters that the model was not trained on: 'z', '!'$"):
        encode("az!z", "abc", "the prompt")


# ---- facts


@given(
    st.builds(
        Facts,
        kind=st.sampled_from(["classes", "numbers", "text"]),
        shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
        train=st.integers(0, 99),
        held_out=st.integers(0, 99),
        classes=st.lists(st.text(max_size=5), max_size=4).map(tuple),
        vocabulary=st.text(max_size=9),
        mean=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(tuple),
        deviation=st.just(()),
        target_mean=st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_facts_come_back_from_their_file(facts: Facts) -> None:
    assert Facts.from_json(facts.to_json()) == facts


def test_everything_named_can_be_loaded() -> None:
    from rlkit.supervised.config import DATA

    assert set(DATA) == set(datasets.LOADERS)
