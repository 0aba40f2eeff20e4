"""C99 for all cores, bit for bit what TFLite Micro's reference kernels compute."""

from edgec.targets.microcontroller.kernels.base import Kernel
from edgec.targets.microcontroller.kernels.portable.activations import (
    activation_by_table,
    clamp,
    relu_int16,
    sigmoid_int16,
)
from edgec.targets.microcontroller.kernels.portable.arithmetic import (
    add,
    integers,
    mul,
    sub,
)
from edgec.targets.microcontroller.kernels.portable.conv import (
    conv,
    conv_of_one_channel,
    pointwise_conv,
)
from edgec.targets.microcontroller.kernels.portable.dense import fully_connected
from edgec.targets.microcontroller.kernels.portable.depthwise import depthwise_conv
from edgec.targets.microcontroller.kernels.portable.grids import (
    dequantize,
    quantize,
    requantize,
    requantize_bytes,
)
from edgec.targets.microcontroller.kernels.portable.lstm import lstm
from edgec.targets.microcontroller.kernels.portable.matmul import batch_matmul
from edgec.targets.microcontroller.kernels.portable.moves import (
    concatenation,
    pad,
    reshape,
    slice_,
    split,
    transpose,
)
from edgec.targets.microcontroller.kernels.portable.plain import (
    plain_conv,
    plain_dense,
    plain_depthwise,
)
from edgec.targets.microcontroller.kernels.portable.pool import pool
from edgec.targets.microcontroller.kernels.portable.real import (
    real_binary,
    real_function,
    real_matmul,
    real_mean,
    real_pool,
    real_softmax,
)
from edgec.targets.microcontroller.kernels.portable.reduce import mean
from edgec.targets.microcontroller.kernels.portable.resize import (
    real_resize_bilinear,
    resize_bilinear,
    resize_nearest,
)
from edgec.targets.microcontroller.kernels.portable.softmax import softmax
from edgec.targets.microcontroller.kernels.portable.softmax_int16 import softmax_int16
from edgec.targets.microcontroller.kernels.portable.svdf import svdf

__all__ = ["KERNELS"]

KERNELS: tuple[Kernel, ...] = (
    pointwise_conv,
    conv,
    conv_of_one_channel,
    depthwise_conv,
    fully_connected,
    add,
    sub,
    mul,
    integers,
    pool,
    mean,
    softmax,
    clamp,
    activation_by_table,
    relu_int16,
    sigmoid_int16,
    requantize_bytes,
    requantize,
    quantize,
    dequantize,
    reshape,
    transpose,
    slice_,
    split,
    concatenation,
    pad,
    resize_nearest,
    resize_bilinear,
    batch_matmul,
    svdf,
    lstm,
    softmax_int16,
    plain_conv,
    plain_depthwise,
    plain_dense,
    real_binary,
    real_function,
    real_pool,
    real_mean,
    real_softmax,
    real_matmul,
    real_resize_bilinear,
)
"""The first that gives code for a layer computes it."""
