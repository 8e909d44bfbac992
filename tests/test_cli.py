"""The command line as its users meet it: help, values, mistakes in one sentence, JSON, completion."""

from __future__ import annotations

import dataclasses
import fcntl
import io
import json
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import gymnasium
import pytest
import tomli_w
from gymnasium.error import DeprecatedEnv

import rlkit
from rlkit.agents.dqn.config import DQNConfig
from rlkit.cli import cli, main
from rlkit.cli.common import FilePath
from rlkit.cli.fields import parse_seeds
from rlkit.cli.fit import model_command
from rlkit.cli.tfrecord import tfrecord
from rlkit.cli.train import agent_command
from rlkit.config import read_toml
from rlkit.errors import UserError, install
from rlkit.learning.config import TrainConfig
from rlkit.runs.observers import ProgressObserver
from rlkit.runs.run_directory import FORMAT, RunDirectory, create, find

CARTPOLE = ("train", "dqn", "--env", "CartPole-v1")
TINY = ("--preset", "none", "--steps", "300", "--hidden", "8", "--learning-starts", "50", "--buffer-size", "1000")


class Said(NamedTuple):
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def rl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Runs a command in this process, in an empty folder: for all that needs no TensorFlow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> Said:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, *capsys.readouterr())

    return run


SERVER = """
import contextlib, io, json, sys, traceback
from rlkit.cli import main

answers, code = sys.stdout, None
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(json.loads(line))
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            code = 1
            traceback.print_exc()
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""


@pytest.fixture(scope="module")
def computing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Runs commands that load TensorFlow, in one process of their own: it takes its settings once a process."""
    environment = {**os.environ, "COLUMNS": "200", "CUDA_VISIBLE_DEVICES": "-1"}
    environment = {k: v for k, v in environment.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")}
    stray = tmp_path_factory.mktemp("server") / "stderr"
    with (
        stray.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=stray.parent,
            env=environment,
            text=True,
        ) as server,
    ):

        def run(*words: object) -> Said:
            questions, answers = server.stdin, server.stdout
            assert questions is not None
            assert answers is not None
            print(json.dumps([str(word) for word in words]), file=questions, flush=True)
            return Said(*json.loads(answers.readline()))

        yield run
        assert server.stdin is not None
        server.stdin.close()
        server.wait(timeout=60)
    assert stray.read_text() == "", "TensorFlow wrote past the command"


