"""Reductions along axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgec.ir import DType, Node
from edgec.ops import (
    ArgMax,
    ArgMin,
    ReduceL1,
    ReduceL2,
    ReduceLogSum,
    ReduceLogSumExp,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
    ReduceSumSquare,
    Reduction,
)
from edgec.ops.reduce import PlaceAlongAxis
from edgec.targets.tflite.kernels.formula import Formula
from edgec.targets.tflite.kernels.functions import magnitude
from edgec.targets.tflite.kernels.kernel import (
    ANY,
    FLOAT,
    Constraint,
    Kernel,
    cast,
    is_integer,
)
from edgec.targets.tflite.lower import Lowering, Perm, Stored

__all__ = ["CONSTRAINTS", "LOWERINGS", "reduction"]

_SUMMED = FLOAT | {DType.INT32, DType.INT64}
_LARGEST = 3.4028234e38


def reduction(
    b: Lowering, node: Node, code: str, axes: tuple[int, ...], *, keepdims: bool
) -> None:
    """Add a reduction along axes of the value, wherever these are stored."""
    integer = is_integer(b, node)
    x = node.inputs[0]
    source = b.get(x, integer=integer)
    perm = b.order_of(x, integer=integer)
    target = b.put(node, _kept(perm, axes, keepdims=keepdims))
    stored = b.ints("axes", sorted(perm.index(axis) for axis in axes))
    b.operator(code, [source, stored], [target], "Reducer", keepDims=keepdims)


def _kept(perm: Perm, axes: Sequence[int], *, keepdims: bool) -> Perm:
    """Return the order of the axes that a reduction leaves."""
    if keepdims:
        return perm
    rest = [axis for axis in perm if axis not in axes]
    return tuple(sorted(rest).index(axis) for axis in rest)


def _reduce(code: str) -> Callable[[Lowering, Node, Reduction], None]:
    def run(b: Lowering, node: Node, op: Reduction) -> None:
        reduction(b, node, code, op.axes, keepdims=op.keepdims)

    return run


def _extreme(code: str, of_bools: str) -> Kernel:
    numbers, bools = _reduce(code), _reduce(of_bools)

    def run(b: Lowering, node: Node, op: Reduction) -> None:
        (bools if node.output.type.dtype is DType.BOOL else numbers)(b, node, op)

    return Kernel(run, ANY)


def _composed(
    before: Callable[[Formula], int],
    code: str,
    after: Callable[[Formula, int], int] | None = None,
) -> Callable[[Lowering, Node, Reduction], None]:
    """Return the lowering of a reduction with a function before and one behind it."""

    def run(b: Lowering, node: Node, op: Reduction) -> None:
        f = Formula.of(b, node)
        total = _total(f, node, op, code, before(f))
        f.done(node, total if after is None else after(f, total))

    return run


def _total(f: Formula, node: Node, op: Reduction, code: str, tensor: int) -> int:
    """Reduce a tensor of the formula, whose axes are those of the result from then on."""
    b, perm = f.b, f.perm
    f.perm = _kept(perm, op.axes, keepdims=op.keepdims)
    shape = [node.output.type.ints[axis] for axis in f.perm]
    out = b.tensor(f"{b.layer}/{code.lower()}", b.info(tensor).dtype, shape)
    stored = b.ints("axes", sorted(perm.index(axis) for axis in op.axes))
    b.operator(code, [tensor, stored], [out], "Reducer", keepDims=op.keepdims)
    return out


def _square(f: Formula) -> int:
    return f.mul(f.x, f.x)


def _log_sum_exp(b: Lowering, node: Node, op: ReduceLogSumExp) -> None:
    """The largest exponent is taken out, so that none overflows."""
    f = Formula.of(b, node)
    largest = f.reduced("REDUCE_MAX", f.x, op.axes)
    finite = f.most(f.least(largest, _LARGEST), -_LARGEST)
    powers = f("EXP", f.sub(f.x, finite), options="Exp")
    total = _total(f, node, op, "SUM", powers)
    taken = b.reshaped(finite, b.info(total).shape)
    f.done(node, f.add(f("LOG", total), taken))


def _place(code: str, options: str, extreme: str) -> Kernel:
    """Return the lowering of an operator that says where an extreme value is."""

    def run(b: Lowering, node: Node, op: PlaceAlongAxis) -> None:
        f = Formula.of(b, node)
        x, axis = f.x, f.perm.index(op.axis)
        if b.info(x).dtype is DType.INT16:
            x = cast(b, x, DType.INT32)
        if b.info(x).dtype is DType.INT64:  # no kernel takes it: where is it the extreme?
            x = f.equal(x, f.reduced(extreme, x, [op.axis]))
            found = _first(f, "ARG_MAX", "ArgMax", x, axis, last=op.last)
        else:
            found = _first(f, code, options, x, axis, last=op.last)
        shape = [1 if k == axis else n for k, n in enumerate(b.info(x).shape)]
        if op.keepdims:
            found = b.reshaped(found, shape)
        kept = _kept(f.perm, [op.axis], keepdims=op.keepdims)
        b.alias(node, Stored(found, kept), quantized=False)

    return Kernel(run, ANY)


def _first(f: Formula, code: str, options: str, x: int, axis: int, *, last: bool) -> int:
    """Return the place along a stored axis; the last of several by looking from behind."""
    b, long = f.b, DType.INT64
    if last:
        info = b.info(x)
        back = b.tensor(f"{b.layer}/reversed", info.dtype, info.shape)
        b.operator("REVERSE_V2", [x, b.ints("axes", [axis])], [back], "ReverseV2")
        x = back
    shape = [n for k, n in enumerate(b.info(x).shape) if k != axis]
    found = b.tensor(f"{b.layer}/place", long, shape)
    b.operator(code, [x, b.ints("axis", axis)], [found], options, outputType=long)
    if not last:
        return found
    end = b.constant(f"{b.layer}/end", np.array(b.info(x).shape[axis] - 1, np.int64))
    return f("SUB", end, found, options="Sub", dtype=long, fusedActivationFunction=0)


LOWERINGS = {
    ArgMax: _place("ARG_MAX", "ArgMax", "REDUCE_MAX"),
    ArgMin: _place("ARG_MIN", "ArgMin", "REDUCE_MIN"),
    ReduceL1: Kernel(_composed(magnitude, "SUM"), _SUMMED),
    ReduceL2: Kernel(_composed(_square, "SUM", lambda f, t: f("SQRT", t))),
    ReduceLogSum: Kernel(_composed(lambda f: f.x, "SUM", lambda f, t: f("LOG", t))),
    ReduceLogSumExp: Kernel(_log_sum_exp),
    ReduceMax: _extreme("REDUCE_MAX", "REDUCE_ANY"),
    ReduceMean: Kernel(_reduce("MEAN"), _SUMMED),
    ReduceMin: _extreme("REDUCE_MIN", "REDUCE_ALL"),
    ReduceProd: Kernel(_reduce("REDUCE_PROD"), _SUMMED),
    ReduceSum: Kernel(_reduce("SUM"), _SUMMED),
    ReduceSumSquare: Kernel(_composed(_square, "SUM"), _SUMMED),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
