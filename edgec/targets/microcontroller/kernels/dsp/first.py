"""Convolutions of few channels, as first layers are.

The bytes that a row of the kernel sees lie side by side, whatever the number of channels: they
are fetched as words that need not be aligned, from rows that were copied with what stands for
zero on both sides. Where a row of the kernel has one byte more than whole words, such bytes of
two rows make a pair. A wide picture is copied row by row into a ring; a small one as a whole,
so that tiles may reach over the ends of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.program import Layer
from edgec.program.operators import Conv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly
from edgec.targets.microcontroller.kernels.dsp.expand import store_words
from edgec.targets.microcontroller.kernels.dsp.gemm import packed
from edgec.targets.microcontroller.kernels.dsp.sums import Sums, Window
from edgec.targets.microcontroller.kernels.dsp.tiling import (
    Tiling,
    block,
    layer_function,
    slack_of,
    turns_by_rows,
)

__all__ = ["conv_first"]

_SMALL_PICTURE = 2048
_MOST_WORDS = 32


def conv_first(layer: Layer, core: Core) -> Code | None:
    """Kernels whose rows are a few bytes."""
    if "dsp" not in core.tiers or not isinstance(layer.op, Conv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None or window.channels % 4 == 0:
        return None
    if window.dilations != (1, 1) or window.strides[0] > window.kernel[0]:
        return None
    copy = Copy(window)
    if not copy.reachable:
        return None
    order = copy.order
    flat = sums.weights.reshape(window.filters, window.kernel[0], -1)
    blank = np.zeros(window.filters, np.int64)
    columns = np.stack([blank if at is None else flat[:, at[0], at[1]] for at in order], axis=1)
    weights = packed(sums, columns)
    if weights is None:
        return None
    rows, pixels = (1, window.places) if copy.whole else (window.rows, window.columns)
    tiling = Tiling(pixels, len(order) // 2, window.filters, rows, weights)
    if not tiling.possible:
        return None
    driver = (_whole_driver if copy.whole else _ring_driver)(tiling, copy, sums.zero)
    size = layer.input(0).size
    return Code(
        f"{driver.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}});",
        (driver,),
        {"weights": weights.table},
        scratch=copy.size + 8 * len(order) + tiling.staging,
        slack={0: size if copy.whole else slack_of(size, turns_by_rows(window))},
        macs=window.macs,
    )


@dataclass(frozen=True, slots=True)
class Copy:
    """The copied rows and what is fetched from them."""

    window: Window

    @property
    def bytes(self) -> int:
        """That a row of the kernel sees."""
        return self.window.kernel[1] * self.window.channels

    @property
    def step(self) -> int:
        """Bytes from pixel to pixel."""
        return self.window.strides[1] * self.window.channels

    @property
    def pitch(self) -> int:
        """Bytes from row to row: what is used, and three that the last words may touch."""
        return ((self.window.columns - 1) * self.step + self.bytes + 3 + 3) // 4 * 4

    @property
    def left(self) -> int:
        """Bytes before the picture."""
        return self.window.pads[1][0] * self.window.channels

    @property
    def filled(self) -> int:
        """Bytes of the picture's rows that are used."""
        used = (self.window.columns - 1) * self.step + self.bytes - self.left
        return min(self.window.width * self.window.channels, used)

    @property
    def height(self) -> int:
        """Rows that a copy of the whole picture has."""
        return (self.window.rows - 1) * self.window.strides[0] + self.window.kernel[0]

    @property
    def whole(self) -> bool:
        """Whether the whole picture is copied: where rows do not fill tiles, if it is small."""
        small = self.height * self.pitch <= _SMALL_PICTURE
        far = (self.window.kernel[0] - 1) * self.pitch + self.bytes
        return small and far < 4092 and self.window.columns % 4 != 0

    @property
    def size(self) -> int:
        """Bytes of the copy, up to a multiple of 8."""
        rows = self.height if self.whole else self.window.kernel[0]
        return (rows * self.pitch + 7) // 8 * 8

    @property
    def reachable(self) -> bool:
        """Whether a row is few words, and offsets reach them."""
        kh = self.window.kernel[0]
        words = kh * -(-self.bytes // 4)
        near = 3 * self.step + self.bytes < 4092
        return self.filled > 0 and near and kh <= 16 and words <= _MOST_WORDS

    @property
    def order(self) -> list[tuple[int, int] | None]:
        """Rows and bytes of the kernel as tiles see them; ``None`` for what does not count."""
        found: list[tuple[int, int] | None] = []
        kh, whole, rest = self.window.kernel[0], self.bytes // 4 * 4, self.bytes % 4
        for ky in range(kh):
            for at in range(0, whole, 4):
                found += [(ky, at), (ky, at + 2), (ky, at + 1), (ky, at + 3)]
            if rest == 1 and (ky % 2 or ky + 1 == kh):
                found += [(ky - 1, whole), (ky, whole)] if ky % 2 else [(ky, whole), None]
            elif rest == 2:
                found += [(ky, whole), None, (ky, whole + 1), None]
            elif rest == 3:
                found += [(ky, whole), (ky, whole + 2), (ky, whole + 1), None]
        return found

    def gather(self, pixels: int) -> Function:
        """Return the function that fetches what some pixels see.

        From a ring ``(rows, offset, columns)``; from the whole ``(pixels, columns)``.
        """
        kind = f"whole_{self.pitch}" if self.whole else f"ring_{self.step}"
        name = f"$gather_{pixels}_{self.window.kernel[0]}x{self.bytes}_{kind}"
        asm = Assembly(
            name, about=f"what {pixels} kernels see, from addresses of any alignment"
        )
        words = [f"r{7 + k}" for k in range(pixels)]
        if self.whole:
            asm("mov r2, r1", *(f"ldr r{3 + k}, [r0, #{4 * k}]" for k in range(pixels)))
            free = ("r0", "r11", "r12", "lr")[:pixels]
        else:
            free = ("r5", "r6", "r11", "r12")[:pixels]
        whole, rest = self.bytes // 4 * 4, self.bytes % 4
        for ky in range(self.window.kernel[0]):
            if not self.whole:
                asm(f"ldr r{3 + ky % 2}, [r0, #{4 * ky}]", f"add r{3 + ky % 2}, r1")
            for at in range(0, whole, 4):
                asm(*(f"ldr {w}, {self._at(ky, k, at)}" for k, w in enumerate(words)))
                store_words(asm, words, "r2", free)
            if rest == 1 and (ky % 2 or ky + 1 == self.window.kernel[0]):
                first = ky - ky % 2
                asm(*(f"ldrsb {f}, {self._at(first, k, whole)}" for k, f in enumerate(free)))
                if ky % 2:
                    asm(*(f"ldrsb {w}, {self._at(ky, k, whole)}" for k, w in enumerate(words)))
                    for f, w in zip(free, words, strict=True):
                        asm(f"pkhbt {f}, {f}, {w}, lsl #16")
                asm(
                    f"stm r2!, {{{', '.join(free)}}}"
                    if pixels > 1
                    else f"str {free[0]}, [r2], #4"
                )
            elif rest > 1:
                asm(*(f"ldr {w}, {self._at(ky, k, whole)}" for k, w in enumerate(words)))
                store_words(asm, words, "r2", free)
        if self.whole:
            return asm.function(f"void {name}(const int8_t *const *pixels, uint32_t *columns)")
        return asm.function(
            f"void {name}(int8_t *const *rows, int32_t offset, uint32_t *columns)"
        )

    def _at(self, ky: int, pixel: int, byte: int) -> str:
        if self.whole:
            return f"[r{3 + pixel}, #{ky * self.pitch + byte}]"
        return f"[r{3 + ky % 2}, #{pixel * self.step + byte}]"


def _copy_bytes() -> Function:
    """Return the function that copies bytes, 16 at a time, from and to any address."""
    name = "$copy_bytes"
    asm = Assembly(name, about="16 bytes at a time, then one by one")
    asm("subs r2, r2, #16", "blt 2f", "1:")
    asm(*(f"ldr r{k}, [r0], #4" for k in range(3, 7)))
    asm(*(f"str r{k}, [r1], #4" for k in range(3, 7)))
    asm("subs r2, r2, #16", "bge 1b")
    asm("2:", "adds r2, r2, #16", "beq 4f")
    asm("3:", "ldrb r3, [r0], #1", "strb r3, [r1], #1", "subs r2, r2, #1", "bne 3b", "4:")
    return asm.function(f"void {name}(const int8_t *from, int8_t *to, int32_t size)")


def _ring_driver(tiling: Tiling, copy: Copy, zero: int) -> Function:
    window = copy.window
    kh, sy, top = window.kernel[0], window.strides[0], window.pads[0][0]
    row = window.width * window.channels
    load = (
        f"if (0 <= next && next < {window.height}) {{\n"
        f"    $copy_bytes(input + next * {row}, rows[k] + {copy.left}, {copy.filled});\n"
        "} else {\n"
        f"    for (int32_t i = 0; i < {copy.pitch}; i++) {{\n"
        f"        rows[k][i] = {zero};\n"
        "    }\n"
        "}\n"
        "next++;"
    )
    loads = block(f"for (int32_t k = y == 0 ? 0 : {kh - sy}; k < {kh}; k++)", load)
    gather = copy.gather(tiling.runs[0][0]).name.replace(
        f"_{tiling.runs[0][0]}_", "_$pixels_", 1
    )
    tiles = tiling.across(
        "columns",
        f"{gather}(rows, offset, columns);",
        f"offset += {copy.step} * $pixels;",
    )
    turn = "".join(
        [
            *(f"int8_t *const old_{k} = rows[{k}];\n" for k in range(sy)),
            *(f"rows[{k}] = rows[{k + sy}];\n" for k in range(kh - sy)),
            *(f"rows[{kh - sy + k}] = old_{k};\n" for k in range(sy)),
        ]
    ).rstrip()
    walk = block(
        f"for (int32_t y = 0; y < {window.rows}; y++)",
        f"int32_t offset = 0;\n{loads}\n{tiles}\n{turn}",
    )
    first = ", ".join(f"scratch + {k * copy.pitch}" for k in range(kh))
    start = (
        f"int8_t *rows[{kh}] = {{{first}}};\n"
        f"{_columns(tiling, copy)}int32_t next = {-top};\n"
        "/* Columns beside the picture keep what stands for zero. */\n"
        f"for (int32_t i = 0; i < {kh * copy.pitch}; i++) {{\n    scratch[i] = {zero};\n}}\n"
    )
    return _function("ring", tiling, copy, zero, start + walk)


def _whole_driver(tiling: Tiling, copy: Copy, zero: int) -> Function:
    window = copy.window
    top, row = window.pads[0][0], window.width * window.channels
    used = min(window.height, copy.height - top)
    gather = copy.gather(tiling.runs[0][0]).name.replace(
        f"_{tiling.runs[0][0]}_", "_$pixels_", 1
    )
    fetch = (
        "for (int32_t k = 0; k < $pixels; k++) {\n"
        f"    pixels[k] = place + x * {copy.step};\n"
        "    x++;\n"
        f"    if (x == {window.columns}) {{\n"
        "        x = 0;\n"
        f"        place += {window.strides[0] * copy.pitch};\n"
        "    }\n"
        "}\n"
        f"{gather}(pixels, columns);"
    )
    text = (
        "const int8_t *pixels[4];\n"
        "const int8_t *place = scratch;\n"
        f"{_columns(tiling, copy)}int32_t x = 0;\n"
        "/* The picture, with what stands for zero around it. */\n"
        f"for (int32_t i = 0; i < {copy.height * copy.pitch}; i++) {{\n"
        f"    scratch[i] = {zero};\n"
        "}\n"
        f"for (int32_t y = 0; y < {used}; y++) {{\n"
        f"    $copy_bytes(input + y * {row},\n"
        f"        scratch + (y + {top}) * {copy.pitch} + {copy.left}, {copy.filled});\n"
        "}\n"
        f"{tiling.across('columns', fetch)}"
    )
    return _function("whole", tiling, copy, zero, text)


def _columns(tiling: Tiling, copy: Copy) -> str:
    text = f"uint32_t *columns = (uint32_t *)(void *)(scratch + {copy.size});\n"
    if tiling.staged:
        text += f"int8_t *staging = scratch + {copy.size + 16 * tiling.depth};\n"
    return text


def _function(kind: str, tiling: Tiling, copy: Copy, zero: int, text: str) -> Function:
    window = copy.window
    name = f"$conv_{kind}_{window.label}_z{zero & 0xFF}_{tiling.label}"
    return layer_function(
        name,
        "Rows are copied with padding; tiles fetch what they see.",
        tiling.shapes + text,
        (
            _copy_bytes(),
            *(copy.gather(size) for size, _ in tiling.runs),
            *tiling.functions,
        ),
    )