@pytest.fixture(scope="module")
def trained(computing: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A tiny finished run, and what training it said with --json."""
    root = tmp_path_factory.mktemp("trained")
    intervals = ("--eval-interval", 150, "--eval-episodes", 2, "--checkpoint-interval", 150)
    said = computing(*CARTPOLE, *TINY, *intervals, "--json", "--run-dir", root)
    assert said.code == 0, said.err
    return next(file.parent for file in root.rglob("run.json")), said


@pytest.fixture
def copied(trained: tuple[Path, Said], tmp_path: Path) -> Path:
    """The tiny run again, to be harmed."""
    return Path(shutil.copytree(trained[0], tmp_path / "copied"))


def sentence(said: Said) -> str:
    """The sentence of a mistake, after checking that there is this and nothing else."""
    assert said.code == 2, said
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("rlkit: ")
    assert said.err.endswith("\n")
    return lines[0].removeprefix("rlkit: ")


def last_sentence(said: Said) -> str:
    """The same where notes on what was done so far stand before it."""
    *notes, last = said.err.splitlines()
    assert all(
        note.startswith(("preset: ", "loop: ", "replay: ", "checkpoints: ", "the checkpoint of step "))
        for note in notes
    ), said.err
    return sentence(Said(said.code, said.out, last + "\n"))


# ---- mistakes


UNKNOWN = {
    "trian": "unknown command 'trian': did you mean 'train'?",
    "train dqm --env CartPole-v1": "unknown agent 'dqm': did you mean 'dqn'?",
    "train dqn --env CartPol-v1": "unknown env 'CartPol-v1': did you mean 'CartPole-v1' or",
    "train dqn --env LunarLander-v2": "unknown env 'LunarLander-v2': did you mean 'LunarLander-v3'",
    "train dqn --env CartPole-v1 --gama 1": "unknown flag '--gama': did you mean '--gamma'",
    "train dqn --env CartPole-v1 --set gama=1": "unknown field 'gama': did you mean 'gamma'?",
    "train dqn --env CartPole-v1 --set env_args.mass=2": (
        "env 'CartPole-v1' takes no argument 'mass': it takes sutton_barto_reward"
    ),
    "train dqn --env CartPole-v1 --preset CartPol-v1": (
        "unknown preset of dqn 'CartPol-v1': did you mean 'CartPole-v1'"
    ),
    "train dqn --env CartPole-v1 --lr 0.1": "unknown flag '--lr': did you mean '--learning-rate'?",
    "train q-learning --env FrozenLake-v1 --lr=1": "unknown flag '--lr': did you mean '--step-size'?",
    "train dqn --env CartPole-v1 --total-timesteps 9": "unknown flag '--total-timesteps': did you mean '--steps'?",
    "train dqn --env CartPole-v1 --learning_rate 1": "unknown flag '--learning_rate': did you mean '--learning-rate'?",
    "train dqn --env CartPole-v1 --logdir x": "unknown flag '--logdir': did you mean '--run-dir'?",
    "train dqn --env CartPole-v1 --cuda": "unknown flag '--cuda': did you mean '--device'?",
    "train dqn --env CartPole-v1 --timesteps 9": "unknown flag '--timesteps': did you mean '--steps'?",
    "train dqn --env CartPole-v1 --epochs 9": "unknown flag '--epochs': did you mean '--steps'?",
    "train dqn --env CartPole-v1 --batch 9": "unknown flag '--batch': did you mean '--batch-size'?",
    "train dqn --env CartPole-v1 --n_steps 9": "unknown flag '--n_steps': did you mean '--steps' or '--n-step'?",
    "train dqn --env CartPole-v1 --env-args a=1": "unknown flag '--env-args': did you mean '--set'?",
    "train dqn --env CartPole-v1 --set total_timesteps=9": "unknown field 'total_timesteps': did you mean 'steps'?",
    "train dqn --env CartPole-v1 --set lr=9": "unknown field 'lr': did you mean 'learning_rate'?",
    "fit mlp --data digits --lr 1": "unknown flag '--lr': did you mean '--learning-rate'?",
    "fit mlp --dataset digits": "unknown flag '--dataset': did you mean '--data'?",
    "list rnus": "unknown kind 'rnus': did you mean 'runs'?",
    "list --jsn": "unknown flag '--jsn': did you mean '--json'?",
    "completion bsh": "unknown shell 'bsh': did you mean 'bash' or 'zsh'?",
    "plot --x step": "unknown --x 'step': did you mean 'steps'?",
}

KEEPS = (
    "a resumed run keeps its {} and its config, and only --steps can change: leave out {}, as in rlkit {} --resume RUN "
    "--steps N"
)

WRONG = {
    "train": "name an agent to train, such as rlkit train dqn --env CartPole-v1, or --resume RUN",
    "train dqn": "no env is given: name one, such as --env CartPole-v1",
    "train --env CartPole-v1": "--env comes after the agent's name, rlkit train AGENT --env",
    "train --steps 5 dqn --env CartPole-v1": "--steps comes after the agent's name: say rlkit train dqn --steps",
    "train --json dqn --env CartPole-v1": "--json comes after the agent's name: say rlkit train dqn --json",
    "train --resume run dqn": KEEPS.format("agent", "dqn", "train"),
    "train --resume run --steps 4000 --learning-rate 0.1": KEEPS.format("agent", "--learning-rate", "train"),
    "train dqn --resume run --steps 4000 --learning-rate 0.1": KEEPS.format("agent", "dqn, --learning-rate", "train"),
    "train --learning-rate=0.1 --resume=run --env CartPole-v1": KEEPS.format(
        "agent", "--learning-rate, --env", "train"
    ),
    "train --json --resume run --set gamma=0.9": KEEPS.format("agent", "--set", "train"),
    "fit mlp --resume run --epochs 3": KEEPS.format("model", "mlp, --epochs", "fit"),
    "fit --resume run --seed 1": KEEPS.format("model", "--seed", "fit"),
    "train dqn --env CartPole-v1 more": "unexpected argument more",
    "train dqn CartPole-v1": "unexpected argument CartPole-v1: did you mean --env CartPole-v1?",
    "train CartPole-v1": "CartPole-v1 is an env: name it by --env, as in rlkit train dqn --env CartPole-v1",
    "solve auto FrozenLake-v1": "unexpected argument FrozenLake-v1: did you mean --env FrozenLake-v1?",
    "solve FrozenLake-v1": "FrozenLake-v1 is an env: name it by --env, as in rlkit solve auto --env FrozenLake-v1",
    "fit mlp digits": "unexpected argument digits: did you mean --data digits?",
    "train dqn --env": "option '--env' requires an argument",
    "train dqn --env CartPole-v1 --gamma 1.5": "--gamma is 1.5, expected at least 0 and at most 1",
    "train dqn --env CartPole-v1 --set gamma=1.5": "gamma is 1.5, expected at least 0 and at most 1",
    "train dqn --env CartPole-v1 --gamma nan": "--gamma is nan, expected",
    "train dqn --env CartPole-v1 --batch-size 0": "--batch-size is 0, expected at least 1",
    "train dqn --env CartPole-v1 --epsilon-end -1": "--epsilon-end is -1, expected at least 0 and at most 1",
    "train dqn --env CartPole-v1 --learning-rate 0": "--learning-rate is 0, expected above 0",
    "train dqn --env CartPole-v1 --num-envs 0": "--num-envs is 0, expected at least 1",
    "train dqn --env CartPole-v1 --batch-size 9 --buffer-size 8": "batch_size is 9, expected at most buffer_size, 8",
    "train dqn --env CartPole-v1 --seed x": "--seed is 'x', expected a whole number",
    "train dqn --env CartPole-v1 --seed 0-4": "--seed is '0-4', expected a whole number; several are --seeds 0-4",
    "train dqn --env CartPole-v1 --set seed=0,2": "seed is '0,2', expected a whole number; several are --seeds 0,2",
    "train dqn --env CartPole-v1 --set env_args=1": "env_args is '1', expected a table",
    "fit mlp --data digits --seed 0-4": "--seed is '0-4', expected a whole number; several are --seeds 0-4",
    "train dqn --env CartPole-v1 --seed 1.5": "--seed is '1.5', expected a whole number",
    "train dqn --env CartPole-v1 --hidden 64,x": "--hidden is 'x', expected a whole number",
    "train dqn --env CartPole-v1 --loss hubr": "--loss is 'hubr', expected one of huber, squared",
    "train dqn --env CartPole-v1 --set jit=maybe": "jit is 'maybe', expected true or false",
    "train dqn --env CartPole-v1 --set gamma": "--set gamma is not NAME=VALUE, such as gamma=0.98",
    "train dqn --env CartPole-v1 --set =1": "--set =1 is not NAME=VALUE",
    "train dqn --env CartPole-v1 --seeds 9-1": "--seeds is '9-1', expected numbers below 2^31 such as 0-9 or 0,3,5",
    "train dqn --env CartPole-v1 --seeds 1,1": "--seeds is '1,1', which names a seed twice",
    "train dqn --env CartPole-v1 --seeds=": "--seeds is '', expected numbers",
    "train dqn --env CartPole-v1 --seeds 0-3 --seed 1": "--seed and --seeds exclude each other",
    "train dqn --env CartPole-v1 --device tpu": "device is 'tpu', expected auto, cpu, gpu or one by",
    "train dqn --env CartPole-v1 --visible-gpus a": "visible_gpus is 'a', expected all, none or numbers such as 0,2",
    "train dqn --env FrozenLake-v1 --success-rate x": "--success-rate is 'x', expected a number",
    "train dqn --env os:Foo-v0": "unknown env 'Foo-v0': there is Acrobot-v1",
    "train dqn --env missing_package:Foo-v0": "env 'missing_package:Foo-v0': the module 'missing_package' cannot",
    "evaluate": "missing argument 'RUN'",
    "evaluate . --episodes x": "--episodes is 'x', expected a whole number",
    "evaluate . --episodes 0": "--episodes is 0, expected at least 1",
    "evaluate . --epsilon 2": "--epsilon is 2, expected at least 0 and at most 1",
    "evaluate . --seed -1": "--seed is -1, expected at least 0",
    "evaluate missing": "run missing does not exist",
    "evaluate .": ". is not a run: it has no run.json and config.toml",
    "render . --max-steps 0": "--max-steps is 0, expected at least 1",
    "render . --human --to a.gif": "--human and --to exclude each other",
    "plot": "name a run to plot, or a folder of runs with --all",
    "plot missing": "run missing does not exist",
    "train --resume missing": "run missing does not exist",
}


@pytest.mark.parametrize(("line", "told"), [*UNKNOWN.items(), *WRONG.items()])
def test_a_mistake_ends_in_one_sentence_and_nothing_is_written(
    line: str, told: str, rl: Command, tmp_path: Path
) -> None:
    assert sentence(rl(*line.split())).startswith(told)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_there_is_answered_with_those_that_are(rl: Command, tmp_path: Path) -> None:
    made = create(tmp_path / "runs", "dqn", "CartPole-v1", 3, {"env": "CartPole-v1"})
    said = rl("evaluate", made.path.parent / "seed3")
    assert sentence(said) == f"run {made.path.parent}/seed3 does not exist: there is {made.path.name}"


def test_the_words_of_a_mistake_keep_their_capitals(
    rl: Command, computing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise UserError("CartPole-v1 stands\n at  the beginning")

    monkeypatch.setattr("rlkit.api.catalogue.agent_summaries", refuse)
    assert sentence(rl("list", "agents")) == "CartPole-v1 stands at the beginning"


def test_debug_shows_the_traceback_wherever_it_stands(rl: Command) -> None:
    for words in (("--debug", *CARTPOLE, "--gamma", 2), (*CARTPOLE, "--gamma", 2, "--debug")):
        said = rl(*words)
        assert said.code == 2
        assert said.err.startswith("Traceback (most recent call last):")
        assert said.err.endswith("rlkit: --gamma is 2, expected at least 0 and at most 1\n")


def test_interrupting_a_command_is_no_crash(rl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rlkit.api.catalogue.agent_summaries", interrupt)
    assert rl("list", "agents") == (130, "", "\ninterrupted\n"), "on a line of its own, after ^C"


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Envs that cannot be made: one is retired, one needs a package."""
    retired = types.ModuleType("retired_env")

    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise DeprecatedEnv("use Walk-v1 instead")

    retired.__dict__["__getattr__"] = missing
    monkeypatch.setitem(sys.modules, "retired_env", retired)
    gymnasium.register("test/Walk-v0", entry_point="retired_env:Walk")
    gymnasium.register("test/Fly-v0", entry_point="package_that_is_missing.envs:Fly")
    gymnasium.register("test/Swim-v0", entry_point="box2d_that_is_missing:Swim")
    yield
    for name in ("Walk", "Fly", "Swim"):
        del gymnasium.registry[f"test/{name}-v0"]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("env", "told"),
    [
        ("test/Walk-v0", "env 'test/Walk-v0' is retired: use Walk-v1 instead"),
        ("test/Fly-v0", "env 'test/Fly-v0' needs a package: No module named 'package_that_is"),
        (
            "test/Swim-v0",
            f"env 'test/Swim-v0' needs a package: box2d is not installed: {install('box2d')}",
        ),
    ],
)
def test_an_env_that_cannot_be_made_says_why(env: str, told: str, rl: Command, tmp_path: Path) -> None:
    assert sentence(rl("train", "dqn", "--env", env)).startswith(told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--env Pendulum-v1", "dqn cannot choose from the action space Box(-2.0, 2.0, (1,), float32): it needs Disc"),
        ("--env Blackjack-v1", "the observation space Tuple(Discrete(32), Discrete(11), Discrete(2)) is not supported"),
        ("--env CartPole-v1 --buffer-size 1e13", "buffer_size is 10000000000000, which takes 4"),
        ("--env CartPole-v1 --device gpu", "device is gpu, but TensorFlow has cpu:0"),
        ("--env Acrobot-v1 --vectorization native", "vectorization is native, but Acrobot-v1 has no vector version"),
    ],
)
def test_what_only_training_can_find_out_is_told_before_anything_is_written(
    words: str, told: str, computing: Command, tmp_path: Path
) -> None:
    said = computing("train", "dqn", *words.split(), "--run-dir", tmp_path / "runs")
    assert last_sentence(said).startswith(told)
    assert not (tmp_path / "runs").exists()


