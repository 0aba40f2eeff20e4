"""Whether a program makes sense, so that no later stage reads or writes outside a tensor.

One rule for each operator: how many operands and results there are, their element types and
grids, and that the shapes belong together. The rules hold for what is read and for what passes
leave behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from edgec.errors import Diagnostic
from edgec.ir import DType
from edgec.program import operators as ops
from edgec.program.faults import Fault, require
from edgec.program.moving import (
    check_concatenation,
    check_pad,
    check_reshape,
    check_slice,
    check_split,
    check_transpose,
)
from edgec.program.operators import Operator
from edgec.program.program import Layer, Program
from edgec.program.recurrent import check_lstm, check_svdf
from edgec.program.requirements import (
    GRID_BITS,
    MOVED,
    require_alike,
    require_constant,
    require_counts,
    require_factor,
    require_numbers,
    require_shape,
    require_type,
)
from edgec.program.tensors import Tensor

__all__ = ["check_layer", "faults_of"]


def faults_of(program: Program) -> tuple[list[Diagnostic], bool]:
    """Return what is wrong with a program, and whether it is all valid, only not taken."""
    found: list[Diagnostic] = []
    valid = True
    for check in (lambda: _check_order(program), *_layer_checks(program)):
        try:
            check()
        except Fault as fault:
            found.append(Diagnostic(str(fault), fault.where, fault.hint))
            valid &= fault.valid
    return found, valid


def _layer_checks(program: Program) -> Sequence[Callable[[], None]]:
    def of(layer: Layer) -> Callable[[], None]:
        def check() -> None:
            try:
                check_layer(layer)
            except Fault as fault:
                fault.where = layer.name
                raise

        return check

    return [of(layer) for layer in program.layers()]


def _check_order(program: Program) -> None:
    tensors = program.tensors
    for k in (*program.inputs, *program.outputs):
        require(0 <= k < len(tensors), f"there is no tensor {k}")
    known = {k for k, tensor in enumerate(tensors) if tensor.data is not None}
    fed, kept = set(program.inputs), set(program.variables)
    require(bool(fed), "it has no input")
    require(bool(program.outputs), "it has no output")
    require(len(fed) == len(program.inputs), "two of its inputs are one")
    require(len(set(program.outputs)) == len(program.outputs), "two of its outputs are one")
    for k in sorted(fed & (known | kept)):
        raise Fault(f"{tensors[k].name} is fed and stored")
    ready = known | fed | kept
    computed: set[int] = set()
    for step in program.steps:
        for k in step.inputs:
            require(
                k < 0 or k in ready,
                f"{step.layer} reads {tensors[k].name}, which nothing computes before",
            )
        for k in step.outputs:
            require(k >= 0, f"a result of {step.layer} is left out")
            require(
                k not in ready, f"{step.layer} writes {tensors[k].name}, which is there already"
            )
            computed.add(k)
            ready.add(k)
    for k in program.outputs:
        require(k in computed, f"the output {tensors[k].name} is not computed by any layer")
    for k in (*program.inputs, *program.outputs):
        require_type(tensors[k], MOVED)


def check_layer(layer: Layer) -> None:
    """Raise a :class:`Fault` if a layer makes no sense."""
    rule = _RULES.get(type(layer.op))
    require(rule is not None, f"nothing is known of {layer.op.code}")
    assert rule is not None
    rule(layer)


# ---- rules


_WEIGHTS = {
    DType.FLOAT32: DType.FLOAT32,
    DType.INT8: DType.INT8,
    DType.INT16: DType.INT8,
    DType.UINT8: DType.UINT8,
}
_BIASES = {
    DType.FLOAT32: (DType.FLOAT32,),
    DType.INT8: (DType.INT32,),
    DType.INT16: (DType.INT32, DType.INT64),
    DType.UINT8: (DType.INT32,),
}


def _weighted(layer: Layer, channel_axis: int) -> None:
    """Check the types and grids of weights and biases."""
    x, y = require_alike(layer)
    w = layer.input(1)
    require_constant(w)
    require_type(w, (_WEIGHTS[x.dtype],))
    if x.dtype is not DType.FLOAT32:
        require(w.grid is not None, f"{w.name} holds integers without a scale")
        assert w.grid is not None
        require(
            w.grid.axis in (None, channel_axis),
            f"the scales of {w.name} run along another axis",
        )
        require(
            w.dtype is DType.UINT8 or not any(w.grid.zero_point),
            f"the zero points of {w.name} are not 0",
        )
        factor = max(w.grid.scale) * x.scale / y.scale
        require_factor(factor)
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    if bias is not None:
        require_constant(bias)
        require_type(bias, _BIASES[x.dtype])
        require_shape(bias, (y.shape[-1],), "the bias")


def _windows(
    x: Tensor, y: Tensor, window: ops.Pair, op: Any, dilations: ops.Pair = (1, 1)
) -> None:
    require(len(x.shape) == len(y.shape) == 4, "its operand or its result has not 4 axes")
    require(x.shape[0] == y.shape[0] == 1, "it takes several pictures at once")
    for axis in range(2):
        before, after = op.pads[axis]
        stride, dilation = op.strides[axis], dilations[axis]
        require(stride > 0 and dilation > 0, "its steps are not positive")
        require(before >= 0 and after >= 0, "its padding is negative")
        reach = (window[axis] - 1) * dilation + 1
        room = x.shape[axis + 1] + before + after - reach
        length = room // stride + 1 if room >= 0 else 0
        require(
            y.shape[axis + 1] == length and length > 0,
            f"its result has the shape {list(y.shape)}, and its windows make {length} of "
            f"{x.shape[axis + 1]}",
        )
        # A window that lies in the padding alone has nothing to look at.
        require(before < reach and after < reach, "its padding is wider than its window")


def _conv(layer: Layer) -> None:
    require_counts(layer, 2, 3)
    assert isinstance(layer.op, ops.Conv)
    x, w, y = layer.input(0), layer.input(1), layer.output
    require(len(w.shape) == 4, f"{w.name} has not 4 axes")
    _windows(x, y, (w.shape[1], w.shape[2]), layer.op, layer.op.dilations)
    outputs, depth = w.shape[0], w.shape[3]
    require(
        y.shape[3] == outputs and x.shape[3] % depth == 0,
        f"{w.name} makes {outputs} channels of {depth}, the layer {y.shape[3]} of {x.shape[3]}",
    )
    require(outputs % (x.shape[3] // depth) == 0, "its groups have different sizes")
    _weighted(layer, 0)


def _depthwise(layer: Layer) -> None:
    require_counts(layer, 2, 3)
    assert isinstance(layer.op, ops.DepthwiseConv)
    x, w, y = layer.input(0), layer.input(1), layer.output
    require(len(w.shape) == 4 and w.shape[0] == 1, f"{w.name} is no set of filters")
    _windows(x, y, (w.shape[1], w.shape[2]), layer.op, layer.op.dilations)
    require(
        y.shape[3] == w.shape[3] and w.shape[3] % x.shape[3] == 0,
        f"{w.name} makes {w.shape[3]} channels, and the layer {y.shape[3]} of {x.shape[3]}",
    )
    _weighted(layer, 3)


def _pool(layer: Layer) -> None:
    require_counts(layer, 1, 1)
    assert isinstance(layer.op, (ops.AveragePool, ops.MaxPool))
    x, y = require_alike(layer)
    _windows(x, y, layer.op.window, layer.op)
    require(x.shape[3] == y.shape[3], "its result has other channels")


def _fully_connected(layer: Layer) -> None:
    require_counts(layer, 2, 3)
    x, w, y = layer.input(0), layer.input(1), layer.output
    require(len(w.shape) == 2, f"{w.name} has not 2 axes")
    outputs, depth = w.shape
    require(
        x.size % depth == 0 and y.shape[-1:] == (outputs,),
        f"{w.name} makes {outputs} numbers of {depth}, and the layer {list(y.shape)} of "
        f"{list(x.shape)}",
    )
    require(y.size == x.size // depth * outputs, "its result has another number of rows")
    _weighted(layer, 0)


def _broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise Fault(f"its operands have the shapes {list(map(list, shapes))}") from error


def _binary(layer: Layer) -> None:
    require_counts(layer, 2, 2)
    a, b, y = layer.input(0), layer.input(1), layer.output
    kinds = (DType.FLOAT32, *GRID_BITS, DType.INT32)
    for t in (a, b, y):
        require_numbers(t, kinds)
        require(t.dtype is a.dtype, "its operands and its result differ in type")
    if a.dtype in GRID_BITS:
        given = a.scale * b.scale if isinstance(layer.op, ops.Mul) else max(a.scale, b.scale)
        require_factor(given / y.scale)
    require_shape(y, _broadcast((a.shape, b.shape)), "the result")


def _mean(layer: Layer) -> None:
    require_counts(layer, 1, 1)
    assert isinstance(layer.op, ops.Mean)
    x, y = require_alike(layer)
    axes = layer.op.axes
    require(bool(axes) and list(axes) == sorted(set(axes)), "its axes are in no order")
    require(axes[0] >= 0 and axes[-1] < len(x.shape), "it has no such axes")
    if x.dtype in GRID_BITS:
        require_factor(x.scale / y.scale)
    kept = tuple(1 if a in axes else d for a, d in enumerate(x.shape))
    gone = tuple(d for a, d in enumerate(x.shape) if a not in axes)
    require(y.shape in (kept, gone), f"its result has the shape {list(y.shape)}")


def _lookup(layer: Layer) -> None:
    """Check an operator that works number by number, and keeps the type."""
    require_counts(layer, 1, 1)
    x, y = require_alike(layer)
    if x.dtype in GRID_BITS:
        slope = layer.op.alpha if isinstance(layer.op, ops.LeakyRelu) else 1
        require_factor(max(1, abs(slope)) * x.scale / y.scale)
    require_shape(y, x.shape, "the result")


def _fixed(scale: int, zero: int, wide: int) -> Callable[[Layer], None]:
    """Check the grid of a result whose range is known beforehand, as TFLite requires it."""

    def rule(layer: Layer) -> None:
        y = layer.output
        if y.dtype is DType.INT8:
            good = y.scale == 1 / scale and y.zero_point == zero
            require(good, f"its result is not on the grid of 1/{scale} from {zero}")
        elif y.dtype is DType.INT16:
            exact = math.isclose(y.scale, 1 / wide, rel_tol=1e-3)
            require(exact, f"its result is not on the grid of 1/{wide}")

    return rule


def _logistic(layer: Layer) -> None:
    _lookup(layer)
    _fixed(256, -128, 32768)(layer)


def _tanh(layer: Layer) -> None:
    _lookup(layer)
    _fixed(128, 0, 32768)(layer)


def _softmax(layer: Layer) -> None:
    require_counts(layer, 1, 1)
    x, y = layer.input(0), layer.output
    require_numbers(x)
    require(bool(x.shape), "it has no axis")
    require_shape(y, x.shape, "the result")
    if x.dtype is DType.INT8 and y.dtype is DType.INT16:
        raise Fault("it turns int8 into int16", "have it make int8", valid=True)
    require_alike(layer)
    _fixed(256, -128, 32768)(layer)


def _quantize(layer: Layer) -> None:
    require_counts(layer, 1, 1)
    x, y = layer.input(0), layer.output
    require_numbers(x)
    require_numbers(y, tuple(GRID_BITS))
    require_shape(y, x.shape, "the result")
    if x.dtype is not DType.FLOAT32:
        factor = x.scale / y.scale
        require_factor(factor)


def _dequantize(layer: Layer) -> None:
    require_counts(layer, 1, 1)
    x, y = layer.input(0), layer.output
    require_numbers(x, tuple(GRID_BITS))
    require_type(y, (DType.FLOAT32,))
    require_shape(y, x.shape, "the result")


def _resize(layer: Layer) -> None:
    require_counts(layer, 1, 1)
    assert isinstance(layer.op, (ops.ResizeNearest, ops.ResizeBilinear))
    x, y = require_alike(layer)
    require(len(x.shape) == len(y.shape) == 4, "its operand or its result has not 4 axes")
    require(
        (x.shape[0], x.shape[3]) == (y.shape[0], y.shape[3]), "it changes batch or channels"
    )
    require(
        not (layer.op.align_corners and layer.op.half_pixel_centers),
        "it aligns corners and has centres at halves",
    )


def _batch_matmul(layer: Layer) -> None:
    require_counts(layer, 2, 2)
    assert isinstance(layer.op, ops.BatchMatMul)
    a, y = require_alike(layer)
    b = layer.input(1)
    require_numbers(b)
    require(b.dtype is a.dtype, "its operands differ in type")
    require(len(a.shape) >= 2 and len(b.shape) >= 2, "an operand is no matrix")
    rows, depth = a.shape[:-3:-1] if layer.op.transpose_x else a.shape[-2:]
    inner, columns = b.shape[:-3:-1] if layer.op.transpose_y else b.shape[-2:]
    require(depth == inner, f"it multiplies {list(a.shape)} with {list(b.shape)}")
    batch = _broadcast((a.shape[:-2], b.shape[:-2]))
    require_shape(y, (*batch, rows, columns), "the result")
    if a.dtype is not DType.FLOAT32:
        factor = a.scale * b.scale / y.scale
        require_factor(factor)


_RULES: Mapping[type[Operator], Callable[[Layer], None]] = MappingProxyType(
    {
        ops.Add: _binary,
        ops.AveragePool: _pool,
        ops.BatchMatMul: _batch_matmul,
        ops.Concatenation: check_concatenation,
        ops.Conv: _conv,
        ops.DepthwiseConv: _depthwise,
        ops.Dequantize: _dequantize,
        ops.FullyConnected: _fully_connected,
        ops.HardSwish: _lookup,
        ops.LeakyRelu: _lookup,
        ops.Logistic: _logistic,
        ops.MaxPool: _pool,
        ops.Mean: _mean,
        ops.Mul: _binary,
        ops.Pad: check_pad,
        ops.Quantize: _quantize,
        ops.Relu: _lookup,
        ops.Relu6: _lookup,
        ops.Reshape: check_reshape,
        ops.ResizeBilinear: _resize,
        ops.ResizeNearest: _resize,
        ops.Slice: check_slice,
        ops.Softmax: _softmax,
        ops.Split: check_split,
        ops.Sub: _binary,
        ops.Svdf: check_svdf,
        ops.Tanh: _tanh,
        ops.Transpose: check_transpose,
        ops.UnidirectionalLstm: check_lstm,
    }
)
