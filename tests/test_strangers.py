"""Files from strangers: nothing is written by a link, run that was not asked about, or read without end."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tomllib
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tomli_w

from rlkit import load, npz, trust
from rlkit.api import agent_run, training
from rlkit.api.exporting import export_run
from rlkit.data.decoding import MOST_PIXELS, pixels
from rlkit.data.image_folders import broken, image_folder
from rlkit.data.tfrecord.reading import damages, open_records
from rlkit.errors import UserError
from rlkit.exact.mdp import FiniteMDP
from rlkit.experiments.benchmarks import strangers
from rlkit.files import check_folder, read_bytes, whole, whole_folder, write_whole
from rlkit.runs.digests import Digest, Manifest
from rlkit.runs.observers import CsvFile
from rlkit.runs.run_directory import create
from rlkit.serving import ops

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's key, empty."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of a table."""
    root = tmp_path_factory.mktemp("trained")
    return training.train("q-learning", "FrozenLake-v1", run_dir=root, steps=200, eval_interval=0).path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def victim(folder: Path) -> Path:
    """A file that must stay as it is."""
    path = folder / "precious.txt"
    path.write_text("precious")
    return path


def put(run: Path, **entries: Any) -> None:
    """Change entries of a run's run.json."""
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, **entries}))


def configure(run: Path, text: str = "", **fields: Any) -> None:
    """Change a run's config, of which no checkpoint has a copy then."""
    config = tomllib.loads((run / "config.toml").read_text())
    (run / "config.toml").write_text(text or tomli_w.dumps({**config, **fields}))
    for copy in run.glob("checkpoints/**/digests-*.json"):
        copy.unlink()


# ---- links, pipes and devices


def test_a_list_writes_nothing(run: Path, tmp_path: Path, rl: Command) -> None:
    put(run, status="running")
    precious = victim(tmp_path)
    (run / "lock").unlink(missing_ok=True)
    (run / "lock").symlink_to(precious)
    before = sorted(tmp_path.rglob("*"))
    listed = rl("list", "runs", "--run-dir", tmp_path)
    assert "killed at step 200" in listed.out
    assert precious.read_text() == "precious"
    (run / "lock").unlink()
    assert "killed" in rl("list", "runs", "--run-dir", tmp_path).out
    assert sorted(tmp_path.rglob("*")) == [path for path in before if path != run / "lock"]


@pytest.mark.parametrize(
    "words", [("list", "runs", "--run-dir", "."), ("evaluate", "run"), ("train", "--resume", "run")]
)
def test_a_pipe_as_lock_blocks_nothing(words: tuple[str, ...], run: Path, rl: Command) -> None:
    put(run, status="running")
    (run / "lock").unlink(missing_ok=True)
    os.mkfifo(run / "lock")
    done = rl(*words)
    assert done.code == (0 if words[0] == "list" else 2)
    assert words[0] == "list" or "lock is a pipe, expected a file" in done.err


@pytest.mark.parametrize("name", ["lock", "checkpoints", "exports", ".evaluation.json.part", "events.out.tfevents.1"])
def test_no_command_follows_a_link_in_a_run(name: str, run: Path, tmp_path: Path, rl: Command) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    precious = victim(outside)
    if (run / name).is_dir():
        (run / name).rename(tmp_path / "moved")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(outside if name in ("checkpoints", "exports") else precious)
    for words in (
        ("evaluate", run),
        ("train", "--resume", run, "--steps", 300),
        ("plot", run),
        ("export", run, "--to", "keras"),
    ):
        done = rl(*words)
        assert done.code == 2
        assert "Traceback" not in done.err
    assert [path.name for path in outside.iterdir()] == ["precious.txt"]
    assert precious.read_text() == "precious"


