"""Convolutions with any kernel, two places at a time.

Where a window lies inside the picture its rows are read from there, piece by piece. Windows
over the edge are put together first, in a column, and so are all whose rows are too short for
vectors or too far apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgec.program import Layer
from edgec.program.operators import Conv, DepthwiseConv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.sums import Sums, Window
from edgec.targets.microcontroller.kernels.dsp.tiling import block
from edgec.targets.microcontroller.kernels.mve.moving import (
    COLUMN,
    DILATED_COLUMN,
    SHORT_COLUMN,
    short_windows,
)
from edgec.targets.microcontroller.kernels.mve.tile import LANES, Packed, packed
from edgec.targets.microcontroller.kernels.portable.layouts import WINDOW_TYPE, window_fields
from edgec.targets.microcontroller.kernels.traversal import window_slack

__all__ = ["conv", "conv_of_one_channel"]


def _is_short(window: Window) -> bool:
    """Whether rows of windows are no longer than a vector."""
    return window.kernel[1] * window.channels <= LANES and window.dilations == (1, 1)


def _gathering(window: Window) -> int:
    """Return how many instructions it takes to put a column together, or so."""
    rows = window.kernel[0]
    if _is_short(window):
        return 12 + 4 * rows  # most are not over the edge
    return 75 + (15 + 3 * -(-window.kernel[1] * window.channels // LANES)) * rows


def conv(layer: Layer, core: Core) -> Code | None:
    """Any convolution of one picture without groups."""
    if "mve" not in core.tiers or not isinstance(layer.op, Conv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None:
        return None
    return _code(layer, layer.op, window, sums)


def conv_of_one_channel(layer: Layer, core: Core) -> Code | None:
    """A depthwise convolution of one channel: it is a convolution like any other."""
    op, x, y = layer.op, layer.input(0), layer.output
    if "mve" not in core.tiers or not isinstance(op, DepthwiseConv):
        return None
    if x.shape[3] != 1 or x.shape[0] != 1:
        return None
    sums = Sums.of(layer)
    if sums is None:
        return None
    kernel = layer.input(1).shape[1:3]
    window = Window(
        height=x.shape[1],
        width=x.shape[2],
        channels=1,
        rows=y.shape[1],
        columns=y.shape[2],
        filters=y.shape[3],
        kernel=(kernel[0], kernel[1]),
        strides=op.strides,
        dilations=op.dilations,
        pads=op.pads,
    )
    return _code(layer, op, window, sums)


@dataclass(frozen=True, slots=True)
class _Inside:
    """Places whose windows lie inside the picture: rows and columns from, to."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def any(self) -> bool:
        """Whether there are two beside each other."""
        return self.rows[0] < self.rows[1] and self.columns[0] + 1 < self.columns[1]

    @classmethod
    def of(cls, window: Window) -> _Inside:
        """Return them; ranges may be empty."""
        found = []
        for axis, (size, count) in enumerate(
            ((window.height, window.rows), (window.width, window.columns))
        ):
            stride, before = window.strides[axis], window.pads[axis][0]
            reach = (window.kernel[axis] - 1) * window.dilations[axis] + 1
            first = -(-before // stride)
            end = (size - reach + before) // stride + 1
            found.append((min(first, count), max(min(end, count), min(first, count))))
        return cls(found[0], found[1])


def _code(layer: Layer, op: Conv | DepthwiseConv, window: Window, sums: Sums) -> Code | None:
    flat = sums.weights.reshape(window.filters, -1)
    inside = _Inside.of(window)
    pieces = _pieces(window) if inside.any else 1
    weights = packed(sums, flat, pieces)
    if weights is None:
        return None
    if not weights.possible:
        pieces = 1
        weights = packed(sums, flat, pieces)
        if weights is None:
            return None
    depth = flat.shape[1]
    direct = pieces > 1 or (inside.any and window.kernel[0] == 1 and window.dilations[1] == 1)
    driver = _driver(window, sums, weights, inside, direct=direct)
    slack = window_slack(
        layer.input(0).shape,
        layer.output.shape,
        op.strides,
        op.pads,
        at_once=2,
        fetched=not direct,
    )
    fields = window_fields(op, layer.input(0), layer.output, window.kernel)
    return Code(
        f"static const $window window = {fields};\n"
        f"{driver.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}}, &window);",
        (driver,),
        {"weights": weights.table},
        scratch=2 * depth + (LANES if _is_short(window) else 0),
        slack={0: slack},
        macs=window.macs,
    )


def _pieces(window: Window) -> int:
    """Return in how many pieces columns come: one, or one for each row of the window."""
    rows, length = window.kernel[0], window.kernel[1] * window.channels
    if window.dilations != (1, 1) or rows == 1:
        return 1
    groups = -(-window.filters // 4)
    # A step of two places takes 14 instructions, part of a vector four more, a piece two.
    by_row = groups * rows * (-(-length // LANES) * 7 + (2 if length % LANES else 0) + 1)
    at_once = groups * -(-rows * length // LANES) * 7 + _gathering(window)
    return rows if by_row <= at_once else 1


def _driver(
    window: Window, sums: Sums, weights: Packed, inside: _Inside, *, direct: bool
) -> Function:
    channels, filters = window.channels, window.filters
    row = window.width * channels
    length = window.kernel[1] * channels
    depth = window.kernel[0] * length
    step = window.strides[1] * channels
    declared = weights.shapes("gathered", sums, 0, depth)
    if direct:
        declared += weights.shapes("direct", sums, row - length, step)
    parts = [f"{declared}int8_t *const column = scratch;"]
    functions: list[Function] = []
    body = []
    pairs, rest = divmod(window.columns, 2)
    for size, count in ((2, pairs), (1, rest)):
        if not count:
            continue
        functions += weights.functions(size)
        gather = "".join(_column(window, k, depth, sums.zero) for k in range(size))
        products = weights.calls(size, "column", "output", "gathered")
        gather += products
        if direct or (inside.any and _is_short(window)):
            (y0, y1), (x0, x1) = inside.rows, inside.columns
            test = f"y >= {y0} && y < {y1} && place >= {x0} && place + {size} <= {x1}"
            top = f"(y * {window.strides[0]} - {window.pads[0][0]}) * {row}"
            left = f"(place * {window.strides[1]} - {window.pads[1][0]}) * {channels}"
            at = f"const int8_t *const from = input + {top} + {left};\n"
            if direct:
                near = at + weights.calls(size, "from", "output", "direct")
            else:
                made = short_windows(size, window.kernel[0], length)
                functions.append(made)
                near = f"{at}{made.name}(column, from, {row}, {step});\n{products}"
            inner = f"{block(f'if ({test})', near)} {block('else', gather)}"
        else:
            inner = gather
        inner += f"\noutput += {size * filters};"
        if size == 2:
            head = f"for (; place + 2 <= {window.columns}; place += 2)"
            inner = block(head, inner)
        body.append(inner)
    places = "int32_t place = 0;\n" + "\n".join(body)
    parts.append(block(f"for (int32_t y = 0; y < {window.rows}; y++)", places))
    how = sums.requantization
    limits = f"{sums.zero}_{how.zero_point}_{how.least}_{how.greatest}".replace("-", "m")
    name = f"$conv_{window.label}_{filters}_{weights.pieces}_{weights.rounding.label}_{limits}"
    text = "\n".join(parts).replace("\n", "\n    ")
    return Function(
        name,
        f"void {name}(const int8_t *input, int8_t *output, const uint32_t *weights,\n"
        "    int8_t *scratch, const $window *window)",
        f"{{\n    /* Two places at a time; columns are made where windows are not inside. */\n"
        f"    {text}\n}}\n",
        needs=(_maker(window), *dict.fromkeys(functions)),
        types=(WINDOW_TYPE,),
    )


def _maker(window: Window) -> Function:
    """Return what puts a column together."""
    if window.dilations != (1, 1):
        return DILATED_COLUMN
    return SHORT_COLUMN if _is_short(window) else COLUMN


def _column(window: Window, k: int, depth: int, zero: int) -> str:
    """Return the statement that puts together the column of a place."""
    column = f"column + {k * depth}" if k else "column"
    place = f"place + {k}" if k else "place"
    more = f"{window.channels}, {zero}, " if window.dilations != (1, 1) else ""
    return f"{_maker(window).name}(input, {column}, y, {place}, {more}window);\n"
