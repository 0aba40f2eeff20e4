from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from edgec.evaluate import Evaluator, evaluate
from edgec.ir import Array, Graph, Op, Value, verify
from edgec.numerics import relative_error
from edgec.ops import (
    Activation,
    Add,
    Conv,
    DepthwiseConv,
    FullyConnected,
    Gelu,
    LayerNorm,
    MatMul,
    Mul,
    Reshape,
    RMSNorm,
    Sigmoid,
    Softmax,
    Transpose,
)
from edgec.passes import ChooseScales, MigrateScales, QuantizeGraph
from tests.models import Sketch, feeds, graphs

WIDTH, HEADS, LENGTH = 16, 2, 6


def samples(graph: Graph, count: int = 4) -> list[dict[str, Array]]:
    return [feeds(graph, seed) for seed in range(count)]


GAMMA = np.ones(WIDTH, np.float32)
GAMMA[[3, 7]] = 40, 25


def norm(s: Sketch, x: Value, op: Op) -> Value:
    """A normalisation with few channels that are many times as large as the others."""
    offset = (
        () if isinstance(op, RMSNorm) else (s.const(GAMMA * s.rng.random(WIDTH, np.float32)),)
    )
    return s.add(op, x, s.const(GAMMA), *offset)


def product(s: Sketch, x: Value, width: int) -> Value:
    """A layer that does not heed large channels more than others."""
    w = s.rng.standard_normal((int(x.type.shape[-1]), width)).astype(np.float32) / 4
    if isinstance(s.nodes[-1].op, LayerNorm | RMSNorm) or len(s.nodes) < 12:
        w /= GAMMA[:, None]
    return s.add(Add(), s.add(MatMul(), x, s.const(w)), s.random(width))


