"""Exports: each format by a loader of its own, held to the weights by hand; and what refuses an export."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import rlkit
from rlkit.api import export_reference, exporting, fitting, runs
from rlkit.api.agent_run import Run
from rlkit.api.exporting import export_run
from rlkit.api.policy_models import of_network
from rlkit.errors import UserError
from rlkit.export import FORMATS, checking, keras_files, module, savedmodel, tfjs, tflite
from rlkit.export.checking import Agreement, compare
from rlkit.export.litert import LiteRT
from rlkit.export.portable import Portable, Settings
from rlkit.files import cache
from rlkit.learning.q_agent import QAgent

Command = Callable[..., Any]
ROWS = 300
TINY: dict[str, Any] = {
    "preset": "none", "steps": 400, "learning_starts": 100, "hidden": (16,), "eval_interval": 0, "buffer_size": 500,
    "epsilon_duration": 300,
}  # fmt: skip
TEXT = "in the beginning there was a cat, and the cat was on the mat. " * 30


def train_all(root: Path) -> dict[str, Path]:
    """A tiny run of each kind of model, by name."""
    catch = {**TINY, "steps": 60, "learning_starts": 40, "network": "nature-cnn", "hidden": (32,), "batch_size": 4}
    few = {**TINY, "steps": 200, "jit": False}
    memory = {**TINY, "network": "lstm", "lstm_units": 8, "sequence_length": 4, "burn_in": 2, "batch_size": 4}
    (root / "cat.txt").write_text(TEXT)
    (root / "prices.csv").write_text("size,rooms,price\n" + "".join(f"{i},{i % 4},{100 + 9 * i}\n" for i in range(60)))
    text: dict[str, Any] = {"data_file": str(root / "cat.txt"), "units": 16, "length": 10, "steps": 40}
    prices: dict[str, Any] = {"data_file": str(root / "prices.csv"), "task": "regression", "steps": 40}
    fit: dict[str, Any] = {"run_dir": root, "threads": 1, "preset": "none"}
    made = {
        "dqn": rlkit.train("dqn", "CartPole-v1", run_dir=root, **TINY),
        "dueling": rlkit.train("dqn", "CartPole-v1", run_dir=root, dueling=True, **TINY),
        "c51": rlkit.train("dqn", "CartPole-v1", run_dir=root, head="c51", noisy=True, **few),
        "qr": rlkit.train("dqn", "CartPole-v1", run_dir=root, head="qr", quantiles=20, **few),
        "iqn": rlkit.train("dqn", "CartPole-v1", run_dir=root, head="iqn", quantiles=8, **few),
        "pqn": rlkit.train(
            "pqn", "CartPole-v1", run_dir=root, preset="none", steps=512, eval_interval=0, num_envs=4,
            rollout_length=16, minibatches=2, hidden=(16,), layer_norm=True,
        ),
        "memory": rlkit.train("dqn", "rlkit/MaskedCartPole-v0", run_dir=root, **memory),
        "images": rlkit.train("dqn", "rlkit/Catch-v0", run_dir=root, **catch),
        "table": rlkit.train("q-learning", "FrozenLake-v1", run_dir=root, steps=2000, eval_interval=0),
        "mlp": fitting.fit("mlp", "digits", hidden=(16,), steps=60, style="subclass", **fit),
        "cnn": fitting.fit("cnn", "digits", filters=(4,), hidden=(16,), steps=60, **fit),
        "linear": fitting.fit("linear", "csv", **prices, **fit),
        "lstm": fitting.fit("lstm", "text", **text, **fit),
    }  # fmt: skip
    return {name: run.path for name, run in made.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return train_all(tmp_path_factory.mktemp("runs"))


KINDS = ("dqn", "dueling", "c51", "qr", "iqn", "pqn", "memory", "images", "table", "mlp", "cnn", "linear", "lstm")
NOT_H5 = {"dueling": "Mean", "c51": "Sum", "iqn": "GetItem", "memory": "Split", "lstm": "Cast"}
"""What an .h5 cannot hold, and the operation that is to blame."""

_subjects: dict[Path, export_reference.Subject] = {}


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The live model's side of the comparison is made once a run, not once an export."""
    make = export_reference.subject

    def once(run: Any, checkpoint: str, say: Any) -> export_reference.Subject:
        if run.path not in _subjects:
            _subjects[run.path] = make(run, checkpoint, say)
        return _subjects[run.path]

    monkeypatch.setattr(exporting, "subject", once)
    monkeypatch.setattr(export_reference, "INPUTS", ROWS)


