"""Operators of a file as typed ones: masks, paddings and axes in plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgec.ir import DType, QuantParams
from edgec.program import operators as ops
from edgec.program.faults import Fault, require
from edgec.program.operators import Activation, Operator, Pair
from edgec.program.program import Step
from edgec.program.tables import Entry
from edgec.program.tensors import Tensor

__all__ = ["RESOLVERS", "Call", "resolve"]

_MOST_NUMBER = 1 << 15  # more than any window, stride or dilation is
_INT32 = (-(1 << 31), (1 << 31) - 1)


@dataclass(slots=True)
class Call:
    """One operator of a file while it is resolved.

    Parameters
    ----------
    tensors
        Of the whole file; what resolving adds is appended.
    """

    entry: Entry
    tensors: list[Tensor]
    steps: list[Step] = field(default_factory=list)

    def input(self, k: int) -> Tensor:
        """Return an operand that has to be there."""
        require(
            k < len(self.entry.inputs) and self.entry.inputs[k] >= 0, f"operand {k} is missing"
        )
        return self.tensors[self.entry.inputs[k]]

    def output(self, k: int = 0) -> Tensor:
        """Return a result."""
        require(
            k < len(self.entry.outputs) and self.entry.outputs[k] >= 0, f"result {k} is missing"
        )
        return self.tensors[self.entry.outputs[k]]

    def picture(self) -> Tensor:
        """Return the first operand, which has to be a batch of one, height, width, channels."""
        x, y = self.input(0), self.output()
        for t in (x, y):
            require(len(t.shape) == 4, f"{t.name} has {len(t.shape)} axes where 4 are needed")
        require(
            x.shape[0] == 1,
            f"it takes {x.shape[0]} pictures at once",
            "export the model with a batch of 1",
            valid=True,
        )
        return x

    def numbers(self, k: int) -> list[int]:
        """Return the contents of an operand that has to be a constant list of integers."""
        tensor = self.input(k)
        require(
            tensor.data is not None,
            f"{tensor.name} is computed while the model runs, and its shapes depend on it",
            "export the model with fixed shapes",
            valid=True,
        )
        require(
            tensor.dtype in (DType.INT32, DType.INT64) and len(tensor.shape) <= 2,
            f"{tensor.name} is no list of integers",
        )
        assert tensor.data is not None
        require(tensor.data.size <= 16, f"{tensor.name} has {tensor.data.size} entries")
        found = [int(i) for i in tensor.data.reshape(-1)]
        require(
            all(_INT32[0] <= i <= _INT32[1] for i in found), f"{tensor.name} is out of range"
        )
        return found

    def add(self, op: Operator, operands: int | None = None, given: int | None = None) -> None:
        """Add the step that the operator becomes, with the first operands.

        Parameters
        ----------
        operands
            How many of them the step has at most; ``None`` for all.
        given
            How many the file has at most; ``None`` for as many.
        """
        entry = self.entry
        most = operands if given is None else given
        require(
            most is None or len(entry.inputs) <= most, f"it has {len(entry.inputs)} operands"
        )
        inputs = list(entry.inputs[:operands])
        while inputs and inputs[-1] < 0:
            inputs.pop()
        self.steps.append(Step(op, tuple(inputs), entry.outputs, entry.layer))

    def spread(self, k: int, axis: int) -> None:
        """Have the scales of a constant run along the axis of its channels.

        Converters have written other axes there; what counts is how many scales there are.
        """
        if k >= len(self.entry.inputs) or self.entry.inputs[k] < 0:
            return
        tensor = self.tensors[self.entry.inputs[k]]
        grid = tensor.grid
        if grid is None or grid.axis is None or not 0 <= axis < len(tensor.shape):
            return
        require(
            len(grid.scale) == tensor.shape[axis],
            f"{tensor.name} has {len(grid.scale)} scales for {tensor.shape[axis]} channels",
        )
        if grid.axis != axis:
            whole = QuantParams(grid.scale, grid.zero_point, axis)
            self.tensors[self.entry.inputs[k]] = replace(tensor, grid=whole)


def resolve(entry: Entry, tensors: list[Tensor]) -> list[Step]:
    """Return the steps that an operator becomes; tensors between them are appended.

    Raises
    ------
    Fault
        If its options or constant operands make no sense.
    """
    call = Call(entry, tensors)
    RESOLVERS[entry.code](call)
    return call.steps


_ACTIVATIONS: Mapping[int, Activation] = MappingProxyType(
    {
        schema.ActivationFunctionType.NONE: "none",
        schema.ActivationFunctionType.RELU: "relu",
        schema.ActivationFunctionType.RELU_N1_TO_1: "relu_n1_to_1",
        schema.ActivationFunctionType.RELU6: "relu6",
    }
)


def _activation(number: int) -> Activation:
    if number not in _ACTIVATIONS:
        raise Fault(
            f"it fuses the activation {number}, which TFLite Micro does not", valid=True
        )
    return _ACTIVATIONS[number]


def _pair(height: int, width: int, what: str) -> Pair:
    require(
        1 <= height <= _MOST_NUMBER and 1 <= width <= _MOST_NUMBER,
        f"its {what} are {height} by {width}",
    )
    return height, width


def _pads(padding: int, x: Tensor, window: Pair, strides: Pair, dilations: Pair) -> ops.Pads:
    if padding == schema.Padding.VALID:
        return ((0, 0), (0, 0))
    require(padding == schema.Padding.SAME, f"its padding is of the kind {padding}")
    found = []
    for axis in range(2):
        length, stride = x.shape[axis + 1], strides[axis]
        reach = (window[axis] - 1) * dilations[axis] + 1
        total = max((math.ceil(length / stride) - 1) * stride + reach - length, 0)
        found.append((total // 2, total - total // 2))
    return (found[0], found[1])


def _conv(call: Call) -> None:
    o, x, w = call.entry.options("Conv2DOptions"), call.picture(), call.input(1)
    require(len(w.shape) == 4, f"{w.name} has {len(w.shape)} axes where 4 are needed")
    strides = _pair(o.StrideH(), o.StrideW(), "strides")
    dilations = _pair(o.DilationHFactor(), o.DilationWFactor(), "dilations")
    pads = _pads(o.Padding(), x, (w.shape[1], w.shape[2]), strides, dilations)
    call.spread(1, 0)
    call.spread(2, 0)
    call.add(ops.Conv(strides, pads, _activation(o.FusedActivationFunction()), dilations), 3)


def _depthwise(call: Call) -> None:
    o, x, w = call.entry.options("DepthwiseConv2DOptions"), call.picture(), call.input(1)
    require(len(w.shape) == 4, f"{w.name} has {len(w.shape)} axes where 4 are needed")
    strides = _pair(o.StrideH(), o.StrideW(), "strides")
    dilations = _pair(o.DilationHFactor(), o.DilationWFactor(), "dilations")
    pads = _pads(o.Padding(), x, (w.shape[1], w.shape[2]), strides, dilations)
    times = o.DepthMultiplier()
    require(
        times in (0, w.shape[3] // x.shape[3]),
        f"it makes {times} channels of each, and {w.name} has {w.shape[3]} for {x.shape[3]}",
    )
    call.spread(1, 3)
    call.spread(2, 0)
    activation = _activation(o.FusedActivationFunction())
    call.add(ops.DepthwiseConv(strides, pads, activation, dilations), 3)


def _pool(cls: type[ops.AveragePool] | type[ops.MaxPool]) -> Callable[[Call], None]:
    def resolver(call: Call) -> None:
        o, x = call.entry.options("Pool2DOptions"), call.picture()
        strides = _pair(o.StrideH(), o.StrideW(), "strides")
        window = _pair(o.FilterHeight(), o.FilterWidth(), "windows")
        pads = _pads(o.Padding(), x, window, strides, (1, 1))
        call.add(cls(strides, pads, _activation(o.FusedActivationFunction()), window), 1)

    return resolver


def _fully_connected(call: Call) -> None:
    o = call.entry.options("FullyConnectedOptions")
    require(
        o.WeightsFormat() == schema.FullyConnectedOptionsWeightsFormat.DEFAULT,
        "its weights are shuffled, as no microcontroller reads them",
        "convert the model without optimizations for mobile processors",
        valid=True,
    )
    call.spread(1, 0)
    call.spread(2, 0)
    call.add(ops.FullyConnected(_activation(o.FusedActivationFunction())), 3)


def _binary(cls: type[ops.Add | ops.Sub | ops.Mul]) -> Callable[[Call], None]:
    def resolver(call: Call) -> None:
        options = call.entry.options(f"{cls.__name__}Options")
        call.add(cls(_activation(options.FusedActivationFunction())), 2)

    return resolver


def _axis(number: int, rank: int) -> int:
    require(-rank <= number < rank, f"the axis {number} is none of {rank}")
    return number % rank


def _mean(call: Call) -> None:
    rank = len(call.input(0).shape)
    axes = sorted({_axis(a, rank) for a in call.numbers(1)})
    require(bool(axes), "it is a mean over no axis")
    call.add(ops.Mean(tuple(axes)), 1, given=2)


def _softmax(call: Call) -> None:
    beta = float(call.entry.options("SoftmaxOptions").Beta())
    require(math.isfinite(beta) and beta > 0, f"its factor is {beta}")
    call.add(ops.Softmax(beta), 1)


def _leaky(call: Call) -> None:
    alpha = float(call.entry.options("LeakyReluOptions").Alpha())
    require(math.isfinite(alpha), f"its slope is {alpha}")
    call.add(ops.LeakyRelu(alpha), 1)


def _plain(op: Operator, given: int = 1) -> Callable[[Call], None]:
    return lambda call: call.add(op, 1, given)


def _pad(call: Call) -> None:
    x, pads = call.input(0), call.numbers(1)
    require(len(pads) == 2 * len(x.shape), "it has not two paddings for each axis")
    pairs = tuple(zip(pads[0::2], pads[1::2], strict=True))
    grid = call.output().grid
    value: int | float = 0 if grid is None else grid.zero_point[0]
    if call.entry.code == "PADV2" and len(call.entry.inputs) > 2:
        fill = call.input(2)
        require(
            fill.data is not None and fill.size == 1 and fill.dtype is x.dtype,
            f"{fill.name} is no constant of the kind of its operand",
        )
        assert fill.data is not None
        value = fill.data.reshape(-1)[0].item()
    call.add(ops.Pad(pairs, value), 1, given=3)


def _concatenation(call: Call) -> None:
    o = call.entry.options("ConcatenationOptions")
    axis = _axis(o.Axis(), len(call.input(0).shape))
    call.add(ops.Concatenation(axis, _activation(o.FusedActivationFunction())))


def _transpose(call: Call) -> None:
    rank = len(call.input(0).shape)
    perm = tuple(_axis(a, rank) for a in call.numbers(1))
    require(sorted(perm) == list(range(rank)), f"{list(perm)} is no order of {rank} axes")
    call.add(ops.Transpose(perm), 1, given=2)


def _resize(
    cls: type[ops.ResizeNearest] | type[ops.ResizeBilinear], options: str
) -> Callable[[Call], None]:
    def resolver(call: Call) -> None:
        o = call.entry.options(options)
        call.picture()
        size = call.numbers(1)
        require(
            tuple(size) == call.output().shape[1:3],
            f"it resizes to {size}, and its result is {list(call.output().shape)}",
        )
        call.add(cls(bool(o.AlignCorners()), bool(o.HalfPixelCenters())), 1, given=2)

    return resolver


def _slice(call: Call) -> None:
    x, begin, size = call.input(0), call.numbers(1), call.numbers(2)
    rank = len(x.shape)
    require(len(begin) == len(size) == rank, f"it does not tell all of {rank} axes")
    lengths = tuple(
        length - b if s == -1 else s for length, b, s in zip(x.shape, begin, size, strict=True)
    )
    require(lengths == call.output().shape, f"it cuts {list(lengths)} out")
    call.add(ops.Slice(tuple(begin), (1,) * rank), 1, given=3)


def _strided_slice(call: Call) -> None:
    o, x = call.entry.options("StridedSliceOptions"), call.input(0)
    require(
        not o.EllipsisMask() and not o.NewAxisMask() and not o.Offset(),
        "it makes new axes or leaves some out, which TFLite Micro does not",
        "export the model with plain slices and reshapes",
        valid=True,
    )
    starts, ends, strides = (call.numbers(k) for k in (1, 2, 3))
    require(
        len(starts) == len(ends) == len(strides) <= len(x.shape), "its bounds differ in number"
    )
    starts += [0] * (len(x.shape) - len(starts))
    begin, lengths, kept = [], [], []
    for axis, length in enumerate(x.shape):
        told = axis < len(ends)
        stride = strides[axis] if told else 1
        require(stride != 0, "its stride is 0")
        shrink = bool(o.ShrinkAxisMask() >> axis & 1)
        start = None if o.BeginMask() >> axis & 1 and not shrink else starts[axis]
        end = None if o.EndMask() >> axis & 1 or not told else ends[axis]
        if shrink:
            require(-length <= starts[axis] < length, f"there is no index {starts[axis]}")
            begin.append(starts[axis] % length)
            stride, count = 1, 1
        else:
            places = range(*slice(start, end, stride).indices(length))
            require(len(places) > 0, "it cuts nothing out")
            begin.append(places.start)
            count = len(places)
        strides[axis : axis + 1] = [stride]
        lengths.append(count)
        if not shrink:
            kept.append(count)
    y = call.output()
    require(tuple(kept) == y.shape, f"it cuts {kept} out, and its result is {list(y.shape)}")
    op, entry = ops.Slice(tuple(begin), tuple(strides[: len(x.shape)])), call.entry
    if tuple(lengths) == y.shape:
        call.add(op, 1, given=4)
        return
    whole = len(call.tensors)
    call.tensors.append(replace(y, name=f"{y.name} as cut", shape=tuple(lengths)))
    call.steps.append(Step(op, entry.inputs[:1], (whole,), entry.layer))
    call.steps.append(Step(ops.Reshape(), (whole,), entry.outputs, entry.layer))


def _split(data: int, axis: int) -> Callable[[Call], None]:
    def resolver(call: Call) -> None:
        found = call.numbers(axis)
        require(len(found) == 1, "it splits along several axes")
        op = ops.Split(_axis(found[0], len(call.input(data).shape)))
        entry = call.entry
        call.steps.append(Step(op, (entry.inputs[data],), entry.outputs, entry.layer))

    return resolver


def _svdf(call: Call) -> None:
    o = call.entry.options("SVDFOptions")
    require(1 <= o.Rank() <= _MOST_NUMBER, f"its rank is {o.Rank()}")
    call.input(4)
    call.add(ops.Svdf(o.Rank(), _activation(o.FusedActivationFunction())), 5)


_LSTM_OPERANDS = 24
_LSTM_LEFT_OUT = (9, 10, 11, 16, 17, 20, 21, 22, 23)


def _lstm(call: Call) -> None:
    o, entry = call.entry.options("UnidirectionalSequenceLSTMOptions"), call.entry
    require(len(entry.inputs) in (20, _LSTM_OPERANDS), f"it has {len(entry.inputs)} operands")
    extra = [k for k in _LSTM_LEFT_OUT if k < len(entry.inputs) and entry.inputs[k] >= 0]
    require(
        not extra and not o.DiagonalRecurrentTensors(),
        "it has peepholes, a projection or a normalization, which TFLite Micro does not have",
        "train and export the plain LSTM",
        valid=True,
    )
    require(
        o.FusedActivationFunction() == schema.ActivationFunctionType.TANH,
        "its activation is not tanh",
        valid=True,
    )
    clip = float(o.CellClip())
    require(math.isfinite(clip) and clip >= 0, f"it clips its cells at {clip}")
    inputs = (*entry.inputs, *[-1] * (_LSTM_OPERANDS - len(entry.inputs)))
    op = ops.UnidirectionalLstm(bool(o.TimeMajor()), clip)
    call.steps.append(Step(op, inputs, entry.outputs, entry.layer))


def _batch_matmul(call: Call) -> None:
    o = call.entry.options("BatchMatMulOptions")
    call.add(ops.BatchMatMul(bool(o.AdjX()), bool(o.AdjY())), 2)


RESOLVERS: Mapping[str, Callable[[Call], Any]] = MappingProxyType(
    {
        "ADD": _binary(ops.Add),
        "AVERAGE_POOL_2D": _pool(ops.AveragePool),
        "BATCH_MATMUL": _batch_matmul,
        "CONCATENATION": _concatenation,
        "CONV_2D": _conv,
        "DEPTHWISE_CONV_2D": _depthwise,
        "DEQUANTIZE": _plain(ops.Dequantize()),
        "EXPAND_DIMS": _plain(ops.Reshape(), given=2),
        "FULLY_CONNECTED": _fully_connected,
        "HARD_SWISH": _plain(ops.HardSwish()),
        "LEAKY_RELU": _leaky,
        "LOGISTIC": _plain(ops.Logistic()),
        "MAX_POOL_2D": _pool(ops.MaxPool),
        "MEAN": _mean,
        "MUL": _binary(ops.Mul),
        "PAD": _pad,
        "PADV2": _pad,
        "QUANTIZE": _plain(ops.Quantize()),
        "RELU": _plain(ops.Relu()),
        "RELU6": _plain(ops.Relu6()),
        "RESHAPE": _plain(ops.Reshape(), given=2),
        "RESIZE_BILINEAR": _resize(ops.ResizeBilinear, "ResizeBilinearOptions"),
        "RESIZE_NEAREST_NEIGHBOR": _resize(ops.ResizeNearest, "ResizeNearestNeighborOptions"),
        "SLICE": _slice,
        "SOFTMAX": _softmax,
        "SPLIT": _split(data=1, axis=0),
        "SPLIT_V": _split(data=0, axis=2),
        "SQUEEZE": _plain(ops.Reshape()),
        "STRIDED_SLICE": _strided_slice,
        "SUB": _binary(ops.Sub),
        "SVDF": _svdf,
        "TANH": _plain(ops.Tanh()),
        "TRANSPOSE": _transpose,
        "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    }
)
"""How each builtin becomes typed steps."""
