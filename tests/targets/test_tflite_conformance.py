"""Every example of every operator, compiled to TFLite, computes what ONNX Runtime does."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import DType, Example, Graph, Op, QuantParams, Value
from edgec.ops import (
    OPS,
    Abs,
    Acos,
    Acosh,
    Activation,
    Add,
    Asin,
    Atanh,
    AveragePool,
    BitwiseNot,
    Cast,
    Clip,
    Conv,
    Dequantize,
    Elu,
    FullyConnected,
    Gemm,
    Greater,
    HardSigmoid,
    HardSwish,
    Log,
    MatMul,
    Mul,
    Not,
    Pow,
    Quantize,
    ReduceLogSum,
    ReduceMean,
    Relu,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Softplus,
    Sqrt,
    Swish,
    Tanh,
    Transpose,
    Unary,
    Where,
)
from edgec.passes import Pipeline
from edgec.targets import Artifact, Tflite
from edgec.targets.tflite.resizing import builtin_form
from edgec.targets.tflite.run import interpreter
from tests.targets.graphs import Feeds, Net, f32, one_op, quantized, ran, random

ALL = [
    (f"{op.__name__}-{i}", example)
    for op in OPS
    for i, example in enumerate(op.examples(np.random.default_rng(7)))
]


def accepted(example: Example) -> bool:
    return not Tflite().check(one_op(example.op, *example.operands)[0])


def prepared(graph: Graph) -> Graph:
    """The graph after the rewrites that the target asks for."""
    return Pipeline(Tflite().prepare()).run(graph)[0]


def expressible(example: Example) -> bool:
    return not Tflite().check(prepared(one_op(example.op, *example.operands)[0]))


def has_integer_form(example: Example) -> bool:
    pairs = isinstance(example.op, Quantize | Dequantize)
    real = example.inputs[0].dtype == np.float32
    if isinstance(example.op, Resize) and example.op.mode == "linear":
        node = one_op(example.op, *example.operands)[0].nodes[0]
        return builtin_form(example.op, node) is not None
    return real and not pairs and example.op.quant_rule() is not None


def is_image(example: Example) -> bool:
    return example.inputs[0].ndim == 4 and example.inputs[0].dtype == np.float32


EXAMPLES = [pytest.param(e, id=name) for name, e in ALL if expressible(e)]
INTEGER = [pytest.param(e, id=n) for n, e in ALL if accepted(e) and has_integer_form(e)]
IMAGES = [
    pytest.param(e, integer, id=f"{n}-{'int8' if integer else 'float'}")
    for n, e in ALL
    for integer in (False, True)
    if accepted(e) and is_image(e) and (has_integer_form(e) or not integer)
]

NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def assert_close(graph: Graph, feeds: Feeds, *, prepare: bool = False) -> None:
    """Float kernels differ by the order of sums and how they approximate exp: about 1e-6."""
    got, _, _ = ran(Tflite(), prepared(graph) if prepare else graph, feeds)
    for name, want in evaluate(graph, feeds).items():
        assert got[name].shape == want.shape
        scale = max(float(np.abs(want).max(initial=0)), 1e-6)
        np.testing.assert_allclose(got[name], want, rtol=0, atol=1e-4 * scale)


def assert_steps(graph: Graph, feeds: Feeds, steps: float = 2) -> None:
    """Integer kernels multiply in fixed point: a step of rounding, two after a table.

    One output may be computed from another, and then is off by as much, so the unit is the
    coarsest step of all outputs.
    """
    got, _, _ = ran(Tflite(), graph, feeds)
    unit = max(step_of(graph, value) for value in graph.outputs)
    for name, want in evaluate(graph, feeds).items():
        assert np.abs(got[name] - want).max(initial=0) <= (steps + 1e-3) * unit


def step_of(graph: Graph, value: Value) -> float:
    op = graph.producers[value].op
    assert isinstance(op, Dequantize)
    return op.params.scale[0]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_that_is_accepted_computes_the_same_in_float(example: Example) -> None:
    graph, feeds = one_op(example.op, *example.operands)

    assert_close(graph, feeds, prepare=True)


@pytest.mark.parametrize("example", INTEGER)
def test_an_example_with_an_integer_form_stays_within_two_steps(example: Example) -> None:
    graph, feeds = one_op(example.op, *example.operands)

    made = quantized(graph, feeds)

    assert_steps(made, feeds)
    _, artifact, _ = ran(Tflite(io_dtype="int8"), made, feeds)
    uneven = isinstance(example.op, AveragePool) and "MUL" in artifact.operators
    assert uneven or "DEQUANTIZE" not in artifact.operators


def test_most_examples_are_accepted() -> None:
    refused = {type(example.op).__name__ for _, example in ALL if not expressible(example)}

    assert sorted(refused) == ["Loop", "Opaque"]  # a loop here runs as often as the data say


@pytest.mark.parametrize(("example", "integer"), IMAGES)
def test_layouts_are_tracked_through_transposes(example: Example, integer: bool) -> None:
    op, (x, *rest) = example.op, example.inputs
    turned = np.ascontiguousarray(x.transpose(NHWC))
    net = Net(x=turned.shape)
    net.add("in", Transpose(NCHW), "x")
    net.add("op", op, "in", *rest)
    rank = net.values["op"].type.rank
    net.add("out", Transpose(tuple(reversed(range(rank)))), floating(net, "op"))
    net.add("last", Add(), "out", random(net.values["out"].type.ints[-1], seed=5))
    graph, feeds = net.graph("out", "last"), {"x": turned}

    if integer:
        assert_steps(quantized(graph, feeds), feeds, 3)  # two operators, a step more
    else:
        assert_close(graph, feeds)


def floating(net: Net, name: str) -> str:
    """Return a value as numbers that an Add or a layer takes."""
    if net.values[name].type.dtype is DType.FLOAT32:
        return name
    return net.add(f"{name}.float", Cast(DType.FLOAT32), name)


def in_domain(net: Net, op: Op, name: str) -> str:
    """Return a value of what a function takes: not all are defined everywhere."""
    match op:
        case Acos() | Asin() | Atanh():
            net.add("up_to_one", Tanh(), name)
            return net.add("below_one", Mul(), "up_to_one", f32(0.9))
        case Acosh() | Log() | Pow() | ReduceLogSum() | Sqrt():
            net.add("magnitude", Abs(), name)
            return net.add("above", Add(), "magnitude", f32(1.1))
    return name


@pytest.mark.parametrize(("example", "integer"), IMAGES)
def test_layouts_are_tracked_between_channels_last_layers(example: Example,
                                                          integer: bool) -> None:  # fmt: skip
    op, (x, *rest) = example.op, example.inputs
    channels = x.shape[1]
    kernel = random(channels, channels, 1, 1, seed=9)
    net = Net(x=x.shape)
    net.add("front", Conv(), "x", kernel)
    net.add("op", op, in_domain(net, op, "front"), *rest)
    outputs = ["op"]
    if net.values["op"].type.rank == 4:
        width = net.values["op"].type.ints[1]
        net.add("back", Conv(), floating(net, "op"), random(4, width, 1, 1, seed=10))
        outputs.append("back")
    graph, feeds = net.graph(*outputs), {"x": x}

    if integer:  # what the first layer rounds differently, the others pass on
        assert_steps(quantized(graph, feeds), feeds, 4)
    else:
        assert_close(graph, feeds)


RANKS = [
    *(
        pytest.param(op(), id=op.__name__)
        for op in OPS
        if issubclass(op, Unary) and op not in (BitwiseNot, Not)
    ),
    *(pytest.param(op, id=str(op)) for op in (Softmax(-1), Softmax(-2), Clip(-0.5, 0.5))),
]


@pytest.mark.parametrize("rank", [2, 3, 5])
@pytest.mark.parametrize("op", RANKS)
def test_elementwise_operators_take_any_rank(op: Op, rank: int) -> None:
    x = random(*(2, 3, 2, 4, 3)[:rank]) * 3
    net = Net(x=x.shape)
    graph, feeds = net.graph(net.add("y", op, in_domain(net, op, "x"))), {"x": x}

    assert_close(graph, feeds)
    if op.quant_rule() is not None:
        assert_steps(quantized(graph, feeds), feeds)


FIVE = [
    pytest.param(ReduceMean((1, 3)), id="mean"),
    pytest.param(ReduceMean((2,), keepdims=False), id="mean-dropped"),
    pytest.param(Transpose((4, 2, 0, 3, 1)), id="transpose"),
    pytest.param(Slice((1, 0), (3, 4), (1, 3), (1, 2)), id="slice"),
    pytest.param(Reshape((6, -1)), id="reshape"),
]


@pytest.mark.parametrize("op", FIVE)
def test_operators_take_five_axes(op: Op) -> None:
    graph, feeds = one_op(op, random(2, 3, 2, 4, 3))

    assert_close(graph, feeds)
    assert_steps(quantized(graph, feeds), feeds)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((2, 3), (3, 4)),
        ((1, 2, 3), (3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((2, 2, 2, 3), (3, 2)),
        ((3,), (2, 3, 4)),
        ((2, 5, 4, 3), (3,)),
        ((3,), (3,)),
        ((2, 5, 2, 3), (5, 3, 4)),
        ((2, 1, 2, 3), (4, 3, 2)),
        ((2, 2, 3, 1, 2, 3), (2, 2, 1, 2, 3, 4)),
        ((1, 2, 1, 2, 3), (2, 2, 2, 2, 2, 3, 4)),
    ],
)
@pytest.mark.parametrize("computed", [False, True], ids=["constant", "computed"])
def test_matrix_products(a: tuple[int, ...], b: tuple[int, ...], computed: bool) -> None:
    net = Net(a=a, b=b) if computed else Net(a=a)
    net.add("y", MatMul(), "a", "b" if computed else random(*b, seed=1))
    feeds = {"a": random(*a), "b": random(*b, seed=1)}
    feeds = {v.name: feeds[v.name] for v in net.inputs}

    assert_close(net.graph("y"), feeds)
    if max(len(a), len(b)) <= 5:
        assert_steps(quantized(net.graph("y"), feeds), feeds)


@pytest.mark.parametrize("bounds", [(0.0, np.inf), (0.0, 6.0), (-1.0, 1.0), (-np.inf, np.inf)])
@pytest.mark.parametrize("axes", [(1, 3, 4), (1, 3, 4, 5)])
def test_bounds_that_have_integer_kernels(bounds: tuple[float, float],
                                          axes: tuple[int, ...]) -> None:  # fmt: skip
    net = Net(x=axes)
    net.add("wide", Mul(), "x", f32(4))
    graph = net.graph(net.add("y", Clip(*bounds), "wide"))
    feeds = {"x": random(*axes)}

    assert_close(graph, feeds)
    assert_steps(quantized(graph, feeds), feeds)


@pytest.mark.parametrize("constant", [False, True])
def test_a_choice_of_integers_stays_on_their_grid(constant: bool) -> None:
    net = Net(x=(1, 2, 4, 4))
    net.add("front", Conv(), "x", random(3, 2, 1, 1, seed=1))
    net.add("positive", Greater(), "front", f32(0))
    other = f32(0.5) if constant else net.add("twice", Mul(), "front", f32(-2))
    feeds = {"x": random(1, 2, 4, 4)}
    graph = net.graph(net.add("y", Where(), "positive", "front", other))

    made = quantized(graph, feeds)
    assert_steps(made, feeds)
    assert Tflite().compile(made).operators["SELECT_V2"] == 1
    (node,) = (n for n in made.nodes if isinstance(n.op, Where))
    before = [made.producers[v].op for v in node.inputs[1:]]
    after = made.users[node.output][0].op
    assert all(isinstance(op, Dequantize) for op in before)
    assert isinstance(after, Quantize)
    assert {op.params for op in (*before, after) if isinstance(op, Dequantize | Quantize)} == {
        after.params
    }


@pytest.mark.parametrize("op", [Relu(), Clip(0, 6), HardSwish(), HardSigmoid(), Swish(), Elu()])
def test_common_activations_are_left_to_the_delegate(op: Op) -> None:
    net = Net(x=(1, 3, 4, 4))
    graph, feeds = net.graph(net.add("y", op, "x")), {"x": 4 * random(1, 3, 4, 4)}

    artifact = Tflite(io_dtype="int8").compile(quantized(graph, feeds))

    assert operators_run(artifact) == ["DELEGATE"]


@pytest.mark.parametrize(
    ("op", "grid", "code"),
    [
        (Relu(), QuantParams((0.05,), (-128,)), "QUANTIZE"),
        (Relu(), QuantParams((0.05,), (-127,)), "RELU"),
        (Clip(0, 6), QuantParams((6 / 255,), (-128,)), "QUANTIZE"),
        (Clip(0, 6), QuantParams((0.05,), (-128,)), "RELU6"),
    ],
)
def test_only_a_grid_that_ends_at_a_bound_cuts_off(
    op: Op, grid: QuantParams, code: str
) -> None:
    before = QuantParams((0.1,), (0,))
    net = Net(DType.INT8, x=(1, 256))
    net.add("real", Dequantize(before), "x")
    net.add("cut", op, "real")
    graph = net.graph(net.add("y", Quantize(grid), "cut"))
    x = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)

    got, artifact, _ = ran(Tflite(), graph, {"x": x})

    assert artifact.operators == {code: 1}
    apart = got["y"].astype(int) - evaluate(graph, {"x": x})["y"]
    assert np.abs(apart).max() <= 1


def test_a_resize_that_weighs_other_elements_is_left_float_and_listed() -> None:
    op = Resize(scales=(0.6, 1.7), mode="linear")
    graph, feeds = one_op(op, random(1, 2, 4, 5))
    made = quantized(graph, feeds)

    assert_steps(made, feeds)
    (note,) = Tflite().compile(made).notes
    assert "it weighs other elements than the integer kernel does" in note.message


@pytest.mark.parametrize("op", [Clip(-0.5, 0.5), Clip(high=1.0), Softplus()])
def test_float_islands_between_integer_layers(op: Op) -> None:
    net = Net(x=(1, 2, 4, 4))
    net.add("front", Conv(activation=Activation.RELU), "x", random(3, 2, 1, 1, seed=1))
    net.add("island", op, "front")
    net.add("back", Conv(), "island", random(2, 3, 1, 1, seed=2))
    feeds = {"x": random(1, 2, 4, 4)}
    made = quantized(net.graph("back"), feeds)

    assert_steps(made, feeds)
    artifact = Tflite(io_dtype="int8").compile(made)
    assert artifact.operators["DEQUANTIZE"] == artifact.operators["QUANTIZE"] == 1


def test_a_model_that_takes_and_returns_integers_already() -> None:
    grid = QuantParams((0.25,), (-5,))
    net = Net(DType.INT8, x=(1, 3, 4, 4))
    net.add("real", Dequantize(grid), "x")
    net.add("relu", Relu(), "real")
    net.add("y", Quantize(grid), "relu")
    graph = net.graph("y")
    x = np.arange(-24, 24, dtype=np.int8).reshape(1, 3, 4, 4)

    got, artifact, _ = ran(Tflite(), graph, {"x": x})

    np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], got["y"])
    assert artifact.operators == {"RELU": 1}


@pytest.mark.parametrize("axes", [(1,), (2,), (3,), (0, 2), (1, 3)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_means_of_an_image_along_any_axes(axes: tuple[int, ...], keepdims: bool) -> None:
    net = Net(x=(1, 3, 4, 5))
    net.add("front", Conv(), "x", random(2, 3, 1, 1))
    net.add("mean", ReduceMean(axes, keepdims), "front")
    rank = net.values["mean"].type.rank
    net.add("turned", Transpose(tuple(reversed(range(rank)))), "mean")
    graph, feeds = net.graph("mean", "turned"), {"x": random(1, 3, 4, 5)}

    assert_close(graph, feeds)
    assert_steps(quantized(graph, feeds), feeds)


def test_an_image_of_one_channel_is_not_transposed() -> None:
    net = Net(x=(1, 1, 4, 5))
    graph = net.graph(net.add("y", Conv(), "x", random(1, 1, 1, 1)))

    assert_close(graph, {"x": random(1, 1, 4, 5)})
    assert Tflite().compile(graph).operators == {"CONV_2D": 1, "RESHAPE": 2}


def test_reshapes_in_a_row_are_one() -> None:
    net = Net(x=(2, 3, 4))
    net.add("a", Reshape((6, 4)), "x")
    net.add("b", Reshape((1, 24)), "a")
    graph = net.graph(net.add("y", Reshape((4, 6)), "b"))

    assert_close(graph, {"x": random(2, 3, 4)})
    assert Tflite().compile(graph).operators == {"RESHAPE": 1}


def test_constants_with_the_same_bytes_and_other_shapes_are_kept_apart() -> None:
    bytes_of = f32([1, 2, 3, 4])
    net = Net(x=(1, 4))
    net.add("row", Add(), "x", bytes_of.reshape(1, 4))
    net.add("y", Add(), "row", bytes_of.reshape(4, 1))

    assert_close(net.graph("y"), {"x": random(1, 4)})


def test_a_layer_over_several_axes_needs_no_reshape() -> None:
    net = Net(x=(2, 5, 4))
    net.add("up", MatMul(), "x", random(4, 6, seed=1))
    net.add("hidden", Add(Activation.RELU), "up", random(6, seed=2))
    net.add("down", MatMul(), "hidden", random(6, 4, seed=3))
    graph = prepared(net.graph(net.add("y", Add(), "down", "x")))
    feeds = {"x": random(2, 5, 4)}

    assert_close(graph, feeds)
    assert Tflite().compile(graph).operators == {"ADD": 1, "FULLY_CONNECTED": 2}
    assert_steps(quantized(graph, feeds), feeds)


def test_a_layer_reads_an_image_of_one_pixel_as_it_is() -> None:
    net = Net(x=(3, 4, 1, 1))
    net.add("flat", Reshape((3, 4)), "x")
    graph = net.graph(net.add("y", FullyConnected(), "flat", random(2, 4)))
    feeds = {"x": random(3, 4, 1, 1)}

    assert_close(graph, feeds)


def test_a_transposed_operand_of_a_product_is_not_moved() -> None:
    net = Net(a=(2, 3, 4), b=(2, 5, 4))
    net.add("turned", Transpose((0, 2, 1)), "b")
    graph = net.graph(net.add("y", MatMul(), "a", "turned"))

    assert_close(graph, {"a": random(2, 3, 4), "b": random(2, 5, 4)})
    assert Tflite().compile(graph).operators == {"BATCH_MATMUL": 1}


@pytest.mark.parametrize("swap", [(True, False), (False, True), (True, True)])
def test_all_forms_of_gemm(swap: tuple[bool, bool]) -> None:
    a, b = (4, 2) if swap[0] else (2, 4), (3, 4) if swap[1] else (4, 3)
    op = Gemm(0.5, 2.0, *swap)
    for computed in (True, False):
        net = Net(a=a, b=b, c=(2, 1)) if computed else Net(a=a)
        operands = ("b", "c") if computed else (random(*b, seed=1), random(3, seed=2))
        graph = prepared(net.graph(net.add("y", op, "a", *operands)))
        feeds = {v.name: random(*v.type.ints) for v in graph.inputs}

        assert_close(graph, feeds)
        kinds = Tflite().compile(graph).operators
        assert computed or kinds.keys() <= {"FULLY_CONNECTED", "TRANSPOSE"}


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_large_weights_stay_stored_as_integers(axis: int | None) -> None:
    count = 1 if axis is None else (64, 32)[axis]
    params = QuantParams(tuple(np.linspace(0.5, 1, count).tolist()), (3,) * count, axis)
    stored = np.random.default_rng(0).integers(-127, 128, (64, 32)).astype(np.int8)
    net = Net(x=(2, 3, 64))
    net.add("w", Dequantize(params), stored)
    net.add("y", MatMul(), "x", "w")
    graph = prepared(net.graph("y"))

    assert_close(graph, {"x": random(2, 3, 64)})
    artifact = Tflite().compile(graph)
    assert artifact.operators == {"DEQUANTIZE": 1, "FULLY_CONNECTED": 1}
    assert len(artifact.data) < 2 * stored.nbytes
    assert operators_run(artifact) == ["DELEGATE"]


def operators_run(artifact: Artifact) -> list[str]:
    """Return what LiteRT has delegates for: all that is written, or nothing."""
    rows = interpreter(artifact.data)._get_ops_details()
    return [row["op_name"] for row in rows[sum(artifact.operators.values()) :]]
