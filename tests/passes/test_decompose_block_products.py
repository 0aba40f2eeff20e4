from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.export import to_onnx
from edgec.frontend import load
from edgec.ir import Array, Graph, verify
from edgec.numerics import relative_error
from edgec.ops import Add, Dequantize, MatMul
from edgec.passes import DecomposeBlockProducts
from tests.models import info, onnx_model, save

decompose = DecomposeBlockProducts()
K, N = 40, 6
X = np.random.default_rng(3).standard_normal((2, 3, K)).astype(np.float32)


def product(
    folder: Path, bits: int, block: int, *, zeros: str = "", bias: bool = False, **more: Any
) -> Graph:
    """A product of random packed weights."""
    rng = np.random.default_rng(bits)
    count = -(-K // block)
    row = -(-count * bits // 8)
    arrays: dict[str, Array] = {
        "w": rng.integers(0, 256, (N, count, block * bits // 8)).astype(np.uint8),
        "s": rng.uniform(0.1, 1, (N, count)).astype(np.float32),
    }
    inputs = ["x", "w", "s"]
    if zeros:
        whole = rng.integers(0, 256, (N, row)).astype(np.uint8)
        real = rng.uniform(0, 3, (N, count)).astype(np.float32)
        arrays["z"] = whole if zeros == "packed" else real
        inputs.append("z")
    if bias:
        arrays["b"] = rng.standard_normal(N).astype(np.float32)
        inputs += [""] * (5 - len(inputs)) + ["b"]
    node = helper.make_node(
        "MatMulNBits", inputs, ["y"], "layer", domain="com.microsoft",
        K=K, N=N, bits=bits, block_size=block, **more,
    )  # fmt: skip
    model = onnx_model([node], [info("x", *X.shape)], ["y"], arrays,
                       domains={"com.microsoft": 1})  # fmt: skip
    return load(save(model, folder)).graph


@pytest.mark.parametrize("zeros", ["", "packed", "real"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("bits", "block"), [(4, 16), (4, 32), (8, 16), (2, 32), (8, 128)])
def test_computes_the_same(
    bits: int, block: int, bias: bool, zeros: str, tmp_path: Path
) -> None:
    graph = product(tmp_path, bits, block, zeros=zeros, bias=bias)
    after = decompose.run(graph)
    verify(after)

    ops = [n.op for n in after.nodes]
    assert MatMul() in ops
    assert (Add() in ops) is bias
    stays = block >= K and zeros != "real"  # with one scale a column, and whole zero points
    assert any(isinstance(op, Dequantize) for op in ops) is stays
    assert {n.origin for n in after.nodes} == {("layer",)}
    if zeros != "real" or bits == 4:  # ONNX Runtime has no kernel for others
        error = relative_error(evaluate(graph, {"x": X}), evaluate(after, {"x": X}))
        assert error <= 1e-5


def test_rounded_operands_are_not_rounded(tmp_path: Path) -> None:
    rounded = product(tmp_path, 4, 16, accuracy_level=4)
    exact = product(tmp_path, 4, 16, accuracy_level=1)
    want = evaluate(exact, {"x": X})
    fast = OnnxSession(ort_session(to_onnx(rounded).SerializeToString())).run({"x": X})

    assert relative_error(want, fast) > 1e-4
    assert relative_error(want, evaluate(decompose.run(rounded), {"x": X})) <= 1e-5


def test_keeps_weights_that_a_device_packed_its_own_way(tmp_path: Path) -> None:
    """ONNX Runtime does not load them on a CPU, so that the type is declared."""
    inputs = ["x", "w", "s"]
    node = helper.make_node(
        "MatMulNBits", inputs, ["y"], "layer", domain="com.microsoft",
        K=K, N=N, bits=4, block_size=16, weight_prepacked=1,
    )  # fmt: skip
    arrays = {"w": np.zeros((N, 3, 8), np.uint8), "s": np.ones((N, 3), np.float32)}
    model = onnx_model([node], [info("x", *X.shape)], [info("y", 2, 3, N)], arrays,
                       domains={"com.microsoft": 1})  # fmt: skip
    graph = load(save(model, tmp_path)).graph

    assert decompose.run(graph) is graph
