"""The memory planner: what it must never do, and how near it comes to what is possible."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import InternalError
from edgec.targets.microcontroller.memory import (
    ALIGNMENT,
    Buffer,
    Moment,
    Overlay,
    Plan,
    _Search,
    check,
    moments,
    place,
)
from edgec.targets.microcontroller.memory_picture import memory_svg


def chain(*sizes: int) -> list[Buffer]:
    """Buffers that are read by the step after the one that writes them."""
    return [Buffer(f"t{k}", size, k, k + 1) for k, size in enumerate(sizes)]


def greedy_size(buffers: list[Buffer]) -> int:
    """The arena of first-fit with the largest first, written once more."""
    placed: list[tuple[int, int, Buffer]] = []
    for b in sorted(buffers, key=lambda b: (-b.rounded, b.first)):
        if not b.rounded:
            continue
        near = sorted(
            (p for p in placed if p[2].first <= b.last and b.first <= p[2].last),
            key=lambda p: p[0],
        )
        at = 0
        for start, end, _ in near:
            if start - at >= b.rounded:
                break
            at = max(at, end)
        placed.append((at, at + b.rounded, b))
    return max((end for _, end, _ in placed), default=0)


# Sizes of MobileNetV1 0.25 on 96 x 96 pixels: the largest first wastes a sixth of the arena.
MOBILENET = chain(
    27648, 18432, 18432, 36864, 9216, 18432, 18432, 18432, 4608, 9216, 9216, 9216, 2304, 4608,
    4608, 4608, 4608, 4608, 4608, 4608, 4608, 4608, 4608, 4608, 1152, 2304, 2304, 2304, 256, 2,
)  # fmt: skip


def test_reaches_the_bound_where_the_largest_first_does_not() -> None:
    plan = place(MOBILENET)

    assert greedy_size(MOBILENET) == 64_512
    assert plan.size == plan.bound == 55_296


def test_searches_on_where_no_usual_order_is_good() -> None:
    spans = [(64, 1, 1), (48, 2, 2), (72, 4, 6), (48, 1, 2), (24, 2, 4)]
    buffers = [Buffer(f"b{k}", *span) for k, span in enumerate(spans)]

    plan = place(buffers)

    assert greedy_size(buffers) == 136
    assert plan.size == plan.bound == 120


@pytest.mark.parametrize(
    ("slack", "at", "lowest"),
    [(8, 16, 0), (-16, 16, 0), (-24, 16, 48), (-23, 24, 0), (0, 0, 0), (-8, 0, 32)],
)
def test_a_result_is_placed_at_most_its_slack_behind(slack: int, at: int, lowest: int) -> None:
    search = _Search([Buffer("x", 32, 0, 1), Buffer("y", 32, 1, 1)], [Overlay("y", "x", slack)])

    assert search._lowest(1, [at, -1], search.slack) == lowest


def test_residual_networks_reach_the_bound() -> None:
    buffers = [
        Buffer("x", 3072, 0, 1),
        Buffer("a", 16384, 1, 4),
        Buffer("b", 16384, 2, 3),
        Buffer("c", 16384, 3, 4),
        Buffer("sum", 16384, 4, 6),
        Buffer("d", 8192, 5, 7),
        Buffer("scratch", 3264, 2, 2),
    ]

    plan = place(buffers)

    assert plan.size == plan.bound == 49_152


def test_a_result_lies_over_what_dies() -> None:
    buffers = chain(1000, 1000, 1000)
    overlays = [Overlay("t1", "t0", 0), Overlay("t2", "t1", 0)]

    assert place(buffers).size == 2000
    assert place(buffers, overlays).size == 1000


def test_a_negative_slack_keeps_its_distance() -> None:
    buffers = chain(1000, 1000, 1000)
    overlays = [Overlay("t1", "t0", -30), Overlay("t2", "t1", -32)]

    plan = place(buffers, overlays)

    assert plan.size == 1064
    assert plan.bound == 1032
    assert plan.offsets == {"t2": 0, "t1": 32, "t0": 64}


def test_a_result_over_two_operands_keeps_both_distances() -> None:
    buffers = [Buffer("a", 64, 0, 2), Buffer("b", 64, 1, 2), Buffer("sum", 64, 2, 3)]

    both = place(buffers, [Overlay("sum", "a", 0), Overlay("sum", "b", 0)])

    assert both.size == both.bound == 128
    assert both.offsets["sum"] == min(both.offsets["a"], both.offsets["b"])


def test_an_exact_overlay_starts_where_its_operand_does() -> None:
    buffers = [Buffer("state", 64, 0, 2), Buffer("x", 800, 0, 1), Buffer("y", 200, 1, 2)]
    overlay = Overlay("y", "x", 0, exact=True)
    plan = place(buffers, [overlay])

    assert plan.size == plan.bound == 864
    assert plan.offsets["y"] == plan.offsets["x"]

    shifted = Plan({"state": 808, "x": 8, "y": 0}, 872, 864)
    check(shifted, buffers, [Overlay("y", "x", 0)])
    with pytest.raises(InternalError):
        check(shifted, buffers, [overlay])


def test_nothing_lies_over_what_is_needed_later() -> None:
    buffers = [Buffer("a", 64, 0, 2), Buffer("b", 64, 1, 2)]

    assert place(buffers, [Overlay("b", "a", 64)]).size == 128


def test_places_are_aligned_and_the_empty_takes_nothing() -> None:
    plan = place([Buffer("a", 3, 0, 0), Buffer("b", 3, 0, 0), Buffer("nothing", 0, 0, 0)])

    assert sorted(plan.offsets.values()) == [0, 0, 8]
    assert plan.size == 16
    assert place([]) == Plan({}, 0, 0)


def test_a_name_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InternalError, match="names gone"):
        place(chain(8), [Overlay("t0", "gone", 0)])
    with pytest.raises(InternalError, match="same name"):
        place([*chain(8), *chain(8)])


@pytest.mark.parametrize(
    ("offsets", "size", "said"),
    [
        ({"t0": 0, "t1": 8}, 24, "t1 while both|t0 while both"),
        ({"t0": 0, "t1": 20}, 40, "can start at 20"),
        ({"t0": 0, "t1": 16}, 24, "arena of 24"),
        ({"t0": 0}, 32, "no place"),
        ({"t0": 0, "t1": -8}, 32, "can start at -8"),
    ],
)
def test_the_checker_sees_what_is_wrong(offsets: dict[str, int], size: int, said: str) -> None:
    buffers = chain(16, 16)
    check(Plan({"t0": 0, "t1": 16}, 32, 32), buffers)

    with pytest.raises(InternalError, match=said):
        check(Plan(offsets, size, 0), buffers)


def test_the_checker_keeps_the_distance_of_overlays() -> None:
    buffers = chain(16, 16)
    overlays = [Overlay("t1", "t0", -8)]
    check(Plan({"t0": 8, "t1": 0}, 24, 24), buffers, overlays)

    with pytest.raises(InternalError, match="while both are needed"):
        check(Plan({"t0": 0, "t1": 0}, 24, 24), buffers, overlays)
    with pytest.raises(InternalError, match="while both are needed"):
        check(Plan({"t0": 8, "t1": 0}, 24, 24), chain(16, 16, 16)[:2], [])
    with pytest.raises(InternalError, match="below the bound"):
        check(Plan({"t0": 8, "t1": 0}, 24, 32), buffers, overlays)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Buffer], list[Overlay]]:
    steps = draw(st.integers(1, 8))
    buffers = list[Buffer]()
    for k in range(draw(st.integers(1, 12))):
        first = draw(st.integers(0, steps))
        last = draw(st.integers(first, min(first + 3, steps)))
        buffers.append(Buffer(f"b{k}", draw(st.integers(0, 200)), first, last))
    pairs = [
        (r.name, x.name)
        for r in buffers
        for x in buffers
        if x.last == r.first and x.first < r.first
    ]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    overlays = [
        Overlay(r, x, 0, exact=True)
        if draw(st.booleans())
        else Overlay(r, x, draw(st.integers(-120, 120)))
        for r, x in chosen
    ]
    return buffers, overlays


@settings(max_examples=60, deadline=None)
@given(problems())
def test_any_buffers_are_placed_without_contradiction(
    problem: tuple[list[Buffer], list[Overlay]],
) -> None:
    buffers, overlays = problem

    plan = place(buffers, overlays)
    plain = place(buffers)

    check(plan, buffers, overlays)  # raises
    allowed = {(o.result, o.operand): o.slack for o in overlays}
    exact = {(o.result, o.operand) for o in overlays if o.exact}
    for b in buffers:
        assert plan.offsets[b.name] % ALIGNMENT == 0
        for other in buffers:
            if b is other or b.first > other.last or other.first > b.last:
                continue
            low = max(plan.offsets[b.name], plan.offsets[other.name])
            high = min(plan.offsets[b.name] + b.size, plan.offsets[other.name] + other.size)
            distance = plan.offsets[b.name] - plan.offsets[other.name]
            over = allowed.get((b.name, other.name), -10_000)
            under = allowed.get((other.name, b.name), -10_000)
            assert low >= high or distance <= over or -distance <= under
            if low < high and distance:
                assert (b.name, other.name) not in exact
                assert (other.name, b.name) not in exact
    assert plan.bound <= plan.size <= min(plain.size, greedy_size(buffers))
    assert plan.bound <= plain.bound <= plain.size <= greedy_size(buffers)
    assert place(list(buffers), list(overlays)) == plan


def test_the_arena_over_time() -> None:
    buffers = [dataclasses.replace(b, size=10) for b in chain(1, 1)]
    plan = place(buffers)

    assert [m.live_bytes for m in moments(plan, buffers)] == [10, 20, 10]
    assert moments(plan, buffers)[1] == Moment(1, ("t1", "t0"), 20, 26)
    assert moments(place([]), []) == ()


def test_the_picture_has_a_box_for_each_buffer() -> None:
    buffers = [*MOBILENET, Buffer("a <b> & c", 8, 0, 29)]

    picture = memory_svg(place(buffers), buffers, title="<vww>")

    root = ElementTree.fromstring(picture)
    boxes = root.findall(".//{http://www.w3.org/2000/svg}rect")
    assert len(boxes) == len(buffers)
    assert all(float(b.attrib["y"]) >= 0 for b in boxes)
    assert "a &lt;b&gt; &amp; c: 8 bytes from" in picture
    assert memory_svg(place([]), []).startswith("<svg")
