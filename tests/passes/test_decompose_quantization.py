from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.frontend import load
from edgec.ir import Array, DType, Graph, Op, QuantParams, verify
from edgec.ops import Dequantize, Opaque, Pad, Quantize, Reshape, Transpose
from edgec.passes import DecomposeQuantization, Pipeline
from edgec.targets import Tflite
from tests.models import info, onnx_model, save, unranked
from tests.targets.graphs import Net, ran, random

X = random(3, 6, seed=1) * 20
F32, U8, I8, I16 = np.float32, np.uint8, np.int8, np.int16


def kind_of(dtype: type) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def check(
    folder: Path, op: str, feeds: dict[str, Array], outputs: list[str], stored: type,
    opset: int = 21, arrays: dict[str, Array] | None = None, **attributes: Any
) -> Graph:  # fmt: skip
    """Write a node out, and compare with what ONNX Runtime makes of it."""
    names = [*feeds, *(arrays or {})]
    kinds = {"y": kind_of(stored), "scale": TensorProto.FLOAT, "zero": TensorProto.UINT8}
    node = helper.make_node(op, sorted(names), outputs, **attributes)
    inputs = [info(k, *a.shape, dtype=kind_of(a.dtype.type))
              for k, a in feeds.items()]  # fmt: skip
    ends = [unranked(name, kinds[name]) for name in outputs]
    path = save(onnx_model([node], inputs, ends, arrays or {}, opset=opset), folder)
    want = OnnxSession(ort_session(str(path))).run(feeds)

    graph = load(path).graph
    after = DecomposeQuantization().run(graph)
    verify(after)
    assert DecomposeQuantization().run(after) is after
    assert not any(isinstance(n.op, Opaque | Quantize | Dequantize) for n in after.nodes)
    got = evaluate(after, feeds)
    for name, array in want.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=1e-6)
    return after


@pytest.mark.parametrize("dtype", [U8, I8, I16, np.uint16])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_computed_parameters(dtype: type, axis: int | None, tmp_path: Path) -> None:
    size = () if axis is None else (X.shape[axis],)
    scale = np.linspace(0.1, 1.5, int(np.prod(size)), dtype=np.float32).reshape(size)
    zero: Array = np.full(size, 7).astype(dtype)
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}

    feeds = {"a": X, "b": scale, "c": zero}
    check(tmp_path, "QuantizeLinear", feeds, ["y"], dtype, **attributes)
    y: Array = np.arange(18).reshape(3, 6).astype(dtype)
    check(tmp_path, "DequantizeLinear", {**feeds, "a": y}, ["y"], F32, **attributes)


def test_the_axis_of_scales_is_the_second_unless_told(tmp_path: Path) -> None:
    feeds = {"a": X, "b": np.linspace(0.1, 1.5, X.shape[1], dtype=np.float32)}
    check(tmp_path, "QuantizeLinear", feeds, ["y"], U8)


def test_halves_are_rounded_to_even_and_ends_are_kept(tmp_path: Path) -> None:
    x = np.array([-3000, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3000], np.float32)
    scale = np.array(1, np.float32)

    check(tmp_path, "QuantizeLinear", {"a": x, "b": scale, "c": np.array(0, I8)}, ["y"], I8)
    check(tmp_path, "QuantizeLinear", {"a": x, "b": scale}, ["y"], U8)


