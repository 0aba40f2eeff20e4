"""Insert quantize-dequantize pairs, so that runtimes compute on integers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.calibration import Calibration
from edgec.errors import Diagnostic, InternalError
from edgec.ir import Array, Builder, DType, Fixed, Graph, Node, QuantParams, Role, Value
from edgec.ops import Dequantize, MatMul, Mul, Quantize, quantize_array
from edgec.passes.base import Lossy, Pass, Promise
from edgec.passes.quantization_plan import Plan, plan
from edgec.passes.scheme import Scheme
from edgec.passes.weight_grids import next_power_of_two, weight_params

__all__ = ["QuantizeGraph", "activation_params"]


_NONE = Calibration(MappingProxyType({}), "none", 0)

_ROOM = 2.0
"""How many times as far as what was seen grids of 16 bits reach: other inputs reach further
than samples, and a bit of 16 is nothing beside the rounding of 8-bit weights."""

_Range = tuple[float, float]
_Params = dict[tuple[Value, DType], QuantParams]
"""The grid of each group of values, by what it is stored as."""


@dataclass(frozen=True, slots=True)
class QuantizeGraph(Pass):
    """Quantize every layer that has a rule: int8 weights, 8- or 16-bit activations.

    Weights are symmetric with one scale an output channel, ``s_w = max|w| / weight_max``, or
    one for all; those of 4 bits have the scale of the least squared error.
    Activations have one scale and zero point a tensor, from the calibrated range ``[a, b]``
    around zero: ``s = (b - a) / 255`` and ``z = round(qmin - a / s)``; symmetric ones
    ``s = max(-a, b) / 127`` and the middle of the integers, 0 or 128. Those of 16 bits are
    symmetric and reach twice as far, ``s = 2 max(-a, b) / 32767``. Where scales are to be
    powers of two, ``s`` is the next one. Biases are int32, with scale ``s_x * s_w`` and zero
    point 0; where a bias would not fit, because a channel's weights are next to nothing, that
    channel's ``s_w`` is raised until it does.

    So are biases beside 16 bits, although kernels add them to sums of 64: no operator of ONNX
    dequantizes int64. Where a scale has to be raised for that, a step of a weight moves the sum
    by no more than ``2^-15`` of the bias, which is of the size of a step of the result. Targets
    whose kernels read wider biases widen them as they write.

    Operators that only move values, and those whose runtime kernels demand it, share the
    parameters of what they move; ranges that meet so are joined. Layers named in `keep_float`
    stay as they are, so do those in `spared`, whose integers would lose too much; those in
    `whole` have 8-bit weights whatever the scheme packs. Those in `wide` have 8-bit weights,
    too, between activations of 16 bits, where the scheme has them of 8. A value is stored as
    the layer that makes it says; a layer of the other width reads it through a step from one
    grid to the other. Both come from one range, but where a value has a grid of 16 bits beside
    one of 8, that covers all that calibration saw: with so many steps nothing is gained by
    cutting off.

    Lossy. The result is a QDQ graph: it runs in ONNX Runtime as it is.

    References
    ----------
    Jacob et al., arXiv:1712.05877. LiteRT 8-bit quantization specification.
    """

    name: ClassVar[str] = "quantize"
    promise: ClassVar[Promise] = Lossy()
    calibration: Calibration = field(default=_NONE, hash=False)
    scheme: Scheme = field(default_factory=Scheme)
    keep_float: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()

    @override
    def run(self, graph: Graph) -> Graph:
        return _Quantizer(graph, self).graph()

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        made = self.plan(graph)
        return (*made.reasons, *_unfit(graph, made, self.scheme))

    def plan(self, graph: Graph) -> Plan:
        """Return which nodes of a graph are quantized."""
        ranges = self.calibration.ranges
        return plan(graph, self.keep_float, self.scheme, ranges, self.spared, self.wide)

    def grids(self, graph: Graph) -> Mapping[Value, QuantParams]:
        """Return the grid of every activation that is quantized, in the scheme's own type."""
        made = _Quantizer(graph, self)
        dtype = self.scheme.activation
        return {v: made.params[root, dtype] for v, root in made.plan.group_of.items()}

    def weights_of(self, node: Node) -> tuple[DType, int]:
        """Return element type and largest integer of the weights of a layer."""
        whole = {*self.whole, *self.wide}
        if whole.isdisjoint((*node.origin, *node.output_names)):
            return self.scheme.weights_of(node.op)
        return DType.INT8, self.scheme.weight_max