def test_a_file_that_is_elsewhere_too_by_a_hard_link_is_not_changed(run: Path, tmp_path: Path, rl: Command) -> None:
    told = "is also a file elsewhere, by a hard link"
    (tmp_path / "rows.csv").write_text("step,x\n1,2\n")
    (tmp_path / "rows").hardlink_to(tmp_path / "rows.csv")
    with pytest.raises(UserError, match=rf"rows\.csv {told}"):
        CsvFile(tmp_path / "rows.csv", ("step", "x")).write(["2", "3"])
    assert (tmp_path / "rows").read_text() == "step,x\n1,2\n"
    (run / "lock").write_text("precious")
    (tmp_path / "elsewhere").hardlink_to(run / "lock")
    done = rl("train", "--resume", run, "--steps", 300)
    assert done.code == 2
    assert f"lock {told}" in done.err
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_file_is_written_beside_its_place_under_a_name_that_nobody_knows(tmp_path: Path) -> None:
    precious = victim(tmp_path)
    (tmp_path / ".x.part").symlink_to(precious)
    (tmp_path / "x").symlink_to(precious)
    write_whole(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert not (tmp_path / "x").is_symlink()
    assert precious.read_text() == "precious"
    with whole(tmp_path / "x") as first, whole(tmp_path / "x") as second:
        assert first != second
    (tmp_path / "folder").symlink_to(tmp_path)
    with pytest.raises(UserError, match="is a link"), whole_folder(tmp_path / "folder", "mark"):
        pass


def test_parts_that_killed_processes_left_are_removed_as_the_file_or_the_run_is_written(tmp_path: Path) -> None:
    made = create(tmp_path, "dqn", "CartPole-v1", 0, {"env": "CartPole-v1"})
    old, young, other, own = (
        made.path / name
        for name in (
            f".run.json.{'0' * 16}.part",
            f".run.json.{'1' * 16}.part",
            f".evaluation.json.{'2' * 16}.part",
            ".run.json.mine.part",
        )
    )
    for path in (old, young, other, own):
        path.write_text("")
        os.utime(path, (0, 0) if path is not young else None)
    made.update(step=1)
    assert [path.exists() for path in (old, young, other, own)] == [False, True, True, True]
    with made.lock():
        assert [path.exists() for path in (young, other, own)] == [True, False, True]
    left = tmp_path / f".page.{'3' * 16}.part"
    left.mkdir()
    os.utime(left, (0, 0))
    with whole_folder(tmp_path / "page", "mark") as beside:
        (beside / "mark").touch()
    assert not left.exists()


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, kind in (("pipe", "a pipe"), ("zero", "a device")):
        with pytest.raises(UserError, match=f"is {kind}, expected a file"):
            read_bytes(tmp_path / name)
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)
    (tmp_path / "long").write_bytes(b"12345")
    assert read_bytes(tmp_path / "long", 5) == b"12345"
    with pytest.raises(UserError, match="long has more than 4 bytes"):
        read_bytes(tmp_path / "long", 4)
    with pytest.raises(UserError, match="pipe is a pipe"):
        check_folder(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ("solve", "backward-induction", "--triangle"),
        ("solve", "auto", "--mdp"),
        ("train", "dqn", "--env", "CartPole-v1", "--config"),
        ("play", "--env", "CartPole-v1"),
        ("fit", "linear", "--data", "csv", "--data-file"),
        ("fit", "lstm", "--data", "text", "--data-file"),
        ("tfrecord", "read"),
    ],
)
def test_a_file_without_an_end_is_refused(words: tuple[str, ...], tmp_path: Path, rl: Command) -> None:
    name = "x.tfrecord" if words[0] == "tfrecord" else "x"
    (tmp_path / name).symlink_to("/dev/zero")
    if words[0] == "tfrecord":
        (tmp_path / "x.schema.json").symlink_to("/dev/zero")
    done = rl(*words, name)
    assert done.code == 2
    assert len(done.err.splitlines()) == 1


