from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, Value, verify
from edgec.numerics import relative_error
from edgec.ops import (
    Activation,
    Add,
    AveragePool,
    Concat,
    Conv,
    ConvTranspose,
    DepthwiseConv,
    Div,
    Expand,
    FullyConnected,
    Gather,
    GlobalAveragePool,
    GroupedConv,
    HardSwish,
    LayerNorm,
    LeakyRelu,
    MatMul,
    Max,
    MaxPool,
    Mul,
    Pad,
    PRelu,
    ReduceMean,
    Relu,
    Reshape,
    Resize,
    Sigmoid,
    Slice,
    Softmax,
    Split,
    Sub,
    Transpose,
    Where,
)
from edgec.passes import EqualizeLayers
from tests.models import Sketch, feeds, graphs


def uneven(*shape: int, seed: int = 0) -> Array:
    """Weights whose output channels differ a lot in size."""
    rng = np.random.default_rng(seed)
    size = np.exp2(rng.uniform(-4, 4, (shape[0], *(1,) * (len(shape) - 1))))
    return np.asarray(rng.standard_normal(shape) * size, np.float32)


def conv(s: Sketch, x: Value, channels: int, op: Conv | None = None) -> Value:
    """A convolution with uneven channels and a bias."""
    w = uneven(channels, int(x.type.shape[1]), 3, 3, seed=len(s.nodes))
    op = op or Conv(pad=(1, 1, 1, 1), activation=Activation.RELU)
    return s.add(op, x, s.const(w), s.random(channels))


Middle = Callable[[Sketch, Value], Value]


def between(middle: Middle) -> Graph:
    """Something between two convolutions."""
    s = Sketch(1, 2, 6, 6)
    return s.graph(s.conv(middle(s, conv(s, s.x, 4)), 3))


def depthwise(s: Sketch, x: Value) -> Value:
    w = s.const(uneven(8, 1, 3, 3))
    return s.add(DepthwiseConv(pad=(1, 1, 1, 1)), x, w, s.random(8))


def grouped(s: Sketch, x: Value) -> Value:
    return s.add(GroupedConv(groups=2), x, s.const(uneven(6, 2, 3, 3)))


def transposed(s: Sketch, x: Value) -> Value:
    w = s.const(uneven(4, 3, 2, 2))
    return s.add(ConvTranspose(stride=(2, 2)), x, w, s.random(3))


def transposed_in_groups(s: Sketch, x: Value) -> Value:
    w = s.const(uneven(4, 3, 2, 2))
    return s.add(ConvTranspose(stride=(2, 2), groups=2), x, w, s.random(6))


def prelu(s: Sketch, x: Value) -> Value:
    x = conv(s, x, 4, Conv())
    return s.add(PRelu(), x, s.random(4, 1, 1))


def leaky(s: Sketch, x: Value) -> Value:
    return s.add(LeakyRelu(0.2), conv(s, x, 4, Conv()))


def pooled(s: Sketch, x: Value) -> Value:
    x = s.add(MaxPool((2, 2), pad=(1, 1, 1, 1)), x)
    return s.add(AveragePool((2, 2)), x)


def padded_and_resized(s: Sketch, x: Value) -> Value:
    x = s.add(Pad((0, 0, 1, 0, 0, 0, 1, 2)), x)
    return s.add(Resize(scales=(2.0, 2.0)), x)


def with_zero_channels(s: Sketch, x: Value) -> Value:
    other = conv(s, s.x, 7)
    return s.add(Add(), s.add(Pad((0, 1, 0, 0, 0, 2, 0, 0)), x), other)


def residual(s: Sketch, x: Value) -> Value:
    y = conv(s, x, 4, Conv(pad=(1, 1, 1, 1)))
    return s.add(Relu(), s.add(Add(), x, y))


def parallel(s: Sketch, x: Value) -> Value:
    return s.add(Concat(1), x, conv(s, s.x, 3))


def over_rows(s: Sketch, x: Value) -> Value:
    return s.add(Concat(2), x, conv(s, s.x, 4))


def parts(s: Sketch, x: Value) -> Value:
    a, b = s.adds(Split(1, (1, 3)), x)
    c = s.add(Slice((1,), (4,), (1,), (2,)), x)
    d = s.add(Gather(1), x, s.const(np.array([2, 0], np.int64)))
    return s.add(Concat(1), b, c, a, d)


def scaled(s: Sketch, x: Value) -> Value:
    x = s.add(Mul(), s.random(4, 1, 1), x)
    x = s.add(Div(), x, s.random(4, 1, 1))
    return s.add(Mul(), x, s.const(np.array(0.3, np.float32)))


