"""Models that came quantized by somebody else, on grids of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler import CompileOptions, compile_model
from edgec.evaluate import evaluate
from edgec.export import to_onnx
from edgec.ir import Array, DType, Graph, Op, QuantParams, verify
from edgec.ops import (
    Add,
    AveragePool,
    Binary,
    Cast,
    Concat,
    Conv,
    ConvTranspose,
    Dequantize,
    Exp,
    FullyConnected,
    Gather,
    Gelu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    MatMul,
    MaxPool,
    Mul,
    Quantize,
    Reshape,
    Resize,
    Sigmoid,
    Softmax,
    Sub,
    Swish,
    Transpose,
    quantize_array,
)
from edgec.passes import Pipeline
from edgec.targets import Tflite
from edgec.targets.tflite.fit_grids import FitGrids
from edgec.targets.tflite.signed_integers import SignedIntegers
from tests.targets.graphs import Net, ran, random

U8, I8, I32 = DType.UINT8, DType.INT8, DType.INT32
X = random(1, 2, 6, 6)


def grid(scale: float, zero: int = 0) -> QuantParams:
    return QuantParams((scale,), (zero,))


def pair(net: Net, name: str, x: str, params: QuantParams, dtype: DType = I8) -> str:
    net.add(f"{name}.q", Quantize(params, dtype), x)
    return net.add(name, Dequantize(params, dtype), f"{name}.q")


def weights(net: Net, name: str, params: QuantParams, dtype: DType = I8) -> str:
    array = random(3, 2, 3, 3, seed=1) / 2
    net.const(f"{name}.stored", quantize_array(array, params, dtype))
    return net.add(name, Dequantize(params, dtype), f"{name}.stored")


def finished(graph: Graph) -> tuple[Graph, list[str]]:
    """The graph that is emitted, and what the passes say."""
    made, records = Pipeline(Tflite().finish(), {"x": X}).run(graph)
    verify(made)
    return made, [str(d) for r in records for d in r.diagnostics]


def check(graph: Graph, code: str, *says: str, steps: float = 1.001) -> dict[str, int]:
    """Compile; the code is there, on integers throughout, and within some steps."""
    made, said = finished(graph)
    got, artifact, _ = ran(Tflite(), made, {"x": X})
    want = evaluate(graph, {"x": X})["y"]
    op = graph.nodes[-1].op
    assert isinstance(op, Quantize | Dequantize)
    unit = op.params.scale[0] if isinstance(op, Dequantize) else 1
    assert np.abs(got["y"].astype(float) - want).max() <= steps * unit
    assert code in artifact.operators
    assert artifact.notes == ()
    assert said == list(says)
    return dict(artifact.operators)


# ---- unsigned


def test_unsigned_grids_are_moved_by_half_their_range() -> None:
    net = Net(x=X.shape)
    real = pair(net, "x.real", "x", grid(0.03125, 132), U8)
    w = weights(net, "w", QuantParams((0.03, 0.02, 0.025), (128, 128, 128), 0), U8)
    net.add("raw", Conv(), real, w)
    graph = net.graph(pair(net, "y", "raw", grid(0.0625, 120), U8))

    after = SignedIntegers().run(graph)
    kinds = [(n.op.dtype, n.op.params.zero_point) for n in after.nodes
             if isinstance(n.op, Quantize | Dequantize)]  # fmt: skip
    assert kinds == [(I8, (4,)), (I8, (4,)), (I8, (0, 0, 0)), (I8, (-8,)), (I8, (-8,))]
    for name, want in evaluate(graph, {"x": X}).items():
        np.testing.assert_array_equal(evaluate(after, {"x": X})[name], want)
    assert check(graph, "CONV_2D") == {"CONV_2D": 1, "DEQUANTIZE": 1, "QUANTIZE": 1,
                                       "TRANSPOSE": 2}  # fmt: skip


def test_an_unsigned_interface_stays_unsigned() -> None:
    net = Net(U8, x=X.shape)
    net.add("x.real", Dequantize(grid(0.03125, 128), U8), "x")
    net.add("raw", Conv(), "x.real", weights(net, "w", grid(0.03)))
    graph = net.graph(net.add("y", Quantize(grid(0.0625, 120), U8), "raw"))
    fed = np.random.default_rng(0).integers(0, 256, X.shape).astype(np.uint8)

    made, _ = Pipeline(Tflite().finish(), {"x": fed}).run(graph)
    got, artifact, _ = ran(Tflite(), made, {"x": fed})

    assert got["y"].dtype == np.uint8
    assert np.abs(got["y"].astype(int) - evaluate(graph, {"x": fed})["y"]).max() <= 1
    assert artifact.operators["QUANTIZE"] == 2
    assert "DEQUANTIZE" not in artifact.operators


def test_a_model_that_only_dequantizes_is_left_alone() -> None:
    net = Net(U8, x=X.shape)
    graph = net.graph(net.add("y", Dequantize(grid(0.03125, 128), U8), "x"))
    fed = np.random.default_rng(0).integers(0, 256, X.shape).astype(np.uint8)

    assert SignedIntegers().run(graph) is graph
    got, _, _ = ran(Tflite(), graph, {"x": fed})
    np.testing.assert_array_equal(got["y"], evaluate(graph, {"x": fed})["y"])


def test_integers_that_something_else_reads_stay_unsigned() -> None:
    net = Net(x=X.shape)
    net.add("q", Quantize(grid(0.03125, 132), U8), "x")
    net.add("flat", Reshape((1, -1)), "q")
    graph = net.graph("flat", net.add("y", Dequantize(grid(0.03125, 132), U8), "q"))

    assert SignedIntegers().run(graph) is graph


@pytest.mark.parametrize("dtype", [I8, U8], ids=str)
@pytest.mark.parametrize(
    ("op", "others"),
    [
        (Cast(I32), ()),
        (Reshape((1, -1)), ()),
        (Transpose((3, 1, 0, 2)), ()),
        (Add(), (np.array(1),)),
        (Gather(3), (np.array([5, 0]),)),
    ],
    ids=lambda it: str(it)[:9],
)
def test_integers_that_something_computes_with_are_plain_numbers(
    op: Op, others: tuple[Array, ...], dtype: DType
) -> None:
    params = grid(0.03125, 132 if dtype is U8 else 4)
    net = Net(x=X.shape)
    pair(net, "real", "x", params, dtype)
    fits = [a.astype(dtype.numpy) if isinstance(op, Add) else a for a in others]
    graph = net.graph(net.add("n", op, "real.q", *fits), net.add("y", Sigmoid(), "real"))

    made, _ = Pipeline((*Tflite().prepare(), *Tflite().finish()), {"x": X}).run(graph)
    got, _, _ = ran(Tflite(), made, {"x": X})

    want = evaluate(graph, {"x": X})
    np.testing.assert_array_equal(got["n"], want["n"])
    np.testing.assert_allclose(got["y"], want["y"], atol=1e-6)


@pytest.mark.parametrize("dtype", [I8, U8], ids=str)
@pytest.mark.parametrize("moved", [False, True])
def test_computed_integers_are_dequantized(dtype: DType, moved: bool) -> None:
    net = Net(I32, x=(3, 4))
    name = net.add("narrow", Cast(dtype), "x")
    if moved:
        name = net.add("flat", Reshape((12,)), "narrow")
    graph = net.graph(net.add("y", Dequantize(grid(0.5, 3), dtype), name))
    fed = {"x": np.arange(12, dtype=np.int32).reshape(3, 4)}
    assert SignedIntegers().run(graph) is graph

    made, _ = Pipeline(Tflite().prepare(), fed).run(graph)

    got, _, _ = ran(Tflite(), made, fed)
    np.testing.assert_array_equal(got["y"], evaluate(graph, fed)["y"])


def test_signed_grids_are_left_alone() -> None:
    net = Net(x=X.shape)
    graph = net.graph(pair(net, "y", "x", grid(0.1)))

    assert SignedIntegers().run(graph) is graph
    assert FitGrids().run(graph) is graph


def test_a_sum_with_a_mask_is_computed_in_float() -> None:
    """On integers LiteRT aborts the whole process."""
    net = Net(x=X.shape, mask=X.shape)
    pair(net, "a", "x", grid(0.01))
    pair(net, "b", "mask", grid(1.3e36, 127))
    net.add("sum", Add(), "a", "b")
    graph = net.graph(pair(net, "y", "sum", grid(1.3e36, 127)))
    feeds = {"x": X, "mask": np.where(X > 0, 0, -3e38).astype(np.float32)}

    got, artifact, _ = ran(Tflite(), graph, feeds)

    np.testing.assert_allclose(got["y"], evaluate(graph, feeds)["y"], rtol=1e-6)
    (note,) = artifact.notes
    assert "a scale is larger than kernels can compute with" in note.message


# ---- grids that kernels fix


def joined(first: QuantParams, second: QuantParams, after: QuantParams) -> Graph:
    net = Net(x=X.shape)
    a, b = pair(net, "a", "x", first), pair(net, "b", "x", second)
    net.add("raw", Concat(1), a, b)
    return net.graph(pair(net, "y", "raw", after))


def test_joined_operands_are_moved_to_the_grid_of_the_result() -> None:
    one, other, after = grid(0.03125, 4), grid(0.0625, -3), grid(0.05, 1)

    found = check(
        joined(one, other, after), "CONCATENATION",
        f"raw: Concat(axis=1): 2 of its operands moved to the grid of its result, {after}",
    )  # fmt: skip
    assert found["QUANTIZE"] == 4
    found = check(
        joined(one, other, one), "CONCATENATION",
        f"raw: Concat(axis=1): 1 of its operands moved to the grid of its result, {one}",
    )  # fmt: skip
    assert found["QUANTIZE"] == 3
    assert check(joined(one, one, one), "CONCATENATION")["QUANTIZE"] == 2


def one_op(op: Op, after: QuantParams) -> Graph:
    net = Net(x=X.shape)
    net.add("raw", op, pair(net, "x.real", "x", grid(0.03125, 4)))
    return net.graph(pair(net, "y", "raw", after))


def test_a_pool_has_one_grid() -> None:
    pool: Any = MaxPool((2, 2), (2, 2))
    after = grid(0.0625, -3)

    found = check(
        one_op(pool, after), "MAX_POOL_2D",
        f"raw: {pool}: 1 of its operands moved to the grid of its result, {after}",
    )  # fmt: skip
    assert found["QUANTIZE"] == 2


MEANS = [
    (AveragePool((2, 2), (2, 2)), "AVERAGE_POOL_2D"),
    (Resize(mode="linear", axes=(2, 3), sizes=(12, 12)), "RESIZE_BILINEAR"),
]


@pytest.mark.parametrize(("op", "code"), MEANS, ids=["pool", "resize"])
@pytest.mark.parametrize("after", [grid(0.0125), grid(0.03125, -128), grid(0.03125, 127)])
def test_a_mean_is_taken_before_anything_is_cut_off(
    op: Op, code: str, after: QuantParams
) -> None:
    own, steps = grid(0.03125, 4), 1 + 0.5 * 0.03125 / after.scale[0]
    said = f"raw: {op}: its result comes on {own} and is moved to {after}"

    assert check(one_op(op, after), code, said, steps=steps + 0.001)["QUANTIZE"] == 2


@pytest.mark.parametrize(("op", "code"), MEANS, ids=["pool", "resize"])
@pytest.mark.parametrize("after", [grid(0.0625, -3), grid(0.0320, 4)])
def test_an_operand_of_a_mean_that_fits_is_moved(op: Op, code: str, after: QuantParams) -> None:
    said = f"raw: {op}: 1 of its operands moved to the grid of its result, {after}"

    check(one_op(op, after), code, said, steps=2.001)


@pytest.mark.parametrize(("op", "code"), [(Softmax(), "SOFTMAX"), (Sigmoid(), "LOGISTIC")])
def test_a_function_with_a_grid_of_its_own_is_moved_from_it(op: Op, code: str) -> None:
    after, fixed = grid(1 / 100, -100), grid(1 / 256, -128)

    found = check(
        one_op(op, after), code,
        f"raw: {op}: its result comes on {fixed} and is moved to {after}", steps=1.6,
    )  # fmt: skip
    assert found["QUANTIZE"] == 2
    assert check(one_op(op, fixed), code, steps=2.001)["QUANTIZE"] == 1


# ---- biases


def layer(bias: str) -> Graph:
    net = Net(x=X.shape)
    per_channel = QuantParams((0.03, 0.02, 0.025), (0, 0, 0), 0)
    operands: list[Any] = [pair(net, "x.real", "x", grid(0.03125, 4)),
                           weights(net, "w", per_channel)]  # fmt: skip
    array = random(3, seed=2)
    if bias == "real":
        operands.append(array)
    else:
        params = grid(0.001)
        net.const("b.stored", quantize_array(array, params, I32))
        operands.append(net.add("b", Dequantize(params, I32), "b.stored"))
    net.add("raw", Conv(), *operands)
    return net.graph(pair(net, "y", "raw", grid(0.0625, -3)))


@pytest.mark.parametrize("bias", ["real", "other"])
def test_a_bias_is_stored_on_the_grid_of_its_products(bias: str) -> None:
    check(
        layer(bias), "CONV_2D",
        "raw: Conv(): its bias is stored anew, on the grid of its products",
    )  # fmt: skip


@pytest.mark.parametrize("off", [1.0, 1.001])
def test_a_bias_a_little_off_its_grid_is_no_integer_bias(off: float) -> None:
    """XNNPACK takes such a file without a word, and adds another bias."""
    w = (0.03, 0.02, 0.025)
    params = QuantParams(tuple(off * 0.03125 * s for s in w), (0, 0, 0), 0)
    net = Net(x=X.shape)
    operands = [pair(net, "x.real", "x", grid(0.03125, 4)),
                weights(net, "w", QuantParams(w, (0, 0, 0), 0))]  # fmt: skip
    net.const("b.stored", np.array([500, -300, 40], np.int32))
    net.add("raw", Conv(), *operands, net.add("b", Dequantize(params, I32), "b.stored"))
    graph = net.graph(pair(net, "y", "raw", grid(0.0625, -3)))

    notes = [n.message for n in Tflite().compile(graph).notes]

    assert ["bias is not int32" in n for n in notes] == [True] * (off != 1)


@pytest.mark.parametrize(
    ("op", "shape", "axis"), [(Conv(), (3, 2, 3, 3), 1), (ConvTranspose(), (2, 3, 3, 3), 0)]
)
def test_scales_along_another_axis_are_none_of_a_bias(
    op: Op, shape: tuple[int, ...], axis: int
) -> None:
    net = Net(x=X.shape)
    net.const("w.q", random(*shape).astype(np.int8))
    w = net.add("w", Dequantize(QuantParams((0.5, 0.25), (0, 0), axis)), "w.q")
    net.const("b.q", np.array([500, 0, -700], np.int32))
    b = net.add("b", Dequantize(grid(0.001), I32), "b.q")
    net.add("raw", op, pair(net, "x.real", "x", grid(0.03125)), w, b)
    graph = net.graph(pair(net, "y", "raw", grid(0.0625)))

    assert FitGrids().run(graph) is graph
    got, artifact, _ = ran(Tflite(), graph, {"x": X})
    np.testing.assert_allclose(got["y"], evaluate(graph, {"x": X})["y"], atol=0.063)
    (note,) = artifact.notes
    assert str(note).endswith("computed in float: its weights are not symmetric int8 in [-127, "
                              "127], per output channel")  # fmt: skip


def test_a_computed_bias_is_not_touched() -> None:
    net = Net(x=X.shape, b=(3,))
    operands = [pair(net, "x.real", "x", grid(0.03125, 4)), weights(net, "w", grid(0.03)), "b"]
    net.add("raw", Conv(), *operands)
    graph = net.graph(pair(net, "y", "raw", grid(0.0625, -3)))

    assert FitGrids().run(graph) is graph


# ---- results on too fine a grid

ALL = np.arange(-128, 128, dtype=np.float32).reshape(1, 4, 8, 8)


def fine(op: Op, scale: float, step: float = 1.0) -> Graph:
    """All integers on every operand that is data; `scale` is that of the result."""
    net = Net(x=ALL.shape)
    operands = [pair(net, "a", "x", grid(step))]
    if isinstance(op, Conv | FullyConnected | ConvTranspose):
        shape = (2, 256) if isinstance(op, FullyConnected) else (4, 4, 2, 2)
        net.const("w.q", random(*shape).astype(np.int8))
        channel = 1 if isinstance(op, ConvTranspose) else 0
        scales = (0.5,) * (shape[channel] - 1) + (1.0,)
        per_channel = QuantParams(scales, (0,) * len(scales), channel)
        operands.append(net.add("w", Dequantize(per_channel), "w.q"))
        if isinstance(op, FullyConnected):
            operands[0] = pair(net, "row", net.add("f", Reshape((1, 256)), "a"), grid(step))
    elif isinstance(op, Binary | MatMul):
        turned = net.add("t", Transpose((0, 1, 3, 2)), "x")
        operands.append(pair(net, "b", turned, grid(1.0)))
    net.add("raw", op, *operands)
    return net.graph(pair(net, "y", "raw", grid(scale)))


@pytest.mark.parametrize(
    ("op", "most", "step"),
    [
        (Conv(), 255, 1.0),
        (ConvTranspose(), 255, 1.0),
        (FullyConnected(), 255, 1.0),
        (MatMul(), 255, 1.0),
        (Mul(), 255, 1.0),
        (Add(), 64, 1.0),
        (Sub(), 64, 1.0),
        (HardSwish(), 255, 1.0),
        (Swish(), 255, 10.0),
        (LeakyRelu(2.0), 127.5, 1.0),
        (HardSwish(), 20.45, 0.04),
        (Swish(), 9.815, 0.04),
    ],
    ids=str,
)
def test_a_result_may_not_be_much_finer_than_its_operands(
    op: Op, most: float, step: float
) -> None:
    """Kernels wrap, lose the result in the rounding of a gate, or refuse the file."""
    feeds = {"x": ALL * np.float32(step)}
    steps = {0.5: False, 1.0: False, 1.02: True, 1e3: True, 1e5: True}
    for factor, is_float in steps.items():
        graph = fine(op, float(np.float32(step / (most * factor))), step)
        got, artifact, _ = ran(Tflite(), graph, feeds)
        scale = graph.nodes[-1].op.params.scale[0]  # type: ignore[attr-defined]
        want = evaluate(graph, feeds)["y"]
        assert np.abs(got["y"] - want).max() <= 4.001 * scale
        assert [n.message.partition(": ")[2] for n in artifact.notes] == is_float * [
            "the scale of its output is too small beside those of its operands"
        ]


@pytest.mark.parametrize(
    ("alpha", "beta"), [(0.4, 0.5), (0.4, -0.5), (0.6, 0.5), (0.2, 70.0), (0.2, 80.0)]
)
def test_a_steep_hard_sigmoid_stays_in_float(alpha: float, beta: float) -> None:
    net = Net(x=ALL.shape)
    net.add("raw", HardSigmoid(alpha, beta), pair(net, "a", "x", grid(1.0)))
    graph = net.graph(pair(net, "y", "raw", grid(1 / 256, -128)))

    got, artifact, _ = ran(Tflite(), graph, {"x": ALL})
    np.testing.assert_allclose(got["y"], evaluate(graph, {"x": ALL})["y"], atol=1 / 255)
    assert bool(artifact.notes) == (alpha > 0.5 or beta > 75)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_a_gelu_on_a_fine_grid_is_the_one_that_is_asked_for(approximate: str) -> None:
    """The two are up to 5e-4 apart, most of all around -2.2."""
    op, after = Gelu(approximate), QuantParams((2e-4,), (127,))
    net = Net(x=(1, 60))
    net.add("raw", op, pair(net, "x.real", "x", grid(0.03125)))
    graph = net.graph(pair(net, "y", "raw", after))
    feeds = {"x": np.linspace(-3, -1.9, 60, dtype=np.float32).reshape(1, 60)}

    got, artifact, _ = ran(Tflite(), graph, feeds)
    assert np.abs(got["y"] - evaluate(graph, feeds)["y"]).max() <= 1.001 * 2e-4
    assert artifact.operators["GELU"] == 1
    assert artifact.notes == ()


def test_what_stays_in_float_between_integers_is_listed() -> None:
    net = Net(x=X.shape)
    net.add("exp", Exp(), pair(net, "x.real", "x", grid(0.03125)))
    net.add("conv", Conv(), pair(net, "e", "exp", grid(0.0625)), random(3, 2, 3, 3))
    net.add("end", Exp(), pair(net, "y", "conv", grid(0.25)))

    _, artifact, _ = ran(Tflite(), net.graph("end"), {"x": X})
    assert [str(d) for d in artifact.notes] == [
        "exp: Exp() is computed in float: it has no integer form",
        "conv: Conv() is computed in float: operand 1 is not quantized",
    ]


# ---- the whole


def test_a_model_that_came_quantized_is_judged_as_one(tmp_path: Path) -> None:
    """Steps between grids are errors of a per cent, which no float artifact may have."""
    net = Net(x=X.shape)
    coarse = grid(0.25, 1)
    net.add("raw", Conv(), pair(net, "x.real", "x", coarse), weights(net, "w", grid(0.03)))
    y = pair(net, "mid", "raw", coarse)
    net.add("twice", Mul(), y, np.array([3.3], np.float32))
    graph = net.graph(net.add("y", Softmax(), "twice"))
    path = tmp_path / "came.onnx"
    path.write_bytes(to_onnx(graph).SerializeToString())

    found = compile_model(path, CompileOptions(("tflite",)))

    (artifact,) = found.report["artifacts"]
    assert artifact["quantized"] is True
    assert artifact["operators"]["CONV_2D"] == 1
    assert artifact["fidelity"]["sqnr_db"] > 20
