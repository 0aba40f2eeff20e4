"""Powers of floats and of integers."""

from __future__ import annotations

from edgec.ir import DType, Node
from edgec.ops import Pow
from edgec.targets.tflite.kernels.formula import Formula
from edgec.targets.tflite.kernels.integers import operands
from edgec.targets.tflite.kernels.kernel import NUMBERS, Constraint, Kernel
from edgec.targets.tflite.kernels.shape import unchanged
from edgec.targets.tflite.lower import Lowering

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _pow(b: Lowering, node: Node, op: Pow) -> None:
    x, exponent = (v.type for v in node.inputs)
    constant = b.graph.constant(node.inputs[1])
    if constant is not None and constant.size == 1 and node.output.type == x:
        whole = float(constant.reshape(-1)[0])
        if whole == 1:
            unchanged(b, node)
            return
        if (found := _known(f := Formula.of(b, node), whole)) is not None:
            f.done(node, found)
            return
    if x.dtype is DType.FLOAT32 or exponent.dtype is DType.FLOAT32:
        f, (base, e) = operands(b, node, DType.FLOAT32)
        f.done(node, f("POW", base, e, options="Pow"))
    else:
        f, (base, e) = operands(b, node, x.dtype)
        f.done(node, _integer(f, base, e))


def _known(f: Formula, exponent: float) -> int | None:
    """Return a power by a constant, where products or a root give it: XNNPACK has no POW."""
    floating = f.b.info(f.x).dtype is DType.FLOAT32
    if exponent == 0.5 and floating:
        return f("SQRT", f.x)
    if exponent == -0.5 and floating:
        return f("RSQRT", f.x)
    if exponent in (-1, -2) and floating:
        return f.div(1.0, f.x if exponent == -1 else f.mul(f.x, f.x))
    if not exponent.is_integer() or not 2 <= exponent <= (4 if floating else 64):
        return None
    total, power, rest = None, f.x, int(exponent)
    while rest:
        if rest % 2:
            total = power if total is None else f.mul(total, power)
        rest //= 2
        power = f.mul(power, power) if rest else power
    return total


def _integer(f: Formula, base: int, exponent: int) -> int:
    """The product of those squares of squares that the bits of the exponent name.

    An exponent beyond 63 stands for an even or odd one below: what is not -1, 0 or 1 has long
    overflowed. A negative power is 0, or the same for -1 and 1.
    """
    few = f.add(_rest(f, exponent, 2.0), 62.0)
    e = f.least(exponent, few)
    total, power = f.number(1.0), base
    for bit in range(6):
        value = 2.0**bit
        named = f("GREATER_EQUAL", _rest(f, e, 2 * value), value, options="GreaterEqual",
                  dtype=DType.BOOL)  # fmt: skip
        total = f.mul(total, f.where(named, power, 1.0))
        power = f.mul(power, power) if bit < 5 else power
    square = f.mul(base, base)
    other = f("NOT_EQUAL", square, 1.0, options="NotEqual", dtype=DType.BOOL)
    lost = f("LOGICAL_AND", f.less(e, 0.0), other, options="LogicalAnd", dtype=DType.BOOL)
    return f.where(lost, 0.0, total)


def _rest(f: Formula, a: int, n: float) -> int:
    return f("FLOOR_MOD", a, n, options="FloorMod")


LOWERINGS = {Pow: Kernel(_pow, NUMBERS)}

CONSTRAINTS: tuple[Constraint, ...] = ()
