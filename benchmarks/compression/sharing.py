"""int8 weights from few values, beside grids of 4 bits: bytes, and accuracy in runtimes."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compression.bench import Bench, bound
from benchmarks.compression.cases import Case, Paired, paired
from benchmarks.models import DATA, Array
from benchmarks.scoring import opened
from edgec.compiler import CompileOptions, compile_model
from edgec.targets.tflite.reader import read_tflite

__all__ = ["sharing"]

_TARGETS = ("tflite", "onnxruntime")
_WAYS: dict[str, dict[str, Any]] = {
    "int8": {},
    "16 values to a channel": {"share_weights": "16/channel"},
    "16 values to a layer": {"share_weights": "16"},
    "4-bit grid (static_wi4_ai8)": {"recipe": "static_wi4_ai8"},
    "4-bit grid, rounded to nearest": {"recipe": "static_wi4_ai8", "effort": "fast"},
}
_MODELS = ("resnet20", "resnet8", "kws_ds_cnn")
_BOUNDED = "resnet20"
_MOST_PER_CHANNEL, _MOST_PER_LAYER, _LEAST_SMALLER = 0.5, 1.0, 1.5


@dataclass(frozen=True)
class _Artifact:
    """A file, with what it predicts.

    Parameters
    ----------
    package
        Bytes of weights as indices of fixed width where they are shared, of alphabets, biases
        and scales; ``None`` where it is not counted.
    """

    classes: Array
    bytes: int
    compressed: int
    package: int | None
    seconds: float
    nats: Sequence[float] | None


def sharing(bench: Bench, models: Sequence[str]) -> int:
    """Print a line for each way and runtime; return how many bounds do not hold."""
    failures = 0
    for name in (m for m in _MODELS if m in models):
        case = bench.case(name)
        print(f"{name}: float {100 * float((case.classes == case.labels).mean()):.2f} %")
        for target in _TARGETS:
            made = {
                way: _made(bench, case, target, more)
                for way, more in _WAYS.items()
                # ONNX Runtime has no kernels for 4 bits.
                if target == "tflite" or more.get("recipe") is None
            }
            failures += _told(case, target, made)
    return failures


def _told(case: Case, target: str, made: dict[str, _Artifact]) -> int:
    plain = made["int8"]
    found: dict[str, Paired] = {}
    for way, each in made.items():
        found[way] = paired(plain.classes, each.classes, case.labels)
        package = "" if each.package is None else f"package {each.package:7,} B, "
        nats = "" if each.nats is None else f", {each.nats[0]:.4f} → {each.nats[1]:.4f} nats"
        print(
            f"  {target:11} {way:31} {package}file {each.bytes:7,} B, zlib "
            f"{each.compressed:7,} B ({plain.compressed / each.compressed:.2f}x smaller), "
            f"accuracy to int8 {found[way]}{nats}, {each.seconds:.0f} s",
            flush=True,
        )
    if case.name != _BOUNDED:
        return 0
    channel, layer = found["16 values to a channel"], found["16 values to a layer"]
    smaller = plain.compressed / made["16 values to a layer"].compressed
    return (
        bound(
            f"16 values to a channel lose {channel.drop:.2f} points to int8, "
            f"{_MOST_PER_CHANNEL} allowed",
            holds=channel.drop <= _MOST_PER_CHANNEL,
        )
        + bound(
            f"16 values to a layer lose {layer.drop:.2f} points to int8, "
            f"{_MOST_PER_LAYER} allowed",
            holds=layer.drop <= _MOST_PER_LAYER,
        )
        + bound(
            f"compressed file {smaller:.2f}x smaller, {_LEAST_SMALLER} wanted",
            holds=smaller >= _LEAST_SMALLER,
        )
    )


def _made(bench: Bench, case: Case, target: str, more: dict[str, Any]) -> _Artifact:
    path = DATA / "models" / case.file
    (value,) = case.graph.inputs
    settings = {"recipe": "static_wi8_ai8", **more}
    options = CompileOptions(
        (target,),
        calibration={value.name: case.calibration},
        shapes={value.name: (1, *case.calibration.shape[1:])},
        prove=False,
        compare_speed=False,
        **settings,
    )
    start = time.perf_counter()
    result = compile_model(path, options)
    seconds = time.perf_counter() - start
    (artifact,) = result.report["artifacts"]
    data = result.files[artifact["file"]]
    kept = bench.cache / artifact["file"]
    kept.write_bytes(data)
    run = opened(kept)
    classes = np.array([int(run(x[None])[0].argmax()) for x in case.test])
    entry = artifact.get("sharing")
    package = entry["package_bytes"][1] if entry else _stored_bytes(kept)
    nats = entry["nats"] if entry else None
    size = len(zlib.compress(data, 9))
    return _Artifact(classes, len(data), size, package, seconds, nats)


def _stored_bytes(path: Path) -> int | None:
    """Return the bytes of all constants and their scales, of a TFLite file."""
    if path.suffix != ".tflite":
        return None
    found = 0
    for tensor in read_tflite(path).tensors:
        if tensor.data is not None:
            found += tensor.data.nbytes
            found += 4 * len(tensor.quant.scale) if tensor.quant is not None else 0
    return found