class _Quantizer:
    """Rewrites one graph; dropped afterwards."""

    def __init__(self, graph: Graph, step: QuantizeGraph) -> None:
        self.source, self.step, self.scheme = graph, step, step.scheme
        self.b = Builder(graph)
        self.plan = step.plan(graph)
        self.dequantized: dict[tuple[Value, DType], Value] = {}
        self.stored: dict[tuple[str, QuantParams, DType], Value] = {}
        """Constants on their grids: layers that share weights go on to share them."""
        self.params = self._all_params()

    def graph(self) -> Graph:
        for node in self.source.nodes:
            if node.output_names not in self.plan.nodes:
                self.b.copy(node)
            else:
                self._quantize(node)
        return self.b.finish()

    def _type(self, node: Node) -> DType:
        """Return what a planned node stores its activations as."""
        return self.plan.types[node.output_names]

    def _params(self, value: Value, dtype: DType) -> QuantParams:
        return self.params[self.plan.group_of[value], dtype]

    def _all_params(self) -> _Params:
        """Return the parameters of every group of activations, in each type it may have."""
        types = dict.fromkeys((self.scheme.activation, *self.plan.types.values()))
        found: _Params = {}
        for dtype in types:
            scheme = replace(self.scheme, activation=dtype)
            seen = self._seen if dtype is not self.scheme.activation else {}
            room = _ROOM if dtype is DType.INT16 else 1.0
            for root, (low, high) in self._ranges(seen).items():
                fixed = self.plan.fixed.get(root)
                found[root, dtype] = (
                    activation_params(
                        room * low,
                        room * high,
                        dtype,
                        symmetric=scheme.symmetric,
                        power_of_two=scheme.power_of_two,
                    )
                    if fixed is None
                    else fixed_params(fixed, scheme)
                )
        self._raise_scales(found)
        return found

    def _ranges(self, seen: Mapping[str, _Range]) -> dict[Value, _Range]:
        """Return the range of each group, which holds those of all its values.

        Parameters
        ----------
        seen
            Ranges, by name, that reach further than the calibrated ones.
        """
        ranges: dict[Value, _Range] = {}
        for value, root in self.plan.group_of.items():
            known = ranges.get(root), self._range(value), seen.get(value.name)
            ends = [end for pair in known if pair is not None for end in pair]
            ranges[root] = min(0.0, *ends), max(0.0, *ends)
        return ranges

    @property
    def _seen(self) -> dict[str, _Range]:
        """Return the least and largest number of every value, as far as calibration says."""
        report = self.step.calibration.report
        return {} if report is None else {t.name: t.seen for t in report.tensors}

    def _raise_scales(self, found: _Params) -> None:
        """Raise the scales of results that are next to nothing beside one product step.

        Kernels refuse a ratio ``s_a * s_b / s_y`` of 2^8 and more (XNNPACK, for convolutions
        and products). A result whose whole range is below one step of its products holds no
        information, so that a coarser grid loses none.
        """
        for node in self.source.nodes:
            product = self._product_scale(node, found)
            group = self.plan.group_of.get(node.outputs[0]) if product else None
            if group is None or group in self.plan.fixed or product is None:
                continue
            root = group, self._type(node)
            least = float(np.float32(product / 128))
            params = found[root]
            if params.scale[0] < least:
                found[root] = QuantParams((least,), params.zero_point)

    def _product_scale(self, node: Node, found: _Params) -> float | None:
        """Return the largest scale of a product that a planned node adds up."""
        if node.output_names not in self.plan.nodes or len(node.inputs) < 2:
            return None
        group_of, dtype = self.plan.group_of, self._type(node)
        if self.plan.role(node, 1) is Role.WEIGHT:
            weight = self.source.constant(node.inputs[1])
            top = 0.0 if weight is None else float(np.abs(weight).max(initial=0.0))
            second = top / self.step.weights_of(node)[1]
            if self.scheme.power_of_two:
                second = float(next_power_of_two(np.array(second)))
        elif isinstance(node.op, Mul | MatMul):
            second = found[group_of[node.inputs[1]], dtype].scale[0]
        else:
            return None
        return found[group_of[node.inputs[0]], dtype].scale[0] * second

    def _range(self, value: Value) -> _Range:
        array = self.source.constant(value)
        if array is not None:
            return float(array.min(initial=0.0)), float(array.max(initial=0.0))
        if not self.plan.needs_range(value):
            return 0.0, 0.0  # even if it is known: that of its group follows from others
        found = self.step.calibration.ranges.get(value.name)
        if found is None:
            raise InternalError(f"%{value.name} was not calibrated")
        return found

    def _quantize(self, node: Node) -> None:
        inputs = [self._operand(node, i, v) for i, v in enumerate(node.inputs)]
        if len(inputs) > 1 and self.plan.role(node, 1) is Role.WEIGHT:
            inputs[1:] = self._layer_parameters(node, inputs[0])
        names = [self.b.fresh(f"{v.name}.float") for v in node.outputs]
        found = self.b.add(node.op, *inputs, names=names, absorbs=(node,))
        dtype = self._type(node)
        for value, raw in zip(node.outputs, found, strict=True):
            grid = self._params(value, dtype), dtype
            dequantized = self._pair(raw, *grid, value.name, value.name, node)
            self.b.replace(value, dequantized)
            self.dequantized[value, dtype] = dequantized

    def _operand(self, node: Node, index: int, value: Value) -> Value:
        """Return an operand after dequantization; weights and biases come separately."""
        if value.is_absent or self.plan.role(node, index) is not Role.ACTIVATION:
            return self.b.now(value)
        key = value, dtype = value, self._type(node)
        if key in self.dequantized:
            return self.dequantized[key]
        params, now = self._params(value, dtype), self.b.now(value)
        array = self.b.array(now)
        name = value.name
        if array is not None:
            done = self._constant(array, params, dtype, name)
        else:
            done = self._pair(
                now, params, dtype, name, self.b.fresh(f"{name}.dequantized"), None
            )
        self.dequantized[key] = done
        return done

    def _pair(
        self,
        x: Value,
        params: QuantParams,
        dtype: DType,
        near: str,
        name: str,
        node: Node | None,
    ) -> Value:
        """Add a quantize, and a dequantize whose output is called `name`."""
        origin = () if node is None else (node,)
        names = [self.b.fresh(f"{near}.quantized")]
        (q,) = self.b.add(Quantize(params, dtype), x, names=names, absorbs=origin)
        return self.b.add(Dequantize(params, dtype), q, names=[name], absorbs=origin)[0]

    def _constant(
        self,
        array: Array,
        params: QuantParams,
        dtype: DType,
        near: str,
        most: int | None = None,
    ) -> Value:
        key = near, params, dtype
        if key not in self.stored:
            on_grid = quantize_array(array, params, dtype, most=most)
            self.stored[key] = self.b.constant(on_grid, near=f"{near}.quantized")
        stored = self.stored[key]
        names = [self.b.fresh(f"{near}.dequantized")]
        (d,) = self.b.add(Dequantize(params, dtype), stored, names=names)
        return d

    def _layer_parameters(self, node: Node, x: Value) -> list[Value]:
        """Return weight and bias of a layer whose data operand is `x`, dequantized."""
        arrays = [self.b.array(self.b.now(v)) for v in node.inputs[1:]]
        weight, bias = arrays[0], arrays[1] if len(arrays) > 1 else None
        producer = self.b.producer(x)
        if weight is None or producer is None or not isinstance(producer.op, Dequantize):
            raise InternalError(f"{node.layer} was planned without constant weights")
        x_scale = producer.op.params.scale[0]
        y_scale = self._params(node.output, self._type(node)).scale[0]
        rule = self.plan.nodes[node.output_names]
        channel = rule.channel if self.scheme.per_channel else None
        dtype, top = self.step.weights_of(node)
        both = self.scheme.power_of_two
        params = weight_params(weight, channel, top, bias, x_scale, y_scale, power_of_two=both)
        values = [self._constant(weight, params, dtype, node.inputs[1].name, top)]
        if bias is not None:
            scales = tuple(float(np.float32(x_scale) * np.float32(s)) for s in params.scale)
            zeros = (0,) * len(scales)
            axis_params = QuantParams(scales, zeros, None if channel is None else 0)
            name = node.inputs[2].name
            values.append(self._constant(bias, axis_params, DType.INT32, name))
        return values


