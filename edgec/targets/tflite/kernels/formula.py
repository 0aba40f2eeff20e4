"""Formulas of several builtins, written as one writes them on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from edgec.errors import InternalError
from edgec.ir import Array, DType, Node, Value
from edgec.targets.tflite.lower import Lowering, Perm, Stored, identity

__all__ = ["Formula"]


class Formula:
    """Writes builtins; its methods return the tensor they add, of the type of `x`.

    An operand is a tensor, given as its ``int``, or a number, given as a ``float``.

    Parameters
    ----------
    x
        The tensor that the formula is of.
    perm
        The order that its axes are stored in, and those of all that is computed from it.
    """

    def __init__(self, b: Lowering, x: int, perm: Perm) -> None:
        self.b, self.x, self.perm = b, x, perm

    @classmethod
    def of(cls, b: Lowering, node: Node, last: int | None = None) -> Self:
        """Return a formula of a node's first operand, stored as it is or with an axis last."""
        value = node.inputs[0]
        perm = b.order_of(value)
        if last is not None and perm[-1] != last:
            perm = (*(axis for axis in perm if axis != last), last)
        return cls(b, b.get(value, perm), perm)

    def __call__(
        self,
        code: str,
        *operands: int | float,
        options: str = "",
        shape: Sequence[int] | None = None,
        dtype: DType | None = None,
        version: int | None = None,
        **fields: Any,
    ) -> int:
        """Add a builtin whose result broadcasts its operands, unless `shape` is given."""
        tensors = [o if isinstance(o, int) else self.number(o) for o in operands]
        if shape is None:
            shape = np.broadcast_shapes(*(self.b.info(t).shape for t in tensors))
        kind = dtype or self.b.info(self.x).dtype
        out = self.b.tensor(f"{self.b.layer}/{code.lower()}", kind, shape)
        self.b.operator(code, tensors, [out], options, version, **fields)
        return out

    def number(self, value: float | Array) -> int:
        """Return a constant of the type of `x`."""
        array = np.asarray(value).astype(self.b.info(self.x).dtype.numpy)
        return self.b.constant(f"{self.b.layer}/constant", array)

    def parameter(self, value: Value, axes: Sequence[int]) -> int:
        """Return an operand whose axes are those of `x` named, ready to broadcast with it."""
        rank = len(self.perm)
        along = tuple(value.type.ints[axes.index(a)] if a in axes else 1 for a in range(rank))
        array = self.b.graph.constant(value)
        if array is not None:
            return self.number(array.reshape(along).transpose(self.perm))
        source = self.b.reshaped(self.b.row_major(value, integer=False), along)
        return self.b.in_order(Stored(source, identity(rank)), self.perm)

    def add(self, a: int | float, c: int | float, fused: int = 0) -> int:
        """``a + c``, and an activation."""
        return self("ADD", a, c, options="Add", fusedActivationFunction=fused)

    def sub(self, a: int | float, c: int | float) -> int:
        """``a - c``."""
        return self("SUB", a, c, options="Sub", fusedActivationFunction=0)

    def mul(self, a: int | float, c: int | float) -> int:
        """``a * c``."""
        return self("MUL", a, c, options="Mul", fusedActivationFunction=0)

    def div(self, a: int | float, c: int | float) -> int:
        """``a / c``."""
        return self("DIV", a, c, options="Div", fusedActivationFunction=0)

    def most(self, a: int | float, c: int | float) -> int:
        """The larger of two."""
        return self("MAXIMUM", a, c, options="MaximumMinimum")

    def least(self, a: int | float, c: int | float) -> int:
        """The smaller of two."""
        return self("MINIMUM", a, c, options="MaximumMinimum")

    def equal(self, a: int | float, c: int | float) -> int:
        """Whether ``a == c``."""
        return self("EQUAL", a, c, options="Equal", dtype=DType.BOOL)

    def less(self, a: int | float, c: int | float) -> int:
        """Whether ``a < c``."""
        return self("LESS", a, c, options="Less", dtype=DType.BOOL)

    def where(self, condition: int, a: int | float, c: int | float) -> int:
        """``a`` where the condition holds, ``c`` elsewhere."""
        return self("SELECT_V2", condition, a, c, options="SelectV2")

    def polynomial(self, z: int, factors: Sequence[float]) -> int:
        """``factors[0] + factors[1] * z + ...``, by Horner's rule."""
        *rest, last = factors
        total: int | float = last
        for factor in reversed(rest):
            total = self.add(self.mul(z, total), factor)
        return total if isinstance(total, int) else self.number(total)

    def reduced(self, code: str, tensor: int, axes: Sequence[int]) -> int:
        """Reduce axes of `x`, which are kept with length 1."""
        places = sorted(self.perm.index(axis) for axis in axes)
        shape = [1 if i in places else n for i, n in enumerate(self.b.info(tensor).shape)]
        kind = self.b.info(tensor).dtype
        out = self.b.tensor(f"{self.b.layer}/{code.lower()}", kind, shape)
        where = self.b.ints("axes", places)
        self.b.operator(code, [tensor, where], [out], "Reducer", keepDims=True)
        return out

    def done(self, node: Node, result: int) -> None:
        """Let the last builtin, which made `result`, fill the output; or a cast of it."""
        last = self.b.model.operators[-1]
        if last.outputs != (result,):
            raise InternalError(f"the formula of {node.layer} does not end with its result")
        target = self.b.put(node, self.perm)
        was, wanted = self.b.info(result).dtype, self.b.info(target).dtype
        if was is wanted:
            self.b.model.operators[-1] = replace(last, outputs=(target,))
        else:
            kinds = {"inDataType": was, "outDataType": wanted}
            self.b.operator("CAST", [result], [target], "Cast", None, **kinds)
