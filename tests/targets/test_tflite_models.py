"""Trained models as int8 TFLite: no operator too many, one XNNPACK partition."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.models import DATA
from edgec.errors import EdgecError
from edgec.evaluate import evaluate
from edgec.frontend import load
from edgec.ir import Array, DType, Graph, TensorType
from edgec.ops import Convolution
from edgec.passes import Pipeline, lossless
from edgec.proof import Limits
from edgec.targets import Artifact, Tflite
from edgec.targets.tflite.run import interpreter
from tests.targets.graphs import quantized, random

MODELS = DATA / "models"
TINY = MODELS / "mlperf_tiny"
needs_data = pytest.mark.skipif(
    not MODELS.exists(), reason=f"{MODELS} is absent; set EDGEC_DATA"
)

REFERENCES = {"resnet8_cifar10": "resnet8_cifar10_int8.tflite",
              "vww_mobilenetv1_025_96": "vww_96_int8.tflite"}  # fmt: skip


@cache
def simplified(path: Path) -> Graph:
    graph, _ = Pipeline(lossless()).run(load(path).graph)
    return graph


def compiled(path: Path, target: Tflite, *, integer: bool = True) -> Artifact:
    """Compile with ranges of one random sample: the form does not depend on the numbers."""
    graph, _ = Pipeline(target.prepare()).run(simplified(path))
    if integer:
        feeds = {v.name: random(*v.type.ints) for v in graph.inputs}
        graph = quantized(graph, feeds, scheme=target.scheme())
    return target.compile(graph)


def operators(data: bytes) -> tuple[list[str], list[str]]:
    """Return the operators of a file, and what LiteRT runs: with delegates in their place."""
    runtime = interpreter(data)
    rows = runtime._get_ops_details()
    count = next(i for i, row in enumerate([*rows, {"op_name": "DELEGATE"}])
                 if row["op_name"] == "DELEGATE")  # fmt: skip
    written, delegates = rows[:count], rows[count:]
    taken = _consumed(written, delegates)
    return [r["op_name"] for r in written], [
        *(r["op_name"] for i, r in enumerate(written) if i not in taken),
        *(r["op_name"] for r in delegates),
    ]


def _consumed(written: list[dict[str, Any]], delegates: list[dict[str, Any]]) -> set[int]:
    """Return the operators that lie between a delegate's inputs and its outputs."""
    taken: set[int] = set()
    for delegate in delegates:
        known = {int(i) for i in delegate["inputs"]}
        wanted = {int(i) for i in delegate["outputs"]}
        for i in reversed(range(len(written))):
            made = {int(t) for t in written[i]["outputs"]}
            if made & wanted:
                taken.add(i)
                wanted |= {int(t) for t in written[i]["inputs"]} - known
    return taken


@needs_data
@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("form", ["", "_nchw"], ids=["as-is", "nchw"])
def test_an_int8_model_is_one_partition_of_integers(name: str, form: str) -> None:
    target = Tflite("int8", "nhwc" if form else "keep")
    artifact = compiled(TINY / f"{name}{form}.onnx", target)

    written, run = operators(artifact.data)

    best, _ = operators((TINY / REFERENCES[name]).read_bytes())
    assert len(written) <= len(best)
    assert "TRANSPOSE" not in written
    assert {"QUANTIZE", "DEQUANTIZE"}.isdisjoint(written)
    assert sorted(run) == ["DELEGATE", "SOFTMAX"]
    details = interpreter(artifact.data).get_tensor_details()
    assert {np.dtype(d["dtype"]) for d in details} <= {np.dtype(np.int8), np.dtype(np.int32)}
    assert [p.dtype for p in (*artifact.inputs, *artifact.outputs)] == [DType.INT8] * 2
    assert artifact.inputs[0].shape[-1] == 3


def expressed() -> dict[str, Path]:
    """Return all models whose shapes are known and that TFLite can express."""
    found = {}
    for path in sorted(MODELS.glob("*/*.onnx")):
        try:
            graph = simplified(path)
        except EdgecError:
            continue  # asks for shapes
        if not Tflite().check(graph):
            found[path.stem] = path
    return found


def is_nchw_network(graph: Graph) -> bool:
    (shape,) = (v.type.ints for v in graph.inputs)
    layers = any(isinstance(n.op, Convolution) for n in graph.nodes)
    return layers and len(shape) == 4 and shape[1] in (1, 3, 40)


FOUND = expressed() if MODELS.exists() else {}
NETWORKS = [
    name
    for name, path in FOUND.items()
    # Channel shuffles inside of sinet move elements in any layout.
    if is_nchw_network(simplified(path)) and name != "sinet_portrait"
]


@needs_data
def test_there_are_models_to_look_at() -> None:
    assert len(FOUND) >= 14
    assert len(NETWORKS) >= 9


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("integer", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("io_layout", ["keep", "nhwc"])
def test_images_are_transposed_at_the_borders_only(name: str, integer: bool,
                                                   io_layout: Any) -> None:  # fmt: skip
    artifact = compiled(FOUND[name], Tflite(io_layout=io_layout), integer=integer)

    # One for each end that is an image; none where the caller takes images as they are.
    images = 1 + sum(len(port.shape) == 4 for port in artifact.outputs)
    assert artifact.operators.get("TRANSPOSE", 0) <= (images if io_layout == "keep" else 0)


def sample(kind: TensorType) -> Array:
    """Random numbers; bytes where integers are wanted."""
    if kind.dtype.is_float:
        return random(*kind.ints, seed=3)
    return np.random.default_rng(3).integers(0, 256, kind.ints).astype(kind.dtype.numpy)


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("io_layout", ["keep", "nhwc"])
def test_a_float_model_computes_the_same(name: str, io_layout: Any) -> None:
    """Held to the limit that the proof of every float artifact has."""
    graph = simplified(FOUND[name])
    feeds = {v.name: sample(v.type) for v in graph.inputs}
    target = Tflite(io_layout=io_layout)
    runner = target.load(compiled(FOUND[name], target, integer=False))

    got = runner.run(feeds)

    for key, want in evaluate(graph, feeds).items():
        span = float(want.max() - want.min()) or 1.0
        assert got[key].shape == want.shape
        assert np.abs(got[key] - want).max() <= Limits().max_float_error * span
