"""Nodes of every opset: what they become, and that they still compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.errors import ModelError
from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.frontend import load
from edgec.ir import Array, verify
from edgec.numerics import relative_error
from edgec.passes import Pipeline, lossless
from tests.models import info, onnx_model, save, unranked

RNG = np.random.default_rng(0)
I64 = TensorProto.INT64


def random(*shape: int) -> Array:
    return np.asarray(RNG.standard_normal(shape), np.float32)


def check(model: onnx.ModelProto, folder: Path, x: Array) -> list[str]:
    """Compare with ONNX Runtime on the file, all the way; return the operators."""
    path = save(model, folder)
    want = OnnxSession(ort_session(str(path), optimize=False)).run({"x": x})
    graph = load(path).graph
    verify(graph)
    got = evaluate(graph, {"x": x})
    assert relative_error(want, got) <= 1e-5
    for value in graph.outputs:
        assert value.type.ints == want[value.name].shape
    Pipeline(lossless(), {"x": x}).run(graph)
    return [str(node.op) for node in graph.nodes]


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


Case = tuple[int, str, dict[str, Any], list[Any], tuple[int, ...], str]
IMAGE = (1, 3, 7, 7)

CASES: list[Case] = [
    # opset, operator, attributes, further inputs, shape of x, what it becomes
    (6 + 1, "Clip", {"min": -0.5, "max": 0.25}, [], (3, 4), "Clip(low=-0.5, high=0.25)"),
    (10, "Clip", {"max": 0.25}, [], (3, 4), "Clip(high=0.25)"),
    (11, "Clip", {}, [np.float32(-0.5), np.float32(0.25)], (3, 4), "Clip(low=-0.5, high=0.25)"),
    (11, "Clip", {}, [None, np.float32(0.25)], (3, 4), "Clip(high=0.25)"),
    (13, "Clip", {}, [np.array([0.5], np.float32)[0]], (3, 4), "Clip(low=0.5)"),
    (18, "Clip", {}, [], (3, 4), "Clip()"),
    (11, "Squeeze", {"axes": [0, -1]}, [], (1, 3, 1), "Reshape(shape=(3,))"),
    (11, "Squeeze", {}, [], (1, 3, 1), "Reshape(shape=(3,))"),
    (13, "Squeeze", {}, [ints(0, -1)], (1, 3, 1), "Reshape(shape=(3,))"),
    (13, "Squeeze", {}, [], (1, 3, 1), "Reshape(shape=(3,))"),
    (11, "Unsqueeze", {"axes": [0, -1]}, [], (3, 4), "Reshape(shape=(1, 3, 4, 1))"),
    (13, "Unsqueeze", {}, [ints(-1, 1)], (3, 4), "Reshape(shape=(3, 1, 4, 1))"),
    (9, "Flatten", {}, [], IMAGE, "Reshape(shape=(1, 147))"),
    (11, "Flatten", {"axis": -2}, [], IMAGE, "Reshape(shape=(3, 49))"),
    (13, "Flatten", {"axis": 0}, [], (3, 4), "Reshape(shape=(1, 12))"),
    (13, "Flatten", {"axis": 2}, [], (3, 4), "Reshape(shape=(12, 1))"),
    (7, "Reshape", {}, [ints(0, -1)], (2, 3, 4), "Reshape(shape=(2, -1))"),
    (14, "Reshape", {"allowzero": 1}, [ints(2, -1)], (2, 3), "Reshape(shape=(2, -1))"),
    (
        9,
        "Slice",
        {"starts": [1, -3], "ends": [3, 9], "axes": [0, -1]},
        [],
        (4, 5),
        "Slice(starts=(1, -3), ends=(3, 9), axes=(0, 1), steps=(1, 1))",
    ),
    (
        9,
        "Slice",
        {"starts": [1], "ends": [3]},
        [],
        (4, 5),
        "Slice(starts=(1,), ends=(3,), axes=(0,), steps=(1,))",
    ),
    (
        10,
        "Slice",
        {},
        [ints(1), ints(5), ints(-1), ints(2)],
        (4, 5),
        "Slice(starts=(1,), ends=(5,), axes=(1,), steps=(2,))",
    ),
    (
        13,
        "Slice",
        {},
        [ints(-1), ints(-(2**63)), ints(1), ints(-2)],
        (4, 5),
        f"Slice(starts=(-1,), ends=({-(2**63)},), axes=(1,), steps=(-2,))",
    ),
    (
        13,
        "Slice",
        {},
        [ints(1, 0), ints(3, 2)],
        (4, 5),
        "Slice(starts=(1, 0), ends=(3, 2), axes=(0, 1), steps=(1, 1))",
    ),
    (7, "Pad", {"pads": [0, 1, 2, 0], "value": 1.5}, [], (3, 4),
     "Pad(pads=(0, 1, 2, 0), value=1.5)"),
    (11, "Pad", {}, [ints(0, 1, 2, 0)], (3, 4), "Pad(pads=(0, 1, 2, 0))"),
    (13, "Pad", {}, [ints(0, 1, 2, 0), np.float32(2)], (3, 4),
     "Pad(pads=(0, 1, 2, 0), value=2.0)"),
    (18, "Pad", {}, [ints(1, 2), None, ints(-1)], (3, 4), "Pad(pads=(0, 1, 0, 2))"),
    (18, "Pad", {}, [ints(1, 2, 3, 4), None, ints(0, -1)], (3, 5, 4),
     "Pad(pads=(1, 0, 2, 3, 0, 4))"),
    (11, "Pad", {"mode": "reflect"}, [ints(0, 1, 0, 0)], (3, 4),
     "MirrorPad(pads=(0, 1, 0, 0))"),
    (7, "Pad", {"mode": "edge", "pads": [0, 1, 0, 0]}, [], (3, 4),
     "MirrorPad(pads=(0, 1, 0, 0), mode='edge')"),
    (19, "Pad", {"mode": "wrap"}, [ints(5, 0), None, ints(-1)], (3, 4),
     "WrapPad(pads=(0, 5, 0, 0))"),
    (11, "Pad", {}, [ints(0, 1, 0, -2)], (3, 4), "Pad(pads=(0, 1, 0, -2))"),
    (13, "Tile", {}, [ints(1, 2)], (3, 4), "Tile(repeats=(1, 2))"),
    (13, "ReduceMean", {"axes": [-1], "keepdims": 0}, [], IMAGE,
     "ReduceMean(axes=(3,), keepdims=False)"),
    (13, "ReduceMean", {}, [], (3, 4), "ReduceMean(axes=(0, 1))"),
    (18, "ReduceMean", {}, [ints(-1, 2)], IMAGE, "ReduceMean(axes=(2, 3))"),
    (18, "ReduceMean", {}, [], (3, 4), "ReduceMean(axes=(0, 1))"),
    (18, "ReduceMean", {"noop_with_empty_axes": 1}, [], (3, 4), "ReduceMean()"),
    (12, "Softmax", {"axis": 1}, [], (3, 4), "Softmax()"),
    (12, "Softmax", {}, [], (3, 4, 1), "Softmax(axis=-2)"),
    (13, "Softmax", {"axis": 1}, [], (3, 4, 5), "Softmax(axis=-2)"),
    (13, "Softmax", {}, [], (3, 4, 5), "Softmax()"),
    (7, "Dropout", {"ratio": 0.5}, [], (3, 4), "Identity()"),
    (13, "Dropout", {}, [np.float32(0.5)], (3, 4), "Identity()"),
    (13, "Dropout", {}, [np.float32(0.5), np.array(False)], (3, 4), "Identity()"),
    (7, "AveragePool", {"kernel_shape": [3, 3], "count_include_pad": 1, "pads": [1] * 4}, [],
     IMAGE,
     "AveragePool(kernel=(3, 3), pad=(1, 1, 1, 1), count_include_pad=True)"),
    (19, "AveragePool", {"kernel_shape": [2, 2], "dilations": [2, 2]}, [], IMAGE,
     "DilatedAveragePool(kernel=(2, 2), dilation=(2, 2))"),
    (19, "AveragePool", {"kernel_shape": [2, 2], "dilations": [1, 1]}, [], IMAGE,
     "AveragePool(kernel=(2, 2))"),
    (8, "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, [], IMAGE,
     "MaxPool(kernel=(2, 2), stride=(2, 2))"),
    (12, "MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 3], "ceil_mode": 1}, [], IMAGE,
     "MaxPool(kernel=(2, 2), dilation=(2, 3), ceil_mode=True)"),
    (12, "MaxPool", {"kernel_shape": [2], "strides": [2]}, [], (1, 3, 7),
     "MaxPool(kernel=(2,), stride=(2,), pad=(0, 0), dilation=(1,))"),
    (9, "GlobalAveragePool", {}, [], (1, 3, 7), "GlobalAveragePool()"),
    (9, "GlobalAveragePool", {}, [], IMAGE, "GlobalAveragePool()"),
    (9, "Transpose", {}, [], (2, 3, 4), "Transpose(perm=(2, 1, 0))"),
    (9, "LeakyRelu", {}, [], (3, 4), "LeakyRelu()"),
    (9, "LeakyRelu", {"alpha": 0.3}, [], (3, 4), "LeakyRelu(alpha=0.3)"),
    (9, "HardSigmoid", {"beta": 0.25}, [], (3, 4), "HardSigmoid(beta=0.25)"),
    (7, "Gemm", {"transB": 1}, [random(5, 4), random(5)], (3, 4), "FullyConnected()"),
    (11, "Gemm", {"transB": 1}, [random(5, 4)], (3, 4), "FullyConnected()"),
    (7, "Gemm", {"transB": 1, "alpha": 0.5}, [random(5, 4), random(5)], (3, 4),
     "Gemm(alpha=0.5, trans_b=True)"),
    (7, "Gemm", {"transB": 1, "beta": 0.5}, [random(5, 4), random(5)], (3, 4),
     "Gemm(beta=0.5, trans_b=True)"),
    (7, "Gemm", {"transB": 1, "transA": 1}, [random(5, 3), random(5)], (3, 4),
     "Gemm(trans_a=True, trans_b=True)"),
    (7, "Gemm", {"transB": 1}, [random(5, 4), random(3, 5)], (3, 4), "Gemm(trans_b=True)"),
    (7, "Gemm", {}, [random(4, 5), random(1)], (3, 4), "Gemm()"),
    (9, "MatMul", {}, [random(4, 5)], (2, 3, 4), "MatMul()"),
    (9, "MatMul", {}, [random(4)], (2, 3, 4), "MatMul()"),
    (9, "Concat", {"axis": -1}, [random(2, 3)], (2, 5), "Concat(axis=1)"),
    (9, "Conv", {}, [random(4, 3, 2, 2)], IMAGE, "Conv()"),
    (9, "Conv", {"group": 3}, [random(6, 1, 2, 2)], IMAGE, "DepthwiseConv()"),
    (9, "Conv", {"group": 2}, [random(6, 2, 2, 2)], (1, 4, 7, 7), "GroupedConv(groups=2)"),
    (9, "Conv", {}, [random(4, 3, 2)], (1, 3, 7),
     "Conv(stride=(1,), pad=(0, 0), dilation=(1,))"),
    (10, "QuantizeLinear", {}, [np.float32(0.5), np.uint8(3)], (3, 4),
     "Quantize(params=QuantParams(scale=(0.5,), zero_point=(3,), axis=None), dtype=u8)"),
    (13, "QuantizeLinear", {"axis": -2},
     [np.array([0.5, 1, 2], np.float32), np.zeros(3, np.int8)], (3, 4),
     "Quantize(params=QuantParams(scale=(0.5, 1.0, 2.0), zero_point=(0, 0, 0), axis=0))"),
    (13, "QuantizeLinear", {}, [np.float32(0.5)], (3, 4),
     "Quantize(params=QuantParams(scale=(0.5,), zero_point=(0,), axis=None), dtype=u8)"),
    (9, "Sqrt", {}, [], (3, 4), "Sqrt()"),
    (9, "Erf", {}, [], (3, 4), "Erf()"),
    (18, "Split", {"num_outputs": 1}, [], (3, 4), "Split(sizes=(3,))"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("opset", "op_type", "attributes", "more", "shape", "want"),
    CASES,
    ids=[f"{c[1]}-{c[0]}-{i}" for i, c in enumerate(CASES)],
)
def test_a_node_becomes(
    opset: int,
    op_type: str,
    attributes: dict[str, Any],
    more: list[Any],
    shape: tuple[int, ...],
    want: str,
    tmp_path: Path,
) -> None:
    arrays = {f"i{k}": a for k, a in enumerate(more) if a is not None}
    names = [f"i{k}" if a is not None else "" for k, a in enumerate(more)]
    node = helper.make_node(op_type, ["x", *names], ["y"], **attributes)
    out = int(TensorProto.UINT8 if op_type == "QuantizeLinear" else TensorProto.FLOAT)
    if op_type == "QuantizeLinear" and len(more) > 1:
        out = numpy_helper.from_array(np.asarray(more[1])).data_type
    declared = helper.make_tensor_value_info("y", out, None)
    model = onnx_model([node], [info("x", *shape)], [declared], arrays, opset=opset)

    assert check(model, tmp_path, np.abs(random(*shape))) == [want]


@pytest.mark.parametrize(
    ("op_type", "more", "want"),
    [
        ("Clip", [np.array(0), np.array(2**63 - 1)], f"Clip(low=0, high={2**63 - 1})"),
        ("Clip", [np.array(-(2**60)), np.array(5)], f"Clip(low={-(2**60)}, high=5)"),
        ("Pad", [ints(1, 1), np.array(2**60 + 1)], "Pad"),
    ],
)
def test_integers_that_no_float_holds_stay_what_they_are(
    op_type: str, more: list[Array], want: str, tmp_path: Path
) -> None:
    arrays = {f"i{k}": a for k, a in enumerate(more)}
    node = helper.make_node(op_type, ["x", *arrays], ["y"])
    model = onnx_model([node], [info("x", 3, dtype=I64)], [unranked("y", I64)], arrays)

    assert check(model, tmp_path, ints(-7, 2, 9)) == [want]


@pytest.mark.parametrize("opset", [7, 9, 14])
def test_batch_norm(opset: int, tmp_path: Path) -> None:
    arrays = {n: random(3) for n in ("gamma", "beta", "mean")} | {"var": np.abs(random(3)) + 1}
    node = helper.make_node("BatchNormalization", ["x", *arrays], ["y"], epsilon=0.25)
    model = onnx_model([node], [info("x", *IMAGE)], ["y"], arrays, opset=opset)

    assert check(model, tmp_path, random(*IMAGE)) == ["BatchNorm(epsilon=0.25)"]


def test_a_mask_that_nobody_reads_does_not_make_dropout_special(tmp_path: Path) -> None:
    node = helper.make_node("Dropout", ["x"], ["y", "mask"])
    model = onnx_model([node], [info("x", 3)], ["y"], opset=11)

    assert check(model, tmp_path, random(3)) == ["Identity()"]


def test_a_mask_that_is_read_makes_dropout_more_than_an_identity(tmp_path: Path) -> None:
    node = helper.make_node("Dropout", ["x"], ["y", "mask"])
    mask = info("mask", 3, dtype=TensorProto.BOOL)
    model = onnx_model([node], [info("x", 3)], ["y", mask], opset=13)

    assert check(model, tmp_path, random(3)) == ["Dropout()"]


def test_indices_that_are_read_keep_a_pool_as_it_is(tmp_path: Path) -> None:
    node = helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])
    nodes = [node, helper.make_node("Shape", ["i"], ["s"])]
    s = info("s", 4, dtype=I64)
    model = onnx_model(nodes, [info("x", *IMAGE)], ["y", s], opset=13)

    assert check(model, tmp_path, random(*IMAGE)) == ["MaxPool", "Shape()"]


@pytest.mark.parametrize(
    ("opset", "node"),
    [
        (9, helper.make_node("Upsample", ["x", "k"], ["y"], mode="nearest")),
        (9, helper.make_node("Upsample", ["x", "k"], ["y"], mode="linear")),
        (10, helper.make_node("Resize", ["x", "k"], ["y"], mode="linear")),
        (10, helper.make_node("Resize", ["x", "k"], ["y"], mode="nearest")),
        (10, helper.make_node("Resize", ["x", "third"], ["y"], mode="nearest")),
        (10, helper.make_node("Resize", ["x", "less"], ["y"], mode="nearest")),
        (11, helper.make_node("Resize", ["x", "roi", "k"], ["y"], mode="linear")),
        (11, helper.make_node("Resize", ["x", "roi", "third"], ["y"], mode="nearest")),
        (11, helper.make_node("Split", ["x"], ["y", "z"], axis=3, split=[3, 4])),
        (13, helper.make_node("Split", ["x"], ["y", "z", "w"], axis=1)),
        (9, helper.make_node("ArgMax", ["x"], ["i"], axis=1)),
        (12, helper.make_node("Softmax", ["x"], ["y"], axis=1)),
        (11, helper.make_node("ReduceMax", ["x"], ["y"], axes=[1])),
        (10, helper.make_node("TopK", ["x", "n"], ["y", "i"], axis=3)),
    ],
    ids=lambda v: getattr(v, "op_type", v),
)
def test_what_has_changed_since_is_raised(
    opset: int, node: onnx.NodeProto, tmp_path: Path
) -> None:
    """Such a node means something else in the opset that edgec writes."""
    all_arrays = {
        "k": np.array([1, 1, 1.5, 2], np.float32),
        "third": np.array([1, 1, 1 / 3, 1], np.float32),
        "less": np.array([1, 1, 0.6, 0.6], np.float32),
        "roi": np.zeros(0, np.float32),
        "n": ints(2),
    }
    arrays = {name: a for name, a in all_arrays.items() if name in node.input}
    outputs = [unranked(name, I64 if name == "i" else 1) for name in node.output]
    model = onnx_model([node], [info("x", *IMAGE)], outputs, arrays, opset=opset)

    ops = check(model, tmp_path, random(*IMAGE))
    kinds = [op.partition("(")[0] for op in ops]
    assert {"Upsample": "Resize"}.get(node.op_type, node.op_type) in kinds
    assert load(tmp_path / "net.onnx").opset == opset


def test_what_cannot_be_raised_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
        raise RuntimeError("a long story\nno adapter")

    monkeypatch.setattr(onnx.version_converter, "convert_version", refuse)
    node = helper.make_node("CumSum", ["x", "axis"], ["y"])  # of which one cannot tell the axis
    inputs = [info("x", *IMAGE), info("axis", dtype=I64)]
    path = save(onnx_model([node], inputs, ["y"], opset=11), tmp_path)

    with pytest.raises(ModelError, match="of opset 11 and cannot be raised to opset 18: no ad"):
        load(path)


WINDOWS = [  # what ONNX Runtime takes: pools with pads, convolutions without dilation
    *((op, mode, k, s, 1)
      for op in ("Conv", "MaxPool", "AveragePool")
      for mode in ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
      for k, s in ((3, 2), (2, 1), (4, 3), (5, 1))),
    *(("Conv", mode, 1, s, 1) for mode in ("SAME_UPPER", "SAME_LOWER") for s in (2, 3)),
    *((op, mode, 2, 1, 3) for op in ("Conv", "MaxPool") for mode in ("VALID", "NOTSET")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (helper.make_node("Hardmax", ["x"], ["y"], axis=1), "Hardmax flattened its operand"),
        (helper.make_node("Resize", ["x", "k"], ["y"]), "makes one axis longer and another"),
    ],
)
def test_what_the_converter_would_get_wrong_is_refused(
    node: onnx.NodeProto, message: str, tmp_path: Path
) -> None:
    arrays = {"k": np.array([1, 1, 0.5, 2], np.float32)} if "k" in node.input else {}
    path = save(onnx_model([node], [info("x", *IMAGE)], ["y"], arrays, opset=10), tmp_path)

    with pytest.raises(ModelError, match=message):
        load(path)


@pytest.mark.parametrize(("op_type", "mode", "kernel", "stride", "dilation"), WINDOWS)
def test_auto_pad(
    op_type: str, mode: str, kernel: int, stride: int, dilation: int, tmp_path: Path
) -> None:
    attributes: dict[str, Any] = {"auto_pad": mode, "strides": [stride, stride + 1]}
    attributes["kernel_shape"] = [kernel, kernel]
    if op_type != "AveragePool":
        attributes["dilations"] = [dilation, 1]
    arrays = {"w": random(2, 3, kernel, kernel)} if op_type == "Conv" else {}
    node = helper.make_node(op_type, ["x", *arrays], ["y"], **attributes)
    model = onnx_model([node], [info("x", 1, 3, 8, 9)], ["y"], arrays, opset=14)

    (op,) = check(model, tmp_path, random(1, 3, 8, 9))
    assert op.startswith(f"{op_type}(")  # an opaque one has no parentheses


def test_a_model_of_another_domain_only_needs_no_default_opset(tmp_path: Path) -> None:
    node = helper.make_node("Normalizer", ["x"], ["y"], domain="ai.onnx.ml", norm="MAX")
    graph = helper.make_graph([node], "g", [info("x", 1, 3)], [info("y", 1, 3)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)])
    model.ir_version = 8
    path = save(model, tmp_path)

    x = np.array([[1, 2, 4]], np.float32)
    found = evaluate(load(path).graph, {"x": x})
    np.testing.assert_allclose(found["y"], x / 4)


def test_an_old_model_of_operators_that_never_changed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["a"]),
        helper.make_node("Softmax", ["a"], ["y"]),
    ]
    model = onnx_model(nodes, [info("x", *IMAGE)], ["y"], opset=6)

    assert check(model, tmp_path, random(*IMAGE))[0] == "GlobalAveragePool()"
    assert load(tmp_path / "net.onnx").opset == 6


def old_scan(batch: int) -> onnx.ModelProto:
    """A running sum, as opset 8 wrote it: every operand has a batch."""
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "x"], ["t"]), helper.make_node("Relu", ["t"], ["z"])],
        "body",
        [info("s", 2), info("x", 2)],
        [info("t", 2), info("z", 2)],
    )
    scan = helper.make_node(
        "Scan", ["", "init", "x"], ["last", "all"], body=body, num_scan_inputs=1
    )
    inputs = [info("init", batch, 2), info("x", batch, 3, 2)]
    outputs = [info("last", batch, 2), info("all", batch, 3, 2)]
    return onnx_model([scan], inputs, outputs, opset=8)


def test_a_scan_of_opset_8_keeps_its_batch(tmp_path: Path) -> None:
    path = save(old_scan(1), tmp_path)
    graph = load(path).graph
    x = np.arange(6, dtype=np.float32).reshape(1, 3, 2) - 2

    assert [str(v.type) for v in graph.inputs] == ["f32[1,2]", "f32[1,3,2]"]
    feeds = {"init": np.ones((1, 2), np.float32), "x": x}
    want = OnnxSession(ort_session(str(path))).run(feeds)
    got = evaluate(graph, feeds)
    np.testing.assert_array_equal(got["last"], want["last"])
    np.testing.assert_array_equal(got["all"], want["all"])


def test_a_scan_of_opset_8_over_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Scan had a batch in opset 8, which must be 1"):
        load(save(old_scan(2), tmp_path))