def test_a_run_folder_that_cannot_be_made_is_told(computing: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = computing(*CARTPOLE, *TINY, "--run-dir", tmp_path / "file" / "runs")
    assert last_sentence(said) == f"a run cannot be made in {tmp_path / 'file' / 'runs'}: Not a directory"


# ---- config files


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gama = 0.9", "{file}: unknown field 'gama': did you mean 'gamma'?"),
        ("gamma = 2", "{file}: gamma is 2, expected at least 0 and at most 1"),
        ("gamma = 'much'", "{file}: gamma is 'much', expected a number"),
        ("gamma 0.9", "config file {file} is not valid TOML: "),
        ('agent = "sarsa"', "{file} is a config of sarsa, not of dqn"),
        ("[env_args]\nmass = 2", "env 'CartPole-v1' takes no argument 'mass'"),
    ],
)
def test_a_wrong_config_file_is_told_by_its_name(text: str, told: str, rl: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "c.toml", text)
    assert sentence(rl(*CARTPOLE, "--config", file)).startswith(told.format(file=file))


def test_a_config_file_that_cannot_be_read_is_told(rl: Command, tmp_path: Path) -> None:
    assert sentence(rl(*CARTPOLE, "--config", "no.toml")) == "config file no.toml does not exist"
    assert sentence(rl(*CARTPOLE, "--config", tmp_path)).startswith(f"config file {tmp_path} cannot be read: ")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert sentence(rl(*CARTPOLE, "--config", "bytes.toml")).startswith("config file bytes.toml cannot be read: ")


