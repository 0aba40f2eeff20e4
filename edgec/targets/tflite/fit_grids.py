"""Put the layers of a quantized model on the grids that TFLite's kernels compute on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic, InternalError
from edgec.ir import (
    Builder,
    DType,
    Fixed,
    Graph,
    Node,
    QuantParams,
    Role,
    SameAsInput,
    Value,
)
from edgec.ops import (
    AveragePool,
    Dequantize,
    Quantize,
    Resize,
    dequantize_array,
    quantize_array,
)
from edgec.passes import Lossy, Pass, Promise
from edgec.targets.tflite.grids import is_plain, prescribed, quantized_by

__all__ = ["FitGrids"]


@dataclass(frozen=True, slots=True)
class FitGrids(Pass):
    """Insert steps from one grid to another where a kernel fixes what a model left free.

    * What only moves or compares values (concatenation, max pool, reshape, …) has one grid
      before and after: operands are moved to the result's.
    * So have means and interpolations, whose result is moved from the operand's grid if that
      reaches further: what is cut off before would be missing in the mean.
    * Softmax and logistic functions yield a grid of their own: the result is moved from it.
    * A bias that is stored as real numbers, or on another grid, is put on the grid of the
      products it is added to.

    Every other scale and zero point stays what the model says. Each step is listed.
    Lossy: a value may be rounded once more, by at most half a step of its grid.
    """

    name: ClassVar[str] = "fit-grids"
    promise: ClassVar[Promise] = Lossy()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if not self._rewrite(b, node):
                b.copy(node)
        return b.finish()

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        return tuple(
            Diagnostic(f"{node.op}: {what}", node.layer)
            for node in graph.nodes
            for what in _changes(graph, node)
        )

    def _rewrite(self, b: Builder, node: Node) -> bool:
        result = quantized_by(b.source, node)
        if result is None or not any(True for _ in _changes(b.source, node)):
            return False
        rule = node.op.quant_rule()
        inputs = [b.now(v) for v in node.inputs]
        if rule is not None and isinstance(rule.output, SameAsInput):
            for i in _elsewhere(b.source, node, result):
                inputs[i] = _moved(b, inputs[i], result.params, result.dtype, node)
        bias = _loose_bias(b.source, node)
        if bias is not None:
            inputs[bias] = _stored_bias(b, node, bias)
        if (grid := _given(b.source, node, result)) is not None:
            name = [b.fresh(f"{node.output.name}.prescribed")]
            (raw,) = b.add(node.op, *inputs, names=name, absorbs=(node,))
            b.replace(node.output, _moved(b, raw, grid, result.dtype, node))
            return True
        b.add(node.op, *inputs, like=node)
        return True


def _changes(graph: Graph, node: Node) -> Iterator[str]:
    """Yield what has to change so that a kernel takes a node."""
    result = quantized_by(graph, node)
    rule = node.op.quant_rule()
    if result is None or rule is None:
        return
    if isinstance(rule.output, SameAsInput):
        count = len(_elsewhere(graph, node, result))
        if count:
            yield f"{count} of its operands moved to the grid of its result, {result.params}"
    if (grid := _given(graph, node, result)) is not None:
        yield f"its result comes on {grid} and is moved to {result.params}"
    if _loose_bias(graph, node) is not None:
        yield "its bias is stored anew, on the grid of its products"


def _given(graph: Graph, node: Node, result: Quantize) -> QuantParams | None:
    """Return the grid that a kernel's result comes on, if it has to be moved from there."""
    rule = node.op.quant_rule()
    if rule is not None and isinstance(rule.output, Fixed):
        grid = prescribed(rule.output, result.dtype)
        return grid if grid != result.params else None
    linear = isinstance(node.op, Resize) and node.op.mode == "linear"
    if not linear and not isinstance(node.op, AveragePool):
        return None
    source = graph.producers.get(node.inputs[0])
    if source is None or not isinstance(source.op, Dequantize) or not is_plain(source.op):
        return None
    if source.op.dtype is not result.dtype:
        return None
    ends, room = (_ends(op.params, op.dtype) for op in (source.op, result))
    half = result.params.scale[0] / 2
    return source.op.params if ends[0] < room[0] - half or ends[1] > room[1] + half else None


