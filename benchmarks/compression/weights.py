"""Weights that become zero: bytes of compressed files, and accuracy; nothing runs faster."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.compression.bench import Bench, bound
from benchmarks.compression.cases import Case, paired
from benchmarks.models import DATA, Array
from benchmarks.scoring import opened
from edgec.compiler import CompileOptions, compile_model
from edgec.ir import Graph
from edgec.ops import DepthwiseConv
from edgec.passes.linear_layers import linear_layers, with_weights
from edgec.passes.sparse_weights import Sparsity, mask_by_magnitude
from edgec.targets.tflite.reader import read_tflite

__all__ = ["weights"]

_MODELS = ("resnet20", "resnet8", "lenet_300_100", "kws_ds_cnn")
_ASKED = {"0.5": Sparsity(0.5), "0.7": Sparsity(0.7), "2:4": Sparsity(pattern=(2, 4))}
_RECIPES = (None, "static_wi8_ai8")
_ROUNDS = 200


@dataclass(frozen=True)
class _File:
    """A TFLite file, with what it predicts.

    Parameters
    ----------
    zeros
        Share of the weights.
    """

    path: Path
    classes: Array
    bytes: int
    compressed: int
    zeros: float


def weights(bench: Bench, models: Sequence[str]) -> int:
    """Print a line for each share of zeros and recipe; return how many bounds do not hold."""
    failures = 0
    for name in (m for m in _MODELS if m in models):
        case = bench.case(name)
        print(f"{name}: float {100 * float((case.classes == case.labels).mean()):.2f} %")
        for asked, sparsity in _ASKED.items():
            found = bench.scored(case, _without_smallest(case.graph, sparsity))
            print(f"  {asked}, the smallest of each layer, nothing made up for: {found}")
        for recipe in _RECIPES:
            plain = _made(bench, case, recipe, None)
            for asked in _ASKED:
                failures += _told(case, recipe, asked, plain, _made(bench, case, recipe, asked))
    return failures


def _without_smallest(graph: Graph, sparsity: Sparsity) -> Graph:
    changes: dict[str, tuple[Array, Array | None]] = {}
    for name, layer in linear_layers(graph).items():
        if not isinstance(layer.node.op, DepthwiseConv):
            inner = int(np.prod(layer.node.inputs[1].type.ints[2:]))
            kept = mask_by_magnitude(layer.weight, sparsity, inner)
            changes[name] = np.where(kept, layer.weight, 0), None
    return with_weights(graph, changes)


def _told(case: Case, recipe: str | None, asked: str, plain: _File, made: _File) -> int:
    found = paired(plain.classes, made.classes, case.labels)
    smaller = plain.compressed / made.compressed
    print(
        f"  {recipe or 'float':14} {asked:3} {100 * made.zeros:4.1f} % zeros, file "
        f"{plain.bytes:,} → {made.bytes:,} B, zlib {plain.compressed:,} → "
        f"{made.compressed:,} B ({smaller:.2f}x smaller), accuracy {found}, "
        f"{_times_as_fast(plain.path, made.path, case.test[:1]):.2f} times as fast",
        flush=True,
    )
    return bound(f"the compressed file is {smaller:.2f}x smaller", holds=smaller > 1)


def _made(bench: Bench, case: Case, recipe: str | None, asked: str | None) -> _File:
    (value,) = case.graph.inputs
    options = CompileOptions(
        ("tflite",),
        recipe,
        {value.name: case.calibration},
        shapes={value.name: (1, *case.calibration.shape[1:])},
        prove=False,
        prune_weights=asked,
    )
    result = compile_model(DATA / "models" / case.file, options)
    data = result.files[result.report["artifacts"][0]["file"]]
    assert isinstance(data, bytes)
    path = bench.cache / f"{case.name}-{recipe}-{(asked or 'plain').replace(':', '-')}.tflite"
    path.write_bytes(data)
    run = opened(path)
    classes = np.array([int(run(x[None])[0].argmax()) for x in case.test])
    return _File(path, classes, len(data), len(zlib.compress(data, 9)), _zeros(path))


def _zeros(path: Path) -> float:
    """Return the share of zeros of all weights of a file."""
    arrays = [t.data for t in read_tflite(path).tensors if t.data is not None]
    found = [a for a in arrays if a.ndim > 1 and a.dtype in (np.int8, np.float32)]
    return sum(int((a == 0).sum()) for a in found) / max(sum(a.size for a in found), 1)


def _times_as_fast(plain: Path, made: Path, x: Array) -> float:
    """Return the median of the ratios of neighbouring runs, each first every other time."""
    runs = opened(plain), opened(made)
    ratios: list[float] = []
    for k in range(_ROUNDS):
        took = [0.0, 0.0]
        for which in ((0, 1), (1, 0))[k % 2]:
            start = time.perf_counter()
            runs[which](x)
            took[which] = time.perf_counter() - start
        ratios.append(took[0] / took[1])
    return float(np.median(ratios))
