from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import helper

from edgec.frontend import load
from edgec.ir import Array, DType, Graph
from edgec.ops import Dequantize, MatMul, Opaque
from edgec.passes import FoldConstants, UnpackWeights, simplify
from tests.models import info, onnx_model, save
from tests.passes.properties import check_pass

unpack = UnpackWeights()
INT4, UINT4 = np.dtype(ml_dtypes.int4), np.dtype(ml_dtypes.uint4)


def product(
    folder: Path, w: Array, scale: Array, zero: Array | None = None, **attributes: Any
) -> Graph:
    """``x @ dequantized(w)``."""
    inputs = ["w", "s", *(["z"] if zero is not None else [])]
    nodes = [
        helper.make_node("DequantizeLinear", inputs, ["real"], "weights", **attributes),
        helper.make_node("MatMul", ["x", "real"], ["y"], "product"),
    ]
    arrays = {"w": w, "s": scale} | ({} if zero is None else {"z": zero})
    model = onnx_model(nodes, [info("x", 2, w.shape[0])], ["y"], arrays, opset=21)
    return load(save(model, folder)).graph


def numbers(dtype: np.dtype[Any], *shape: int) -> Array:
    low = 0 if dtype in (UINT4, np.dtype(np.uint8)) else -7
    return np.random.default_rng(0).integers(low, 8, shape).astype(dtype)


SCALES = np.linspace(0.1, 0.5, 5, dtype=np.float32)


@pytest.mark.parametrize("dtype", [INT4, UINT4], ids=str)
@pytest.mark.parametrize("zeros", [False, True])
def test_four_bits_become_eight_on_the_same_grid(
    dtype: np.dtype[Any], zeros: bool, tmp_path: Path
) -> None:
    w = numbers(dtype, 6, 5)
    zero = numbers(dtype, 5) if zeros else None
    graph = product(tmp_path, w, SCALES, zero, axis=1)
    assert isinstance(graph.nodes[0].op, Dequantize if dtype == INT4 else Opaque)
    after = check_pass(unpack, graph)
    op = after.nodes[0].op

    assert isinstance(op, Dequantize)
    assert op.dtype is (DType.INT8 if dtype == INT4 else DType.UINT8)
    assert op.params.scale == tuple(map(float, SCALES))
    assert op.params.zero_point == ((0,) * 5 if zero is None else tuple(map(int, zero)))
    assert op.params.axis == 1
    np.testing.assert_array_equal(after.constant(after.nodes[0].inputs[0]), w.astype(np.int8))


def test_one_scale_for_all_has_no_axis(tmp_path: Path) -> None:
    graph = product(tmp_path, numbers(INT4, 6, 5), np.array(0.25, np.float32))
    op = check_pass(unpack, graph).nodes[0].op

    assert isinstance(op, Dequantize)
    assert op.params.axis is None


@pytest.mark.parametrize("dtype", [INT4, UINT4, np.dtype(np.int8), np.dtype(np.uint8)], ids=str)
@pytest.mark.parametrize(("axis", "block"), [(0, 2), (0, 4), (1, 5), (-2, 3)])
def test_blocks_become_real_numbers(
    dtype: np.dtype[Any], axis: int, block: int, tmp_path: Path
) -> None:
    w = numbers(dtype, 6, 5)
    shape = [6, 5]
    shape[axis] = -(-shape[axis] // block)
    scale = np.random.default_rng(1).uniform(0.1, 1, shape).astype(np.float32)
    graph = product(tmp_path, w, scale, numbers(dtype, *shape), axis=axis, block_size=block)
    after = check_pass(unpack, graph)

    assert [n.op for n in after.nodes] == [MatMul()]
    w_real = after.constant(after.nodes[0].inputs[1])
    assert w_real is not None
    assert w_real.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.dtype(np.int16), np.dtype(np.uint16)], ids=str)
@pytest.mark.parametrize("scale", [SCALES, np.array(0.25, np.float32)], ids=["columns", "one"])
def test_sixteen_bits_become_real_numbers(
    dtype: np.dtype[Any], scale: Array, tmp_path: Path
) -> None:
    w = (1000 * numbers(np.dtype(np.int8), 6, 5).astype(np.int64) + 9000).astype(dtype)
    zero = np.full(scale.shape, 7, dtype)
    graph = product(tmp_path, w, scale, zero, axis=1)
    after = check_pass(unpack, graph)

    assert [n.op for n in after.nodes] == [MatMul()]


@pytest.mark.parametrize("case", ["computed scale", "an output"])
def test_keeps_what_is_no_weight(case: str, tmp_path: Path) -> None:
    inputs = [info("x", 2, 6)] + ([info("s")] if case == "computed scale" else [])
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["real"]),
        helper.make_node("MatMul", ["x", "real"], ["y"]),
    ]
    arrays: dict[str, Any] = {"w": numbers(UINT4, 6, 5)}
    if case == "an output":
        arrays["s"] = np.array(0.5, np.float32)
    outputs = ["y", "real"] if case == "an output" else ["y"]
    graph = load(save(onnx_model(nodes, inputs, outputs, arrays, opset=21), tmp_path)).graph

    assert unpack.run(graph) is graph


@pytest.mark.parametrize("block", [0, 2])
def test_what_is_stored_small_is_not_folded(block: int, tmp_path: Path) -> None:
    """Only a target that needs them so writes the weights out."""
    attributes: dict[str, Any] = {"axis": 0, "block_size": block} if block else {"axis": 1}
    scale = np.full((3, 5), 0.5, np.float32) if block else SCALES
    graph = product(tmp_path, numbers(INT4, 6, 5), scale, **attributes)

    assert FoldConstants().run(graph) is graph
    assert simplify(graph)[0].constants["w"].array.dtype == INT4