# ---- runs that cannot be used


def test_a_run_of_a_newer_version_is_refused(rl: Command, copied: Path) -> None:
    info = json.loads((copied / "run.json").read_text())
    info |= {"format": FORMAT + 1, "versions": {"rlkit": "9.0"}}
    write(copied / "run.json", json.dumps(info))
    told = f"run {copied} was made by rlkit 9.0, with a layout newer than this version {rlkit.__version__} reads"
    for words in (("evaluate", copied), ("plot", copied), ("render", copied), ("train", "--resume", copied)):
        assert sentence(rl(*words)).startswith(told)


def test_a_folder_or_a_file_that_is_no_run_is_told(rl: Command, copied: Path) -> None:
    (copied / "config.toml").unlink()
    told = f"{copied} is not a run: it has no run.json and config.toml"
    assert sentence(rl("evaluate", copied)) == told
    file = copied / "run.json"
    assert sentence(rl("evaluate", file)) == told.replace(str(copied), str(file))


def test_a_run_in_use_is_refused(computing: Command, copied: Path) -> None:
    before = (copied / "run.json").read_text()
    with (copied / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        said = computing("train", "--resume", copied, "--steps", 400)
    assert last_sentence(said) == f"run {copied} is in use by another process"
    assert (copied / "run.json").read_text() == before


def test_a_run_that_cannot_be_written_to_is_refused(computing: Command, copied: Path) -> None:
    (copied / "lock").unlink()
    (copied / "lock").mkdir()
    said = computing("train", "--resume", copied, "--steps", 400)
    assert last_sentence(said) == f"run {copied} cannot be written to: Is a directory"


def test_a_finished_run_is_not_resumed_without_more_steps(computing: Command, copied: Path) -> None:
    told = f"run {copied} is finished at step 300: --steps is the total, give more than 300 to go on"
    assert sentence(computing("train", "--resume", copied)) == told
    assert sentence(computing("train", "--resume", copied, "--steps", 300)) == told


def test_damaged_checkpoints_are_told_and_not_crashed_on(computing: Command, copied: Path) -> None:
    for file in copied.rglob("ckpt-*.data-*"):
        file.write_bytes(file.read_bytes()[:100])
    folder = copied / "checkpoints"
    said = sentence(computing("evaluate", copied))
    assert re.match(
        rf"the checkpoint 'best', of step \d+, in {re.escape(str(folder))} is damaged or of another model \(", said
    )
    assert said.endswith("try another with --checkpoint: there is none")
    said = last_sentence(computing("train", "--resume", copied, "--steps", 400))
    assert said.startswith(f"none of the 3 checkpoints in {folder} can be read; the one of step 300: ")
    assert re.search(r"ckpt-300\.data-00000-of-00001 has 100 bytes of [\d,]+", said)
    assert json.loads((copied / "run.json").read_text())["status"] == "finished"


def test_a_checkpoint_that_is_not_there_is_answered_with_those_that_are(computing: Command, copied: Path) -> None:
    said = computing("evaluate", copied, "--checkpoint", "7")
    told = f"there is no checkpoint '7' in {copied / 'checkpoints'}: there is best, last, 0, 150, 300"
    assert sentence(said) == told


def test_an_episode_is_drawn_as_far_as_one_wants(computing: Command, copied: Path) -> None:
    said = computing("render", copied, "--to", copied / "a.gif", "--max-steps", 7)
    assert said.out == f"{copied / 'a.gif'}\nreturn 7; 1 of 1 cut off after 7 steps\n"


def test_rendering_without_a_display_or_ffmpeg_is_refused_at_once(
    rl: Command, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    told = "there is no display for --human: write a file with --to rollout.mp4"
    assert sentence(rl("render", copied, "--human")) == told
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr("rlkit.pictures.video.shutil.which", lambda name: None)
    told = f"writing mp4 needs ffmpeg: {install('video')}"
    assert sentence(rl("render", copied)) == sentence(rl("render", copied, "--to", "a.mp4")) == told
    assert not (copied / "videos").exists()


# ---- values, and where they come from


class Resolved(NamedTuple):
    """What training was called with."""

    config: DQNConfig
    preset: str | None
    run_dir: Path


@pytest.fixture
def resolved(rl: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Resolved]]:
    """Runs a command up to where training would begin, and gives the configs of its runs."""
    from rlkit.api.configuration import resolve

    def run(*words: object) -> list[Resolved]:
        calls: list[Resolved] = []

        def train(
            agent: str, env: str | None, *, run_dir: Path, say: object, progress: str, preset: str, **rest: Any
        ) -> types.SimpleNamespace:
            config, taken = resolve(agent, env, preset=preset, config=rest.pop("config"), fields=rest)
            assert isinstance(config, DQNConfig)
            calls.append(Resolved(config, taken, run_dir))
            return types.SimpleNamespace(status="finished")

        def train_seeds(
            agent: str, env: str | None, seeds: list[int], *, progress: bool, **rest: Any
        ) -> list[types.SimpleNamespace]:
            assert progress
            return [train(agent, env, progress="", seed=seed, **rest) for seed in seeds]

        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "rlkit.api.training", types.ModuleType("training"))
            patch.setattr(
                rlkit.api,
                "training",
                types.SimpleNamespace(train=train, train_seeds=train_seeds),
                raising=False,
            )
            patch.setattr(sys.modules["rlkit.cli.train"], "conclude", lambda runs, failures, as_json: None)
            said = rl("train", "dqn", *words)
        assert said == (0, "", "")
        return calls

    return run


ResolvedFixture = Callable[..., list[Resolved]]