# ---- runs that cannot be read


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[]", "expected a table"),
        ('{"format": NaN}', "format is nan, expected a whole number"),
        ('{"format": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"format": 1, "agent": "dqn", "status": "running", "step": -1, "seed": 0}', "step is -1"),
        ('{"format": 1, "agent": "dqn", "status": "running", "step": "x", "seed": 0}', "step is 'x'"),
        ('{"format": 1, "agent": "dqn", "status": "running", "step": null, "seed": 0}', "step is None"),
        ('{"format": 1, "agent": "dqn", "status": "\\ud800", "step": 1, "seed": 0}', "status is"),
        ('{"format": 1, "agent": 7, "status": "running", "step": 1, "seed": 0}', "agent is 7"),
        ('{"format": 1, "agent": "dqn", "verb": "eat", "status": "running", "step": 1, "seed": 0}', "verb is 'eat'"),
    ],
)
def test_a_broken_run_is_listed_as_broken_beside_the_others(text: str, told: str, tmp_path: Path, rl: Command) -> None:
    good = create(tmp_path / "runs", "dqn", "CartPole-v1", 0, {"env": "CartPole-v1"})
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "run.json").write_text(text)
    (tmp_path / "runs" / "bad" / "config.toml").write_text("")
    listed = rl("list", "runs")
    assert listed.code == 0
    assert f"{good.path.relative_to(tmp_path)}  created at step 0" in listed.out
    assert "runs/bad  broken: " in listed.out
    assert told in " ".join(listed.out.split())
    rows = json.loads(rl("list", "runs", "--json").out)["runs"]
    assert [row["status"] for row in rows] == ["created", "broken"]
    refused = rl("evaluate", "runs/bad")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "9" * 5000, "\x00", "seed = 1979-05-27", "[env_args]\nx = [1979-05-27]"]
)
def test_a_broken_config_is_one_sentence(text: str, run: Path, rl: Command) -> None:
    configure(run, 'agent = "q-learning"\nenv = "FrozenLake-v1"\n' + text)
    done = rl("evaluate", run)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "config.toml" in done.err


def test_no_config_opens_a_window(run: Path, rl: Command) -> None:
    configure(run, env_args={"render_mode": "human"})
    done = rl("evaluate", run)
    assert done.code == 2
    assert "takes no argument 'render_mode'" in done.err
    refused = rl("play", "x.tflite", "--env", "CartPole-v1", "--set", "render_mode=human")
    assert "takes no argument 'render_mode' here" in refused.err


def test_a_checkpoints_copy_of_the_config_is_no_way_around(run: Path, module: Path) -> None:
    manifest = Manifest.read(run / "checkpoints", 200)
    texts = {"config.toml": manifest.texts["config.toml"].replace("FrozenLake-v1", "theirs_module:Theirs-v0")}
    dataclasses.replace(manifest, texts=texts).write(run / "checkpoints")
    with pytest.raises(UserError, match="was not made here"):
        load(run)
    assert not module.exists()
    dataclasses.replace(manifest, texts={"config.toml": "a = " + "[" * 100_000}).write(run / "checkpoints")
    with pytest.raises(UserError, match="nested too deeply"):
        load(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "x"},
        {"files": {"../../x": Digest(1, "0")}},
        {"files": {"replay-x.npz": Digest(1, "0")}},
        {"rows": {"metrics.csv": Digest("1", "0")}},  # type: ignore[arg-type]
        {"texts": {"config.toml": 7}},
        {"bests": ("x",)},
        {"score": "x"},
        {"texts": [[[[]]]]},
    ],
)
def test_a_strangers_digests_are_checked_too(changes: dict[str, Any], run: Path) -> None:
    manifest = Manifest.read(run / "checkpoints", 200)
    text = json.dumps(dataclasses.asdict(manifest) | changes)
    content = f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n"
    (run / "checkpoints" / "digests-200.json").write_text(content)
    with pytest.raises(ValueError, match="is of another version"):
        Manifest.read(run / "checkpoints", 200)


def test_no_name_steers_the_terminal(run: Path, tmp_path: Path, rl: Command) -> None:
    theirs = tmp_path / os.fsdecode(b"\x1b]0;title\x07\xff")
    run.rename(theirs)
    listed = rl("list", "runs", "--run-dir", tmp_path)
    assert "\\x1b]0;title\\x07\\udcff  finished at step 200" in listed.out
    refused = rl("train", "--resume", theirs)
    assert (refused.code, "\x1b" in refused.err) == (2, False)
    assert "give more than 200" in refused.err
    assert rl("evaluate", "x" * 5000).code == 2


# ---- code


