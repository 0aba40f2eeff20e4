"""Convolutions with kernels of 1x1: each pixel alone."""

from __future__ import annotations

from collections.abc import Iterator

from edgec.program import Layer
from edgec.program.operators import Conv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.dense import dense_code
from edgec.targets.microcontroller.kernels.dsp.expand import expand
from edgec.targets.microcontroller.kernels.dsp.gemm import interleaved, packed
from edgec.targets.microcontroller.kernels.dsp.sums import Sums, Window
from edgec.targets.microcontroller.kernels.dsp.tiling import (
    Tiling,
    block,
    layer_function,
    slack_of,
)

__all__ = ["pointwise"]


def pointwise(layer: Layer, core: Core) -> Code | None:
    """Four pixels at a time are expanded, then multiplied with all filters."""
    if "dsp" not in core.tiers or not isinstance(layer.op, Conv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None or window.kernel != (1, 1) or window.channels % 4:
        return None
    if window.pads != ((0, 0), (0, 0)):
        return None
    if window.places == 1 and window.height == window.width == 1:
        return dense_code(sums, 1)
    weights = packed(sums, interleaved(sums.weights.reshape(window.filters, -1)))
    if weights is None:
        return None
    # Where every pixel is used the picture is one long row.
    flat = window.strides == (1, 1)
    rows, pixels = (1, window.places) if flat else (window.rows, window.columns)
    step = window.strides[1] * window.channels
    tiling = Tiling(pixels, window.channels // 2, window.filters, rows, weights)
    if not tiling.possible:
        return None
    row = window.strides[0] * window.width * window.channels
    driver = _driver(tiling, window, rows, step, row)
    columns = 8 * window.channels
    return Code(
        f"{driver.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}});",
        (driver,),
        {"weights": weights.table},
        scratch=columns + tiling.staging,
        slack={0: slack_of(layer.input(0).size, _turns(tiling, window, rows, step, row))},
        macs=window.macs,
    )


def _driver(tiling: Tiling, window: Window, rows: int, step: int, row: int) -> Function:
    channels = window.channels
    sizes = [size for size, _ in tiling.runs]
    tiles = tiling.across(
        "columns",
        f"$expand_$pixels(pixel, {step}, columns, {channels});",
        f"pixel += {step} * $pixels;",
    )
    walk = f"const int8_t *pixel = input;\n{tiles}"
    if rows > 1:
        walk = block(f"for (int32_t y = 0; y < {rows}; y++)", f"{walk}\ninput += {row};")
    staging = f"int8_t *staging = scratch + {8 * channels};\n" if tiling.staged else ""
    name = f"$pointwise_{rows}x{tiling.pixels}_{row}_{step}_{tiling.label}"
    start = f"{tiling.shapes}uint32_t *columns = (uint32_t *)(void *)scratch;\n{staging}"
    return layer_function(
        name,
        "Pixels are expanded tile by tile, then multiplied with all filters.",
        start + walk,
        (*(expand(size) for size in sizes), *tiling.functions),
    )


def _turns(
    tiling: Tiling, window: Window, rows: int, step: int, row: int
) -> Iterator[tuple[int, int]]:
    """Yield what is still needed, and what is written, tile by tile."""
    size = window.height * window.width * window.channels
    for y in range(rows):
        done = 0
        for pixels, count in tiling.runs:
            for _ in range(count):
                done += pixels
                last = done == tiling.pixels
                here = y * row + done * step
                after = (y + 1) * row if y + 1 < rows else size
                yield after if last else here, (y * tiling.pixels + done) * window.filters