def test_defaults_preset_file_and_flags_come_in_this_order(resolved: ResolvedFixture, tmp_path: Path) -> None:
    file = write(tmp_path / "c.toml", "gamma = 0.5\nlearning_rate = 0.25\n")
    words = ("--env", "CartPole-v1", "--config", file, "--learning-rate", "0.125")
    ((config, preset, run_dir),) = resolved(*words)
    assert preset == "CartPole-v1"
    assert run_dir == Path("runs")
    assert config.adam_epsilon == DQNConfig().adam_epsilon, "of the defaults"
    assert config.num_envs == 16, "of the preset"
    assert config.gamma == 0.5, "of the file, over the preset's 0.98"
    assert config.learning_rate == 0.125, "of the flag, over the file's 0.25"
    ((config, preset, _),) = resolved(*words, "--preset", "none")
    assert preset is None
    assert config.num_envs == 1
    ((config, preset, _),) = resolved(*words, "--preset", "Acrobot-v1")
    assert preset == "Acrobot-v1"
    assert config.num_envs == 8
    assert config.env == "CartPole-v1"


def test_the_env_may_come_from_the_file_and_its_arguments_add_up(resolved: ResolvedFixture, tmp_path: Path) -> None:
    text = 'env = "FrozenLake-v1"\n[env_args]\nis_slippery = false\nmap_name = "4x4"\n'
    file = write(tmp_path / "c.toml", text)
    ((config, *_),) = resolved("--config", file, "--set", "env_args.map_name=8x8")
    assert config.env == "FrozenLake-v1"
    assert config.env_args == {"is_slippery": False, "map_name": "8x8"}


def test_env_arguments_are_flags_and_reach_the_config(resolved: ResolvedFixture) -> None:
    ((config, *_),) = resolved("--env", "FrozenLake-v1", "--no-is-slippery", "--map-name", "8x8")
    assert config.env_args == {"is_slippery": False, "map_name": "8x8"}
    ((config, *_),) = resolved("--success-rate", "0.5", "--env=FrozenLake-v1", "--is-slippery")
    assert config.env_args == {"is_slippery": True, "success_rate": 0.5}
    ((config, *_),) = resolved("--env", "MountainCar-v0", "--goal-velocity", "0.01")
    assert config.env_args == {"goal_velocity": 0.01}, "its default is 0, which is no reason to refuse others"
    ((config, *_),) = resolved("--env", "CartPole-v1")
    assert config.env_args == {}, "what is not given is left to the env"


def test_set_reaches_any_field_as_text_that_its_type_reads(resolved: ResolvedFixture) -> None:
    settings = (
        "hidden=32,16",
        "double=no",
        "target_return=none",
        "learning-rate-end=1e-5",
        "steps=1e5",
        "loss=squared",
    )
    words = [word for setting in settings for word in ("--set", setting)]
    ((config, *_),) = resolved("--env", "CartPole-v1", *words)
    assert config.hidden == (32, 16)
    assert config.double is False
    assert config.target_return is None, "the preset's is 490"
    assert config.learning_rate_end == 1e-5
    assert config.steps == 100_000
    assert config.loss == "squared"
    ((config, *_),) = resolved("--env", "CartPole-v1", "--set", "gamma=0.5", "--gamma", "0.75", "--hidden=")
    assert config.gamma == 0.75, "a field's own flag goes before --set"
    assert config.hidden == ()
    ((config, *_),) = resolved("--set", "env=FrozenLake-v1", "--set", "env_args.is_slippery=false")
    assert (config.env, config.env_args) == ("FrozenLake-v1", {"is_slippery": False})


MAP = ["SFFF", "FHFH", "FFFH", "HFFG"]
INLINE = '["SFFF", "FHFH", "FFFH", "HFFG"]'


def test_an_env_argument_may_be_a_list_or_a_table(resolved: ResolvedFixture, tmp_path: Path) -> None:
    frozen = ("--env", "FrozenLake-v1")
    file = write(tmp_path / "c.toml", f'env = "FrozenLake-v1"\n[env_args]\ndesc = {INLINE}\n')
    ways = [
        (*frozen, "--desc", INLINE),
        (*frozen, "--set", f"env_args.desc={INLINE}"),
        (*frozen, "--set", f"env_args={{desc = {INLINE}}}"),
        ("--config", file),
    ]
    for words in ways:
        ((config, *_),) = resolved(*words)
        assert config.env_args == {"desc": MAP}, words
        again = write(tmp_path / "again.toml", tomli_w.dumps({"agent": "dqn", **config.to_dict()}))
        assert resolved("--config", again)[0][0] == config, "as a run keeps it and resumes from it"
    ((config, *_),) = resolved(*frozen, "--set", "env_args.desc=[S", "--set", "env_args.map_name=8x8")
    assert config.env_args == {"desc": "[S", "map_name": "8x8"}, "what is no TOML is text"


def test_home_is_read_in_every_path(
    resolved: ResolvedFixture, rl: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A shell leaves the ~ of --config=~/c.toml as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "c.toml", "gamma = 0.5\n")
    ((config, _, run_dir),) = resolved("--env", "CartPole-v1", "--config=~/c.toml", "--run-dir=~/runs")
    assert (config.gamma, run_dir) == (0.5, tmp_path / "runs")
    assert read_toml(Path("~/c.toml")) == {"gamma": 0.5}, "from Python too"
    assert create(Path("~/runs"), "dqn", "X-v0", 0, {}).path.is_relative_to(tmp_path / "runs")
    assert find(Path("~/runs")).env == "X-v0"
    commands = [*cli.commands.values(), agent_command("dqn", None), model_command("mlp"), *tfrecord.commands.values()]
    paths = [p.type for c in commands for p in c.params if isinstance(p.type, click.Path)]
    assert len(paths) > 20
    assert all(isinstance(kind, FilePath) for kind in paths)
    assert rl("evaluate", "~/nothing").err == f"rlkit: run {tmp_path}/nothing does not exist: there is c.toml, runs\n"


def test_none_holds_against_the_preset_in_a_flag_and_in_the_runs_own_file(
    resolved: ResolvedFixture, tmp_path: Path
) -> None:
    ((preset, *_),) = resolved("--env", "CartPole-v1")
    ((config, *_),) = resolved("--env", "CartPole-v1", "--target-return", "none")
    assert (preset.target_return, config.target_return) == (490, None)
    assert config == preset.replace(target_return=None), "the rest is the preset's"
    file = write(tmp_path / "config.toml", tomli_w.dumps({"agent": "dqn", **config.to_dict()}))
    ((again, taken, _),) = resolved("--config", file)
    assert (again, taken) == (config, "CartPole-v1")


