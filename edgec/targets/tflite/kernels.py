"""One function per operator: from a node of the graph to TFLite builtins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgec.errors import InternalError
from edgec.ir import Array, DType, Node, Op, QuantParams, Value
from edgec.ops import (
    Activation,
    Add,
    AveragePool2d,
    BatchNorm,
    Binary,
    Clip,
    Concat,
    Conv2d,
    Convolution,
    DepthwiseConv2d,
    Div,
    FullyConnected,
    GlobalAveragePool,
    GroupedConv2d,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyRelu,
    MatMul,
    MaxPool2d,
    Mul,
    Pad,
    Pool2d,
    ReduceMean,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Sub,
    Tanh,
    Transpose,
)
from edgec.ops.window import Pads
from edgec.targets.tflite.more_kernels import MORE_LOWERINGS, elementwise, reduction
from edgec.targets.tflite.lower import NHWC, Lowering, Perm, Stored, identity
from edgec.targets.tflite.padding import Padding, padding
from edgec.targets.tflite.views import grouped_perm, reshaped_perm

__all__ = ["LOWERINGS", "lower"]

_FUSED = {
    Activation.NONE: 0,
    Activation.RELU: 1,
    Activation.RELU_N1_TO_1: 2,
    Activation.RELU6: 3,
}  # ActivationFunctionType

_SAME, _VALID = 0, 1  # enum Padding


def _is_int8(b: Lowering, node: Node) -> bool:
    return b.output_grid(node)[1] is not None


def _conv(b: Lowering, node: Node, op: Convolution) -> None:
    integer = _is_int8(b, node)
    x, w = node.inputs[:2]
    depthwise = isinstance(op, DepthwiseConv2d)
    weight = b.get(w, (1, 2, 3, 0) if depthwise else (0, 2, 3, 1), integer=integer)
    _, c, height, width = x.type.ints
    out = node.output.type.ints
    pads = padding(op.window(w.type), (height, width), op.pad, (out[2], out[3]))
    source = _padded(b, b.get(x, NHWC, integer=integer), pads.explicit)
    bias = _bias(b, node, integer, source, weight)
    fields: dict[str, Any] = {
        "padding": _SAME if pads.same else _VALID,
        "strideH": op.stride[0],
        "strideW": op.stride[1],
        "dilationHFactor": op.dilation[0],
        "dilationWFactor": op.dilation[1],
        "fusedActivationFunction": _FUSED[op.activation],
    }
    dilated = op.dilation != (1, 1)
    target = b.put(node, NHWC)
    if depthwise:
        fields["depthMultiplier"] = w.type.ints[0] // c
        version = 3 if integer else 2 if dilated else 1
        options = "DepthwiseConv2D"
        b.operator(
            "DEPTHWISE_CONV_2D", [source, weight, bias], [target], options, version, **fields
        )
        return
    version = 3 if integer else 2 if dilated else 1
    if isinstance(op, GroupedConv2d):
        version = 6
    b.operator("CONV_2D", [source, weight, bias], [target], "Conv2D", version, **fields)


def _bias(b: Lowering, node: Node, integer: bool, source: int, weight: int) -> int:
    """Return the bias tensor; kernels want one, so a missing one is zero."""
    if len(node.inputs) > 2:
        return b.get(node.inputs[2], integer=integer)
    units = node.inputs[1].type.ints[0]
    name = f"{b.layer}/bias"
    if not integer:
        return b.constant(name, np.zeros(units, np.float32))
    x, w = b.info(source).quant, b.info(weight).quant
    if x is None or w is None:
        raise InternalError(f"{node.layer} has integer operands without a grid")
    scales = tuple(float(np.float32(x.scale[0]) * np.float32(s)) for s in w.scale)
    grid = QuantParams(scales, (0,) * len(scales), 0)
    return b.tensor(name, DType.INT32, (units,), data=np.zeros(units, np.int32), quant=grid)


def _padded(b: Lowering, tensor: int, pads: Pads, fill: Array | None = None) -> int:
    """Return an NHWC tensor padded along H and W, with zero unless `fill` is given."""
    top, left, bottom, right = pads
    if not any(pads):
        return tensor
    info = b.info(tensor)
    n, h, w, c = info.shape
    shape = (n, h + top + bottom, w + left + right, c)
    out = b.tensor(f"{info.name}/padded", info.dtype, shape, quant=info.quant)
    amounts = b.ints("pads", [[0, 0], [top, bottom], [left, right], [0, 0]])
    version = 2 if info.dtype is DType.INT8 else 1
    if fill is None:
        b.operator("PAD", [tensor, amounts], [out], "Pad", version)
    else:
        value = b.constant(f"{b.layer}/fill", fill, info.quant)
        b.operator("PADV2", [tensor, amounts, value], [out], "PadV2", version)
    return out


def _fully_connected(b: Lowering, node: Node, op: FullyConnected) -> None:
    integer = _is_int8(b, node)
    source = b.get(node.inputs[0], (0, 1), integer=integer)
    weight = b.get(node.inputs[1], (0, 1), integer=integer)
    bias = _bias(b, node, integer, source, weight)
    grid = b.info(weight).quant
    per_channel = grid is not None and len(grid.scale) > 1
    version = 12 if per_channel else 4 if integer else 1
    target = b.put(node, (0, 1))
    b.operator(
        "FULLY_CONNECTED",
        [source, weight, bias],
        [target],
        "FullyConnected",
        version,
        fusedActivationFunction=_FUSED[op.activation],
    )


def _matmul(b: Lowering, node: Node, op: MatMul) -> None:
    integer = _is_int8(b, node)
    operands = [b.get(v, identity(v.type.rank), integer=integer) for v in node.inputs]
    target = b.put(node, identity(node.output.type.rank))
    version = 2 if integer else 1
    b.operator("BATCH_MATMUL", operands, [target], "BatchMatMul", version)


def _binary(b: Lowering, node: Node, op: Binary) -> None:
    integer = _is_int8(b, node)
    rank = node.output.type.rank
    perm = b.common_perm(node, rank, integer=integer)
    operands = [b.broadcastable(v, rank, perm, integer=integer) for v in node.inputs]
    target = b.put(node, perm)
    code = type(op).__name__
    fused = _FUSED[op.activation]
    version = 2 if integer else 1
    b.operator(code.upper(), operands, [target], code, version, fusedActivationFunction=fused)


def _clip(b: Lowering, node: Node, op: Clip | Relu) -> None:
    bounds = (0.0, np.inf) if isinstance(op, Relu) else (op.low, op.high)
    known = Activation.of_bounds(*bounds)
    if known is Activation.NONE:
        _unchanged(b, node)
        return
    if known is not None:
        # RELU and RELU6 have int8 kernels since version 2; RELU_N1_TO_1 always had.
        version = 1 if known is Activation.RELU_N1_TO_1 else 2
        elementwise(known.name, "", version)(b, node, op)
        return
    x = node.inputs[0]
    source, perm = b.get(x), b.perm_of(x) or identity(x.type.rank)
    dtype = node.output.type.dtype.numpy
    steps = [("MAXIMUM", op.low), ("MINIMUM", op.high)] if isinstance(op, Clip) else []
    steps = [(code, bound) for code, bound in steps if np.isfinite(bound)]
    for position, (code, bound) in enumerate(steps):
        last = position == len(steps) - 1
        info = b.info(source)
        out = b.put(node, perm) if last else b.tensor(f"{b.layer}/low", info.dtype, info.shape)
        limit = b.constant(f"{b.layer}/bound", np.array(bound, dtype))
        b.operator(code, [source, limit], [out], "MaximumMinimum")
        source = out


def _hard_sigmoid(b: Lowering, node: Node, op: HardSigmoid) -> None:
    x = node.inputs[0]
    source, perm = b.get(x), b.perm_of(x) or identity(x.type.rank)
    shape = b.info(source).shape
    steps = (("MUL", "Mul", op.alpha), ("ADD", "Add", op.beta))
    for code, options, number in steps:
        out = b.tensor(f"{b.layer}/{code.lower()}", DType.FLOAT32, shape)
        value = b.constant(f"{b.layer}/{code.lower()}/by", np.array(number, np.float32))
        b.operator(code, [source, value], [out], options, fusedActivationFunction=0)
        source = out
    high = b.constant(f"{b.layer}/one", np.array(1, np.float32))
    capped = b.tensor(f"{b.layer}/capped", DType.FLOAT32, shape)
    b.operator("MINIMUM", [source, high], [capped], "MaximumMinimum")
    b.operator("RELU", [capped], [b.put(node, perm)])


def _batch_norm(b: Lowering, node: Node, op: BatchNorm) -> None:
    arrays = [b.graph.constant(v) for v in node.inputs[1:]]
    gamma, beta, mean, var = (a.astype(np.float64) for a in arrays if a is not None)
    k = gamma / np.sqrt(var + op.epsilon)
    x = node.inputs[0]
    source, perm = b.get(x), b.perm_of(x) or identity(x.type.rank)
    along = [1] * x.type.rank
    along[perm.index(1)] = -1
    middle = b.tensor(f"{b.layer}/scaled", DType.FLOAT32, b.info(source).shape)
    factor = b.constant(f"{b.layer}/scale", k.astype(np.float32).reshape(along))
    offset = (beta - k * mean).astype(np.float32).reshape(along)
    b.operator("MUL", [source, factor], [middle], "Mul", fusedActivationFunction=0)
    shift = b.constant(f"{b.layer}/offset", offset)
    b.operator("ADD", [middle, shift], [b.put(node, perm)], "Add", fusedActivationFunction=0)


def _pool(b: Lowering, node: Node, op: Pool2d) -> None:
    integer = _is_int8(b, node)
    x = node.inputs[0]
    out = node.output.type.ints
    pads = padding(op.window, (x.type.ints[2], x.type.ints[3]), op.pad, (out[2], out[3]))
    source = b.get(x, NHWC, integer=integer)
    if isinstance(op, MaxPool2d):
        code, fill = "MAX_POOL_2D", _lowest(b, node, source)
    else:
        code, fill = "AVERAGE_POOL_2D", None
        if any(op.pad) and isinstance(op, AveragePool2d) and op.count_include_pad:
            pads = Padding(same=False, explicit=op.pad)
    source = _padded(b, source, pads.explicit, fill)
    target = b.put(node, NHWC)
    b.operator(
        code,
        [source],
        [target],
        "Pool2D",
        2 if integer else 1,
        padding=_SAME if pads.same else _VALID,
        strideH=op.stride[0],
        strideW=op.stride[1],
        filterHeight=op.kernel[0],
        filterWidth=op.kernel[1],
        fusedActivationFunction=0,
    )


def _lowest(b: Lowering, node: Node, source: int) -> Array | None:
    """Return what never wins a maximum; ``None`` where zero does not either."""
    info = b.info(source)
    if info.quant is not None:
        lowest = np.iinfo(info.dtype.numpy).min  # type: ignore[type-var]
        return None if info.quant.zero_point[0] == lowest else np.array(lowest, np.int8)
    producer = b.graph.producers.get(node.inputs[0])
    activation = getattr(producer.op, "activation", None) if producer else None
    if activation in (Activation.RELU, Activation.RELU6):
        return None
    return np.array(np.finfo(np.float32).min, np.float32)


def _mean(b: Lowering, node: Node, op: GlobalAveragePool) -> None:
    reduction(b, node, "MEAN", tuple(range(2, node.inputs[0].type.rank)), keepdims=True)


def _softmax(b: Lowering, node: Node, op: Softmax) -> None:
    integer = _is_int8(b, node)
    x = node.inputs[0]
    axis = x.type.rank + op.axis
    perm = b.perm_of(x, integer=integer) or identity(x.type.rank)
    if perm[-1] != axis:  # the kernel works along the last axis
        perm = (*(a for a in perm if a != axis), axis)
    source = b.get(x, perm, integer=integer)
    target = b.put(node, perm)
    b.operator("SOFTMAX", [source], [target], "Softmax", 2 if integer else 1, beta=1.0)


def _reshape(b: Lowering, node: Node, op: Reshape) -> None:
    integer = _is_int8(b, node)
    x, out = node.inputs[0], node.output.type.ints
    held = b.perm_of(x, integer=integer) or identity(x.type.rank)
    perm = reshaped_perm(x.type.ints, held, out)
    if perm is None:  # the new axes cut across the order it is stored in
        held = grouped_perm(x.type.ints, held, out)
        perm = reshaped_perm(x.type.ints, held, out) or identity(len(out))
    source = b.get(x, held, integer=integer)
    index = b.reshaped(source, [out[axis] for axis in perm])
    b.alias(node, Stored(index, perm), quantized=integer)


def _transpose(b: Lowering, node: Node, op: Transpose) -> None:
    """Rename the axes; nothing is moved until a consumer insists."""
    integer = _is_int8(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.perm_of(x, integer=integer) or identity(x.type.rank)
    renamed = tuple(op.perm.index(axis) for axis in perm)
    b.alias(node, Stored(source, renamed), quantized=integer)


def _identity(b: Lowering, node: Node, op: Identity) -> None:
    _unchanged(b, node)


def _unchanged(b: Lowering, node: Node) -> None:
    x = node.inputs[0]
    integer = _is_int8(b, node)
    source = b.get(x, integer=integer)
    perm = b.perm_of(x, integer=integer) or identity(x.type.rank)
    if integer:  # the result may be on another grid
        b.operator("QUANTIZE", [source], [b.put(node, perm)], "Quantize")
    else:
        b.stored[node.output] = Stored(source, perm)


def _concat(b: Lowering, node: Node, op: Concat) -> None:
    integer = _is_int8(b, node)
    perm = b.common_perm(node, node.output.type.rank, integer=integer)
    operands = [b.get(v, perm, integer=integer) for v in node.inputs]
    target = b.put(node, perm)
    b.operator(
        "CONCATENATION",
        operands,
        [target],
        "Concatenation",
        2 if integer else 1,
        axis=perm.index(op.axis),
        fusedActivationFunction=0,
    )


def _pad(b: Lowering, node: Node, op: Pad) -> None:
    integer = _is_int8(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.perm_of(x, integer=integer) or identity(x.type.rank)
    rank = x.type.rank
    amounts = b.ints("pads", [[op.pads[axis], op.pads[axis + rank]] for axis in perm])
    target = b.put(node, perm)
    version = 2 if integer else 1
    if op.value == 0:
        b.operator("PAD", [source, amounts], [target], "Pad", version)
    else:
        fill = b.constant(f"{b.layer}/fill", np.array(op.value, np.float32))
        b.operator("PADV2", [source, amounts, fill], [target], "PadV2", version)


def _slice(b: Lowering, node: Node, op: Slice) -> None:
    integer = _is_int8(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.perm_of(x, integer=integer) or identity(x.type.rank)
    cuts = op.ranges(x.type)
    ranges = [cuts.get(axis, range(x.type.ints[axis])) for axis in perm]
    fields = ("begin", [r.start for r in ranges]), ("end", [r.stop for r in ranges])
    tensors = [b.ints(name, values) for name, values in fields]
    tensors.append(b.ints("strides", [r.step for r in ranges]))
    target = b.put(node, perm)
    version = 2 if integer else 1
    b.operator("STRIDED_SLICE", [source, *tensors], [target], "StridedSlice", version)


LOWERINGS: Mapping[type[Op], Callable[[Lowering, Node, Any], None]] = {
    Add: _binary,
    AveragePool2d: _pool,
    BatchNorm: _batch_norm,
    Clip: _clip,
    Concat: _concat,
    Conv2d: _conv,
    DepthwiseConv2d: _conv,
    Div: _binary,
    FullyConnected: _fully_connected,
    GlobalAveragePool: _mean,
    GroupedConv2d: _conv,
    HardSigmoid: _hard_sigmoid,
    HardSwish: elementwise("HARD_SWISH", "HardSwish", 1),
    Identity: _identity,
    LeakyRelu: elementwise("LEAKY_RELU", "LeakyRelu"),
    MatMul: _matmul,
    MaxPool2d: _pool,
    Mul: _binary,
    Pad: _pad,
    Relu: _clip,
    Reshape: _reshape,
    Sigmoid: elementwise("LOGISTIC"),
    Slice: _slice,
    Softmax: _softmax,
    Sub: _binary,
    Tanh: elementwise("TANH"),
    Transpose: _transpose,
    **MORE_LOWERINGS,
}


def lower(b: Lowering, node: Node) -> None:
    """Add the operators of one node."""
    LOWERINGS[type(node.op)](b, node, node.op)
