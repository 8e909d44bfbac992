"""The studies of the course notes' chapters end in the numbers that they are known for."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rlkit.experiments.studies import (
    checkpoints,
    cnn,
    custom_parts,
    linear_regression,
    mlp,
    mobilenet,
    tensor_arrays,
    tensorboard,
    tensors_and_gradients,
    text,
    tf_data,
    tf_function,
    tfrecord_files,
)

ROOT = Path(__file__).parents[1]
TABLE = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
OTHERS = {"number_triangle", "sutton_barto", "triangle_recurrences", "triangle_trials"}


def test_the_derivatives_are_the_golden_ones() -> None:
    found = tensors_and_gradients.main()
    assert found == (6.0, 125.0, [70.0, 100.0], 30.0, 12.0)


def test_every_way_of_descending_ends_at_the_golden_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = linear_regression.main()
    for name in ("NumPy, by hand", "TensorFlow's tape", "rlkit fit linear"):
        a, b = found[name]
        assert a == pytest.approx(0.97637, abs=6e-6), name
        assert b == pytest.approx(0.057565, abs=2e-6), name
    # By hand: x = 0, 1/4, ..., 1 and y = 0, 4/11, 6/11, 9/11, 1, so that a = sum (x - 1/2) y / (5/8).
    assert found["least squares"] == pytest.approx((54 / 55, 3 / 55))
    assert "a = 0.97637  b = 0.057565" in capsys.readouterr().out


def test_two_rows_end_at_the_golden_kernel_and_bias() -> None:
    kernel, bias = linear_regression.two_rows()
    assert kernel == pytest.approx([0.4078, 1.1911, 1.9743], abs=5e-5)
    assert bias == pytest.approx(0.7832, abs=5e-5)


def test_styles_and_loops_of_an_mlp_agree() -> None:
    found = mlp.main(epochs=1)
    assert found.pop("difference") < 1e-5
    assert len(set(found.values())) == 1
    assert len(found) == 5


def test_a_convolution_by_hand_is_keras_own() -> None:
    # An edge of height 1 between columns 3 and 4: Sobel's kernel sums 1 + 2 + 1 where it lies across it.
    image = np.zeros((5, 5))
    image[:, 2:] = 1.0
    assert cnn.convolved(image, cnn.EDGES).tolist() == [[4.0, 4.0, 0.0]] * 3
    assert cnn.pooled(np.arange(16.0).reshape(4, 4)).tolist() == [[5.0, 7.0], [13.0, 15.0]]
    found = cnn.main(epochs=3)
    assert found["convolution"] == pytest.approx(0, abs=1e-5)
    assert found["pooling"] == pytest.approx(0, abs=1e-5)
    assert found["accuracy"] > 0.6


def test_a_mobilenet_hands_its_weights_on() -> None:
    found = mobilenet.main(epochs=1)
    assert found["same"] == 1.0
    assert found["learned"] == 1280 * 5 + 5


def test_a_character_model_learns_and_writes(capsys: pytest.CaptureFixture[str]) -> None:
    found = text.main(steps=150)
    assert found["after"] < 2 < found["before"]
    said = capsys.readouterr().out
    assert re.findall(r"temperature ([\d.]+)", said) == ["0.2", "0.5", "1", "1.2"]


def test_own_parts_are_keras_own() -> None:
    found = custom_parts.main()
    assert found["weights"] < 1e-6
    assert found["accuracy"] == 0


def test_checkpoints_restore_only_what_is_built() -> None:
    found = checkpoints.main()
    assert found == {"built first": True, "restored before it is built": False, "three kept": True, "to the bit": True}


def test_tensorboard_has_scalars_a_graph_and_a_profile() -> None:
    found = tensorboard.main()
    assert (found["graph"], found["profile"], found["train/loss"], found["evaluate/accuracy"]) == (1, 1, 8, 4)


def test_pipelines_are_functions_of_seed_and_step(tmp_path: Path) -> None:
    assert all(tf_data.main(tmp_path / "digits.png").values())
    assert (tmp_path / "digits.png").stat().st_size > 1_000


def test_records_and_files_teach_the_same() -> None:
    found = tfrecord_files.main(images=30)
    assert found == {"records": 30, "same": True, "damaged": 15}


def test_functions_are_traced_once_for_a_signature() -> None:
    found = tf_function.main(calls=2)
    counts = list(found.values())[:4]
    assert counts == [5, 1, 2, 1]
    assert found["steps from 97"] == 118  # a known length of Collatz' sequence


def test_returns_and_their_derivative_are_those_worked_out_by_hand() -> None:
    found = tensor_arrays.main()
    assert found["difference"] < 1e-6
    assert found["first"] == pytest.approx(1 - 2 * 0.81 + 3 * 0.729 + 5 * 0.6561)
    assert found["slope"] == pytest.approx(18.27)


def test_a_cpu_is_split_in_two() -> None:
    code = "import json; from rlkit.experiments.studies import devices; print(json.dumps(devices.main()))"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    found = json.loads(said.splitlines()[-1])
    assert found["logical"] == ["/device:CPU:0", "/device:CPU:1"]
    assert [place[-5:] for place in found["places"]] == ["CPU:0", "CPU:1"]


def test_the_table_names_every_study_and_nothing_else() -> None:
    folder = ROOT / "experiments" / "studies"
    there = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    named = set(re.findall(r"`studies\.(\w+)`", TABLE))
    assert named | OTHERS >= there
    assert named <= there
    for name in named:
        assert importlib.import_module(f"rlkit.experiments.studies.{name}").__doc__
