"""Kernels for cores with Helium, the vector extension: Cortex-M55."""

from edgec.targets.microcontroller.kernels.base import Kernel
from edgec.targets.microcontroller.kernels.mve.addition import add
from edgec.targets.microcontroller.kernels.mve.conv import conv, conv_of_one_channel
from edgec.targets.microcontroller.kernels.mve.depthwise import depthwise
from edgec.targets.microcontroller.kernels.mve.pointwise import dense, pointwise
from edgec.targets.microcontroller.kernels.mve.pool import pool

__all__ = ["KERNELS"]

KERNELS: tuple[Kernel, ...] = (
    pointwise,
    conv,
    conv_of_one_channel,
    depthwise,
    dense,
    add,
    pool,
)
"""The first that gives code for a layer computes it."""
