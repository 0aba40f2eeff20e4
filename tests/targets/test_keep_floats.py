"""Float layers between integers stay in float in ONNX Runtime too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.export import to_onnx
from edgec.ir import Array, DType, Graph, Op, QuantParams
from edgec.ops import (
    Cast,
    Conv,
    ConvTranspose,
    DepthwiseConv,
    Dequantize,
    FullyConnected,
    Quantize,
    Transpose,
)
from edgec.targets import OnnxRuntime
from edgec.targets.onnxruntime.keep_floats import KeepFloats
from tests.targets.graphs import Net, random

GRID = QuantParams((0.03,), (128,))
OUT = QuantParams((0.1,), (128,))


def uneven(*shape: int, channel: int = 0) -> Array:
    """Weights whose channels are of very different size: one scale holds few of them."""
    sizes = np.geomspace(1e-3, 1, shape[channel]).astype(np.float32)
    along = [1] * len(shape)
    along[channel] = -1
    return np.asarray(random(*shape, seed=1) * sizes.reshape(along))


def between(op: Op, weight: Array, *more: Any, move: Op | None = None, half: bool = False,
            shape: tuple[int, ...] = (1, 8, 6, 6)) -> Graph:  # fmt: skip
    net = Net(x=shape)
    net.add("q", Quantize(GRID, DType.UINT8), "x")
    net.add("d", Dequantize(GRID, DType.UINT8), "q")
    if move is not None:
        net.add("m", move, "d")
    source: str | Array = weight
    if half:
        net.const("half", weight.astype(np.float16))
        source = net.add("w", Cast(DType.FLOAT32), "half")
    net.add("layer", op, "d" if move is None else "m", source, *more)
    net.add("s", Quantize(OUT, DType.UINT8), "layer")
    return net.graph(net.add("y", Dequantize(OUT, DType.UINT8), "s"))


def in_runtime(graph: Graph, x: Array) -> Array:
    """What ONNX Runtime computes with all its rewrites, as at the user's."""
    import onnxruntime as ort

    session = ort.InferenceSession(
        to_onnx(graph).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(["y"], {"x": x})[0])


CASES = {
    "conv": between(Conv(pad=(1, 1, 1, 1)), uneven(16, 8, 3, 3), random(16)),
    "depthwise": between(DepthwiseConv(), uneven(8, 1, 3, 3), random(8)),
    "transposed": between(ConvTranspose(), uneven(8, 4, 3, 3, channel=1), random(4)),
    "product": between(FullyConnected(), uneven(16, 48), random(16), shape=(3, 48)),
    "moved": between(
        Conv(),
        uneven(16, 8, 1, 1),
        random(16),
        move=Transpose((0, 3, 1, 2)),
        shape=(1, 6, 6, 8),
    ),
    "half": between(Conv(), uneven(16, 8, 1, 1), random(16), half=True),
    "lone": between(Conv(), uneven(16, 1, 1, 1), random(16), shape=(5, 1, 1, 1)),
    "no length": between(Conv(), uneven(16, 1, 1, 1), random(16), shape=(1, 1, 1, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_float_weights_are_not_rounded_by_the_runtime(name: str) -> None:
    graph = CASES[name]
    after = KeepFloats().run(graph)
    x = random(*graph.inputs[0].type.shape, seed=2) * 3  # type: ignore[arg-type]

    want = evaluate(graph, {"x": x})["y"]
    np.testing.assert_array_equal(evaluate(after, {"x": x})["y"], want)
    np.testing.assert_allclose(in_runtime(after, x), want, atol=1.01 * OUT.scale[0])
    off = np.mean(in_runtime(after, x) != want)
    assert off < 0.02
    assert KeepFloats().run(after) is after


def test_the_runtime_would_round_them() -> None:
    """Else the pass has no reason any more."""
    graph = CASES["conv"]
    x = random(1, 8, 6, 6, seed=2) * 3
    want = evaluate(graph, {"x": x})["y"]
    moved = np.mean(in_runtime(graph, x) != want)
    assert moved > 0.1


def test_layers_between_floats_or_with_integer_weights_stay() -> None:
    net = Net(x=(1, 8, 6, 6))
    net.add("a", Conv(), "x", random(8, 8, 1, 1))
    net.add("q", Quantize(GRID, DType.UINT8), "a")
    net.add("d", Dequantize(GRID, DType.UINT8), "q")
    weight = QuantParams((0.1,), (0,))
    net.const("i", np.ones((8, 8, 1, 1), np.int8))
    net.add("w", Dequantize(weight, DType.INT8), "i")
    net.add("b", Conv(), "d", "w")
    graph = net.graph("b")
    assert KeepFloats().run(graph) is graph

    net = Net(x=(1, 8, 6, 6))
    net.add("a", Conv(), "x", random(8, 8, 1, 1))
    graph = net.graph(net.add("b", Conv(), "a", random(8, 8, 1, 1)))
    assert KeepFloats().run(graph) is graph


def test_the_target_does_it() -> None:
    assert KeepFloats() in OnnxRuntime().finish()