def heads(s: Sketch, x: Value) -> Value:
    x = s.add(Reshape((1, LENGTH, HEADS, WIDTH // HEADS)), x)
    return s.add(Transpose((0, 2, 1, 3)), x)


def block(op: Op | None = None, *, norm_first: bool = True) -> Graph:
    """A layer of a transformer."""
    op = op or LayerNorm()
    s = Sketch(1, LENGTH, WIDTH)
    x = s.x if norm_first else norm(s, s.x, op)
    y = norm(s, x, op) if norm_first else x
    q, k, v = (heads(s, product(s, y, WIDTH)) for _ in range(3))
    weights = s.add(Softmax(), s.add(MatMul(), q, s.add(Transpose((0, 1, 3, 2)), k)))
    seen = s.add(Transpose((0, 2, 1, 3)), s.add(MatMul(), weights, v))
    x = s.add(Add(), x, product(s, s.add(Reshape((1, LENGTH, WIDTH)), seen), WIDTH))
    y = norm(s, x, op)
    y = product(s, s.add(Gelu(), product(s, y, 4 * WIDTH)), WIDTH)
    return s.graph(s.add(Add(), x, y))


@pytest.mark.parametrize("op", [LayerNorm(), RMSNorm()])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_outputs_stay(op: Op, strength: float) -> None:
    graph = block(op)

    after, records = MigrateScales(samples(graph), strength).run_recorded(graph)

    verify(after)
    assert after.outputs == graph.outputs
    assert len(records) == 5  # q, k, v, the product behind attention, the first of two layers
    x = feeds(graph, 9)
    assert relative_error(evaluate(graph, x), evaluate(after, x)) < 1e-5


def test_large_channels_become_smaller_by_the_strength() -> None:
    graph = block()
    tops = [reads(MigrateScales(samples(graph), a).run(graph)) for a in (0.0, 0.5, 1.0)]

    spread = [t.max() / np.median(t) for t in (reads(graph), *tops)]
    assert spread[0] > 15
    assert spread[0] > spread[2] > spread[3]
    assert spread[3] == pytest.approx(1, abs=1e-3)


def reads(graph: Graph) -> Array:
    """The largest magnitude of each channel that the first normalisation makes."""
    made = next(n.output for n in graph.nodes if isinstance(n.op, LayerNorm))
    evaluator = Evaluator(graph, (made,))
    found = [np.abs(evaluator.run(x)[made.name]).max((0, 1)) for x in samples(graph)]
    return np.asarray(np.max(found, axis=0))


def test_the_formula() -> None:
    graph, given = block(), samples(block())

    after, records = MigrateScales(given, 0.75).run_recorded(graph)

    x = reads(graph)
    each = [np.abs(constant(graph, f"n{i}")).max(axis=1) for i in (1, 5, 9)]
    w = np.max([tops / tops.max() for tops in each], axis=0)
    s = (x / x.max()) ** 0.75 / w**0.25
    got = constant(graph, "n0") / constant(after, "n0")
    np.testing.assert_allclose(got, s, rtol=1e-4)
    for i in (1, 5):  # the columns of the third have factors of their own
        got = constant(after, f"n{i}") / constant(graph, f"n{i}")
        np.testing.assert_allclose(got, np.broadcast_to(s[:, None], got.shape), rtol=1e-4)
    assert records[0].after_db > records[0].before_db


def constant(graph: Graph, layer: str) -> Array:
    array = graph.constant(next(n for n in graph.nodes if layer in n.origin).inputs[1])
    assert array is not None
    return array


def test_a_residual_sum_behind_the_norm_keeps_it_as_it_is() -> None:
    graph = block(norm_first=False)
    after = MigrateScales(samples(graph)).run(graph)

    assert after.nodes[0] == graph.nodes[0]
    assert after.constants[after.nodes[0].inputs[1].name] is not None
    assert after is not graph  # from values to the product behind attention


def test_factors_of_channels_begin_a_chain() -> None:
    s = Sketch(1, 4)
    y = s.add(Mul(), s.add(Sigmoid(), s.x), s.const(np.array([1, 1, 30, 1], np.float32)))
    y = s.add(Add(), y, s.random(4))
    graph = s.graph(s.add(FullyConnected(), y, s.random(3, 4)))

    after = MigrateScales(samples(graph)).run(graph)

    assert after.nodes[1].output.name == "v1.scaled"
    x = feeds(graph, 9)
    assert relative_error(evaluate(graph, x), evaluate(after, x)) < 1e-5


def test_weights_with_a_scale_for_each_channel_take_over_anything() -> None:
    s = Sketch(1, 3, 6, 6)
    size = np.array([1, 4, 16, 64], np.float32).reshape(4, 1, 1, 1)
    w = s.const(size * s.rng.standard_normal((4, 3, 1, 1)).astype(np.float32))
    y = s.add(Conv(activation=Activation.RELU), s.x, w)
    graph = s.graph(s.add(DepthwiseConv(), y, s.random(4, 1, 3, 3)))

    after = MigrateScales(samples(graph)).run(graph)

    evaluator = Evaluator(graph, graph.nodes[0].outputs)
    tops = np.max([evaluator.run(x)["v0"] for x in samples(graph)], axis=(0, 1, 3, 4))
    factors = (constant(graph, "n0") / constant(after, "n0"))[:, 0, 0, 0]
    np.testing.assert_allclose(factors, np.sqrt(tops / tops.max()), rtol=1e-4)


@given(graph=graphs())
@settings(max_examples=40, deadline=None)
def test_outputs_of_any_graph_stay(graph: Graph) -> None:
    after = MigrateScales(samples(graph, 2)).run(graph)

    verify(after)
    if after is not graph:
        x = feeds(graph, 9)
        assert relative_error(evaluate(graph, x), evaluate(after, x)) < 1e-5


def test_without_samples_nothing_is_known() -> None:
    graph = block()
    assert MigrateScales(()).run(graph) is graph


def test_what_makes_a_transformer_easier_to_quantize_is_kept() -> None:
    graph = block()
    ways = {f"{a}": (MigrateScales(samples(graph), a),) for a in (0.25, 0.5, 0.75)}

    after, records = ChooseScales(ways, QuantizeGraph(), samples(graph, 16)).run_recorded(graph)

    assert after is not graph
    best = max(records[:3], key=lambda r: r.after_db)
    assert best.kept == "chosen"
    assert best.after_db > best.before_db + 3
