"""Convolutions of any geometry: what each pixel of the result sees is gathered for its tile."""

from __future__ import annotations

import numpy as np

from edgec.program import Layer
from edgec.program.operators import Conv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.expand import expand, expand_taps
from edgec.targets.microcontroller.kernels.dsp.gemm import interleaved, packed
from edgec.targets.microcontroller.kernels.dsp.sums import Sums, Window
from edgec.targets.microcontroller.kernels.dsp.tiling import (
    Tiling,
    block,
    layer_function,
    slack_of,
    turns_within_rows,
)

__all__ = ["conv_gathered", "place_of_tap"]

_LARGEST = 16_384
"""Bytes of gathered pixels; what would need more is left to portable code."""


def conv_gathered(layer: Layer, core: Core) -> Code | None:
    """Any kernel, stride, dilation and number of channels."""
    if "dsp" not in core.tiers or not isinstance(layer.op, Conv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None:
        return None
    flat = sums.weights.reshape(window.filters, -1)
    inputs = flat.shape[1]
    padded = -(-inputs // 4) * 4
    whole = window.channels % 4 == 0
    if 8 * padded + (0 if whole else 4 * padded) > _LARGEST:
        return None
    weights = packed(sums, interleaved(np.pad(flat, ((0, 0), (0, padded - inputs)))))
    if weights is None:
        return None
    tiling = Tiling(window.columns, padded // 2, window.filters, window.rows, weights)
    if not tiling.possible:
        return None
    driver = (_by_taps if whole else _by_bytes)(tiling, window, sums.zero)
    bytes_ = window.channels if whole else 4 * padded
    return Code(
        f"{driver.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}});",
        (driver,),
        {"weights": weights.table},
        scratch=8 * padded + (bytes_ + 7) // 8 * 8 + tiling.staging,
        slack={0: slack_of(layer.input(0).size, turns_within_rows(window))},
        macs=window.macs,
    )


def _by_taps(tiling: Tiling, window: Window, zero: int) -> Function:
    """Channels in fours: each tap is expanded from where it is, or from a pixel of zeros."""
    channels = window.channels
    depth = 8 * tiling.depth * 2
    tap = (
        "for (int32_t p = 0; p < $pixels; p++) {\n"
        f"{_indented(place_of_tap(window, '(x + p)')[1])}\n"
        f"    taps[p] = inside ? input + place * {channels} : zeros;\n"
        "}\n"
        f"$expand_taps_$pixels(taps, to, {channels});\n"
        f"to += $pixels * {channels // 2};"
    )
    body = _kernel_loops(window, tap)
    start = (
        f"int8_t *zeros = scratch + {depth};\n"
        "const int8_t *taps[4];\n"
        f"for (int32_t i = 0; i < {channels}; i++) {{\n    zeros[i] = {zero};\n}}\n"
    )
    staging = depth + (channels + 7) // 8 * 8
    needs = tuple(expand_taps(size) for size, _ in tiling.runs)
    return _function(
        "taps", tiling, window, zero, start, f"uint32_t *to = columns;\n{body}", staging, needs
    )


def _by_bytes(tiling: Tiling, window: Window, zero: int) -> Function:
    """Any number of channels: bytes are copied, then expanded."""
    channels, padded = window.channels, 2 * tiling.depth
    tap = (
        f"{place_of_tap(window, '(x + p)')[1]}\n"
        f"const int8_t *from = inside ? input + place * {channels} : input;\n"
        f"for (int32_t c = 0; c < {channels}; c++) {{\n"
        f"    *to++ = inside ? from[c] : {zero};\n"
        "}"
    )
    loops = _kernel_loops(window, tap)
    body = block(
        "for (int32_t p = 0; p < $pixels; p++)",
        f"int8_t *to = bytes + p * {padded};\n{loops}",
    )
    body += f"\n$expand_$pixels(bytes, {padded}, columns, {padded});"
    depth = 8 * padded
    start = (
        f"int8_t *bytes = scratch + {depth};\n"
        "/* Bytes behind the last channel count with weights of zero. */\n"
        f"for (int32_t i = 0; i < {4 * padded}; i++) {{\n    bytes[i] = 0;\n}}\n"
    )
    needs = tuple(expand(size) for size, _ in tiling.runs)
    return _function("bytes", tiling, window, zero, start, body, depth + 4 * padded, needs)


def place_of_tap(window: Window, pixel: str = "x") -> tuple[str, str]:
    """Return declarations in C for a tap: its `row`; its `place`, and if it is `inside`."""
    row = f"const int32_t row = y * {window.strides[0]} + {_offset(window, 0, 'ky')};"
    column = f"{pixel} * {window.strides[1]} + {_offset(window, 1, 'kx')}"
    return row, (
        f"const int32_t column = {column};\n"
        f"const int32_t place = row * {window.width} + column;\n"
        f"const int32_t inside = 0 <= row && row < {window.height} && 0 <= column\n"
        f"    && column < {window.width};"
    )


def _offset(window: Window, axis: int, index: str) -> str:
    """Return what is added to the place of a tile for a tap, in C."""
    dilation, before = window.dilations[axis], window.pads[axis][0]
    scaled = index if dilation == 1 else f"{index} * {dilation}"
    return f"{scaled} - {before}" if before else scaled


def _kernel_loops(window: Window, tap: str) -> str:
    kh, kw = window.kernel
    inner = block(f"for (int32_t kx = 0; kx < {kw}; kx++)", tap)
    row = place_of_tap(window)[0]
    return block(f"for (int32_t ky = 0; ky < {kh}; ky++)", f"{row}\n{inner}")


def _function(
    kind: str,
    tiling: Tiling,
    window: Window,
    zero: int,
    start: str,
    before: str,
    staging: int,
    needs: tuple[Function, ...],
) -> Function:
    tiles = tiling.across("columns", f"{{\n{_indented(before)}\n}}", "x += $pixels;")
    walk = block(f"for (int32_t y = 0; y < {window.rows}; y++)", f"int32_t x = 0;\n{tiles}")
    if tiling.staged:
        start += f"int8_t *staging = scratch + {staging};\n"
    name = f"$conv_{kind}_{window.label}_z{zero & 0xFF}_{tiling.label}"
    text = f"uint32_t *columns = (uint32_t *)(void *)scratch;\n{start}{walk}"
    return layer_function(
        name,
        "What the pixels of a tile see is gathered, tap by tap.",
        tiling.shapes + text,
        (*needs, *tiling.functions),
    )


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
