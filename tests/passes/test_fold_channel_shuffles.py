from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.frontend import load
from edgec.ir import Graph, Op, Value
from edgec.ops import (
    Add,
    AveragePool,
    Clip,
    Concat,
    Conv,
    ConvTranspose,
    DepthwiseConv,
    Gather,
    GroupedConv,
    MaxPool,
    Mul,
    PRelu,
    Relu,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Split,
    Transpose,
)
from edgec.passes import FoldChannelShuffles, simplify
from tests.frontend.test_real_models import FILES, MODELS, feeds_of
from tests.models import Sketch
from tests.passes.properties import check_pass

fold = FoldChannelShuffles()


def shuffled(s: Sketch, x: Value, groups: int = 2) -> Value:
    """A channel shuffle as exporters write it."""
    n, c, h, w = x.type.ints
    split = s.add(Reshape((n, groups, c // groups, h, w)), x)
    return s.add(Reshape((n, c, h, w)), s.add(Transpose((0, 2, 1, 3, 4)), split))


def halves(s: Sketch, x: Value) -> tuple[Value, Value]:
    """The two halves of a shuffle of two groups, as they are often written."""
    n, c, h, w = x.type.ints
    turned = s.add(Transpose((1, 0, 2)), s.add(Reshape((n * c // 2, 2, h * w)), x))
    parts = s.add(Reshape((2, n, c // 2, h, w)), turned)
    one, two = (s.add(Gather(0), parts, s.const(np.array(i, np.int64))) for i in (0, 1))
    return one, two


def kinds(graph: Graph) -> Counter[str]:
    return Counter(type(n.op).__name__ for n in graph.nodes)


def conv1(s: Sketch, x: Value, channels: int, op: Conv | None = None) -> Value:
    return s.add(op or Conv(), x, s.random(channels, x.type.ints[1], 1, 1), s.random(channels))


def grouped(s: Sketch, x: Value) -> Value:
    c = x.type.ints[1]
    return s.add(GroupedConv(groups=2), x, s.random(c, c // 2, 1, 1))


PASSING: dict[str, tuple[Op, tuple[int, ...]]] = {
    "depthwise": (DepthwiseConv(pad=(1, 1, 1, 1)), (6, 1, 3, 3)),
    "prelu": (PRelu(), (6, 1, 1)),
    "one slope": (PRelu(), (1,)),
    "relu": (Relu(), ()),
    "clip": (Clip(-0.5, 0.5), ()),
    "scale": (Mul(), (1, 6, 1, 1)),
    "offset": (Add(), (6, 5, 5)),
    "max pool": (MaxPool(kernel=(2, 2)), ()),
    "mean pool": (AveragePool(kernel=(2, 2)), ()),
    "resize": (Resize(scales=(2.0, 2.0), axes=(2, 3)), ()),
    "crop": (Slice((1,), (3,), (2,), (1,)), ()),
}


@pytest.mark.parametrize(("op", "constant"), PASSING.values(), ids=PASSING)
def test_a_shuffle_is_taken_in_further_down(op: Op, constant: tuple[int, ...]) -> None:
    s = Sketch(1, 6, 5, 5)
    x = shuffled(s, grouped(s, s.x))
    x = s.add(op, x, *([s.random(*constant)] if constant else []))
    before = s.graph(conv1(s, x, 4))

    after = check_pass(fold, before)
    assert [type(n.op) for n in after.nodes] == [GroupedConv, type(op), Conv]


def test_all_readers_take_it_in() -> None:
    s = Sketch(1, 6, 5, 5)
    x = shuffled(s, grouped(s, s.x), 3)
    a = conv1(s, s.depthwise(x), 4)
    b = s.add(ConvTranspose(), s.add(Relu(), x), s.random(6, 4, 1, 1))

    after = check_pass(fold, s.graph(s.add(Add(), a, b)))
    assert not kinds(after) & Counter(("Reshape", "Transpose"))


def test_what_is_in_another_order_has_another_name() -> None:
    s = Sketch(1, 6, 5, 5)
    x = s.add(Relu(), shuffled(s, grouped(s, s.x)))

    after = check_pass(fold, s.graph(conv1(s, x, 4)))
    assert [n.output.name for n in after.nodes] == ["v0", "v4.reordered", "v5"]
    assert [n.origin for n in after.nodes] == [("n0",), ("n4",), ("n5",)]


def blocks(s: Sketch, x: Value, count: int) -> Value:
    """Blocks of which each sends half of the channels through layers."""
    half = x.type.ints[1] // 2
    for _ in range(count):
        one, two = halves(s, x)
        two = conv1(s, s.depthwise(s.add(Relu(), conv1(s, two, half))), half)
        x = s.add(Concat(1), one, two)
    return x


@pytest.mark.parametrize("count", [1, 2, 3])
def test_halves_of_shuffles_are_parts_of_what_layers_make(count: int) -> None:
    s = Sketch(1, 3, 4, 4)
    x = s.add(Concat(1), conv1(s, s.x, 8), conv1(s, s.x, 8))
    before = s.graph(conv1(s, blocks(s, x, count), 3))

    after = check_pass(fold, before)
    assert kinds(after).keys() <= {"Conv", "DepthwiseConv", "Relu", "Concat", "Split"}
    assert len(after.nodes) < len(before.nodes)
    assert sum(kinds(after)[k] for k in ("Split", "Concat")) <= 3 * count + 1


def test_a_layer_is_cut_in_the_order_of_its_readers() -> None:
    s = Sketch(1, 3, 4, 4)
    one, two = halves(s, conv1(s, s.x, 8))
    after = check_pass(fold, s.graph(conv1(s, one, 2), conv1(s, two, 3)))

    assert [str(n.op).partition("(")[0] for n in after.nodes] == [
        "Conv",
        "Split",
        "Conv",
        "Conv",
    ]
    split = after.nodes[1]
    assert split.op == Split(1, (4, 4))
    assert split.inputs[0].name == "v0.reordered"


def test_what_nothing_reads_is_cut_off() -> None:
    s = Sketch(1, 3, 4, 4)
    one, _ = halves(s, conv1(s, s.x, 8))
    after = check_pass(fold, s.graph(conv1(s, one, 2)))

    assert [type(n.op) for n in after.nodes] == [Conv, Slice, Conv]


REFUSED = {
    "an output": lambda s, x: x,
    "a sum": lambda s, x: conv1(s, s.add(Add(), x, s.x), 4),
    "a scale that is computed": lambda s, x: conv1(
        s, s.add(Mul(), x, s.add(MaxPool(kernel=(5, 5)), s.x)), 4
    ),
    "groups": lambda s, x: grouped(s, x),
    "two outputs of each channel": lambda s, x: conv1(s, s.depthwise(x, 2), 4),
    "over channels": lambda s, x: conv1(s, s.add(Softmax(-3), x), 4),
    "as one line": lambda s, x: s.add(Reshape((1, 150)), x),
    "one reader of two": lambda s, x: s.add(Add(), conv1(s, x, 6), x),
    "channels cut": lambda s, x: s.add(Relu(), s.add(Slice((0,), (3,), (1,), (1,)), x)),
}


@pytest.mark.parametrize("reader", REFUSED.values(), ids=REFUSED)
def test_keeps_what_needs_the_order(reader) -> None:  # type: ignore[no-untyped-def]
    s = Sketch(1, 6, 5, 5)
    graph = s.graph(reader(s, shuffled(s, grouped(s, s.x))))

    assert fold.run(graph) is graph


def volume(s: Sketch, x: Value) -> Value:
    return s.add(Conv((1, 1, 1), (0,) * 6, (1, 1, 1)), x, s.random(2, x.type.ints[1], 1, 1, 1))


@pytest.mark.parametrize("part", [False, True])
def test_keeps_what_is_read_on_the_way(part: bool) -> None:
    s = Sketch(1, 6, 5, 5)
    split = s.add(Reshape((1, 3, 2, 5, 5)), grouped(s, s.x))
    turned = s.add(Transpose((0, 2, 1, 3, 4)), split)
    y = s.add(Reshape((1, 6, 5, 5)), turned)
    between = s.add(Gather(1), split, s.const(np.array([2, 0, 1]))) if part else split
    graph = s.graph(conv1(s, y, 4), volume(s, between))

    check_pass(fold, graph)


def test_keeps_what_is_read_in_order_too() -> None:
    s = Sketch(1, 6, 5, 5)
    made = conv1(s, s.x, 8)
    one, two = halves(s, made)
    y = shuffled(s, grouped(s, s.x))
    graph = s.graph(conv1(s, one, 3), conv1(s, two, 3), made, conv1(s, y, 3), y)

    check_pass(fold, graph)


def test_keeps_what_would_be_more_nodes() -> None:
    s = Sketch(1, 8, 5, 5)
    x = s.add(Gather(1), grouped(s, s.x), s.const(np.array([0, 2, 4, 1, 3, 5, 6, 7])))
    x = s.add(Gather(1), x, s.const(np.array([0, 1, 2])))
    graph = s.graph(conv1(s, x, 4))

    assert fold.run(graph) is graph


@pytest.mark.parametrize(
    "graph",
    [
        (s := Sketch(1, 8, 4, 4)).graph(
            conv1(s, s.add(Concat(1), *reversed(s.adds(Split(1, (4, 4)), s.x))), 3)
        ),
        (s := Sketch("N", 6, 5, 5)).graph(
            s.conv(s.add(Gather(1), s.x, s.const(np.array([1, 0, 2, 3, 5, 4]))), 4)
        ),
        (s := Sketch(1, 6, 5, 5)).graph(s.add(Transpose((0, 2, 3, 1)), s.x)),
        (s := Sketch(1, 6, 5, 5)).graph(
            conv1(s, s.add(Gather(1), s.x, s.const(np.array([0, 0, 1, 1, 2]))), 4)
        ),
    ],
    ids=["swapped halves", "unknown length", "layout", "twice"],
)
def test_other_moves(graph: Graph) -> None:
    check_pass(fold, graph)


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Layers, moves of channels and what passes them on, in any order."""
    s = Sketch(1, 6, 3, 3, seed=draw(st.integers(0, 9)))
    values = [s.x, conv1(s, s.x, 8), grouped(s, s.x)]
    for _ in range(draw(st.integers(2, 9))):
        x = draw(st.sampled_from(values))
        c = x.type.ints[1]
        kind = draw(st.sampled_from(("shuffle", "halves", "conv", "depthwise", "relu", "concat",
                                     "slice", "split", "gather", "add")))  # fmt: skip
        if kind == "shuffle" and c % 2 == 0:
            values.append(shuffled(s, x, 2))
        elif kind == "halves" and c % 2 == 0:
            values.extend(halves(s, x))
        elif kind == "conv":
            values.append(conv1(s, x, draw(st.sampled_from((4, 6, 8)))))
        elif kind == "depthwise":
            values.append(s.depthwise(x))
        elif kind == "relu":
            values.append(s.add(PRelu(), x, s.random(c, 1, 1)))
        elif kind == "concat":
            values.append(s.add(Concat(1), x, draw(st.sampled_from(values))))
        elif kind == "slice" and c > 2:
            values.append(s.add(Slice((1,), (c,), (1,), (draw(st.integers(1, 2)),)), x))
        elif kind == "split" and c > 1:
            values.extend(s.adds(Split(1, (1, c - 1)), x))
        elif kind == "gather":
            indices = draw(st.lists(st.integers(-c, c - 1), min_size=1, max_size=8))
            values.append(s.add(Gather(1), x, s.const(np.array(indices))))
        elif kind == "add":
            others = [v for v in values if v.type.ints[1] == c]
            values.append(s.add(Add(), x, draw(st.sampled_from(others))))
    ends = draw(st.lists(st.sampled_from(values[1:]), min_size=1, max_size=3, unique=True))
    bare = [v for v in ends if v != s.x and draw(st.booleans())]
    return s.graph(*bare, *(conv1(s, v, 2) for v in ends))


@given(networks())
def test_the_same_comes_out_of_any_network(graph: Graph) -> None:
    check_pass(fold, graph)


SHUFFLED = [p for p in FILES if p.stem in ("fastestdet", "sinet_portrait")]


@pytest.mark.skipif(
    not SHUFFLED, reason=f"there are no such models in {MODELS}; set EDGEC_DATA"
)
@pytest.mark.parametrize("path", SHUFFLED, ids=lambda p: p.stem)
def test_real_networks_keep_no_shuffle(path) -> None:  # type: ignore[no-untyped-def]
    graph = load(path).graph
    after, _ = simplify(graph, feeds_of(graph))

    assert kinds(graph)["Transpose"] > 9
    assert kinds(after)["Gather"] == 0
    assert kinds(after)["Transpose"] <= 1
