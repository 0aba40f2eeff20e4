"""Shapes that are computed in the graph while a length in them has only a name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, TensorType, Value, verify
from edgec.ops import Add, Concat, Div, Gather, Identity, Mul, Opaque, Reshape, Slice, Sub
from edgec.passes import FoldConstants
from edgec.passes.shape_values import Lengths, lengths, reshape
from tests.models import Sketch


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def opaque(op_type: str, *outputs: TensorType, **attributes: Any) -> Opaque:
    proto = onnx.helper.make_node(op_type, [], [], **attributes)
    return Opaque(op_type, "", 18, proto.SerializeToString(), outputs)


def shape(s: Sketch, **attributes: int) -> Value:
    """The shape of x."""
    return s.add(opaque("Shape", TensorType(DType.INT64, None), **attributes), s.x)


def known(s: Sketch, value: Value) -> Lengths | None:
    return lengths(s.graph(value)).get(value.name)


def folded(graph: Graph) -> list[str]:
    after = FoldConstants().run(graph)
    verify(after)
    return [str(node.op) for node in after.nodes]


def test_a_shape_holds_the_lengths() -> None:
    s = Sketch("N", 3, "?")

    assert known(s, shape(s)) == ("N", 3, "?")
    assert known(s, shape(s, start=1, end=2)) == (3,)


def test_lengths_are_followed_through_what_picks_and_joins_them() -> None:
    s = Sketch("N", 3, 8)
    whole = shape(s)
    batch = s.add(Gather(), whole, s.const(np.array(0)))

    assert known(s, s.add(Reshape((1,)), batch)) == ("N",)
    assert known(s, s.add(Gather(), whole, s.const(ints(-1, 0)))) == (8, "N")
    assert known(s, s.add(Slice((2,), (-4,), (0,), (-1,)), whole)) == (8, 3, "N")
    assert known(s, s.add(opaque("Cast", TensorType(DType.INT32, None), to=6), whole)) == (
        "N",
        3,
        8,
    )
    row = s.add(Identity(), s.add(Reshape((1,)), batch))
    assert known(s, s.add(Concat(), row, s.const(ints(-1)))) == ("N", -1)
    assert known(s, s.add(Gather(), s.const(ints(1, 2)), batch)) is None


@pytest.mark.parametrize(
    ("op", "b", "want"),
    [
        (Mul(), (1, 2, 2), ("N", 6, 16)),
        (Mul(), (2, 2, 2), ("?", 6, 16)),
        (Add(), (0, 2, 2), ("N", 5, 10)),
        (Sub(), (0, 2, 2), ("N", 1, 6)),
        (Div(), (1, 2, 3), ("N", 1, 2)),
        (Div(), (1, -2, 3), ("N", "?", 2)),
        (Add(), (2,), ("?", 5, 10)),
    ],
    ids=str,
)
def test_lengths_are_computed_with(
    op: Add | Sub | Mul | Div, b: tuple[int, ...], want: Lengths
) -> None:
    s = Sketch("N", 3, 8)

    assert known(s, s.add(op, shape(s), s.const(ints(*b)))) == want


def test_numbers_of_an_open_shape_are_constants() -> None:
    s = Sketch("N", 3, 8)
    size = s.add(Gather(), shape(s), s.const(ints(1, 2)))
    grid = s.add(opaque("Expand", TensorType(DType.FLOAT32, None)), s.random(1, 1), size)

    assert folded(s.graph(s.add(Add(), s.x, grid))) == ["Add()"]


FLAT = TensorType(DType.FLOAT32, None)


def view(*tail: int) -> Graph:
    """``x.view(x.size(0), *tail)``, as exporters write it."""
    s = Sketch("N", 3, 4)
    batch = s.add(Gather(), shape(s), s.const(ints(0)))
    target = s.add(Concat(), batch, s.const(ints(*tail)))
    return s.graph(s.add(opaque("Reshape", FLAT), s.x, target))


@pytest.mark.parametrize("tail", [(12,), (-1,), (2, -1), (2, 6)], ids=str)
def test_a_view_that_keeps_the_batch_is_a_reshape(tail: tuple[int, ...]) -> None:
    graph = view(*tail)
    after = FoldConstants().run(graph)
    verify(after)

    (node,) = after.nodes
    assert str(node.op).startswith("Reshape(shape=(-1, ")
    assert node.output.type.shape[0] == "N"
    for batch in (1, 5):
        x = np.arange(batch * 12, dtype=np.float32).reshape(batch, 3, 4)
        want = x.reshape(batch, *tail)
        np.testing.assert_array_equal(evaluate(after, {"x": x})["v3"], want)


@pytest.mark.parametrize(
    ("dims", "target", "want"),
    [
        (("N", 3, 4), ("N", 12), (-1, 12)),
        (("N", 3, 4), (0, -1), (-1, 12)),
        (("N", 3, 4), (0, 0, -1), (-1, 3, 4)),
        (("N", 3, 4), ("?", 12), (-1, 12)),
        ((2, 3, 4), (2, -1), (2, 12)),
        (("N", 3, 4), (6, -1), (6, -1)),
        (("N", "M", 4), ("N", "M", -1), None),  # two that only the input knows
        (("N", 3, 4), ("M", -1), None),
        (("N", 3, 4), ("N", -1, 5), None),
        (("N", 3, 4), ("N", "?", 4), None),
        (("?", 3, 4), ("N", 12), None),
        (("N", 0, 4), ("N", 12), None),
    ],
    ids=str,
)
def test_what_a_reshape_becomes(
    dims: Lengths, target: Lengths, want: tuple[int, ...] | None
) -> None:
    found = reshape(TensorType(DType.FLOAT32, dims), target)

    assert (found.shape if found else None) == want


def test_a_length_of_zero_that_is_meant_keeps_the_reshape_as_it_is() -> None:
    s = Sketch("N", 3, 4)
    batch = s.add(Gather(), shape(s), s.const(ints(0)))
    target = s.add(Concat(), batch, s.const(ints(12)))
    graph = s.graph(s.add(opaque("Reshape", FLAT, allowzero=1), s.x, target))

    assert folded(graph)[-1] == "Reshape"


def test_an_expand_over_the_batch_knows_its_shape() -> None:
    s = Sketch("N", 3)
    target = s.add(Mul(), shape(s), s.const(ints(1, 1)))
    row = s.add(Slice((0,), (1,), (1,), (1,)), s.x)
    unknown = TensorType(DType.FLOAT32, None)
    graph = s.graph(s.add(opaque("Expand", unknown), row, target))

    after = FoldConstants().run(graph)
    verify(after)
    assert str(after.outputs[0].type) == "f32[N,3]"
