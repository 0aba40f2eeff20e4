"""Kernels for cores with the DSP extension: Cortex-M4, M7 and M33.

What a layer spends its time in is assembly text, emitted for the layer's shape; C around it
gathers, and walks over the picture. Layers of equal shape share their functions.
"""

from edgec.targets.microcontroller.kernels.base import Kernel
from edgec.targets.microcontroller.kernels.dsp.addition import add
from edgec.targets.microcontroller.kernels.dsp.dense import dense
from edgec.targets.microcontroller.kernels.dsp.depthwise import depthwise
from edgec.targets.microcontroller.kernels.dsp.depthwise_multiple import depthwise_multiple
from edgec.targets.microcontroller.kernels.dsp.depthwise_taps import (
    depthwise_taps,
    depthwise_taps_multiple,
)
from edgec.targets.microcontroller.kernels.dsp.first import conv_first
from edgec.targets.microcontroller.kernels.dsp.gather import conv_gathered
from edgec.targets.microcontroller.kernels.dsp.one_channel import depthwise_of_one
from edgec.targets.microcontroller.kernels.dsp.pointwise import pointwise
from edgec.targets.microcontroller.kernels.dsp.rows import conv_rows

__all__ = ["KERNELS"]

KERNELS: tuple[Kernel, ...] = (
    pointwise,
    conv_rows,
    conv_first,
    conv_gathered,
    depthwise_of_one,
    depthwise,
    depthwise_multiple,
    depthwise_taps,
    depthwise_taps_multiple,
    dense,
    add,
)
"""The first that gives code for a layer computes it."""
