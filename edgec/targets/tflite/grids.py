"""Which grids TFLite's integer kernels compute on.

What edgec quantizes itself always fits. A model that came quantized may not: its layers are
then computed in float, between a dequantize and a quantize.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgec.errors import InternalError
from edgec.ir import (
    Array,
    DType,
    Fixed,
    Graph,
    Node,
    QuantParams,
    QuantRule,
    Role,
    SameAsInput,
    Value,
)
from edgec.ops import (
    Add,
    AveragePool,
    Cast,
    Conv,
    Dequantize,
    Elu,
    FullyConnected,
    GlobalAveragePool,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    MatMul,
    Mul,
    Quantize,
    ReduceMean,
    ReduceSum,
    Resize,
    Sub,
    Swish,
)
from edgec.targets.tflite.padding import counts, padding
from edgec.targets.tflite.resizing import builtin_form

__all__ = [
    "NARROW",
    "PACKED_WEIGHTS",
    "is_plain",
    "kept_constant",
    "misfits",
    "prescribed",
    "quantized_by",
]

_PRODUCT = 256
"""A step of a product is fewer steps of its result: XNNPACK refuses the file otherwise."""

PACKED_WEIGHTS = (Conv, FullyConnected)
"""Layers whose kernels take weights of 4 bits, two in a byte."""

NARROW = (Elu,)
"""Operators whose integer kernels know 8 bits only: LiteRT 2.3 refuses them with int16."""

_SUMMED = 65536
"""Elements of int16 whose sum stays below 32 bits, which kernels of means count in."""

_PLAIN = "int8 with one scale, or int16 with one around zero"

_COARSEST = 2.0**64
"""A larger scale: LiteRT's int8 ADD aborts the process where the quotient of two underflows."""

_TERM = 64
"""A step of a term is no more steps of the sum: LiteRT's kernel wraps at 16 bits, which two
terms of 255 steps just stay below."""


def kept_constant(graph: Graph, value: Value) -> tuple[Array, QuantParams | None] | None:
    """Return what a value is read from, if that is a constant stored in fewer bits.

    The grid is ``None`` for float16.
    """
    node = graph.producers.get(value)
    if node is None or not isinstance(node.op, Dequantize | Cast):
        return None
    array = graph.constant(node.inputs[0])
    if array is None:
        return None
    if isinstance(node.op, Dequantize):
        return array, node.op.params
    return (
        (array, None)
        if array.dtype == np.float16 and value.type.dtype is DType.FLOAT32
        else None
    )


def quantized_by(graph: Graph, node: Node) -> Quantize | None:
    """Return how the only output of a node is quantized, if nothing reads its real values."""
    if len(node.outputs) != 1 or node.output in graph.outputs:
        return None
    users = graph.users.get(node.output, ())
    op = users[0].op if len(users) == 1 else None
    return op if isinstance(op, Quantize) and is_plain(op) else None


def misfits(graph: Graph, node: Node, result: Quantize) -> Iterator[str]:
    """Yield why no integer kernel takes `node`, all operands of which are dequantized.

    Parameters
    ----------
    result
        How the node's output is quantized.
    """
    rule = node.op.quant_rule()
    if rule is None:
        raise InternalError(f"{node.layer} has no integer form")
    roles = [i for i, v in enumerate(node.inputs) if v.name and rule.role(i) is not Role.INDEX]
    sources = [graph.producers[v] for v in node.data]
    grids = [s.op for s in sources if isinstance(s.op, Dequantize)]
    for i, source, grid in zip(roles, sources, grids, strict=True):
        array = graph.constant(source.inputs[0])
        match rule.role(i):
            case Role.ACTIVATION if not is_plain(grid):
                yield f"operand {i} is not {_PLAIN}"
            case Role.ACTIVATION if grid.dtype is not result.dtype:
                yield f"operand {i} is {grid.dtype.value}, its output {result.dtype.value}"
            case Role.ACTIVATION:
                if isinstance(rule.output, SameAsInput) and grid.params != result.params:
                    yield "it changes the scale of what it only moves"
            case Role.WEIGHT if not _symmetric(node, grid, result, array):
                yield "its weights are not symmetric int8 in [-127, 127], per output channel"
            case Role.BIAS if not _product(grid, grids[0].params, grids[1].params):
                yield "its bias is not int32 with the scale of input times weights"
    if not is_plain(result):
        yield f"its output is not {_PLAIN}"
    if result.dtype is DType.INT16:
        yield from _beyond_sixteen(node)
    if max(s for grid in (*grids, result) for s in grid.params.scale) > _COARSEST:
        yield "a scale is larger than kernels can compute with"
    if _is_too_fine(node, rule, [g.params for g in grids], result):
        yield "the scale of its output is too small beside those of its operands"
    if isinstance(node.op, AveragePool) and not _even(node, node.op):
        yield "its windows hold more elements at one place than at another"
    if isinstance(node.op, Resize) and not _has_integer_places(node, node.op):
        yield "it weighs other elements than the integer kernel does"
    if isinstance(rule.output, Fixed) and result.params != prescribed(
        rule.output, result.dtype
    ):
        yield "its output is not on the grid that the kernel prescribes"


