"""Loops over two tensors that broadcast, around a function for rows."""

from __future__ import annotations

import math

from edgec.program import Layer

__all__ = ["broadcast_call", "broadcast_slack"]


def broadcast_call(layer: Layer, call: str) -> str:
    """Return a call in as many loops as it takes.

    Parameters
    ----------
    call
        With ``{a}``, ``{b}`` and ``{y}`` for where the rows lie, ``{step_a}`` and ``{step_b}``
        for 1 or 0 numbers from one element to the next, and ``{count}``.
    """
    axes = _axes(layer.input(0).shape, layer.input(1).shape, layer.output.shape)
    *outer, (count, step_a, step_b) = axes
    strides, size = [], count
    for length, _, _ in reversed(outer):
        strides.append(size)
        size *= length
    a = b = y = ""
    head, tail = "", ""
    for k, ((length, to_a, to_b), to_y) in enumerate(
        zip(outer, reversed(strides), strict=True)
    ):
        name = f"i{k}"
        head += "    " * k + f"for (int32_t {name} = 0; {name} < {length}; {name}++) {{{{\n"
        tail = "\n" + "    " * k + "}}" + tail
        a += f" + {name} * {to_a}" if to_a else ""
        b += f" + {name} * {to_b}" if to_b else ""
        y += f" + {name} * {to_y}"
    fields = {
        "{a}": "{x0}" + a,
        "{b}": "{x1}" + b,
        "{y}": "{y0}" + y,
        "{step_a}": str(step_a),
        "{step_b}": str(step_b),
        "{count}": str(count),
    }
    for field, text in fields.items():
        call = call.replace(field, text)
    return head + "    " * len(outer) + call + tail


def broadcast_slack(layer: Layer) -> dict[int, int]:
    """Return the slack: what is as large as the result is read right before it is written."""
    y = layer.output
    return {
        k: 0
        for k in (0, 1)
        if layer.input(k).size == y.size and layer.input(k).dtype is y.dtype
    }


def _axes(
    a: tuple[int, ...], b: tuple[int, ...], y: tuple[int, ...]
) -> list[tuple[int, int, int]]:
    """Return length and the strides of both operands, for as few axes as it takes."""
    rank = len(y)
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    found: list[tuple[int, int, int]] = []
    for axis in range(rank):
        if y[axis] == 1:
            continue
        to_a = math.prod(a[axis + 1 :]) if a[axis] > 1 else 0
        to_b = math.prod(b[axis + 1 :]) if b[axis] > 1 else 0
        if found:
            length, last_a, last_b = found[-1]
            if last_a == to_a * y[axis] and last_b == to_b * y[axis]:
                found[-1] = (length * y[axis], to_a, to_b)
                continue
        found.append((y[axis], to_a, to_b))
    return found or [(1, 0, 0)]
