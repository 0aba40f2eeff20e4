"""Two layers fitted together: what is left between them changes, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgec.ir import Array, DType, Graph, Node, TensorType, Value
from edgec.ops import Activation, Add, Conv, FullyConnected, ReduceMean, Relu
from edgec.passes import Judge, ReconstructLayers
from edgec.passes.channel_cuts import ChannelCuts
from edgec.passes.divergence import Divergence
from edgec.passes.judging import judging
from edgec.passes.pair_fit import Pair, _Fit, _of, pairs_of, weights_of
from tests.passes.test_prune_channels import SHAPE, samples
from tests.targets.graphs import Net, random

SPARSE = Conv(stride=(2, 1), pad=(1, 0, 2, 1), dilation=(1, 2), activation=Activation.RELU)
SAME = Conv(pad=(1, 1, 1, 1))
LINE = Conv(stride=(2,), pad=(1, 1), dilation=(1,), activation=Activation.RELU6)


def two(
    first: Conv | FullyConnected, second: Conv | FullyConnected, *shapes: tuple[int, ...]
) -> Graph:
    """Two layers; shapes are those of the input and of both weights."""
    net = Net(x=shapes[0])
    net.add("a", first, "x", random(*shapes[1], seed=1), random(shapes[1][0], seed=2))
    weight = random(*shapes[2], seed=3)
    return net.graph(net.add("y", second, "a", weight, random(shapes[2][0], seed=4)))


PAIRS = {
    "convolutions": two(SPARSE, SAME, (1, 3, 9, 8), (4, 3, 3, 2), (5, 4, 3, 3)),
    "with steps in the second": two(SAME, SPARSE, (1, 3, 9, 8), (4, 3, 3, 3), (5, 4, 3, 2)),
    "of lines": two(LINE, LINE, (1, 3, 16), (4, 3, 3), (5, 4, 4)),
    "fully connected": two(
        FullyConnected(activation=Activation.RELU), FullyConnected(), (1, 6), (4, 6), (5, 4)
    ),
}


def ends(graph: Graph) -> tuple[Node, Node]:
    return graph.nodes[0], graph.nodes[1]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (-3.0, 3.0)])
def test_gradients_are_those_of_the_error(name: str, bounds: tuple[float, float]) -> None:
    graph = PAIRS[name]
    one, other = ends(graph)
    shapes = [tuple(int(n) for n in v.type.shape) for v in (*graph.inputs, *graph.outputs)]
    parts = [
        (random(*shapes[0], seed=k), random(*shapes[1], seed=k + 9), random(*shapes[1]), k > 2)
        for k in range(4)
    ]
    fit = _Fit(_of(one), _of(other), bounds, parts)
    weights = [*weights_of(graph, one), *weights_of(graph, other)]
    at = np.arange(3)

    def error(changed: list[Array]) -> float:
        return float((fit.forward(changed, at)[-1].astype(np.float64) ** 2).mean())

    for k, gradient in enumerate(fit.gradients(weights, at)):
        assert gradient.shape == weights[k].shape
        step = 1e-3 * gradient / np.linalg.norm(gradient)
        ahead, behind = (
            error([w + sign * step if i == k else w for i, w in enumerate(weights)])
            for sign in (1, -1)
        )
        assert (ahead - behind) / 2e-3 == pytest.approx(np.linalg.norm(gradient), rel=0.02)


def narrowed(activation: Activation = Activation.RELU) -> tuple[Graph, ChannelCuts]:
    """A network with a branch, and its cuts: what is between its layers is mixed at random."""
    net = Net(x=SHAPE)
    net.add("a", Conv(pad=(1,) * 4, activation=activation), "x",
            random(12, 3, 3, 3, seed=1), random(12, seed=2))  # fmt: skip
    net.add("b", Conv(pad=(1,) * 4), "a", random(3, 12, 3, 3, seed=3), random(3, seed=4))
    net.add("sum", Add(activation=Activation.RELU), "b", "x")
    graph = net.graph(net.add("y", Relu(), "sum"))
    return graph, ChannelCuts(graph, samples(), compensate=True)


def nats(graph: Graph, made: Graph) -> float:
    return float(Divergence(graph, samples(32, seed=9)).of(made).mean())


def test_both_layers_together_lose_less_than_each_alone() -> None:
    graph, cuts = narrowed()
    cut, kept = cuts.cut({"a": 8}, "obs"), cuts.kept({"a": 8}, "obs")

    alone, (*_, one) = ReconstructLayers(graph, kept, samples(), 0).run_recorded(cut)
    both, (changed, other) = ReconstructLayers(graph, kept, samples(), 200).run_recorded(cut)

    assert (one.layer, one.kept) == ("b", "fitted")
    assert (other.layer, other.kept) == ("b", "fitted with a")
    assert (changed.layer, changed.kept) == ("a", "fitted with b")
    assert other.after_db > one.after_db + 0.3
    assert other.before_db == one.before_db
    assert nats(graph, both) < 0.95 * nats(graph, alone)
    assert not np.array_equal(
        both.constants[both.nodes[0].inputs[1].name].array,
        cut.constants[cut.nodes[0].inputs[1].name].array,
    )
    again, _ = ReconstructLayers(graph, kept, samples(), 200).run_recorded(cut)
    for name, constant in both.constants.items():
        np.testing.assert_array_equal(constant.array, again.constants[name].array)


def test_what_comes_behind_is_fitted_to_what_both_yield() -> None:
    net = Net(x=SHAPE)
    for name, reads, shape in (("a", "x", (12, 3)), ("b", "a", (4, 12)), ("y", "b", (3, 4))):
        activation = Activation.NONE if name == "y" else Activation.RELU
        net.add(name, Conv(pad=(1,) * 4, activation=activation), reads,
                random(*shape, 3, 3, seed=shape[1]), random(shape[0]))  # fmt: skip
    graph = net.graph("y")
    cuts = ChannelCuts(graph, samples(), compensate=True)
    cut, kept = cuts.cut({"a": 8}, "obs"), cuts.kept({"a": 8}, "obs")

    made, (*_, last) = ReconstructLayers(graph, kept, samples(), 200).run_recorded(cut)

    alone = ReconstructLayers(graph, kept, samples(), 0).run(cut)
    assert nats(graph, made) < 0.95 * nats(graph, alone)
    judge = Judge(graph, judging(samples()))
    assert last.after_db == pytest.approx(judge.ratio(judge.errors(made)), abs=0.3)


def test_what_does_not_gain_where_judged_is_left() -> None:
    graph = PAIRS["convolutions"]
    one, other = ends(graph)
    weights = weights_of(graph, one), weights_of(graph, other)
    pair, same = Pair((-np.inf, np.inf)), Pair((-np.inf, np.inf))
    for k in range(8):
        x, want = random(1, 3, 9, 8, seed=k), np.full((1, 5, 5, 7), 50, np.float32)
        pair.add(x, -want if k % 4 == 3 else want, None, held=k % 4 == 3, of=8)
        same.add(x, want, None, held=k % 4 == 3, of=8)
    assert pair.fitted(one, other, *weights, steps=50) is None
    found = same.fitted(one, other, *weights, steps=50)
    assert found is not None
    assert found.gained > 1


def test_only_what_is_cut_and_read_by_one_layer_is_fitted_with_it() -> None:
    graph, _ = narrowed()
    kept = np.arange(8)
    assert {k: n.output.name for k, n in pairs_of(graph, {"a": kept}).items()} == {"b": "a"}
    assert pairs_of(graph, {"b": kept}) == {}  # a sum reads it
    net = Net(x=SHAPE)
    net.add("a", SAME, "x", random(8, 3, 3, 3), random(8))
    net.add("b", SAME, "a", random(3, 8, 3, 3), random(3))
    net.add("c", SAME, "a", random(3, 8, 3, 3), random(3))
    assert pairs_of(net.graph(net.add("y", Add(), "b", "c")), {"a": kept}) == {}
    net = Net(x=SHAPE)
    net.add("a", SAME, "x", random(8, 3, 3, 3), random(8))
    net.add("b", SAME, "a", random(3, 8, 3, 3), random(3))
    assert pairs_of(net.graph("a", "b"), {"a": kept}) == {}  # the result of the graph stays


def test_of_large_samples_some_are_held_and_some_of_them_judge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, want = np.zeros((1, 4), np.float32), np.zeros((1, 2), np.float32)
    monkeypatch.setattr("edgec.passes.pair_fit._MOST_BYTES", 8 * 32)
    pair = Pair((0.0, 1.0))
    for k in range(32):
        pair.add(x + k, want, want, held=k % 4 == 3, of=32)
    assert [int(part[0][0, 0]) for part in pair._parts] == [0, 1, 2, 3, 16, 17, 18, 19]
    assert [part[-1] for part in pair._parts] == [False, False, False, True] * 2


def test_samples_of_other_shapes_are_not_fitted_to() -> None:
    graph = PAIRS["convolutions"]
    one, other = ends(graph)
    pair = Pair((0.0, 1.0))
    for k in range(8):
        pair.add(random(1, 3, 9 + k % 2, 8), random(1, 5, 5, 7), None, held=k > 5, of=8)
    assert pair.fitted(one, other, weights_of(graph, one), weights_of(graph, other), 5) is None


@pytest.mark.parametrize("shared", [False, True])
def test_weights_that_others_share_stay(shared: bool) -> None:
    def beside(graph: Graph) -> Graph:
        """Add a layer with the weights of the first, and an output: the mean of its results."""
        first = graph.nodes[0]
        twin = replace(first, outputs=(replace(first.output, name="twin"),))
        mean = Value("mean", TensorType(DType.FLOAT32, (1, 1, 1, 1)))
        last = Node(ReduceMean((1, 2, 3)), (twin.output,), (mean,))
        return replace(graph, nodes=(*graph.nodes, twin, last), outputs=(*graph.outputs, mean))

    graph, cuts = narrowed()
    cut, kept = cuts.cut({"a": 8}, "obs"), cuts.kept({"a": 8}, "obs")
    if shared:
        graph, cut = beside(graph), beside(cut)

    made, records = ReconstructLayers(graph, kept, samples(), 100).run_recorded(cut)

    (last,) = (r for r in records if r.layer == "b")
    assert last.kept == ("fitted" if shared else "fitted with a")
    assert len(made.constants) == len(cut.constants)


@pytest.mark.parametrize(
    "limit", [("_MOST_MACS", 1e6), ("_MOST_BYTES", 4096)], ids=lambda limit: limit[0]
)
def test_what_would_take_too_much_is_not_fitted_together(
    limit: tuple[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = PAIRS["convolutions"]
    one, other = ends(graph)
    weights = weights_of(graph, one), weights_of(graph, other)
    monkeypatch.setattr(f"edgec.passes.pair_fit.{limit[0]}", limit[1])
    pair = Pair((-np.inf, np.inf))
    pair._seen = 8
    for k in range(8):
        x, want = random(1, 3, 9, 8, seed=k), np.full((1, 5, 5, 7), 50, np.float32)
        pair._parts.append((x, want, None, k % 4 > 1))
    assert pair.fitted(one, other, *weights, steps=50) is None
