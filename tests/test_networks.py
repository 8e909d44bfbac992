"""Q-networks: what they take, what they compute, and that their weights are a function of the seed."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf
from gymnasium import spaces

from rlkit.errors import UserError
from rlkit.networks.layers import PatchConv2D, narrow_product
from rlkit.networks.plain import plain
from rlkit.networks.q_networks import minatar_cnn, nature_cnn, q_network
from rlkit.spaces import observation_dtype

BOXES: dict[str, spaces.Box] = {
    "float32": spaces.Box(-1, 1, (4,), np.float32),
    "float64": spaces.Box(-1, 1, (4,), np.float64),
    "int64": spaces.Box(-3, 3, (4,), np.int64),
    "uint8": spaces.Box(0, 255, (4,), np.uint8),
    "scalar": spaces.Box(-1, 1, (), np.float32),
    "2-D": spaces.Box(-1, 1, (3, 5), np.float32),
    "2-D uint8": spaces.Box(0, 255, (3, 5), np.uint8),
}
SPACES: dict[str, gymnasium.Space[Any]] = {
    **BOXES,
    "discrete": spaces.Discrete(6),
    "from 3": spaces.Discrete(4, start=3),
}


def batch(space: gymnasium.Space[Any], size: int = 7) -> np.ndarray:
    space.seed(0)
    return np.stack([space.sample() for _ in range(size)]).astype(observation_dtype(space))


def dense(model: keras.Model) -> list[keras.layers.Dense]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_observations_of_each_space_give_a_value_an_action(space: gymnasium.Space[Any], dueling: bool) -> None:
    model = q_network(space, 3, hidden=(8,), dueling=dueling)
    values = model(batch(space))
    assert values.shape == (7, 3)
    assert values.dtype == "float32"
    assert np.isfinite(values).all()
    assert model.inputs[0].dtype == observation_dtype(space).name
    assert np.unique(values, axis=0).shape[0] > 1, "the values depend on the observation"


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("float32", "float32"),
        ("float64", "float32"),
        ("int64", "float32"),
        ("uint8", "uint8"),
        ("discrete", "int32"),
    ],
)
def test_observations_are_kept_as(name: str, dtype: str) -> None:
    assert observation_dtype(SPACES[name]) == np.dtype(dtype)


@pytest.mark.parametrize("name", BOXES)
def test_a_box_is_flattened_and_passes_dense_layers_with_relu(name: str) -> None:
    space = BOXES[name]
    model = q_network(space, 3, hidden=(8, 6), seed=1)
    observations = batch(space)
    x = observations.reshape(len(observations), -1).astype(np.float64)
    if space.dtype == np.uint8:
        x /= 255
    first, second, last = ([np.float64(w) for w in layer.get_weights()] for layer in dense(model))
    assert [layer.units for layer in dense(model)] == [8, 6, 3]
    for kernel, bias in (first, second):
        x = np.maximum(x @ kernel + bias, 0)
    np.testing.assert_allclose(model(observations), x @ last[0] + last[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("start", [0, 3, -2])
def test_a_discrete_observation_is_a_row_of_the_first_layer(start: int) -> None:
    # Without hidden layers Q is a table, one row a state.
    model = q_network(spaces.Discrete(4, start=start), 3, hidden=())
    (table,) = dense(model)
    kernel = np.arange(12, dtype=np.float32).reshape(4, 3)
    table.set_weights([kernel, np.zeros(3, np.float32)])
    np.testing.assert_array_equal(model(np.arange(start, start + 4, dtype=np.int32)), kernel)


@pytest.mark.parametrize("dueling", [False, True])
def test_without_hidden_layers_the_values_are_linear(dueling: bool) -> None:
    model = q_network(BOXES["float32"], 3, hidden=(), dueling=dueling)
    assert len(dense(model)) == (2 if dueling else 1)
    a, b = batch(BOXES["float32"], 2)
    q_a, q_b, q_mean = np.asarray(model(np.stack([a, b, (a + b) / 2])))
    np.testing.assert_allclose(q_mean, (q_a + q_b) / 2, atol=1e-6)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
def test_dueling_adds_the_value_to_advantages_around_their_mean(hidden: tuple[int, ...]) -> None:
    model = q_network(BOXES["float32"], 3, hidden=hidden, dueling=True, seed=2)
    streams = keras.Model(model.input, [model.get_layer(name).output for name in ("value", "advantages")])
    observations = batch(BOXES["float32"])
    value, advantages = (np.asarray(x, np.float64) for x in streams(observations))
    assert (value.shape, advantages.shape) == ((7, 1), (7, 3))
    # Wang et al. 2016, equation 9, action by action.
    expected = [[v + a[i] - sum(a) / 3 for i in range(3)] for (v,), a in zip(value, advantages, strict=True)]
    values = np.asarray(model(observations))
    np.testing.assert_allclose(values, expected, atol=1e-6)
    np.testing.assert_allclose(values.mean(axis=1), value[:, 0], atol=1e-6)  # so V is the mean of Q
    if hidden:
        assert model.get_layer("value_hidden").units == model.get_layer("advantage_hidden").units == hidden[-1]


@pytest.mark.parametrize("dueling", [False, True])
def test_weights_are_a_function_of_the_seed(dueling: bool) -> None:
    def weights(seed: int) -> list[np.ndarray]:
        keras.utils.set_random_seed(seed % 1000 + 1)  # what others have drawn does not matter
        return [w.numpy() for w in q_network(BOXES["float32"], 3, dueling=dueling, seed=seed).weights]

    one, again = weights(5), weights(5)
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a, b)
    for other in (weights(6), weights(0), weights(64 * (2**31 - 1))):
        kernels = [(a, b) for a, b in zip(one, other, strict=True) if a.ndim == 2]
        assert len(kernels) == (5 if dueling else 3)
        for a, b in kernels:
            assert not np.array_equal(a, b)


@pytest.mark.parametrize("dueling", [False, True])
def test_no_two_layers_begin_alike(dueling: bool) -> None:
    model = q_network(spaces.Box(-1, 1, (8,), np.float32), 8, hidden=(8, 8, 8), dueling=dueling)
    kernels = [layer.get_weights()[0] for layer in dense(model)]
    square = [k for k in kernels if k.shape == (8, 8)]
    assert len(square) == (5 if dueling else 4)
    for a, b in itertools.combinations(square, 2):
        assert not np.array_equal(a, b)
    for kernel in kernels:
        # Glorot and Bengio 2010, equation 16: uniform within sqrt(6 / (inputs + outputs)).
        limit = np.sqrt(6 / sum(kernel.shape))
        assert 0.7 * limit < np.abs(kernel).max() <= limit  # 0.7^8 = 6% for the 8 numbers of the value's kernel


UNSUPPORTED: dict[str, gymnasium.Space[Any]] = {
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "MultiBinary": spaces.MultiBinary(3),
    "Dict": spaces.Dict(a=spaces.Discrete(2)),
    "Tuple": spaces.Tuple([spaces.Discrete(2)]),
    "Text": spaces.Text(5),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_other_spaces_are_refused_with_what_works(name: str) -> None:
    with pytest.raises(UserError) as caught:
        q_network(UNSUPPORTED[name], 2)
    message = str(caught.value)
    assert message.startswith(f"the observation space {name}")
    assert "Box and Discrete are" in message
    assert "FlattenObservation" in message


# Keras reads its variables by NumPy's older array protocol when it saves.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("name", ["float32", "2-D uint8", "from 3"])
def test_a_saved_network_comes_back(name: str, dueling: bool, tmp_path: Path) -> None:
    model = q_network(SPACES[name], 3, hidden=(8,), dueling=dueling, seed=3)
    model.save(tmp_path / "q.keras")
    loaded = keras.saving.load_model(tmp_path / "q.keras")
    observations = batch(SPACES[name])
    np.testing.assert_array_equal(loaded(observations), model(observations))


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_a_narrow_product_and_its_gradient_are_those_of_the_matrix_product(columns: int) -> None:
    rng = np.random.default_rng(columns)
    x, w, weight = (tf.constant(rng.normal(size=size)) for size in ([5, 7], [7, columns], [5, columns]))
    found = []
    for product in (narrow_product, tf.matmul):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            out = product(x, w)
            loss = tf.reduce_sum(weight * out)
        found.append([out, *tape.gradient(loss, [x, w])])
    for ours, matrix in zip(*found, strict=True):
        np.testing.assert_allclose(ours, matrix, rtol=1e-12)


@pytest.mark.parametrize("sides", [(3, 3), (2, 1)])
def test_a_product_of_patches_and_its_gradient_are_those_of_the_convolution(sides: tuple[int, int]) -> None:
    rng = np.random.default_rng(sides[0])
    x, weight = (
        tf.constant(rng.normal(size=[5, 6, 4, 3])),
        tf.constant(rng.normal(size=[5, 7 - sides[0], 5 - sides[1], 8])),
    )
    found = []
    for layer in (PatchConv2D, keras.layers.Conv2D):
        made = layer(
            8, sides, activation="relu", dtype="float64", kernel_initializer=keras.initializers.GlorotUniform(1)
        )
        made.build(x.shape)
        made.bias.assign(np.linspace(-1, 1, 8))
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = made(x)
            loss = tf.reduce_sum(weight * out)
        found.append([out, *tape.gradient(loss, [x, *(v.value for v in made.trainable_variables)])])
    for ours, keras_own in zip(*found, strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_a_recurrent_network_is_one_step_of_a_memory(space: gymnasium.Space[Any], dueling: bool) -> None:
    model = q_network(space, 3, hidden=(8,), dueling=dueling, lstm_units=5)
    seen, nothing = tf.constant(batch(space)), tf.zeros((7, 10))
    values, memory = model([seen, nothing])
    assert values.shape == (7, 3)
    assert memory.shape == (7, 10)
    later, _ = model([seen, memory])
    assert (np.abs((later - values).numpy()).max(axis=1) > 0).all(), "what is remembered matters"
    h, c = np.split(memory.numpy(), 2, axis=1)
    assert (np.abs(h) <= np.abs(np.tanh(c))).all(), "h is a share of tanh c"


def test_a_recurrent_networks_weights_are_a_function_of_the_seed() -> None:
    def weights(seed: int) -> list[np.ndarray]:
        return [w.numpy() for w in q_network(BOXES["float32"], 2, lstm_units=6, seed=seed).trainable_variables]

    for a, b, c in zip(weights(1), weights(1), weights(2), strict=True):
        assert (a == b).all()
        assert a.ndim == 1 or (a != c).any()
    kernel, recurrent, bias = weights(1)[:3]
    assert kernel.shape == (4, 24)
    assert np.abs(kernel).max() <= np.sqrt(3 / 4)  # LeCun's uniform bound for four inputs
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(6), atol=1e-5)
    assert bias.tolist() == [0] * 6 + [1] * 6 + [0] * 12  # the forget gates begin open (Jozefowicz et al. 2015)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_a_recurrent_network_is_saved_and_loaded_by_keras(tmp_path: Path) -> None:
    model = q_network(BOXES["float32"], 3, hidden=(8,), dueling=True, lstm_units=5)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    inputs = [tf.constant(batch(BOXES["float32"])), tf.fill((7, 10), 0.3)]
    for a, b in zip(model(inputs), again(inputs), strict=True):
        np.testing.assert_array_equal(a, b)


NETWORKS: dict[str, tuple[Callable[..., keras.Model], gymnasium.Space[Any], dict[str, Any]]] = {
    "mlp": (q_network, BOXES["uint8"], {"hidden": (32, 16)}),
    "one-hot": (q_network, SPACES["discrete"], {"hidden": (32,)}),
    "layer norm": (q_network, BOXES["float32"], {"hidden": (32,), "layer_norm": True}),
    "nature-cnn": (nature_cnn, spaces.Box(0, 255, (4, 40, 40), np.uint8), {"hidden": (32,)}),
    "minatar-cnn": (minatar_cnn, spaces.Box(0, 1, (10, 10, 4), np.bool_), {"hidden": (32,)}),
}


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_is_inside_alone_and_takes_the_weights_of_float32(name: str, dueling: bool) -> None:
    make, space, fields = NETWORKS[name]
    whole, mixed = (
        make(space, 3, **fields, dueling=dueling, precision=precision, seed=4)
        for precision in ("float32", "mixed_bfloat16")
    )
    for a, b in zip(whole.weights, mixed.weights, strict=True):
        assert a.path == b.path
        assert b.dtype == "float32"
        np.testing.assert_array_equal(a, b)
    inside = [layer for layer in mixed.layers if isinstance(layer, keras.layers.Dense | keras.layers.Conv2D)]
    last = ("value", "advantages") if dueling else ("q_values",)
    assert {layer.compute_dtype for layer in inside if layer.name not in last} == {"bfloat16"}
    assert {mixed.get_layer(each).compute_dtype for each in (*last, "q_values")} == {"float32"}
    observations = batch(space)
    exact, rounded = (np.asarray(model(observations)) for model in (whole, mixed))
    assert rounded.dtype == np.float32
    scale = np.abs(exact).max()
    # A bfloat16 keeps 8 bits: 2^-9 a rounding, of which a few add up.
    np.testing.assert_allclose(rounded, exact, atol=0.02 * scale)
    assert np.abs(rounded - exact).max() > 1e-5 * scale
    mixed.set_weights([np.ones_like(w) for w in whole.get_weights()])
    whole.set_weights(mixed.get_weights())
    np.testing.assert_allclose(whole(observations), mixed(observations), rtol=0.02)


def test_the_gradients_of_bfloat16_are_float32_and_near() -> None:
    found = []
    for precision in ("float32", "mixed_bfloat16"):
        model = q_network(BOXES["float32"], 3, hidden=(32, 16), precision=precision, seed=4)
        weights = [v.value for v in model.trainable_variables]
        with tf.GradientTape() as tape:
            values, _ = model.stateless_call(weights, [], tf.constant(batch(BOXES["float32"])))
            loss = tf.reduce_sum(values**2)
        found.append([np.asarray(g) for g in tape.gradient(loss, weights)])
    for exact, rounded in zip(*found, strict=True):
        assert rounded.dtype == np.float32
        np.testing.assert_allclose(rounded, exact, atol=0.03 * np.abs(exact).max())


def test_a_file_of_a_network_needs_none_of_the_layers_of_our_own() -> None:
    for make, space, fields in NETWORKS.values():
        network = make(space, 3, **fields, dueling=True, seed=4)
        copy, observations = plain(network), batch(space)
        assert {type(layer).__module__.partition(".")[0] for layer in copy.layers} == {"keras"}
        np.testing.assert_allclose(copy(observations), network(observations), rtol=1e-5, atol=1e-6)


def test_a_network_that_was_saved_when_the_package_was_a_module_still_loads(tmp_path: Path) -> None:
    network = q_network(SPACES["from 3"], 3, hidden=(8,), dueling=True, seed=4)
    network.save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                assert content.count(b'"rlkit.networks.layers"') >= 2
            old.writestr(name, content.replace(b'"rlkit.networks.layers"', b'"rlkit.networks"'))
    code = (
        "import sys, keras, numpy as np\nimport rlkit.networks\n"
        "print(*keras.saving.load_model(sys.argv[1])(np.array([4], np.int32)).numpy()[0])"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "old.keras"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    expected = network(np.array([4], np.int32)).numpy()[0]
    np.testing.assert_allclose([float(value) for value in outcome.stdout.split()], expected, rtol=1e-6)
