"""Kernels for cores with the DSP extension: Cortex-M4, M7 and M33.

What a layer spends its time in is assembly text, emitted for the layer's shape; C around it
gathers, and walks over the picture. Layers of equal shape share their functions.
"""

from edgec.targets.microcontroller.kernels.base import Kernel
from edgec.targets.microcontroller.kernels.dsp.dense import dense
from edgec.targets.microcontroller.kernels.dsp.pointwise import pointwise

__all__ = ["KERNELS"]

KERNELS: tuple[Kernel, ...] = (pointwise, dense)
"""The first that gives code for a layer computes it."""
