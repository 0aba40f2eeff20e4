"""All operators. To add one, write its class and name it here."""

from edgec.ir import Op
from edgec.ops.activation import Activation
from edgec.ops.conv import Conv2d, Convolution, DepthwiseConv2d, GroupedConv2d
from edgec.ops.elementwise import (
    Add,
    Binary,
    Clip,
    Div,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyRelu,
    Mul,
    Relu,
    Sigmoid,
    Sub,
    Tanh,
    Unary,
)
from edgec.ops.linear import FullyConnected, Gemm, MatMul
from edgec.ops.normalization import BatchNorm, Softmax
from edgec.ops.opaque import Opaque
from edgec.ops.pool import AveragePool2d, GlobalAveragePool, MaxPool2d, Pool2d
from edgec.ops.quantization import Dequantize, Quantize, quantize_array
from edgec.ops.reduce import ReduceMean
from edgec.ops.shape import Concat, Pad, Reshape, Slice, Transpose

__all__ = [
    "OPS",
    "Activation",
    "Add",
    "AveragePool2d",
    "BatchNorm",
    "Binary",
    "Clip",
    "Concat",
    "Conv2d",
    "Convolution",
    "DepthwiseConv2d",
    "Dequantize",
    "Div",
    "FullyConnected",
    "Gemm",
    "GlobalAveragePool",
    "GroupedConv2d",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "MatMul",
    "MaxPool2d",
    "Mul",
    "Opaque",
    "Pad",
    "Pool2d",
    "Quantize",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Sub",
    "Tanh",
    "Transpose",
    "Unary",
    "quantize_array",
]

# Where several classes share an ONNX name, import takes the first that accepts the node.
OPS: tuple[type[Op], ...] = (
    Add,
    AveragePool2d,
    BatchNorm,
    Clip,
    Concat,
    Conv2d,
    DepthwiseConv2d,
    GroupedConv2d,
    Dequantize,
    Div,
    FullyConnected,
    Gemm,
    GlobalAveragePool,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyRelu,
    MatMul,
    MaxPool2d,
    Mul,
    Opaque,
    Pad,
    Quantize,
    ReduceMean,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Softmax,
    Sub,
    Tanh,
    Transpose,
)
