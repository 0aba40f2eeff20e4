"""One step of a recurrent layer, in simple operators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from typing_extensions import override

from edgec.ir import ABSENT, Array, Builder, Node, Op, Value
from edgec.ops import (
    GRU,
    LSTM,
    RNN,
    Abs,
    Add,
    Clip,
    Concat,
    Div,
    Elu,
    Exp,
    FullyConnected,
    Greater,
    HardSigmoid,
    LeakyRelu,
    Log,
    MatMul,
    Mul,
    Neg,
    Recurrent,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Sub,
    Tanh,
    Transpose,
    Where,
)
from edgec.ops.recurrent import Function

__all__ = ["CELL", "CELLS", "LENGTHS", "PEEPHOLES", "STATE", "Cell", "Writer"]

LENGTHS, STATE, CELL, PEEPHOLES = 4, 5, 6, 7  # operand numbers


class Writer:
    """Adds the operators that one layer consists of.

    Parameters
    ----------
    place
        Where new values are, for their names: direction and step.
    """

    def __init__(self, b: Builder, node: Node, op: Recurrent) -> None:
        self.b, self.node, self.op = b, node, op
        inputs = list(map(b.now, node.inputs))
        self.inputs = inputs + [ABSENT] * (PEEPHOLES + 1 - len(inputs))
        self.steps, self.batch, self.length = inputs[0].type.ints
        self.hidden = inputs[2].type.ints[2]
        self.dtype = inputs[0].type.dtype.numpy
        self.place = ""

    def add(self, op: Op, *inputs: Value, name: str) -> Value:
        """Add a node at this place."""
        near = f"{self.node.outputs[0].name}/{self.place}{name}"
        return self.b.step(op, *inputs, of=self.node, near=near)

    def number(self, value: float) -> Value:
        """Return a scalar."""
        array = np.asarray(value, self.dtype)
        return self.b.constant(array, near=f"{self.node.outputs[0].name}/number")

    def const(self, array: Array, name: str) -> Value:
        """Return a constant."""
        array = np.ascontiguousarray(array)
        return self.b.constant(array, near=f"{self.node.outputs[0].name}/{self.place}{name}")

    def zeros(self) -> Value:
        """Return a state of zeros."""
        return self.const(np.zeros((self.batch, self.hidden), self.dtype), "zeros")

    def cut(self, x: Value, cuts: Sequence[tuple[int, int]], name: str) -> Value:
        """Return a part of `x`: from and to, axis by axis."""
        starts, ends = tuple(a for a, _ in cuts), tuple(z for _, z in cuts)
        if (array := self.b.array(x)) is not None:
            return self.const(array[tuple(slice(a, z) for a, z in cuts)], name)
        axes = tuple(range(len(cuts)))
        return self.add(Slice(starts, ends, axes, (1,) * len(cuts)), x, name=name)

    def gates(self, x: Value, first: int, last: int, name: str) -> Value:
        """Return some gates of ``x [N, G * H]``."""
        h = self.hidden
        return self.cut(x, ((0, self.batch), (first * h, last * h)), name)

    def of_direction(self, x: Value, direction: int, name: str) -> Value:
        """Return ``x[direction]``."""
        if (array := self.b.array(x)) is not None:
            return self.const(array[direction], name)
        rest = x.type.ints[1:]
        if self.op.directions > 1:
            cuts = ((direction, direction + 1), *((0, length) for length in rest))
            x = self.cut(x, cuts, name)
        return self.add(Reshape(rest), x, name=name)

    def layer(self, x: Value, weight: Value, bias: Value | None, name: str) -> Value:
        """Return ``x @ weight.T + bias``."""
        array = self.b.array(weight)
        if array is not None and (bias is None or self.b.array(bias) is not None):
            more = () if bias is None else (bias,)
            return self.add(FullyConnected(), x, weight, *more, name=name)
        turned = self.add(Transpose((1, 0)), weight, name=name)
        product = self.add(MatMul(), x, turned, name=name)
        return product if bias is None else self.add(Add(), product, bias, name=name)

    def apply(self, function: Function, x: Value, name: str) -> Value:
        """Return an activation of `x`."""
        alpha, beta = function.alpha, function.beta
        match function.name:
            case "Affine":
                scaled = self.add(Mul(), x, self.number(alpha), name=name)
                return self.add(Add(), scaled, self.number(beta), name=name)
            case "ScaledTanh":
                scaled = self.add(Mul(), x, self.number(beta), name=name)
                curve = self.add(Tanh(), scaled, name=name)
                return self.add(Mul(), curve, self.number(alpha), name=name)
            case "Softsign":
                size = self.add(Abs(), x, name=name)
                below = self.add(Add(), size, self.number(1), name=name)
                return self.add(Div(), x, below, name=name)
            case "Softplus":  # max(x, 0) + log(1 + exp(-|x|)), which does not overflow
                size = self.add(Neg(), self.add(Abs(), x, name=name), name=name)
                above = self.add(Add(), self.add(Exp(), size, name=name), self.number(1),
                                 name=name)  # fmt: skip
                rest = self.add(Log(), above, name=name)
                return self.add(Add(), self.add(Relu(), x, name=name), rest, name=name)
            case "ThresholdedRelu":
                above = self.add(Greater(), x, self.number(alpha), name=name)
                return self.add(Where(), above, x, self.number(0), name=name)
        plain_forms: dict[str, Op] = {
            "Elu": Elu(alpha),
            "HardSigmoid": HardSigmoid(alpha, beta),
            "LeakyRelu": LeakyRelu(alpha),
            "Relu": Relu(),
            "Sigmoid": Sigmoid(),
            "Tanh": Tanh(),
        }
        return self.add(plain_forms[function.name], x, name=name)

    def clipped(self, x: Value) -> Value:
        """Return what enters the function of a gate."""
        c = self.op.clip
        return x if c == np.inf else self.add(Clip(-c, c), x, name="clipped")

    def sum(self, x: Value, y: Value, name: str) -> Value:
        """Return ``x + y``, computed here and now if both are constants."""
        a, b = self.b.array(x), self.b.array(y)
        if a is not None and b is not None:
            return self.const(a + b, name)
        return self.add(Add(), x, y, name=name)

    def joined(self, x: Value, y: Value, name: str) -> Value:
        """Return `x` and `y` one after the other."""
        a, b = self.b.array(x), self.b.array(y)
        if a is not None and b is not None:
            return self.const(np.concatenate([a, b]), name)
        return self.add(Concat(0), x, y, name=name)


class Cell(ABC):
    """The parameters of one direction, and what a step does with them."""

    def __init__(self, on: Writer, d: int) -> None:
        self.on = on
        self.functions = on.op.functions_of(d)
        self.w = on.of_direction(on.inputs[1], d, "w")
        self.r = on.of_direction(on.inputs[2], d, "r")
        self.biases: tuple[Value, Value] | None = None
        if not on.inputs[3].is_absent:
            both = on.of_direction(on.inputs[3], d, "b")
            half = both.type.ints[0] // 2
            self.biases = (
                on.cut(both, ((0, half),), "wb"),
                on.cut(both, ((half, 2 * half),), "rb"),
            )

    def input_bias(self) -> Value | None:
        """Return what is added to the products with the input, for all steps."""
        return None if self.biases is None else self.on.sum(*self.biases, "bias")

    def given(self, projected: Value, t: int, first: int, last: int) -> Value:
        """Return what the input gives some gates at step `t`."""
        n, h = self.on.batch, self.on.hidden
        return self.on.cut(projected, ((t * n, (t + 1) * n), (first * h, last * h)), "input")

    @abstractmethod
    def step(self, projected: Value, t: int, states: list[Value]) -> list[Value]:
        """Return the states after a step."""


class _RnnCell(Cell):
    @override
    def step(self, projected: Value, t: int, states: list[Value]) -> list[Value]:
        on = self.on
        recurrent = on.layer(states[0], self.r, None, "recurrent")
        total = on.add(Add(), self.given(projected, t, 0, 1), recurrent, name="sum")
        return [on.apply(self.functions[0], on.clipped(total), "h")]


class _GruCell(Cell):
    def __init__(self, on: Writer, d: int) -> None:
        super().__init__(on, d)
        h = on.hidden
        self.linear = isinstance(on.op, GRU) and on.op.linear_before_reset
        self.gates = on.cut(self.r, ((0, 2 * h), (0, h)), "r_gates")
        self.candidate = on.cut(self.r, ((2 * h, 3 * h), (0, h)), "r_candidate")
        self.inner_bias: Value | None = None
        if self.linear and self.biases is not None:
            self.inner_bias = on.cut(self.biases[1], ((2 * h, 3 * h),), "rb_candidate")

    @override
    def input_bias(self) -> Value | None:
        if self.inner_bias is None or self.biases is None:
            return super().input_bias()
        on, (w, r) = self.on, self.biases
        none = on.const(np.zeros(on.hidden, on.dtype), "rb_none")
        outer = on.joined(on.cut(r, ((0, 2 * on.hidden),), "rb_gates"), none, "rb_outer")
        return on.sum(w, outer, "bias")

    @override
    def step(self, projected: Value, t: int, states: list[Value]) -> list[Value]:
        on, (old,) = self.on, states
        recurrent = on.layer(old, self.gates, None, "recurrent")
        total = on.add(Add(), self.given(projected, t, 0, 2), recurrent, name="sum")
        both = on.apply(self.functions[0], on.clipped(total), "gates")
        update, reset = on.gates(both, 0, 1, "update"), on.gates(both, 1, 2, "reset")
        if self.linear:
            inner = on.layer(old, self.candidate, self.inner_bias, "inner")
            hidden = on.add(Mul(), reset, inner, name="hidden")
        else:
            kept = on.add(Mul(), reset, old, name="kept")
            hidden = on.layer(kept, self.candidate, None, "hidden")
        total = on.add(Add(), self.given(projected, t, 2, 3), hidden, name="total")
        new = on.apply(self.functions[1], on.clipped(total), "candidate")
        change = on.add(Sub(), old, new, name="change")
        carried = on.add(Mul(), update, change, name="carried")
        return [on.add(Add(), new, carried, name="h")]


class _LstmCell(Cell):
    def __init__(self, on: Writer, d: int) -> None:
        super().__init__(on, d)
        self.coupled = isinstance(on.op, LSTM) and on.op.input_forget
        self.peepholes: list[Value] = []
        if not on.inputs[PEEPHOLES].is_absent:
            p, h = on.of_direction(on.inputs[PEEPHOLES], d, "p"), on.hidden
            self.peepholes = [on.cut(p, ((k * h, (k + 1) * h),), "p") for k in range(3)]

    @override
    def step(self, projected: Value, t: int, states: list[Value]) -> list[Value]:
        on, (h, c) = self.on, states
        recurrent = on.layer(h, self.r, None, "recurrent")
        total = on.add(Add(), self.given(projected, t, 0, 4), recurrent, name="sum")
        if self.peepholes or self.coupled:
            i = self.gate(total, 0, c)
            f = on.add(Sub(), on.number(1), i, name="f") if self.coupled else None
            c = self.cell(total, i, self.gate(total, 2, c) if f is None else f, c)
            o = self.gate(total, 1, c)
        else:  # the functions of all gates at once
            gates = on.apply(
                self.functions[0], on.clipped(on.gates(total, 0, 3, "sums")), "gates"
            )
            i, o, f = (on.gates(gates, k, k + 1, name) for k, name in enumerate("iof"))
            c = self.cell(total, i, f, c)
        return [on.add(Mul(), o, on.apply(self.functions[2], c, "squashed"), name="h"), c]

    def cell(self, total: Value, i: Value, f: Value, c: Value) -> Value:
        """Return the cell after a step."""
        on = self.on
        entering = on.clipped(on.gates(total, 3, 4, "n"))
        new = on.add(Mul(), i, on.apply(self.functions[1], entering, "candidate"), name="new")
        return on.add(Add(), on.add(Mul(), f, c, name="kept"), new, name="c")

    def gate(self, total: Value, k: int, c: Value) -> Value:
        """Return gate `k`, which may see the cell."""
        on = self.on
        x = on.gates(total, k, k + 1, "gate")
        if self.peepholes:
            seen = on.add(Mul(), c, self.peepholes[k], name="seen")
            x = on.add(Add(), x, seen, name="gate")
        return on.apply(self.functions[0], on.clipped(x), "gate")


CELLS: dict[type[Recurrent], type[Cell]] = {GRU: _GruCell, LSTM: _LstmCell, RNN: _RnnCell}