@pytest.mark.parametrize("axis", [0, 1])
def test_scales_for_blocks(axis: int, tmp_path: Path) -> None:
    block = X.shape[axis] // 3 + (axis == 0)
    shape = [*X.shape]
    shape[axis] = -(-shape[axis] // block)
    scale = np.linspace(0.5, 2, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    zero = np.arange(scale.size).reshape(shape).astype(U8)
    for arrays in ({}, {"b": scale, "c": zero}):
        feeds = {"a": X} if arrays else {"a": X, "b": scale, "c": zero}
        options = {"axis": axis, "block_size": block}
        check(tmp_path, "QuantizeLinear", feeds, ["y"], U8, arrays=arrays, **options)
        feeds["a"] = np.arange(18).reshape(3, 6).astype(U8)
        check(tmp_path, "DequantizeLinear", feeds, ["y"], F32, arrays=arrays, **options)


SAMPLES = {
    "mixed": X,
    "positive": np.abs(X) + 1,
    "negative": -np.abs(X) - 1,
    "zero": np.zeros((2, 3), np.float32),
    "small": X * 1e-20,
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_dynamic_quantization_finds_its_parameters(sample: str, tmp_path: Path) -> None:
    names = ["y", "scale", "zero"]

    check(tmp_path, "DynamicQuantizeLinear", {"x": SAMPLES[sample]}, names, U8, opset=11)


def test_constant_parameters_of_several_channels() -> None:
    params = QuantParams((0.5,) * 6, (3,) * 6, 1)
    net = Net(x=(3, 6))
    net.add("q", Quantize(params), "x")
    graph = net.graph("q", net.add("y", Dequantize(params), "q"))

    after = DecomposeQuantization().run(graph)
    assert not any(isinstance(n.op, Quantize | Dequantize) for n in after.nodes)
    want, got = evaluate(graph, {"x": X}), evaluate(after, {"x": X})
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize("dtype", [I16, np.uint16])
def test_constant_parameters_of_16_bits(dtype: type, tmp_path: Path) -> None:
    arrays = {"b": np.array(0.01, F32), "c": np.array(300, dtype)}

    check(tmp_path, "QuantizeLinear", {"a": X}, ["y"], dtype, arrays=arrays)


def test_keeps_what_a_quantized_tensor_has() -> None:
    one = QuantParams((0.5,), (3,))
    many = QuantParams((0.5,) * 6, (0,) * 6, 1)
    net = Net(x=(3, 6))
    net.add("q", Quantize(one), "x")
    net.add("y", Dequantize(one), "q")
    weights = net.add("w", Dequantize(many), np.ones((3, 6), I8))
    graph = net.graph("y", weights)

    assert DecomposeQuantization().run(graph) is graph


def test_keeps_unknown_lengths() -> None:
    net = Net(x=("n", 6))
    graph = net.graph(net.add("y", Quantize(QuantParams((0.5,) * 6, (0,) * 6, 1)), "x"))
    assert DecomposeQuantization().run(graph) is graph


@pytest.mark.parametrize("shape", [(1, 3, 6), (3, 6), (5,)])
def test_keeps_computed_scales_that_do_not_fit(shape: tuple[int, ...], tmp_path: Path) -> None:
    node = helper.make_node("DequantizeLinear", ["x", "scale"], ["y"])
    inputs = [info("x", 3, 6, dtype=kind_of(I8)), info("scale", *shape)]
    graph = load(save(onnx_model([node], inputs, ["y"], opset=19), tmp_path)).graph

    assert DecomposeQuantization().run(graph) is graph


ONE, OTHER = QuantParams((0.5,), (3,)), QuantParams((0.25,), (3,))


def sum_of(dtype: DType, *params: QuantParams) -> Graph:
    """Integers of a sum, as accelerators give them."""
    net = Net(dtype, x=(3, 6))
    for i, p in enumerate(params):
        net.add(f"y{i}", Dequantize(p, dtype), "x")
    return net.graph(*(f"y{i}" for i in range(len(params))))


def written_out(graph: Graph) -> Graph:
    """The graph without what a tensor's grid stands for, which computes the same."""
    after = DecomposeQuantization().run(graph)
    verify(after)
    assert not any(isinstance(n.op, Quantize | Dequantize) for n in after.nodes)
    (x,) = graph.inputs
    fed = X if x.type.dtype is DType.FLOAT32 else X.astype(x.type.dtype.numpy)
    for name, array in evaluate(graph, {"x": fed}).items():
        np.testing.assert_array_equal(evaluate(after, {"x": fed})[name], array)
    return after


def test_integers_of_32_bits_are_numbers() -> None:
    written_out(sum_of(DType.INT32, QuantParams((0.5,), (0,))))


def test_integers_that_are_understood_in_two_ways() -> None:
    written_out(sum_of(DType.INT8, ONE, OTHER))
    net = Net(x=(3, 6))
    net.add("q", Quantize(ONE), "x")
    written_out(net.graph(net.add("y", Dequantize(OTHER), "q")))


@pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8])
def test_integers_that_something_else_computes_or_reads(dtype: DType) -> None:
    """Padded with a number that is not the zero point, they are plain numbers."""
    net = Net(x=(1, 1, 3, 6))
    net.add("q", Quantize(ONE, dtype), "x")
    net.add("m", Pad((0, 0, 0, 1, 0, 0, 0, 2)), "q")
    graph = net.graph(net.add("y", Dequantize(ONE, dtype), "m"))

    after = DecomposeQuantization().run(graph)
    assert not any(isinstance(n.op, Quantize | Dequantize) for n in after.nodes)
    prepared, _ = Pipeline(Tflite().prepare()).run(graph)
    got, artifact, _ = ran(Tflite(), prepared, {"x": X[None, None]})
    np.testing.assert_array_equal(got["y"], evaluate(graph, {"x": X[None, None]})["y"])
    assert not {"QUANTIZE", "DEQUANTIZE"} & artifact.operators.keys()


@pytest.mark.parametrize("op", [Reshape((6, 3)), Transpose((1, 0))], ids=str)
def test_keeps_grids_through_what_only_renames_places(op: Op) -> None:
    net = Net(x=(3, 6))
    net.add("q", Quantize(ONE), "x")
    graph = net.graph(net.add("y", Dequantize(ONE), net.add("m", op, "q")))

    assert DecomposeQuantization().run(graph) is graph


def test_unsigned_integers_that_are_returned_and_read() -> None:
    net = Net(x=(3, 6))
    net.add("q", Quantize(ONE, DType.UINT8), "x")
    written_out(net.graph("q", net.add("y", Dequantize(ONE, DType.UINT8), "q")))
