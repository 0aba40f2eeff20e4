from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given

from edgec.evaluate import evaluate
from edgec.ir import DType, Graph
from edgec.ops import Cast, Relu
from edgec.passes import MergeCasts
from edgec.passes.merge_casts import holds
from tests.models import Sketch, graphs
from tests.passes.properties import check_pass

merge = MergeCasts()

F16, F32, F64 = DType.FLOAT16, DType.FLOAT32, DType.FLOAT64
I8, I16, I32, I64, U8, BOOL = (
    DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.UINT8, DType.BOOL
)  # fmt: skip


def casts(first: DType, *others: DType) -> Graph:
    s = Sketch(6, dtype=first)
    y = s.x
    for dtype in others:
        y = s.add(Cast(dtype), y)
    return s.graph(y)


@pytest.mark.parametrize(
    ("first", "between", "last"),
    [(F32, F64, F32), (F16, F32, F64), (I8, I32, F32), (U8, I16, I8), (I8, F32, I64),
     (I32, F64, I32), (BOOL, F32, I8), (BOOL, I64, BOOL), (F32, F64, F16), (I32, I64, BOOL)],
    ids=str,
)  # fmt: skip
def test_casts_through_a_wider_type_are_one(first: DType, between: DType, last: DType) -> None:
    (node,) = merge.run(casts(first, between, last)).nodes

    assert (node.op, node.origin) == (Cast(last), ("n0", "n1"))


@pytest.mark.parametrize(
    ("first", "between", "last"),
    [(F32, F16, F32), (F32, I32, F32), (I32, F32, I32), (I64, F64, I64), (I8, U8, I32),
     (I16, F16, I16), (F32, BOOL, F32), (I8, F32, U8), (F16, F32, I8), (I16, F32, BOOL)],
    ids=str,
)  # fmt: skip
def test_keeps_casts_through_a_type_that_loses_something(
    first: DType, between: DType, last: DType
) -> None:
    graph = casts(first, between, last)
    assert merge.run(graph) is graph


def test_whole_chains_are_one() -> None:
    assert [str(n.op) for n in merge.run(casts(F16, F32, F64, F32)).nodes] == ["Cast()"]


def test_the_first_stays_for_its_other_readers() -> None:
    s = Sketch(6, dtype=F32)
    wide = s.add(Cast(F64), s.x)
    after = check_pass(merge, s.graph(s.add(Cast(F32), wide), s.add(Relu(), wide)))

    assert [n.inputs[0].name for n in after.nodes] == ["x", "x", "v0"]


EXTREMES: dict[DType, list[float]] = {
    BOOL: [0, 1], I8: [-128, 127, 3], U8: [0, 255, 3], I16: [-(2**15), 2**15 - 1, 3],
    I32: [-(2**31), 2**31 - 1, 2**24 + 1], I64: [-(2**53) - 1, 2**40, 3],
    F16: [65504.0, 0.1, -6e-8], F32: [3e38, 0.1, -1e-40], F64: [1e300, 0.1, -3.0],
}  # fmt: skip


@pytest.mark.parametrize(("wide", "narrow"), list(product(EXTREMES, EXTREMES)), ids=str)
def test_what_a_type_holds_comes_back(wide: DType, narrow: DType) -> None:
    x = np.array(EXTREMES[narrow]).astype(narrow.numpy)
    with np.errstate(all="ignore"):
        survives = bool((x.astype(wide.numpy).astype(narrow.numpy) == x).all())

    if holds(wide, narrow):
        assert survives
        graph = casts(narrow, wide, narrow)
        x = np.resize(x, 6)
        np.testing.assert_array_equal(evaluate(merge.run(graph), {"x": x})["v1"], x)


@given(graphs())
def test_holds_on_any_graph(graph: Graph) -> None:
    check_pass(merge, graph)
