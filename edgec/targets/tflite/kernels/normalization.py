"""Normalisation by statistics of the data, along any axes in any order of storage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.ir import DType, Node, Value
from edgec.ops import (
    LRN,
    BatchNorm,
    GroupNorm,
    Hardmax,
    InstanceNorm,
    LayerNorm,
    LogSoftmax,
    LpNorm,
    MeanVarianceNorm,
    OverClasses,
    RMSNorm,
    Softmax,
)
from edgec.targets.tflite.kernels.formula import Formula
from edgec.targets.tflite.kernels.kernel import Constraint, Kernel, is_integer
from edgec.targets.tflite.lower import Lowering, identity

__all__ = ["CONSTRAINTS", "LOWERINGS"]

_TINY = float(np.finfo(np.float32).tiny)


def _softmax(b: Lowering, node: Node, op: Softmax) -> None:
    integer = is_integer(b, node)
    x = node.inputs[0]
    perm = b.order_of(x, integer=integer)
    axis = x.type.rank + op.axis
    if perm[-1] != axis:  # the kernel works along the last axis
        perm = (*(a for a in perm if a != axis), axis)
    source = b.get(x, perm, integer=integer)
    target = b.put(node, perm)
    b.operator("SOFTMAX", [source], [target], "Softmax", 2 if integer else 1, beta=1.0)


def _of_classes(b: Lowering, node: Node, op: OverClasses) -> Formula:
    """Return a formula on a tensor whose last axis is the one of `op`."""
    return Formula.of(b, node, last=node.inputs[0].type.rank + op.axis)


def _log_softmax(b: Lowering, node: Node, op: LogSoftmax) -> None:
    f = _of_classes(b, node, op)
    f.done(node, f("LOG_SOFTMAX", f.x, options="LogSoftmax"))


def _hardmax(b: Lowering, node: Node, op: Hardmax) -> None:
    f = _of_classes(b, node, op)
    shape = b.info(f.x).shape
    axis = b.ints("axis", len(shape) - 1)
    where = b.tensor(f"{b.layer}/arg_max", DType.INT32, shape[:-1])
    b.operator("ARG_MAX", [f.x, axis], [where], "ArgMax", outputType=DType.INT32)
    depth = b.ints("depth", shape[-1])
    one, zero = f.number(1.0), f.number(0.0)
    f.done(node, f("ONE_HOT", where, depth, one, zero, options="OneHot", shape=shape, axis=-1))


def _normalised(f: Formula, axes: Sequence[int], epsilon: float) -> int:
    """``(x - mean) / sqrt(var + epsilon)``."""
    centred = f.sub(f.x, f.reduced("MEAN", f.x, axes))
    return f.mul(centred, _inverse_deviation(f, centred, axes, epsilon))


def _inverse_deviation(f: Formula, x: int, axes: Sequence[int], epsilon: float) -> int:
    """``1 / sqrt(mean(x^2) + epsilon)``."""
    variance = f.reduced("MEAN", f.mul(x, x), axes)
    return f("RSQRT", f.add(variance, epsilon))


def _scaled(f: Formula, node: Node, y: int, axes: Sequence[int]) -> int:
    """``gamma * y + beta``, whose axes are those of `x` named."""
    gamma, *beta = node.inputs[1:]
    if not _is_all(f, gamma, 1):
        y = f.mul(y, f.parameter(gamma, axes))
    if beta and not _is_all(f, beta[0], 0):
        y = f.add(y, f.parameter(beta[0], axes))
    return y


def _is_all(f: Formula, value: Value, number: float) -> bool:
    array = f.b.graph.constant(value)
    return array is not None and bool((array == number).all())


def _layer_norm(b: Lowering, node: Node, op: LayerNorm) -> None:
    f = Formula.of(b, node)
    axes = range(len(f.perm) + op.axis, len(f.perm))
    f.done(node, _scaled(f, node, _normalised(f, axes, op.epsilon), axes))


def _rms_norm(b: Lowering, node: Node, op: RMSNorm) -> None:
    f = Formula.of(b, node)
    axes = range(len(f.perm) + op.axis, len(f.perm))
    f.done(
        node, _scaled(f, node, f.mul(f.x, _inverse_deviation(f, f.x, axes, op.epsilon)), axes)
    )


def _batch_norm(b: Lowering, node: Node, op: BatchNorm) -> None:
    f = Formula.of(b, node)
    arrays = [b.graph.constant(v) for v in node.inputs[1:]]
    if any(a is None for a in arrays):
        gamma, beta, mean, var = (f.parameter(v, (1,)) for v in node.inputs[1:])
        factor = f.mul(gamma, f("RSQRT", f.add(var, op.epsilon)))
        f.done(node, f.add(f.mul(f.sub(f.x, mean), factor), beta))
        return
    gamma64, beta64, mean64, var64 = (a.astype(np.float64) for a in arrays if a is not None)
    k = gamma64 / np.sqrt(var64 + op.epsilon)
    along = [-1 if axis == 1 else 1 for axis in f.perm]
    scaled = f.mul(f.x, f.number(k.reshape(along)))
    f.done(node, f.add(scaled, f.number((beta64 - k * mean64).reshape(along))))


def _instance_norm(b: Lowering, node: Node, op: InstanceNorm) -> None:
    f = Formula.of(b, node)
    f.done(node, _scaled(f, node, _normalised(f, range(2, len(f.perm)), op.epsilon), (1,)))


def _group_norm(b: Lowering, node: Node, op: GroupNorm) -> None:
    """Split the channels where they are stored, and join neighbouring axes of the image."""
    f = Formula.of(b, node)
    stored = b.info(f.x).shape
    shape: list[int] = []
    axes: list[int] = []
    before = 0
    for axis, length in zip(f.perm, stored, strict=True):
        if axis > 1 and before > 0:
            shape[-1] *= length
        else:
            shape += [op.groups, length // op.groups] if axis == 1 else [length]
            axes += [len(shape) - 1] if axis > 0 else []
        before = axis
    grouped = Formula(b, b.reshaped(f.x, shape), identity(len(shape)))
    y = b.reshaped(_normalised(grouped, axes, op.epsilon), stored)
    f.done(node, _scaled(f, node, y, (1,)))


def _mean_variance_norm(b: Lowering, node: Node, op: MeanVarianceNorm) -> None:
    f = Formula.of(b, node)
    centred = f.sub(f.x, f.reduced("MEAN", f.x, op.axes))
    deviation = f("SQRT", f.reduced("MEAN", f.mul(centred, centred), op.axes))
    f.done(node, f.div(centred, f.add(deviation, 1e-9)))


def _lp_norm(b: Lowering, node: Node, op: LpNorm) -> None:
    f = Formula.of(b, node)
    axes = (len(f.perm) + op.axis,)
    if op.p == 1:
        norm = f.reduced("SUM", f("ABS", f.x, options="Abs"), axes)
    else:
        norm = f("SQRT", f.reduced("SUM", f.mul(f.x, f.x), axes))
    # Where all values are zero so is the result: 0 / 0 must not be computed.
    f.done(node, f.div(f.x, f("MAXIMUM", norm, _TINY, options="MaximumMinimum")))


def _lrn(b: Lowering, node: Node, op: LRN) -> None:
    f = Formula.of(b, node, last=1)
    shape = b.info(f.x).shape
    image = b.reshaped(f.x, (1, 1, int(np.prod(shape[:-1])), shape[-1]))
    y = f(
        "LOCAL_RESPONSE_NORMALIZATION",
        image,
        options="LocalResponseNormalization",
        radius=op.size // 2,
        bias=op.bias,
        alpha=op.alpha / op.size,
        beta=op.beta,
    )
    f.done(node, b.reshaped(y, shape))


LOWERINGS = {
    BatchNorm: Kernel(_batch_norm),
    GroupNorm: Kernel(_group_norm),
    Hardmax: Kernel(_hardmax),
    InstanceNorm: Kernel(_instance_norm),
    LRN: Kernel(_lrn),
    LayerNorm: Kernel(_layer_norm),
    LogSoftmax: Kernel(_log_softmax),
    LpNorm: Kernel(_lp_norm),
    MeanVarianceNorm: Kernel(_mean_variance_norm),
    RMSNorm: Kernel(_rms_norm),
    Softmax: Kernel(_softmax),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
