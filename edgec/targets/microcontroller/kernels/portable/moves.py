"""Moves of numbers that stay as they are, in portable C."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgec.program import Layer, Tensor
from edgec.program.operators import Concatenation, Pad, Reshape, Slice, Split, Transpose
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function, Table
from edgec.targets.microcontroller.kernels.portable.columns import COPY, FILL
from edgec.targets.microcontroller.kernels.portable.strides import (
    Axis,
    contiguous,
    merged,
    nested,
)

__all__ = ["concatenation", "pad", "reshape", "slice_", "split", "transpose", "unchanged"]

_PICK = Function(
    "$pick",
    "int8_t *$pick(int8_t *to, const int8_t *from, int32_t count, int32_t step, int32_t size)",
    """\
{
    /* Numbers of some bytes each that do not lie one behind the other. */
    for (int32_t i = 0; i < count; i++) {
        for (int32_t k = 0; k < size; k++) {
            *to++ = from[k];
        }
        from += step;
    }
    return to;
}
""",
)

_FILL_WITH = Function(
    "$fill_with",
    "int8_t *$fill_with(int8_t *to, const int8_t *value, int32_t size, int32_t count)",
    """\
{
    while (count-- > 0) {
        for (int32_t k = 0; k < size; k++) {
            *to++ = value[k];
        }
    }
    return to;
}
""",
)


def reshape(layer: Layer, core: Core) -> Code | None:
    """Nothing is to be done: the numbers lie as they are."""
    if not isinstance(layer.op, Reshape):
        return None
    return unchanged(layer)


def unchanged(layer: Layer) -> Code:
    """Return code of a layer whose result is its first operand, byte for byte.

    It copies where the two cannot lie at one place, as where the operand is a constant.
    """
    size = layer.output.size_bytes
    call = f"(void)$copy({_bytes('y0')}, {_bytes('x0', 'const ')}, {size});"
    return Code(call, (COPY,), slack={0: 0}, view=True)


def _bytes(pointer: str, qualifier: str = "") -> str:
    return f"({qualifier}int8_t *)({qualifier}void *){{{pointer}}}"


# ---- pieces of one operand


def transpose(layer: Layer, core: Core) -> Code | None:
    """Axes in another order."""
    op = layer.op
    if not isinstance(op, Transpose):
        return None
    x, y = layer.input(0), layer.output
    apart = contiguous(x.shape)
    steps = [apart[axis] for axis in op.perm]
    if merged([Axis(n, (s,)) for n, s in zip(y.shape, steps, strict=True)]) == merged(
        [Axis(n, (s,)) for n, s in zip(y.shape, contiguous(y.shape), strict=True)]
    ):
        return unchanged(layer)
    text, functions = _picked(y, 0, steps, 0)
    return Code(text, functions)


def slice_(layer: Layer, core: Core) -> Code | None:
    """Part of a tensor."""
    op = layer.op
    if not isinstance(op, Slice):
        return None
    x, y = layer.input(0), layer.output
    apart = contiguous(x.shape)
    start = sum(begin * step for begin, step in zip(op.begin, apart, strict=True))
    steps = [stride * step for stride, step in zip(op.strides, apart, strict=True)]
    text, functions = _picked(y, 0, steps, start)
    return Code(text, functions)


def split(layer: Layer, core: Core) -> Code | None:
    """A tensor cut along an axis."""
    op = layer.op
    if not isinstance(op, Split):
        return None
    x = layer.input(0)
    apart = contiguous(x.shape)
    texts: list[str] = []
    functions: dict[str, Function] = {}
    start = 0
    for k, y in enumerate(layer.outputs):
        text, used = _picked(y, k, apart, start)
        texts.append(text)
        functions |= {f.name: f for f in used}
        start += y.shape[op.axis] * apart[op.axis]
    return Code("\n".join(texts), tuple(functions.values()))


def _picked(
    y: Tensor, k: int, steps: Sequence[int], start: int
) -> tuple[str, tuple[Function, ...]]:
    """Return statements that write a result in order from numbers that lie apart."""
    size = y.dtype.numpy.itemsize
    axes = [
        Axis(length, (to * size, step * size))
        for length, to, step in zip(y.shape, contiguous(y.shape), steps, strict=True)
    ]
    loops = merged(axes)
    to, start_text = _bytes(f"y{k}"), f" + {start * size}" if start else ""
    source = f"{_bytes('x0', 'const ')}{start_text}"
    if loops and loops[-1].steps == (size, size):
        *loops, inner = loops
        body = f"(void)$copy({to}{{t}}, {source}{{f}}, {inner.length * size});"
        return nested(loops, body, ("t", "f")), (COPY,)
    *loops, inner = loops or [Axis(1, (size, size))]
    body = f"(void)$pick({to}{{t}}, {source}{{f}}, {inner.length}, {inner.steps[1]}, {size});"
    return nested(loops, body, ("t", "f")), (_PICK,)


# ---- several operands, or more than there was


def concatenation(layer: Layer, core: Core) -> Code | None:
    """Tensors on one grid, joined along an axis."""
    op = layer.op
    if not isinstance(op, Concatenation) or op.activation != "none":
        return None
    y = layer.output
    tensors = [layer.input(k) for k in range(len(layer.inputs))]
    if any(t.dtype is not y.dtype for t in tensors):
        return None
    if y.grid is not None and any(_grid(t) != _grid(y) for t in tensors):
        return None
    if len(tensors) == 1:
        return unchanged(layer)
    size = y.dtype.numpy.itemsize
    outer = math.prod(y.shape[: op.axis])
    chunks = [t.size // outer * size for t in tensors]
    total, before = sum(chunks), 0
    lines, slack = [], {}
    for k, chunk in enumerate(chunks):
        lines.append(
            f"(void)$copy({_bytes('y0')} + {before}{{t}}, "
            f"{_bytes(f'x{k}', 'const ')}{{f{k}}}, {chunk});"
        )
        slack[k] = (outer - 1) * (chunk - total) - before
        before += chunk
    axes = [Axis(outer, (total, *chunks))] if outer > 1 else []
    names = ("t", *(f"f{k}" for k in range(len(chunks))))
    return Code(nested(axes, "\n".join(lines), names), (COPY,), slack=slack)


def _grid(tensor: Tensor) -> tuple[float, int] | None:
    return None if tensor.grid is None else (tensor.scale, tensor.zero_point)


def pad(layer: Layer, core: Core) -> Code | None:
    """What stands for zero around a tensor, written in order."""
    op = layer.op
    if not isinstance(op, Pad):
        return None
    x, y = layer.input(0), layer.output
    if x.dtype is not y.dtype:
        return None
    if not any(map(any, op.pads)):
        return unchanged(layer)
    size = y.dtype.numpy.itemsize
    value = np.array([op.value], y.dtype.numpy)
    raw = value.view(np.int8)
    tables: dict[str, Table] = {}
    if len(set(raw.tolist())) == 1:
        fill = f"to = $fill(to, {raw[0]}, {{count}});"
        functions: tuple[Function, ...] = (COPY, FILL)
    else:
        fill = f"to = $fill_with(to, {{{{value}}}}, {size}, {{numbers}});"
        functions = (COPY, _FILL_WITH)
        tables["value"] = Table(raw, {"other": size})
    moved = [axis for axis, pair in enumerate(op.pads) if any(pair)]
    inner = moved[-1] if moved else 0
    # Axes that nothing is added to are one with what lies inside of them.
    chunk = math.prod(x.shape[inner:]) * size

    def level(axis: int) -> list[str]:
        """Return the lines for one turn of the axes before."""
        before, after = op.pads[axis]
        beneath = math.prod(y.shape[axis + 1 :])

        def filled(length: int) -> list[str]:
            numbers = length * beneath
            if not numbers:
                return []
            return [
                fill.replace("{count}", str(numbers * size)).replace("{numbers}", str(numbers))
            ]

        if axis == inner:
            middle = [f"to = $copy(to, from, {chunk});", f"from += {chunk};"]
        else:
            head = f"for (int32_t i{axis} = 0; i{axis} < {x.shape[axis]}; i{axis}++) {{{{"
            middle = [head, *(f"    {line}" for line in level(axis + 1)), "}}"]
            if x.shape[axis] == 1:
                middle = level(axis + 1)
        return [*filled(before), *middle, *filled(after)]

    text = [
        f"int8_t *to = {_bytes('y0')};",
        f"const int8_t *from = {_bytes('x0', 'const ')};",
        *level(0),
        "(void)to;",
        "(void)from;",
    ]
    slack = {0: _pad_slack(x.shape, op.pads, inner) * size}
    return Code("\n".join(text), functions, tables, slack=slack)


def _pad_slack(shape: Sequence[int], pads: Sequence[tuple[int, int]], inner: int) -> int:
    """Return the slack in numbers: how far writing runs ahead of reading."""
    read = written = 0
    total = math.prod(shape)
    least = total

    def visit(axis: int) -> None:
        nonlocal read, written, least
        beneath = math.prod(
            length + sum(pair)
            for length, pair in zip(shape[axis + 1 :], pads[axis + 1 :], strict=True)
        )
        for side, extra in enumerate(pads[axis]):
            written += extra * beneath
            if read < total:
                least = min(least, read - written)
            if side == 0:
                if axis == inner:
                    chunk = math.prod(shape[inner:])
                    read, written = read + chunk, written + chunk
                else:
                    for _ in range(shape[axis]):
                        visit(axis + 1)

    visit(0)
    return least
