"""Broadcasting, beside layers that keep images channels-last."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.ir import Array
from edgec.ops import Add, Binary, Concat, Conv, Div, Mul, Sub
from edgec.targets import Tflite
from tests.targets.graphs import Net, f32, quantized, random
from tests.targets.test_tflite_conformance import assert_close, assert_steps

N, C, H, W = 1, 3, 4, 5
SHAPES = [
    (), (1,), (W,), (H, 1), (1, W), (H, W), (C, 1, 1), (1, 1, 1), (C, H, W), (1, H, 1),
    (N, C, 1, 1), (N, 1, H, W), (N, C, H, W), (1, 1, 1, 1),
]  # fmt: skip
OPS = [Add, Sub, Mul, Div]


def beside_a_layer(op: Binary, shape: tuple[int, ...], *, computed: bool, first: bool) -> Net:
    """Return a net in which `op` joins a channels-last image with something of `shape`."""
    net = Net(x=(N, C, H, W), other=shape) if computed else Net(x=(N, C, H, W))
    net.add("front", Conv(), "x", random(C, C, 1, 1, seed=1))
    other: str | Array = "other" if computed else f32(random(*shape, seed=2) + 3)
    operands: tuple[str | Array, ...] = (other, "front") if first else ("front", other)
    net.add("y", op, *operands)
    return net


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("computed", [False, True], ids=["constant", "computed"])
@pytest.mark.parametrize("first", [False, True], ids=["second", "first"])
@pytest.mark.parametrize("kind", OPS)
def test_an_image_with(kind: type[Binary], shape: tuple[int, ...], computed: bool,
                       first: bool) -> None:  # fmt: skip
    net = beside_a_layer(kind(), shape, computed=computed, first=first)
    graph = net.graph("y")
    feeds = {"x": random(N, C, H, W), "other": f32(random(*shape, seed=3) + 3)}
    feeds = {v.name: feeds[v.name] for v in net.inputs}

    assert_close(graph, feeds)
    if kind is not Div:
        assert_steps(quantized(graph, feeds), feeds)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_constants_cost_no_operator(shape: tuple[int, ...]) -> None:
    graph = beside_a_layer(Add(), shape, computed=False, first=False).graph("y")

    operators = Tflite(io_layout="nhwc").compile(graph).operators

    assert operators == {"ADD": 1, "CONV_2D": 1}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(1, 3), min_size=1, max_size=5),
    ones=st.lists(st.booleans(), min_size=5, max_size=5),
    drop=st.integers(0, 4),
)
def test_any_two_shapes(lengths: list[int], ones: list[bool], drop: int) -> None:
    a = tuple(lengths)
    b = tuple(1 if one else d for d, one in zip(lengths, ones, strict=False))[drop:]
    net = Net(a=a, b=b)
    graph = net.graph(net.add("y", Add(), "a", "b"))
    feeds = {"a": random(*a), "b": random(*b, seed=1)}

    assert_close(graph, feeds)
    assert_steps(quantized(graph, feeds), feeds)


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_concatenation_of_images_in_two_orders(axis: int) -> None:
    net = Net(x=(1, 3, 3, 3))
    net.add("front", Conv(), "x", random(3, 3, 1, 1, seed=1))
    net.add("both", Concat(axis), "front", "x", random(1, 3, 3, 3, seed=2))
    graph, feeds = net.graph("both"), {"x": random(1, 3, 3, 3)}

    assert_close(graph, feeds)
    assert_steps(quantized(graph, feeds), feeds, 3)
