"""The operators that programs are made of, with everything resolved that files leave open.

Padding is told in numbers, axes count from the front, and what a file passes as a constant
tensor, such as axes, permutations and paddings, is an option here. Operands follow TFLite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

__all__ = [
    "OPERATORS",
    "Activation",
    "Add",
    "AveragePool",
    "BatchMatMul",
    "Concatenation",
    "Conv",
    "DepthwiseConv",
    "Dequantize",
    "FullyConnected",
    "HardSwish",
    "LeakyRelu",
    "Logistic",
    "MaxPool",
    "Mean",
    "Mul",
    "Operator",
    "Pad",
    "Pads",
    "Pair",
    "Quantize",
    "Relu",
    "Relu6",
    "Reshape",
    "ResizeBilinear",
    "ResizeNearest",
    "Slice",
    "Softmax",
    "Split",
    "Sub",
    "Svdf",
    "Tanh",
    "Transpose",
    "UnidirectionalLstm",
]

Activation = Literal["none", "relu", "relu_n1_to_1", "relu6"]
"""What is done to a result before it is stored."""

Pair = tuple[int, int]
"""For height and width."""

Pads = tuple[Pair, Pair]
"""How much is added above and below, left and right."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Base of all operators; fields are options."""

    code: ClassVar[str]
    """Name of the builtin in TFLite's schema."""


@dataclass(frozen=True, slots=True)
class _Window(Operator):
    strides: Pair = (1, 1)
    pads: Pads = ((0, 0), (0, 0))
    activation: Activation = "none"


@dataclass(frozen=True, slots=True)
class Conv(_Window):
    """``x [1, H, W, C]``, weights ``[O, kh, kw, C / groups]``, bias ``[O]`` or none."""

    code: ClassVar[str] = "CONV_2D"
    dilations: Pair = (1, 1)


@dataclass(frozen=True, slots=True)
class DepthwiseConv(_Window):
    """``x [1, H, W, C]``, weights ``[1, kh, kw, C * multiplier]``, bias or none."""

    code: ClassVar[str] = "DEPTHWISE_CONV_2D"
    dilations: Pair = (1, 1)


@dataclass(frozen=True, slots=True)
class _Pool(_Window):
    window: Pair = (1, 1)


@dataclass(frozen=True, slots=True)
class AveragePool(_Pool):
    """The mean of what lies in the window and in the picture."""

    code: ClassVar[str] = "AVERAGE_POOL_2D"


@dataclass(frozen=True, slots=True)
class MaxPool(_Pool):
    """The largest number in the window."""

    code: ClassVar[str] = "MAX_POOL_2D"


@dataclass(frozen=True, slots=True)
class FullyConnected(Operator):
    """``x`` as rows of K numbers, weights ``[O, K]``, bias ``[O]`` or none."""

    code: ClassVar[str] = "FULLY_CONNECTED"
    activation: Activation = "none"


@dataclass(frozen=True, slots=True)
class _Binary(Operator):
    activation: Activation = "none"


@dataclass(frozen=True, slots=True)
class Add(_Binary):
    """The sum of two tensors that broadcast."""

    code: ClassVar[str] = "ADD"


@dataclass(frozen=True, slots=True)
class Sub(_Binary):
    """The difference of two tensors that broadcast."""

    code: ClassVar[str] = "SUB"


@dataclass(frozen=True, slots=True)
class Mul(_Binary):
    """The product of two tensors that broadcast."""

    code: ClassVar[str] = "MUL"


@dataclass(frozen=True, slots=True)
class Mean(Operator):
    """The mean over some axes, in ascending order; the result's shape says if they stay."""

    code: ClassVar[str] = "MEAN"
    axes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Softmax(Operator):
    """Along the last axis, of `beta` times the numbers."""

    code: ClassVar[str] = "SOFTMAX"
    beta: float = 1.0


@dataclass(frozen=True, slots=True)
class Logistic(Operator):
    """``1 / (1 + exp(-x))``."""

    code: ClassVar[str] = "LOGISTIC"


@dataclass(frozen=True, slots=True)
class Tanh(Operator):
    """The hyperbolic tangent."""

    code: ClassVar[str] = "TANH"


