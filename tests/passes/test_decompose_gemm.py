from __future__ import annotations

import numpy as np
import pytest

from edgec.ir import Array, DType, Graph
from edgec.ops import Gemm
from edgec.passes import DecomposeGemm
from tests.passes.properties import check_pass
from tests.targets.graphs import Net, random


def gemm(op: Gemm, *operands: str | Array, dtype: DType = DType.FLOAT32) -> Graph:
    """A product of ``a [2, 4]`` and ``b [4, 3]``, as these are stored, and ``c [2, 3]``."""
    a, b = (4, 2) if op.trans_a else (2, 4), (3, 4) if op.trans_b else (4, 3)
    net = Net(dtype, a=a, b=b, c=(2, 3))
    net.add("y", op, *operands)
    return net.graph("y")


def kinds(graph: Graph) -> list[str]:
    return [type(n.op).__name__ for n in check_pass(DecomposeGemm(), graph).nodes]


def test_a_plain_product_is_one() -> None:
    assert kinds(gemm(Gemm(), "a", "b")) == ["MatMul"]


def test_all_attributes_of_computed_operands() -> None:
    op = Gemm(0.5, 2.0, trans_a=True, trans_b=True)

    assert kinds(gemm(op, "a", "b", "c")) == [
        "Transpose",
        "Transpose",
        "Mul",
        "MatMul",
        "Mul",
        "Add",
    ]


def test_constants_take_up_factors_and_orders() -> None:
    op = Gemm(0.5, 2.0, trans_b=True)

    assert kinds(gemm(op, "a", random(3, 4), random(2, 1))) == ["MatMul", "Add"]


def test_a_computed_matrix_alone_is_scaled_after() -> None:
    assert kinds(gemm(Gemm(0.5), "a", "b")) == ["MatMul", "Mul"]


@pytest.mark.parametrize("shape", [(), (3,), (2, 1), (1, 3)], ids=str)
def test_what_is_added_broadcasts(shape: tuple[int, ...]) -> None:
    assert kinds(gemm(Gemm(), "a", "b", random(*shape))) == ["MatMul", "Add"]


def test_a_factor_that_integers_do_not_hold_stays() -> None:
    b = np.ones((4, 3), np.int32)
    graph = gemm(Gemm(0.5), "a", b, dtype=DType.INT32)

    assert DecomposeGemm().run(graph) is graph
    assert len(DecomposeGemm().run(gemm(Gemm(3.0), "a", b, dtype=DType.INT32)).nodes) == 1
