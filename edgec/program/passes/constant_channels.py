"""Channels that never change, or that nothing looks at, are not computed.

Bounds over everything that can be fed (:mod:`edgec.program.bounds`) prove for some channels
that what they store is one number. Who reads such a channel adds the same product to each of
its sums: that goes into its bias. Where a picture is padded the product is missing at the
border, so there the number has to be the one that stands for zero.

A channel of one tensor hangs together with channels of others: a depthwise convolution or an
addition does without it only if it is gone before and after. What hangs together is removed
as a whole, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from edgec.ir import Array, DType
from edgec.program import operators as ops
from edgec.program.arithmetic import Ints
from edgec.program.bounds import Bounds, bounds_of, channels_of
from edgec.program.operators import Operator
from edgec.program.passes.base import Outcome, ProgramPass
from edgec.program.passes.channel_removal import changes_between, without_channels
from edgec.program.passes.dead_code import RemoveDeadCode
from edgec.program.program import Layer, Program, Step

__all__ = ["RemoveConstantChannels"]

_WEIGHTED = (ops.Conv, ops.DepthwiseConv, ops.FullyConnected)
_MOST_ROUNDS = 16
_MOST_CHANNELS = 1 << 20  # convolutions have a hundredth of it; bounds are kept for each


@dataclass(frozen=True, slots=True)
class RemoveConstantChannels(ProgramPass):
    """Remove channels that provably never change from the layers that compute them.

    Parameters
    ----------
    multiple
        Keep so many channels that their number is a multiple of this, where there are enough:
        kernels take several at a time.
    slack
        By how many integers the result of a layer that rounds may differ from TFLite Micro's:
        0 for that and for generated code, 1 for LiteRT's CPU kernels and XNNPACK, too. See
        :mod:`edgec.program.bounds`.
    """

    name: ClassVar[str] = "remove-constant-channels"

    multiple: int = 1
    slack: int = 0

    def __post_init__(self) -> None:
        if self.multiple < 1:
            raise ValueError(f"no number is a multiple of {self.multiple}")

    @override
    def run(self, program: Program) -> Outcome:
        outcome = self.narrowed(program)
        if outcome.program is program:
            return outcome
        # No layer is gone: only what stood in the place of cut constants before.
        return Outcome(RemoveDeadCode().run(outcome.program).program, outcome.changes)

    def narrowed(self, program: Program) -> Outcome:
        """Return the program with all of its steps, and its tensors under their numbers.

        Constants that are cut are added behind the others.
        """
        smaller = program
        if sum(channels_of(t) for t in program.tensors if t.data is None) > _MOST_CHANNELS:
            return Outcome(program)
        for _ in range(_MOST_ROUNDS):  # what is gone is not read, which may leave more unread
            bounds = bounds_of(smaller, self.slack)
            kept = _Channels(smaller, bounds).kept(self.multiple)
            if not kept:
                break
            smaller = without_channels(smaller, kept, bounds)
        return Outcome(smaller, changes_between(program, smaller))


class _Channels:
    """Which channels hang together, and which have to stay.

    Every channel of every tensor that is computed has a number; those that hang together lead
    to one of them.
    """

    def __init__(self, program: Program, bounds: Mapping[int, Bounds]) -> None:
        self.program, self.bounds = program, bounds
        self.first: dict[int, int] = {}
        count = 0
        for step in program.steps:
            for k in step.outputs:
                self.first[k] = count
                count += channels_of(program.tensors[k])
        self.parent = np.arange(count)
        self.needed = np.zeros(count, np.bool_)
        for k in program.outputs:
            self.need(k)
        for step in program.steps:
            rule = _RULES.get(type(step.op), _all_needed)
            rule(self, step, program.layer(step))

    def numbers(self, tensor: int) -> Ints | None:
        """Return the numbers of a tensor's channels; ``None`` if it is fed or stored."""
        if tensor not in self.first:
            return None
        start = self.first[tensor]
        return np.arange(start, start + channels_of(self.program.tensors[tensor]))

    def need(self, tensor: int, which: npt.NDArray[np.bool_] | None = None) -> None:
        """Have channels of a tensor stay."""
        found = self.numbers(tensor)
        if found is not None:
            self.needed[found if which is None else found[which]] = True

    def join(self, a: int, b: int, of_a: Ints, of_b: Ints) -> None:
        """Have channels of two tensors hang together; those of what is fed stay."""
        left, right = self.numbers(a), self.numbers(b)
        if left is None or right is None:
            for k, which in ((a, of_a), (b, of_b)):
                chosen = np.zeros(channels_of(self.program.tensors[k]), np.bool_)
                chosen[which] = True
                self.need(k, chosen)
            return
        for i, j in zip(left[of_a].tolist(), right[of_b].tolist(), strict=True):
            self.parent[self.root(i)] = self.root(j)

    def root(self, number: int) -> int:
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]
            number = int(self.parent[number])
        return number

    def kept(self, multiple: int) -> dict[int, Ints]:
        """Return which channels stay, of the tensors that lose some."""
        roots = np.array([self.root(i) for i in range(len(self.parent))], np.int64)
        stays = np.zeros(len(roots), np.bool_)
        stays[roots[self.needed]] = True
        wanted = self.wanted(multiple)
        changed = True
        while changed:
            changed = False
            for tensor, (least, step) in wanted.items():
                found = self.numbers(tensor)
                assert found is not None
                there = stays[roots[found]]
                count = max(int(there.sum()), least)
                count = min(-(-count // step) * step, len(found))
                while stays[roots[found]].sum() < count:
                    lost = found[~stays[roots[found]]]
                    stays[roots[lost[0]]] = True
                    changed = True
        result: dict[int, Ints] = {}
        for tensor in self.first:
            found = self.numbers(tensor)
            assert found is not None
            there = stays[roots[found]]
            if not there.all():
                result[tensor] = np.flatnonzero(there)
        return result

    def wanted(self, multiple: int) -> dict[int, tuple[int, int]]:
        """Return how many channels have to stay at least, and of what that is a multiple."""
        found = dict.fromkeys(self.first, (1, 1))
        for step in self.program.steps:
            if isinstance(step.op, _WEIGHTED):
                grid = self.program.tensors[step.inputs[1]].grid
                # A matrix with one scale is computed otherwise than one with a scale a row.
                several = grid is not None and grid.axis is not None
                found[step.outputs[0]] = (2 if several else 1, multiple)
        return found


# ---- what each operator needs of its operands, and how channels hang together


def _all_needed(channels: _Channels, step: Step, layer: Layer) -> None:
    for k in (*step.inputs, *step.outputs):
        channels.need(k)


def _identical(channels: _Channels, step: Step, a: int, b: int) -> None:
    every = np.arange(channels_of(channels.program.tensors[a]))
    channels.join(a, b, every, every)


def _elementwise(channels: _Channels, step: Step, layer: Layer) -> None:
    _identical(channels, step, step.inputs[0], step.outputs[0])


def _read(channels: _Channels, step: Step, layer: Layer, weights: Array) -> None:
    """Have what a layer reads stay, but for what its bias can stand for.

    Parameters
    ----------
    weights
        By result, by place, by channel that is read.
    """
    x = layer.input(0)
    if step.inputs[0] not in channels.first:
        return
    bounds = channels.bounds[step.inputs[0]]
    unread = ~weights.any(axis=(0, 1))
    same = bounds.constant
    if any(map(any, getattr(layer.op, "pads", ()))):
        same &= bounds.low == x.zero_point
    if same.any() and not _has_room(layer, weights[..., same], bounds.low[same]):
        same[:] = False
    channels.need(step.inputs[0], ~(unread | same))


def _has_room(layer: Layer, weights: Array, values: Ints) -> bool:
    """Whether biases can take what some channels of one value each add to the sums."""
    products = weights.sum(1, dtype=np.int64) * (values - layer.input(0).zero_point)
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    start = 0 if bias is None or bias.data is None else np.abs(bias.data.astype(np.int64))
    return bool((start + np.abs(products).sum(1) < 1 << 31).all())


def _is_int8(layer: Layer) -> bool:
    """Whether a layer turns int8 into int8, with a bias of 32 bits if any."""
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    whole = (layer.input(0), layer.output)
    return all(t.dtype is DType.INT8 for t in whole) and (
        bias is None or bias.dtype is DType.INT32
    )


def _conv(channels: _Channels, step: Step, layer: Layer) -> None:
    w = layer.input(1)
    assert w.data is not None
    if not _is_int8(layer) or w.shape[3] != layer.input(0).shape[3]:
        _all_needed(channels, step, layer)
        return
    _read(channels, step, layer, w.data.reshape(w.shape[0], -1, w.shape[3]))


def _fully_connected(channels: _Channels, step: Step, layer: Layer) -> None:
    w, depth = layer.input(1), channels_of(layer.input(0))
    assert w.data is not None
    if not _is_int8(layer) or w.shape[1] % depth:
        _all_needed(channels, step, layer)
        return
    _read(channels, step, layer, w.data.reshape(w.shape[0], -1, depth))


def _depthwise(channels: _Channels, step: Step, layer: Layer) -> None:
    if not _is_int8(layer):
        _all_needed(channels, step, layer)
        return
    count = layer.output.shape[3]
    results = np.arange(count)
    times = count // layer.input(0).shape[3]
    channels.join(step.inputs[0], step.outputs[0], results // times, results)


def _add(channels: _Channels, step: Step, layer: Layer) -> None:
    y = layer.output
    for k in step.inputs:
        t = channels.program.tensors[k]
        if t.data is not None and channels_of(t) in (1, channels_of(y)):
            continue  # it is cut to fit
        if channels_of(t) != channels_of(y):
            channels.need(step.outputs[0])
            channels.need(k)
        else:
            _identical(channels, step, k, step.outputs[0])


def _reshape(channels: _Channels, step: Step, layer: Layer) -> None:
    before, after = channels_of(layer.input(0)), channels_of(layer.output)
    if max(before, after) % min(before, after):
        _all_needed(channels, step, layer)
        return
    every = np.arange(max(before, after))
    channels.join(step.inputs[0], step.outputs[0], every % before, every % after)


def _pad(channels: _Channels, step: Step, layer: Layer) -> None:
    assert isinstance(layer.op, ops.Pad)
    if layer.op.pads and any(layer.op.pads[-1]):
        _all_needed(channels, step, layer)
    else:
        _elementwise(channels, step, layer)


def _mean(channels: _Channels, step: Step, layer: Layer) -> None:
    assert isinstance(layer.op, ops.Mean)
    if layer.op.axes[-1] == len(layer.input(0).shape) - 1:
        _all_needed(channels, step, layer)
    else:
        _elementwise(channels, step, layer)


def _concatenation(channels: _Channels, step: Step, layer: Layer) -> None:
    assert isinstance(layer.op, ops.Concatenation)
    (y,) = step.outputs
    along = layer.op.axis == len(layer.output.shape) - 1
    if any(channels.program.tensors[k].data is not None for k in step.inputs):
        _all_needed(channels, step, layer)
        return
    start = 0
    for k in step.inputs:
        every = np.arange(channels_of(channels.program.tensors[k]))
        channels.join(k, y, every, every + start)
        start += len(every) if along else 0


_RULES: Mapping[type[Operator], Callable[[_Channels, Step, Layer], None]] = MappingProxyType(
    {
        ops.Add: _add,
        ops.AveragePool: _elementwise,
        ops.Concatenation: _concatenation,
        ops.Conv: _conv,
        ops.DepthwiseConv: _depthwise,
        ops.FullyConnected: _fully_connected,
        ops.HardSwish: _elementwise,
        ops.LeakyRelu: _elementwise,
        ops.Logistic: _elementwise,
        ops.MaxPool: _elementwise,
        ops.Mean: _mean,
        ops.Pad: _pad,
        ops.Quantize: _elementwise,
        ops.Relu: _elementwise,
        ops.Relu6: _elementwise,
        ops.Reshape: _reshape,
        ops.Tanh: _elementwise,
    }
)
"""What is not here needs all channels that it reads and writes."""
