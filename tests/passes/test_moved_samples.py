"""Copies of samples whose images are moved."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.ir import Array
from edgec.passes.moved_samples import moved


def image(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(
    ("shape", "axes"), [((1, 3, 16, 24), (2, 3)), ((1, 16, 24, 3), (1, 2))]
)
def test_images_move_by_an_eighth_of_height_and_width_at_most(
    shape: tuple[int, ...], axes: tuple[int, int]
) -> None:
    x = image(*shape)
    copies = [sample["x"] for sample in moved([{"x": x}], 40)]

    steps = set()
    for copy in copies:
        found = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-3, 4)
            if np.array_equal(np.roll(x, (down, right), axes), copy)
        ]
        assert len(found) == 1
        steps.update(found)
    assert len(steps) > 10
    assert {abs(down) for down, _ in steps} == {0, 1, 2}
    assert {abs(right) for _, right in steps} == {0, 1, 2, 3}


def test_copies_come_round_by_round_and_are_the_same_each_time() -> None:
    samples = [{"x": image(1, 1, 16, 16) + 1000 * k} for k in range(3)]
    once, again = moved(samples, 2), moved(samples, 2)
    assert [int(s["x"].min()) // 1000 for s in once] == [0, 1, 2, 0, 1, 2]
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a["x"], b["x"])
    assert any((a["x"] != b["x"]).any() for a, b in zip(once[:3], once[3:], strict=True))


def test_what_is_no_image_stays() -> None:
    words = [{"x": np.arange(8)[None]}, {"x": np.arange(8)[None] + 1}]
    assert moved(words, 5) == words
    both = [{"x": image(1, 1, 16, 16), "n": np.arange(4)}]
    assert all(s["n"] is both[0]["n"] for s in moved(both, 3))
