"""`rlkit fit`, `generate`, and what evaluates, plots and lists their runs, as users meet them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rlkit.api import fitting

Command = Callable[..., Any]

TEXT = "in the beginning there was a cat, and the cat was on the mat. " * 30
QUICK = ("--threads", 1, "--hidden", 8, "--epochs", 2, "--preset", "none")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs: a classifier of digits and a model of characters."""
    root = tmp_path_factory.mktemp("fits")
    (root / "cat.txt").write_text(TEXT)
    fitting.fit("mlp", "digits", run_dir=root / "runs", epochs=3, hidden=(16,), threads=1, log_interval=10)
    fitting.fit(
        "lstm", "text", run_dir=root / "runs", data_file=str(root / "cat.txt"), steps=150, units=32, length=20,
        learning_rate=0.01, threads=1,
    )  # fmt: skip
    return root / "runs"


def sentence(said: Any) -> str:
    """The sentence of a mistake, after checking that it is one."""
    assert said.code == 2, said
    assert said.out == ""
    assert said.err.startswith("rlkit: "), said.err
    assert said.err.count("\n") == 1, said.err
    return str(said.err.removeprefix("rlkit: ").rstrip("\n"))


# ---- fit


def test_fit_trains_evaluates_and_says_what_to_try_next(rl: Command) -> None:
    said = rl("fit", "mlp", "--data", "digits", *QUICK)
    assert said.code == 0, said.err
    path, trained, found, following = said.out.splitlines()
    assert re.fullmatch(r"runs/digits/mlp/\d{8}T\d{6}Z-seed0", path)
    assert re.fullmatch(r"  seed 0: finished at step 56 after \d+\.\d s", trained)
    assert re.match(r"  best model, of step (28|56), on 359 held-out examples: loss [\d.]+, accuracy 0\.\d+", found)
    assert following == f"next: rlkit plot {path}"
    assert said.err.splitlines()[:3] == [
        "preset: none, the defaults",
        "data: 1,438 examples to learn from, 359 held out",
        "task: classification into 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    ]


def test_fit_with_seeds_tells_the_mean_and_its_interval(rl: Command) -> None:
    said = rl("fit", "mlp", "--data", "digits", *QUICK, "--seeds", "0-1").out
    one, two = map(float, re.findall(r"examples: .*accuracy ([\d.]+)", said))
    (told,) = re.findall(
        r"^2 seeds, best models: accuracy, mean ([\d.]+) \(95% interval (.*) to (.*)\), lowest", said, re.MULTILINE
    )
    mean, low, high = map(float, told)
    # Of two values Student's interval is t(0.975, 1) = 12.706 halves of their distance to each side.
    half = 12.706 * abs(one - two) / 2
    assert (mean, low, high) == pytest.approx(((one + two) / 2, mean - half, mean + half), abs=0.01)
    assert "2 seeds, best models: loss, mean " in said


def test_fit_with_seeds_gives_one_object_of_json(rl: Command) -> None:
    said = rl("fit", "mlp", "--data", "digits", *QUICK, "--seeds", "0-1", "--json")
    found = json.loads(said.out)
    assert said.out.count("\n") == 1
    assert [run["seed"] for run in found["runs"]] == [0, 1]
    assert {"accuracy", "loss", "examples", "step", "held_out"} <= set(found["runs"][0]["evaluation"])


def test_every_field_is_a_flag_and_a_file_may_hold_them(rl: Command) -> None:
    Path("fields.toml").write_text('model = "mlp"\ndata = "digits"\nhidden = [5]\nbatch_size = 100\nthreads = 1\n')
    said = rl("fit", "mlp", "--config", "fields.toml", "--set", "steps=4", "--batch-size", "80", "--flip", "--json")
    config = fitting.load(json.loads(said.out)["run"]).config
    assert (config.hidden, config.batch_size, config.steps, config.flip) == ((5,), 80, 4, True)  # type: ignore[attr-defined]


def test_a_preset_is_taken_and_named(rl: Command) -> None:
    said = rl("fit", "linear", "--data", "house-prices", "--steps", 50, "--threads", 1)
    assert "preset: house-prices" in said.err
    assert "none held out: evaluated on these" in said.err
    assert "on 5 training examples" in said.out


def test_resume_goes_on(rl: Command) -> None:
    first = json.loads(rl("fit", "mlp", "--data", "digits", *QUICK, "--steps", 10, "--json").out)
    said = rl("fit", "--resume", first["run"], "--steps", 20)
    assert said.code == 0, said.err
    assert "resumed at step 10" in said.err
    assert "finished at step 20" in said.out
    assert sentence(rl("fit", "--resume", first["run"])).endswith(
        "is finished at step 20: --steps is the total, give more than 20 to go on"
    )


def test_an_interrupt_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    words = ["fit", "mlp", "--data", "digits", "--steps", "1000000", "--preset", "none", "--checkpoint-interval", "50"]
    command = [sys.executable, "-m", "rlkit", *words]
    with (tmp_path / "said").open("w") as out:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob("ckpt-50.index")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    said = (tmp_path / "said").read_text()
    (path,) = (tmp_path / "runs/digits/mlp").iterdir()
    assert f"interrupted; go on with: rlkit fit --resume {path.relative_to(tmp_path)}" in said
    run = fitting.load(path)
    assert run.status == "interrupted"
    assert run.directory.info["step"] >= 50


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fit",), "name a model to train, such as rlkit fit mlp --data digits, or --resume RUN"),
        (("fit", "mpl"), "unknown model 'mpl': did you mean 'mlp'?"),
        (("fit", "mlp"), "name the data set to learn from, such as --data digits; there is "),
        (("fit", "mlp", "--data", "digit"), "unknown data set 'digit': did you mean 'digits'?"),
        (
            ("fit", "mlp", "--data", "digits", "--hiden", "3"),
            "unknown flag '--hiden': did you mean '--hidden' or '--help'?",
        ),
        (("fit", "mlp", "--data", "digits", "--epochs", "0"), "--epochs is 0, expected at least 1"),
        (("fit", "mlp", "--data", "digits", "--seed", "1", "--seeds", "1-2"), "--seed and --seeds exclude each other"),
        (("fit", "--data", "digits", "mlp"), "--data comes after the model's name, rlkit fit MODEL --data, "),
        (("fit", "--resume", "nowhere"), "run nowhere does not exist"),
        (("fit", "--steps", "3", "mlp"), "--steps comes after the model's name: say rlkit fit mlp --steps"),
        (("fit", "lstm", "--data", "text", "--data-file", "no.txt", "--threads", "1"), "no.txt does not exist"),
        (("fit", "cnn", "--data", "images", "--data-dir", "no", "--threads", "1"), "no does not exist"),
        (("generate", "nowhere"), "run nowhere does not exist"),
    ],
)
def test_a_mistake_is_one_sentence(words: tuple[str, ...], said: str, rl: Command) -> None:
    assert said in sentence(rl(*words))
    assert list(Path().iterdir()) == []


