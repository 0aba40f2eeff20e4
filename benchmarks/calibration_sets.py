"""Wrong calibration sets of the labelled models, and what is said of them.

From the root of the checkout: ``python -m benchmarks.calibration_sets [MODEL ...]``. The right
samples, 32 and 100 of them, must lead to no warning, and each wrong set to the one it deserves;
a line ends with FAIL, and the exit code is 1, where that does not hold.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.models import DATA, Array, loader
from edgec.compiler import CompileOptions
from edgec.errors import DataError
from edgec.preparation import calibration_report

__all__ = ["MODELS", "WRONG", "Model", "kinds", "right", "wrong"]

_COUNT = 134
"""Samples to give so that 100 are left to calibrate on when a quarter is held out."""


@dataclass(frozen=True, slots=True)
class Model:
    """A labelled model and where its samples come from.

    Parameters
    ----------
    data
        Name of the data set, with the size where it has several.
    centre, scale
        ``(x - centre) / scale`` of the stored numbers, one a channel.
    layout
        Axes of the stored array [N, H, W, C] in the order of the model.
    """

    file: str
    data: str
    centre: tuple[float, ...] = (0,)
    scale: tuple[float, ...] = (1,)
    layout: tuple[int, ...] = (0, 1, 2, 3)

    @property
    def input(self) -> str:
        """The name of its one input."""
        return "image" if "mnist" in self.file else "input"


_NCHW = (0, 3, 1, 2)
_MEAN = tuple(255 * m for m in (0.485, 0.456, 0.406))
_STD = tuple(255 * s for s in (0.229, 0.224, 0.225))

MODELS: dict[str, Model] = {
    "resnet8": Model("mlperf_tiny/resnet8_cifar10.onnx", "cifar10"),
    "resnet8_nchw": Model("mlperf_tiny/resnet8_cifar10_nchw.onnx", "cifar10", layout=_NCHW),
    "kws_ds_cnn": Model("mlperf_tiny/kws_ds_cnn.onnx", "keywords"),
    "kws_ds_cnn_nchw": Model("mlperf_tiny/kws_ds_cnn_nchw.onnx", "keywords", layout=_NCHW),
    "resnet20": Model("cifar10/resnet20_cifar10.onnx", "cifar10", _MEAN, _STD, _NCHW),
    "resnet56": Model("cifar10/resnet56_cifar10.onnx", "cifar10", _MEAN, _STD, _NCHW),
    "lenet5": Model("mnist/lenet5_mnist.onnx", "mnist", (0,), (255,), _NCHW),
    "lenet_300_100": Model("mnist/lenet_300_100_mnist.onnx", "mnist", (0,), (255,), _NCHW),
    "efficientnet_lite0": Model(
        "imagenet/efficientnet_lite0.onnx", "imagenet 224", (127,), (128,), _NCHW
    ),
    "mobilenet_v2": Model(
        "imagenet/mobilenet_v2_10_224.onnx", "imagenet 224", (127.5,), (127.5,), _NCHW
    ),
    "mobilenet_v1_025": Model(
        "imagenet/mobilenet_v1_025_128.onnx", "imagenet 128", (127.5,), (127.5,), _NCHW
    ),
}

WRONG: dict[str, tuple[str, ...]] = {
    "constant": ("constant",),
    "one image": ("constant",),
    "scaled by 255": ("scale",),
    "scaled by 1/255": ("scale",),
    "axes swapped": ("layout", "collapse", "refused"),
    "1 sample": ("few",),
}
"""The wrong sets, and which kinds of warning fit."""


@cache
def _stored(data: str) -> Array:
    load = loader()
    name, _, size = data.partition(" ")
    if name == "imagenet":
        return np.asarray(load.imagenet(int(size))[0][::7][:_COUNT], np.float32)
    x = load.keywords()[0][::7] if name == "keywords" else getattr(load, name)("test")[0]
    x = np.asarray(x[:_COUNT], np.float32)
    return x[..., None] if x.ndim == 3 else x


def right(model: Model, count: int = _COUNT) -> Array:
    """Return samples as the model wants them."""
    x = _stored(model.data)[:count]
    centre, scale = (np.array(v, np.float32) for v in (model.centre, model.scale))
    real = (x - centre) / scale
    return np.ascontiguousarray(real.transpose(model.layout), np.float32)


def wrong(model: Model, kind: str) -> Array:
    """Return samples that are wrong in one of the ways of `WRONG`."""
    x = right(model, 43)  # 33 are calibrated on
    match kind:
        case "constant":
            return np.full_like(x, 0.5)
        case "one image":
            return np.repeat(x[:1], len(x), axis=0)
        case "scaled by 255":
            return x * np.float32(255)
        case "scaled by 1/255":
            return x / np.float32(255)
        case "1 sample":
            return x[:1]
    swapped = x.transpose(0, 2, 3, 1) if model.layout == _NCHW else x.transpose(_NCHW)
    # With one channel, reshaping it back would restore the very same array.
    return swapped if 1 in x.shape[1:] else swapped.reshape(x.shape)


def kinds(name: str, samples: Array) -> tuple[str, ...]:
    """Return the kinds of warning that compiling a model with these samples gives."""
    model = MODELS[name]
    options = CompileOptions(("tflite",), "static_wi8_ai8", {model.input: samples})
    try:
        found = calibration_report(DATA / "models" / model.file, options)
    except DataError as error:
        return ("refused",) if "the channels are on another axis" in str(error) else ("error",)
    return tuple(w["kind"] for w in found["warnings"])


def _cases(name: str) -> Iterator[tuple[str, Array, tuple[str, ...]]]:
    model = MODELS[name]
    yield "right, 32", right(model, 42), ()
    yield "right, 100", right(model, _COUNT), ()
    for kind, wanted in WRONG.items():
        yield kind, wrong(model, kind), wanted


def main() -> int:
    """Judge the models named on the command line, all by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", nargs="*", default=list(MODELS))
    failed = False
    print("model               samples          warnings")
    for name in parser.parse_args().models:
        for case, samples, wanted in _cases(name):
            said = kinds(name, samples)
            good = bool(set(said) & set(wanted)) if wanted else not said
            failed |= not good
            print(
                f"{name:19} {case:16} {', '.join(said) or '-'}{'' if good else '  FAIL'}",
                flush=True,
            )
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
