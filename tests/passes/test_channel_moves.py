from __future__ import annotations

import numpy as np
import pytest

from edgec.ir import Array, Example
from edgec.passes.channel_moves import ports
from tests.models import graph_of
from tests.ops.test_conformance import CASES, results


def turned(array: Array, axes: list[int]) -> Array:
    return np.asarray(np.flip(array, tuple(axes)))


@pytest.mark.parametrize("example", CASES)
def test_what_goes_with_channels_can_change_places(example: Example) -> None:
    """All that `ports` names in another order, on any example of any operator."""
    graph = graph_of(example)
    found = ports(graph, graph.nodes[0], 0)
    if found is None or found.data != (0,):
        return
    axes: dict[int, list[int]] = {0: [1]}
    for position, axis in found.constants:
        axes.setdefault(position, []).append(axis)
    given = [k for k in range(len(example.operands)) if k not in example.absent]
    operands = tuple(
        turned(a, axes.get(k, [])) for k, a in zip(given, example.inputs, strict=True)
    )

    want = results(example)
    got = results(Example(example.op, operands, example.absent))
    for k, (a, b) in enumerate(zip(want, got, strict=True)):
        same = turned(a, [1] if k in found.outputs else [])
        np.testing.assert_allclose(b, same, rtol=1e-4, atol=1e-5)


PORTS = {  # operand 0: constants with their axes, outputs
    "Conv-0": (((1, 1),), ()),
    "DepthwiseConv-0": (((1, 0), (2, 0)), (0,)),
    "BatchNorm-0": (((1, 0), (2, 0), (3, 0), (4, 0)), (0,)),
    "PRelu-0": (((1, 0),), (0,)),
    "Add-1": (((1, 0),), (0,)),
    "Relu-1": ((), (0,)),
    "MaxPool-0": ((), (0,)),
    "FullyConnected-0": (((1, 1),), ()),
}


@pytest.mark.parametrize("name", PORTS)
def test_what_goes_with_channels(name: str) -> None:
    (example,) = (c.values[0] for c in CASES if c.id == name)
    assert isinstance(example, Example)
    graph = graph_of(example)

    found = ports(graph, graph.nodes[0], 0)
    assert found is not None
    assert (found.constants, found.outputs) == PORTS[name]


@pytest.mark.parametrize("name", ["DepthwiseConv-2", "GroupedConv-0", "Softmax-0", "Reshape-0"])
def test_channels_that_cannot_change_places(name: str) -> None:
    (example,) = (c.values[0] for c in CASES if c.id == name)
    assert isinstance(example, Example)
    graph = graph_of(example)

    assert ports(graph, graph.nodes[0], 0) is None
