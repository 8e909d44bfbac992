"""Supervised training: its three loops agree, it goes on exactly where it stopped, and it stops as it is told."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rlkit.api import fitting
from rlkit.api.configuration import resolve_fit
from rlkit.data.tfrecord import writing
from rlkit.errors import UserError
from rlkit.loops.base import Loop
from rlkit.runs.checkpoint import Checkpointer
from rlkit.supervised import datasets, models
from rlkit.supervised.config import FitConfig, LinearConfig, MLPConfig
from rlkit.supervised.description import Data, Facts
from rlkit.supervised.pipeline import Pipeline, Source, augmentation
from rlkit.supervised.training import FitLoop, Programs, Supervised, evaluator

QUICK: dict[str, Any] = {"threads": 1, "hidden": (16,), "epochs": 2, "log_interval": 7}


def weights(run: fitting.FitRun, checkpoint: str = "last") -> list[np.ndarray]:
    return [np.asarray(variable) for variable in run.trainee(checkpoint)[0].kept]


def parts(config: FitConfig, facts: Facts, source: Source, path: Path) -> FitLoop:
    """A loop on a source that is also what it is evaluated on."""
    trainee = Supervised(config, models.build(config, facts), facts)
    pipeline = Pipeline(source, config, augmentation(config))
    return FitLoop(trainee, pipeline, evaluator(trainee, pipeline), Checkpointer(path, trainee))


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


# ---- one step of learning


@pytest.fixture(scope="module")
def batches() -> tuple[MLPConfig, Data]:
    config = MLPConfig(data="digits", hidden=(9,), batch_size=20, steps=12, eval_interval=6, checkpoint_interval=6)
    return config, datasets.load(config, print)


def test_an_update_is_what_keras_own_gradient_and_optimizer_say(batches: tuple[MLPConfig, Data]) -> None:
    config, data = batches
    trainee = Supervised(config, models.build(config, data.facts), data.facts)
    twin = models.build(config, data.facts)
    x, y = next(iter(Pipeline(data.train, config).stream(0)))
    before = keras.ops.softmax(twin(x)).numpy()
    loss, accuracy, norm = trainee.update(x, y).numpy()
    rows = np.arange(20)
    assert loss == pytest.approx(-np.log(before[rows, y.numpy()]).mean(), rel=1e-5)
    assert accuracy == pytest.approx(np.mean(before.argmax(axis=1) == y.numpy()))
    # By hand: the gradient of the mean cross-entropy by the logits is (p - 1{y}) / B.
    hidden = np.maximum(x.numpy().reshape(20, 64) @ twin.weights[0].numpy() + twin.weights[1].numpy(), 0)
    slope = (before - np.eye(10)[y.numpy()]) / 20
    back = (slope @ twin.weights[2].numpy().T) * (hidden > 0)
    gradients = [x.numpy().reshape(20, 64).T @ back, back.sum(0), hidden.T @ slope, slope.sum(0)]
    assert norm == pytest.approx(np.sqrt(sum((g**2).sum() for g in gradients)), rel=1e-4)
    for weight, fresh, g in zip(trainee.model.weights, twin.weights, gradients, strict=True):
        # Adam's first step is rate g / (|g| + epsilon') with epsilon' = epsilon / sqrt(1 - 0.999).
        step = 1e-3 * g / (np.abs(g) + 1e-7 / np.sqrt(0.001))
        np.testing.assert_allclose(np.asarray(weight), np.asarray(fresh) - step, atol=2e-6)


def test_gradients_are_clipped_by_their_norm(batches: tuple[MLPConfig, Data]) -> None:
    config, data = batches
    config = config.replace(max_gradient_norm=1e-3, optimizer="sgd", learning_rate=1.0)
    trainee = Supervised(config, models.build(config, data.facts), data.facts)
    before = trainee.model.get_weights()
    norm = float(trainee.update(*next(iter(Pipeline(data.train, config).stream(0))))[2])
    moved = np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(before, trainee.model.get_weights(), strict=True)))
    assert norm > 0.1
    assert moved == pytest.approx(1e-3, rel=1e-3)


def test_the_learning_rate_falls_as_a_cosine_of_the_absolute_update(tmp_path: Path) -> None:
    run = fitting.fit(
        "mlp", "digits", run_dir=tmp_path, steps=40, learning_rate=1e-2, learning_rate_end=1e-4,
        learning_rate_duration=20, threads=1, log_interval=10, hidden=(4,),
    )  # fmt: skip
    rows = rows_of(run.path / "metrics.csv")
    expected = [1e-4 + (1e-2 - 1e-4) * (1 + np.cos(np.pi * min(step / 20, 1))) / 2 for step in (10, 20, 30, 40)]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(expected, rel=1e-5)


def test_evaluation_counts_every_example_once(batches: tuple[MLPConfig, Data]) -> None:
    config, data = batches
    trainee = Supervised(config, models.build(config, data.facts), data.facts)
    found = evaluator(trainee, Pipeline(data.held_out, config))()
    every = list(data.held_out.elements.batch(10_000).map(data.held_out.collect))
    (_, y), logits = every[0], trainee.model(every[0][0])
    assert len(y) == 359
    assert found["accuracy"] == pytest.approx(np.mean(np.argmax(logits, axis=1) == y.numpy()))
    own = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, logits)
    assert found["loss"] == pytest.approx(float(own), rel=1e-5)


def test_numbers_are_told_in_the_targets_own_unit() -> None:
    facts = Facts(kind="numbers", shape=(1,), train=3, held_out=0, target_mean=5.0, target_deviation=10.0)
    config = LinearConfig(steps=1, batch_size=2)
    trainee = Supervised(config, models.build(config, facts), facts)  # its weights are zero: it says 0
    x, y = tf.zeros([3, 1]), tf.constant([[1.0], [-2.0], [3.0]])
    source = Source(tf.data.Dataset.range(3), 3, collect=lambda i: (tf.gather(x, i), tf.gather(y, i)))
    found = evaluator(trainee, Pipeline(source, config))()
    assert found == pytest.approx({"loss": 14 / 3, "mean_absolute_error": 20.0})


def test_a_characters_perplexity_is_the_exponential_of_its_mean_loss() -> None:
    facts = Facts(kind="text", shape=(4,), vocabulary="ab", train=1, held_out=1)
    config, _ = resolve_fit("lstm", "text", fields={"units": 3})
    trainee = Supervised(config, models.build(config, facts), facts)
    trainee.model.get_layer("logits").set_weights([np.zeros((3, 2)), np.array([np.log(3.0), 0.0])])  # 3/4 and 1/4
    x, y = tf.zeros([1, 4], tf.int32), tf.constant([[0, 0, 0, 1]])
    found = trainee.evaluation(trainee.sums(x, y).numpy())
    loss = -(3 * np.log(0.75) + np.log(0.25)) / 4
    assert found == pytest.approx({"loss": loss, "accuracy": 0.75, "perplexity": np.exp(loss)}, rel=1e-6)


# ---- loops


def test_all_loops_end_at_the_same_weights(tmp_path: Path) -> None:
    augmented = {**QUICK, "rotation": 20.0, "shift": 0.1, "dropout": 0.2, "jit": False}  # XLA drops other units
    runs = {
        loop: fitting.fit("mlp", "digits", run_dir=tmp_path / loop, loop=loop, **augmented)
        for loop in ("compiled", "eager", "keras")
    }
    for loop in ("eager", "keras"):
        for mine, theirs in zip(weights(runs["compiled"]), weights(runs[loop]), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=2e-5, err_msg=loop)
    tables = [rows_of(run.path / "metrics.csv") for run in runs.values()]
    for rows in tables[1:]:
        assert [float(row["loss"]) for row in rows] == pytest.approx([float(r["loss"]) for r in tables[0]], rel=1e-3)


@pytest.mark.parametrize("model", ["linear", "mlp", "cnn", "lstm"])
def test_own_step_and_keras_fit_give_the_same_weights_for_each_model(model: str, tmp_path: Path) -> None:
    (tmp_path / "cats.txt").write_text("the cat sat on the mat, the rat sat on the cat. " * 8)
    small: dict[str, dict[str, Any]] = {
        "linear": {},
        "mlp": {"hidden": (8,)},
        "cnn": {"filters": (4,), "kernel_size": 3, "hidden": (8,)},
        "lstm": {"units": 8, "length": 10, "data_file": str(tmp_path / "cats.txt")},
    }
    data = "text" if model == "lstm" else "digits"
    common = {"steps": 15, "threads": 1, "run_dir": tmp_path, **small[model]}
    own, theirs = (fitting.fit(model, data, loop=loop, **common) for loop in ("compiled", "keras"))
    for a, b in zip(weights(own), weights(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_nothing_is_traced_again(batches: tuple[MLPConfig, Data], tmp_path: Path) -> None:
    config, data = batches
    loop = parts(config, data.facts, data.train, tmp_path)
    loop.run()
    assert isinstance(loop.programs, Programs)
    assert loop.programs.traces == 1
    assert loop.step == 12


def test_what_is_measured_between_rows_is_averaged(tmp_path: Path) -> None:
    run = fitting.fit("mlp", "digits", run_dir=tmp_path, steps=30, **{**QUICK, "log_interval": 10})
    fine = fitting.fit("mlp", "digits", run_dir=tmp_path, steps=30, **{**QUICK, "log_interval": 1})
    rows, single = (rows_of(r.path / "metrics.csv") for r in (run, fine))
    assert [int(row["step"]) for row in rows] == [10, 20, 30]
    for i, row in enumerate(rows):
        for name in ("loss", "accuracy", "gradient_norm"):
            mean = np.mean([float(one[name]) for one in single[10 * i : 10 * i + 10]])
            assert float(row[name]) == pytest.approx(mean, rel=1e-5)


# ---- stopping and going on


@pytest.mark.parametrize("loop", ["compiled", "keras"])
def test_a_run_that_stopped_anywhere_goes_on_to_the_bit(loop: str, tmp_path: Path, monkeypatch: Any) -> None:
    fields = {
        **QUICK, "loop": loop, "steps": 60, "eval_interval": 20, "checkpoint_interval": 9, "dropout": 0.3,
        "rotation": 15.0, "learning_rate_end": 1e-4, "learning_rate_duration": 50, "shuffle": 500,
    }  # fmt: skip
    whole = fitting.fit("mlp", "digits", run_dir=tmp_path / "whole", **fields)
    attend, told = Loop.attend, list[int]()

    def interrupt(self: Loop, before: int, *, going: bool) -> str | None:
        if self.step > 30 and not told:
            told.append(self.step)
            raise KeyboardInterrupt
        return attend(self, before, going=going)

    monkeypatch.setattr(Loop, "attend", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitting.fit("mlp", "digits", run_dir=tmp_path / "cut", **fields)
    cut = fitting.load(tmp_path / "cut")
    assert (cut.status, cut.directory.info["step"]) == ("interrupted", 27)
    again = fitting.resume(cut.path)
    assert again.status == "finished"
    for a, b in zip(weights(whole), weights(again), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("metrics.csv", "evaluations.csv"):
        assert (whole.path / name).read_bytes() == (again.path / name).read_bytes(), name
    for a, b in zip(weights(whole, "best"), weights(again, "best"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_more_steps_go_on_as_if_they_had_been_asked_for_at_once(tmp_path: Path) -> None:
    fields = {**QUICK, "eval_interval": 28, "checkpoint_interval": 28}
    whole = fitting.fit("mlp", "digits", run_dir=tmp_path / "whole", steps=50, **fields)
    short = fitting.fit("mlp", "digits", run_dir=tmp_path / "short", steps=33, **fields)
    longer = fitting.resume(short.path, steps=50)
    for a, b in zip(weights(whole), weights(longer), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(UserError, match="is finished at step 50: --steps is the total, give more"):
        fitting.resume(longer.path)


def test_it_stops_when_evaluations_get_no_better(tmp_path: Path) -> None:
    run = fitting.fit(
        "mlp", "digits", run_dir=tmp_path, learning_rate=1e-12, patience=3, epochs=50, eval_interval=5, threads=1
    )
    assert run.status == "stopped"
    assert run.directory.info["step"] == 20, "the first evaluation is the best, then three are no better"


def test_it_stops_at_an_accuracy(tmp_path: Path) -> None:
    run = fitting.fit("mlp", "digits", run_dir=tmp_path, target_accuracy=0.5, epochs=50, eval_interval=5, threads=1)
    rows = rows_of(run.path / "evaluations.csv")
    assert run.status == "solved"
    assert float(rows[-1]["accuracy"]) >= 0.5
    assert all(float(row["accuracy"]) < 0.5 for row in rows[:-1])


def test_the_best_model_is_the_one_that_was_evaluated_best(tmp_path: Path) -> None:
    run = fitting.fit(
        "mlp", "digits", run_dir=tmp_path, steps=60, eval_interval=3, learning_rate=0.05, hidden=(8,), threads=1
    )
    rows = rows_of(run.path / "evaluations.csv")
    best = max(rows, key=lambda row: float(row["accuracy"]))
    result = run.evaluate()
    assert result["step"] == int(best["step"])
    assert result["accuracy"] == pytest.approx(float(best["accuracy"]), rel=1e-6)
    assert json.loads((run.path / "evaluation.json").read_text())["accuracy"] == result["accuracy"]


def test_a_run_of_few_epochs_evaluates_each_and_what_it_ends_with(tmp_path: Path) -> None:
    run = fitting.fit("mlp", "digits", run_dir=tmp_path, steps=100, preset="none", hidden=(8,), threads=1)
    # 1,438 examples in batches of 50 are 28 updates an epoch.
    assert [int(row["step"]) for row in rows_of(run.path / "evaluations.csv")] == [28, 56, 84, 100]


@pytest.mark.parametrize(("epochs", "interval"), [(5, 28), (20, 28), (21, 56), (60, 84), (500, 112)])
def test_many_epochs_are_evaluated_less_often(epochs: int, interval: int) -> None:
    config = MLPConfig(data="digits", epochs=epochs)
    settled = fitting.scheduled(config, datasets.load(config, print))
    assert (settled.eval_interval, settled.steps) == (interval, 28 * epochs)


def test_a_loss_of_nan_names_a_huge_input_before_the_learning_rate(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((40, 3)).astype(np.float32)
    x[7, 1] = 3e38
    np.savez(tmp_path / "a.npz", x=x, label=np.arange(40) % 2)
    source = writing.open_source(tmp_path / "a.npz")
    writing.write(source, tmp_path / "a.tfrecord")
    with pytest.raises(
        UserError, match=r"the loss is (nan|inf) at .* is kept; .*a.tfrecord: record 8 has a value of size 3e\+38 in x"
    ) as told:
        fitting.fit(
            "mlp", "tfrecord", run_dir=tmp_path, data_file=str(tmp_path / "a.tfrecord"), holdout=0, epochs=9,
            learning_rate=10.0, batch_size=10, threads=1,
        )  # fmt: skip
    assert "learning_rate" not in str(told.value)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_good(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"the loss is (nan|inf) at step \d+: stopped; the last good checkpoint, of step"
    ):
        fitting.fit(
            "linear", "house-prices", run_dir=tmp_path, learning_rate=1e6, steps=2_000, log_interval=10, preset="none",
            optimizer="sgd", holdout=0, threads=1,
        )  # fmt: skip
    run = fitting.load(tmp_path)
    assert run.status == "failed"
    assert all(np.isfinite(value).all() for value in weights(run))


# ---- what is written


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> fitting.FitRun:
    return fitting.fit("mlp", "digits", run_dir=tmp_path_factory.mktemp("fit"), profile=True, **QUICK)


def test_a_run_holds_what_the_agents_runs_hold(finished: fitting.FitRun) -> None:
    names = {path.name.split(".tfevents")[0] for path in finished.path.iterdir()}
    assert {
        "config.toml", "run.json", "data.json", "metrics.csv", "evaluations.csv", "timing.csv", "checkpoints"
    } <= names  # fmt: skip
    info = finished.directory.info
    assert (info["verb"], info["model"], info["data"], info["status"]) == ("fit", "mlp", "digits", "finished")
    assert finished.config.steps == 56, "two epochs of 28 batches"


def test_tensorboard_shows_scalars_the_graph_and_a_profile(finished: fitting.FitRun) -> None:
    tags, graphs = set(), 0
    for file in finished.path.glob("events.out.tfevents*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            graphs += bool(event.graph_def)
            tags |= {value.tag for value in event.summary.value}
    assert {"train/loss", "train/accuracy", "train/learning_rate", "evaluate/accuracy", "evaluate/loss"} <= tags
    assert graphs
    assert list(finished.path.rglob("*.xplane.pb"))


def test_the_same_seed_gives_the_same_run_and_another_one_does_not(tmp_path: Path, finished: fitting.FitRun) -> None:
    again = fitting.fit("mlp", "digits", run_dir=tmp_path, **QUICK)
    other = fitting.fit("mlp", "digits", run_dir=tmp_path, seed=1, **QUICK)
    assert (again.path / "metrics.csv").read_bytes() == (finished.path / "metrics.csv").read_bytes()
    assert (other.path / "metrics.csv").read_bytes() != (finished.path / "metrics.csv").read_bytes()


def test_seeds_run_in_turn(tmp_path: Path) -> None:
    said: list[str] = []
    runs = fitting.fit_seeds("mlp", "digits", [3, 5], run_dir=tmp_path, say=said.append, **{**QUICK, "steps": 3})
    assert [run.config.seed for run in runs] == [3, 5]
    assert {line.split(":")[0] for line in said} == {"seed 3", "seed 5"}


# ---- mistakes


def damaged(finished: fitting.FitRun, tmp_path: Path, harm: Callable[[Path], object]) -> Path:
    path = Path(shutil.copytree(finished.path, tmp_path / "run"))
    for file in (path / "checkpoints").rglob("digests-*.json"):  # which have copies of what is harmed here
        file.unlink()
    harm(path)
    return path


def test_data_that_have_changed_are_told(finished: fitting.FitRun, tmp_path: Path) -> None:
    def harm(path: Path) -> None:
        facts = json.loads((path / "data.json").read_text())
        (path / "data.json").write_text(json.dumps({**facts, "train": 1400}))

    path = damaged(finished, tmp_path, harm)
    with pytest.raises(UserError, match="have changed: train was 1400 and is 1438"):
        fitting.resume(path, steps=100)
    with pytest.raises(UserError, match="have changed"):
        fitting.load(path).evaluate()


def test_a_checkpoint_of_another_model_is_refused(finished: fitting.FitRun, tmp_path: Path) -> None:
    def harm(path: Path) -> None:
        text = (path / "config.toml").read_text()
        (path / "config.toml").write_text(text.replace("16,", "17,"))

    path = damaged(finished, tmp_path, harm)
    assert fitting.load(path).config != finished.config
    with pytest.raises(UserError, match="damaged or of another model"):
        fitting.load(path).evaluate()


def test_a_run_without_its_facts_is_told(finished: fitting.FitRun, tmp_path: Path) -> None:
    path = damaged(finished, tmp_path, lambda path: (path / "data.json").write_text("{"))
    with pytest.raises(UserError, match=r"data.json cannot be read"):
        fitting.load(path)


@pytest.mark.parametrize(
    ("model", "data", "fields", "sentence"),
    [
        ("mpl", "digits", {}, "unknown model 'mpl': did you mean 'mlp'"),
        ("mlp", "digit", {}, "unknown data set 'digit': did you mean 'digits'"),
        ("mlp", None, {}, "name the data set to learn from, such as --data digits"),
        ("mlp", "digits", {"hiden": 3}, "unknown field 'hiden': did you mean 'hidden'"),
        ("mlp", "digits", {"preset": "mnits"}, "unknown preset of mlp 'mnits': did you mean 'mnist'"),
        ("mlp", "digits", {"loop": "keras", "max_gradient_norm": 1.0}, "max_gradient_norm is for rlkit's own loops"),
        ("lstm", "digits", {}, "the lstm model is for text, and the data set digits is none"),
        ("mlp", "text", {"data_file": "x"}, "the data set text is for the lstm model"),
        ("linear", "house-prices", {"rotation": 9.0}, "rotation, shift, .* are for images, which house-prices has not"),
        ("mlp", "csv", {}, "csv is read from a file: name it with --data-file"),
        ("cnn", "images", {}, "images is read from a folder: name it with --data-dir"),
        ("mlp", "digits", {"cache": "ram"}, "cache is 'ram', expected one of none, memory, disk"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    model: str, data: str | None, fields: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        fitting.fit(model, data, run_dir=tmp_path / "runs", threads=1, **fields)
    assert not (tmp_path / "runs").exists()