def network(path: Path) -> keras.Model:
    """The Q-network of a run as it was trained."""
    loaded = runs.load(path)
    assert isinstance(loaded, Run)
    agent, _ = loaded.agent()
    assert isinstance(agent, QAgent)
    return agent.q


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("to", [name for name in FORMATS if name != "tfjs"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_model_leaves_in_every_format_or_is_refused_with_the_reason(
    kind: str, to: str, made: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if to == "h5" and kind in NOT_H5:
        with pytest.raises(UserError, match=rf"h5 cannot hold this model, take keras.*{NOT_H5[kind]}"):
            export_run(made[kind], to, out=out)
        assert not list(tmp_path.iterdir())
        return
    exported = export_run(made[kind], to, out=out)
    report = exported.report
    assert report["difference"] <= 1e-5 * max(1.0, report["scale"])
    assert report["equal"] == 1.0
    assert report["exported"] == pytest.approx(report["live"], rel=1e-5)
    assert report["bytes"] > 500
    written = out / str(report["step"]) if to == "savedmodel" else out
    assert json.loads((written / "export.json").read_text()) == report
    subject = _subjects[made[kind]]
    inputs = {name: rows[:7] for name, rows in subject.inputs.items()}
    found = LOADERS[to](written, inputs, subject.portable)
    expected = subject.expected[subject.portable.values][:7]
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, report["scale"]))


# Each format by its own library's plainest call, none of them rlkit's.


def by_saved_model(folder: Path, inputs: Mapping[str, np.ndarray], portable: Portable) -> np.ndarray:
    loaded = tf.saved_model.load(str(folder))
    outputs = loaded.signatures["serving_default"](**{name: tf.constant(rows) for name, rows in inputs.items()})
    alone = loaded.signatures[portable.values](**{name: tf.constant(rows) for name, rows in inputs.items()})
    assert list(alone) == [portable.values]
    np.testing.assert_array_equal(alone[portable.values], outputs[portable.values])
    return np.asarray(outputs[portable.values])


def by_keras(name: str) -> Callable[..., np.ndarray]:
    def load(folder: Path, inputs: Mapping[str, np.ndarray], portable: Portable) -> np.ndarray:
        model = keras.saving.load_model(folder / name, compile=False)
        assert "rlkit" not in model.to_json()  # so that plain Keras can load it
        outputs = model(
            [tf.constant(rows) for rows in inputs.values()] if len(inputs) > 1 else next(iter(inputs.values()))
        )
        return np.asarray(outputs[0] if portable.remembers else outputs)

    return load


def by_litert(folder: Path, inputs: Mapping[str, np.ndarray], portable: Portable) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "model.tflite"))
    run = interpreter.get_signature_runner("serving_default")
    count = len(next(iter(inputs.values())))
    rows = [run(**{name: value[i : i + 1] for name, value in inputs.items()}) for i in range(count)]
    return np.concatenate([np.array(row[portable.values]) for row in rows])


def by_onnxruntime(folder: Path, inputs: Mapping[str, np.ndarray], portable: Portable) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    return np.asarray(session.run([portable.values], dict(inputs))[0])


LOADERS: dict[str, Callable[..., np.ndarray]] = {
    "savedmodel": by_saved_model,
    "keras": by_keras("model.keras"),
    "h5": by_keras("model.h5"),
    "tflite": by_litert,
    "onnx": by_onnxruntime,
}


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("kind", ["linear", "lstm", "images"])
@pytest.mark.parametrize(("quantize", "share"), [("float16", 0.55), ("dynamic", 0.3), ("int8", 0.3)])
def test_a_quantized_model_is_smaller_or_refused(
    kind: str, quantize: str, share: float, made: dict[str, Path], tmp_path: Path
) -> None:
    whole = export_run(made[kind], "tflite", out=tmp_path / "whole").report["bytes"]
    try:
        small = export_run(made[kind], "tflite", quantize=quantize, out=tmp_path / "small").report
    except UserError as error:
        assert "chooses as the live model does on" in str(error)  # noqa: PT017 - both ends are right, as the weights fall
        assert not (tmp_path / "small").exists()
        return
    assert small["equal"] >= 0.99
    if kind == "images":  # the others are so small that what surrounds the weights decides
        assert small["bytes"] < share * whole


def test_int8_is_whole_numbers_inside_and_keeps_the_faces(made: dict[str, Path], tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "EQUAL", 0.0)
        path = export_run(made["cnn"], "tflite", quantize="int8", out=tmp_path / "int8").path
    interpreter = Interpreter(str(path))
    kinds = [np.dtype(tensor["dtype"]).name for tensor in interpreter.get_tensor_details()]
    assert kinds.count("int8") >= 5
    assert LiteRT(path).inputs == {"inputs": ((1, 8, 8, 1), np.dtype(np.uint8))}


