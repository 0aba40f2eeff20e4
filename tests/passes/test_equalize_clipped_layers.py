from __future__ import annotations

import numpy as np

from edgec.evaluate import evaluate
from edgec.ir import Array, Graph
from edgec.numerics import relative_error
from edgec.ops import Activation, Conv
from edgec.passes import EqualizeClippedLayers, EqualizeLayers, Lossy
from tests.targets.graphs import Net, random

SIZES = np.array([0.02, 0.1, 0.5, 8], np.float32).reshape(4, 1, 1, 1)


def clipped(activation: Activation = Activation.RELU6) -> Graph:
    """A layer whose last channel reaches its clip and whose others stay below, and another."""
    net = Net(x=(1, 3, 8, 8))
    net.add("a", Conv(activation=activation), "x", SIZES * random(4, 3, 3, 3, seed=1) / 4,
            random(4, seed=2) / 9)  # fmt: skip
    return net.graph(net.add("y", Conv(), "a", random(2, 4, 3, 3, seed=3), random(2, seed=4)))


def samples(count: int = 4) -> list[dict[str, Array]]:
    return [{"x": random(1, 3, 8, 8, seed=seed)} for seed in range(count)]


def weights(graph: Graph, layer: str) -> Array:
    array = graph.constant(next(n for n in graph.nodes if layer in n.origin).inputs[1])
    assert array is not None
    return array


def test_channels_below_their_clip_are_scaled_and_those_at_it_are_not() -> None:
    graph = clipped()

    after, records = EqualizeClippedLayers(samples()).run_recorded(graph)

    factors = (weights(graph, "a") / weights(after, "a"))[:, 0, 0, 0]
    assert factors[3] == 1
    assert (factors[:3] < 1).all()
    assert records[0].after_db > records[0].before_db
    assert after.nodes[0].op == graph.nodes[0].op
    for x in samples():
        assert relative_error(evaluate(graph, x), evaluate(after, x)) < 1e-5


def test_results_have_room_to_be_larger_than_on_the_samples() -> None:
    graph = clipped()
    tops = {room: EqualizeClippedLayers(samples(), room).run(graph) for room in (1.0, 2.0)}

    peaks = [evaluate(Graph("", graph.inputs, g.nodes[0].outputs, g.nodes[:1], g.constants), x)
             for g in tops.values() for x in samples()]  # fmt: skip
    per_graph = np.array([next(iter(p.values())).max((0, 2, 3)) for p in peaks]).reshape(
        2, 4, 4
    )
    tight, roomy = per_graph.max(axis=1)
    assert (tight[:3] <= 6 * (1 + 1e-6)).all()
    assert (roomy[:3] <= 3 * (1 + 1e-6)).all()
    assert tight[:3].max() > 4  # or the bounds above would say nothing


def test_other_clips_end_a_chain() -> None:
    graph = clipped(Activation.RELU_N1_TO_1)

    assert EqualizeClippedLayers(samples()).run(graph) is graph
    (first, _) = EqualizeClippedLayers(samples()).diagnostics(graph)
    assert str(first) == "a: its channels cannot be scaled: a clips every channel to [-1, 1]"


def test_without_clips_it_does_what_equalizing_does() -> None:
    graph = clipped(Activation.RELU)

    plain, clip = EqualizeLayers().run(graph), EqualizeClippedLayers(samples()).run(graph)
    assert str(plain) == str(clip)
    assert plain.constants == clip.constants


def test_is_lossy_as_other_inputs_may_reach_the_clip() -> None:
    assert isinstance(EqualizeClippedLayers.promise, Lossy)
    graph = clipped()
    after = EqualizeClippedLayers(samples(), 1.0).run(graph)
    x = {"x": 20 * random(1, 3, 8, 8, seed=9)}
    assert relative_error(evaluate(graph, x), evaluate(after, x)) > 1e-2


def test_channels_that_are_never_seen_stay() -> None:
    net = Net(x=(1, 3, 8, 8))
    bias = np.array([-99, 0, 0, 0], np.float32)
    net.add("a", Conv(activation=Activation.RELU6), "x",
            SIZES * random(4, 3, 3, 3, seed=1), bias)  # fmt: skip
    graph = net.graph(net.add("y", Conv(), "a", random(2, 4, 3, 3, seed=3)))

    after = EqualizeClippedLayers(samples()).run(graph)
    assert (weights(graph, "a")[0] == weights(after, "a")[0]).all()
    assert (weights(graph, "a")[1] != weights(after, "a")[1]).any()
