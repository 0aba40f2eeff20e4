"""The bytes of TFLite files, read back with the schema."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgec.ir import DType, Graph, Op, QuantParams
from edgec.ops import (
    Add,
    ConstantOfShape,
    Conv,
    Dequantize,
    Expand,
    FullyConnected,
    GroupedConv,
    HardSwish,
    LeakyRelu,
    MatMul,
    NonZero,
    Relu,
    Resize,
    Slice,
    Split,
    Sub,
    Tile,
)
from edgec.targets import Tflite
from edgec.targets.tflite.model import Model, Operator, Tensor
from edgec.targets.tflite.schema import serialize
from tests.golden.compare import matches
from tests.targets.graphs import Net, one_op, quantized, random, tiny_cnn

TYPES = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
CODES = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}


def parsed(data: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(data), 0))


def text(data: bytes) -> str:
    """Return everything in a file but the contents of its constants."""
    model = parsed(data)
    (graph,) = model.subgraphs
    lines = [f"version {model.version}", "tensors"]
    for i, t in enumerate(graph.tensors):
        constant = model.buffers[t.buffer].data is not None
        line = f"  {i} {t.name.decode()}: {TYPES[t.type]}{np.array(t.shape).tolist()}"
        line += " const" if constant else ""
        q = t.quantization
        if q is not None and q.scale is not None:
            scales = " ".join(f"{s:.4g}" for s in q.scale[:3])
            more = " .." if len(q.scale) > 3 else ""
            line += f" scale {scales}{more} zero {q.zeroPoint[0]} axis {q.quantizedDimension}"
        lines.append(line)
    lines.append("operators")
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        fields = vars(op.builtinOptions) if op.builtinOptions is not None else {}
        # A newer schema has more fields; those at their default say nothing.
        told = ", ".join(f"{k}={_plain(v)}" for k, v in sorted(fields.items()) if _said(v))
        io = f"{list(map(int, op.inputs))} -> {list(map(int, op.outputs))}"
        lines.append(f"  {CODES[code.builtinCode]} v{code.version} ({told}) {io}")
    for kind in ("inputs", "outputs"):
        entries = getattr(model.signatureDefs[0], kind)
        told = ", ".join(f"{e.name.decode()}={e.tensorIndex}" for e in entries)
        lines.append(f"{kind} {told}")
    return "\n".join(lines) + "\n"


def _said(value: Any) -> bool:
    return value is not None and bool(np.any(value))


def _plain(value: Any) -> Any:
    return np.asarray(value).tolist()


def metadata(model: Any, name: bytes) -> bytes:
    (found,) = (m for m in model.metadata if m.name == name)
    return bytes(model.buffers[found.buffer].data)


def small() -> Graph:
    graph, feeds = tiny_cnn()
    return quantized(graph, feeds)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("tiny_cnn_int8", Tflite("int8", "nhwc")),
        ("tiny_cnn_keep", Tflite()),
    ],
)
def test_a_small_model_is_written_like_this(name: str, target: Tflite) -> None:
    assert matches(f"tflite_{name}.txt", text(target.compile(small()).data))


def test_a_small_float_model_is_written_like_this() -> None:
    graph, _ = tiny_cnn()

    assert matches("tflite_tiny_cnn_float.txt", text(Tflite().compile(graph).data))


def test_the_file_identifier_is_at_byte_4() -> None:
    assert Tflite().compile(small()).data[4:8] == b"TFL3"


def test_buffers_are_aligned_to_16_bytes() -> None:
    net = Net(x=(1, 7))
    net.add("a", FullyConnected(), "x", random(3, 7), random(3))
    net.add("b", FullyConnected(), "a", random(5, 3, seed=1), random(5, seed=1))
    for graph in (net.graph("b"), small()):
        data = Tflite().compile(graph).data
        model = schema.Model.GetRootAs(bytearray(data), 0)
        starts = []
        for i in range(model.BuffersLength()):
            buffer = model.Buffers(i)
            if buffer.DataLength():
                starts.append(buffer._tab.Vector(buffer._tab.Offset(4)))
        assert len(starts) > 4
        assert {start % 16 for start in starts} == {0}


def test_buffer_0_is_empty_and_equal_contents_are_stored_once() -> None:
    w = random(4, 4)
    net = Net(x=(1, 4))
    net.add("a", FullyConnected(), "x", w)
    net.add("b", FullyConnected(), "a", w)
    model = parsed(Tflite().compile(net.graph("b")).data)

    assert model.buffers[0].data is None
    sizes = [len(b.data) for b in model.buffers if b.data is not None]
    assert sorted(sizes) == [16, 16, 64]  # bias, version, weights: each once


def test_equal_contents_of_other_shapes_share_a_buffer() -> None:
    net = Net(x=(1, 4))
    net.add("row", Add(), "x", random(1, 4))
    net.add("y", Add(), "row", random(1, 4).reshape(4, 1))
    model = parsed(Tflite().compile(net.graph("y")).data)

    assert sorted(len(b.data) for b in model.buffers if b.data is not None) == [16, 16]
    (graph,) = model.subgraphs
    assert sorted(map(list, (t.shape for t in graph.tensors if model.buffers[t.buffer].data
                             is not None))) == [[1, 4], [4, 1]]  # fmt: skip


def test_operator_codes_are_readable_for_old_and_new_runtimes() -> None:
    model = parsed(Tflite().compile(small()).data)
    codes = [(c.builtinCode, c.version) for c in model.operatorCodes]

    assert len(set(codes)) == len(codes)
    for code in model.operatorCodes:
        assert code.deprecatedBuiltinCode == min(code.builtinCode, 127)


def test_old_runtimes_see_a_placeholder_for_new_operators() -> None:
    model = Model("m", inputs=[("x", 0)], outputs=[("y", 1)])
    model.tensors = [Tensor(name, DType.FLOAT32, (1,)) for name in "xy"]
    model.operators = [Operator("GELU", (0,), (1,))]

    (code,) = parsed(serialize(model)).operatorCodes

    assert (code.builtinCode, code.deprecatedBuiltinCode) == (150, 127)


# As tensorflow/compiler/mlir/lite/tools/versioning/runtime_version.cc lists them.
@pytest.mark.parametrize(
    ("graph", "version"),
    [
        (one_op(Conv(), random(1, 2, 4, 4), random(2, 2, 1, 1))[0], "1.14.0"),
        (one_op(HardSwish(), random(1, 4))[0], "1.15.0"),
        (one_op(MatMul(), random(2, 3, 4), random(4, 2))[0], "2.3.0"),
        (one_op(GroupedConv(groups=2), random(1, 4, 4, 4), random(4, 2, 1, 1))[0], "2.9.0"),
        (quantized(*one_op(FullyConnected(), random(1, 4), random(3, 4))), "2.17.0"),
        (quantized(*one_op(Relu(), random(1, 4))), "1.14.0"),
        (quantized(*one_op(Sub(), random(1, 4), random(1, 4))), "1.14.0"),
        (quantized(*one_op(LeakyRelu(), random(1, 4))), "2.3.0"),
    ],
)
def test_min_runtime_version(graph: Graph, version: str) -> None:
    model = parsed(Tflite().compile(graph).data)

    assert metadata(model, b"min_runtime_version") == version.encode().ljust(16, b"\0")


def test_the_same_graph_gives_the_same_bytes() -> None:
    assert Tflite().compile(small()).data == Tflite().compile(small()).data


_PRINT_DIGESTS = """
import hashlib
from edgec.targets import OnnxRuntime, Tflite
from edgec.targets.onnxruntime.devices import DEVICES
from tests.targets.test_tflite_file import small
for target in (Tflite(), Tflite("int8", "nhwc"), OnnxRuntime(DEVICES[0])):
    print(hashlib.sha256(target.compile(small()).data).hexdigest())
