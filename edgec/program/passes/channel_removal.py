"""A program without some channels, whose effect goes into the biases of who read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from edgec.ir import Array, DType, QuantParams
from edgec.program import operators as ops
from edgec.program.arithmetic import Ints
from edgec.program.bounds import Bounds, channels_of
from edgec.program.counting import layer_macs, weight_bytes
from edgec.program.passes.base import Change
from edgec.program.program import Layer, Program, Step
from edgec.program.tensors import Tensor

__all__ = ["changes_between", "without_channels"]


def without_channels(
    program: Program, kept: Mapping[int, Ints], bounds: Mapping[int, Bounds]
) -> Program:
    """Return a program whose tensors have only some of their channels.

    Parameters
    ----------
    kept
        By tensor: which channels stay, in ascending order. It has to be possible: see
        :class:`~edgec.program.passes.RemoveConstantChannels`.
    bounds
        Of what is read: channels that go never change, or nothing looks at them.
    """
    return _Removal(program, kept, bounds).smaller()


def changes_between(program: Program, smaller: Program) -> tuple[Change, ...]:
    """Return what became of the layers of a program that lost channels."""
    changes: list[Change] = []
    for old, new in zip(program.layers(), smaller.layers(), strict=True):
        if isinstance(old.op, (ops.Conv, ops.DepthwiseConv, ops.FullyConnected)):
            macs = (layer_macs(old), layer_macs(new))
            size = (weight_bytes(old), weight_bytes(new))
            if old.input(1).shape != new.input(1).shape:
                changes.append(Change(old.name, _told(old, new), macs, size))
    return tuple(changes)


class _Removal:
    def __init__(
        self, program: Program, kept: Mapping[int, Ints], bounds: Mapping[int, Bounds]
    ) -> None:
        self.program, self.kept, self.bounds = program, kept, bounds
        self.tensors = list(program.tensors)
        self.weights: dict[tuple[int, int, bytes, bytes], int] = {}  # that are cut already
        for k, which in kept.items():
            shape = (*self.tensors[k].shape[:-1], len(which))
            self.tensors[k] = replace(self.tensors[k], shape=shape)

    def smaller(self) -> Program:
        steps = tuple(map(self.step, self.program.steps))
        return replace(self.program, tensors=tuple(self.tensors), steps=steps)

    def step(self, step: Step) -> Step:
        layer = self.program.layer(step)
        if isinstance(step.op, (ops.Conv, ops.DepthwiseConv, ops.FullyConnected)):
            return self.weighted(step, layer)
        if isinstance(step.op, ops.Add) and step.outputs[0] in self.kept:
            inputs = tuple(self.cut(k, self.kept[step.outputs[0]]) for k in step.inputs)
            return replace(step, inputs=inputs)
        return step

    def cut(self, k: int, which: Ints) -> int:
        """Return the number of a constant operand without the channels that go."""
        tensor = self.program.tensors[k]
        if tensor.data is None or channels_of(tensor) == 1:
            return k
        return self.add(tensor, tensor.data[..., which], tensor.grid)

    def add(self, like: Tensor, data: Array, grid: QuantParams | None) -> int:
        data = np.ascontiguousarray(data)
        self.tensors.append(Tensor(like.name, like.dtype, data.shape, grid, data))
        return len(self.tensors) - 1

    def weighted(self, step: Step, layer: Layer) -> Step:
        x, y = step.inputs[0], step.outputs[0]
        if x not in self.kept and y not in self.kept:
            return step
        w = layer.input(1)
        assert w.data is not None
        results = self.kept.get(y, np.arange(channels_of(layer.output)))
        there, depth = np.arange(0), channels_of(layer.input(0))
        depthwise = isinstance(layer.op, ops.DepthwiseConv)
        bias = layer.inputs[2] if len(layer.inputs) > 2 else None
        sums = np.zeros(channels_of(layer.output), np.int64)
        if bias is not None:
            assert bias.data is not None
            sums = bias.data.reshape(-1).astype(np.int64)
        if depthwise:
            data = w.data[..., results]
        else:
            there = self.kept.get(x, np.arange(depth))
            blocks = w.data.reshape(w.shape[0], -1, depth)
            sums = sums + self.lost(x, layer, blocks, there)
            data = blocks[results][..., there].reshape(len(results), *w.shape[1:-1], -1)
        # Layers that share weights go on doing so if they lose the same channels.
        same = (step.inputs[1], depth, results.tobytes(), there.tobytes())
        if same not in self.weights:
            self.weights[same] = self.add(w, data, _rows(w.grid, results))
        inputs = [x, self.weights[same]]
        if bias is not None or sums.any():
            inputs.append(self.bias(layer, bias, sums[results], results))
        return replace(step, inputs=tuple(inputs))

    def lost(self, x: int, layer: Layer, blocks: Array, there: Ints) -> Ints:
        """Return what the channels that go add to each sum."""
        gone = np.setdiff1d(np.arange(blocks.shape[2]), there)
        offsets = self.bounds[x].low[gone] - layer.input(0).zero_point if len(gone) else gone
        weights: Ints = blocks[..., gone].astype(np.int64).sum(1)
        found: Ints = weights @ offsets
        return found

    def bias(self, layer: Layer, bias: Tensor | None, sums: Ints, results: Ints) -> int:
        if bias is not None:
            return self.add(bias, sums.astype(np.int32), _rows(bias.grid, results))
        w = layer.input(1)
        assert w.grid is not None
        # TFLite looks at the scale of a bias to see whether it is that of the products.
        scales = tuple(float(np.float32(layer.input(0).scale * s)) for s in w.grid.scale)
        whole = QuantParams(scales, (0,) * len(scales), None if len(scales) == 1 else 0)
        like = Tensor(f"{layer.name} bias", DType.INT32, (len(results),))
        return self.add(like, sums.astype(np.int32), _rows(whole, results))


def _rows(grid: QuantParams | None, which: Ints) -> QuantParams | None:
    """Return the scales of some channels."""
    if grid is None or grid.axis is None:
        return grid
    scales = tuple(grid.scale[i] for i in which)
    return QuantParams(scales, tuple(grid.zero_point[i] for i in which), grid.axis)


def _told(old: Layer, new: Layer) -> str:
    """Return what was done to a layer."""
    parts = []
    before, after = channels_of(old.output), channels_of(new.output)
    if after < before:
        parts.append(f"computes {after} of {before} channels")
    read, reads = channels_of(old.input(0)), channels_of(new.input(0))
    if reads < read and not isinstance(old.op, ops.DepthwiseConv):
        parts.append(f"reads {reads} of {read}, and has the others in its bias")
    return ", ".join(parts)