MODULE = """
import gymnasium
from pathlib import Path
Path({ran!r}).touch()
gymnasium.registry.pop("Theirs-v0", None)
gymnasium.register("Theirs-v0", "gymnasium.envs.toy_text.frozen_lake:FrozenLakeEnv", max_episode_steps=100)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that registers an env, and makes this file as it is imported."""
    (tmp_path / "theirs_module.py").write_text(MODULE.format(ran=str(tmp_path / "ran")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs_module", raising=False)
    return tmp_path / "ran"


def test_a_module_that_a_strangers_run_names_is_imported_only_if_it_is_trusted(run: Path, module: Path) -> None:
    configure(run, env="theirs_module:Theirs-v0")
    with pytest.raises(UserError, match=r"was not made here, .*env = 'theirs_module:Theirs-v0': give --trust"):
        load(run)
    put(run, seal="0" * 64)
    with pytest.raises(UserError, match="was not made here"):
        load(run)
    assert not module.exists()
    assert agent_run.load(run, trust=True).evaluate(1).returns
    assert module.exists()
    load(run)  # asked once


def test_a_run_that_names_a_module_is_known_again_by_who_made_it(
    module: Path, tmp_path: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = training.train("q-learning", "theirs_module:Theirs-v0", run_dir=tmp_path / "runs", steps=50, eval_interval=0)
    assert module.exists()
    assert (data_home / "rlkit" / "key").stat().st_mode & 0o777 == 0o600
    assert agent_run.load(made.path).config.env == "theirs_module:Theirs-v0"
    training.resume(made.path, steps=100)
    load(made.path)
    config = tomllib.loads((made.path / "config.toml").read_text())
    configure(made.path, env_args={"is_slippery": False})
    with pytest.raises(UserError, match="was not made here"):
        load(made.path)
    made.directory.write_config(config)
    load(made.path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another"))
    with pytest.raises(UserError, match="was not made here"):
        load(made.path)


def test_without_a_home_there_is_no_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/proc/nowhere")
    assert trust.seal("run", "x") is None
    assert not trust.sealed(None, "run", "x")
    assert not trust.sealed("none", "run", "x")


def test_a_run_without_a_module_needs_no_key(run: Path, data_home: Path) -> None:
    load(run)
    assert not data_home.exists()


def test_a_savedmodel_that_was_not_written_here_is_asked_about(run: Path, rl: Command) -> None:
    (version,) = export_run(run, "savedmodel").path.iterdir()
    trust.check_model(version, trust=False)
    with (version / "variables" / "variables.index").open("ab") as file:
        file.write(b"x")
    refused = rl("serve", run, "--port", 0, "--grpc-port", 0)
    assert refused.code == 2
    assert "holds a SavedModel that rlkit did not write here" in refused.err
    assert "--trust" in refused.err
    trust.check_model(version, trust=True)
    trust.check_model(version, trust=False)  # asked once


# ---- operations


def saved(folder: Path, function: Callable[[tf.Tensor], tf.Tensor], **parts: Any) -> Path:
    """A SavedModel of a function."""
    module = tf.Module()
    for name, part in parts.items():
        setattr(module, name, part)
    module.f = tf.function(function, input_signature=[tf.TensorSpec([None, 4], tf.float32, "observation")])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.f})
    return folder


def test_a_graph_that_reaches_beyond_its_tensors_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    from rlkit.serving.models import Version

    written = tmp_path / "written"

    def write(x: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.io.write_file(str(written), tf.io.read_file("/etc/hostname"))
        return {"action": tf.zeros([tf.shape(x)[0]], tf.int32)}

    folder = saved(tmp_path / "evil", write)
    with pytest.raises(UserError, match=r"has the operation (ReadFile|WriteFile), .* give --allow-op"):
        Version(1, folder)
    assert not written.exists()
    with pytest.raises(UserError, match="the operation WriteFile"):
        ops.check(folder, ["ReadFile"])
    ops.check(folder, ["ReadFile", "WriteFile"])


def test_a_function_that_python_computes_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", lambda x: {"y": tf.numpy_function(lambda x: x, [x], tf.float32, stateful=False)})
    with pytest.raises(UserError, match="PyFunc"):
        ops.check(folder)


def test_the_savers_operations_are_allowed_to_the_saver_alone(tmp_path: Path) -> None:
    folder = saved(tmp_path / "good", lambda x: {"y": tf.reduce_sum(x)}, v=tf.Variable(1.0))
    ops.check(folder)

    def save(x: tf.Tensor) -> dict[str, tf.Tensor]:
        tf.raw_ops.SaveV2(prefix=str(tmp_path / "out"), tensor_names=["x"], shape_and_slices=[""], tensors=[x])
        return {"y": tf.reduce_sum(x)}

    with pytest.raises(UserError, match="the operation SaveV2"):
        ops.check(saved(tmp_path / "evil", save, v=tf.Variable(1.0)))
    # A signature that calls the saver's own function.
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = message.meta_graphs[0]
    (saver,) = (f for f in graph.graph_def.library.function if any(n.op == "SaveV2" for n in f.node_def))
    (wrapper,) = (f for f in graph.graph_def.library.function if "signature_wrapper" in f.signature.name)
    next(n for n in wrapper.node_def if "PartitionedCall" in n.op).attr["f"].func.name = saver.signature.name
    (folder / "saved_model.pb").write_bytes(message.SerializeToString())
    with pytest.raises(UserError, match=r"the operation (SaveV2|MergeV2Checkpoints|ShardedFilename)"):
        ops.check(folder)


# ---- more than there is


def png(width: int, height: int) -> bytes:
    """A black picture whose rows are all compressed away."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(3 * width + 1)) for _ in range(min(height, 100))) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def picture(kind: str, width: int, height: int) -> bytes:
    """A small picture whose header says another size."""
    from PIL import Image

    if kind == "PNG":
        return png(width, height)
    file = io.BytesIO()
    Image.new("RGB", (9, 7)).save(file, kind)
    content = bytearray(file.getvalue())
    if kind == "BMP":
        content[18:26] = struct.pack("<ii", width, height)
    elif kind == "GIF":
        content[6:10] = struct.pack("<HH", width, height)
    elif kind == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", height, width)
    elif kind == "WEBP":
        at = content.index(b"\x9d\x01\x2a") + 3
        content[at : at + 4] = struct.pack("<HH", width, height)
    return bytes(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(kind: str, tmp_path: Path) -> None:
    side = 16_000 if kind == "WEBP" else 20_000  # whose sides have 14 bits
    assert side * side > MOST_PIXELS
    path = tmp_path / f"bomb.{kind.lower()}"
    path.write_bytes(picture(kind, side, side))
    ((_, reason),) = broken([str(path)])
    assert reason == "it has more than 134,217,728 pixels"
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnknownError, ValueError), match="pixels"):
        pixels(tf.constant(path.read_bytes()), 3)


def test_a_pipe_among_images_is_told(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(png(2, 2))
    os.mkfifo(tmp_path / "a" / "y.png")
    with pytest.raises(UserError, match=r"y\.png is a pipe, expected a file"):
        image_folder(tmp_path)


def packed(path: Path, name: str, header: dict[str, Any], content: bytes = b"") -> Path:
    """An .npz with one array of this header."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, header)
        archive.writestr(f"{name}.npy", file.getvalue() + content)
    return path


def test_arrays_are_as_long_as_their_file_says(tmp_path: Path) -> None:
    lie = packed(tmp_path / "lie.npz", "x", {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    with pytest.raises(UserError, match=r"array 'x' is to have the shape \(1099511627776,\), and has \d+ bytes"):
        npz.read(lie)
    objects = packed(tmp_path / "o.npz", "x", {"descr": "|O", "fortran_order": False, "shape": (1,)}, b"cos\nsystem\n")
    with pytest.raises(UserError, match="Object arrays such as 'x' are not read"):
        npz.read(objects)
    arrays: dict[str, Any] = {
        "x": np.arange(6.0).reshape(2, 3),
        "y": np.asfortranarray(np.eye(3)),
        "z": np.array(7),
        "w": np.array("é"),
    }
    np.savez_compressed(tmp_path / "good.npz", **arrays)
    found = npz.read(tmp_path / "good.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_a_file_that_unpacks_to_more_than_its_size_warrants_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "FREE", 10_000)
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(10_000_000))
    with pytest.raises(UserError, match="more than 100 times its size is not unpacked beyond 10,000 bytes"):
        npz.read(tmp_path / "bomb.npz")
    np.savez(tmp_path / "plain.npz", x=np.zeros(10_000))
    assert npz.read(tmp_path / "plain.npz")["x"].shape == (10_000,)


MODEL = FiniteMDP.from_dense(
    [[[0.5, 0.5], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]], [[-1.0, -2.0], [0.0, 0.0]], terminal=[False, True]
)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("indices", [0, 1, 1, 2**31 - 1, -(2**31)], "leads to state 2147483647, expected 0 to 1"),
        ("indices", [0, 1, 1, 2**32, 1], "indices has 4294967296"),
        ("indices", [0.5, 1, 1, 1, 1], "indices are of type float64, expected integers"),
        ("indptr", [0, 2, 3, 10**9, 5], "indptr has 1000000000, expected at most 5"),
        ("indptr", [0, 2, 3, -(10**9), 5], "its row runs from 3 to -1000000000"),
        ("indptr", [0, -5, 5, 4, 5], "its row runs from 0 to -5"),
        ("gamma", [0.5, 0.5], "gamma is"),
        ("gamma", "x", "gamma is 'x', expected a number"),
        ("format", np.nan, "format is nan, expected a number"),
        ("horizon", np.inf, "horizon is inf, expected a number"),
        ("rewards", [["a", "b"], ["c", "d"]], "rewards are of type <U1"),
        ("terminal", ["a", "b"], "terminal are of type <U1"),
        ("probabilities", [1j, 1, 1, 1, 1], "probabilities are of type complex128"),
    ],
)
def test_a_wrong_model_file_is_one_sentence(name: str, value: Any, told: str, tmp_path: Path) -> None:
    MODEL.save(tmp_path / "m.npz")
    arrays: dict[str, Any] = {**npz.read(tmp_path / "m.npz"), name: np.array(value)}
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(UserError, match=told):
        FiniteMDP.load(tmp_path / "m.npz")


def records(folder: Path, **changes: Any) -> Path:
    """A set of one record and its schema, with changes."""
    feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
    with tf.io.TFRecordWriter(str(folder / "s.tfrecord")) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature={"label": feature})).SerializeToString())
    schema = {
        "format": 1,
        "features": {"label": {"kind": "int64", "dtype": "int64", "shape": []}},
        "records": [1],
        "compression": "none",
        "classes": ["a", "b"],
        **changes,
    }
    (folder / "s.schema.json").write_text(json.dumps(schema))
    return folder / "s.tfrecord"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"records": [10**18]}, "unexpected records"),
        ({"records": [True]}, "unexpected records"),
        ({"classes": ["c"] * 10**6}, "number of classes, 1,000,000, of 100,000 at most"),
        ({"classes": "ab"}, "records or classes"),
        ({"features": []}, "no schema"),
        ({"format": "x"}, "unexpected format"),
        ({"features": {"x": {"kind": "bytes", "dtype": "uint8", "shape": [10**12]}}}, "1,000,000,000,000 bytes, of"),
        ({"features": {"x": {"kind": "float", "dtype": "float32", "shape": [1] * 300}}}, "unexpected shape"),
    ],
)
def test_a_schema_that_asks_for_too_much_is_refused(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        open_records(records(tmp_path, **changes))


def test_a_record_is_not_read_before_its_length_is_known(tmp_path: Path) -> None:
    path = records(tmp_path, records=[2])

    def masked(content: bytes) -> int:
        crc = 0xFFFFFFFF
        for byte in content:  # CRC-32C, bit by bit (Castagnoli 1993), as the format has it
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 & -(crc & 1))
        crc ^= 0xFFFFFFFF
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    length = struct.pack("<Q", 2**50)
    with path.open("ab") as file:
        file.write(length + struct.pack("<I", masked(length)))
    (damage,) = damages(open_records(path))
    assert str(damage).endswith("record 2 is damaged (it is to have more than 1,073,741,824 bytes)")


# ---- many


def test_a_corpus_of_mutated_files_ends_without_a_traceback_a_hang_or_a_write_elsewhere(
    trained: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    strangers.make_plain(base)
    shutil.copytree(trained, base / "run")
    words = ["-m", strangers.__name__, "--count", "16", "--seed", "7", "--kinds", "run,mdp,triangle"]
    words += ["--folder", str(tmp_path)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16 files: " in done.stdout