def shifted(s: Sketch, x: Value) -> Value:
    x = s.add(Sub(), s.random(), x)
    return s.add(Max(), s.add(Add(), x, s.random(4, 1, 1)), s.const(np.zeros((), np.float32)))


def gate(s: Sketch, x: Value) -> Value:
    mean = s.add(GlobalAveragePool(), x)
    return s.add(Mul(), x, s.add(Sigmoid(), s.conv(mean, 4)))


def chosen(s: Sketch, x: Value) -> Value:
    condition = s.const(np.random.default_rng(0).random((1, 1, 6, 6)) < 0.5)
    return s.add(Where(), condition, x, s.const(np.array(0.5, np.float32)))


def turned(s: Sketch, x: Value) -> Value:
    y = s.add(Transpose((0, 2, 3, 1)), x)
    y = s.add(MatMul(), y, s.const(uneven(5, 4).T.copy()))
    return s.add(Transpose((0, 3, 1, 2)), y)


def turned_with_matrix_in_front(s: Sketch, x: Value) -> Value:
    y = s.add(Reshape((1, 4, 36)), x)
    y = s.add(MatMul(), s.const(uneven(5, 4)), y)
    return s.add(Reshape((1, 5, 6, 6)), y)


def reduced(s: Sketch, x: Value) -> Value:
    y = s.add(ReduceMean((2, 3), keepdims=False), x)
    y = s.add(FullyConnected(Activation.RELU), y, s.const(uneven(5, 4)), s.random(5))
    return s.add(Expand((1, 5, 2, 2)), s.add(Reshape((1, 5, 1, 1)), y))


def flattened(s: Sketch, x: Value) -> Value:
    y = s.add(Reshape((1, 144)), x)
    y = s.add(FullyConnected(), y, s.random(8, 144), s.random(8))
    return s.add(Reshape((1, 8, 1, 1)), y)


CHAINS: list[Middle] = [
    lambda s, x: x,
    depthwise,
    grouped,
    transposed,
    transposed_in_groups,
    prelu,
    leaky,
    pooled,
    padded_and_resized,
    with_zero_channels,
    residual,
    parallel,
    over_rows,
    parts,
    scaled,
    shifted,
    gate,
    chosen,
    turned,
    turned_with_matrix_in_front,
    reduced,
    flattened,
]


@pytest.mark.parametrize("middle", CHAINS, ids=lambda f: f.__name__)
def test_scales_through(middle: Middle) -> None:
    graph = between(middle)

    after, records = EqualizeLayers().run_recorded(graph)

    verify(after)
    first, last = graph.nodes[0], graph.nodes[-1]
    assert weights(after, first.origin[0]) != weights(graph, first.origin[0])
    assert after.producers[after.outputs[0]].inputs[1] != last.inputs[1]
    assert records[0].after_db > records[0].before_db  # its channels differ most
    for seed in (1, 2):
        x = feeds(graph, seed)
        assert relative_error(evaluate(graph, x), evaluate(after, x)) < 1e-5


def weights(graph: Graph, layer: str) -> bytes:
    node = next(n for n in graph.nodes if layer in n.origin)
    array = graph.constant(node.inputs[1])
    assert array is not None
    return array.tobytes()


@given(graph=graphs())
@settings(max_examples=60, deadline=None)
def test_outputs_stay(graph: Graph) -> None:
    after = EqualizeLayers().run(graph)

    verify(after)
    assert (after.inputs, after.outputs) == (graph.inputs, graph.outputs)
    if after is not graph:
        x = feeds(graph)
        assert relative_error(evaluate(graph, x), evaluate(after, x)) < 1e-5


def test_channels_of_both_layers_come_out_alike() -> None:
    graph = between(lambda s, x: x)
    after, records = EqualizeLayers().run_recorded(graph)

    w1, w2 = (after.constant(n.inputs[1]) for n in after.nodes)
    assert w1 is not None
    assert w2 is not None
    rows, columns = np.abs(w1).max((1, 2, 3)), np.abs(w2).max((0, 2, 3))
    np.testing.assert_allclose(rows / rows.max(), columns / columns.max(), rtol=1e-5)
    assert [r.kept for r in records] == ["equalized", "equalized"]
    assert EqualizeLayers().run(after) is after


def test_a_chain_with_a_depthwise_layer_settles() -> None:
    graph = between(depthwise)
    after, records = EqualizeLayers().run_recorded(graph)

    assert min(r.after_db for r in records) > min(r.before_db for r in records)
    assert EqualizeLayers().run(after) is after


