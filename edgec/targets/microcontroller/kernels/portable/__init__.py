"""C99 for all cores, bit for bit what TFLite Micro's reference kernels compute."""

from edgec.targets.microcontroller.kernels.base import Kernel
from edgec.targets.microcontroller.kernels.portable.arithmetic import add, mul, sub
from edgec.targets.microcontroller.kernels.portable.conv import conv, pointwise_conv
from edgec.targets.microcontroller.kernels.portable.dense import fully_connected
from edgec.targets.microcontroller.kernels.portable.depthwise import depthwise_conv
from edgec.targets.microcontroller.kernels.portable.moves import reshape
from edgec.targets.microcontroller.kernels.portable.pool import pool
from edgec.targets.microcontroller.kernels.portable.softmax import softmax

__all__ = ["KERNELS"]

KERNELS: tuple[Kernel, ...] = (
    pointwise_conv,
    conv,
    depthwise_conv,
    fully_connected,
    add,
    sub,
    mul,
    pool,
    softmax,
    reshape,
)
"""The first that gives code for a layer computes it."""