def test_seeds_make_a_run_each(resolved: ResolvedFixture, tmp_path: Path) -> None:
    calls = resolved("--env", "CartPole-v1", "--seeds", "0-2,7", "--run-dir", tmp_path / "r")
    assert [(call.config.seed, call.run_dir) for call in calls] == [(seed, tmp_path / "r") for seed in (0, 1, 2, 7)]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", [3]), ("0-3,7", [0, 1, 2, 3, 7]), (" 1 , 2 ", [1, 2]), ("5-5", [5]), ("2147483647", [2**31 - 1])],
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", ",", "x", "9-1", "1-", "-1", "1-2-3", "0-1,1", "²", "2147483648", "0-" + "9" * 5000]
)
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--seeds is"):
        parse_seeds(text)


# ---- help


def squeezed(text: str) -> str:
    return " ".join(text.split())


def test_help_names_every_verb_and_no_arguments_show_it(rl: Command) -> None:
    shown = rl("--help")
    assert shown.code == 0
    assert shown.err == ""
    for verb in ("train", "solve", "compare", "evaluate", "render", "plot", "tfrecord", "list", "doctor", "completion"):
        assert re.search(rf"^  {verb}  +[A-Z].*\.$", shown.out, re.MULTILINE)
        assert rl(verb, "-h").out.startswith(f"Usage: rlkit {verb} ")
    assert rl() == shown
    assert rl("--version") == (0, f"rlkit, version {rlkit.__version__}\n", "")
    assert re.search(r"^  dqn +Deep Q-network", rl("train", "--help").out, re.MULTILINE)


def test_help_has_a_flag_for_every_field_with_its_sentence_and_default(rl: Command) -> None:
    shown = squeezed(rl("train", "dqn", "--help").out)
    for field in dataclasses.fields(DQNConfig):
        if field.name in ("env", "env_args"):
            continue
        flag = "--" + field.name.replace("_", "-")
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        elif default is None or isinstance(default, bool):
            default = str(default).lower()
        kind = re.escape(f" / --no-{flag[2:]}") if isinstance(field.default, bool) else r" \S+"
        told = re.escape(f"{squeezed(field.metadata['help'])} [{default}]")
        assert re.search(rf"{flag}{kind} {told}", shown), flag
    assert "--env TEXT Gymnasium id of the env to learn." in shown
    assert "With --env ENV, the env's own arguments are flags too." in shown
    for title in ("Env:", "Training:", "Agent:", "Logging:", "Device:", "Options:"):
        assert shown.count(f" {title} ") == 1


def test_help_with_an_env_shows_its_arguments_and_their_defaults(rl: Command) -> None:
    shown = squeezed(rl("train", "dqn", "--env", "LunarLander-v3", "--help").out)
    assert "--gravity X Argument gravity of the env. [-10.0]" in shown
    assert "--continuous / --no-continuous Argument continuous of the env. [false]" in shown
    assert "render" not in shown
    assert squeezed(rl("train", "dqn", "--env=LunarLander-v3", "--help").out) == shown


def test_an_env_argument_named_as_a_flag_leaves_the_flag_alone(rl: Command) -> None:
    def make(config: str = "a", seed: int = 3, file: str = "b", own: str = "c") -> None: ...

    gymnasium.register("test/Clash-v0", entry_point=make)  # type: ignore[arg-type]
    try:
        shown = squeezed(rl("train", "dqn", "--env", "test/Clash-v0", "--help").out)
    finally:
        del gymnasium.registry["test/Clash-v0"]
    assert "--config PATH TOML file of fields" in shown
    assert "--seed N Seed of every random draw." in shown
    assert "--own TEXT Argument own of the env. [c]" in shown
    assert shown.count(" of the env. [") == 1


