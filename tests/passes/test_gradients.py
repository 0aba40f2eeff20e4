"""Gradients of sampled labels tell what small changes cost in nats."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[recover]'")

from edgec.ir import Array, Constant, Graph
from edgec.ops import Activation, Add, FullyConnected, GlobalAveragePool, Mul, Reshape, Softmax
from edgec.passes.divergence import Divergence
from edgec.passes.gradients import mask_gradients, output_sensitivities
from tests.models import Sketch

COUNT = 800


def net(activation: Activation = Activation.NONE, *, head: str = "classes") -> Graph:
    """A layer ``v0`` of four channels, a factor ``c2`` and a shift ``c3`` of each, a head."""
    s = Sketch(1, 5, seed=4)
    w, b = s.random(4, 5), s.random(4)
    hidden = s.add(FullyConnected(activation), s.x, w, b)
    scaled = s.add(Mul(), hidden, s.const(np.ones(4, np.float32)))
    moved = s.add(Add(), scaled, s.const(np.zeros(4, np.float32)))
    w = s.random(1 if head in ("number", "common") else 3, 4)
    if head == "common":  # of three logits that are always the same
        w = s.const(np.repeat(s.constants[w.name].array, 3, axis=0))
    y = s.add(FullyConnected(), moved, w)
    return s.graph(s.add(Softmax(), y) if head == "softmax" else y)


def samples(count: int = COUNT) -> list[dict[str, Array]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(0, 0.3, (1, 5)).astype(np.float32)} for _ in range(count)]


def with_constant(graph: Graph, name: str, array: Array) -> Graph:
    changed = {**graph.constants, name: Constant(array.astype(np.float32))}
    return replace(graph, constants=MappingProxyType(changed))


@pytest.mark.parametrize("head", ["classes", "softmax", "number", "common"])
def test_squared_gradients_of_masks_are_what_other_factors_cost(head: str) -> None:
    graph, feeds = net(head=head), samples()
    judge = Divergence(graph, feeds)

    found = mask_gradients(graph, feeds, ["v0"])["v0"]
    assert found.shape == (COUNT, 4)
    for way in ([1.0, 0, 0, 0], [0, 0, 1.0, 0], [1.0, 1.0, 0, -1.0]):
        step = 0.03 * np.array(way)
        cost = float(judge.of(with_constant(graph, "c2", 1 + step)).mean())
        assert float(((found @ step) ** 2).mean() / 2) == pytest.approx(cost, rel=0.25)


@pytest.mark.parametrize("head", ["classes", "number", "common"])
def test_sensitivities_are_what_an_error_of_a_channel_costs(head: str) -> None:
    graph, feeds = net(head=head), samples()
    judge = Divergence(graph, feeds)

    found = output_sensitivities(graph, feeds, ["v0"])["v0"]
    for k in range(4):
        step = 0.03 * np.eye(4)[k]
        cost = float(judge.of(with_constant(graph, "c3", step)).mean())
        assert found[k] * 0.03**2 / 2 == pytest.approx(cost, rel=0.25)


def test_what_an_activation_cuts_off_is_not_sensitive() -> None:
    graph = net(Activation.RELU)
    sunk = np.array([0.0, -100.0, 0.0, 0.0])

    found = output_sensitivities(with_constant(graph, "c1", sunk), samples(64), ["v0"])["v0"]
    assert found[1] == 0.0
    assert (found[[0, 2, 3]] > 0).all()


def test_places_of_an_image_are_counted_one_by_one() -> None:
    s = Sketch(1, 2, 3, 4)
    pooled = s.add(GlobalAveragePool(), s.conv(s.x, 4))
    graph = s.graph(s.add(Reshape((1, 4)), pooled))
    rng = np.random.default_rng(1)
    feeds = [{"x": rng.standard_normal((1, 2, 3, 4)).astype(np.float32)} for _ in range(64)]

    masks = mask_gradients(graph, feeds, ["v0", "v2"])
    assert masks["v0"] == pytest.approx(masks["v2"], abs=1e-5)  # a factor may come before
    each, whole = (output_sensitivities(graph, feeds, [name])[name] for name in ("v0", "v2"))
    assert each * 12**2 == pytest.approx(whole, rel=1e-4)  # each place is a twelfth


def test_gradients_are_the_same_each_time_and_for_each_set_of_values() -> None:
    graph, feeds = net(), samples(40)
    first = mask_gradients(graph, feeds, ["v0"])["v0"]

    both = mask_gradients(graph, feeds, ["v1", "v0"])
    assert both["v0"].tobytes() == first.tobytes()
    assert mask_gradients(graph, feeds, ["v0"], seed=1)["v0"].tobytes() != first.tobytes()
