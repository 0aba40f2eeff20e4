"""Convolutions with kernels of 1x1, and fully connected layers: columns lie as they are."""

from __future__ import annotations

from edgec.program import Layer
from edgec.program.operators import Conv, FullyConnected
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.sums import Sums, Window
from edgec.targets.microcontroller.kernels.dsp.tiling import block, layer_function
from edgec.targets.microcontroller.kernels.mve.tile import Packed, packed
from edgec.targets.microcontroller.kernels.traversal import row_slack, window_slack

__all__ = ["dense", "pointwise"]


def dense(layer: Layer, core: Core) -> Code | None:
    """Rows of inputs, one or two at a time, with four filters at a time."""
    if "mve" not in core.tiers or not isinstance(layer.op, FullyConnected):
        return None
    sums = Sums.of(layer)
    if sums is None or sums.weights.ndim != 2:
        return None
    depth = sums.weights.shape[1]
    if depth == 0 or layer.input(0).size % depth:
        return None
    rows = layer.input(0).size // depth
    weights = packed(sums, sums.weights, 1)
    if weights is None:
        return None
    slack = row_slack(-(-rows // 2), 2 * depth, 2 * sums.filters) - 2 * depth
    return _code(sums, weights, (1, rows), depth, 0, slack)


def pointwise(layer: Layer, core: Core) -> Code | None:
    """Pixels, two at a time."""
    if "mve" not in core.tiers or not isinstance(layer.op, Conv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None or window.kernel != (1, 1):
        return None
    if window.pads != ((0, 0), (0, 0)):
        return None
    weights = packed(sums, sums.weights.reshape(window.filters, -1), 1)
    if weights is None:
        return None
    # Where every pixel is used the picture is one long row.
    flat = window.strides == (1, 1)
    rows = (1, window.places) if flat else (window.rows, window.columns)
    step = window.strides[1] * window.channels
    row = window.strides[0] * window.width * window.channels
    x, y = layer.input(0).shape, layer.output.shape
    if flat:
        x, y = (1, 1, window.places, x[3]), (1, 1, window.places, y[3])
    slack = window_slack(x, y, layer.op.strides, layer.op.pads, at_once=2)
    return _code(sums, weights, rows, step, row, slack)


def _code(
    sums: Sums, weights: Packed, places: tuple[int, int], step: int, row: int, slack: int
) -> Code:
    """Return the code for rows of columns that lie `step` bytes apart."""
    rows, columns = places
    pairs, rest = divmod(columns, 2)
    body: list[str] = []
    functions: list[Function] = []
    for size, count in ((2, pairs), (1, rest)):
        if not count:
            continue
        functions += weights.functions(size)
        inner = weights.calls(size, "column", "output", "tiles")
        inner += f"\ncolumn += {size * step};\noutput += {size * sums.filters};"
        if count > 1:
            inner = block(f"for (int32_t pair = 0; pair < {count}; pair++)", inner)
        body.append(inner)
    text = "const int8_t *column = input;\n" + "\n".join(body)
    if rows > 1:
        text = block(f"for (int32_t y = 0; y < {rows}; y++)", f"{text}\ninput += {row};")
    name = f"$columns_{rows}x{columns}_{row}_{step}_{sums.filters}"
    how = sums.requantization
    limits = f"{how.zero_point}_{how.least}_{how.greatest}".replace("-", "m")
    name += f"_{weights.length}_{weights.rounding.label}_{limits}"
    driver = layer_function(
        name,
        "Columns are multiplied with all filters, two columns at a time.",
        f"{weights.shapes('tiles', sums, 0, step)}(void)scratch;\n{text}",
        tuple(functions),
    )
    return Code(
        f"{driver.name}({{x0}}, {{y0}}, {{weights}}, 0);",
        (driver,),
        {"weights": weights.table},
        slack={0: slack},
        macs=rows * columns * weights.length * sums.filters,
    )
