"""Rows of four channels brought into planes, and sums over windows in them, in assembly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from edgec.targets.microcontroller.kernels.base import Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly
from edgec.targets.microcontroller.kernels.mve.results import Rounding

__all__ = ["SIDE", "WIDEST", "Results", "planes_function"]

SIDE = 4
"""Rows and columns of a vector."""

WIDEST = 16
"""Columns of weights that registers take."""


def planes_function(begin: int, end: int) -> Function:
    """Return what makes planes of four rows, of which some may not be in the picture.

    Its shape: width, bytes from row to row and from column to column, bytes of a plane, and
    what stands for zero.
    """
    name = f"$planes_{begin}_{end}"
    asm = Assembly(name, 0, "four channels of four rows into planes, columns together")
    asm("vpush {d8-d15}", "ldrd r3, r4, [r2]", "ldrd r5, r6, [r2, #8]", "ldr r7, [r2, #16]")
    rows = ("r0", "r8", "r9", "r10")[: end - begin]
    asm(*(f"add {b}, {a}, r4" for a, b in pairwise(rows)))
    asm("add r11, r1, r6", "add r12, r11, r6", "add r6, r12, r6")
    asm("mov r2, #0", "vidup.u32 q7, r2, #1", "vmul.i32 q7, q7, r5", "lsl r5, r5, #2")
    asm("vdup.8 q5, r7", "dlstp.32 lr, r3", "1:")
    for k in range(SIDE):
        inside = begin <= k < end
        asm(f"vldrw.u32 q{k}, [{rows[k - begin]}, q7]" if inside else f"vmov q{k}, q5")
    asm("vadd.i32 q7, q7, r5")
    # Bytes of two rows change places, then pairs of bytes.
    for size, pairs in ((16, ((0, 1), (2, 3))), (32, ((0, 2), (1, 3)))):
        for a, b in pairs:
            asm(f"vshr.u{size} q4, q{a}, #{size // 2}")
            asm(f"vmovnt.i{size} q{a}, q{b}", f"vmovnb.i{size} q{b}, q4")
    for q, plane in enumerate(("r1", "r11", "r12", "r6")):
        asm(f"vstrw.32 q{q}, [{plane}], #16")
    asm("letp lr, 1b", "vpop {d8-d15}")
    made = asm.function(
        f"void {name}(const int8_t *rows, int8_t *planes, const int32_t *shape)"
    )
    return replace(made, helium=True)


@dataclass(frozen=True, slots=True)
class Results:
    """The function for a row of results, or two, of four channels.

    Its shape: four places of results; how many tiles are full; how far it is from a tile to the
    next; how far from the end of a channel to the next in planes and in results; bytes of the
    weights of four channels; zero point and range.

    Parameters
    ----------
    square
        A vector serves two rows and columns of results; else it is a part of one result.
    kernel
        Columns.
    rows
        Of the kernel; weights of one or two rows are stored without the others.
    stride
        From column to column, where vectors do not serve squares.
    both
        Whether both rows of a square are results.
    rest
        Columns of results behind the last full tile.
    """

    square: bool
    kernel: int
    rows: int
    stride: int
    both: bool
    rest: int
    rounding: Rounding

    @property
    def name(self) -> str:
        """It says all that the code depends on."""
        kind = f"square{'' if self.both else '_half'}" if self.square else f"line_{self.stride}"
        kernel = f"{self.kernel}x{self.stored}"
        return f"$depthwise_{kind}_{kernel}_{self.rest}_{self.rounding.label}"

    @property
    def stored(self) -> int:
        """How many rows of weights are stored, zeros among them."""
        return self.rows if self.rows < 3 else SIDE

    @property
    def weight_bytes(self) -> int:
        """Of a channel, in whole words."""
        return -(-self.kernel * self.stored // 4) * 4

    @property
    def vectors(self) -> int:
        """How many of weights a channel has."""
        return -(-self.kernel // SIDE)

    @property
    def possible(self) -> bool:
        """Whether instructions reach that far."""
        return self.vectors == 1 or 12 * self.stride + 16 * (self.vectors - 1) <= 127

    @property
    def step(self) -> int:
        """Bytes of a plane from a tile to the next."""
        return 8 if self.square else 16 * self.stride

    def function(self) -> Function:
        """Return the code."""
        asm = Assembly(self.name, 4, "four channels, each from its plane")
        asm("vpush {d8-d15}", "mov r9, r0", "mov r10, r2", "mov r11, r3")
        asm("ldr r2, [r11, #32]", "add r2, r2, r0", "str r2, [sp, #64]")
        asm("vldrw.u32 q2, [r11]", "ldr r8, [r11, #36]")
        asm("1:")
        load = {1: "vldrb.u32", 2: "vldrh.u32", SIDE: "vldrw.u32"}[self.stored]
        asm("mov r4, r9", "mov r12, #0")
        for k in range(self.vectors):
            asm(f"{load} q{4 + k}, [r4, #{SIDE * self.stored * k}]")
        last = f"q{3 + self.vectors}"
        empty = range((self.kernel - 1) % SIDE + 1, SIDE)
        asm(*(f"vmov.32 {last}[{k}], r12" for k in empty))
        if self.square:
            for to, start, bits in (("q5", "q4", 8), ("q6", "q4", 32), ("q7", "q5", 32)):
                asm(f"vmov {to}, {start}", f"vshlc {to}, r12, #{bits}")
        size = self.weight_bytes
        asm(f"ldr r3, [r9, #{size}]", f"ldrd r5, r7, [r9, #{size + 4}]")
        asm(f"add r9, r9, #{size + 12}", "ldrd r0, r12, [r11, #16]")
        masked = self.square and not self.both
        if masked:
            asm(f"movw r2, #{0x00FF}", "vmsr p0, r2")
        asm("wls lr, r0, 3f", "2:")
        self._tile(asm, masked=masked)
        asm("le lr, 2b", "3:")
        if self.rest:
            asm(f"movw r2, #{self._mask}", "vmsr p0, r2")
            self._tile(asm, masked=True)
        asm("ldrd r0, r2, [r11, #24]", "add r1, r1, r0", "add r10, r10, r2")
        asm("ldr r0, [sp, #64]", "cmp r9, r0", "bne 1b", "vpop {d8-d15}")
        made = asm.function(
            f"void {self.name}(const uint32_t *weights, const int8_t *planes,\n"
            "    int8_t *output, const int32_t *shape)"
        )
        return replace(made, helium=True)

    @property
    def _mask(self) -> int:
        """Which results of the last tile there are: four bits for each."""
        if not self.square:
            return (1 << 4 * self.rest) - 1
        return 0x0F0F if self.both else 0x000F

    def _tile(self, asm: Assembly, *, masked: bool) -> None:
        totals = ("r0", "r2", "r4", "r6")
        if self.square:
            asm("vldrb.u8 q0, [r1], #8")
            weights = ("q4", "q6", "q5", "q7")
            asm(*(f"vmladav.s8 {t}, q0, {w}" for t, w in zip(totals, weights, strict=True)))
        elif self.vectors == 1:
            for k, total in enumerate(totals):
                q = ("q0", "q1")[k % 2]
                asm(f"vldrb.u8 {q}, [r1], #{4 * self.stride}")
                asm(f"vmladav.s8 {total}, {q}, q4")
        else:
            for k, total in enumerate(totals):
                for v in range(self.vectors):
                    q = ("q0", "q1")[v % 2]
                    asm(f"vldrb.u8 {q}, [r1, #{4 * self.stride * k + 16 * v}]")
                    asm(f"vmladav{'a' if v else ''}.s8 {total}, {q}, q{4 + v}")
            asm(f"add r1, r1, #{self.step}")
        asm("vmov q1[2], q1[0], r0, r4", "vmov q1[3], q1[1], r2, r6", "vadd.i32 q1, q1, r3")
        away = self.rounding.form == "away"
        asm(*(["vshr.s32 q3, q1, #31"] if away else []), "vqrdmulh.s32 q1, q1, r5")
        asm(*(["vadd.i32 q1, q1, q3"] if away else []), "vrshl.s32 q1, r7")
        if self.rounding.clamp:
            asm("ldrd r0, r2, [r11, #40]")
        asm("vqmovnb.s32 q1, q1")
        self.rounding.finish(asm, "q1", ("r8", "r0", "r2"), "q3")
        asm("vqmovnb.s16 q1, q1")
        asm(*(["vpst"] if masked else []))
        asm(f"vstrb{'t' if masked else ''}.32 q1, [r10, q2]", "add r10, r10, r12")
