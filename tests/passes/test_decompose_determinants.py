from __future__ import annotations

import pytest

from edgec.ir import Graph
from edgec.ops import Det
from edgec.passes import DecomposeDeterminants
from tests.passes.properties import check_pass
from tests.targets.graphs import Net


def determinant(*shape: int | str) -> Graph:
    net = Net(x=shape)
    return net.graph(net.add("y", Det(), "x"))


@pytest.mark.parametrize("outer", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_small_matrices(outer: tuple[int, ...], size: int) -> None:
    after = check_pass(DecomposeDeterminants(), determinant(*outer, size, size))

    assert not any(isinstance(n.op, Det) for n in after.nodes)


def test_larger_ones_and_those_of_unknown_size_stay() -> None:
    for graph in (determinant(5, 5), determinant("n", 3, 3)):
        assert DecomposeDeterminants().run(graph) is graph
