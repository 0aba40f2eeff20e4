"""Constant linear maps along one axis: what interpolation and transforms come down to."""

from __future__ import annotations

import math

import numpy as np

from edgec.ir import Array, DType
from edgec.targets.tflite.lower import Lowering

__all__ = ["mapped", "picked"]

_SHORT = 64
"""Up to this length a matrix product costs less than to gather what has weight."""

_FEW = 8
"""Up to so many elements a row of the matrix is worth gathering them."""


def mapped(b: Lowering, tensor: int, axis: int, matrix: Array) -> int:
    """Return a float tensor whose index ``o`` along `axis` is ``sum(matrix[o, i] * x[i])``.

    Parameters
    ----------
    axis
        Of the tensor as it is stored.
    matrix
        Weights ``[out, length]``.
    """
    taps = np.count_nonzero(matrix, axis=1).max(initial=0)
    if taps <= 1 and (matrix.sum(1) == 1).all():
        return picked(b, tensor, axis, matrix.argmax(1))
    if matrix.shape[1] > _SHORT and taps <= _FEW:
        return _weighed(b, tensor, axis, matrix, int(taps))
    return _multiplied(b, tensor, axis, matrix)


def picked(b: Lowering, tensor: int, axis: int, indices: Array) -> int:
    """Return a tensor with these indices along an axis, in this order."""
    info = b.info(tensor)
    if np.array_equal(indices, np.arange(info.shape[axis])):
        return tensor
    shape = (*info.shape[:axis], len(indices), *info.shape[axis + 1 :])
    out = b.tensor(f"{b.layer}/picked", info.dtype, shape, quant=info.quant)
    where = b.ints("indices", indices)
    version = 2 if info.dtype is DType.INT8 else 1
    b.operator("GATHER", [tensor, where], [out], "Gather", version, axis=axis)
    return out


def _multiplied(b: Lowering, tensor: int, axis: int, matrix: Array) -> int:
    info = b.info(tensor)
    out, length = matrix.shape
    outer, inner = math.prod(info.shape[:axis]), math.prod(info.shape[axis + 1 :])
    weights = b.constant(f"{b.layer}/weights", matrix.astype(np.float32))
    flat = b.reshaped(tensor, (outer, length, inner) if inner > 1 else (outer, length))
    shape = (outer, out, inner) if inner > 1 else (outer, out)
    result = b.tensor(f"{b.layer}/mapped", DType.FLOAT32, shape)
    if inner > 1:
        b.operator("BATCH_MATMUL", [weights, flat], [result], "BatchMatMul")
    else:
        bias = b.constant(f"{b.layer}/bias", np.zeros(out, np.float32))
        b.operator("FULLY_CONNECTED", [flat, weights, bias], [result], "FullyConnected",
                   fusedActivationFunction=0)  # fmt: skip
    return b.reshaped(result, (*info.shape[:axis], out, *info.shape[axis + 1 :]))


def _weighed(b: Lowering, tensor: int, axis: int, matrix: Array, taps: int) -> int:
    """Gather the elements that have weight, and add them up."""
    info = b.info(tensor)
    out = len(matrix)
    outer, inner = math.prod(info.shape[:axis]), math.prod(info.shape[axis + 1 :])
    columns = np.argsort(matrix == 0, axis=1, kind="stable")[:, :taps]
    weights = np.take_along_axis(matrix, columns, 1).astype(np.float32)
    gathered = picked(b, tensor, axis, columns.ravel())
    apart = b.reshaped(gathered, (outer, out, taps, inner))
    by = b.constant(f"{b.layer}/weights", weights[None, :, :, None])
    products = b.tensor(f"{b.layer}/products", DType.FLOAT32, (outer, out, taps, inner))
    b.operator("MUL", [apart, by], [products], "Mul", fusedActivationFunction=0)
    total = b.tensor(f"{b.layer}/sums", DType.FLOAT32, (outer, out, inner))
    b.operator("SUM", [products, b.ints("taps", [2])], [total], "Reducer", keepDims=False)
    return b.reshaped(total, (*info.shape[:axis], out, *info.shape[axis + 1 :]))
