"""What operators refuse, and what they know of lengths that are not known."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgec.ir import ABSENT, Dim, DType, OnnxNode, Op, QuantParams, TensorType
from edgec.ops import (
    GRU,
    LSTM,
    RNN,
    Add,
    AveragePool,
    BatchNorm,
    Col2Im,
    Compress,
    Concat,
    ConstantOfShape,
    Conv,
    DepthwiseConv,
    Dequantize,
    Einsum,
    EyeLike,
    FullyConnected,
    GatherElements,
    GatherND,
    Gemm,
    GlobalAveragePool,
    GroupedConv,
    MatMul,
    MaxPool,
    NonMaxSuppression,
    OneHot,
    Opaque,
    Pad,
    Quantize,
    Range,
    ReduceMean,
    Reshape,
    ReverseSequence,
    ScatterElements,
    ScatterND,
    Slice,
    Softmax,
    SpaceToDepth,
    Split,
    TensorScatter,
    Tile,
    TopK,
    Transpose,
    Trilu,
    WrapPad,
)
from edgec.ops.broadcast import broadcast
from edgec.ops.window import Window, explicit_pads, out_length


def f32(*shape: Dim) -> TensorType:
    return TensorType(DType.FLOAT32, shape)


def f16(*shape: Dim) -> TensorType:
    return TensorType(DType.FLOAT16, shape)


def i8(*shape: Dim) -> TensorType:
    return TensorType(DType.INT8, shape)


PER_AXIS = QuantParams((0.5, 0.25), (0, 0), 1)
IMAGE = f32(1, 3, 8, 8)

MISFITS: list[tuple[Op, tuple[TensorType, ...], str]] = [
    (Conv(), (f32(1, 3, 8), f32(4, 3, 1)), r"the strides are \(1, 1\)"),
    (Conv(), (IMAGE, f32(4, 3, 3)), r"the strides are \(1, 1\)"),
    (Conv(), (IMAGE, f16(4, 3, 3, 3)), "of several types"),
    (Conv(), (IMAGE, f32(4, 5, 3, 3)), "x has 3 channels, w expects 5"),
    (Conv(), (IMAGE, f32(4, 3, 9, 3)), "a window of 9 does not fit in 8"),
    (Conv(), (IMAGE, f32(4, 3, 3, 0)), "a window of 0 does not fit|a window of -"),
    (Conv(), (IMAGE, f32(4, 3, 3, 3), f32(5)), "there are 4 output channels"),
    (Conv(), (IMAGE, f32(4, 3, 3, 3), f32(1, 4)), "there are 4 output channels"),
    (DepthwiseConv(), (IMAGE, f32(3, 2, 3, 3)), "x has 3 channels, w is"),
    (DepthwiseConv(), (f32(1, "C", 8, 8), f32(3, 1, 3, 3)), "x has C channels"),
    (DepthwiseConv(), (IMAGE, f32(4, 1, 3, 3)), "do not divide into 3 groups"),
    (GroupedConv(groups=2), (IMAGE, f32(4, 2, 3, 3)), r"w expects 2 \* 2"),
    (FullyConnected(), (f32(2, 3, 4), f32(5, 4)), "expected .N, I. and .O, I."),
    (FullyConnected(), (f32(2, 4), f32(5, 4, 1)), "expected .N, I. and .O, I."),
    (FullyConnected(), (f32(2, 4), f32(4, 5)), "expected .N, I. and .O, I."),
    (FullyConnected(), (f32(2, 4), f32(5, 4), f32(4)), "the bias is"),
    (FullyConnected(), (f32(2, 4), f16(5, 4)), "of several types"),
    (Gemm(), (f32(2, 3), f32(4, 5)), "inner lengths differ: 3 and 4"),
    (Gemm(trans_a=True), (f32(2, 3), f32(3, 5)), "inner lengths differ: 2 and 3"),
    (Gemm(trans_b=True), (f32(2, 3), f32(3, 5)), "inner lengths differ: 3 and 5"),
    (Gemm(), (f32(2, 3, 1), f32(3, 5)), "expected two matrices"),
    (Gemm(), (f32(2, 3), f32(3, 5), f32(4)), "do not broadcast"),
    (Gemm(), (f32(1, 3), f32(3, 5), f32(2, 5)), "does not broadcast to .1,5."),
    (Gemm(), (f32(2, 3), f16(3, 5)), "of several types"),
    (MatMul(), (f32(2, 3), f32(4, 5)), "cannot be multiplied"),
    (Einsum("ij,jk->ik"), (f32(2, 3),), "is for 2 operands, not 1"),
    (Einsum("ij,jk->ik"), (f32(2, 3), f32(4, 5)), "'j' of .* is 3 and 4"),
    (Einsum("ij->ji"), (f32(2, 3, 4),), "does not name the axes"),
    (Einsum("i1->i"), (f32(2, 3),), "does not name the axes"),
    (Einsum("ij->ik"), (f32(2, 3),), "has an axis of its own, or twice"),
    (Einsum("ij->ii"), (f32(2, 3),), "has an axis of its own, or twice"),
    (Einsum("...i->i"), (f32(2, 3),), "lacks the ..."),
    (Einsum("...i,...i->...i"), (f32(2, 3), f32(3)), "is .0, 1. axes"),
    (LSTM(), (f32(3, 2), f32(1, 20, 4), f32(1, 20, 5)), "must have 3 axes"),
    (LSTM(), (f32(3, 2, 4), f32(1, 16, 4), f32(1, 20, 5)), "expected .1,20,4."),
    (GRU("bidirectional"), (f32(3, 2, 4), f32(1, 15, 4), f32(1, 15, 5)), "expected .2,15,4."),
    (RNN(), (f32(3, 2, 4), f32(1, 5, 4), f32(1, 5, 5), f32(1, 5)), "expected .1,10."),
    (MatMul(), (f32(2), f32(3, 5)), "cannot be multiplied"),
    (MatMul(), (f32(), f32(3, 5)), "one is a scalar"),
    (MatMul(), (f32(2, 2, 3), f32(3, 3, 5)), "do not broadcast"),
    (MatMul(), (f32(2, 3), f16(3, 5)), "of several types"),
    (Add(), (f32(2, 3), f32(2, 4)), r"\[2,3\] and \[2,4\] do not broadcast"),
    (Add(), (f32(2, 3), f16(2, 3)), "of several types"),
    (BatchNorm(), (IMAGE, *(f32(3),) * 3, f32(4)), "but the parameters are"),
    (Softmax(-3), (f32(2, 3),), "has no axis -3"),
    (Softmax(0), (f32(2, 3),), "has no axis 0"),
    (MaxPool((2, 2)), (f32(1, 3, 8),), "must have 4 axes"),
    (MaxPool((9, 9)), (IMAGE,), "a window of 9 does not fit in 8"),
    (AveragePool((0, 1)), (IMAGE,), "does not fit"),
    (GlobalAveragePool(), (f32(1, 3),), "must have 3 axes or more"),
    (Reshape((5, 5)), (f32(2, 3),), "does not fit"),
    (Reshape((-1, 4)), (f32(2, 3),), "does not divide"),
    (Reshape((-1, 0)), (f32(2, 3),), "does not divide"),
    (Transpose((0, 0)), (f32(2, 3),), "has no order"),
    (Transpose((0, 1, 2)), (f32(2, 3),), "has no order"),
    (Concat(1), (f32(2, 3), f32(3, 3)), "cannot be joined along axis 1"),
    (Concat(1), (f32(2, 3), f32(2, 3, 1)), "cannot be joined"),
    (Concat(1), (f32(2, 3), f16(2, 3)), "cannot be joined"),
    (Concat(2), (f32(2, 3),), "has no axis 2"),
    (Concat(-1), (f32(2, 3),), "has no axis -1"),
    (Pad((0, 1)), (f32(2, 3),), "but pads are"),
    (Slice((0,), (1,), (2,), (1,)), (f32(2, 3),), "lacks one of the axes"),
    (Slice((0,), (1,), (0,), (0,)), (f32(2, 3),), "step cannot be zero"),
    (Slice((0,), (1, 2), (0,), (1,)), (f32(2, 3),), "shorter|longer"),
    (ReduceMean((2,)), (f32(2, 3),), "lacks one of the axes"),
    (Quantize(), (i8(2, 3),), "only f32 can be quantized"),
    (Quantize(PER_AXIS), (f32(2, 3),), "there are 2 scales"),
    (Quantize(PER_AXIS), (f32(2),), "there are 2 scales"),
    (Dequantize(), (f32(2, 3),), "i8 is to be dequantized"),
    (Dequantize(PER_AXIS), (i8(2, 3),), "there are 2 scales"),
    (Opaque("NoSuchOp", "", 18, b"\x22\x08NoSuchOp", (f32(1),)), (f32(1),), "No schema"),
]


@pytest.mark.parametrize(("op", "inputs", "message"), MISFITS, ids=lambda v: str(v)[:40])
def test_refuses(op: Op, inputs: tuple[TensorType, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        op.infer(*inputs)


@pytest.mark.parametrize(
    ("op", "inputs", "want"),
    [
        (Reshape((-1, 12)), [f32("N", 3, 4)], ("N", 12)),
        (Reshape((2, -1)), [f32("N", 3, 4)], (2, "?")),
        (Reshape((-1, 2)), [f32("N", "M")], ("?", 2)),
        (Reshape((1, 12)), [f32("N", 3, 4)], (1, 12)),
        (Concat(0), [f32("N", 3), f32(2, 3)], ("?", 3)),
        (MatMul(), [f32(4), f32("N", 4, 5)], ("N", 5)),
        (MatMul(), [f32("N", 2, 4), f32(4)], ("N", 2)),
        (MatMul(), [f32(4), f32(4)], ()),
        (Einsum("bi,ij->bj"), [f32("N", 3), f32("?", 4)], ("N", 4)),
        (Einsum("bi,bj->b"), [f32("?", 3), f32("N", 4)], ("N",)),
        (MatMul(), [f32("?", "?"), f32(4, 5)], ("?", 5)),
        (Pad((0, 0, 0, 1)), [f32("N", "M")], ("N", "?")),
        (Slice((0,), (2,), (0,), (1,)), [f32("N", 3)], ("?", 3)),
        (Slice((0,), (2**31 - 1,), (0,), (1,)), [f32("N", 3)], ("N", 3)),
        (Slice((1,), (2**31 - 1,), (0,), (1,)), [f32("N", 3)], ("?", 3)),
        (Slice((0,), (2**31 - 1,), (0,), (2,)), [f32("N", 3)], ("?", 3)),
        (MaxPool((2, 2)), [f32("N", 3, "H", 8)], ("N", 3, "?", 7)),
        (Add(), [f32("N", 3), f32(1, 3)], ("N", 3)),
        (Add(), [f32("N", 3), f32(4, 1)], (4, 3)),
        (Add(), [f32("N", 3), f32("M", 3)], ("?", 3)),
        (ReduceMean((1,), keepdims=False), [f32("N", "M", 3)], ("N", 3)),
        (Transpose((1, 0)), [f32("N", "M")], ("M", "N")),
    ],
    ids=str,
)
def test_lengths_that_are_not_known(
    op: Op, inputs: list[TensorType], want: tuple[Dim, ...]
) -> None:
    assert op.infer(*inputs) == (f32(*want),)


I64 = DType.INT64


def i64(*shape: Dim) -> TensorType:
    return TensorType(I64, shape)


INDEX_MISFITS: list[tuple[Op, tuple[TensorType, ...], str]] = [
    (Split(1, (1, 1)), (f32(2, 3),), r"has no parts of \[1, 1\]"),
    (Split(2, (1, 1)), (f32(2, 3),), "has no axis 2"),
    (Split(1, (4, -1)), (f32(2, 3),), "has no parts"),
    (Tile((2,)), (f32(2, 3),), r"repeats are \[2\]"),
    (Tile((2, -1)), (f32(2, 3),), r"repeats are \[2, -1\]"),
    (Pad((0, -2, 0, -2)), (f32(2, 3),), "too small for the pads"),
    (WrapPad((0, 1)), (f32(2, 3),), r"pads are \[0, 1\]"),
    (GatherElements(0), (f32(2, 3), i64(2)), "the axis is 0"),
    (GatherElements(0), (f32(2, 3), i64(2, 4)), "the axis is 0"),
    (GatherElements(0), (f32(2, 3), f32(2, 3)), "the axis is 0"),
    (GatherND(), (f32(2, 3), i64(2, 3)), "batch axes are 0"),
    (GatherND(1), (f32(2, 3), i64(2)), "batch axes are 1"),
    (GatherND(1), (f32(1, 3, 4), i64(2, 6, 2)), "batch axes are 1"),
    (ScatterElements(), (f32(2, 3), i64(2, 3), f32(2, 2)), "updates f32"),
    (ScatterElements(), (f32(2, 3), i64(2, 3), f16(2, 3)), "updates f16"),
    (ScatterND(), (f32(2, 3), i64(4, 1), f32(4, 2)), "updates f32"),
    (TensorScatter(1), (f32(2, 3, 4), f32(2, 4, 4)), "the update"),
    (TensorScatter(1), (f32(2, 3, 4), f32(2, 2, 4), i64(2, 1)), "one for each batch"),
    (TensorScatter(0), (f32(2, 3), f32(2, 3)), "the axis 0"),
    (TopK(4, 1), (f32(2, 3),), "has no 4 elements along 1"),
    (TopK(1, 2), (f32(2, 3),), "has no 1 elements along 2"),
    (OneHot(3, 3), (i64(2),), "the axis 3 of 3"),
    (Trilu(), (f32(3),), "must have 2 axes or more"),
    (ReverseSequence(1, 1), (f32(2, 3), i64(2)), r"the axes are \[1\]"),
    (ReverseSequence(), (f32(2, 3), i64(2, 1)), "lengths are i64"),
    (EyeLike(), (f32(3),), "must have 2 axes"),
    (ConstantOfShape(), (f32(3),), "must be i64 with one axis"),
    (Compress(0), (f32(3), f32(3)), "must be bool with one axis"),
    (NonMaxSuppression(), (f32(1, 5, 4), f32(1, 2, 6)), "boxes are"),
    (NonMaxSuppression(), (f32(1, 5, 3), f32(1, 2, 5)), "boxes are"),
    (SpaceToDepth(2), (f32(1, 3, 4, 5),), "not in blocks of 2"),
    (Col2Im((5, 5), (2, 2), (1, 1), (1, 1), (0,) * 4), (f32(1, 5, 16),), "no blocks of 4"),
    (Col2Im((5, 5), (2, 2), (1, 1), (1, 1), (0,) * 4), (f32(1, 4, 15),), "there are 16 blocks"),
    (
        Col2Im((5, 5), (2, 2), (1,), (1, 1), (0,) * 4),
        (f32(1, 4, 16),),
        "other parameters do not",
    ),
]


@pytest.mark.parametrize(("op", "inputs", "message"), INDEX_MISFITS)
def test_what_cannot_be_moved_is_refused(
    op: Op, inputs: tuple[TensorType, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        op.infer(*inputs)


def test_broadcasts_like_numpy() -> None:
    assert broadcast((3, 1), (4,)) == (3, 4)
    assert broadcast((), (2, 1)) == (2, 1)
    assert broadcast((0,), (1,)) == (0,)


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "pads", "ceil", "want"),
    [
        (7, 3, 2, (0, 0), False, 3),
        (8, 3, 2, (0, 0), False, 3),
        (8, 3, 2, (0, 0), True, 4),
        (4, 2, 3, (0, 1), True, 2),  # the last window begins in the image
        (3, 2, 3, (0, 2), True, 1),  # it would begin in the padding behind: dropped
        (2, 2, 1, (0, 0), True, 1),
        (4, 2, 4, (1, 0), True, 2),  # it begins on the last element
    ],
)
def test_counts_windows(
    length: int, kernel: int, stride: int, pads: tuple[int, int], ceil: bool, want: int
) -> None:
    assert out_length(length, kernel, stride, 1, *pads, ceil=ceil) == want


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_divides_the_length_by_the_stride(
    mode: str, dilation: int, kernel: int, stride: int
) -> None:
    window = Window((kernel, kernel), (stride, stride), (dilation, dilation))
    node = OnnxNode("Conv", 18, {"auto_pad": mode}, (), ())
    pads = explicit_pads(node, window, (9, 14))

    assert pads is not None
    top, left, bottom, right = pads
    assert window.out((9, 14), pads) == (-(-9 // stride), -(-14 // stride))
    for before, after in ((top, bottom), (left, right)):
        assert (after - before if mode == "SAME_UPPER" else before - after) in (0, 1)


def test_same_padding_of_an_unknown_length_is_not_known() -> None:
    node = OnnxNode("Conv", 18, {"auto_pad": "SAME_UPPER"}, (), ())

    assert explicit_pads(node, Window((3, 3)), ("H", 14)) is None


def test_an_opaque_node_with_an_absent_operand_is_inferred() -> None:
    proto = onnx.helper.make_node("Resize", [], [], mode="nearest")
    proto = onnx.NodeProto(op_type="Resize", attribute=proto.attribute)
    op = Opaque("Resize", "", 18, proto.SerializeToString(), (f32("?", "?"),))
    scales = np.array([1, 2], np.float32)
    types = [f32(2, 3), ABSENT.type, f32(2)]

    assert op.infer_node(types, [None, None, scales]) == (f32(2, 6),)


@pytest.mark.parametrize(
    ("numbers", "length"), [((1, 9, 3), 3), ((9, 1, -2), 4), ((5, 5, 1), 0), ((6, 2, 1), 0)]
)
def test_a_range_of_known_numbers_has_a_known_length(
    numbers: tuple[int, int, int], length: int
) -> None:
    arrays = [np.array(n, np.float32) for n in numbers]

    assert Range().infer_node([f32()] * 3, arrays) == (f32(length),)
    assert Range().infer_node([f32()] * 3, [None, *arrays[1:]]) == (f32("?"),)


def test_what_a_known_condition_keeps_is_counted() -> None:
    condition = TensorType(DType.BOOL, (3,))
    known = [None, np.array([True, False, True])]

    assert Compress(1).infer_node([f32(2, 3), condition], known) == (f32(2, 2),)
    assert Compress().infer_node([f32(2, 3), condition], known) == (f32(2),)
    assert Compress(1).infer(f32(2, 3), condition) == (f32(2, "?"),)


@pytest.mark.parametrize(("op", "shape"), [(Compress(1), (3, 2)), (Compress(), (2,))])
def test_a_condition_for_more_than_there_is_makes_no_sense(
    op: Compress, shape: tuple[int, ...]
) -> None:
    condition = TensorType(DType.BOOL, (3,))

    with pytest.raises(ValueError, match="3 entries for 2"):
        op.infer(f32(*shape), condition)


def test_a_known_shape_is_that_of_its_constant() -> None:
    wanted = TensorType(DType.INT64, (2,))

    assert ConstantOfShape().infer_node([wanted], [np.array([4, 0])]) == (f32(4, 0),)
    assert ConstantOfShape().infer(wanted) == (f32("?", "?"),)