def _ends(grid: QuantParams, dtype: DType) -> tuple[float, float]:
    """Return the least and the largest number on a grid."""
    (scale,), (zero,), (lowest, highest) = grid.scale, grid.zero_point, dtype.limits
    return (lowest - zero) * scale, (highest - zero) * scale


def _elsewhere(graph: Graph, node: Node, result: Quantize) -> list[int]:
    """Return the operands that are to be moved to the grid of the result."""
    if _given(graph, node, result) is not None:
        return []
    found: list[int] = []
    for i, value in enumerate(node.inputs):
        if value not in node.data:
            continue
        source = graph.producers.get(value)
        if source is None or not isinstance(source.op, Dequantize):
            return []
        if (source.op.params, source.op.dtype) != (result.params, result.dtype):
            found.append(i)
    return found


def _loose_bias(graph: Graph, node: Node) -> int | None:
    """Return the operand that is a bias off its grid, beside quantized data and weights."""
    rule = node.op.quant_rule()
    biases = [i for i in range(len(node.inputs)) if rule and rule.role(i) is Role.BIAS]
    grid = _product(graph, node)
    if not biases or grid is None:
        return None
    (bias,) = biases
    value = node.inputs[bias]
    source = graph.producers.get(value)
    array = graph.constant(value if source is None else source.inputs[0])
    if array is None or (source is not None and not isinstance(source.op, Dequantize)):
        return None
    held = None if source is None else source.op
    real = dequantize_array(array, held.params) if isinstance(held, Dequantize) else array
    if float((np.abs(real) / np.array(grid.scale)).max(initial=0)) >= 2**31:
        return None  # it would be cut off
    if not isinstance(held, Dequantize):
        return bias
    same = len(held.params.scale) in (1, len(grid.scale)) and np.allclose(
        held.params.scale, grid.scale, rtol=1e-6, atol=0
    )
    fits = held.dtype is DType.INT32 and same and not any(held.params.zero_point)
    return None if fits and len(held.params.scale) == len(grid.scale) else bias


def _product(graph: Graph, node: Node) -> QuantParams | None:
    """Return the grid of the products of data and weights."""
    rule, sources = node.op.quant_rule(), [graph.producers.get(v) for v in node.inputs[:2]]
    grids = [s.op for s in sources if s is not None and isinstance(s.op, Dequantize)]
    if rule is None or len(grids) != 2 or grids[0].params.axis is not None:
        return None
    if grids[1].params.axis not in (None, rule.channel):
        return None  # then the scales are not those of the results
    x, w = grids[0].params, grids[1].params
    scales = tuple(float(np.float32(x.scale[0]) * np.float32(s)) for s in w.scale)
    if not all(s > 0 and np.isfinite(s) for s in scales):
        return None
    return QuantParams(scales, (0,) * len(scales), 0 if len(scales) > 1 else None)


def _stored_bias(b: Builder, node: Node, position: int) -> Value:
    grid = _product(b.source, node)
    value = node.inputs[position]
    source = b.source.producers.get(value)
    held = None if source is None else source.op
    array = b.source.constant(value if source is None else source.inputs[0])
    if grid is None or array is None:
        raise InternalError(f"{node.layer} has no bias to store")
    real = array if not isinstance(held, Dequantize) else dequantize_array(array, held.params)
    stored = b.constant(quantize_array(real, grid, DType.INT32), near=f"{value.name}.stored")
    names = [b.fresh(f"{value.name}.real")]
    (bias,) = b.add(Dequantize(grid, DType.INT32), stored, names=names, absorbs=(node,))
    return bias


def _moved(b: Builder, value: Value, grid: QuantParams, dtype: DType, node: Node) -> Value:
    """Return a value after a step to another grid."""
    names = [b.fresh(f"{value.name}.moved")]
    (stored,) = b.add(Quantize(grid, dtype), value, names=names, absorbs=(node,))
    names = [b.fresh(f"{value.name}.real")]
    (real,) = b.add(Dequantize(grid, dtype), stored, names=names, absorbs=(node,))
    return real
