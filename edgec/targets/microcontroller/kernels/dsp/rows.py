"""Convolutions over rows that were expanded: no pixel is gathered, each is expanded once.

A ring holds as many expanded rows as the kernel is high, columns beside the picture included.
A plane of words holds two channels of a row, pixel beside pixel: what all taps of a kernel's
row read lies there at fixed distances. With a stride of 2 a plane is even columns, then odd
ones, so that neighbours of the result are neighbours again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgec.program import Layer
from edgec.program.operators import Conv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly
from edgec.targets.microcontroller.kernels.dsp.gemm import Planes, packed
from edgec.targets.microcontroller.kernels.dsp.sums import Ints, Sums, Window
from edgec.targets.microcontroller.kernels.dsp.tiling import (
    Tiling,
    block,
    layer_function,
    slack_of,
    turns_by_rows,
)

__all__ = ["conv_rows"]

_LARGEST_RING = 16_384
"""In bytes; what would need more gathers instead."""


def conv_rows(layer: Layer, core: Core) -> Code | None:
    """Kernels of several pixels, strides of 1 or 2, channels in fours."""
    if "dsp" not in core.tiers or not isinstance(layer.op, Conv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None or window.channels % 4 or window.dilations != (1, 1):
        return None
    (kh, kw), (sy, sx) = window.kernel, window.strides
    if sx > 2 or sy > kh or kh > 7 or kw == kh == 1 or window.columns < 2:
        return None
    ring = Ring(window)
    if ring.size > _LARGEST_RING or not ring.reachable:
        return None
    weights = packed(sums, _columns(sums, window))
    if weights is None:
        return None
    depth = kh * kw * window.channels // 2
    tiling = Tiling(window.columns, depth, window.filters, window.rows, weights, ring.planes)
    if not tiling.possible:
        return None
    driver = _driver(tiling, ring, sums.zero)
    return Code(
        f"{driver.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}});",
        (driver,),
        {"weights": weights.table},
        scratch=ring.size + tiling.staging,
        slack={0: slack_of(layer.input(0).size, turns_by_rows(window))},
        macs=window.macs,
    )


@dataclass(frozen=True, slots=True)
class Ring:
    """The geometry of expanded rows."""

    window: Window

    @property
    def left(self) -> int:
        """Columns before the picture."""
        return self.window.pads[1][0]

    @property
    def _needed(self) -> int:
        """Columns that kernels see, those beside the picture included."""
        return (self.window.columns - 1) * self.window.strides[1] + self.window.kernel[1]

    @property
    def filled(self) -> int:
        """Columns of the picture that are used."""
        return min(self.window.width, self._needed - self.left)

    @property
    def half(self) -> int:
        """Words of one half of a plane, with a stride of 2."""
        return self.window.columns + (self.window.kernel[1] - 1) // 2

    @property
    def width(self) -> int:
        """Words of a plane."""
        return self._needed if self.window.strides[1] == 1 else 2 * self.half

    def place(self, column: int) -> int:
        """Return where in a plane a column is, in words; columns beside the picture count."""
        if self.window.strides[1] == 1:
            return column
        return column % 2 * self.half + column // 2

    @property
    def planes(self) -> Planes:
        """As tiles see them."""
        kh, kw = self.window.kernel
        taps = tuple(4 * self.place(k) for k in range(kw))
        return Planes(kh, self.window.channels // 2, 4 * self.width, taps)

    @property
    def words(self) -> int:
        """Of a row."""
        return self.window.channels // 2 * self.width

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return 4 * self.words * self.window.kernel[0]

    @property
    def reachable(self) -> bool:
        """Whether immediate offsets reach from an even plane into the odd one."""
        far = 4 * (self.width + self.half + 4)
        return self.planes.reachable and far < 4096 and self.filled > 0

    def expand(self) -> Function:
        """Return the function that expands a row: ``(pixels, row)``."""
        channels, stride = self.window.channels, self.window.strides[1]
        shape = f"{self.filled}x{channels}_s{stride}_{self.left}_{self.width}"
        name = f"$expand_row_{shape}"
        asm = Assembly(name, about="a row of pixels to planes of channel pairs")
        # Registers: r0 pixels, r1 plane, r2 and r3 in them, r4 the end of whole fours.
        fours, rest = divmod(self.filled, 4)
        asm("mov lr, r1")
        asm.advance("lr", 4 * self.words)
        asm("1:", "mov r2, r0", "mov r3, r1")
        step = 16 if stride == 1 else 8
        if fours > 1:
            asm("mov r4, r3")
            asm.advance("r4", step * fours)
            asm("2:")
        if fours:
            self._expand(asm, 4)
            asm(f"add r3, r3, #{step}")
        if fours > 1:
            asm("cmp r3, r4", "bne 2b")
        if rest:
            self._expand(asm, rest)
        asm("add r0, r0, #4")
        asm.advance("r1", 8 * self.width)
        asm("cmp r1, lr", "bne 1b")
        return asm.function(f"void {name}(const int8_t *pixels, uint32_t *row)")

    def _expand(self, asm: Assembly, pixels: int) -> None:
        """Expand up to four neighbours."""
        channels = self.window.channels
        words = [f"r{5 + k}" for k in range(pixels)]
        if 3 * channels < 4096:
            asm(*(f"ldr {w}, [r2, #{k * channels}]" for k, w in enumerate(words)))
            asm.advance("r2", pixels * channels)
        else:
            for w in words:
                asm(f"ldr {w}, [r2]")
                asm.advance("r2", channels)
        stride = self.window.strides[1]
        order = range(pixels) if stride == 1 else [*range(0, pixels, 2), *range(1, pixels, 2)]
        for group in _pairs(list(order), stride):
            at = 4 * self.place(group[0] + self.left)
            for odd, suffix in ((0, ""), (4 * self.width, ", ror #8")):
                into = ["r9", "r10"][: len(group)]
                asm(
                    *(
                        f"sxtb16 {i}, {words[k]}{suffix}"
                        for i, k in zip(into, group, strict=True)
                    )
                )
                offset = at + odd
                if len(group) == 2 and offset <= 1020:
                    asm(f"strd r9, r10, [r3, #{offset}]")
                else:
                    asm(*(f"str {i}, [r3, #{offset + 4 * n}]" for n, i in enumerate(into)))


def _pairs(order: list[int], stride: int) -> Iterator[list[int]]:
    """Yield columns that lie side by side in a plane, two at a time."""
    while order:
        two = len(order) > 1 and order[1] == order[0] + stride
        yield order[: 1 + two]
        order = order[1 + two :]


def _columns(sums: Sums, window: Window) -> Ints:
    """Return weights in the order of taps: rows, fours of channels, even or odd, columns."""
    kh, kw = window.kernel
    fours = sums.weights.reshape(window.filters, kh, kw, -1, 2, 2)
    # Within a four the axes are (channel // 2, channel % 2); SXTB16 gives equal channel % 2.
    ordered = np.transpose(fours, (0, 1, 3, 5, 2, 4))
    columns: Ints = ordered.reshape(window.filters, -1)
    return columns


def _driver(tiling: Tiling, ring: Ring, zero: int) -> Function:
    window = ring.window
    kh, sy, top = window.kernel[0], window.strides[0], window.pads[0][0]
    expand = ring.expand()
    at = "".join(f"columns[{k}] = rows[{k}];\n" for k in range(kh))
    on = "".join(f"columns[{k}] += $pixels;\n" for k in range(kh))
    tiles = tiling.across("columns", after=on.rstrip())
    row = window.width * window.channels
    constant = f"{(zero & 0xFFFF) * 0x10001:#x}u"
    load = (
        f"if (0 <= next && next < {window.height}) {{\n"
        f"    {expand.name}(input + next * {row}, rows[k]);\n"
        "} else {\n"
        f"    for (int32_t i = 0; i < {ring.words}; i++) {{\n"
        f"        rows[k][i] = {constant};\n"
        "    }\n"
        "}\n"
        "next++;"
    )
    loads = block(f"for (int32_t k = y == 0 ? 0 : {kh - sy}; k < {kh}; k++)", load)
    turn = "".join(
        [
            *(f"uint32_t *const old_{k} = rows[{k}];\n" for k in range(sy)),
            *(f"rows[{k}] = rows[{k + sy}];\n" for k in range(kh - sy)),
            *(f"rows[{kh - sy + k}] = old_{k};\n" for k in range(sy)),
        ]
    )
    walk = block(
        f"for (int32_t y = 0; y < {window.rows}; y++)", f"{loads}\n{at}{tiles}\n{turn}".rstrip()
    )
    staging = f"int8_t *staging = scratch + {ring.size};\n" if tiling.staged else ""
    first = ", ".join(f"ring + {k * ring.words}" for k in range(kh))
    start = (
        "uint32_t *ring = (uint32_t *)(void *)scratch;\n"
        f"uint32_t *rows[{kh}] = {{{first}}};\n"
        f"uint32_t *columns[{kh}];\n"
        f"int32_t next = {-top};\n{staging}"
        "/* Columns beside the picture keep what stands for zero. */\n"
        f"for (int32_t i = 0; i < {kh * ring.words}; i++) {{\n    ring[i] = {constant};\n}}\n"
    )
    shape = f"{window.height}x{window.width}_{window.rows}_s{sy}_{top}_z{zero & 0xFF}"
    name = f"$conv_{shape}_{expand.name.removeprefix('$expand_row_')}_{tiling.label}"
    return layer_function(
        name,
        "Rows are expanded once, into a ring as high as the kernel.",
        tiling.shapes + start + walk,
        (expand, *tiling.functions),
    )