def activation_params(
    low: float,
    high: float,
    dtype: DType,
    *,
    symmetric: bool = False,
    power_of_two: bool = False,
) -> QuantParams:
    """Return scale and zero point that cover ``[low, high]``, which holds zero.

    Parameters
    ----------
    symmetric
        Whether the zero point is in the middle of the integers. Of 16 bits it always is.
    power_of_two
        Whether the scale is a power of two.
    """
    symmetric = symmetric or dtype is DType.INT16
    lowest, highest = dtype.limits
    middle = (lowest + highest + 1) // 2
    width = (
        max(-low, high) / (highest - middle) if symmetric else (high - low) / (highest - lowest)
    )
    scale = float(np.float32(width))
    if not scale > np.finfo(np.float32).tiny:
        scale = 1 / (highest - lowest)  # a value that is always zero: any scale will do
    if power_of_two:
        scale = float(next_power_of_two(np.array(scale)))
    zero = middle if symmetric else int(np.clip(np.rint(lowest - low / scale), lowest, highest))
    return QuantParams((float(np.float32(scale)),), (zero,))


def fixed_params(fixed: Fixed, scheme: Scheme) -> QuantParams:
    """Return the parameters of a result whose range is known: ``[low, high)`` in 256 steps.

    Kernels that demand these have no others; otherwise the scheme is obeyed. Of 16 bits they
    are symmetric in any case.
    """
    lowest, highest = scheme.activation.limits
    scale = (fixed.high - fixed.low) / (highest - lowest + 1)
    given = QuantParams((scale,), (lowest - round(fixed.low / scale),))
    middle = (lowest + highest + 1) // 2
    free = scheme.symmetric and not scheme.prescribes
    if not free and scheme.activation is not DType.INT16:
        return given
    return QuantParams((max(-fixed.low, fixed.high) / (highest + 1 - middle),), (middle,))


def _unfit(graph: Graph, made: Plan, scheme: Scheme) -> Iterator[Diagnostic]:
    """Yield the layers whose result is on a grid that contradicts the scheme."""
    if not scheme.symmetric:
        return
    lowest, highest = scheme.activation.limits
    for node in graph.nodes:
        rule = made.nodes.get(node.output_names)
        if rule is None or not isinstance(rule.output, Fixed):
            continue
        if made.types[node.output_names] is not scheme.activation:
            continue
        grid = fixed_params(rule.output, scheme)
        if grid.zero_point[0] != (lowest + highest + 1) // 2:
            yield Diagnostic(
                f"{node.op}: its result is not symmetric, because the kernel prescribes "
                f"scale {grid.scale[0]:g} and zero point {grid.zero_point[0]}",
                node.layer,
            )