def _beyond_sixteen(node: Node) -> Iterator[str]:
    """Yield why no kernel for int16 takes a node whose grids are all right."""
    if isinstance(node.op, NARROW):
        yield "there is no kernel of 16 bits for it"
    if isinstance(node.op, AveragePool | GlobalAveragePool | ReduceMean | ReduceSum):
        count = node.inputs[0].type.size // node.output.type.size
        if isinstance(node.op, AveragePool):
            count = math.prod(node.op.kernel)
        if count > _SUMMED:
            most = f"the kernel of 16 bits adds up {_SUMMED} elements at most"
            yield f"{most}, and these are {count}"


def _is_too_fine(
    node: Node, rule: QuantRule, operands: Sequence[QuantParams], result: Quantize
) -> bool:
    """Whether a kernel would wrap, blur or refuse because a result has so small a scale."""
    scale = result.params.scale[0]
    steps = [max(grid.scale) / scale for grid in operands]
    x = _Reach(operands[0].scale[0], result.dtype)
    match node.op:
        case Add() | Sub():
            return max(steps) > _TERM
        case HardSigmoid(alpha, beta):
            return x.wraps(alpha, beta)
        case HardSwish():
            return x.blurs(3, scale) or x.wraps(1 / 6, 0.5) or steps[0] >= _PRODUCT
        case Swish():
            return x.blurs(6.25, scale) or steps[0] >= _PRODUCT
        case LeakyRelu(alpha):
            return steps[0] * max(abs(alpha), 1) >= _PRODUCT
    if rule.role(1) is Role.WEIGHT or isinstance(node.op, Mul | MatMul):
        return steps[0] * max(operands[1].scale) >= _PRODUCT
    return False


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far the operand of a gate can be from zero, by its step and its type."""

    step: float
    dtype: DType

    def blurs(self, most: float, scale: float) -> bool:
        """Whether half a step of a gate moves a result by three of its own.

        The gate is rounded where ``|x|`` is at most `most`; beyond, it is shut or open.
        """
        if self.dtype is DType.INT16:
            return min(32767 * self.step, most) / 65536 > 3 * scale
        return min(255 * self.step, most) / 512 > 3 * scale

    def wraps(self, slope: float, offset: float) -> bool:
        """Whether a sum on the grid of a hard sigmoid may leave what the kernel adds in."""
        if self.dtype is DType.INT16:
            return max(slope * self.step, abs(offset) / 32767) * 32768 > _TERM
        return (255 * slope * self.step + abs(offset)) * 256 >= 2**15


def _even(node: Node, op: AveragePool) -> bool:
    """Whether the integer kernel counts what the operator counts."""
    size, out = node.inputs[0].type.ints[2:], node.output.type.ints[2:]
    if not op.count_include_pad and padding(op.window, size, op.pad, out).same:
        return True
    held = counts(op.window, size, op.pad, out, padded=op.count_include_pad)
    return all((n == k).all() for n, k in zip(held, op.kernel, strict=True))


def _has_integer_places(node: Node, op: Resize) -> bool:
    return op.mode == "nearest" or builtin_form(op, node) is not None


def is_plain(grid: Quantize | Dequantize) -> bool:
    """Whether a grid is one of int8 with one scale, or of int16 around zero."""
    if grid.params.axis is not None:
        return False
    symmetric = not any(grid.params.zero_point)
    return grid.dtype is DType.INT8 or (grid.dtype is DType.INT16 and symmetric)


def _symmetric(node: Node, grid: Dequantize, result: Quantize, array: Array | None) -> bool:
    rule = node.op.quant_rule()
    known = grid.dtype is DType.INT8 or (
        grid.dtype is DType.INT4 and isinstance(node.op, PACKED_WEIGHTS)
    )
    if not known or array is None or any(grid.params.zero_point):
        return False
    if grid.dtype is DType.INT4 and result.dtype is DType.INT16:
        return False
    lowest = int(array.astype(np.int8).min(initial=0))
    channel = None if rule is None else rule.channel
    return grid.params.axis in (None, channel) and lowest > grid.dtype.limits[0]


def _product(bias: Dequantize, x: QuantParams, w: QuantParams) -> bool:
    scales = np.array(bias.params.scale, np.float32)
    want = np.float32(x.scale[0]) * np.array(w.scale, np.float32)
    if bias.dtype is not DType.INT32 or any(bias.params.zero_point):
        return False
    return scales.shape == want.shape and np.allclose(want, scales, rtol=1e-6, atol=0)


def prescribed(fixed: Fixed, dtype: DType) -> QuantParams:
    """Return the grid of an output whose range the operator itself knows."""
    if dtype is DType.INT16:
        return QuantParams((max(-fixed.low, fixed.high) / 2**15,), (0,))
    scale = (fixed.high - fixed.low) / 256
    return QuantParams((scale,), (-128 - round(fixed.low / scale),))