def test_attention_passes_factors_from_values_to_the_product_behind() -> None:
    s = Sketch(1, 4, 8)
    q, k, v = (s.add(MatMul(), s.x, s.const(uneven(8, 8, seed=i).T.copy())) for i in range(3))
    heads = [s.add(Transpose((0, 2, 1, 3)), s.add(Reshape((1, 4, 2, 4)), y)) for y in (q, k, v)]
    scores = s.add(MatMul(), heads[0], s.add(Transpose((0, 1, 3, 2)), heads[1]))
    seen = s.add(MatMul(), s.add(Softmax(), scores), heads[2])
    back = s.add(Reshape((1, 4, 8)), s.add(Transpose((0, 2, 1, 3)), seen))
    graph = s.graph(s.add(MatMul(), back, s.random(8, 3)))

    after = EqualizeLayers().run(graph)

    same = [weights(graph, f"n{i}") == weights(after, f"n{i}") for i in range(3)]
    assert same == [True, True, False]
    x = feeds(graph)
    assert relative_error(evaluate(graph, x), evaluate(after, x)) < 1e-5
    messages = [str(d) for d in EqualizeLayers().diagnostics(graph)]
    assert len(messages) == 3
    assert "n0: its channels cannot be scaled: n10 (MatMul) is not homogeneous" in messages[0]


def hard_swish(s: Sketch, x: Value) -> Value:
    return s.add(HardSwish(), conv(s, x, 4, Conv()))


def clipped(s: Sketch, x: Value) -> Value:
    return conv(s, x, 4, Conv(activation=Activation.RELU6))


def output_too(s: Sketch, x: Value) -> Value:
    return conv(s, x, 4)


def into_squares(s: Sketch, x: Value) -> Value:
    y = conv(s, x, 4)
    return s.add(Mul(), y, y)


def computed_weights(s: Sketch, x: Value) -> Value:
    w = s.add(Reshape((3, 4, 3, 3)), s.add(Slice((0,), (3,), (1,), (1,)), conv(s, x, 36)))
    return s.add(Conv(), conv(s, x, 4), w)


def pooled_over_channels(s: Sketch, x: Value) -> Value:
    y = s.add(MaxPool((2, 2), pad=(1, 0, 0, 1)), s.add(Transpose((0, 2, 1, 3)), x))
    return s.add(Transpose((0, 2, 1, 3)), y)


def mean_over_channels(s: Sketch, x: Value) -> Value:
    return s.add(ReduceMean((1,)), x)


def computed_slopes(s: Sketch, x: Value) -> Value:
    return s.add(PRelu(), s.conv(s.x, 4), x)


def product_of_two(s: Sketch, x: Value) -> Value:
    return s.add(MatMul(), x, conv(s, s.x, 4))


@pytest.mark.parametrize(
    ("middle", "layer", "reason"),
    [
        (hard_swish, "n1", "n2 (HardSwish) is not homogeneous in each channel"),
        (clipped, "n1", "n1 clips every channel to [0, 6]"),
        (lambda s, x: s.add(LayerNorm(), x, s.const(np.ones(6, np.float32))),
         "n0", "n1 normalises over channels"),
        (lambda s, x: s.add(Pad((0, 0, 1, 1, 0, 0, 1, 1), 1.0), x),
         "n0", "n1 (Pad) is not homogeneous"),
        (lambda s, x: s.add(Pad((0, -1, 0, 0, 0, 2, 0, 0)), x),
         "n0", "n1 (Pad) is not homogeneous"),
        (lambda s, x: s.add(Sigmoid(), x), "n0", "n1 (Sigmoid) is not homogeneous"),
        (lambda s, x: s.add(Reshape((1, 4, 6, 6)), s.add(Softmax(), x)), "n0", "(Softmax)"),
        (into_squares, "n1", "n2 multiplies two computed values"),
        (pooled_over_channels, "n0", "n2 (MaxPool) is not homogeneous in each channel"),
        (mean_over_channels, "n0", "n1 (ReduceMean) is not homogeneous"),
        (computed_slopes, "n0", "n2 has computed slopes"),
        (product_of_two, "n0", "n2 (MatMul) is not homogeneous"),
        (lambda s, x: s.add(Resize(scales=(0.5,), axes=(1,)), x),
         "n0", "n1 (Resize) is not homogeneous"),
        (lambda s, x: s.add(Resize(sizes=(6, 6), coordinates="tf_crop_and_resize",
                                   roi=(0, 0, 1.5, 1), beyond=1.0), x),
         "n0", "n1 (Resize) is not homogeneous"),
    ],
    ids=lambda p: p if isinstance(p, str) else "",
)  # fmt: skip
def test_says_what_cannot_be_scaled(middle: Middle, layer: str, reason: str) -> None:
    graph = between(middle)

    after = EqualizeLayers().run(graph)

    found = {d.where: d.message for d in EqualizeLayers().diagnostics(graph)}
    assert reason in found[layer]
    made = next(n.output for n in graph.nodes if layer in n.origin)
    assert made in after.producers  # as it was, by its name
    x = feeds(graph)
    assert relative_error(evaluate(graph, x), evaluate(after, x)) < 1e-5


