"""What several kernels need to say of a layer: its window, its constants, its batches."""

from __future__ import annotations

from edgec.ir import Array, DType
from edgec.program import Layer, Tensor
from edgec.program.operators import AveragePool, Conv, DepthwiseConv, MaxPool, Pair

__all__ = ["WINDOW_TYPE", "all_are", "bias_of", "constant", "over_batches", "window_fields"]

WINDOW_TYPE = """\
/* How a window moves over a picture. */
typedef struct {
    int32_t height, width, channels; /* of the picture */
    int32_t rows, columns;           /* of the result */
    int32_t kernel_y, kernel_x;
    int32_t stride_y, stride_x;
    int32_t pad_top, pad_left;
    int32_t dilation_y, dilation_x;
    int32_t zero_point; /* what lies outside the picture */
} $window;
"""


def window_fields(
    op: Conv | DepthwiseConv | AveragePool | MaxPool, x: Tensor, y: Tensor, kernel: Pair
) -> str:
    """Return the initializer of a window, for a call."""
    dilations = op.dilations if isinstance(op, (Conv, DepthwiseConv)) else (1, 1)
    zero_point = 0 if x.grid is None else x.zero_point
    groups = [
        x.shape[1:],
        y.shape[1:3],
        kernel,
        op.strides,
        (op.pads[0][0], op.pads[1][0]),
        dilations,
        (zero_point,),
    ]
    return "{{" + ",  ".join(", ".join(map(str, group)) for group in groups) + "}}"


def constant(layer: Layer, k: int) -> Array:
    """Return the contents of an operand that has to be a constant.

    Raises
    ------
    ValueError
        If it is computed.
    """
    data = layer.input(k).data
    if data is None:
        raise ValueError(f"{layer.name} computes its operand {k}")
    return data


def bias_of(layer: Layer, k: int = 2) -> Array | None:
    """Return the contents of a bias, or ``None`` where there is none."""
    bias = layer.inputs[k] if k < len(layer.inputs) else None
    return None if bias is None else constant(layer, k)


def all_are(dtype: DType, *tensors: Tensor) -> bool:
    """Whether tensors have an element type."""
    return all(t.dtype is dtype for t in tensors)


def over_batches(layer: Layer, call: str) -> str:
    """Return a call for each picture of a batch; ``{x}`` and ``{y}`` are where it lies."""
    x, y = layer.input(0), layer.output
    if x.shape[0] == 1:
        return call.replace("{x}", "").replace("{y}", "")
    there = (f" + n * {x.size // x.shape[0]}", f" + n * {y.size // x.shape[0]}")
    inner = call.replace("{x}", there[0]).replace("{y}", there[1])
    return f"for (int32_t n = 0; n < {x.shape[0]}; n++) {{{{\n    {inner}\n}}}}"
