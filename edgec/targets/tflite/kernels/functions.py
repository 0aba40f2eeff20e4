"""Mathematical functions that TFLite lacks, as formulas of builtins that it has.

Each keeps a relative error of a few units in the last place of float32, near zero too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgec.ir import DType, Node, Op
from edgec.ops import (
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Cosh,
    Erf,
    Neg,
    Round,
    Sign,
    Sinh,
    Tan,
)
from edgec.targets.tflite.kernels.formula import Formula
from edgec.targets.tflite.kernels.kernel import (
    NUMBERS,
    Constraint,
    Kernel,
    elementwise,
    pointwise,
)
from edgec.targets.tflite.kernels.shape import unchanged
from edgec.targets.tflite.lower import Lowering

__all__ = ["CONSTRAINTS", "LOWERINGS", "magnitude"]

_HALF_SQUARE = float(np.exp(2) / 2)

# Of atanh(erf(x)) / x in powers of x^2, fitted so that the largest relative error of
# tanh(x * p(x^2)) against erf is least: 1e-7, and 3e-7 as computed in float32. The last factor
# is positive, so that the argument of tanh stays large where erf is 1.
_ERF = (
    1.1283792257308960,
    0.10276905447244644,
    -0.00019182967662345618,
    -0.00061978574376553300,
    8.7637788965366780e-05,
    -5.6685566960368305e-06,
    1.4185714292125340e-07,
)


def _formula(write: Callable[[Formula], int]) -> Kernel:
    """Return the lowering of a function of one float."""

    def run(b: Lowering, node: Node, op: Op) -> None:
        del op
        f = Formula.of(b, node)
        f.done(node, write(f))

    return Kernel(run)


def magnitude(f: Formula) -> int:
    """``|x|`` of a float or an integer of 32 or 64 bits."""
    if f.b.info(f.x).dtype is DType.INT64:  # ABS takes no such numbers
        return f.most(f.x, f("NEG", f.x, options="Neg"))
    return f("ABS", f.x, options="Abs")


def _signed(f: Formula, value: int) -> int:
    """Return a magnitude with the sign of `x`; that of an odd function."""
    return f.mul(f("SIGN", f.x, options="Sign"), value)


def _complement(f: Formula) -> int:
    """``sqrt(1 - x^2)``, in the form that loses nothing where x is near 1."""
    return f("SQRT", f.mul(f.add(f.x, 1.0), f.sub(1.0, f.x)))


def _log1p(f: Formula, u: int) -> int:
    """``ln(1 + u)``, without loss for small `u` too.

    There it is ``2 atanh(s)`` with ``s = u / (2 + u)``, by the first terms of its series.
    """
    s = f.div(u, f.add(u, 2.0))
    z = f.mul(s, s)
    series = f.mul(s, f.polynomial(z, (2.0, 2 / 3, 2 / 5)))
    return f.where(f.less(z, 0.0025), series, f("LOG", f.add(u, 1.0)))


def _acosh(f: Formula) -> int:
    t = f.sub(f.x, 1.0)
    root = f.mul(f("SQRT", t), f("SQRT", f.add(t, 2.0)))
    return _log1p(f, f.add(t, root))


def _asinh(f: Formula) -> int:
    """``ln(1 + a + a^2 / (1 + sqrt(1 + a^2)))`` of the magnitude, whose square may overflow."""
    a = magnitude(f)
    c = f.least(a, 1e9)  # beyond, the quotient is 1
    root = f("SQRT", f.add(f.mul(c, c), 1.0))
    part = f.mul(a, f.div(c, f.add(root, 1.0)))
    return _signed(f, _log1p(f, f.add(a, part)))


def _atan(f: Formula) -> int:
    shape = f.b.info(f.x).shape
    ones = f("FILL", f.b.ints("shape", shape), 1.0, options="Fill", shape=shape)
    return f("ATAN2", f.x, ones)


def _atanh(f: Formula) -> int:
    minus = f("NEG", f.x, options="Neg")
    return f.mul(f.sub(_log1p(f, f.x), _log1p(f, minus)), 0.5)


def _cosh(f: Formula) -> int:
    """``(exp(x - 2) + exp(-x - 2)) * e^2 / 2``, which overflows no sooner than it must."""
    up = f("EXP", f.sub(f.x, 2.0), options="Exp")
    down = f("EXP", f.sub(-2.0, f.x), options="Exp")
    return f.mul(f.add(up, down), _HALF_SQUARE)


def _sinh(f: Formula) -> int:
    """``(1 - exp(-a)) * (exp(a) + 1) / 2``, where ELU is ``exp - 1`` without loss."""
    a = magnitude(f)
    fall = f("ELU", f("NEG", a, options="Neg"))
    half = f.add(f.mul(f("EXP", f.sub(a, 2.0), options="Exp"), _HALF_SQUARE), 0.5)
    return _signed(f, f.mul(f("NEG", fall, options="Neg"), half))


def _sign(b: Lowering, node: Node, op: Sign) -> None:
    f = Formula.of(b, node)
    match node.output.type.dtype:
        case DType.FLOAT32:
            f.done(node, f("SIGN", f.x, options="Sign"))
        case DType.UINT8:
            f.done(node, f.least(f.x, 1.0))
        case _:
            f.done(node, f.most(f.least(f.x, 1.0), -1.0))


_ABS = pointwise("ABS", "Abs", (DType.INT32, DType.FLOAT32))
_NEG = pointwise("NEG", "Neg", (DType.INT32, DType.INT64, DType.FLOAT32))


def _abs(b: Lowering, node: Node, op: Abs) -> None:
    match node.output.type.dtype:
        case DType.UINT8:
            unchanged(b, node)
        case DType.INT64:
            f = Formula.of(b, node)
            f.done(node, magnitude(f))
        case _:
            _ABS(b, node, op)


LOWERINGS = {
    Abs: Kernel(_abs, NUMBERS),
    Acos: _formula(lambda f: f("ATAN2", _complement(f), f.x)),
    Acosh: _formula(_acosh),
    Asin: _formula(lambda f: f("ATAN2", f.x, _complement(f))),
    Asinh: _formula(_asinh),
    Atan: _formula(_atan),
    Atanh: _formula(_atanh),
    Cosh: _formula(_cosh),
    Erf: _formula(lambda f: f("TANH", f.mul(f.x, f.polynomial(f.mul(f.x, f.x), _ERF)))),
    Neg: Kernel(_NEG, NUMBERS),
    Round: Kernel(elementwise("ROUND")),
    Sign: Kernel(_sign, NUMBERS),
    Sinh: _formula(_sinh),
    Tan: _formula(lambda f: f.div(f("SIN", f.x), f("COS", f.x, options="Cos"))),
}

CONSTRAINTS: tuple[Constraint, ...] = ()
