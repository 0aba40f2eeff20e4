"""Quantization that no grid of a tensor stands for, as the arithmetic it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from typing_extensions import override

from edgec.frontend.typing import plain
from edgec.ir import ABSENT, Builder, DType, Graph, Node, Value
from edgec.ops import (
    Add,
    Cast,
    Clip,
    Dequantize,
    Div,
    Equal,
    Gather,
    Max,
    Min,
    Mul,
    Opaque,
    Quantize,
    ReduceMax,
    ReduceMin,
    Reshape,
    Round,
    Sub,
    Transpose,
    Where,
)
from edgec.passes.base import Pass, Promise, Within

__all__ = ["DecomposeQuantization", "is_paired"]

_EIGHT = (DType.INT8, DType.UINT8)
_SMALL = (*_EIGHT, DType.INT16, DType.UINT16)
"""Types whose numbers, and differences of these, float32 holds."""


@dataclass(frozen=True, slots=True)
class DecomposeQuantization(Pass):
    """Write quantization of computed values out where a runtime's tensors cannot express it.

    `QuantizeLinear` is ``clip(round(x / scale) + zero)`` and `DequantizeLinear`
    ``(x - zero) * scale``; `DynamicQuantizeLinear` finds both parameters first. Written out
    are those with computed parameters, with several scales, with scales for blocks, with
    integers of 16 bits whose zero is not in the middle, and dequantized ones of 32. One scale
    for 8 or 16 bits stays: it is what a quantized tensor has; but not where something else
    computes the integers, reads them as the plain numbers they are, or understands them
    otherwise.

    Within rounding: the range that ONNX Runtime finds may differ in the last bit.
    """

    name: ClassVar[str] = "decompose-quantization"
    promise: ClassVar[Promise] = Within(1e-5)

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            values = (*map(b.now, node.reads), *node.outputs)
            if not all(v.type.is_static for v in values) or not _rewrite(b, node):
                b.copy(node)
        return b.finish()


def is_paired(graph: Graph, value: Value) -> bool:
    """Whether no operator but quantize and dequantize ever sees the integers of a value."""
    producer = graph.producers.get(value)
    made = producer is None or isinstance(producer.op, Quantize)
    return made and all(isinstance(n.op, Dequantize) for n in graph.users.get(value, ()))


class _Grid(NamedTuple):
    """What a node quantizes with, all spread out over the value's axes."""

    x: Value
    scale: Value
    zero: Value
    dtype: DType


def _rewrite(b: Builder, node: Node) -> bool:
    match node.op:
        case Opaque(op_type="DynamicQuantizeLinear", domain=""):
            return _dynamic(b, node)
        case Opaque(op_type="QuantizeLinear", domain="") | Quantize():
            grid = _grid(b, node, node.output.type.dtype)
            return grid is not None and _quantize(b, node, grid)
        case Opaque(op_type="DequantizeLinear", domain="") | Dequantize():
            grid = _grid(b, node, b.now(node.inputs[0]).type.dtype)
            return grid is not None and _dequantize(b, node, grid)
    return False


def _grid(b: Builder, node: Node, dtype: DType) -> _Grid | None:
    """Return what a node quantizes with; ``None`` if it is to stay."""
    x = b.now(node.inputs[0])
    real = x if dtype is not x.type.dtype else node.output
    if real.type.dtype is not DType.FLOAT32 or b.array(x) is not None:
        return None
    if isinstance(node.op, Quantize | Dequantize):
        params = node.op.params
        symmetric = dtype is DType.INT16 and not any(params.zero_point)
        known = dtype in _EIGHT or symmetric
        if params.axis is None and known and _is_a_grid(b.source, node):
            return None
        if dtype not in _SMALL and (dtype is not DType.INT32 or any(params.zero_point)):
            return None
        axis, block = params.axis or 0, 0
        scale = b.constant(np.array(params.scale, np.float32), near=f"{node.output.name}.scale")
        zeros = np.array(params.zero_point, np.float32)
        zero = b.constant(zeros, near=f"{node.output.name}.zero") if zeros.any() else ABSENT
    elif dtype not in _SMALL:
        return None
    else:
        proto = node.op.node_proto() if isinstance(node.op, Opaque) else None
        attributes = {a.name: plain(a) for a in proto.attribute} if proto else {}
        if set(attributes) - {"axis", "block_size", "output_dtype", "saturate"}:
            return None
        axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
        scale, zero = b.now(node.inputs[1]), ABSENT
        if len(node.inputs) > 2:
            zero = b.now(node.inputs[2])
    if scale.type.dtype is not DType.FLOAT32:
        return None
    if any(not _fits(x, p, axis, block) for p in (scale, zero) if not p.is_absent):
        return None
    if not zero.is_absent and zero.type.dtype is not DType.FLOAT32:
        zero = b.step(Cast(DType.FLOAT32), zero, of=node, near=f"{zero.name}.real")
    spread = [p if p.is_absent else _spread(b, node, x, p, axis, block) for p in (scale, zero)]
    return _Grid(x, spread[0], spread[1], dtype)


