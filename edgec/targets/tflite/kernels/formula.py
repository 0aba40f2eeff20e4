"""Formulas of several builtins, written as one writes them on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgec.ir import Array, DType, Node, Value
from edgec.targets.tflite.lower import Lowering, Perm, identity

__all__ = ["Formula"]


class Formula:
    """Writes the builtins of one node on float tensors; its methods return tensor numbers.

    Operands are tensors or numbers. All computed tensors keep the order of axes of `x`, the
    node's first operand.
    """

    def __init__(self, b: Lowering, node: Node, perm: Perm | None = None) -> None:
        self.b, self.node = b, node
        value = node.inputs[0]
        self.perm = perm or b.perm_of(value) or identity(value.type.rank)
        self.x = b.get(value, self.perm)

    def __call__(
        self,
        code: str,
        *operands: int | float | Array,
        options: str = "",
        shape: Sequence[int] | None = None,
        dtype: DType = DType.FLOAT32,
        version: int = 1,
        **fields: Any,
    ) -> int:
        """Add a builtin whose result broadcasts its operands, unless `shape` is given."""
        tensors = [o if isinstance(o, int) else self.number(o) for o in operands]
        if shape is None:
            shape = np.broadcast_shapes(*(self.b.info(t).shape for t in tensors))
        out = self.b.tensor(f"{self.b.layer}/{code.lower()}", dtype, shape)
        self.b.operator(code, tensors, [out], options, version, **fields)
        return out

    def number(self, value: float | Array) -> int:
        """Return a constant of float32."""
        array = np.asarray(value, np.float32)
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

    def reduced(self, code: str, tensor: int, axes: Sequence[int]) -> int:
        """Reduce axes of `x`, which are kept with length 1."""
        places = sorted(self.perm.index(axis) for axis in axes)
        shape = [1 if i in places else n for i, n in enumerate(self.b.info(tensor).shape)]
        out = self.b.tensor(f"{self.b.layer}/{code.lower()}", DType.FLOAT32, shape)
        where = self.b.ints("axes", places)
        self.b.operator(code, [tensor, where], [out], "Reducer", keepDims=True)
        return out

    def done(self, result: int) -> None:
        """Let the last builtin, which made `result`, fill the node's output."""
        last = self.b.model.operators[-1]
        target = self.b.put(self.node, self.perm)
        self.b.model.operators[-1] = replace(last, outputs=(target,))
        if last.outputs != (result,):
            raise InternalError(f"{self.node.layer} does not end with its result")