"""


def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    def digests(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", _PRINT_DIGESTS],
            env=environment,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    first = digests("1")

    assert first == digests("2")
    assert len(set(first.split())) == 3


def test_axes_of_per_channel_weights_and_biases() -> None:
    from edgec.ops import DepthwiseConv

    x = random(1, 3, 5, 5)
    for op, w, axis in (
        (Conv(), random(4, 3, 3, 3), 0),
        (DepthwiseConv(), random(6, 1, 3, 3), 3),
    ):
        made = quantized(*one_op(op, x, w, random(len(w), seed=1)))
        model = parsed(Tflite().compile(made).data)
        (graph,) = model.subgraphs
        (operator,) = (o for o in graph.operators if len(o.inputs) == 3)
        _, weight, bias = (graph.tensors[i] for i in operator.inputs)
        assert weight.quantization.quantizedDimension == axis
        assert len(weight.quantization.scale) == weight.shape[axis] == len(w)
        assert bias.quantization.quantizedDimension == 0
        assert len(bias.quantization.scale) == len(w)
        assert TYPES[bias.type] == "INT32"


# As tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc lists them.
@pytest.mark.parametrize(
    ("op", "dtype", "rank", "version"),
    [
        (Split(0, (1, 1)), np.float32, 1, 1),
        (Split(0, (1, 1)), np.int32, 1, 3),
        (Split(0, (1, 1)), np.int16, 1, 4),
        (Slice((0,), (1,), (0,), (1,)), np.float32, 4, 1),
        (Slice((0,), (1,), (0,), (1,)), np.float32, 5, 4),
        (Slice((0,), (1,), (0,), (1,)), np.bool_, 1, 3),
        (Tile((2, 1)), np.int8, 2, 3),
        (Expand((2, 2)), np.int16, 2, 3),
        (Expand((2, 2)), np.int32, 2, 2),
        (ConstantOfShape(1.0, DType.INT16), np.int64, 1, 3),
        (ConstantOfShape(1.0, DType.FLOAT32), np.int64, 1, 1),
    ],
)
def test_the_lowest_version_that_takes_the_types(
    op: Op, dtype: type[np.generic], rank: int, version: int
) -> None:
    shape = (2,) + (1,) * (rank - 1)
    graph = one_op(op, np.ones(shape, dtype))[0]

    (code,) = parsed(Tflite().compile(graph).data).operatorCodes
    assert code.version == version


@pytest.mark.parametrize(("axis", "version"), [(None, 2), (0, 5), (1, 5)])
def test_several_scales_are_unpacked_since_a_later_version(
    axis: int | None, version: int
) -> None:
    count = 1 if axis is None else 32
    params = QuantParams((0.5,) * count, (0,) * count, axis)
    net = Net(x=(32, 32))
    net.add("w", Dequantize(params), np.ones((32, 32), np.int8))
    graph = net.graph(net.add("y", Add(), "x", "w"))

    codes = parsed(Tflite().compile(graph).data).operatorCodes
    assert [c.version for c in codes] == [version, 1]


@pytest.mark.parametrize(
    ("mode", "coordinates", "is_integer", "version"),
    [
        ("linear", "asymmetric", False, 1),
        ("linear", "asymmetric", True, 2),
        ("linear", "align_corners", True, 2),
        ("linear", "half_pixel", True, 3),
        ("nearest", "align_corners", False, 3),
        ("nearest", "half_pixel", True, 3),
    ],
)
def test_versions_of_resizes(
    mode: str, coordinates: str, is_integer: bool, version: int
) -> None:
    rounding = "round_prefer_ceil" if coordinates == "align_corners" else "round_prefer_floor"
    op = Resize(
        mode=mode, coordinates=coordinates, rounding=rounding, axes=(2, 3), sizes=(9, 9)
    )
    graph, feeds = one_op(op, random(1, 2, 3, 3))
    if is_integer:
        graph = quantized(graph, feeds)

    codes = parsed(Tflite(io_layout="nhwc").compile(graph).data).operatorCodes
    kinds = (CODES[c.builtinCode] for c in codes)
    found = dict(zip(kinds, (c.version for c in codes), strict=True))
    assert [v for name, v in found.items() if name.startswith("RESIZE")] == [version]


def test_a_length_that_the_data_tell_is_open_in_the_file() -> None:
    model = parsed(Tflite().compile(one_op(NonZero(), random(2, 3))[0]).data)
    graph = model.subgraphs[0]
    (out,) = (graph.tensors[i] for i in graph.outputs)

    assert list(out.shape) == [2, 1]
    assert list(out.shapeSignature) == [2, -1]
