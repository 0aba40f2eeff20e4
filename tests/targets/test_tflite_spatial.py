"""Windows over lines, images and volumes, in every form that ONNX has, against ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgec.ops import (
    AveragePool,
    Conv,
    Convolution,
    ConvTranspose,
    DepthwiseConv,
    DilatedAveragePool,
    GroupedConv,
    LpPool,
    MaxPool,
    Pool,
)
from edgec.ops.window import Window
from edgec.targets import Tflite
from edgec.targets.tflite.padding import counts
from tests.targets.graphs import Net, one_op, quantized, random
from tests.targets.test_tflite_conformance import assert_close, assert_steps


@dataclass(frozen=True)
class Layout:
    """A window over so many spatial axes, and what it slides over."""

    size: tuple[int, ...]
    window: Window
    pad: tuple[int, ...]

    @property
    def fits(self) -> bool:
        axes = range(len(self.size))
        room = [self.size[i] + self.pad[i] + self.pad[i + len(self.size)] for i in axes]
        return all(room[i] >= self.window.span[i] for i in axes)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    axes = draw(st.integers(1, 3))

    def lengths(low: int, high: int, count: int = axes) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    size, kernel = lengths(2, 6), lengths(1, 3)
    window = Window(kernel, lengths(1, 3), draw(st.sampled_from([(1,) * axes, lengths(1, 2)])))
    return Layout(size, window, lengths(0, 2, 2 * axes))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(layout=layouts(), kind=st.sampled_from([Conv, DepthwiseConv, GroupedConv]),
       computed=st.booleans())  # fmt: skip
def test_convolutions(layout: Layout, kind: type[Convolution], computed: bool) -> None:
    assume(layout.fits)
    window = layout.window
    inner = {Conv: 4, DepthwiseConv: 1, GroupedConv: 2}[kind]
    op = kind(window.stride, layout.pad, window.dilation)
    if isinstance(op, GroupedConv):
        op = replace(op, groups=2)
    feeds = {"x": random(2, 4, *layout.size), "w": random(8, inner, *window.kernel, seed=1)}
    net = Net(x=feeds["x"].shape, w=feeds["w"].shape) if computed else Net(x=feeds["x"].shape)
    graph = net.graph(net.add("y", op, "x", "w" if computed else feeds["w"], random(8, seed=2)))
    feeds = {v.name: feeds[v.name] for v in graph.inputs}

    assert_close(graph, feeds)
    if not computed and len(layout.size) < 3:
        assert_steps(quantized(graph, feeds), feeds)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(layout=layouts(), extra=st.integers(0, 1), groups=st.sampled_from([1, 2, 4]),
       computed=st.booleans(), biased=st.booleans())  # fmt: skip
def test_transposed_convolutions(
    layout: Layout, extra: int, groups: int, computed: bool, biased: bool
) -> None:
    window, axes = layout.window, len(layout.size)
    added = tuple(min(extra, s - 1) for s in window.stride)
    op = ConvTranspose(window.stride, layout.pad, window.dilation, added, groups)
    feeds = {"x": random(2, 4, *layout.size), "w": random(4, 2, *window.kernel, seed=1)}
    spans = [(n - 1) * s + k for n, s, k in zip(layout.size, window.stride, window.span,
                                                strict=True)]  # fmt: skip
    assume(all(spans[i] > layout.pad[i] + layout.pad[i + axes] for i in range(axes)))
    net = Net(x=feeds["x"].shape, w=feeds["w"].shape) if computed else Net(x=feeds["x"].shape)
    bias = (random(2 * groups, seed=2),) if biased else ()
    graph = net.graph(net.add("y", op, "x", "w" if computed else feeds["w"], *bias))
    feeds = {v.name: feeds[v.name] for v in graph.inputs}
    if computed and axes == 3 and Tflite().check(graph):
        return

    assert_close(graph, feeds)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(layout=layouts(), ceil=st.booleans(), counted=st.booleans(), p=st.integers(1, 3),
       kind=st.sampled_from([MaxPool, AveragePool, LpPool]))  # fmt: skip
def test_pools(layout: Layout, ceil: bool, counted: bool, p: int, kind: type[Pool]) -> None:
    window, axes = layout.window, len(layout.size)
    assume(layout.fits and all(p < window.kernel[i % axes] for i, p in enumerate(layout.pad)))
    fields: dict[str, int] = {}
    if kind is AveragePool:
        fields = {"count_include_pad": counted and any(layout.pad)}
        if any(d != 1 for d in window.dilation):
            kind = DilatedAveragePool
    elif kind is LpPool:
        fields = {"p": p}
    op = kind(window.kernel, window.stride, layout.pad, window.dilation, ceil, **fields)
    x = random(2, 3, *layout.size) - 3  # all negative: a zero from the padding would win
    graph, feeds = one_op(op, x)
    held = counts(window, layout.size, layout.pad, graph.outputs[0].type.ints[2:], padded=False)
    if not all(n.all() for n in held):
        assert Tflite().check(graph) or kind is LpPool
        return

    assert_close(graph, feeds)
    if op.quant_rule() is not None:
        assert_steps(quantized(graph, feeds), feeds)


def test_lines_in_a_row_are_reshaped_once() -> None:
    net = Net(x=(1, 4, 9))
    line = {"stride": (1,), "pad": (1, 1), "dilation": (1,)}
    net.add("a", Conv(**line), "x", random(4, 4, 3))  # type: ignore[arg-type]
    net.add("b", DepthwiseConv(**line), "a", random(4, 1, 3))  # type: ignore[arg-type]
    net.add("c", MaxPool((2,), (2,), (0, 0), (1,)), "b")
    graph = net.graph("c")

    assert_close(graph, {"x": random(1, 4, 9)})
    assert Tflite().compile(graph).operators == {
        "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "MAX_POOL_2D": 1, "RESHAPE": 2, "TRANSPOSE": 2
    }  # fmt: skip


@pytest.mark.parametrize(
    "op", [Conv((2**62, 1), dilation=(2**63 - 1, 1)), MaxPool((1, 2), (2**40, 1))], ids=str
)
def test_steps_beyond_all_images_are_taken(op: Conv | MaxPool) -> None:
    inputs = [random(1, 2, 1, 5), random(3, 2, 1, 2, seed=1)]

    assert_close(*one_op(op, *inputs[: 1 + isinstance(op, Conv)]))


def test_a_dilated_mean_that_pads_as_tensorflow_does() -> None:
    """What the builtin pool would pad rightly it would average wrongly: it knows no gaps."""
    op = DilatedAveragePool((3, 2), (2, 3), (1, 1, 0, 0), (1, 2), ceil_mode=True)

    assert_close(*one_op(op, random(1, 3, 3, 4)))