# ---- golden: the values worked out by hand from the checkpoint's weights


def test_exported_values_are_those_of_the_weights_by_hand(made: dict[str, Path], tmp_path: Path) -> None:
    file = export_run(made["dqn"], "onnx", out=tmp_path / "onnx").path
    w0, b0, w1, b1 = (np.asarray(w, np.float64) for w in network(made["dqn"]).get_weights())
    observations = np.random.default_rng(0).normal(size=(50, 4))
    by_hand = np.maximum(observations @ w0 + b0, 0) @ w1 + b1
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    action, values = session.run(["action", "q_values"], {"observation": observations.astype(np.float32)})
    np.testing.assert_allclose(values, by_hand, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(action, by_hand.argmax(axis=1))


def test_actions_count_from_the_spaces_first_and_ties_take_the_lowest() -> None:
    inputs = keras.Input((2,))
    layer = keras.layers.Dense(3)
    network = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.array([[1.0, 0, 1], [0, 2, 0]]), np.zeros(3)])
    outputs = of_network(network, first_action=5).respond(tf.constant([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    assert outputs["action"].numpy().tolist() == [5, 6, 5]


def test_classes_and_numbers_come_in_the_users_terms(made: dict[str, Path], tmp_path: Path) -> None:
    subject = export_reference.subject(runs.load(made["mlp"]), "best", print)
    assert subject.inputs["inputs"].dtype == np.uint8
    assert subject.inputs["inputs"].max() == 255
    np.testing.assert_allclose(subject.expected["predictions"].sum(axis=1), 1, atol=1e-5)
    linear = export_reference.subject(runs.load(made["linear"]), "best", print)
    with (made["linear"].parents[2] / "prices.csv").open() as file:
        prices = [float(row["price"]) for row in csv.DictReader(file)]
    low, high = min(prices), max(prices)  # predictions are in the prices' unit, not of deviation 1
    assert low - 300 < linear.expected["predictions"].mean() < high + 300
    assert linear.live_score > 1


# ---- what a server loads


def test_saved_models_classify_and_regress_examples(made: dict[str, Path], tmp_path: Path) -> None:
    def example(row: np.ndarray) -> bytes:
        feature = tf.train.Feature()
        if row.dtype == np.uint8:
            feature.int64_list.value.extend(map(int, row.ravel()))
        else:
            feature.float_list.value.extend(map(float, row.ravel()))
        features = tf.train.Features(feature={"inputs": feature})
        return bytes(tf.train.Example(features=features).SerializeToString())

    for kind, name in (("mlp", "classify"), ("linear", "regress")):
        subject = export_reference.subject(runs.load(made[kind]), "best", print)
        folder = export_run(made[kind], "savedmodel", out=tmp_path / kind).path / str(subject.step)
        examples = tf.constant([example(row) for row in subject.inputs["inputs"][:5]])
        found = tf.saved_model.load(str(folder)).signatures[name](inputs=examples)
        expected = subject.expected["predictions"][:5]
        if name == "classify":
            np.testing.assert_allclose(found["scores"], expected, atol=1e-5)
            assert found["classes"].numpy()[3].tolist() == [str(digit).encode() for digit in range(10)]
        else:
            np.testing.assert_allclose(found["outputs"], expected[:, 0], rtol=1e-5)


def test_tensorflows_own_tool_runs_a_saved_model(made: dict[str, Path], tmp_path: Path) -> None:
    exported = export_run(made["dqn"], "savedmodel", out=tmp_path / "saved")
    folder = exported.path / str(exported.report["step"])
    observations = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
    np.save(tmp_path / "observations.npy", observations)
    tool = Path(sys.executable).with_name("saved_model_cli")
    command = [tool, "run", "--dir", folder, "--tag_set", "serve", "--signature_def", "q_values"]
    command += ["--inputs", f"observation={tmp_path / 'observations.npy'}", "--outdir", tmp_path]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "q_values.npy"), network(made["dqn"])(observations), atol=1e-5)


def test_a_saved_model_of_a_keras_model_is_what_the_session_loader_finds_broken(tmp_path: Path) -> None:
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    portable = of_network(model, 0)
    holder = tf.Module()
    holder.model = model  # what the exporter must not do: Python reads it, servers do not
    tf.saved_model.save(holder, str(tmp_path / "broken"), {"serving_default": portable.function()})
    with pytest.raises(tf.errors.OpError), savedmodel.opened(tmp_path / "broken", portable) as run:
        run({"observation": np.zeros((1, 2), np.float32)})


# ---- what refuses an export


def agreement(**values: float) -> Agreement:
    return Agreement(**{"inputs": 1000, "difference": 0.0, "scale": 1.0, "spread": 1.0, "equal": 1.0, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "quantize", "sentence"),
    [
        ({"difference": 1.1e-5}, "none", r"up to 1\.1e-05 from the live model's values, expected 1e-05"),
        ({"difference": 2.1e-4, "scale": 20.0}, "none", r"expected 0\.0002 at most"),
        ({"difference": float("inf")}, "none", "nothing is written"),
        ({"difference": float("nan")}, "none", "nothing is written"),
        ({"equal": 0.98}, "none", r"98\.0% of 1,000"),
        ({"equal": 0.989}, "int8", "try --quantize dynamic or float16"),
        ({"equal": 0.5}, "dynamic", "try --quantize float16"),
        ({"equal": 0.5}, "float16", "try --quantize none"),
    ],
)
def test_disagreement_is_refused(values: dict[str, float], quantize: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        agreement(**values).require("tflite", quantize)


@pytest.mark.parametrize(
    ("values", "quantize"),
    [
        ({"difference": 0.9e-5}, "none"),
        ({"difference": 1.9e-4, "scale": 20.0}, "none"),
        ({"difference": 3.0, "equal": 0.99}, "int8"),
    ],
)
def test_agreement_is_let_through(values: dict[str, float], quantize: str) -> None:
    agreement(**values).require("tflite", quantize)


def test_two_outputs_are_compared_by_hand() -> None:
    portable = Portable(None, {}, "q_values", "action")
    live = {"q_values": np.array([[1.0, 2.0], [3.0, 0.0]]), "action": np.array([1, 0])}
    other = {"q_values": np.array([[1.0, 2.5], [3.0, -4.0]]), "action": np.array([1, 1])}
    found = compare(live, other, portable)
    assert (found.inputs, found.difference, found.scale, found.equal) == (2, 4.0, 3.0, 0.5)
    assert found.spread == pytest.approx(np.std([1, 2, 3, 0]))
    broken = {"q_values": np.array([[1.0, np.nan], [3.0, 0.0]]), "action": np.array([1, 0])}
    assert compare(live, broken, portable).difference == np.inf
    with pytest.raises(UserError, match="shape"):
        compare(live, {"q_values": np.zeros((2, 3)), "action": np.zeros(2)}, portable)


@pytest.mark.usefixtures("remembered")
def test_an_export_that_disagrees_leaves_what_was_there(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export_run(made["dqn"], "keras", out=out)
    before = {file.name: file.read_bytes() for file in out.iterdir()}

    def worse(portable: Portable, folder: Path, settings: Settings) -> None:
        copy = keras.models.clone_model(portable.model)
        copy.set_weights([w + 0.01 for w in portable.model.get_weights()])
        copy.save(folder / "model.keras")

    monkeypatch.setattr(keras_files, "write", worse)
    with pytest.raises(UserError, match=r"the keras is up to .* from the live model's values"):
        export_run(made["dqn"], "keras", out=out)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("remembered")
def test_an_export_replaces_an_export_and_nothing_else(made: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        export_run(made["dqn"], "keras", out=out)
    export_run(made["dqn"], "onnx", out=out)
    assert sorted(file.name for file in out.iterdir()) == ["export.json", "model.onnx"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("too")
    for name in ("mine", "file"):
        with pytest.raises(UserError, match=r"is there already and has no export\.json"):
            export_run(made["dqn"], "keras", out=tmp_path / name)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_tflite_that_no_phone_runs_is_refused() -> None:
    def content(function: Any, *, flex: bool = False, variables: bool = False, of: Any = None) -> bytes:
        concrete = [function.get_concrete_function()]
        converter = tf.lite.TFLiteConverter.from_concrete_functions(concrete, of or tf.Module())
        if flex:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        converter.experimental_enable_resource_variables = variables
        return bytes(converter.convert())

    spec = [tf.TensorSpec([1, 2])]
    with pytest.raises(UserError, match="LiteRT has no operation MatrixInverse"):
        tflite.inspect(content(tf.function(tf.linalg.inv, [tf.TensorSpec([2, 2])]), flex=True))
    with pytest.raises(UserError, match="no finite numbers"):
        tflite.inspect(content(tf.function(lambda x: x @ tf.constant([[1.0, np.nan], [0.5, 2.0]]), spec)))
    holder = tf.Module()
    holder.v = tf.Variable([[1.0, 2.0]])
    with pytest.raises(UserError, match="variables outside of the file"):
        tflite.inspect(content(tf.function(lambda x: x + holder.v.assign_add(x), spec), variables=True, of=holder))
    tflite.inspect(content(tf.function(lambda x: x @ tf.constant([[1.0, 3.0], [0.5, 2.0]]), spec)))


@pytest.mark.usefixtures("remembered")
def test_a_page_is_of_a_policy_that_agrees(made: dict[str, Path], tmp_path: Path) -> None:
    exported = export_run(made["dqn"], "web", out=tmp_path / "page")
    assert exported.path == tmp_path / "page"
    assert (exported.report["format"], exported.report["equal"]) == ("web", 1.0)
    assert LiteRT(tmp_path / "page" / "model.tflite").outputs == ("action", "q_values")
    assert (tmp_path / "page" / "index.html").is_file()
    for kind, sentence in (("images", "is on rlkit/Catch-v0"), ("mlp", "needs one that rlkit train made")):
        with pytest.raises(UserError, match=sentence):
            export_run(made[kind], "web", out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


# ---- TensorFlow.js


def converter_ready() -> bool:
    return bool((cache() / f"tfjs-converter-{tfjs.VERSION}" / "ready").exists() and shutil.which("node"))


@pytest.mark.skipif(not converter_ready(), reason="the converter of TensorFlow.js has not been installed here")
@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("kind", ["dqn", "lstm"])
def test_tfjs_agrees(kind: str, made: dict[str, Path], tmp_path: Path) -> None:
    report = export_run(made[kind], "tfjs", out=tmp_path / "tfjs").report
    assert report["difference"] <= 1e-5 * max(1.0, report["scale"])
    assert (tmp_path / "tfjs" / "model.json").exists()


@pytest.mark.usefixtures("remembered")
def test_tfjs_says_what_it_lacks(made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = tmp_path / "python"
    refusing.write_text("#!/bin/sh\necho 'first line' >&2\necho 'ModuleNotFoundError: tensorflowjs' >&2\nexit 1\n")
    refusing.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "node").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "node").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UserError, match="refuses the model: ModuleNotFoundError: tensorflowjs"):
        export_run(made["dqn"], "tfjs", out=tmp_path / "out", converter=str(refusing))
    with pytest.raises(UserError, match="No such file"):
        export_run(made["dqn"], "tfjs", out=tmp_path / "out", converter=str(tmp_path / "none"))
    (tmp_path / "bin" / "node").unlink()
    with pytest.raises(UserError, match="there is no node on the PATH"):
        export_run(made["dqn"], "tfjs", out=tmp_path / "out", converter=str(refusing))
    assert not (tmp_path / "out").exists()


# ---- the command


@pytest.mark.usefixtures("remembered")
def test_the_command_prints_a_table_or_one_object(rl: Command, made: dict[str, Path], tmp_path: Path) -> None:
    said = rl("export", made["dqn"], "--to", "onnx", "--out", tmp_path / "onnx")
    assert said.code == 0, said.err
    path, *table = said.out.splitlines()
    assert path == str(tmp_path / "onnx" / "model.onnx")
    assert [line.split("  ")[1] for line in table] == [
        "size", "inputs compared", "largest difference", "equal actions", "mean return",
    ]  # fmt: skip
    found = json.loads(rl("export", made["mlp"], "--to", "keras", "--json").out)
    assert found["path"] == str(made["mlp"] / "exports" / "keras" / "model.keras")
    assert found["measure"] == "accuracy"
    assert found["equal"] == 1.0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--to", "tflight"), "unknown format 'tflight': did you mean 'tflite'?"),
        (("--to", "onnx", "--quantize", "int8"), "quantize is int8, which is for tflite alone, not for onnx"),
        (("--to", "tflite", "--quantize", "int9"), "unknown quantization 'int9': did you mean 'int8'?"),
        (("--to", "keras", "--checkpoint", "7"), "there is no checkpoint '7' in "),
        ((), "missing option '--to'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    words: tuple[str, ...], sentence: str, rl: Command, made: dict[str, Path]
) -> None:
    said = rl("export", made["dqn"], *words)
    assert said.code == 2
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert not (made["dqn"] / "exports").exists()


def test_every_format_has_what_the_protocol_names() -> None:
    for name in FORMATS:
        found = module(name)
        assert callable(found.write)
        assert callable(found.opened)
        assert isinstance(found.FILE, str)
    with pytest.raises(UserError, match="did you mean 'keras'"):
        module("kears")


def test_exporting_works_in_a_process_of_its_own(made: dict[str, Path], tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "rlkit",
        "export",
        str(made["dqn"]),
        "--to",
        "tflite",
        "--out",
        str(tmp_path / "out"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "100.00%" in result.stdout
