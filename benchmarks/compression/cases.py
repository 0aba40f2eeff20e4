"""The models and samples that compression is judged on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from benchmarks.models import DATA, Array, loader
from edgec.evaluate import Evaluator
from edgec.frontend import load
from edgec.ir import Graph
from edgec.passes import simplify

__all__ = ["CASES", "Case", "Paired", "case_named", "paired", "predicted"]

_CALIBRATION = 512


@dataclass(frozen=True)
class Case:
    """A model with its samples.

    Parameters
    ----------
    graph
        Simplified, with a batch of one.
    calibration
        Without labels: ``[N, …]``.
    """

    name: str
    file: str
    graph: Graph
    calibration: Array
    test: Array
    labels: Array

    @property
    def feeds(self) -> list[dict[str, Array]]:
        """The calibration samples, one array for the input each."""
        name = self.graph.inputs[0].name
        return [{name: x[None]} for x in self.calibration]

    @cached_property
    def classes(self) -> Array:
        """What the float model predicts for the test samples."""
        return predicted(self.graph, self.test)


def case_named(name: str, samples: int | None = None) -> Case:
    """Return a model with 512 calibration samples, and all test samples or the first so many.

    Those of small images are spread over the training set. Of sets that have none every
    fourth (images) or fifth (keywords) calibrates, and the others are scored.
    """
    file, split = CASES[name]
    calibration, test, labels = (np.ascontiguousarray(a) for a in split())
    path = DATA / "models" / file
    (value,) = load(path).graph.inputs
    graph = load(path, {value.name: (1, *test.shape[1:])}).graph
    return Case(name, file, simplify(graph)[0], calibration, test[:samples], labels[:samples])


def predicted(graph: Graph, samples: Array) -> Array:
    """Return the class that a graph predicts for each sample."""
    evaluator, name = Evaluator(graph, optimize=True), graph.inputs[0].name
    output = graph.outputs[0].name

    def one(x: Array) -> int:
        return int(evaluator.run({name: np.ascontiguousarray(x[None])})[output].argmax())

    with ThreadPoolExecutor(2) as pool:
        return np.array(list(pool.map(one, samples)))


@dataclass(frozen=True)
class Paired:
    """How two lists of predictions for the same samples differ, in points of accuracy.

    Parameters
    ----------
    lost, gained
        Samples that only the first, or only the second, has right.
    """

    before: float
    after: float
    lost: int
    gained: int
    count: int

    @property
    def drop(self) -> float:
        """Points that the second is below the first."""
        return 100 * (self.lost - self.gained) / self.count

    @property
    def error(self) -> float:
        """One standard error of that."""
        both, net = self.lost + self.gained, self.lost - self.gained
        return 100 * float(np.sqrt(max(both - net**2 / self.count, 0))) / self.count

    def __str__(self) -> str:
        return (
            f"{self.after:.2f} of {self.before:.2f}: {self.drop:+.2f} below "
            f"(-{self.lost} +{self.gained} of {self.count}, 95 % +- {1.96 * self.error:.2f})"
        )


def paired(before: Array, after: Array, labels: Array) -> Paired:
    """Compare two lists of predictions."""
    first, second = before == labels, after == labels
    lost, gained = int((first & ~second).sum()), int((second & ~first).sum())
    return Paired(
        100 * float(first.mean()), 100 * float(second.mean()), lost, gained, len(labels)
    )


Split = Callable[[], tuple[Array, Array, Array]]


def _cifar(*, normalised: bool) -> tuple[Array, Array, Array]:
    train, _ = loader().cifar10("train")
    test, labels = loader().cifar10("test")
    chosen = np.linspace(0, len(train) - 1, _CALIBRATION).astype(int)
    parts = [a.astype(np.float32) for a in (train[chosen], test)]
    if normalised:
        mean = np.array([0.485, 0.456, 0.406], np.float32)
        std = np.array([0.229, 0.224, 0.225], np.float32)
        parts = [((x / 255 - mean) / std).transpose(0, 3, 1, 2) for x in parts]
    return parts[0], parts[1], labels


def _mnist() -> tuple[Array, Array, Array]:
    train, _ = loader().mnist("train")
    test, labels = loader().mnist("test")
    chosen = np.linspace(0, len(train) - 1, _CALIBRATION).astype(int)
    first, second = (
        a.astype(np.float32).reshape(-1, 1, 28, 28) / np.float32(255)
        for a in (train[chosen], test)
    )
    return first, second, labels


def _apart(data: tuple[Array, Array], step: int) -> tuple[Array, Array, Array]:
    x, labels = data
    chosen = np.arange(len(x)) % step == 0
    return x[chosen], x[~chosen], labels[~chosen]


def _keywords() -> tuple[Array, Array, Array]:
    return _apart(loader().keywords(), step=5)


def _imagenet(size: int, centre: float, scale: float, offset: int) -> Split:
    def split() -> tuple[Array, Array, Array]:
        images, labels = loader().imagenet(size)
        x = (images.astype(np.float32) - np.float32(centre)) / np.float32(scale)
        return _apart((x.transpose(0, 3, 1, 2), labels + offset), step=4)

    return split


CASES: dict[str, tuple[str, Split]] = {
    "resnet8": ("mlperf_tiny/resnet8_cifar10.onnx", partial(_cifar, normalised=False)),
    "resnet20": ("cifar10/resnet20_cifar10.onnx", partial(_cifar, normalised=True)),
    "resnet56": ("cifar10/resnet56_cifar10.onnx", partial(_cifar, normalised=True)),
    "lenet5": ("mnist/lenet5_mnist.onnx", _mnist),
    "lenet_300_100": ("mnist/lenet_300_100_mnist.onnx", _mnist),
    "kws_ds_cnn": ("mlperf_tiny/kws_ds_cnn.onnx", _keywords),
    "efficientnet_lite0": (
        "imagenet/efficientnet_lite0.onnx",
        _imagenet(224, 127, 128, 0),
    ),
    "mobilenet_v2": (
        "imagenet/mobilenet_v2_10_224.onnx",
        _imagenet(224, 127.5, 127.5, 1),
    ),
    "mobilenet_v1_025": (
        "imagenet/mobilenet_v1_025_128.onnx",
        _imagenet(128, 127.5, 127.5, 1),
    ),
}
"""The file and the samples of each model."""