@dataclass(frozen=True, slots=True)
class HardSwish(Operator):
    """``x * min(max(x + 3, 0), 6) / 6``."""

    code: ClassVar[str] = "HARD_SWISH"


@dataclass(frozen=True, slots=True)
class LeakyRelu(Operator):
    """``max(x, 0) + alpha * min(x, 0)``."""

    code: ClassVar[str] = "LEAKY_RELU"
    alpha: float = 0.0


@dataclass(frozen=True, slots=True)
class Relu(Operator):
    """``max(x, 0)``."""

    code: ClassVar[str] = "RELU"


@dataclass(frozen=True, slots=True)
class Relu6(Operator):
    """``min(max(x, 0), 6)``."""

    code: ClassVar[str] = "RELU6"


@dataclass(frozen=True, slots=True)
class Pad(Operator):
    """Add to both sides of each axis what stands for zero, or `value` as it is stored."""

    code: ClassVar[str] = "PAD"
    pads: tuple[Pair, ...] = ()
    value: int | float = 0


@dataclass(frozen=True, slots=True)
class Concatenation(Operator):
    """Join tensors along an axis; those on other grids are put on the result's."""

    code: ClassVar[str] = "CONCATENATION"
    axis: int = 0
    activation: Activation = "none"


@dataclass(frozen=True, slots=True)
class Reshape(Operator):
    """The same numbers in the shape of the result."""

    code: ClassVar[str] = "RESHAPE"


@dataclass(frozen=True, slots=True)
class Transpose(Operator):
    """Axis ``i`` of the result is axis ``perm[i]``."""

    code: ClassVar[str] = "TRANSPOSE"
    perm: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Quantize(Operator):
    """Put real numbers, or integers on another grid, on the grid of the result."""

    code: ClassVar[str] = "QUANTIZE"


@dataclass(frozen=True, slots=True)
class Dequantize(Operator):
    """The real numbers that integers stand for."""

    code: ClassVar[str] = "DEQUANTIZE"


@dataclass(frozen=True, slots=True)
class _Resize(Operator):
    align_corners: bool = False
    half_pixel_centers: bool = False


@dataclass(frozen=True, slots=True)
class ResizeNearest(_Resize):
    """Each place has the number of the nearest one."""

    code: ClassVar[str] = "RESIZE_NEAREST_NEIGHBOR"


@dataclass(frozen=True, slots=True)
class ResizeBilinear(_Resize):
    """Each place lies between four."""

    code: ClassVar[str] = "RESIZE_BILINEAR"


@dataclass(frozen=True, slots=True)
class Slice(Operator):
    """From `begin` in steps of `strides`, as many as the result has along each axis."""

    code: ClassVar[str] = "STRIDED_SLICE"
    begin: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Split(Operator):
    """Cut along an axis into the results."""

    code: ClassVar[str] = "SPLIT"
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Svdf(Operator):
    """Operands: x, features, time weights, bias or none, state (a variable)."""

    code: ClassVar[str] = "SVDF"
    rank: int = 1
    activation: Activation = "none"


@dataclass(frozen=True, slots=True)
class UnidirectionalLstm(Operator):
    """TFLite's 24 operands, of which projections, peepholes and normalisation are left out."""

    code: ClassVar[str] = "UNIDIRECTIONAL_SEQUENCE_LSTM"
    time_major: bool = False
    cell_clip: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchMatMul(Operator):
    """Products of matrices, either of which may be transposed."""

    code: ClassVar[str] = "BATCH_MATMUL"
    transpose_x: bool = False
    transpose_y: bool = False


OPERATORS: tuple[type[Operator], ...] = (
    Add,
    AveragePool,
    BatchMatMul,
    Concatenation,
    Conv,
    DepthwiseConv,
    Dequantize,
    FullyConnected,
    HardSwish,
    LeakyRelu,
    Logistic,
    MaxPool,
    Mean,
    Mul,
    Pad,
    Quantize,
    Relu,
    Relu6,
    Reshape,
    ResizeBilinear,
    ResizeNearest,
    Slice,
    Softmax,
    Split,
    Sub,
    Svdf,
    Tanh,
    Transpose,
    UnidirectionalLstm,
)
"""Every operator; its code is its name in TFLite's schema."""
