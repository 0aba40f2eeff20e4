from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from edgec.evaluate import evaluate
from edgec.frontend import load
from edgec.ir import Array, DType, Example, Graph, verify
from edgec.ops import GRU, LSTM, RNN, Opaque, Recurrent
from edgec.ops.recurrent import Direction, Function
from edgec.passes import UnrollRecurrent
from tests.models import graph_of, info, onnx_model, save
from tests.passes.properties import check_pass
from tests.targets.graphs import Net, random

KINDS = (RNN, GRU, LSTM)
EXAMPLES = [
    pytest.param(e, id=f"{kind.__name__}-{i}")
    for kind in KINDS
    for i, e in enumerate(kind.examples(np.random.default_rng(3)))
]


def unrolled(graph: Graph) -> Graph:
    after = check_pass(UnrollRecurrent(), graph)
    assert not any(isinstance(n.op, Recurrent | Opaque) for n in after.nodes)
    return after


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_steps_compute_what_the_layer_does(example: Example) -> None:
    unrolled(graph_of(example))


@pytest.mark.parametrize("example", EXAMPLES)
def test_parameters_may_be_computed(example: Example) -> None:
    names = [None if a is None else f"i{k}" for k, a in enumerate(example.operands)]
    arrays = {n: a for n, a in zip(names, example.operands, strict=True) if n is not None}
    if any(a is not None and a.dtype != np.float32 for a in arrays.values()):
        names[4] = None  # the lengths have a test of their own
        del arrays["i4"]
    net = Net(DType.FLOAT32, **{n: a.shape for n, a in arrays.items() if a is not None})
    net.add("y", example.op, *names)

    unrolled(net.graph(*(v.name for v in net.nodes[0].outputs)))


PLAIN = ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")
WITH_NUMBERS = ("Affine", "Elu", "HardSigmoid", "LeakyRelu", "ScaledTanh", "ThresholdedRelu")


@pytest.mark.parametrize("name", PLAIN + WITH_NUMBERS)
def test_all_functions(name: str) -> None:
    x, w, r = next(iter(RNN.examples(np.random.default_rng(1)))).inputs
    op = RNN(functions=(Function(name, 0.75, 0.25),))
    if name in PLAIN:
        op = RNN(functions=(Function(name),))

    unrolled(graph_of(Example(op, (x, w, r))))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [(2, 2), (1, 3), (0, 2)], ids=str)
@pytest.mark.parametrize("state", [True, False], ids=["from-a-state", "from-zero"])
def test_sequences_of_several_lengths(
    kind: type[Recurrent], direction: Direction, lengths: tuple[int, int], state: bool
) -> None:
    d = 2 if direction == "bidirectional" else 1
    x, w, r, b, *states = _operands(kind, d)
    op = replace(kind(), direction=direction)
    array = np.array(lengths, np.int32)
    operands = (x, w, r, b, array, *(states if state else ()))

    graph = unrolled(graph_of(Example(op, operands)))
    assert all("Greater" not in str(n.op) for n in graph.nodes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_lengths_that_are_computed(kind: type[Recurrent], direction: Direction) -> None:
    x, w, r, b, *states = _operands(kind, 1)
    lengths = np.array([0, 2], np.int32)
    net = Net(x=x.shape)
    net.add("y", replace(kind(), direction=direction), "x", w, r, b, lengths, *states)
    graph = net.graph(*(v.name for v in net.nodes[0].outputs))
    want = evaluate(graph, {"x": x})
    value = net.values["y.4"]
    fed = Graph("net", (*graph.inputs, value), graph.outputs, graph.nodes,
                {k: c for k, c in graph.constants.items() if k != "y.4"})  # fmt: skip

    after = UnrollRecurrent().run(fed)
    verify(after)
    got = evaluate(after, {"x": x, "y.4": lengths})
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-6)


def _operands(kind: type[Recurrent], d: int) -> tuple[Array, ...]:
    g, n, i, h = kind.gates, 2, 4, 5
    shapes = [(3, n, i), (d, g * h, i), (d, g * h, h), (d, 2 * g * h)]
    shapes += [(d, n, h)] * kind.states
    return tuple(random(*s, seed=k) for k, s in enumerate(shapes))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("state", [True, False], ids=["from-a-state", "from-zero"])
def test_a_batch_in_front_is_turned_around(
    kind: type[Recurrent], state: bool, tmp_path: Path
) -> None:
    """ONNX Runtime has no such layers, the reference has."""
    x, w, r, b, *states = _operands(kind, 1)
    x = x.transpose(1, 0, 2)
    swapped = [s.transpose(1, 0, 2) for s in states] if state else []
    arrays = {"w": w, "r": r, "b": b, **{f"s{k}": s for k, s in enumerate(swapped)}}
    names = ["x", "w", "r", "b", "", *(f"s{k}" for k in range(len(swapped)))]
    outs = ["y", *(f"y{k}" for k in range(1, kind.states + 1))]
    node = helper.make_node(kind.__name__, names, outs, hidden_size=5, layout=1)
    model = onnx_model([node], [info("x", *x.shape)], outs, arrays)

    graph = unrolled_only(load(save(model, tmp_path)).graph)
    want = ReferenceEvaluator(model).run(None, {"x": x})
    got = evaluate(graph, {"x": np.ascontiguousarray(x)})
    for name, array in zip(outs, want, strict=True):
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-6)


def unrolled_only(graph: Graph) -> Graph:
    after = UnrollRecurrent().run(graph)
    verify(after)
    assert UnrollRecurrent().run(after) is after
    return after


def test_products_with_the_input_are_one_layer_for_all_steps() -> None:
    (example, *_) = GRU.examples(np.random.default_rng(0))
    after = unrolled(graph_of(example))
    kinds = [type(n.op).__name__ for n in after.nodes]

    assert kinds.count("FullyConnected") == 1 + 3 * 2
    assert {n.origin for n in after.nodes} == {("layer",)}


def test_only_outputs_that_are_read_are_joined() -> None:
    (example, *_) = LSTM.examples(np.random.default_rng(0))
    graph = graph_of(example)
    last = Graph("last", graph.inputs, graph.outputs[1:2], graph.nodes, graph.constants)

    kinds = [type(n.op).__name__ for n in unrolled(last).nodes]
    assert kinds.count("Concat") == 1


def test_long_layers_stay_and_are_reported() -> None:
    (example, *_) = RNN.examples(np.random.default_rng(0))
    graph = graph_of(example)
    short = UnrollRecurrent(2)

    assert short.run(graph) is graph
    assert short.reason(graph.nodes[0]) == "it takes 3 steps, and up to 2 are written"
    assert UnrollRecurrent(3).reason(graph.nodes[0]) is None


def test_next_to_nothing_is_computed_as_float64_does() -> None:
    """Where the kernels of ONNX Runtime are off by more than what comes out is worth."""
    net = Net(x=(3, 1, 4))
    w, r = random(1, 5, 4, seed=1), random(1, 5, 5, seed=2)
    net.add("y", RNN(), "x", w, r)
    graph = unrolled(net.graph("y"))
    x = 1e-6 * random(3, 1, 4, seed=3)

    state, want = np.zeros((1, 5)), []
    for step in x.astype(np.float64):
        state = np.tanh(step @ w[0].T.astype(np.float64) + state @ r[0].T.astype(np.float64))
        want.append(state)
    got = evaluate(graph, {"x": x.astype(np.float32)})["y"][:, 0]
    np.testing.assert_allclose(got, np.array(want), rtol=1e-5, atol=1e-12)