@pytest.mark.parametrize("columns", [80, 110])
def test_help_stays_within_the_terminal(columns: int, rl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in ((), ("train",), ("train", "dqn"), ("evaluate",), ("render",), ("plot",), ("list",), ("doctor",)):
        lines = rl(*words, "--help").out.splitlines()
        assert max(map(len, lines)) <= columns, words


def test_help_lists_and_completion_load_neither_tensorflow_nor_numpy() -> None:
    code = """
import sys
from rlkit.cli import main
try:
    main(["--help"])
except SystemExit as ended:
    assert ended.code == 0
print(*sorted({"tensorflow", "keras", "gymnasium", "matplotlib", "numpy", "rich"} & set(sys.modules)))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.splitlines()[-1] == ""
    assert said.stderr == ""
    more = code.replace('["--help"]', "['list', 'envs']").replace('"gymnasium", ', "").replace('"numpy", ', "")
    said = subprocess.run([sys.executable, "-c", more], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.splitlines()[-1] == ""
    assert "CartPole-v1" in said.stdout.splitlines()


def test_a_reader_that_goes_away_is_no_crash() -> None:
    command = f"'{sys.executable}' -m rlkit list envs | head -n 1"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert (said.stdout, said.stderr) == ("Acrobot-v1\n", "")


# ---- results


def test_train_as_json_is_one_object(trained: tuple[Path, Said]) -> None:
    path, said = trained
    assert said.out.count("\n") == 1
    found = json.loads(said.out)
    assert set(found) == {"run", "seed", "status", "step", "seconds", "evaluation", "last"}
    assert (found["run"], found["seed"], found["status"], found["step"]) == (str(path), 0, "finished", 300)
    assert found["seconds"] > 0
    best, last = found["evaluation"], found["last"]
    assert len(best["returns"]) == best["episodes"] == last["episodes"] == 100
    assert (best["step"] in (150, 300), last["step"]) == (True, 300)
    kept = json.loads((path / "evaluation.json").read_text(encoding="utf-8"))
    assert (kept["checkpoint"], kept["step"], kept["mean"]) == ("best", best["step"], best["mean"])
    first, loop, replay, disk = said.err.splitlines()
    assert first == "preset: none, the defaults"
    assert loop == "loop: compiled, env, replay and learner in one program"
    assert replay.startswith("replay: 1,000 transitions, ")
    assert re.fullmatch(r"checkpoints: up to [\d.]+ kB of disk", disk)
    assert "Traceback" not in said.err


def test_evaluate_as_json_is_one_object(computing: Command, copied: Path) -> None:
    said = computing("evaluate", copied, "--episodes", 5, "--seed", 4, "--json", "--checkpoint", "last")
    assert said.err == ""
    assert said.out.count("\n") == 1
    found = json.loads(said.out)
    assert set(found) >= {"mean", "std", "interval", "returns", "episodes", "seed", "step", "run"}
    assert (found["run"], found["episodes"], found["seed"], found["step"]) == (str(copied), 5, 4, 300)
    assert len(found["returns"]) == 5
    assert found["mean"] == pytest.approx(sum(found["returns"]) / 5)
    low, high = found["interval"]
    assert low <= found["mean"] <= high
    assert computing("evaluate", copied.parent, "--episodes", 5, "--seed", 4, "--json", "--checkpoint", 300) == said


def test_runs_of_other_training_seeds_are_judged_on_other_episodes(computing: Command, copied: Path) -> None:
    def judged(seed: int) -> Any:
        return json.loads(computing("evaluate", copied, "--episodes", 20, "--seed", seed, "--json").out)

    first, config = judged(0), copied / "config.toml"
    for file in (copied / "checkpoints").rglob("digests-*.json"):  # which have a copy of the config
        file.unlink()
    config.write_text(config.read_text().replace("\nseed = 0\n", "\nseed = 1\n"))  # the same agent by another name
    second = judged(0)
    assert first["returns"] != second["returns"] != judged(1)["returns"]
    assert second == judged(0)
    assert (first["seed"], second["seed"]) == (0, 0)


def test_evaluate_with_random_actions(computing: Command, copied: Path) -> None:
    greedy, same, random = (
        json.loads(computing("evaluate", copied, "--episodes", 20, "--json", "--epsilon", epsilon).out)
        for epsilon in (0, 0, 1)
    )
    assert (greedy, greedy["epsilon"], random["epsilon"]) == (same, 0.0, 1.0)
    assert greedy["returns"] != random["returns"]
    said = computing("evaluate", copied, "--episodes", 3, "--epsilon", 0.05)
    assert said.code == 0
    assert re.match(r".* agent, of step \d+, epsilon 0\.05\n", said.out)


def test_evaluate_in_words(computing: Command, copied: Path) -> None:
    said = computing("evaluate", copied, "--episodes", 3)
    assert (said.code, said.err) == (0, "")
    assert re.fullmatch(
        rf"{re.escape(str(copied))}, best agent, of step (150|300)\n"
        r"mean return [\d.]+ over 3 episodes, (95% interval [\d.]+ to [\d.]+|all alike)\n"
        r"standard deviation [\d.]+, lowest [\d.]+, highest [\d.]+\n",
        said.out,
    )


def test_training_in_words_ends_with_what_to_try_next(computing: Command, tmp_path: Path) -> None:
    said = computing(*CARTPOLE, *TINY, "--eval-interval", 0, "--seeds", "3,5", "--run-dir", tmp_path / "my runs")
    assert said.code == 0, said.err
    first, second = (run.parent for run in sorted(tmp_path.rglob("run.json"), key=lambda f: f.parent.name[-1]))
    number = r"[\d.]+"
    results = [
        rf"{re.escape(str(path))}\n"
        rf"  seed {seed}: finished at step 300 after {number} s\n"
        rf"  best and last agent, of step 300, in fresh episodes: mean return {number} over 100 episodes, "
        rf"95% interval {number} to {number}\n"
        for path, seed in ((first, 3), (second, 5))
    ]
    interval = rf"\(95% interval -?{number} to {number}\)"
    together = rf"2 seeds, best agents: mean {number} {interval}, lowest {number}, highest {number}\n"
    following = re.escape(f"next: rlkit render '{second}'\n      rlkit plot '{first}' '{second}'\n")
    assert re.fullmatch("".join(results) + together + following, said.out), said.out
    assert said.err.startswith("preset: none, the defaults\nloop: compiled, ")
    assert " of disk for each seed\n" in said.err


def test_the_best_agent_and_the_last_are_told_side_by_side(computing: Command, tmp_path: Path) -> None:
    often = ("--eval-interval", 100, "--eval-episodes", 1, "--final-episodes", 3, "--seed", 2)
    said = computing(*CARTPOLE, *TINY, *often, "--run-dir", tmp_path)
    assert said.code == 0, said.err
    told = re.findall(r"  (best|last|best and last) agent, of step (\d+), in fresh .* over 3 episodes, ", said.out)
    assert told[-1][1] == "300"
    assert [name for name, _ in told] == (["best and last"] if len(told) == 1 else ["best", "last"])
    (kept,) = (json.loads(path.read_text()) for path in tmp_path.rglob("evaluation.json"))
    assert (kept["checkpoint"], kept["step"]) == ("best", int(told[0][1])), "it is the best agent's, for other commands"
    said = computing(*CARTPOLE, *TINY, "--final-episodes", 0, "--run-dir", tmp_path, "--json")
    assert (json.loads(said.out)["evaluation"], json.loads(said.out)["last"]) == (None, None)


def test_resuming_goes_on_to_more_steps(computing: Command, copied: Path) -> None:
    said = computing("train", "--resume", copied, "--steps", 350, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert (found["run"], found["status"], found["step"]) == (str(copied), "finished", 350)
    assert "resumed at step 300\n" in said.err
    assert RunDirectory(copied).config()["steps"] == 350


def test_list_as_json_is_one_object(rl: Command, copied: Path) -> None:
    said = rl("list", "--json", "--run-dir", copied.parent)
    assert (said.code, said.err, said.out.count("\n")) == (0, "", 1)
    found = json.loads(said.out)
    assert set(found) == {"agents", "solvers", "models", "datasets", "presets", "runs"}
    assert set(found["agents"]) >= {"dqn", "q-learning"}
    assert "CartPole-v1" in found["presets"]["dqn"]
    (row,) = found["runs"]
    assert row == {
        "run": str(copied), "agent": "dqn", "status": "finished", "env": "CartPole-v1", "seed": 0, "step": 300,
    }  # fmt: skip
    assert set(json.loads(rl("list", "envs", "--json").out)["envs"]) >= {"CartPole-v1", "FrozenLake-v1"}


def test_list_in_words(rl: Command, copied: Path) -> None:
    assert rl("list", "runs", "--run-dir", copied.parent) == (0, f"{copied}  finished at step 300\n", "")
    everything = rl("list").out
    assert re.match(r"agents:\n  dqn +Deep Q-network .*\n", everything)
    assert re.search(r"\nsolvers:\n  auto +The planner that fits", everything)
    assert re.search(r"\npresets:\n  dqn +Acrobot-v1, ALE, ALE-Breakout-v5, ALE-Pong-v5, CartPole-v1", everything)
    assert everything.endswith("runs: none\n")
    assert rl("list", "runs") == (0, "", "")


@pytest.mark.parametrize("columns", [80, 60])
def test_lists_stay_within_the_terminal(columns: int, rl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    create(Path("runs"), "dqn", "CartPole-v1", 0, {"env": "CartPole-v1"})
    create(Path("a folder whose name is long") / "runs", "dqn", "CartPole-v1", 0, {"env": "CartPole-v1"})
    for words in ((), ("presets",), ("solvers",), ("runs",)):
        assert max(map(len, rl("list", *words).out.splitlines())) <= columns
    path, status = rl("list", "runs", "--run-dir", "a folder whose name is long").out.splitlines()
    assert Path(path).is_dir(), "a path is never broken"
    assert status == "    created at step 0"
    assert squeezed("Deep Q-network (Mnih et al. 2015); the parts of Rainbow") in squeezed(rl("list", "agents").out)


def test_doctor_tells_versions_devices_and_parts(computing: Command) -> None:
    said = computing("doctor", "--json")
    assert (said.code, said.err, said.out.count("\n")) == (0, "", 1)
    found = json.loads(said.out)
    assert set(found) == {"versions", "platform", "cores", "devices", "optional", "ffmpeg", "display"}
    assert found["versions"]["rlkit"] == rlkit.__version__
    assert found["versions"]["gymnasium"] == gymnasium.__version__
    assert found["devices"]["physical"] == ["CPU:0"]
    assert found["display"] is False
    words = computing("doctor").out
    assert "TensorFlow sees: CPU:0\n" in words
    assert "no GPU: this TensorFlow was built with" in words


def test_stdout_of_a_real_process_is_one_object_and_stderr_is_empty(copied: Path) -> None:
    script = Path(sys.executable).with_name("rlkit")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "rlkit"]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    words = ["evaluate", str(copied), "--episodes", "2", "--json"]
    said = subprocess.run([*command, *words], capture_output=True, text=True, env=environment, check=True, timeout=120)
    assert json.loads(said.stdout)["episodes"] == 2
    assert said.stderr == ""


def test_a_mistake_in_a_real_process_is_one_sentence() -> None:
    command = [sys.executable, "-m", "rlkit", *CARTPOLE, "--gamma", "1.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert sentence(Said(done.returncode, done.stdout, done.stderr)).startswith("--gamma is 1.5")


@pytest.mark.parametrize("columns", [60, 80, 110])
def test_progress_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with ProgressObserver(150_000, label="seed 3: ") as progress:
        progress.evaluation(20_000, {"mean": -123.456}, [-123.456])
        progress.row(20_001, {"loss": 0.123456, "episode_return": -123.456, "epsilon": 0.123456}, 1.0)
    *_, last = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", terminal.getvalue()).rstrip().splitlines()
    assert len(last) <= columns
    assert last.startswith("seed 3: 20,001/150,000 steps ")
    assert "━━━━━" in last
    assert ("steps/s" in last) == (columns > 60)
    assert ("eval" in last, "loss" in last) == (columns > 100, False)
    assert "…" not in last


# ---- completion


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """Completes a line in a real bash that has read the script."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    folder = tmp_path_factory.mktemp("completion")
    script = folder / "rlkit.bash"
    made = [sys.executable, "-m", "rlkit", "completion", "bash"]
    script.write_text(subprocess.run(made, capture_output=True, text=True, check=True, timeout=60).stdout)
    program = folder / "rlkit"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rlkit "$@"\n')
    program.chmod(0o755)
    asked = f"""
PATH="{folder}:$PATH"
source "{script}"
COMP_LINE="$1"; COMP_POINT=${{#1}}; read -ra COMP_WORDS <<<"$1"
[[ "$1" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
registered=$(complete -p rlkit); registered=${{registered##*-F }}; registered=${{registered%% *}}
"$registered" rlkit "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

    def complete(line: str) -> list[str]:
        command = [bash, "--norc", "-c", asked, "bash", line]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert said.stderr == ""
        return said.stdout.split()

    return complete


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rlkit tr", ["train"]),
        ("rlkit train dq", ["dqn"]),
        ("rlkit train dqn --env CartP", ["CartPole-v1"]),
        ("rlkit train dqn --ga", ["--gamma"]),
        ("rlkit train dqn --loss ", ["huber", "squared"]),
        ("rlkit train dqn --env LunarLander-v3 --gr", ["--gradient-steps", "--gravity"]),
        ("rlkit train dqn --env Typo-v1 --ga", ["--gamma"]),
        ("rlkit train typo --ga", []),
        ("rlkit completion z", ["zsh"]),
    ],
)
def test_bash_completes(line: str, words: list[str], bash: Callable[[str], list[str]]) -> None:
    assert bash(line) == words


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_a_script(shell: str, rl: Command) -> None:
    said = rl("completion", shell)
    assert (said.code, said.err) == (0, "")
    assert f"_RLKIT_COMPLETE={shell}_complete" in said.out


def test_no_flag_of_a_command_is_ambiguous() -> None:
    """Each of an agent's flags is made once."""
    from rlkit.cli.train import agent_command

    command = agent_command("dqn", "LunarLander-v3")
    flags = [flag for o in command.params if isinstance(o, click.Option) for flag in (*o.opts, *o.secondary_opts)]
    assert len(flags) == len(set(flags))
    assert {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(TrainConfig)} - {"--env-args"} <= set(
        flags
    )
