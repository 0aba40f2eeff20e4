"""Which grids TFLite's integer kernels compute on.

What edgec quantizes itself always fits. A model that came quantized may not: its layers are
then computed in float, between a dequantize and a quantize.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgec.ir import Array, DType, Fixed, Graph, Node, QuantParams, Role, SameAsInput
from edgec.ops import AveragePool, Dequantize, Quantize, Resize
from edgec.targets.tflite.padding import counts, padding
from edgec.targets.tflite.resizing import builtin_form

__all__ = ["misfits", "prescribed", "quantized_by"]


def quantized_by(graph: Graph, node: Node) -> Quantize | None:
    """Return how the only output of a node is quantized, if nothing reads its real values."""
    if len(node.outputs) != 1 or node.output in graph.outputs:
        return None
    users = graph.users.get(node.output, ())
    op = users[0].op if len(users) == 1 else None
    return op if isinstance(op, Quantize) and _plain(op) else None


def misfits(graph: Graph, node: Node, result: Quantize) -> Iterator[str]:
    """Yield why no integer kernel takes `node`, all operands of which are dequantized.

    Parameters
    ----------
    result
        How the node's output is quantized.
    """
    rule = node.op.quant_rule()
    if rule is None:
        yield "it has no integer form"
        return
    roles = [i for i, v in enumerate(node.inputs) if v.name and rule.role(i) is not Role.INDEX]
    sources = [graph.producers[v] for v in node.data]
    grids = [s.op for s in sources if isinstance(s.op, Dequantize)]
    for i, source, grid in zip(roles, sources, grids, strict=True):
        array = graph.constant(source.inputs[0])
        match rule.role(i):
            case Role.ACTIVATION if not _plain(grid):
                yield f"operand {i} is not int8 with one scale"
            case Role.ACTIVATION:
                if isinstance(rule.output, SameAsInput) and grid.params != result.params:
                    yield "it changes the scale of what it only moves"
            case Role.WEIGHT if not _symmetric(grid, array, rule.channel):
                yield "its weights are not symmetric int8 in [-127, 127], per output channel"
            case Role.BIAS if not _product(grid, grids[0].params, grids[1].params):
                yield "its bias is not int32 with the scale of input times weights"
    if not _plain(result):
        yield "its output is not int8 with one scale"
    if isinstance(node.op, AveragePool) and not _even(node, node.op):
        yield "its windows hold more elements at one place than at another"
    if isinstance(node.op, Resize) and not _has_integer_places(node, node.op):
        yield "it weighs other elements than the integer kernel does"
    if isinstance(rule.output, Fixed) and result.params != prescribed(rule.output):
        yield "its output is not on the grid that the kernel prescribes"


def _even(node: Node, op: AveragePool) -> bool:
    """Whether the integer kernel counts what the operator counts."""
    size, out = node.inputs[0].type.ints[2:], node.output.type.ints[2:]
    if not op.count_include_pad and padding(op.window, size, op.pad, out).same:
        return True
    held = counts(op.window, size, op.pad, out, padded=op.count_include_pad)
    return all((n == k).all() for n, k in zip(held, op.kernel, strict=True))


def _has_integer_places(node: Node, op: Resize) -> bool:
    return op.mode == "nearest" or builtin_form(op, node) is not None


def _plain(grid: Quantize | Dequantize) -> bool:
    return grid.dtype is DType.INT8 and grid.params.axis is None


def _symmetric(grid: Dequantize, array: Array | None, channel: int) -> bool:
    if grid.dtype is not DType.INT8 or array is None or any(grid.params.zero_point):
        return False
    return grid.params.axis in (None, channel) and int(array.min(initial=0)) >= -127


def _product(bias: Dequantize, x: QuantParams, w: QuantParams) -> bool:
    scales = np.array(bias.params.scale, np.float32)
    want = np.float32(x.scale[0]) * np.array(w.scale, np.float32)
    if bias.dtype is not DType.INT32 or any(bias.params.zero_point):
        return False
    return scales.shape == want.shape and np.allclose(want, scales, rtol=1e-6, atol=0)


def prescribed(fixed: Fixed) -> QuantParams:
    """Return the grid of an output whose range the operator itself knows."""
    scale = (fixed.high - fixed.low) / 256
    return QuantParams((scale,), (-128 - round(fixed.low / scale),))
