"""A program as a ``.tflite`` file again, so that whatever runs those runs what passes made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.ir import Array, DType, QuantParams
from edgec.program import operators as ops
from edgec.program.operators import Activation, Operator, Pads
from edgec.program.program import Layer, Program, Step
from edgec.program.tables import DTYPES
from edgec.program.tensors import Tensor

__all__ = ["write_program"]

_TYPES = {dtype: number for number, dtype in DTYPES.items()}
_ALIGNMENT = 16  # schema.fbs: Buffer.data is aligned so that kernels may read it in place
_ACTIVATIONS: Mapping[Activation, int] = MappingProxyType(
    {
        "none": schema.ActivationFunctionType.NONE,
        "relu": schema.ActivationFunctionType.RELU,
        "relu_n1_to_1": schema.ActivationFunctionType.RELU_N1_TO_1,
        "relu6": schema.ActivationFunctionType.RELU6,
    }
)


def write_program(program: Program) -> bytes:
    """Return the file; equal programs give equal bytes.

    Tensors keep their numbers; the constants that the format wants in the place of options
    follow behind. A padding that is neither TFLite's "same" nor none becomes a layer.

    Raises
    ------
    ValueError
        If pooling has such a padding.
    """
    return _File(program).bytes()


@dataclass(slots=True)
class _Form:
    """How a layer is written: its builtin, options and operands."""

    code: str
    inputs: list[int]
    table: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


class _File:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.tensors = list(program.tensors)
        self.buffers: list[Array | None] = [None]
        self.operators: list[Any] = []
        self.codes: list[str] = []
        self.constants: dict[tuple[int, ...], int] = {}

    def bytes(self) -> bytes:
        for step in self.program.steps:
            layer = self.program.layer(step)
            form = _FORMS[type(step.op)](self, step, layer)
            self.operators.append(self.operator(form, step.outputs))
        root, graph = schema.ModelT(), schema.SubGraphT()
        root.version = 3
        root.operatorCodes = [_code(name) for name in self.codes]
        graph.name = self.program.name
        variables = set(self.program.variables)
        graph.tensors = [self.tensor(t, k in variables) for k, t in enumerate(self.tensors)]
        graph.inputs, graph.outputs = list(self.program.inputs), list(self.program.outputs)
        graph.operators = self.operators
        root.subgraphs = [graph]
        root.buffers = [_buffer(array) for array in self.buffers]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(root.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def operator(self, form: _Form, outputs: Sequence[int]) -> Any:
        out = schema.OperatorT()
        if form.code not in self.codes:
            self.codes.append(form.code)
        out.opcodeIndex = self.codes.index(form.code)
        out.inputs, out.outputs = form.inputs, list(outputs)
        if form.table:
            options = getattr(schema, f"{form.table}OptionsT")()
            for name, value in form.options.items():
                setattr(options, name, value)
            out.builtinOptionsType = getattr(schema.BuiltinOptions, f"{form.table}Options")
            out.builtinOptions = options
        return out

    def tensor(self, tensor: Tensor, variable: bool) -> Any:
        out = schema.TensorT()
        out.name, out.shape = tensor.name, list(tensor.shape)
        out.isVariable, out.buffer = variable, 0
        if tensor.dtype not in _TYPES or tensor.dtype is DType.INT4:  # nothing reads it
            out.type = schema.TensorType.INT8
            return out
        out.type = _TYPES[tensor.dtype]
        if tensor.data is not None:
            out.buffer = len(self.buffers)
            self.buffers.append(tensor.data)
        if tensor.grid is not None:
            out.quantization = _quantization(tensor.grid)
        return out

    def add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def ints(self, *numbers: int) -> int:
        """Return the number of a constant list of integers."""
        if numbers not in self.constants:
            array = np.array(numbers, np.int32)
            name = f"numbers {len(self.constants)}"
            self.constants[numbers] = self.add(
                Tensor(name, DType.INT32, array.shape, data=array)
            )
        return self.constants[numbers]

    def pairs(self, pads: Sequence[ops.Pair]) -> int:
        """Return the number of a constant list of paddings."""
        array = np.array(pads, np.int32).reshape(len(pads), 2)
        return self.add(Tensor("paddings", DType.INT32, array.shape, data=array))

    def padded(self, step: Step, layer: Layer, pads: Pads) -> int:
        """Pad the operand of a layer before it, and return the number of what it reads then."""
        x = layer.input(0)
        whole = ((0, 0), *pads, (0, 0))
        shape = tuple(d + a + b for d, (a, b) in zip(x.shape, whole, strict=True))
        out = self.add(Tensor(f"{x.name} padded", x.dtype, shape, x.grid))
        form = _Form("PAD", [step.inputs[0], self.pairs(whole)], "Pad")
        self.operators.append(self.operator(form, [out]))
        return out


def _code(name: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = 1
    return code


def _quantization(grid: QuantParams) -> Any:
    out = schema.QuantizationParametersT()
    out.scale = np.array(grid.scale, np.float32)
    out.zeroPoint = np.array(grid.zero_point, np.int64)
    out.quantizedDimension = grid.axis or 0
    return out


def _buffer(array: Array | None) -> Any:
    out = _Aligned()
    if array is not None:
        out.data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return out


class _Aligned(schema.BufferT):  # type: ignore[misc]
    """A buffer whose contents lie where kernels may read them in place."""

    def Pack(self, builder: Any) -> int:  # noqa: N802
        data = None
        if self.data is not None:
            builder.StartVector(1, self.data.size, _ALIGNMENT)
            builder.head -= self.data.size
            builder.Bytes[builder.head : builder.head + self.data.size] = self.data.tobytes()
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return int(schema.BufferEnd(builder))


# ---- forms of layers


def _padding(
    layer: Layer, window: ops.Pair, strides: ops.Pair, pads: Pads, dilations: ops.Pair
) -> int | None:
    """Return the padding of TFLite that a layer has, if there is one."""
    if pads == ((0, 0), (0, 0)):
        return int(schema.Padding.VALID)
    for axis in range(2):
        length = layer.input(0).shape[axis + 1]
        reach = (window[axis] - 1) * dilations[axis] + 1
        total = (math.ceil(length / strides[axis]) - 1) * strides[axis] + reach - length
        total = max(total, 0)
        if pads[axis] != (total // 2, total - total // 2):
            return None
    return int(schema.Padding.SAME)


def _window_options(op: Any, padding: int) -> dict[str, Any]:
    return {
        "padding": padding,
        "strideH": op.strides[0],
        "strideW": op.strides[1],
        "fusedActivationFunction": _ACTIVATIONS[op.activation],
    }


def _conv(file: _File, step: Step, layer: Layer) -> _Form:
    op = layer.op
    assert isinstance(op, (ops.Conv, ops.DepthwiseConv))
    w = layer.input(1)
    inputs = list(step.inputs)
    padding = _padding(layer, w.shape[1:3], op.strides, op.pads, op.dilations)  # type: ignore[arg-type]
    if padding is None:
        inputs[0] = file.padded(step, layer, op.pads)
        padding = schema.Padding.VALID
    options = {
        **_window_options(op, padding),
        "dilationHFactor": op.dilations[0],
        "dilationWFactor": op.dilations[1],
    }
    if isinstance(op, ops.Conv):
        return _Form(op.code, inputs, "Conv2D", options)
    options["depthMultiplier"] = w.shape[3] // layer.input(0).shape[3]
    return _Form(op.code, inputs, "DepthwiseConv2D", options)


def _pool(file: _File, step: Step, layer: Layer) -> _Form:
    op = layer.op
    assert isinstance(op, (ops.AveragePool, ops.MaxPool))
    padding = _padding(layer, op.window, op.strides, op.pads, (1, 1))
    if padding is None:
        raise ValueError(f"TFLite has no such padding for pooling: {op.pads}")
    options = _window_options(op, padding)
    options |= {"filterHeight": op.window[0], "filterWidth": op.window[1]}
    return _Form(op.code, list(step.inputs), "Pool2D", options)


def _fully_connected(file: _File, step: Step, layer: Layer) -> _Form:
    assert isinstance(layer.op, ops.FullyConnected)
    options = {
        "fusedActivationFunction": _ACTIVATIONS[layer.op.activation],
        "keepNumDims": len(layer.output.shape) != 2,
    }
    return _Form(layer.op.code, list(step.inputs), "FullyConnected", options)


def _binary(file: _File, step: Step, layer: Layer) -> _Form:
    op = layer.op
    assert isinstance(op, (ops.Add, ops.Sub, ops.Mul))
    options = {"fusedActivationFunction": _ACTIVATIONS[op.activation]}
    return _Form(op.code, list(step.inputs), type(op).__name__, options)


def _plain(table: str = "", *fields: tuple[str, str]) -> Callable[[_File, Step, Layer], _Form]:
    """Write an operator whose options are called as in the schema, or as told."""

    def write(file: _File, step: Step, layer: Layer) -> _Form:
        options = {name: getattr(layer.op, ours) for ours, name in fields}
        return _Form(layer.op.code, list(step.inputs), table, options)

    return write


def _concatenation(file: _File, step: Step, layer: Layer) -> _Form:
    op = layer.op
    assert isinstance(op, ops.Concatenation)
    options = {"axis": op.axis, "fusedActivationFunction": _ACTIVATIONS[op.activation]}
    return _Form(op.code, list(step.inputs), "Concatenation", options)


def _mean(file: _File, step: Step, layer: Layer) -> _Form:
    assert isinstance(layer.op, ops.Mean)
    keeps = len(layer.output.shape) == len(layer.input(0).shape)
    inputs = [*step.inputs, file.ints(*layer.op.axes)]
    return _Form(layer.op.code, inputs, "Reducer", {"keepDims": keeps})


def _pad(file: _File, step: Step, layer: Layer) -> _Form:
    op, y = layer.op, layer.output
    assert isinstance(op, ops.Pad)
    inputs = [*step.inputs, file.pairs(op.pads)]
    if op.value == (0 if y.grid is None else y.zero_point):
        return _Form("PAD", inputs, "Pad")
    value = np.array([op.value], y.dtype.numpy)
    inputs.append(file.add(Tensor("padding", y.dtype, (1,), y.grid, value)))
    return _Form("PADV2", inputs, "PadV2")


def _reshape(file: _File, step: Step, layer: Layer) -> _Form:
    shape = layer.output.shape
    inputs = [*step.inputs, file.ints(*shape)]
    return _Form(layer.op.code, inputs, "Reshape", {"newShape": list(shape)})


def _transpose(file: _File, step: Step, layer: Layer) -> _Form:
    assert isinstance(layer.op, ops.Transpose)
    return _Form(layer.op.code, [*step.inputs, file.ints(*layer.op.perm)], "Transpose")


def _resize(file: _File, step: Step, layer: Layer) -> _Form:
    op = layer.op
    assert isinstance(op, (ops.ResizeNearest, ops.ResizeBilinear))
    table = "ResizeBilinear" if isinstance(op, ops.ResizeBilinear) else "ResizeNearestNeighbor"
    options = {"alignCorners": op.align_corners, "halfPixelCenters": op.half_pixel_centers}
    return _Form(op.code, [*step.inputs, file.ints(*layer.output.shape[1:3])], table, options)


def _slice(file: _File, step: Step, layer: Layer) -> _Form:
    op, mask = layer.op, 0
    assert isinstance(op, ops.Slice)
    ends = []
    for axis, (start, stride, count) in enumerate(
        zip(op.begin, op.strides, layer.output.shape, strict=True)
    ):
        end = start + count * stride
        if end < 0:  # would count from the end
            mask |= 1 << axis
            end = 0
        ends.append(end)
    inputs = [*step.inputs, file.ints(*op.begin), file.ints(*ends), file.ints(*op.strides)]
    return _Form(op.code, inputs, "StridedSlice", {"endMask": mask})


def _split(file: _File, step: Step, layer: Layer) -> _Form:
    assert isinstance(layer.op, ops.Split)
    axis = layer.op.axis
    lengths = [y.shape[axis] for y in layer.outputs]
    options = {"numSplits": len(lengths)}
    where = file.add(Tensor("axis", DType.INT32, (), data=np.array(axis, np.int32)))
    if len(set(lengths)) == 1:
        return _Form("SPLIT", [where, *step.inputs], "Split", options)
    return _Form("SPLIT_V", [*step.inputs, file.ints(*lengths), where], "SplitV", options)


def _svdf(file: _File, step: Step, layer: Layer) -> _Form:
    assert isinstance(layer.op, ops.Svdf)
    options = {
        "rank": layer.op.rank,
        "fusedActivationFunction": _ACTIVATIONS[layer.op.activation],
    }
    return _Form(layer.op.code, list(step.inputs), "SVDF", options)


def _lstm(file: _File, step: Step, layer: Layer) -> _Form:
    assert isinstance(layer.op, ops.UnidirectionalLstm)
    options = {
        "fusedActivationFunction": schema.ActivationFunctionType.TANH,
        "cellClip": layer.op.cell_clip,
        "timeMajor": layer.op.time_major,
    }
    return _Form(layer.op.code, list(step.inputs), "UnidirectionalSequenceLSTM", options)


_FORMS: Mapping[type[Operator], Callable[[_File, Step, Layer], _Form]] = MappingProxyType(
    {
        ops.Add: _binary,
        ops.AveragePool: _pool,
        ops.BatchMatMul: _plain(
            "BatchMatMul", ("transpose_x", "adjX"), ("transpose_y", "adjY")
        ),
        ops.Concatenation: _concatenation,
        ops.Conv: _conv,
        ops.DepthwiseConv: _conv,
        ops.Dequantize: _plain("Dequantize"),
        ops.FullyConnected: _fully_connected,
        ops.HardSwish: _plain("HardSwish"),
        ops.LeakyRelu: _plain("LeakyRelu", ("alpha", "alpha")),
        ops.Logistic: _plain(),
        ops.MaxPool: _pool,
        ops.Mean: _mean,
        ops.Mul: _binary,
        ops.Pad: _pad,
        ops.Quantize: _plain("Quantize"),
        ops.Relu: _plain(),
        ops.Relu6: _plain(),
        ops.Reshape: _reshape,
        ops.ResizeBilinear: _resize,
        ops.ResizeNearest: _resize,
        ops.Slice: _slice,
        ops.Softmax: _plain("Softmax", ("beta", "beta")),
        ops.Split: _split,
        ops.Sub: _binary,
        ops.Svdf: _svdf,
        ops.Tanh: _plain(),
        ops.Transpose: _transpose,
        ops.UnidirectionalLstm: _lstm,
    }
)
"""How each operator is written."""
