"""Kernels for cores with the DSP extension: Cortex-M4, M7 and M33.

What a layer spends its time in is assembly text, emitted for the layer's shape; C around it
gathers, and walks over the picture. Layers of equal shape share their functions.
"""

import numpy as np

from edgec.ir import QuantParams
from edgec.program import Layer, Tensor
from edgec.program.operators import Conv, DepthwiseConv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Kernel
from edgec.targets.microcontroller.kernels.dsp.addition import add
from edgec.targets.microcontroller.kernels.dsp.dense import dense
from edgec.targets.microcontroller.kernels.dsp.depthwise import depthwise
from edgec.targets.microcontroller.kernels.dsp.depthwise_taps import depthwise_taps
from edgec.targets.microcontroller.kernels.dsp.first import conv_first
from edgec.targets.microcontroller.kernels.dsp.gather import conv_gathered
from edgec.targets.microcontroller.kernels.dsp.pointwise import pointwise
from edgec.targets.microcontroller.kernels.dsp.rows import conv_rows

__all__ = ["KERNELS"]

_CONVOLUTIONS: tuple[Kernel, ...] = (pointwise, conv_rows, conv_first, conv_gathered)


def depthwise_of_one(layer: Layer, core: Core) -> Code | None:
    """Depthwise convolutions of one channel, which are plain ones with as many filters."""
    op = layer.op
    if not isinstance(op, DepthwiseConv) or layer.input(0).shape[-1] != 1:
        return None
    weights = layer.input(1)
    if weights.data is None or weights.grid is None or len(weights.shape) != 4:
        return None
    data = np.swapaxes(weights.data, 0, 3)
    grid = weights.grid
    if grid.axis is not None:
        grid = QuantParams(grid.scale, grid.zero_point, 0)
    turned = Tensor(weights.name, weights.dtype, data.shape, grid, data)
    conv = Conv(op.strides, op.pads, op.activation, op.dilations)
    inputs = (layer.inputs[0], turned, *layer.inputs[2:])
    same = Layer(conv, inputs, layer.outputs, layer.name)
    return next((code for k in _CONVOLUTIONS if (code := k(same, core)) is not None), None)


KERNELS: tuple[Kernel, ...] = (
    *_CONVOLUTIONS,
    depthwise_of_one,
    depthwise,
    depthwise_taps,
    dense,
    add,
)
"""The first that gives code for a layer computes it."""
