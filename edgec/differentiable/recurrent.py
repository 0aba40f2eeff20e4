"""Recurrent layers, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgec import ops
from edgec.differentiable.rule import Rule
from edgec.ir import Op
from edgec.ops.recurrent import Function

__all__ = ["RECURRENT"]

_FUNCTIONS: dict[str, Callable[[Tensor, Function], Tensor]] = {
    "Affine": lambda x, f: f.alpha * x + f.beta,
    "Elu": lambda x, f: functional.elu(x, f.alpha),
    "HardSigmoid": lambda x, f: (f.alpha * x + f.beta).clamp(0, 1),
    "LeakyRelu": lambda x, f: functional.leaky_relu(x, f.alpha),
    "Relu": lambda x, f: x.relu(),
    "ScaledTanh": lambda x, f: f.alpha * torch.tanh(f.beta * x),
    "Sigmoid": lambda x, f: x.sigmoid(),
    "Softplus": lambda x, f: functional.softplus(x),
    "Softsign": lambda x, f: functional.softsign(x),
    "Tanh": lambda x, f: x.tanh(),
    "ThresholdedRelu": lambda x, f: torch.where(x > f.alpha, x, 0 * x),
}

_State = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class _Cell:
    """One direction of a layer: what is added at each step, and what a state becomes.

    Parameters
    ----------
    recurrent
        ``[G * H, H]``.
    bias
        Of the product with the state, ``[G * H]``.
    peepholes
        Of the gates i, o and f of an LSTM, ``[3, H]``.
    """

    op: ops.Recurrent
    direction: int
    recurrent: Tensor
    bias: Tensor
    peepholes: Tensor | None

    def _applied(self, which: int, x: Tensor) -> Tensor:
        function = self.op.functions_of(self.direction)[which]
        clip = self.op.clip
        return _FUNCTIONS[function.name](x.clamp(-clip, clip), function)

    def next(self, entering: Tensor, state: _State) -> _State:
        """Return the state after a step, given the input's product with its weights."""
        if isinstance(self.op, ops.GRU):
            return (self._gru(self.op, entering, state[0]),)
        gates = entering + state[0] @ self.recurrent.T + self.bias
        if isinstance(self.op, ops.LSTM):
            return self._lstm(self.op, gates, state)
        return (self._applied(0, gates),)

    def _gru(self, op: ops.GRU, entering: Tensor, h: Tensor) -> Tensor:
        size = h.shape[-1]
        weights, biases = self.recurrent.split(size), self.bias.split(size)
        parts = entering.split(size, -1)
        z, r = (self._applied(0, parts[k] + h @ weights[k].T + biases[k]) for k in range(2))
        if op.linear_before_reset:
            candidate = parts[2] + r * (h @ weights[2].T + biases[2])
        else:
            candidate = parts[2] + (r * h) @ weights[2].T + biases[2]
        return (1 - z) * self._applied(1, candidate) + z * h

    def _lstm(self, op: ops.LSTM, gates: Tensor, state: _State) -> _State:
        c = state[1]
        i, o, f, n = gates.split(c.shape[-1], -1)
        seen = self.peepholes
        if seen is not None:
            i, f = i + seen[0] * c, f + seen[2] * c
        i = self._applied(0, i)
        f = 1 - i if op.input_forget else self._applied(0, f)
        after = f * c + i * self._applied(1, n)
        if seen is not None:
            o = o + seen[1] * after
        # What the cell yields is not clipped: only what enters a gate is.
        function = op.functions_of(self.direction)[2]
        return self._applied(0, o) * _FUNCTIONS[function.name](after, function), after


def _recurrent(
    op: ops.Recurrent,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Tensor | None = None,
    *states: Tensor | None,
) -> tuple[Tensor, ...]:
    count, given = op.states, (*states, None, None, None)
    size, batch = r.shape[-1], x.shape[1]
    peepholes = given[count] if isinstance(op, ops.LSTM) else None
    outputs, ends = [], []
    for d in range(op.directions):
        one, two = (w.new_zeros(op.gates * size),) * 2 if b is None else b[d].split(len(r[d]))
        seen = None if peepholes is None else peepholes[d].reshape(3, size)
        cell = _Cell(op, d, r[d], two, seen)
        state = tuple(x.new_zeros(batch, size) if s is None else s[d] for s in given[:count])
        backwards = op.direction == "reverse" or d == 1
        read = _turned(x, lengths) if backwards else x
        found, state = _run(cell, read @ w[d].T + one, state, lengths)
        outputs.append(_turned(found, lengths) if backwards else found)
        ends.append(state)
    return torch.stack(outputs, 1), *(torch.stack(s) for s in zip(*ends, strict=True))


def _run(
    cell: _Cell, entering: Tensor, state: _State, lengths: Tensor | None
) -> tuple[Tensor, _State]:
    """Return what a cell yields at each step, zero behind the end, and its last state."""
    found = []
    for t in range(entering.shape[0]):
        after = cell.next(entering[t], state)
        if lengths is None:
            state = after
            found.append(after[0])
            continue
        going = (t < lengths)[:, None]
        state = tuple(torch.where(going, a, s) for a, s in zip(after, state, strict=True))
        found.append(torch.where(going, after[0], 0 * after[0]))
    return torch.stack(found), state


def _turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return sequences ``[T, N, C]`` backwards; what lies behind their ends stays there."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0])[:, None]
    places = torch.where(steps < lengths, lengths - 1 - steps, steps).to(torch.int64)
    return torch.gather(x, 0, places[..., None].expand(x.shape))


RECURRENT: dict[type[Op], Rule] = {
    ops.GRU: _recurrent,
    ops.LSTM: _recurrent,
    ops.RNN: _recurrent,
}