def _is_a_grid(graph: Graph, node: Node) -> bool:
    """Whether nobody takes the integers of a node for anything but its real numbers.

    Reshapes and transposes keep a tensor's grid; what else looks at integers knows of none.
    """
    todo = [node.output if isinstance(node.op, Quantize) else node.inputs[0]]
    seen, ways = set(todo), set()
    while todo:
        stored = todo.pop()
        made, readers = graph.producers.get(stored), graph.users.get(stored, ())
        unsigned = stored.type.dtype is DType.UINT8 and made is not None
        if unsigned and stored in graph.outputs and readers:
            return False  # it is stored as int8, except for whom the model returns it to
        for other in readers if made is None else (made, *readers):
            match other.op:
                case Quantize(params) if other is made:
                    ways.add(params)
                case Dequantize(params) if other is not made:
                    ways.add(params)
                case Reshape() | Transpose():
                    more = {other.inputs[0], other.output} - seen
                    seen |= more
                    todo.extend(more)
                case _:
                    return False
    return len(ways) == 1


def _fits(x: Value, p: Value, axis: int, block: int) -> bool:
    """Whether a parameter has an entry for all of `x`, for each slice, or for each block."""
    if p.type.size == 1:
        return True
    shape = x.type.ints
    if not -len(shape) <= axis < len(shape):
        return False
    if not block:
        return p.type.ints == (shape[axis],)
    axis %= len(shape)
    blocks = -(-shape[axis] // block)
    return block > 0 and p.type.ints == (*shape[:axis], blocks, *shape[axis + 1 :])


def _spread(b: Builder, node: Node, x: Value, p: Value, axis: int, block: int) -> Value:
    """Return a parameter in a shape that broadcasts to that of `x`."""
    if p.type.size == 1:
        return p if p.type.rank == 0 else b.step(Reshape(()), p, of=node, near=p.name)
    axis %= x.type.rank
    if block:
        picked = np.arange(x.type.ints[axis]) // block
        indices = b.constant(picked, near=f"{p.name}.blocks")
        return b.step(Gather(axis), p, indices, of=node, near=p.name)
    shape = tuple(n if k == axis else 1 for k, n in enumerate(x.type.ints))
    return b.step(Reshape(shape), p, of=node, near=p.name)


def _quantize(b: Builder, node: Node, grid: _Grid) -> bool:
    steps = b.step(Div(), grid.x, grid.scale, of=node)
    whole = b.step(Round(), steps, of=node)
    if not grid.zero.is_absent:
        whole = b.step(Add(), whole, grid.zero, of=node)
    b.add(Cast(grid.dtype), _saturated(b, node, whole, grid.dtype), like=node)
    return True


def _saturated(b: Builder, node: Node, x: Value, dtype: DType) -> Value:
    least, most = dtype.limits
    return b.step(Clip(float(least), float(most)), x, of=node)


def _dequantize(b: Builder, node: Node, grid: _Grid) -> bool:
    real = b.step(Cast(DType.FLOAT32), grid.x, of=node, near=f"{grid.x.name}.real")
    if not grid.zero.is_absent:
        real = b.step(Sub(), real, grid.zero, of=node)
    b.add(Mul(), real, grid.scale, like=node)
    return True


def _dynamic(b: Builder, node: Node) -> bool:
    """Write ``scale = range / 255`` and ``zero = round(-low / scale)``, and quantize.

    The range is that of the data and of zero; data that are zero throughout have scale 1.
    """
    x = b.now(node.inputs[0])
    axes = tuple(range(x.type.rank))
    name = node.outputs[0].name
    numbers = {n: b.constant(np.array(n, np.float32), near=f"{name}.{n}") for n in (0, 1, 255)}
    low = b.step(ReduceMin(axes, keepdims=False), x, of=node, near=f"{name}.low")
    high = b.step(ReduceMax(axes, keepdims=False), x, of=node, near=f"{name}.high")
    low = b.step(Min(), low, numbers[0], of=node, near=f"{name}.low")
    high = b.step(Max(), high, numbers[0], of=node, near=f"{name}.high")
    width = b.step(Sub(), high, low, of=node, near=f"{name}.width")
    none = b.step(Equal(), width, numbers[0], of=node, near=f"{name}.none")
    step = b.step(Div(), width, numbers[255], of=node, near=f"{name}.step")
    y, scale_name, zero_name = node.output_names
    (scale,) = b.add(Where(), none, numbers[1], step, names=[scale_name], absorbs=(node,))
    below = b.step(Div(), b.step(Sub(), numbers[0], low, of=node), scale, of=node)
    whole = b.step(Round(), _saturated(b, node, below, DType.UINT8), of=node)
    (zero,) = b.add(Cast(DType.UINT8), whole, names=[zero_name], absorbs=(node,))
    steps = b.step(Round(), b.step(Div(), x, scale, of=node), of=node)
    moved = _saturated(b, node, b.step(Add(), steps, whole, of=node), DType.UINT8)
    (data,) = b.add(Cast(DType.UINT8), moved, names=[y], absorbs=(node,))
    for old, new in zip(node.outputs, (data, scale, zero), strict=True):
        b.replace(old, new)
    return True
