"""What every TFLite file of ours keeps: checked on the model just before it is written.

Runtimes do not check all of this themselves. A wrong bias scale, for one, is accepted without
a word and computes nonsense. Sources: the LiteRT 8-bit quantization specification, and the
behaviour of LiteRT 2.3 and XNNPACK on one-operator models.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgec.errors import Diagnostic, InternalError
from edgec.ir import Array, DType
from edgec.targets.tflite.model import Model, Operator, Tensor

__all__ = ["sums_fit", "verify"]

_WEIGHT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
_WEIGHTS = {
    "CONV_2D": (DType.INT8, DType.INT4),
    "DEPTHWISE_CONV_2D": (DType.INT8,),
    "FULLY_CONNECTED": (DType.INT8, DType.INT4),
}
_MOVES = frozenset({
    "BROADCAST_TO", "CONCATENATION", "DEPTH_TO_SPACE", "DYNAMIC_UPDATE_SLICE", "GATHER",
    "GATHER_ND", "MIRROR_PAD", "PAD", "PADV2", "RESHAPE", "REVERSE_SEQUENCE", "REVERSE_V2",
    "SELECT_V2", "SLICE", "SPACE_TO_DEPTH", "SPLIT", "STRIDED_SLICE", "TILE",
    "TRANSPOSE",
})  # fmt: skip
"""Operators that move elements: on integers, the grid stays as it was."""
_SAME_GRID = _MOVES | {"AVERAGE_POOL_2D", "MAX_POOL_2D"}
_RAW = _MOVES | {
    "ARG_MAX", "ARG_MIN", "BITCAST", "BITWISE_XOR", "CAST", "FILL", "MAXIMUM", "MINIMUM",
    "ONE_HOT", "REDUCE_MAX", "REDUCE_MIN", "RIGHT_SHIFT", "SCATTER_ND", "TOPK_V2",
}  # fmt: skip
"""Operators that take 8-bit elements as the integers they are, without a scale."""
_MIXING = frozenset({
    "ARG_MAX", "ARG_MIN", "BITCAST", "CAST", "DEQUANTIZE", "DYNAMIC_UPDATE_SLICE", "EQUAL",
    "FILL", "GATHER", "GATHER_ND", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL",
    "NON_MAX_SUPPRESSION_V4", "NOT_EQUAL", "ONE_HOT", "QUANTIZE", "REVERSE_SEQUENCE",
    "SCATTER_ND", "SELECT_V2", "SHAPE", "TOPK_V2", "UNSORTED_SEGMENT_MAX",
    "UNSORTED_SEGMENT_MIN", "UNSORTED_SEGMENT_PROD", "WHERE",
})  # fmt: skip
"""Operators whose computed operands and results are of several types."""
_DATA = {"SPLIT": slice(1, 2), "SELECT_V2": slice(1, 3), "CONCATENATION": slice(None),
         "DYNAMIC_UPDATE_SLICE": slice(2)}  # fmt: skip
"""Where the inputs whose elements are moved are not just the first."""
_FIXED = {
    ("SOFTMAX", DType.INT8): (1 / 256, -128),
    ("LOGISTIC", DType.INT8): (1 / 256, -128),
    ("TANH", DType.INT8): (1 / 128, 0),
    ("SOFTMAX", DType.INT16): (1 / 32768, 0),
    ("LOGISTIC", DType.INT16): (1 / 32768, 0),
    ("TANH", DType.INT16): (1 / 32768, 0),
}
_BIAS = {DType.INT8: DType.INT32, DType.INT16: DType.INT64}
"""Of a layer that reads such activations. Unless they are told otherwise, the kernels for int16
read 64 bits from an int32 bias, too, and past its end."""


def verify(model: Model) -> None:
    """Raise if the model breaks a rule.

    Raises
    ------
    InternalError
        With one diagnostic for each broken rule.
    """
    problems = [*_grids(model), *_fed(model)]
    for op in model.operators:
        problems += _operator(model, op)
    if problems:
        raise InternalError("the TFLite model is not valid", problems)


def _grids(model: Model) -> Iterator[Diagnostic]:
    for t in model.tensors:
        q = t.quant
        if q is None:
            continue
        least, most = t.dtype.limits
        if t.dtype is DType.INT16 and any(q.zero_point):
            yield Diagnostic("has 16 bits and a zero point", t.name)
        if not all(least <= z <= most for z in q.zero_point):
            yield Diagnostic(f"has a zero point outside of {t.dtype.value}", t.name)
        if q.axis is not None and not q.axis < len(t.shape):
            yield Diagnostic(f"is quantized along axis {q.axis} of {len(t.shape)}", t.name)
        elif q.axis is not None and t.shape[q.axis] != len(q.scale):
            yield Diagnostic(f"has {len(q.scale)} scales for {t.shape[q.axis]}", t.name)
        if t.data is not None and t.data.shape != t.shape:
            yield Diagnostic(f"holds {t.data.shape}, declared {t.shape}", t.name)


def _fed(model: Model) -> Iterator[Diagnostic]:
    """Yield what is read before it is written, or written twice."""
    known = {i for _, i in model.inputs}
    known |= {i for i, t in enumerate(model.tensors) if t.data is not None}
    for op in model.operators:
        for i in op.inputs:
            if i >= 0 and i not in known:
                yield Diagnostic(
                    f"reads {model.tensors[i].name} before it is written", op.layer
                )
        for i in op.outputs:
            if i in known:
                yield Diagnostic(f"writes {model.tensors[i].name} again", op.layer)
            known.add(i)


def _operator(model: Model, op: Operator) -> Iterator[Diagnostic]:
    inputs = [model.tensors[i] for i in op.inputs if i >= 0]
    outputs = [model.tensors[i] for i in op.outputs]
    kind = (op.code, inputs[0].dtype)
    if op.code in _WEIGHT_AXIS:
        yield from _layer(op, inputs)
    for t in (*inputs, *outputs):
        raw = t.dtype in (DType.INT8, DType.UINT8) and t.quant is None
        if raw and op.code not in _RAW:
            yield Diagnostic(f"{op.code} has 8-bit elements but no scale", op.layer)
            break
    if op.code in _SAME_GRID:
        data = (*inputs[_DATA.get(op.code, slice(1))], *outputs)
        if len({t.quant for t in data}) > 1:
            yield Diagnostic(f"{op.code} has different grids before and after", op.layer)
    if kind in _FIXED and inputs[0].quant is not None:
        q, (scale, zero) = outputs[0].quant, _FIXED[kind]
        if q is None or q.scale != (scale,) or q.zero_point != (zero,):
            yield Diagnostic(
                f"{op.code} must have scale {scale} and zero point {zero}", op.layer
            )
    if op.code not in _MIXING:
        computed = {t.dtype for t in (*inputs, *outputs) if t.data is None}
        if len(computed) > 1:
            yield Diagnostic(f"{op.code} mixes {sorted(t.value for t in computed)}", op.layer)


def sums_fit(weight: Tensor, bias: Array) -> bool:
    """Whether a layer's products of int16 add up to less than 32 bits, whatever it reads."""
    if weight.data is None:
        return False
    rows = np.abs(weight.data.astype(np.int64)).reshape(len(weight.data), -1)
    most = rows.sum(axis=1) * 2**15 + np.abs(bias.astype(np.int64))
    return bool(most.max(initial=0) < 2**31)


