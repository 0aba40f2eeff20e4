"""Weights that a model stores as integers and scales itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.ir import Array, Builder, DType, Graph, Node, QuantParams, Value
from edgec.ops import Activation, Cast, Dequantize, Gather, Mul, Quantize, Reshape, Sub
from edgec.passes.base import Exact, Pass, Promise

__all__ = ["RecognizeStoredWeights"]


@dataclass(frozen=True, slots=True)
class RecognizeStoredWeights(Pass):
    """Write ``(float(w) - zero) * scale`` of int8 constants as `Dequantize`.

    ``zero`` may be missing; the scales are positive, one for all of ``w`` or one for each index
    of an axis. Rows that `Gather` takes from a dequantized table are taken from the integers,
    and scaled after: a table of words need not become floats for the few that are read. Rows
    that are only quantized again, on the same grid, are left to integer kernels.

    Exact: the same numbers are multiplied.
    """

    name: ClassVar[str] = "recognize-stored-weights"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            match node.op:
                case Mul(activation=Activation.NONE):
                    done = _recognize(b, node)
                case Gather():
                    done = _gather(b, node, node.op)
                case _:
                    done = False
            if not done:
                b.copy(node)
        after = b.finish()
        return after if after is graph else self.run(after)


def _recognize(b: Builder, node: Node) -> bool:
    for centred, scale in (node.inputs, reversed(node.inputs)):
        stored = _stored(b, b.now(centred))
        scales = b.array(b.now(scale))
        if stored is None or scales is None or node.output.type.dims != stored[0].type.dims:
            continue
        w, zero, cast = stored
        params = _params(w.type.rank, scales, zero)
        if params is None:
            continue
        b.add(Dequantize(params, DType.INT8), w, like=node, absorbs=(cast,))
        return True
    return False


def _stored(b: Builder, value: Value) -> tuple[Value, Array, Node] | None:
    """Return the int8 constant that a value is made of, and what is taken off it."""
    node, zero = b.producer(value), np.zeros((), np.float32)
    if node is not None and node.op == Sub():
        taken = b.array(node.inputs[1])
        if taken is None or taken.size > 1:
            return None
        zero, node = taken.reshape(()), b.producer(node.inputs[0])
    if node is None or node.op != Cast(DType.FLOAT32):
        return None
    w = node.inputs[0]
    whole = float(zero).is_integer() and -128 <= float(zero) <= 127
    return (w, zero, node) if whole and b.array(w) is not None and _is_int8(w) else None


def _is_int8(w: Value) -> bool:
    return w.type.dtype is DType.INT8


def _params(rank: int, scales: Array, zero: Array) -> QuantParams | None:
    """Return the grid, or ``None`` if the scales are none of one."""
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        return None
    full = (1,) * (rank - scales.ndim) + scales.shape
    axes = [axis for axis, length in enumerate(full) if length > 1]
    if len(axes) > 1:
        return None
    values = tuple(map(float, scales.reshape(-1)))
    axis = axes[0] if axes else None
    return QuantParams(values, (int(zero),) * len(values), axis)


def _gather(b: Builder, node: Node, op: Gather) -> bool:
    table = b.producer(b.now(node.inputs[0]))
    if table is None or not isinstance(table.op, Dequantize) or not _is_int8(table.inputs[0]):
        return False
    w, indices, params = table.inputs[0], b.now(node.inputs[1]), table.op.params
    if b.array(w) is None or not indices.type.is_static or len(set(params.zero_point)) > 1:
        return False
    users = () if node.output in b.source.outputs else b.source.users.get(node.output, ())
    if users and all(n.op == Quantize(params) for n in users):
        return False  # the integers themselves are taken
    picked = b.step(op, w, indices, of=node)
    real = b.step(Cast(DType.FLOAT32), picked, of=node)
    scale = b.constant(np.array(params.scale, np.float32), near=f"{w.name}.scale")
    shape = [1] * picked.type.rank
    if any(params.zero_point):
        zero = np.array(params.zero_point[0], np.float32)
        real = b.step(Sub(), real, b.constant(zero, near=f"{w.name}.zero"), of=node)
    if params.axis == op.axis:
        scale = b.step(Gather(0), scale, indices, of=node)
        shape[op.axis : op.axis + indices.type.rank] = indices.type.ints
    elif params.axis is not None:
        after = params.axis + (indices.type.rank - 1) * (params.axis > op.axis)
        shape[after] = len(params.scale)
    scale = b.step(Reshape(tuple(shape)), scale, of=node)
    b.add(Mul(), real, scale, like=node, absorbs=(table,))
    return True