def test_outputs_of_the_graph_are_as_they_were() -> None:
    s = Sketch(1, 2, 6, 6)
    y = conv(s, s.x, 4)
    graph = s.graph(y, s.conv(y, 3))

    assert EqualizeLayers().run(graph) is graph
    messages = [str(d) for d in EqualizeLayers().diagnostics(graph)]
    assert messages == [
        "n0: its channels cannot be scaled: n0 makes an output of the model",
        "n1: its channels cannot be scaled: n1 makes an output of the model",
    ]


def test_other_floats_are_left_alone() -> None:
    s = Sketch(1, 4, dtype=DType.FLOAT16)
    w = [s.const(uneven(4, 4, seed=i).astype(np.float16)) for i in range(2)]
    graph = s.graph(s.add(FullyConnected(), s.add(FullyConnected(), s.x, w[0]), w[1]))

    assert EqualizeLayers().run(graph) is graph


def test_layers_go_on_to_share_their_weights() -> None:
    s = Sketch(1, 4, 6, 6)
    w = s.const(uneven(4, 4, 3, 3))
    y = conv(s, s.x, 4)
    for _ in range(2):
        y = s.add(Conv(pad=(1, 1, 1, 1)), y, w)
    graph = s.graph(s.conv(y, 3))

    after = EqualizeLayers().run(graph)

    assert after is not graph
    assert after.nodes[1].inputs[1] == after.nodes[2].inputs[1]
    x = feeds(graph)
    assert relative_error(evaluate(graph, x), evaluate(after, x)) < 1e-5


def test_a_channel_of_zeros_stays() -> None:
    s = Sketch(1, 2, 6, 6)
    w = uneven(4, 2, 3, 3)
    w[1] = 0
    y = s.add(Conv(pad=(1, 1, 1, 1)), s.x, s.const(w), s.random(4))
    graph = s.graph(s.conv(y, 3))

    after = EqualizeLayers().run(graph)

    biases = [
        graph.constant(graph.nodes[0].inputs[2]),
        after.constant(after.nodes[0].inputs[2]),
    ]
    assert biases[0] is not None
    assert biases[1] is not None
    assert biases[0][1] == biases[1][1]
    assert (biases[0] != biases[1]).sum() == 2  # all others but the largest


def test_open_lengths_are_no_obstacle() -> None:
    s = Sketch("N", 2, "H", 6)
    y = conv(s, s.x, 4)
    graph = s.graph(s.conv(s.add(Add(), y, conv(s, y, 4)), 3))

    after = EqualizeLayers().run(graph)

    assert after is not graph
    x = {"x": np.asarray(np.random.default_rng(0).standard_normal((2, 2, 5, 6)), np.float32)}
    assert relative_error(evaluate(graph, x), evaluate(after, x)) < 1e-5


def test_text() -> None:
    s = Sketch(1, 2, 4, 4)
    w = s.const(np.array([[[[4.0]], [[0.0]]], [[[0.0]], [[1.0]]]], np.float32))
    y = s.add(Conv(activation=Activation.RELU), s.x, w, s.const(np.ones(2, np.float32)))
    pooled = s.add(MaxPool((2, 2), (2, 2)), y)
    last = s.const(np.array([[[[1.0]], [[1.0]]]], np.float32))
    graph = s.graph(s.add(Conv(), pooled, last))

    after = EqualizeLayers().run(graph)

    assert str(after).splitlines()[-5:] == [
        "  %v0.scaled: f32[1,2,4,4] = Conv(activation=relu)(%x, %c0.scaled, %c1.scaled)",
        "  %v1.scaled: f32[1,2,2,2] = MaxPool(kernel=(2, 2), stride=(2, 2))(%v0.scaled)",
        "  %v2: f32[1,1,2,2] = Conv()(%v1.scaled, %c2.scaled)",
        "  return %v2",
        "}",
    ]
    arrays = [after.constants[f"c{i}.scaled"].array.ravel().tolist() for i in range(3)]
    np.testing.assert_allclose(arrays[0], [4, 0, 0, 2], rtol=1e-6)
    np.testing.assert_allclose(arrays[1], [1, 2], rtol=1e-6)
    np.testing.assert_allclose(arrays[2], [1, 0.5], rtol=1e-6)
