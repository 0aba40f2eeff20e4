"""The trained models and labelled data that benchmarks measure on, which stay outside."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec.ir import DType, Value

__all__ = [
    "DATA",
    "LABELLED",
    "SHAPES",
    "UNLABELLED",
    "Labelled",
    "Unlabelled",
    "example_feeds",
    "loader",
    "sensible_feeds",
]

DATA = Path(
    os.environ.get("EDGEC_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
"""Folder with ``models/`` and ``load.py``; set EDGEC_DATA to use another."""

Array = NDArray[Any]
Samples = dict[str, Array]

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "espcn_x2": {"IteratorGetNext:0": (1, 1, 32, 32)},
    "ppocr_v2_cls": {"x": (1, 3, 48, 192)},
    "ppocrv4_det": {"x": (1, 3, 64, 64)},
    "silero_vad_16k_op15": {"input": (1, 512), "state": (2, 1, 128)},
    "silero_vad_op18_ifless": {"input": (1, 512)},
    "thai_attacut_c": {"input": (1, 20)},
    "minilm_l6_int8": dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), (1, 16)),
    "yunet_n_dynamic": {"input": (1, 3, 96, 96)},
}
"""Shapes of inputs that models leave open, by the name of the file."""


def example_feeds(inputs: Iterable[Value], seed: int = 0) -> dict[str, Array]:
    """Return inputs that make sense to most models: small numbers and indices, 16 kHz."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for value in inputs:
        shape, dtype = value.type.ints, value.type.dtype
        if value.name == "sr":
            found[value.name] = np.full(shape, 16000, np.int64)
        elif dtype.is_float:
            found[value.name] = np.asarray(rng.uniform(0, 1, shape)).astype(dtype.numpy)
        elif dtype is DType.BOOL:
            found[value.name] = np.ones(shape, bool)
        else:
            found[value.name] = rng.integers(0, 2, shape).astype(dtype.numpy)
    return found


def sensible_feeds(stem: str, inputs: Iterable[Value], seed: int = 0) -> dict[str, Array]:
    """Return inputs on which a model finds something, by the name of its file.

    A detector says next to nothing about noise, and nothing can be compared with that.
    """
    found = example_feeds(inputs, seed)
    for name, array in found.items():
        if array.ndim == 4 and array.dtype.kind == "f":
            found[name] = _scene(array, seed)
    if stem in _SCALES:
        found = {name: a * a.dtype.type(_SCALES[stem]) for name, a in found.items()}
    if stem.startswith("ppocr"):
        found = {name: _writing(a.shape, seed) for name, a in found.items()}
    return found


