from __future__ import annotations

import numpy as np
import pytest

from edgec.ir import Array, Graph
from edgec.ops import Conv
from edgec.passes import Pipeline, ShareConstants, TieConstants
from tests.targets.graphs import Net, random

X = random(1, 4, 6, 6)


def twins(second: Array, first: Array | None = None) -> Graph:
    net = Net(x=(1, 4, 6, 6))
    net.add("a", Conv(), "x", random(4, 4, 3, 3, seed=1) if first is None else first)
    return net.graph(net.add("y", Conv(), "a", second))


def near(by: float) -> Array:
    weight = random(4, 4, 3, 3, seed=1)
    moved = weight + np.float32(by * np.abs(weight).max()) * np.sign(random(4, 4, 3, 3))
    return np.asarray(moved, np.float32)


def test_weights_that_differ_by_rounding_become_one() -> None:
    graph = twins(near(5e-7))
    assert ShareConstants().run(graph) is graph

    made, (record,) = TieConstants().run_recorded(graph)

    assert set(made.constants) == {"a.1"}
    assert [n.inputs[1].name for n in made.nodes] == ["a.1", "a.1"]
    assert (record.layer, record.kept) == ("y", "tied to a")
    assert 110 < record.after_db < 140
    held, (line,) = Pipeline((TieConstants(),), {"x": X}).run(graph)
    assert line.changed
    assert line.error is not None
    assert line.error < 1e-5
    assert set(held.constants) == {"a.1"}


def test_weights_that_are_the_same_become_one() -> None:
    assert set(TieConstants().run(twins(near(0.0))).constants) == {"a.1"}


@pytest.mark.parametrize("by", [3e-6, 1e-3])
def test_weights_that_differ_by_more_stay(by: float) -> None:
    graph = twins(near(by))

    assert TieConstants().run(graph) is graph
    assert len(TieConstants(0.01).run(graph).constants) == 1


def test_one_element_far_apart_is_enough_to_stay() -> None:
    weight = random(4, 4, 3, 3, seed=1)
    for at in (1, 70, 143):
        other = weight.copy()
        other.reshape(-1)[at] += 1e-3
        graph = twins(other)
        assert TieConstants().run(graph) is graph


def test_few_numbers_other_shapes_and_integers_stay() -> None:
    net = Net(x=(1, 4, 6, 6))
    net.add("a", Conv(), "x", random(4, 4, 1, 1, seed=1))
    graph = net.graph(net.add("y", Conv(), "a", random(4, 4, 1, 1, seed=1)))

    assert TieConstants().run(graph) is graph


def test_numbers_that_are_none_are_not_tied() -> None:
    weight = random(4, 4, 3, 3, seed=1)
    weight[0, 0, 0, 0] = np.nan
    graph = twins(weight.copy(), weight)

    assert TieConstants().run(graph) is graph
