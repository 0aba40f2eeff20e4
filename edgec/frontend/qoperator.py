"""Operators on integers with their scales (QOperator form), as the floats they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import onnx
from onnx import helper

from edgec.ir import Array, DType, TensorType, Value

__all__ = ["READ_IN_PAIRS", "InPairs"]


@dataclass(frozen=True, slots=True)
class _Form:
    """Where the inputs of a node are; a scale and a zero point follow each number on integers.

    Parameters
    ----------
    data
        Operands on integers.
    result
        The scale of the result, which its zero point follows.
    plain
        An operand before these that is no number.
    bias
        The operand on int32, whose scale is the product of those of the others.
    """

    op_type: str
    data: tuple[int, ...]
    result: int
    plain: tuple[int, ...] = ()
    bias: int | None = None


_MICROSOFT = "com.microsoft"
_CONV = _Form("Conv", (0, 3), 6, bias=8)

_FORMS: Mapping[tuple[str, str], _Form] = MappingProxyType(
    {
        ("", "QLinearConv"): _CONV,
        ("", "QLinearMatMul"): _Form("MatMul", (0, 3), 6),
        (_MICROSOFT, "QLinearConv"): _CONV,
        (_MICROSOFT, "QGemm"): _Form("Gemm", (0, 3), 7, bias=6),
        (_MICROSOFT, "QLinearWhere"): _Form("Where", (1, 4), 7, plain=(0,)),
        (_MICROSOFT, "QLinearConcat"): _Form("Concat", (), 0),  # its operands are counted
    }
    | {(_MICROSOFT, f"QLinear{name}"): _Form(name, (0, 3), 6) for name in ("Add", "Mul")}
    | {
        (_MICROSOFT, f"QLinear{name}"): _Form(name, (0,), 3)
        for name in ("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax")
    }
)
_ALL_TYPES_OPSET = 21  # the first in which QuantizeLinear knows more types than these
_OLD_TYPES = {DType.FLOAT32, DType.INT8, DType.UINT8, DType.INT32, DType.BOOL, DType.INT64}
_CONTRIB = {(_MICROSOFT, "QuantizeLinear"), (_MICROSOFT, "DequantizeLinear")}

READ_IN_PAIRS: Mapping[str, str] = MappingProxyType(
    {name: form.op_type for (domain, name), form in _FORMS.items() if not domain}
)
"""Operators of the standard that are another one in the graph, between pairs."""

_SOFTMAX_OF_ONE_AXIS = 13  # the opset since which it is


@dataclass(slots=True)
class InPairs:
    """Writes nodes on integers as float operators between dequantized and quantized values.

    Scales and zero points are the node's own, exactly; the bias of a layer has the scale
    ``x_scale * w_scale``. The sum is computed in float32 and divided by the result's scale,
    where an integer kernel multiplies its sum by one rounded factor: a result that lies
    halfway between two integers may become the other one. Nothing else differs, but for kernels
    that are approximations themselves.

    Parameters
    ----------
    opset
        Of the default domain, that the new nodes have at least.
    values
        What is known by name.
    array
        Returns the array of a constant.
    fresh
        Returns a name that nothing has yet.
    """

    opset: int
    values: Mapping[str, Value]
    array: Callable[[Value], Array | None]
    fresh: Callable[[str], str]
    constants: dict[str, Array] = field(default_factory=dict)
    """What the nodes of the last call read beside what there was."""
    _real: dict[tuple[str, ...], str] = field(default_factory=dict)

    def nodes(self, proto: onnx.NodeProto, domain: str, layer: str) -> list[onnx.NodeProto]:
        """Return the nodes that stand for one, all of the same layer.

        None if it is any other operator, if an attribute says what no float operator does, if
        scales do not tell along which axis they are, or if something is missing.
        """
        self.constants = {}
        form = _FORMS.get((domain, proto.op_type))
        if form is None and (domain, proto.op_type) not in _CONTRIB:
            return []
        node = onnx.NodeProto()
        node.CopyFrom(proto)
        node.name = layer
        if form is None:
            return self._standard(node)
        attributes = {a.name: a for a in node.attribute}
        if "channels_last" in attributes and attributes["channels_last"].i:
            return []
        data = form.data or tuple(range(2, len(node.input), 3))
        if not _complete(node, form, data, attributes):
            return []
        per_row = form.op_type == "Conv" or ("transB" in attributes and attributes["transB"].i)
        axes = (-2, 0 if per_row else -1) if len(form.data) > 1 else (0,) * len(data)
        made: list[onnx.NodeProto] = []
        operands = [node.input[at] for at in form.plain]
        for at, axis in zip(data, axes, strict=True):
            operands.append(self._dequantized(node, at, axis, made))
        if form.bias is not None and _given(node, form.bias):
            operands.append(self._bias(node, form.bias, attributes, made))
        if not all(operands):
            return []
        result = node.output[0]
        real = self.fresh(f"{result}.float") if _given(node, form.result) else result
        if form.op_type == "Softmax":
            made += self._softmax(node, attributes, operands[0], real)
        else:
            made.append(helper.make_node(form.op_type, operands, [real], node.name))
            kept = (a for name, a in attributes.items() if name != "channels_last")
            made[-1].attribute.extend(kept)
        if real != result:
            made.append(self._quantize(node, form.result, data[0], real))
        return made

    def opset_of(self, node: onnx.NodeProto) -> int:
        """Return the opset of a node of `nodes`, once what it reads is known."""
        types = {self.values[name].type.dtype for name in node.input if name}
        return self.opset if types <= _OLD_TYPES else max(self.opset, _ALL_TYPES_OPSET)

    @staticmethod
    def _standard(node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return the standard's form of ONNX Runtime's own quantize or dequantize.

        They came before the standard's had axes, and integers of 16 bits.
        """
        node.domain = ""
        return [node] if all(_given(node, at) for at in (0, 1)) else []

    def _known(self, name: str) -> Array | None:
        return self.array(self.values[name]) if name in self.values else None

    def _constant(self, array: Array, near: str) -> str:
        name = self.fresh(near)
        self.constants[name] = array
        return name

    def _dequantized(
        self, node: onnx.NodeProto, at: int, axis: int, made: list[onnx.NodeProto]
    ) -> str:
        """Return the name of an operand in real numbers; "" if that cannot be told."""
        inputs = [*node.input[at : at + 2], *_optional(node, at + 2)]
        scale = self.values[inputs[1]].type
        if scale.dims is None or scale.rank > 1:
            return ""
        key = (*inputs, "" if scale.is_static and scale.size == 1 else str(axis))
        if key in self._real:
            return self._real[key]
        zero = self._known(inputs[2]) if len(inputs) > 2 else None
        if len(inputs) > 2 and self.values[inputs[2]].type.dims != scale.dims:
            if zero is None or zero.size != 1 or not scale.is_static:
                return ""
            spread = np.broadcast_to(zero.reshape(()), scale.ints)
            inputs[2] = self._constant(spread, inputs[2])
        real = self.fresh(f"{inputs[0]}.real")
        made.append(_linear("DequantizeLinear", inputs, real, node.name, axis, scale))
        self._real[key] = real
        return real

    def _bias(
        self,
        node: onnx.NodeProto,
        at: int,
        attributes: Mapping[str, onnx.AttributeProto],
        made: list[onnx.NodeProto],
    ) -> str:
        """Return the name of the bias in real numbers; its scale is that of the products."""
        scales = [self._known(node.input[k]) for k in (1, 4)]
        x, w = (None if s is None else s.astype(np.float32) for s in scales)
        if x is None or w is None or x.size != 1:
            return ""
        alpha = np.float32(attributes["alpha"].f if "alpha" in attributes else 1)
        product = np.asarray(alpha * x.reshape(()) * w)
        name = self._constant(product, f"{node.input[at]}.scale")
        real = self.fresh(f"{node.input[at]}.real")
        grid = TensorType(self.values[node.input[4]].type.dtype, product.shape)
        inputs = [node.input[at], name]
        made.append(_linear("DequantizeLinear", inputs, real, node.name, -1, grid))
        return real

    def _softmax(
        self,
        node: onnx.NodeProto,
        attributes: Mapping[str, onnx.AttributeProto],
        x: str,
        result: str,
    ) -> list[onnx.NodeProto]:
        """Return a softmax; over all axes from one on, which it was before opset 13."""
        modern = attributes["opset"].i >= _SOFTMAX_OF_ONE_AXIS
        axis = attributes["axis"].i if "axis" in attributes else -1
        dims = self.values[node.input[0]].type.dims
        if modern or axis == -1 or (dims is not None and axis == len(dims) - 1):
            return [helper.make_node("Softmax", [x], [result], node.name, axis=axis)]
        flat, rows, shape = (self.fresh(f"{result}.{k}") for k in ("flat", "rows", "shape"))
        return [
            helper.make_node("Flatten", [x], [flat], node.name, axis=axis),
            helper.make_node("Softmax", [flat], [rows], node.name, axis=-1),
            helper.make_node("Shape", [x], [shape], node.name),
            helper.make_node("Reshape", [rows, shape], [result], node.name),
        ]

    def _quantize(self, node: onnx.NodeProto, at: int, like: int, real: str) -> onnx.NodeProto:
        zero = list(_optional(node, at + 1))
        if not zero:  # then the result is of the type of the data
            dtype = self.values[node.input[like]].type.dtype.numpy
            shape = self.values[node.input[at]].type.dims or ()
            whole = np.zeros([d for d in shape if isinstance(d, int)], dtype)
            zero = [self._constant(whole, f"{real}.zero")]
        inputs = [real, node.input[at], *zero]
        scale = self.values[node.input[at]].type
        return _linear("QuantizeLinear", inputs, node.output[0], node.name, 0, scale)


def _linear(
    op_type: str, inputs: Sequence[str], output: str, layer: str, axis: int, scale: TensorType
) -> onnx.NodeProto:
    """Return a node that quantizes or dequantizes, with an axis where that matters."""
    node = helper.make_node(op_type, inputs, [output], layer)
    if not scale.is_static or scale.size != 1:
        node.attribute.append(helper.make_attribute("axis", axis))
    return node


def _complete(
    node: onnx.NodeProto,
    form: _Form,
    data: Sequence[int],
    attributes: Mapping[str, onnx.AttributeProto],
) -> bool:
    """Whether a node has all that the operator needs; nobody has checked other domains."""
    needed = [*form.plain, *data, *(at + 1 for at in data)]
    needed += [] if form.op_type == "Gemm" else [form.result]
    said = form.op_type != "Softmax" or "opset" in attributes
    return bool(data) and said and all(_given(node, at) for at in needed)


def _given(node: onnx.NodeProto, at: int) -> bool:
    return at < len(node.input) and node.input[at] != ""


def _optional(node: onnx.NodeProto, at: int) -> Sequence[str]:
    return [node.input[at]] if _given(node, at) else []