def _scene(noise: Array, seed: int) -> Array:
    """Return an image with bright and dark parts: deep networks see only the mean of noise."""
    rng = np.random.default_rng(seed)
    patches = rng.uniform(0, 1, [-(-n // 16) for n in noise.shape]).astype(noise.dtype)
    for axis, n in enumerate(noise.shape):
        patches = patches.repeat(16, axis).take(range(n), axis)
    mixed: Array = (noise + 3 * patches) / noise.dtype.type(4)
    return mixed


_SCALES = {"yunet_n_dynamic": 255}


def _writing(shape: tuple[int, ...], seed: int) -> Array:
    """Return images of black strokes in rows on white, as the PP-OCR models take them."""
    rng = np.random.default_rng(seed)
    height, width = shape[2:]
    page = np.ones((height, width), np.float32)
    for top in range(8, height - 8, 20):
        left = 6
        while left < width - 8:
            across, bar = int(rng.integers(3, 6)), top + int(rng.integers(0, 9))
            page[top : top + 10, left] = 0
            page[bar, left : left + across] = 0
            left += across + 2
    return np.broadcast_to((page - np.float32(0.485)) / np.float32(0.229), shape).copy()


def loader() -> ModuleType:
    """Return the module that reads the data sets."""
    spec = importlib.util.spec_from_file_location("edgec_data_load", DATA / "load.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{DATA} has no load.py; set EDGEC_DATA")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True, slots=True)
class Labelled:
    """A model with calibration and test samples.

    Parameters
    ----------
    split
        Returns calibration inputs, test inputs and test labels.
    points
        How far below float accuracy an int8 artifact may be, in percentage points.
    agreement
        Least top-1 agreement with float, where one is asked for.
    """

    file: str
    split: Callable[[], tuple[Array, Array, Array]]
    points: float
    agreement: float | None = None

    def samples(self) -> tuple[Samples, Samples]:
        """Return calibration and evaluation data for ``edgec.compile``."""
        calibration, test, labels = self.split()
        return {"input": calibration}, {"input": test, "labels": labels}


def _float(x: Array) -> Array:
    return x.astype(np.float32)


def _cifar_raw() -> tuple[Array, Array, Array]:
    load = loader()
    train, _ = load.cifar10("train")
    test, labels = load.cifar10("test")
    return _float(train[:200]), _float(test), labels


def _cifar_normalised() -> tuple[Array, Array, Array]:
    train, test, labels = _cifar_raw()
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    std = np.array([0.229, 0.224, 0.225], np.float32)
    nchw = [((x / 255 - mean) / std).transpose(0, 3, 1, 2) for x in (train, test)]
    return np.ascontiguousarray(nchw[0]), np.ascontiguousarray(nchw[1]), labels


def _keywords() -> tuple[Array, Array, Array]:
    x, labels = loader().keywords()
    chosen = np.arange(len(x)) % 10 == 0
    return x[chosen], x[~chosen], labels[~chosen]


def _imagenet(
    size: int, centre: float, scale: float, offset: int
) -> Callable[[], tuple[Array, Array, Array]]:
    def split() -> tuple[Array, Array, Array]:
        images, labels = loader().imagenet(size)
        x = ((_float(images) - np.float32(centre)) / np.float32(scale)).transpose(0, 3, 1, 2)
        chosen = np.arange(len(x)) % 10 == 0
        return np.ascontiguousarray(x[chosen]), x[~chosen], labels[~chosen] + offset

    return split


LABELLED: dict[str, Labelled] = {
    "resnet8": Labelled("mlperf_tiny/resnet8_cifar10.onnx", _cifar_raw, points=0.5),
    "kws_ds_cnn": Labelled("mlperf_tiny/kws_ds_cnn.onnx", _keywords, points=1.0),
    "resnet20": Labelled("cifar10/resnet20_cifar10.onnx", _cifar_normalised, points=0.7),
    "resnet56": Labelled("cifar10/resnet56_cifar10.onnx", _cifar_normalised, points=0.7),
    "efficientnet_lite0": Labelled(
        "imagenet/efficientnet_lite0.onnx",
        _imagenet(224, 127, 128, 0),
        points=1.0,
        agreement=0.975,
    ),
    "mobilenet_v2": Labelled(
        "imagenet/mobilenet_v2_10_224.onnx",
        _imagenet(224, 127.5, 127.5, 1),
        points=1.0,
        agreement=0.975,
    ),
    "mobilenet_v1_025": Labelled(
        "imagenet/mobilenet_v1_025_128.onnx", _imagenet(128, 127.5, 127.5, 1), points=1.5
    ),
}


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """A model with samples that float outputs judge.

    Parameters
    ----------
    split
        Returns calibration inputs and test inputs.
    measure
        What it is judged by: "agreement", "sqnr" or "psnr".
    """

    file: str
    input: str
    split: Callable[[], tuple[Array, Array]]
    measure: str


_MOST_IMAGES = 200
"""Test images of the models whose inputs and outputs are large."""


def _parts(x: Array, most: int | None = None) -> tuple[Array, Array]:
    """Return samples 0, 10, 20, ... and the others, or as many of these, evenly spread."""
    chosen = np.arange(len(x)) % 10 == 0
    others = x[~chosen]
    step = 1 if most is None else -(-len(others) // most)
    return np.ascontiguousarray(x[chosen]), np.ascontiguousarray(others[::step])


def _visual_wake_words() -> tuple[Array, Array]:
    return _parts(_float(loader().imagenet(96)[0]) / np.float32(255))


def _yolox() -> tuple[Array, Array]:
    images = loader().imagenet(416)[0].transpose(0, 3, 1, 2)
    calibration, test = _parts(images, _MOST_IMAGES)
    return _float(calibration), _float(test)


def _luma() -> tuple[Array, Array]:
    """Return luma in 0..1, of ITU-R BT.601."""
    images = loader().imagenet(128)[0]
    weights = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)
    return _parts((_float(images) @ weights)[:, None], _MOST_IMAGES)


def _palms() -> tuple[Array, Array]:
    """Return images in 0..1, as MediaPipe feeds its palm detector."""
    calibration, test = _parts(loader().imagenet(192)[0], _MOST_IMAGES)
    return _float(calibration) / np.float32(255), _float(test) / np.float32(255)


_PADDING = 256
_PART = 1024


def _magika() -> tuple[Array, Array]:
    """Return the files of this checkout as Magika's models of version 3 see them.

    The first and the last 1,024 bytes, without white space at the ends of the file, padded
    behind and before (google/magika, python/src/magika/magika.py).
    """
    root = Path(__file__).resolve().parents[1]
    folders = ("benchmarks", "docs", "edgec", "examples", "tests")
    files = [*root.glob("*.*"), *(f for name in folders for f in (root / name).rglob("*.*"))]
    plain = (f for f in files if f.is_file() and "__pycache__" not in f.parts)
    texts = [data for f in sorted(plain) if len(data := f.read_bytes()) >= 16]
    return _parts(np.stack([_ends(data) for data in texts]))


def _ends(data: bytes) -> Array:
    block = 4 * _PART
    first, last = data[:block].lstrip()[:_PART], data[-block:].rstrip()[-_PART:]
    found = np.full(2 * _PART, _PADDING, np.int32)
    found[: len(first)] = np.frombuffer(first, np.uint8)
    found[2 * _PART - len(last) :] = np.frombuffer(last, np.uint8)
    return found


UNLABELLED: dict[str, Unlabelled] = {
    "vww": Unlabelled(
        "mlperf_tiny/vww_mobilenetv1_025_96.onnx", "input", _visual_wake_words, "agreement"
    ),
    "yolox_nano": Unlabelled("vision/yolox_nano.onnx", "images", _yolox, "sqnr"),
    "espcn_x2": Unlabelled("vision/espcn_x2.onnx", "IteratorGetNext:0", _luma, "psnr"),
    "palm_detection_lite": Unlabelled(
        "vision/palm_detection_lite.onnx", "input_1", _palms, "sqnr"
    ),
    "magika": Unlabelled("text/magika.onnx", "bytes", _magika, "agreement"),
}
