"""Samples that are a little different each time they come."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[recover]'")

import torch

from edgec.ops import FullyConnected, Reshape
from edgec.passes import distillation
from edgec.passes.trainable import parameters_of
from edgec.passes.variation import WAYS, Way, mixed, varied
from tests.models import Sketch

DOWN, RIGHT = Way(0, mirrored=False), Way(1, mirrored=False)
UPSIDE_DOWN, MIRRORED = Way(0, mirrored=True), Way(1, mirrored=True)


def normal(*shape: int) -> torch.Tensor:
    array = np.random.default_rng(0).standard_normal(shape)
    return torch.from_numpy(array.astype(np.float32))


@pytest.mark.parametrize("channels_last", [False, True])
def test_images_are_moved_and_mirrored_along_their_sides(channels_last: bool) -> None:
    images = normal(2, 1, 3, 16, 24)
    axes = (0, 1, 3, 4, 2) if channels_last else (0, 1, 2, 3, 4)
    back = (0, 1, 4, 2, 3) if channels_last else axes
    draws = np.array([0.0, 0.99])

    def changed(way: Way) -> torch.Tensor:
        return way.of(images.permute(axes), draws).permute(back)

    for way, axis, steps in ((DOWN, -2, 2), (RIGHT, -1, 3)):
        want = [images[0].roll(-steps, axis), images[1].roll(steps, axis)]
        assert torch.equal(changed(way), torch.stack(want))
    for way, axis in ((UPSIDE_DOWN, -2), (MIRRORED, -1)):
        assert torch.equal(changed(way), torch.stack([images[0].flip(axis), images[1]]))


def test_images_of_one_sample_differ_in_the_same_way() -> None:
    image = normal(8, 1, 1, 8, 8)
    feeds = {"left": image, "right": -image, "number": torch.arange(8.0)}
    found = varied(feeds, WAYS, np.random.default_rng(0))

    assert not torch.equal(found["left"], image)
    assert torch.equal(found["left"], -found["right"])
    assert torch.equal(found["number"], feeds["number"])


def test_a_share_of_samples_is_mixed_and_none_with_integers() -> None:
    x = normal(64, 1, 5)
    rng = np.random.default_rng(0)
    found = mixed({"x": x}, 0.5, rng)["x"]
    same = (found == x).flatten(1).all(1)

    assert 0.25 < float(same.float().mean()) < 0.75
    other = x.roll(1, 0) - x
    part = ((found - x) * other).sum(-1, keepdim=True) / other.square().sum(-1, keepdim=True)
    assert torch.allclose(found, x + part * other, atol=1e-5)
    assert float(part.min()) > -1e-5
    assert float(part.max()) < 0.5 + 1e-5
    words = {"x": x, "words": torch.arange(64)}
    assert torch.equal(mixed(words, 0.5, rng)["x"], x)


def test_images_differ_only_in_ways_the_original_hardly_minds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is bright on the left is one class, and what is bright on the right another."""
    s = Sketch(1, 1, 8, 8)
    left = np.tile(np.repeat([1.0, -1.0], 4), 8)
    weight = s.const(np.stack([left, -left]).astype(np.float32) / 16)
    graph = s.graph(s.add(FullyConnected(), s.add(Reshape((1, 64)), s.x), weight))
    rng = np.random.default_rng(0)
    bright = [np.where(left.reshape(8, 8) > 0, k % 2, 1 - k % 2) for k in range(32)]
    feeds = [{"x": (b + rng.random((8, 8)) / 8).astype(np.float32)[None, None]} for b in bright]
    used: list[tuple[Way, ...]] = []

    def recorded(
        feeds: dict[str, torch.Tensor], ways: tuple[Way, ...], rng: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        used.append(tuple(ways))
        return varied(feeds, ways, rng)

    monkeypatch.setattr(distillation, "varied", recorded)
    found = distillation.Distillation(graph, graph, parameters_of(graph, "weights"), {})
    found.trained(feeds, feeds, distillation.Course(1))

    assert used[: len(WAYS)] == [(way,) for way in WAYS]  # each is tried
    assert set(used[len(WAYS) :]) == {(DOWN, RIGHT, UPSIDE_DOWN)}
