"""The fields of a supervised run, apart from the models so that ``--help`` needs no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from rlkit.config import Config, option
from rlkit.errors import UserError, unknown


@dataclass(frozen=True, kw_only=True)
class FitConfig(Config):
    """What every supervised run has. A step is an update on one batch."""

    data: str = option("", "Data set to learn from; rlkit list datasets names them.", group="data")
    data_file: str = option("", "File that the data are in, for a data set that is read from one.", group="data")
    data_dir: str = option("", "Folder that the data are in, for a data set that is read from one.", group="data")
    labels: str = option("", "CSV file of image and label, for a folder without a folder a class.", group="data")
    target: str = option("", "Column of a CSV file to predict.  Empty: the last.", group="data")
    task: Literal["auto", "classification", "regression"] = option(
        "auto", "What a CSV file's target is: auto takes text and whole numbers for classes.", group="data"
    )
    holdout: float = option(
        0.2, "Share held out to evaluate on, where the data are not split already.", low=0, high=0.9, group="data"
    )
    image_size: int = option(
        0, "Height and width that images from files get, pixels; 0: the model's own.", low=0, high=4096, group="data"
    )
    on_error: Literal["stop", "skip"] = option(
        "stop", "What to do about a damaged image or record, or a row with a wrong value.", group="data"
    )
    batch_size: int = option(50, "Examples an update (B).", low=1, group="training")
    epochs: int = option(5, "Times that every example is learned from; steps, where given, count.", low=1)
    steps: int = option(0, "Updates to train for; 0: as epochs says.", low=0)
    loop: Literal["compiled", "eager", "keras"] = option(
        "compiled", "What trains: rlkit's compiled step, the same step uncompiled, or Keras' fit."
    )
    patience: int = option(0, "Stop after this many evaluations that are no better than the best; 0: never.", low=0)
    target_accuracy: float | None = option(None, "Stop once an evaluation's accuracy reaches this.", low=0, high=1)
    log_interval: int = option(100, "Updates between two rows of metrics.csv.", low=1, group="logging")
    eval_interval: int = option(
        0,
        "Updates between evaluations; 0: after epochs, of more than 20 those log_interval apart.",
        low=0,
        group="logging",
    )
    checkpoint_interval: int = option(
        0, "Updates between checkpoints; 0: as evaluations by default.", low=0, group="logging"
    )
    style: Literal["functional", "sequential", "subclass"] = option(
        "functional", "Which of Keras' styles builds the model; all make the same one.", group="model"
    )
    optimizer: Literal["adam", "sgd", "rmsprop"] = option("adam", "How gradients become updates.")
    learning_rate: float = option(1e-3, "Step size at the start.", above=0)
    learning_rate_end: float | None = option(
        None, "Step size from learning_rate_duration on; none: as at the start.", low=0
    )
    learning_rate_duration: int = option(1_000, "Updates of the cosine to learning_rate_end.", low=1)
    max_gradient_norm: float = option(0.0, "Clip the gradient's norm to this; 0: never.", low=0)
    shuffle: int = option(
        10_000, "Examples that a random order is drawn from; 0: the data's order.", low=0, group="pipeline"
    )
    parallel: bool = option(True, "Read and decode several examples at once.", group="pipeline")
    prefetch: bool = option(True, "Prepare batches while the model learns.", group="pipeline")
    cache: Literal["none", "memory", "disk"] = option(
        "none", "Keep decoded examples, in memory or in a temporary file.", group="pipeline"
    )
    rotation: float = option(0.0, "Turn images by up to this, degrees.", low=0, high=180, group="augmentation")
    shift: float = option(0.0, "Move images by up to this share of their size.", low=0, high=1, group="augmentation")
    zoom: float = option(0.0, "Scale images by up to this share.", low=0, high=0.9, group="augmentation")
    flip: bool = option(False, "Mirror every other image.", group="augmentation")
    brightness: float = option(0.0, "Brighten or darken by up to this.", low=0, high=1, group="augmentation")
    threads: int = option(0, "Threads of one TensorFlow operation; 0: TensorFlow's choice.", low=0, group="device")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loop == "keras" and self.max_gradient_norm:
            raise UserError("max_gradient_norm is for rlkit's own loops: with loop keras it must be 0")


@dataclass(frozen=True, kw_only=True)
class LinearConfig(FitConfig):
    """A linear layer: linear regression, or logistic regression of classes."""

    initial: Literal["zeros", "random"] = option("zeros", "The weights at the start.", group="model")


@dataclass(frozen=True, kw_only=True)
class MLPConfig(FitConfig):
    """Dense layers with ReLU."""

    hidden: tuple[int, ...] = option((100,), "Units of the hidden layers.", low=1, group="model")
    dropout: float = option(0.0, "Share of hidden units left out of an update.", low=0, high=0.9, group="model")


@dataclass(frozen=True, kw_only=True)
class CNNConfig(FitConfig):
    """Blocks of a convolution with ReLU and a pooling by 2, then dense layers.

    The defaults are LeCun et al. 1998's shape with the widths of later tutorials.
    """

    filters: tuple[int, ...] = option((32, 64), "Filters of each block.", low=1, group="model")
    kernel_size: int = option(5, "Height and width of the convolutions.", low=1, high=31, group="model")
    hidden: tuple[int, ...] = option((1024,), "Units of the dense layers.", low=1, group="model")
    dropout: float = option(0.0, "Share of dense units left out of an update.", low=0, high=0.9, group="model")
    jit: bool = option(False, "Compile with XLA, whose convolutions are slower on CPUs.", group="device")


@dataclass(frozen=True, kw_only=True)
class MobileNetConfig(FitConfig):
    """Keras' MobileNetV2 (Sandler et al. 2018) for any number of classes."""

    style: Literal["functional"] = option("functional", "Keras builds it so.", group="model")
    width: float = option(1.0, "Share of each layer's filters (alpha).", above=0, high=4, group="model")
    weights: str = option(
        "random", "Weights at the start: random, imagenet (downloaded), or a .weights.h5 file.", group="model"
    )
    train_base: bool = option(True, "Learn all layers, not the classes' alone.", group="model")
    batch_momentum: float = option(
        0.9,
        "Share that batch normalization keeps of its statistics an update; Keras' 0.999 needs thousands of updates.",
        low=0,
        high=1,
        group="model",
    )
    jit: bool = option(False, "Compile with XLA, whose convolutions are slower on CPUs.", group="device")


