"""What every lossless pass must hold on any graph."""

from __future__ import annotations

from edgec.evaluate import Evaluator
from edgec.ir import Graph, verify
from edgec.numerics import relative_error
from edgec.passes import Exact, Pass, Within
from tests.models import feeds

__all__ = ["check_pass"]


def check_pass(step: Pass, graph: Graph) -> Graph:
    """Run a pass and check its promise on three inputs, its idempotence and its result."""
    after = step.run(graph)
    verify(after)
    assert step.run(after) is after
    assert after.inputs == graph.inputs
    assert after.outputs == graph.outputs
    promise = step.promise
    assert isinstance(promise, Exact | Within)
    if after is not graph:
        one, two = Evaluator(graph), Evaluator(after)
        for seed in (1, 2, 3):
            x = feeds(graph, seed)
            assert relative_error(one.run(x), two.run(x)) <= promise.tolerance
    return after
