from __future__ import annotations

import numpy as np
import pytest

from edgec.ir import Graph
from edgec.ops import Mul, Relu
from edgec.passes import LayerRecord
from edgec.passes.channel_means import judged
from tests.targets.graphs import Net, f32, random


def times(factor: float) -> Graph:
    net = Net(x=(1, 4))
    return net.graph(net.add("y", Mul(), "x", f32([factor])))


@pytest.mark.parametrize(("made", "kept"), [(1.05, "rounded"), (1.2, "plain"), (1.1, "plain")])
def test_only_what_is_nearer_on_samples_held_out_is_kept(made: float, kept: str) -> None:
    samples = [{"x": random(1, 4, seed=k)} for k in range(8)]
    graphs = times(1), times(1.1), times(made)
    graph, (record,) = judged(*graphs, samples, [LayerRecord("y", 10.0, 20.0, "rounded")])

    assert graph is (graphs[2] if kept == "rounded" else graphs[1])
    assert record.kept == kept
    assert record.after_db == (20 if kept == "rounded" else 10)


def test_samples_that_were_fitted_to_do_not_judge() -> None:
    net = Net(x=(1, 4))
    made = net.graph(net.add("y", Mul(), net.add("a", Relu(), "x"), f32([1.05])))
    ones = np.ones((1, 4))
    samples = [{"x": f32(ones if k % 4 == 3 else -ones)} for k in range(8)]

    assert judged(times(1), times(1.1), made, samples, [])[0] is made