@dataclass(frozen=True, kw_only=True)
class LSTMConfig(FitConfig):
    """A model of characters: one-hot, LSTM, dense (Hochreiter and Schmidhuber 1997; Graves 2013)."""

    units: int = option(256, "Units of the LSTM.", low=1, group="model")
    dropout: float = option(0.0, "Share of the LSTM's outputs left out of an update.", low=0, high=0.9, group="model")
    lowercase: bool = option(False, "Make all letters small.", group="data")
    length: int = option(40, "Characters of a sequence (T).", low=1, group="data")
    steps: int = option(1_000, "Updates to train for; 0: as epochs says.", low=0)
    holdout: float = option(0.1, "Share of the text, its end, to evaluate on.", low=0, high=0.9, group="data")
    shuffle: int = option(
        1_000_000, "Places that a random order is drawn from; 0: the text's order.", low=0, group="pipeline"
    )


class Entry(NamedTuple):
    """A model's config, and a sentence on it."""

    config: type[FitConfig]
    summary: str


MODELS = {
    "linear": Entry(LinearConfig, "A linear layer: linear regression, or logistic regression of classes."),
    "mlp": Entry(MLPConfig, "Dense layers with ReLU."),
    "cnn": Entry(CNNConfig, "Blocks of convolution and pooling, then dense layers."),
    "mobilenet": Entry(MobileNetConfig, "MobileNetV2 (Sandler et al. 2018), for images of any size and classes."),
    "lstm": Entry(LSTMConfig, "A character model of text, from which rlkit generate writes."),
}


def config_class(model: str) -> type[FitConfig]:
    """The config of a model; UserError with the nearest names where there is none."""
    if not isinstance(model, str):
        raise unknown("model", model, MODELS)
    if model not in MODELS:
        raise unknown("model", model, MODELS)
    return MODELS[model].config


DATA = {
    "mnist": "Handwritten digits, 28x28 (LeCun et al. 1998): Keras' copy, --data-file or --data-dir.",
    "digits": "Handwritten digits, 8x8: 1,797 real ones that scikit-learn carries.",
    "flowers": "Photographs of five kinds of flowers: TensorFlow Datasets' tf_flowers, or --data-dir.",
    "cats-vs-dogs": "Photographs of cats and dogs: --data-dir, with the folders train and test in it.",
    "images": "Any images: --data-dir, a folder a class, or with --labels.",
    "tfrecord": "What rlkit tfrecord write wrote: --data-file.",
    "shapes": "Circles, squares and triangles: 1,500 drawn images.",
    "house-prices": "Prices of five years, years and prices scaled to between 0 and 1.",
    "csv": "A table of numbers with a --target column: --data-file.",
    "text": "Characters of a text: --data-file.",
}
"""Data sets and a sentence on each; rlkit/supervised/datasets.py loads them."""
