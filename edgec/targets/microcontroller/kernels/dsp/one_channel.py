"""Depthwise convolutions of one channel, which are plain ones with as many filters."""

from __future__ import annotations

import numpy as np

from edgec.ir import QuantParams
from edgec.program import Layer, Tensor
from edgec.program.operators import Conv, DepthwiseConv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code
from edgec.targets.microcontroller.kernels.dsp.first import conv_first
from edgec.targets.microcontroller.kernels.dsp.gather import conv_gathered

__all__ = ["depthwise_of_one"]


def depthwise_of_one(layer: Layer, core: Core) -> Code | None:
    """Weights are turned, and the layer is computed as a convolution."""
    op = layer.op
    if not isinstance(op, DepthwiseConv) or layer.input(0).shape[-1] != 1:
        return None
    weights = layer.input(1)
    if weights.data is None or weights.grid is None or len(weights.shape) != 4:
        return None
    data = np.swapaxes(weights.data, 0, 3)
    scales, zeros, axis = weights.grid.scale, weights.grid.zero_point, weights.grid.axis
    grid = QuantParams(scales, zeros, None if axis is None else 0)
    turned = Tensor(weights.name, weights.dtype, data.shape, grid, data)
    conv = Conv(op.strides, op.pads, op.activation, op.dilations)
    inputs = (layer.inputs[0], turned, *layer.inputs[2:])
    same = Layer(conv, inputs, layer.outputs, layer.name)
    return conv_first(same, core) or conv_gathered(same, core)
