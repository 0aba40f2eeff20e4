from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Example
from edgec.ops import (
    Activation,
    Conv,
    Convolution,
    ConvTranspose,
    DepthwiseConv,
    FullyConnected,
    GroupedConv,
)
from edgec.passes.patches import groups_of, patches, places_of
from tests.targets.graphs import Net


def examples() -> Iterator[Example]:
    for op in (Conv, DepthwiseConv, GroupedConv, FullyConnected):
        yield from op.examples(np.random.default_rng(0))


@pytest.mark.parametrize("example", list(examples()), ids=lambda e: str(e.op))
def test_results_are_products_of_patches(example: Example) -> None:
    op, (x, weight, *bias) = example.op, example.inputs
    assert isinstance(op, Convolution | FullyConnected)
    op = replace(op, activation=Activation.NONE)
    net = Net(x=x.shape)
    y = evaluate(net.graph(net.add("y", op, "x", weight, *bias)), {"x": x})["y"]
    groups = groups_of(op, x.shape[1])
    assert groups is not None
    at = np.arange(places_of(y))[::2]

    inner, results = patches(op, weight.shape, x, y, groups, at)

    by_group = weight.reshape(groups, -1, weight[0].size)
    made = inner @ by_group.transpose(0, 2, 1)
    if bias:
        made += bias[0].reshape(groups, 1, -1)
    np.testing.assert_allclose(made, results, rtol=1e-4, atol=1e-4)
    assert results.size == len(at) * y.shape[1]


def test_what_is_no_sum_over_patches_is_told() -> None:
    assert groups_of(ConvTranspose(), 4) is None
