"""The layers that factors of a weight matrix are computed by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edgec.ir import Array
from edgec.ops import Activation, Conv, DepthwiseConv, FullyConnected
from edgec.ops.conv import Convolution
from edgec.passes.factor_form import Factors, Form
from edgec.passes.factorizations import LowRank, Separable, Spatial, Tucker

__all__ = ["Piece", "layers_of"]


@dataclass(frozen=True, slots=True)
class Piece:
    """One of the layers that stand for one, with its weights as the operator wants them."""

    name: str
    op: Convolution | FullyConnected
    weight: Array


def layers_of(form: Form, factors: Factors, op: Conv | FullyConnected) -> tuple[Piece, ...]:
    """Return the layers that stand for one: the last has its activation, and takes its bias.

    Stride, padding and dilation go to the layers that have the kernel; zeros around an image
    stay zeros through layers without a bias, so that padding first or later is the same.
    """
    first, last = factors.first, factors.last
    if isinstance(op, FullyConnected):
        return (
            Piece("first", FullyConnected(), first),
            Piece("last", op, last),
        )
    outputs, channels, *kernel = form.shape
    ones = (1,) * len(kernel)
    point = Conv(ones, (0,) * 2 * len(kernel), ones)
    final = replace(point, activation=op.activation)
    bare = replace(op, activation=Activation.NONE)
    match form:
        case Separable():
            depth = DepthwiseConv(op.stride, op.pad, op.dilation)
            weight = first.reshape(channels * form.multiplier, 1, *kernel)
            return (
                Piece("depthwise", depth, weight),
                Piece("pointwise", final, last.reshape(outputs, -1, *ones)),
            )
        case LowRank():
            return (
                Piece("first", bare, first.reshape(-1, channels, *kernel)),
                Piece("last", final, last.reshape(outputs, -1, *ones)),
            )
        case Spatial():
            return _spatial(form, factors, op)
        case Tucker():
            core, outer = _split(last, form.rank)
            return (
                Piece("first", point, first.reshape(form.inner, channels, *ones)),
                Piece("core", bare, core.reshape(form.rank, form.inner, *kernel)),
                Piece("last", final, outer.reshape(outputs, form.rank, *ones)),
            )
        case _:
            raise TypeError(f"{type(form).__name__} is no form of layers")


def _spatial(form: Spatial, factors: Factors, op: Conv) -> tuple[Piece, ...]:
    outputs, channels, kh, kw = form.shape
    (down, across), (top, left, bottom, right), (dh, dw) = op.stride, op.pad, op.dilation
    return (
        Piece(
            "vertical",
            Conv((down, 1), (top, 0, bottom, 0), (dh, 1)),
            factors.first.reshape(form.rank, channels, kh, 1),
        ),
        Piece(
            "horizontal",
            Conv((1, across), (0, left, 0, right), (1, dw), op.activation),
            factors.last.reshape(outputs, form.rank, 1, kw),
        ),
    )


def _split(last: Array, rank: int) -> tuple[Array, Array]:
    """Return the factors of a matrix of low rank, what passes between them all of one scale."""
    u, s, v = np.linalg.svd(last, full_matrices=False)
    return v[:rank], u[:, :rank] * s[:rank]