def test_help_shows_a_models_own_fields_by_groups(rl: Command) -> None:
    said = rl("fit", "cnn", "--help")
    for heading in ("Data:", "Pipeline:", "Augmentation:", "Model:", "Training:", "Logging:", "Device:"):
        assert f"\n{heading}\n" in said.out
    assert "--filters N,N" in said.out
    assert "--env" not in said.out
    assert "--units" in rl("fit", "lstm", "--help").out


def test_help_loads_no_tensorflow() -> None:
    code = "import sys; from rlkit.cli import main\ntry: main(['fit', 'mlp', '--help'])\nexcept SystemExit: pass\n"
    code += "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env={**os.environ})


def test_a_damaged_image_met_while_training_is_named(rl: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    (tmp_path / "photos/a/3.png").write_bytes(b"no image")
    words = ("fit", "mlp", "--data", "images", "--data-dir", "photos", *QUICK, "--image-size", 16, "--batch-size", 4)
    said = rl(*words, "--holdout", 0)
    assert said.code == 2
    last = said.err.splitlines()[-1]
    assert "photos/a/3.png is damaged" in last
    assert "--on-error skip leaves such out" in last
    held = rl(*words, "--holdout", 0.9)  # among those, whichever is evaluated on
    assert held.code == 2
    assert "photos/a/3.png is damaged" in held.err
    said = rl(*words, "--on-error", "skip")
    assert said.code == 0, said.err
    assert "photos/a/3.png is left out" in said.err


# ---- generate


def test_generate_writes_at_four_temperatures_side_by_side(runs: Path, rl: Command) -> None:
    said = rl("generate", runs / "text", "--length", 60, "--prompt", "the cat ")
    assert said.code == 0, said.err
    headings = re.findall(r"^temperature ([\d.]+)$", said.out, re.MULTILINE)
    assert headings == ["0.2", "0.5", "1", "1.2"]
    texts = re.split(r"temperature [\d.]+\n", said.out)[1:]
    assert len(texts) == 4
    assert all(text.startswith("the cat ") and len(text.rstrip("\n")) <= 68 for text in texts)
    assert len(set(texts)) > 1


def test_generate_gives_the_same_text_for_the_same_seed(runs: Path, rl: Command) -> None:
    def text(*words: object) -> str:
        said = rl("generate", runs / "text", "--temperature", 1.0, "--length", 50, "--json", *words)
        return str(json.loads(said.out)["texts"][0]["text"])

    assert text() == text("--seed", 0) != text("--seed", 1)
    assert len(text()) == 50


def test_a_cold_model_repeats_what_it_learned(runs: Path, rl: Command) -> None:
    said = rl("generate", runs / "text", "--temperature", 0, "--length", 80, "--prompt", "in the beg")
    assert said.out.rstrip("\n") in TEXT


def test_generate_refuses_what_it_cannot_go_on_from(runs: Path, rl: Command) -> None:
    told = sentence(rl("generate", runs / "text", "--prompt", "Zebra 7"))
    assert told == "the prompt has characters that the model was not trained on: 'Z', '7'"
    assert "text comes from lstm alone" in sentence(rl("generate", runs / "digits"))
    assert "--temperature is -1" in sentence(rl("generate", runs / "text", "--temperature", -1))


# ---- the other verbs


def test_evaluate_tells_both_kinds_of_run_apart(runs: Path, rl: Command) -> None:
    said = json.loads(rl("evaluate", runs / "digits", "--json").out)
    assert 0.5 < said["accuracy"] <= 1
    assert said["examples"] == 359
    found = json.loads(rl("evaluate", runs / "text", "--json").out)
    assert found["perplexity"] == pytest.approx(np.exp(found["loss"]))
    assert "on 359 held-out examples: loss" in rl("evaluate", runs / "digits").out
    assert "there is no checkpoint '7'" in sentence(rl("evaluate", runs / "digits", "--checkpoint", "7"))


@pytest.mark.parametrize("verb", ["render", "train"])
def test_verbs_of_agents_refuse_a_supervised_run(verb: str, runs: Path, rl: Command) -> None:
    words = ("render", runs / "digits") if verb == "render" else ("train", "--resume", runs / "digits")
    said = rl(*words)
    assert said.code == 2
    assert "is of the model mlp on the data digits: this needs one that rlkit train made" in said.err


def test_plot_draws_what_says_most(runs: Path, rl: Command) -> None:
    said = rl("plot", runs / "digits", "--to", "digits.png")
    assert said.out == "digits.png\n"
    with Image.open("digits.png") as picture:
        assert picture.size[0] > 500
    assert rl("plot", runs / "text").out.rstrip().endswith("plots/test_perplexity.png")
    assert rl("plot", runs / "digits", "--y", "gradient_norm").code == 0


def test_list_names_models_data_sets_and_runs(runs: Path, rl: Command) -> None:
    assert [line.split()[0] for line in rl("list", "models").out.splitlines()] == [
        "linear", "mlp", "cnn", "mobilenet", "lstm",
    ]  # fmt: skip
    names = [line.split()[0] for line in rl("list", "datasets").out.splitlines()]
    assert {"mnist", "digits", "flowers", "cats-vs-dogs", "text", "csv", "tfrecord"} <= set(names)
    found = json.loads(rl("list", "runs", "--run-dir", runs, "--json").out)["runs"]
    assert [(run["model"], run["data"]) for run in found] == [("mlp", "digits"), ("lstm", "text")]
    assert "mnist" in rl("list", "presets").out


def test_compare_shows_accuracies_and_losses(runs: Path, rl: Command) -> None:
    heads, first, second, *_ = rl("compare", runs, "--all").out.splitlines()
    assert "best accuracy  last accuracy  best loss" in heads
    assert first.split()[:2] == ["digits", "mlp"]
    assert second.split()[:2] == ["text", "lstm"]
    found = json.loads(rl("compare", runs / "digits", "--json").out)["runs"][0]
    assert found["best_accuracy"] >= found["last_accuracy"] > 0.5
    assert found["best_return"] is None
