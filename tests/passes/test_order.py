"""Each sentence of `lossless()` on order, as a test that fails if two lines are swapped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from edgec.ir import DType, Graph, TensorType, Value
from edgec.ops import (
    Add,
    Clip,
    Conv,
    Div,
    Identity,
    MatMul,
    Mul,
    Opaque,
    Pad,
    Relu,
    Sub,
)
from edgec.passes import (
    PASSES,
    EliminateCommonSubexpressions,
    EliminateIdentities,
    EqualizeLayers,
    FoldBatchNorm,
    FoldConstants,
    FuseActivations,
    FuseFullyConnected,
    JoinMoves,
    Lossy,
    MergeClips,
    MigrateScales,
    Pass,
    Pipeline,
    RecognizeHardSwish,
    ShareConstants,
    TieConstants,
    lossless,
)
from edgec.targets import TARGETS
from tests.models import Sketch


def swapped(first: type[Pass], second: type[Pass]) -> tuple[Pass, ...]:
    """The passes of `lossless()`, the first named right after the second."""
    found = list(lossless())
    names = [type(p) for p in found]
    assert names.index(first) < names.index(second)
    moved = found.pop(names.index(first))
    found.insert([type(p) for p in found].index(second) + 1, moved)
    return tuple(found)


def reshaped(s: Sketch, x: Value, shape: tuple[int, ...]) -> Value:
    """A reshape to a shape that the graph computes."""
    node = onnx.NodeProto(op_type="Reshape")
    add = s.add(Add(), s.const(np.array(shape)), s.const(np.zeros(len(shape), np.int64)))
    out = TensorType(DType.FLOAT32, shape)
    return s.add(Opaque("Reshape", "", 18, node.SerializeToString(), (out,)), x, add)


def computed_shapes() -> Graph:
    """The reshape is an identity, but only to who knows its shape."""
    s = Sketch(1, 2, 4, 4)
    return s.graph(s.add(Relu(), reshaped(s, s.conv(s.x, 3), (1, 3, 4, 4))))


def computed_weights() -> Graph:
    s = Sketch(1, 4)
    w = s.add(Mul(), s.random(4, 3), s.random(4, 3))
    return s.graph(s.add(Relu(), s.add(MatMul(), s.x, w)))


def computed_statistics() -> Graph:
    s = Sketch(1, 2, 4, 4)
    scale = s.add(Mul(), s.random(3, 1, 1), s.random(3, 1, 1))
    return s.graph(s.add(Mul(), s.conv(s.x, 3), scale))


def identity_between() -> Graph:
    s = Sketch(1, 2, 4, 4)
    return s.graph(s.batchnorm(s.add(Identity(), s.conv(s.x, 3))))


def identity_before_activation() -> Graph:
    s = Sketch(1, 2, 4, 4)
    return s.graph(s.add(Relu(), s.add(Identity(), s.conv(s.x, 3))))


def scaled_product() -> Graph:
    s = Sketch(1, 4)
    return s.graph(s.add(Sub(), s.add(MatMul(), s.x, s.random(4, 3)), s.random(3)))


def normalised_and_clipped() -> Graph:
    s = Sketch(1, 2, 4, 4)
    return s.graph(s.add(Add(), s.add(Relu(), s.batchnorm(s.conv(s.x, 3))), s.random(3, 1, 1)))


def equal_constants() -> Graph:
    s = Sketch(1, 4)
    a, b = (s.add(Div(), s.x, s.const(np.ones(4, np.float32))) for _ in range(2))
    return s.graph(s.add(Mul(), a, b))


def identity_between_moves() -> Graph:
    s = Sketch(4)
    y = s.add(Pad((0, 1)), s.add(Identity(), s.add(Pad((1, 0)), s.x)))
    return s.graph(s.add(Relu(), y))


def clipped_twice() -> Graph:
    s = Sketch(1, 2, 4, 4)
    return s.graph(s.add(Relu(), s.add(Clip(high=6.0), s.conv(s.x, 3))))


def clipped_twice_in_a_swish() -> Graph:
    s = Sketch(1, 4)
    three, six = (s.const(np.full((), n, np.float32)) for n in (3, 6))
    clip = s.add(Clip(high=6), s.add(Relu(), s.add(Add(), s.x, three)))
    return s.graph(s.add(Div(), s.add(Mul(), s.x, clip), six))


def hard_swish() -> Graph:
    s = Sketch(1, 4)
    three, six = (s.const(np.full((), n, np.float32)) for n in (3, 6))
    clip = s.add(Clip(0, 6), s.add(Add(), s.x, three))
    return s.graph(s.add(Div(), s.add(Mul(), s.x, clip), six))


@pytest.mark.parametrize(
    ("build", "first", "second"),
    [
        (clipped_twice_in_a_swish, MergeClips, RecognizeHardSwish),
        (hard_swish, RecognizeHardSwish, FuseActivations),
        (equal_constants, ShareConstants, EliminateCommonSubexpressions),
        (identity_between_moves, EliminateIdentities, JoinMoves),
        (clipped_twice, MergeClips, FuseActivations),
        (computed_shapes, FoldConstants, EliminateIdentities),
        (computed_weights, FoldConstants, FuseFullyConnected),
        (computed_statistics, FoldConstants, FoldBatchNorm),
        (identity_between, EliminateIdentities, FoldBatchNorm),
        (identity_before_activation, EliminateIdentities, FuseActivations),
        (scaled_product, FuseFullyConnected, FoldBatchNorm),
    ],
)
def test_the_order_matters(
    build: Callable[[], Graph], first: type[Pass], second: type[Pass]
) -> None:
    right, _ = Pipeline(lossless()).run(build())
    wrong, _ = Pipeline(swapped(first, second)).run(build())

    assert len(right.nodes) < len(wrong.nodes)


def test_an_activation_of_the_layer_itself_would_keep_the_batch_norm_out() -> None:
    """FuseActivations comes last: until then a batch norm keeps a layer and it apart."""
    right, _ = Pipeline(lossless()).run(normalised_and_clipped())
    assert [str(n.op) for n in right.nodes] == [
        "Conv(pad=(1, 1, 1, 1), activation=relu)",
        "Add()",
    ]

    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.add(Relu(), s.batchnorm(s.conv(s.x, 3))))
    right, _ = Pipeline(lossless()).run(graph)
    wrong, _ = Pipeline(swapped(FoldBatchNorm, FuseActivations)).run(graph)
    assert len(right.nodes) == 1 < len(wrong.nodes)
    assert isinstance(right.nodes[0].op, Conv)


def test_lossless_passes_are_listed_and_promise_something() -> None:
    steps = lossless()

    for_targets = {type(p) for t in TARGETS for p in t().prepare()} - {type(p) for p in steps}
    lossy = {p for p in PASSES if isinstance(p.promise, Lossy)}
    # Within rounding, but of use only to what is quantized or shared next.
    for_recipes = {EqualizeLayers, MigrateScales, TieConstants}
    assert {type(p) for p in steps} == set(PASSES) - for_targets - lossy - for_recipes
    assert not any(isinstance(p.promise, Lossy) for p in steps)
    assert len({p.name for p in steps}) == len(steps)
