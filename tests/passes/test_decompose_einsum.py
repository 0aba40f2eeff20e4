from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import DType, Graph
from edgec.ops import Einsum
from edgec.passes import DecomposeEinsum
from tests.passes.properties import check_pass
from tests.targets.graphs import Net

EQUATIONS = [
    ("ij->ji", [(2, 3)]),
    ("ij->i", [(2, 3)]),
    ("ij->", [(2, 3)]),
    ("ii->i", [(3, 3)]),
    ("ii->", [(3, 3)]),
    ("biij->bj", [(2, 3, 3, 4)]),
    ("iii->i", [(3, 3, 3)]),
    ("i,i->", [(3,), (3,)]),
    ("i,j->ij", [(2,), (3,)]),
    ("i,j->ji", [(2,), (3,)]),
    (",ij->ij", [(), (2, 3)]),
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("ij,jk->ki", [(2, 3), (3, 4)]),
    ("ij,kj->", [(2, 3), (4, 3)]),
    ("ij,ij->ij", [(2, 3), (2, 3)]),
    ("ij,ik->ijk", [(2, 3), (2, 4)]),
    ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
    ("bhid,bhjd->bhij", [(2, 2, 3, 4), (2, 2, 5, 4)]),
    ("bid,hdk->bhik", [(2, 3, 4), (2, 4, 5)]),
    ("abcd,bcde->ae", [(2, 3, 2, 2), (3, 2, 2, 4)]),
    ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 2)]),
    ("ab,ab,ac->bc", [(2, 3), (2, 3), (2, 4)]),
    ("abx,bcy->ac", [(2, 3, 2), (3, 4, 2)]),
    ("...ij,...jk->...ik", [(2, 1, 3, 4), (1, 5, 4, 3)]),
    ("...i,...i->...", [(2, 3, 4), (1, 3, 4)]),
    ("...ii->...i", [(2, 3, 3)]),
]


def einsum(equation: str, shapes: list[tuple[int, ...]], dtype: DType = DType.FLOAT32) -> Graph:
    names = [f"x{k}" for k in range(len(shapes))]
    net = Net(dtype, **dict(zip(names, shapes, strict=True)))
    return net.graph(net.add("y", Einsum(equation), *names))


def kinds(graph: Graph) -> list[str]:
    return [type(n.op).__name__ for n in graph.nodes if type(n.op).__name__ != "Identity"]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS, ids=[e for e, _ in EQUATIONS])
def test_computes_the_same(equation: str, shapes: list[tuple[int, ...]]) -> None:
    after = check_pass(DecomposeEinsum(), einsum(equation, shapes))

    assert "Einsum" not in kinds(after)


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS, ids=[e for e, _ in EQUATIONS])
def test_agrees_with_numpy_on_integers(equation: str, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(0)
    graph = DecomposeEinsum().run(einsum(equation, shapes, DType.INT32))
    feeds = {v.name: rng.integers(-9, 9, v.type.ints).astype(np.int32) for v in graph.inputs}

    want = np.einsum(equation, *feeds.values())
    np.testing.assert_array_equal(evaluate(graph, feeds)["y"], want)


@pytest.mark.parametrize(
    ("equation", "shapes", "want"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)], ["MatMul"]),
        ("bid,bjd->bij", [(2, 3, 4), (2, 5, 4)], ["Transpose", "MatMul"]),
        ("...i,ij->...j", [(2, 3, 4), (4, 5)], ["MatMul"]),
        ("ij,kj->ki", [(2, 3), (4, 3)], ["Transpose", "MatMul"]),
        ("bij->bji", [(2, 3, 4)], ["Transpose"]),
        ("ij,ij->ij", [(2, 3), (2, 3)], ["Mul"]),
    ],
)
def test_takes_no_more_than_needed(
    equation: str, shapes: list[tuple[int, ...]], want: list[str]
) -> None:
    assert kinds(DecomposeEinsum().run(einsum(equation, shapes))) == want


def test_keeps_a_sum_of_unknown_lengths() -> None:
    net = Net(x=("n", 3))
    graph = net.graph(net.add("y", Einsum("ij->ji"), "x"))

    assert DecomposeEinsum().run(graph) is graph