def _layer(op: Operator, inputs: list[Tensor]) -> Iterator[Diagnostic]:
    """Yield what is wrong with the weights and the bias of a layer."""
    if len(inputs) != 3:
        yield Diagnostic(f"{op.code} has no bias", op.layer)
        return
    x, w, b = inputs
    if x.dtype not in _BIAS or (x.dtype is DType.INT16 and x.quant is None):
        return
    if w.dtype not in _WEIGHTS[op.code] or w.data is None or w.quant is None or x.quant is None:
        yield Diagnostic(f"{op.code} has weights that are no int8 constant", op.layer)
        return
    if any(w.quant.zero_point) or int(w.data.min(initial=0)) == w.dtype.limits[0]:
        most = w.dtype.limits[1]
        yield Diagnostic(f"weights must be symmetric, in [-{most}, {most}]", op.layer)
    if w.quant.axis is not None and w.quant.axis != _WEIGHT_AXIS[op.code]:
        yield Diagnostic(f"weights are per channel of axis {w.quant.axis}", op.layer)
    wanted = _BIAS[x.dtype]
    if x.dtype is DType.INT16 and "quantizedBiasType" in op.options[1]:
        wanted = DType.INT32
        if b.data is not None and not sums_fit(w, b.data):
            yield Diagnostic("sums of 32 bits may overflow", op.layer)
    if b.dtype is not wanted or b.quant is None or any(b.quant.zero_point):
        name = wanted.name.lower()
        yield Diagnostic(f"the bias must be {name} with zero point 0", op.layer)
        return
    if b.quant.axis not in (None, 0):
        yield Diagnostic("a bias has axis 0 only", op.layer)
    if len(b.quant.scale) != len(w.quant.scale):
        yield Diagnostic(f"{len(b.quant.scale)} bias scales, {len(w.quant.scale)} of weights",
                         op.layer)  # fmt: skip
        return
    want = np.float32(x.quant.scale[0]) * np.array(w.quant.scale, np.float32)
    if not np.allclose(want, np.array(b.quant.scale, np.float32), rtol=1e-6, atol=0):
        yield Diagnostic("the bias scale is not input scale times weight scale", op.layer)
