"""Resizes of every kind against ONNX Runtime: TFLite's kernels, gathers and products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgec.ir import Array
from edgec.ops import Resize, SymmetricResize
from edgec.targets import Tflite
from tests.targets.graphs import one_op, random
from tests.targets.test_tflite_conformance import assert_close

COORDINATES = (
    "half_pixel",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "half_pixel_symmetric",
)
FACTORS = (0.3, 0.5, 0.6, 0.75, 1.0, 1.5, 2.0, 2.3, 3.7)


@st.composite
def resizes(draw: st.DrawFn) -> Resize:
    coordinates = draw(st.sampled_from(COORDINATES))
    kind = SymmetricResize if coordinates == "half_pixel_symmetric" else Resize
    two = st.tuples(st.integers(1, 11), st.integers(1, 11))
    op = kind(
        coordinates=coordinates, mode=draw(st.sampled_from(["nearest", "linear", "cubic"]))
    )
    if draw(st.booleans()):
        op = replace(op, sizes=draw(two))
    else:
        op = replace(op, scales=draw(st.tuples(*[st.sampled_from(FACTORS)] * 2)))
    if op.mode == "nearest":
        roundings = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        op = replace(op, rounding=draw(st.sampled_from(roundings)))
    else:
        op = replace(op, antialias=draw(st.booleans()))
    if op.mode == "cubic":
        op = replace(op, exclude_outside=draw(st.booleans()), cubic=draw(st.sampled_from(
            [-0.75, -0.5])))  # fmt: skip
    if coordinates == "tf_crop_and_resize":
        bounds = st.sampled_from([-0.2, 0.0, 0.1, 0.4, 0.6, 1.0, 1.2])
        op = replace(op, roi=draw(st.tuples(*[bounds] * 4)), beyond=draw(
            st.sampled_from([0.0, 10.0])))  # fmt: skip
    elif op.sizes:
        op = replace(op, policy=draw(st.sampled_from(["stretch", "not_larger", "not_smaller"])))
    return op


@settings(max_examples=500, deadline=None, derandomize=True)
@given(op=resizes(), h=st.integers(1, 8), w=st.integers(1, 8))
def test_resizes(op: Resize, h: int, w: int) -> None:
    x = random(2, 3, h, w)
    graph, feeds = one_op(op, x)
    problems = [str(d) for d in Tflite().check(graph)]
    assume(not problems)  # what runtimes disagree about, which has its own test

    assert_close(graph, feeds)


AXES = [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)]


@pytest.mark.parametrize(
    ("axes", "mode"),
    # ONNX Runtime has no linear resize of three axes.
    [*((axes, "nearest") for axes in AXES), *((axes, "linear") for axes in AXES[:-1])],
)
def test_any_axes_are_resized(axes: tuple[int, ...], mode: str) -> None:
    x = random(2, 3, 4)
    graph, feeds = one_op(Resize((5, 2, 7)[: len(axes)], mode=mode, axes=axes), x)

    assert_close(graph, feeds)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_the_nearest_of_any_type(dtype: type) -> None:
    x: Array = np.arange(24).astype(dtype).reshape(1, 2, 3, 4)
    graph, feeds = one_op(Resize((5, 2), rounding="ceil"), x)

    assert_close(graph, feeds)


@pytest.mark.parametrize(
    ("length", "out", "builtin"), [(80, 90, "SUM"), (20, 30, "BATCH_MATMUL")]
)
def test_long_axes_gather_what_has_weight(length: int, out: int, builtin: str) -> None:
    graph, feeds = one_op(Resize((out, 3), mode="cubic"), random(1, 2, length, 3))

    assert_close(graph, feeds)
    assert Tflite().compile(graph).operators[builtin] == 1


@pytest.mark.parametrize(
    ("op", "builtin"),
    [
        (Resize((8, 10), mode="linear"), "RESIZE_BILINEAR"),
        (Resize((8, 10), mode="linear", coordinates="align_corners"), "RESIZE_BILINEAR"),
        (Resize(scales=(2, 2), coordinates="asymmetric", rounding="floor"),
         "RESIZE_NEAREST_NEIGHBOR"),
        (Resize(scales=(2, 2)), "RESIZE_NEAREST_NEIGHBOR"),
    ],
)  # fmt: skip
def test_what_tflite_computes_itself_is_left_to_it(op: Resize, builtin: str) -> None:
    graph, feeds = one_op(op, random(1, 2, 4, 5))

    assert_close(graph, feeds)
    assert Tflite().compile(graph).operators == {builtin: 1, "TRANSPOSE": 2}


CROP = Resize((2, 5), coordinates="tf_crop_and_resize", roi=(0.1, 0.1, 0.6, 0.6))

UNSETTLED = [
    (Resize(scales=(1.3, 1), coordinates="align_corners"), "divides by a length of 5.2"),
    (Resize((), (0.6, 1), coordinates="tf_crop_and_resize", roi=(0, 0, 1, 1)), "length of 2.4"),
    (Resize((1, 5), mode="cubic", coordinates="pytorch_half_pixel"), "no place for a result"),
    (replace(CROP, mode="linear", antialias=True), "a kernel may lie beyond"),
    (replace(CROP, sizes=(4, 5)), "does not crop an axis that keeps its length"),
    (Resize(scales=(1.1, 1), coordinates="asymmetric"), ""),
    (Resize((10, 5), coordinates="half_pixel"), ""),
]


@pytest.mark.parametrize(("op", "reason"), UNSETTLED, ids=lambda v: str(v)[:50])
def test_what_runtimes_disagree_about_is_refused(op: Resize, reason: str) -> None:
    graph, _ = one_op(op, random(1, 1, 4, 5))
    problems = [str(d) for d in Tflite().check(graph)]

    assert bool(problems) == bool(reason)
    assert not reason or reason in problems[0]


def test_a_place_that_rounding_decides_is_refused() -> None:
    """At ``i / 0.6`` float32 finds 5 where more digits give a little less."""
    op = Resize((), (0.6, 1), rounding="floor", coordinates="asymmetric")
    graph, _ = one_op(op, random(1, 1, 10, 5))

    (problem,) = Tflite().check(graph)
    assert "so near the middle of two elements that rounding decides" in str(problem)
