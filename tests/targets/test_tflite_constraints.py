"""Rules of the file, each broken once, and constraints, each kept once and broken once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgec.errors import UnsupportedError
from edgec.ir import DType, Graph, Node, Op, QuantParams, TensorType, Value
from edgec.ops import (
    Celu,
    Compress,
    ConvInteger,
    ConvTranspose,
    Dequantize,
    FullyConnected,
    Gemm,
    GridSample,
    GroupedConv,
    MatMul,
    MaxPool,
    NonMaxSuppression,
    Opaque,
    Quantize,
    Relu,
    Reshape,
    Resize,
    RoiAlign,
    ScatterElements,
    Softmax,
    Stft,
    Unique,
)
from edgec.targets import Tflite
from edgec.targets.tflite.constraints import CONSTRAINTS
from tests.targets.graphs import Net, one_op, random

I8, I32, F32 = DType.INT8, DType.INT32, DType.FLOAT32


def grid(*scale: float, zero: int = 0, axis: int | None = None) -> QuantParams:
    return QuantParams(scale, (zero,) * len(scale), axis)


def constraint_names() -> list[str]:
    return [c.found.__name__ for c in CONSTRAINTS]


def computed_weights() -> Graph:
    net = Net(x=(2, 3), w=(4, 3))
    return net.graph(net.add("y", FullyConnected(), "x", "w"))


def transposed_volume(dilation: tuple[int, int, int]) -> Graph:
    net = Net(x=(1, 2, 3, 3, 3), w=(2, 3, 2, 2, 2))
    op = ConvTranspose((1, 1, 1), (0,) * 6, dilation, (0, 0, 0))
    return net.graph(net.add("y", op, "x", "w"))


def symbolic() -> Graph:
    net = Net(x=("batch", 3))
    return net.graph(net.add("y", Relu(), "x"))


def of_type(dtype: DType) -> Graph:
    net = Net(dtype, x=(1, 3))
    return net.graph(net.add("y", Relu(), "x"))


def repaired(scale: float) -> Graph:
    net = Net(x=(1, 2))
    net.add("q", Quantize(grid(0.5)), "x")
    return net.graph(net.add("y", Dequantize(grid(scale)), "q"))


def one(op: Op, *shapes: tuple[int, ...], dtype: type = np.float32) -> Graph:
    return one_op(op, *(random(*shape).astype(dtype) for shape in shapes))[0]


IMAGE = (1, 2, 7, 7)
PER_CHANNEL = QuantParams((0.5, 0.25), (0, 0), 1)


def picked(*, static: bool) -> Graph:
    """Return a layer behind one whose result is as long as the data say, or is not."""
    net = Net(x=(3,))
    kept = np.array([True, False, True])
    if static:
        net.add("y", Compress(0), "x", kept)
    else:
        condition = Value("c", TensorType(DType.BOOL, (3,)))
        net.inputs, net.values["c"] = (*net.inputs, condition), condition
        net.add("y", Compress(0), "x", "c")
    return net.graph(net.add("z", Relu(), "y"))


def scattered(dtype: type[np.integer[Any]]) -> Graph:
    x = np.arange(4, dtype=dtype)
    return one_op(ScatterElements(reduction="mul"), x, np.array([1, 1, 2]), x[:3])[0]


CASES: list[tuple[str, Graph, Graph, str]] = [
    (
        "_static", one(Relu(), (1, 3)), symbolic(),
        "input x: is f32[batch,3], but a TFLite file has a fixed shape "
        "(give every axis a length with --shape)",
    ),
    (
        "_types", of_type(F32), of_type(DType.UINT64),
        "y: Relu(): Values are of a type that the operator's builtin takes, or quantized, "
        "but %x is u64[1,3] "
        "(export the model in float32)",
    ),
    (
        "_types", one(Quantize(grid(0.5)), (2, 3)),
        one(Quantize(grid(0.5), DType.UINT16), (2, 3)),
        "y: Quantize(params=QuantParams(scale=(0.5,), zero_point=(0,), axis=None), dtype=u16): "
        "Values are of a type that the operator's builtin takes, or quantized, "
        "but it stores u16 "
        "(export the model in float32)",
    ),
    (
        "_rank", one(Softmax(), (1,) * 5 + (3,)), one(Softmax(), (1,) * 6 + (3,)),
        "y: Softmax(): Values have no more axes than the operator's builtin takes, but "
        "%x is f32[1,1,1,1,1,1,3], with more than 6",
    ),
    (
        "_of_something", one(MatMul(), (2, 1), (1, 3)), one(MatMul(), (2, 0), (0, 3)),
        "y: MatMul(): Elements are computed from elements, but %x is f32[2,0]",
    ),
    (
        "_one_scale", one(Dequantize(grid(0.5)), (1, 2), dtype=np.int8),
        one(Dequantize(PER_CHANNEL), (1, 2), dtype=np.int8),
        "y: Dequantize(params=QuantParams(scale=(0.5, 0.25), zero_point=(0, 0), axis=1)): "
        "Computed values have one scale, and 8 or 16 bits: uint8 only at the ends of the "
        "model, but %x has 2",
    ),
    (
        "_one_scale", one(Dequantize(grid(0.5)), (1, 2), dtype=np.int8),
        one(Dequantize(grid(0.5), I32), (1, 2), dtype=np.int32),
        "y: Dequantize(params=QuantParams(scale=(0.5,), zero_point=(0,), axis=None), "
        "dtype=i32): Computed values have one scale, and 8 or 16 bits: uint8 only at the ends "
        "of the model, but %x is stored as i32",
    ),
    (
        "_one_scale", one(Quantize(grid(0.5), DType.INT16), (1, 2)),
        one(Quantize(grid(0.5, zero=3), DType.INT16), (1, 2)),
        "y: Quantize(params=QuantParams(scale=(0.5,), zero_point=(3,), axis=None), dtype=i16): "
        "Computed values have one scale, and 8 or 16 bits: uint8 only at the ends of the "
        "model, but %x has 16 bits and the zero point 3",
    ),
    (
        "_normal_scales", one(Quantize(grid(2.0**-126)), (1, 2)),
        one(Quantize(grid(2.0**-127)), (1, 2)),
        f"y: Quantize(params=QuantParams(scale=({2.0**-127},), zero_point=(0,), axis=None)): "
        "Scales are normal numbers: runtimes refuse or crash on smaller ones, but the least "
        "is 5.88e-39 (quantize the model again)",
    ),
    (
        "_one_grid", repaired(0.5), repaired(0.25),
        "y: Dequantize(params=QuantParams(scale=(0.25,), zero_point=(0,), axis=None)): A value "
        "is dequantized as it was quantized, but (scale=0.5, zero_point=0) becomes "
        "(scale=0.25, zero_point=0)",
    ),
    (
        "constant_parameters", one(FullyConnected(), (2, 3), (4, 3)), computed_weights(),
        "y: FullyConnected(): Weights and biases are constants, but %w is computed "
        "(store the weights in the model)",
    ),
    (
        "_no_empty_window", one(MaxPool((2, 2), (1, 1), (1, 0, 0, 0)), IMAGE),
        one(MaxPool((2, 2), (3, 1), (1, 0, 1, 0), (2, 1)), (1, 2, 1, 7)),
        "y: MaxPool(kernel=(2, 2), stride=(3, 1), pad=(1, 0, 1, 0), dilation=(2, 1)): Every "
        "window holds an element of the input, but one lies in the padding alone "
        "(make the padding smaller)",
    ),
    (
        "_few_axes", one(MatMul(), (2, 2, 3, 1, 2, 4), (2, 2, 1, 5, 4, 3)),
        one(MatMul(), (2, 1, 3, 1, 2, 4), (1, 2, 1, 5, 4, 3)),
        "y: MatMul(): The axes before the matrices fall into at most three groups that "
        "broadcast alike, but there are 4",
    ),
    (
        "_positive_alpha", one(Celu(0.5), (1, 4)), one(Celu(-2.0), (1, 4)),
        "y: Celu(alpha=-2.0): The alpha of a Celu is positive, but alpha is -2.0",
    ),
    (
        "_plain_volume", transposed_volume((1, 1, 1)), transposed_volume((2, 1, 1)),
        "y: ConvTranspose(stride=(1, 1, 1), pad=(0, 0, 0, 0, 0, 0), dilation=(2, 1, 1), "
        "output_pad=(0, 0, 0)): Computed weights over a volume are not dilated, and cover "
        "their stride, but w is f32[2,3,2,2,2], dilations are (2, 1, 1), strides are (1, 1, 1) "
        "(store the weights in the model)",
    ),
    (
        "_constant_regions", one(Relu(), (1, 3)),
        one_op(RoiAlign(2, 2), random(1, 2, 3, 3), np.zeros((0, 4), np.float32),
               np.zeros(0, np.int64))[0],
        "y: RoiAlign(height=2, width=2): Regions are constants, and hold a pixel, but none "
        "holds one (compile for onnxruntime)",
    ),
    (
        "_sums_in_parts", one(Relu(), (1, 3)),
        one(ConvInteger(), (1, 1, 20, 20), (1, 1, 17, 17), dtype=np.uint8),
        "y: ConvInteger(): Sums of integers are cut into parts that float32 holds, channel by "
        "channel, but %y.1 is u8[1,1,17,17] (compile for onnxruntime)",
    ),
    (
        "_plain_signal", one(Relu(), (1, 3)),
        one_op(Stft(False), random(1, 16, 2), np.array(3), random(6))[0],
        "y: Stft(onesided=False): Signals are float32; under windows they are real, and the "
        "windows are constants, but the signal is f32[1,16,2] (compile for onnxruntime)",
    ),
    (
        "_has_places", one(Relu(), (1, 3)), one(GridSample(), (1, 2, 3, 3), (1, 0, 2, 2)),
        "y: GridSample(): There are places to read, and elements to read there, but %y.1 is "
        "f32[1,0,2,2]",
    ),
    (
        "_settled", one(Resize((5, 4), coordinates="align_corners"), (1, 2, 3, 3)),
        one(Resize((), (1.5, 1.0), coordinates="align_corners"), (1, 2, 3, 3)),
        "y: Resize(scales=(1.5, 1.0), coordinates='align_corners'): All runtimes take a resize "
        "from the same places, but align_corners divides by a length of 4.5, which is 4 "
        '(export it as "half_pixel" or "asymmetric" with sizes)',
    ),
    (
        "_weighs_floats", one(Resize((5, 4)), (1, 2, 3, 3), dtype=np.uint8),
        one(Resize((5, 4), mode="linear"), (1, 2, 3, 3), dtype=np.uint8),
        "y: Resize(sizes=(5, 4), mode='linear'): Values other than float32 are resized to the "
        "nearest, without weights, but %x is u8[1,2,3,3] (export the model in float32)",
    ),
    (
        "_has_elements", one(Resize((5, 4)), (1, 2, 3, 3)),
        one(Resize((), (0.3, 1.0)), (1, 2, 3, 3)),
        "y: Resize(scales=(0.3, 1.0)): A resize leaves something, but the result is "
        "f32[1,2,0,3]",
    ),
    (
        "_told_by_data", picked(static=True), picked(static=False),
        "z: Relu(): What a layer reads is as long as the model says, whatever the data, but %y "
        "of Compress(axis=0) is f32[?] (make that an output, and compute what follows after "
        "the model)",
    ),
    (
        "_few_pairs", one(Unique(), (1 << 12,)), one(Unique(), (1 << 12, 2)),
        "y: Unique(): All pairs of elements that may be equal are few enough to compare, but "
        "there are 8192 in %x (look for distinct values after the model)",
    ),
    (
        "_few_classes", one(NonMaxSuppression(1), (2, 4, 4), (2, 128, 4)),
        one(NonMaxSuppression(1), (2, 4, 4), (2, 129, 4)),
        "y: NonMaxSuppression(most=1): The classes of all images, each of which is suppressed "
        "alone, are at most 256, but there are 258 (suppress boxes after the model)",
    ),
    (
        "_overlap", one(NonMaxSuppression(1, 0.5), (2, 4, 4), (2, 1, 4)),
        one(NonMaxSuppression(1, 1.0), (2, 4, 4), (2, 1, 4)),
        "y: NonMaxSuppression(most=1, overlap=1.0): Boxes are suppressed from an overlap below "
        "1 on, but the threshold is 1.0",
    ),
    (
        "_narrow", scattered(np.int32), scattered(np.int64),
        "y: ScatterElements(reduction='mul'): What is multiplied or compared at an index is "
        "not int64, but %x is (compute in int32 or float32)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "good", "bad", "message"), CASES, ids=[c[3] for c in CASES])
def test_a_constraint_is_kept_or_said(name: str, good: Graph, bad: Graph, message: str) -> None:
    assert name in constraint_names()
    assert Tflite().check(good) == ()
    Tflite().load(Tflite().compile(good))

    assert [str(d) for d in Tflite().check(bad)] == [message]


def test_every_constraint_has_a_case() -> None:
    covered = {name for name, *_ in CASES}

    assert set(constraint_names()) == covered


def test_groups_that_do_not_divide_are_refused_by_inference() -> None:
    with pytest.raises(ValueError, match="do not divide"):
        one(GroupedConv(groups=2), (1, 4, 4, 4), (3, 2, 1, 1))


def test_constraints_are_sentences() -> None:
    for constraint in CONSTRAINTS:
        doc = constraint.found.__doc__
        assert doc is not None
        assert doc.endswith(".")
        assert "\n" not in doc


def test_all_that_is_not_supported_is_listed_at_once() -> None:
    net = Net(x=(4, 4))
    net.add("product", Gemm(), "x", random(4, 4))
    root = next(e.op for e in Opaque.examples(np.random.default_rng(0)))
    net.add("root", root, "product")
    net.add("steep", Celu(-2.0), "root")
    net.add("flat", Reshape((1, 16)), "steep")
    net.add("y", FullyConnected(), "flat", random(2, 16))

    with pytest.raises(UnsupportedError) as caught:
        Tflite().compile(net.graph("y"))

    assert caught.value.exit_code == 5
    assert str(caught.value) == (
        "tflite cannot express this model\n"
        "  product: operator Gemm() has no TFLite form "
        "(compile for onnxruntime, or replace the layer)\n"
        "  root: untyped operator ai.onnx.ml.Binarizer has no TFLite form "
        "(compile for onnxruntime, or replace the layer)\n"
        "  steep: Celu(alpha=-2.0): The alpha of a Celu is positive, but alpha is -2.0"
    )


@pytest.mark.parametrize("op_type", ["Slice", "Unsqueeze", "Tile", "TopK"])
def test_a_parameter_that_is_computed_is_named(op_type: str) -> None:
    vector = TensorType(DType.INT64, (1,))
    kept = onnx.NodeProto(op_type=op_type).SerializeToString(deterministic=True)
    count = 2 if op_type == "TopK" else 1
    op = Opaque(op_type, "", 18, kept, (TensorType(DType.FLOAT32, (2, 3)),) * count)
    net = Net(x=(2, 3))
    for name in ("from", "to"):
        net.values[name] = Value(name, vector)
    net.inputs = tuple(net.values.values())
    operands = ["x", "from", "to"] if op_type == "Slice" else ["x", "from"]
    values = tuple(net.values[name] for name in operands)
    outputs = tuple(Value(f"y{i}", t) for i, t in enumerate(op.declared))
    graph = Graph("g", net.inputs, outputs, (Node(op, values, outputs, ("layer",)),))

    assert [str(d) for d in Tflite().check(graph)] == [
        f"layer: untyped operator {op_type} has no TFLite form: %from is computed, where a "
        "file needs it fixed (store it in the model, or fix what it is computed from with "
        "--shape)"
    ]
