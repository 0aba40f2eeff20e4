from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import DType, Graph
from edgec.numerics import relative_error
from edgec.ops import Activation, Add, Cast, Conv, Dequantize, FullyConnected, MatMul, Reshape
from edgec.passes import StoreWeights
from tests.targets.graphs import Net, random

FEEDS = {"x": random(1, 8, 6, 6, seed=3)}


def net() -> Graph:
    n = Net(x=(1, 8, 6, 6))
    a = n.add("a", Conv(activation=Activation.RELU), "x", random(16, 8, 3, 3), random(16))
    b = n.add("b", Conv(), a, random(4, 16, 1, 1, seed=1))
    c = n.add("c", Reshape((1, 64)), b)
    d = n.add("d", FullyConnected(), c, random(20, 64, seed=2), random(20))
    e = n.add("e", MatMul(), d, random(20, 30, seed=5))
    return n.graph(n.add("f", Add(), e, random(30, seed=6)))


def stored(graph: Graph) -> dict[str, DType]:
    """Element types of the constants that are read back as floats, by layer."""
    found = {}
    for node in graph.nodes:
        for value in node.inputs:
            source = graph.producers.get(value)
            if source is not None and isinstance(source.op, Dequantize | Cast):
                found[node.layer] = graph.constants[source.inputs[0].name].type.dtype
    return found


@pytest.mark.parametrize(
    ("step", "want", "most"),
    [
        (StoreWeights(16), DType.FLOAT16, 1e-3),
        (StoreWeights(8), DType.INT8, 0.03),
        (StoreWeights(8, per_channel=False), DType.INT8, 0.03),
        (StoreWeights(4, packed=(Conv, FullyConnected, MatMul)), DType.INT4, 0.4),
    ],
    ids=["f16", "i8", "one scale", "i4"],
)
def test_weights_of_layers_are_stored(step: StoreWeights, want: DType, most: float) -> None:
    graph = net()
    after = step.run(graph)

    assert stored(after) == dict.fromkeys("abde", want)
    error = relative_error(evaluate(graph, FEEDS), evaluate(after, FEEDS))
    assert 0 < error < most
    assert {k for k in after.constants if k in graph.constants} == {"a.2", "d.2", "f.1"}


def test_scales_are_those_of_output_channels() -> None:
    after = StoreWeights(8).run(net())
    grids = [n.op.params for n in after.nodes if isinstance(n.op, Dequantize)]
    assert [(g.axis, len(g.scale)) for g in grids] == [(0, 16), (0, 4), (0, 20), (1, 30)]

    after = StoreWeights(8, per_channel=False).run(net())
    assert {n.op.params.axis for n in after.nodes if isinstance(n.op, Dequantize)} == {None}


def test_other_layers_have_eight_bits_beside_those_of_four() -> None:
    found = stored(StoreWeights(4, packed=(MatMul,)).run(net()))

    assert found == {"a": DType.INT8, "b": DType.INT8, "d": DType.INT8, "e": DType.INT4}


def test_what_is_named_stays() -> None:
    assert stored(StoreWeights(8, keep_float=("a", "e")).run(net())).keys() == {"b", "d"}


def test_weights_that_two_layers_share_are_stored_once() -> None:
    n = Net(x=(1, 16))
    w = n.const("w", random(16, 16)).name
    n.add("a", FullyConnected(), "x", w)
    graph = n.graph(n.add("b", FullyConnected(), "a", w))
    after = StoreWeights(8).run(graph)

    assert len([node for node in after.nodes if isinstance(node.op, Dequantize)]) == 1


def test_what_float16_cannot_hold_is_said_and_stays() -> None:
    n = Net(x=(1, 16))
    graph = n.graph(n.add("a", FullyConnected(), "x", 1e6 * np.abs(random(16, 16))))
    step = StoreWeights(16)

    assert step.run(graph) is graph
    (problem,) = step.diagnostics(graph)
    assert str(problem).startswith("a: has weights beyond 65504")


def test_small_weights_stay() -> None:
    n = Net(x=(1, 2))
    graph = n.graph(n.add("a", FullyConnected(), "x", random(3, 2)))

    assert StoreWeights(8).run(graph) is graph


def test_only_the_layers_named_are_stored() -> None:
    after = StoreWeights(16, only=("b", "e")).run(net())
    assert stored(after) == dict.fromkeys("be", DType.FLOAT16)

    rest = StoreWeights(8, keep_float=("b", "e")).run(after)
    assert stored(rest) == {
        **dict.fromkeys("ad", DType.INT8),
        **dict.fromkeys("be", DType.FLOAT16),
    }
