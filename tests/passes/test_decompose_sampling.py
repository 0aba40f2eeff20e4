from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Example
from edgec.ops import DeformConv, GridSample, RoiAlign
from edgec.passes import DecomposeSampling, FoldConstants
from edgec.targets import Tflite
from tests.targets.graphs import Net, one_op, random
from tests.targets.test_tflite_conformance import assert_close

EXAMPLES = [
    pytest.param(e, id=f"{op.__name__}-{i}")
    for op in (GridSample, DeformConv, RoiAlign)
    for i, e in enumerate(op.examples(np.random.default_rng(3)))
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_written_with_gathers(example: Example) -> None:
    graph, feeds = one_op(example.op, *example.operands)
    after = DecomposeSampling().run(graph)

    assert not {type(n.op) for n in after.nodes} & {GridSample, DeformConv, RoiAlign}
    assert DecomposeSampling().run(after) is after
    want, got = evaluate(graph, feeds)["y"], evaluate(after, feeds)["y"]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("aligned", [False, True])
def test_a_computed_grid_runs_on_tflite(mode: str, padding: str, aligned: bool) -> None:
    net = Net(x=(2, 3, 4, 5), grid=(2, 3, 3, 2))
    graph = net.graph(net.add("y", GridSample(mode, padding, aligned), "x", "grid"))
    feeds = {"x": random(2, 3, 4, 5), "grid": 1.5 * random(2, 3, 3, 2, seed=1)}

    assert_close(graph, feeds, prepare=True)


def test_constant_places_fold_into_one_gather() -> None:
    grid = random(1, 3, 3, 2)
    graph, _ = one_op(GridSample(), random(1, 2, 4, 5), grid)
    graph = FoldConstants().run(DecomposeSampling().run(graph))

    kinds = [type(n.op).__name__ for n in graph.nodes]
    assert kinds.count("Gather") == kinds.count("Mul") == kinds.count("ReduceSum") == 1
    assert len(kinds) <= 8


def test_computed_regions_stay() -> None:
    net = Net(x=(1, 2, 6, 6), rois=(2, 4))
    graph = net.graph(net.add("y", RoiAlign(2, 2, 2), "x", "rois", np.array([0, 0])))

    assert DecomposeSampling().run(graph) is graph
    (problem,) = Tflite().check(graph)
    assert "hold a pixel, but %rois is computed" in str(problem)
