"""Channels that go together: in all the ways that networks tie them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from edgec.channels import ChannelGroup, channels_of, without
from edgec.ir import Graph, Value
from edgec.ops import (
    Add,
    Concat,
    Conv,
    FullyConnected,
    Gather,
    GroupedConv,
    MatMul,
    Pad,
    Relu,
    Reshape,
    Slice,
    Softmax,
    Split,
    Transpose,
)
from tests.channels.forms import check_removal
from tests.models import Sketch, feeds, graphs


def sizes(graph: Graph) -> list[int]:
    return [group.size for group in channels_of(graph).groups]


def check(graph: Graph) -> None:
    error, _ = check_removal(graph, feeds(graph))
    assert error < 1e-5


def residual() -> Graph:
    s = Sketch(1, 3, 6, 6)
    a = s.conv(s.x, 8)
    b = s.add(Relu(), s.conv(a, 5))
    c = s.add(Add(), a, s.conv(b, 8))
    return s.graph(s.conv(c, 4))


def test_a_residual_stream_is_one_group() -> None:
    graph = residual()
    first, second = sorted(channels_of(graph).groups, key=lambda g: -g.size)
    assert (first.size, second.size) == (8, 5)
    assert [n.layer for n in first.makers] == ["n0", "n3"]
    assert [n.layer for n in first.readers] == ["n1", "n5"]
    check(graph)


def test_what_is_joined_keeps_its_place() -> None:
    s = Sketch(1, 3, 6, 6)
    a, b = s.conv(s.x, 4), s.conv(s.x, 6)
    graph = s.graph(s.conv(s.add(Concat(1), a, b, a), 2))
    assert sorted(sizes(graph)) == [4, 6]
    doubled = next(g for g in channels_of(graph).groups if g.size == 4)
    assert {m.at.shape[1] for m in doubled.members} == {1, 2}
    check(graph)


def test_a_depthwise_multiplier_goes_with_its_channel() -> None:
    s = Sketch(1, 3, 6, 6)
    graph = s.graph(s.conv(s.depthwise(s.conv(s.x, 5), 3), 2))
    (group,) = channels_of(graph).groups
    assert group.size == 5
    assert {m.at.shape[1] for m in group.members} == {1, 3}
    check(graph)


def test_a_channel_is_many_columns_behind_a_flatten() -> None:
    s = Sketch(1, 3, 4, 4)
    flat = s.add(Reshape((1, -1)), s.conv(s.x, 5))
    graph = s.graph(s.add(FullyConnected(), flat, s.random(7, 80)))
    (group,) = channels_of(graph).groups
    assert group.size == 5
    assert max(m.at.shape[1] for m in group.members) == 16
    check(graph)


def shuffled(x: Value, s: Sketch, groups: int) -> Value:
    n, c, h, w = x.type.ints
    apart = s.add(Reshape((n, groups, c // groups, h, w)), x)
    return s.add(Reshape((n, c, h, w)), s.add(Transpose((0, 2, 1, 3, 4)), apart))


def test_shuffled_channels_go_from_every_group() -> None:
    s = Sketch(1, 3, 4, 4)
    graph = s.graph(s.conv(shuffled(s.conv(s.x, 12), s, 2), 3))
    (group,) = channels_of(graph).groups
    assert group.size == 6
    check(graph)


def test_a_grouped_convolution_loses_whole_groups() -> None:
    s = Sketch(1, 3, 4, 4)
    y = s.add(GroupedConv(pad=(1, 1, 1, 1), groups=4), s.conv(s.x, 8), s.random(12, 2, 3, 3))
    graph = s.graph(s.conv(y, 2))
    assert sizes(graph) == [4]
    check(graph)


def test_padded_channels_of_a_shortcut_may_go() -> None:
    s = Sketch(1, 3, 4, 4)
    a = s.conv(s.x, 6)
    wide = s.add(Pad((0, 2, 0, 0, 0, 4, 0, 0)), a)
    graph = s.graph(s.conv(s.add(Add(), wide, s.conv(a, 12)), 3))
    assert sorted(sizes(graph)) == [6, 6]
    check(graph)


def test_parts_and_cuts_and_picks_keep_their_places() -> None:
    s = Sketch(1, 3, 4, 4)
    one, two = s.adds(Split(1, (4, 8)), s.conv(s.x, 12))
    cut = s.add(Slice((2,), (7,), (1,), (1,)), two)
    picked = s.add(Gather(1), s.conv(s.x, 6), s.const(np.array([4, -6, 1], np.int64)))
    graph = s.graph(s.conv(s.add(Concat(1), one, cut, picked), 2))
    # Of the second part three are never read.
    assert sum(sizes(graph)) == 4 + 5 + 3
    check(graph)


def attention(heads: int = 4, width: int = 6) -> Graph:
    """One block of a transformer: heads, and a wide part."""
    s = Sketch(1, 5, 24)
    wide = heads * width

    def projected(x: Value, out: int) -> Value:
        y = s.add(MatMul(), x, s.random(int(x.type.shape[-1]), out))
        return s.add(Add(), y, s.random(out))

    def by_head(x: Value, perm: tuple[int, ...]) -> Value:
        return s.add(Transpose(perm), s.add(Reshape((1, 5, heads, width)), x))

    q = by_head(projected(s.x, wide), (0, 2, 1, 3))
    k = by_head(projected(s.x, wide), (0, 2, 3, 1))
    v = by_head(projected(s.x, wide), (0, 2, 1, 3))
    seen = s.add(MatMul(), s.add(Softmax(), s.add(MatMul(), q, k)), v)
    back = s.add(Reshape((1, 5, wide)), s.add(Transpose((0, 2, 1, 3)), seen))
    x = s.add(Add(), s.x, projected(back, 24))
    return s.graph(s.add(Add(), x, projected(s.add(Relu(), projected(x, 40)), 24)))


def test_heads_of_attention_and_the_wide_part_of_a_transformer() -> None:
    graph = attention()
    heads, wide = sorted(channels_of(graph).groups, key=lambda g: g.size)
    assert (heads.size, wide.size) == (4, 40)
    assert len(heads.makers) == 3
    assert max(m.at.shape[1] for m in heads.members) == 6
    check(graph)


def test_inputs_and_outputs_stay_as_they_are_and_say_so() -> None:
    s = Sketch(1, 3, 4, 4)
    out = s.conv(s.conv(s.x, 4), 2)
    graph = s.graph(out)
    found = channels_of(graph)
    assert [g.size for g in found.groups] == [4]
    assert {n.layer: why for n, why in found.reasons.items()} == {
        "n1": "they are an output of the model"
    }


def test_an_operator_that_mixes_channels_keeps_them_and_is_named() -> None:
    s = Sketch(1, 3, 4, 4)
    y = s.add(Softmax(-3), s.conv(s.x, 4))
    graph = s.graph(s.conv(y, 2))
    found = channels_of(graph)
    assert not found.groups
    reasons = {n.layer: why for n, why in found.reasons.items()}
    assert reasons["n0"] == "n1: Softmax(axis=-3) needs all of them"


def test_a_stride_in_a_cut_keeps_the_channels() -> None:
    s = Sketch(1, 3, 4, 4)
    cut = s.add(Slice((0,), (12,), (1,), (2,)), s.conv(s.x, 12))
    assert not channels_of(s.graph(s.conv(cut, 2))).groups


def test_weights_that_layers_share_tie_them() -> None:
    s = Sketch(1, 3, 4, 4)
    w = s.random(6, 3, 3, 3)
    a, b = (s.add(Conv(pad=(1, 1, 1, 1)), s.x, w) for _ in range(2))
    graph = s.graph(s.conv(a, 2), s.conv(b, 2))
    (group,) = channels_of(graph).groups
    assert len(group.makers) == len(group.readers) == 2
    check(graph)


def test_nothing_to_remove_is_the_same_graph() -> None:
    graph = residual()
    assert without(graph, {}) is graph


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_random_networks_lose_silent_channels_without_a_trace(graph: Graph) -> None:
    error, _ = check_removal(graph, feeds(graph))
    assert error < 1e-5


@given(graphs())
def test_each_index_is_in_one_unit(graph: Graph) -> None:
    seen: set[tuple[str, int, int]] = set()
    for group in channels_of(graph).groups:
        for m in group.members:
            assert len(m.at) == group.size
            mine = {(m.value, m.axis, int(i)) for i in m.at.ravel()}
            assert len(mine) == m.at.size
            assert not mine & seen
            seen |= mine


@pytest.mark.parametrize("units", [[0], [1, 3], [2, 0]])
def test_a_removal_names_the_indices_of_its_units(units: list[int]) -> None:
    groups: tuple[ChannelGroup, ...] = channels_of(residual()).groups
    group = max(groups, key=lambda g: g.size)
    for place, at in group.removal(units).items():
        member = next(m for m in group.members if m.place == place)
        assert at.tolist() == sorted(member.at[units].ravel().tolist())
