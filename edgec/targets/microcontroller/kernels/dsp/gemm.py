"""Products of a few pixels with all filters: the heart of convolutions.

A tile is up to 4 pixels times 2 filters, in registers. Its pixels have been expanded to pairs
of 16 bits, so that one SMLAD does two multiply-accumulates. A word of weights holds two
filters times two inputs. SXTB16 unpacks those of the first filter; the second needs no
unpacking: each half of the raw word is ``256 * second + first``, so that multiplying with it
gives ``256`` times the second sum plus the first, and subtracting the first at the end leaves
the second, exactly, modulo 2 ** 32. Twelve instructions do 16 multiply-accumulates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgec.targets.microcontroller.kernels.base import Function, Table
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly, Output
from edgec.targets.microcontroller.kernels.dsp.sums import Ints, Sums

__all__ = ["Packed", "Planes", "Tile", "fits_raw_words", "interleaved", "packed"]

_UNROLLED = 8
"""Steps of an inner loop; more gain little and take flash."""


@dataclass(frozen=True, slots=True)
class Planes:
    """Where a tile finds its pixels, if they are not gathered: in rows of expanded pixels.

    Each row is a plane of words for every two channels; neighbours in a plane are neighbours
    in the picture, so one plane serves all taps of a kernel's row.

    Parameters
    ----------
    rows
        How many the kernel has; the tile gets a pointer to each.
    count
        Planes in a row.
    stride
        Bytes from plane to plane.
    taps
        Where in a plane the taps of the kernel's row are, in bytes.
    """

    rows: int
    count: int
    stride: int
    taps: tuple[int, ...]

    @property
    def unrolled(self) -> int:
        """Planes in one pass of the inner loop: what immediate offsets reach."""
        reach = max(self.taps) + 8
        fits = (n for n in (4, 2) if self.count % n == 0)
        small = (n for n in fits if n * len(self.taps) <= 12)
        return next((n for n in small if (n - 1) * self.stride + reach <= 1020), 1)

    @property
    def reachable(self) -> bool:
        """Whether LDRD's offsets reach the taps at all."""
        return max(self.taps) + 8 <= 1020


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile function: ``(weights, columns, output)``.

    Parameters
    ----------
    pixels
        1 to 4.
    depth
        Words of two inputs that a sum has.
    filters
        An even number.
    stride
        Bytes from pixel to pixel in the output.
    raw
        Whether the second filter is multiplied by the raw word.
    planes
        ``None`` if pixels are gathered as ``[depth][pixels]`` words.
    shared
        Whether the function serves all depths, filters and strides, which it then gets as a
        fourth argument; some 6 instructions more for every two filters.
    """

    pixels: int
    depth: int
    filters: int
    stride: int
    output: Output
    raw: bool = True
    planes: Planes | None = None
    shared: bool = False

    @property
    def possible(self) -> bool:
        """Whether immediate offsets reach all that the tile touches."""
        reachable = self.planes is None or self.planes.reachable
        return reachable and (self.shared or 3 * self.stride + 1 < 4096)

    @property
    def name(self) -> str:
        """It says all that the code depends on."""
        parts = [f"$tile_{self.pixels}x2"]
        if not self.shared:
            parts += [f"k{2 * self.depth}", f"n{self.filters}"]
        if not self.shared and self.stride != self.filters:
            parts.append(f"by{self.stride}")
        if self.planes is not None:
            p = self.planes
            parts.append(f"rows{p.rows}_{p.stride}_{'_'.join(map(str, p.taps))}")
        return "_".join([*parts, self.output.label, *([] if self.raw else ["unpacked"])])

    @property
    def prototype(self) -> str:
        """In C."""
        columns = "const uint32_t *" if self.planes is None else "uint32_t *const *"
        shape = ", const int32_t *shape" if self.shared else ""
        return (
            f"void {self.name}(const uint32_t *weights, {columns}columns,\n"
            f"    int8_t *output{shape})"
        )

    @property
    def _about(self) -> str:
        first = f"{self.pixels} pixels with two filters after the other; r4 to r11 are the sums"
        if not self.raw:
            return first
        return f"{first}\nweights are 256 * second + first; what is too much goes at the end"

    @property
    def _weights_size(self) -> int:
        """Bytes of all weights and constants."""
        return 4 * (2 + self.depth + 2 * self.output.words) * self.filters // 2

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """What a shared function is told: bytes of columns and weights, entry, stride."""
        loads = len(self._loads(None, backwards=False))
        step = 4 * (2 + (not self.raw) + loads + 2 * self.pixels)  # bytes; none is short
        passed = (self.depth - 1) % _UNROLLED
        entry = _UNROLLED - passed if passed or self.depth == 1 else 0
        return 4 * self.depth * self.pixels, self._weights_size, step * entry, self.stride

    def _accumulator(self, pixel: int, which: int) -> str:
        return f"r{4 + 2 * pixel + which}"

    def function(self) -> Function:
        """Return the code."""
        segments = 1 if self.planes is None else self.planes.rows
        asm = Assembly(self.name, 24 if self.shared else 16 + 4 * segments, self._about)
        # On the stack: output, end of the inner loop, end of the weights, columns or which of
        # the rows, and then the rows, the last first, or entry of the loop and stride.
        asm("str r2, [sp]")
        if self.shared:
            asm("str r1, [sp, #12]", "ldm r3, {r4, r5, r6, r7}")
            asm("add r4, r4, r1", "add r5, r5, r0", "strd r4, r5, [sp, #4]")
            asm("adr.w r3, 2f", "add r6, r6, r3", "orr r6, r6, #1", "strd r6, r7, [sp, #16]")
        else:
            asm.constant("r3", self._weights_size)
            asm("add r3, r3, r0", "str r3, [sp, #8]")
        if self.planes is not None:
            for k in range(segments):
                at = 16 + 4 * (segments - 1 - k)
                asm(f"ldr r3, [r1, #{4 * k}]", f"str r3, [sp, #{at}]")
        elif not self.shared:
            asm("str r1, [sp, #12]")
            if not self._unrolled:
                asm("mov r3, r1")
                asm.advance("r3", 4 * self.depth * self.pixels)
                asm("str r3, [sp, #4]")
        asm("1:", "ldrd r4, r5, [r0], #8")
        if self.planes is None:
            self._gathered(asm)
        else:
            self._from_planes(asm, self.planes)
        if self.raw:
            for p in range(self.pixels):
                first, second = self._accumulator(p, 0), self._accumulator(p, 1)
                asm(f"sub {second}, {second}, {first}")
        for which in range(2):
            mine = [self._accumulator(p, which) for p in range(self.pixels)]
            group = which if self.raw else 0
            self.output.channel(asm, mine, group, ("r12", "lr", "r3"))
        self._store(asm)
        asm("ldr r3, [sp, #8]", "cmp r0, r3", "bne 1b")
        return asm.function(self.prototype)

    def _store(self, asm: Assembly) -> None:
        asm("ldr lr, [sp]")
        if self.shared:
            asm("ldr r12, [sp, #20]", "add r3, lr, #2", "str r3, [sp]")
        for p in range(self.pixels):
            at = 0 if self.shared else p * self.stride
            for which in range(2):
                asm(f"strb {self._accumulator(p, which)}, [lr, #{at + which}]")
            if self.shared and p + 1 < self.pixels:
                asm("add lr, lr, r12")
        if not self.shared:
            asm("add lr, lr, #2", "str lr, [sp]")

    @property
    def _unrolled(self) -> bool:
        """Whether a sum of gathered pixels has no loop."""
        return self.depth < 2 * _UNROLLED

    def _gathered(self, asm: Assembly) -> None:
        self._step(asm, None, first=True)
        if self.shared:
            # The first pass of the loop does what is not a whole pass.
            asm("ldr r12, [sp, #16]", "bx r12", "2:")
            for _ in range(_UNROLLED):
                self._step(asm, None)
        elif self._unrolled:
            for _ in range(self.depth - 1):
                self._step(asm, None)
        else:
            # What does not fill a pass of the loop comes before it; if that is only the first
            # step, the loop is entered behind its first.
            straight = self.depth % _UNROLLED
            for _ in range(straight - 1):
                self._step(asm, None)
            if not straight:
                asm("b 3f")
            asm("2:")
            self._step(asm, None)
            asm("3:")
            for _ in range(_UNROLLED - 1):
                self._step(asm, None)
        if self.shared or not self._unrolled:
            asm("ldr r12, [sp, #4]", "cmp r1, r12", "bne 2b")
        asm("ldr r1, [sp, #12]")

    def _from_planes(self, asm: Assembly, planes: Planes) -> None:
        """Go through the rows of the kernel, and in each through the planes.

        The first step of all is one of its own, and then the loop is entered behind its first.
        """
        unrolled = planes.unrolled
        loops = planes.count > unrolled

        def enter() -> None:
            if loops:
                asm("mov r3, r1")
                asm.advance("r3", planes.count * planes.stride)
                asm("str r3, [sp, #4]")

        if planes.rows > 1:
            asm(f"mov r12, #{4 * (planes.rows - 1)}", "str r12, [sp, #12]")
        asm(f"ldr r1, [sp, #{16 + 4 * (planes.rows - 1)}]")
        enter()
        self._step(asm, planes.taps[0], first=True)
        if loops or planes.rows > 1:
            asm("b 3f")
        if planes.rows > 1:
            asm("4:", "str r12, [sp, #12]", "add r1, sp, r12", "ldr r1, [r1, #16]")
            enter()
        if loops:
            asm("2:")
        if loops or planes.rows > 1:
            self._step(asm, planes.taps[0])
            asm("3:")
        for n in range(unrolled):
            for tap in planes.taps[1:] if n == 0 else planes.taps:
                self._step(asm, n * planes.stride + tap)
        if loops:
            asm.advance("r1", unrolled * planes.stride)
            asm("ldr r12, [sp, #4]", "cmp r1, r12", "bne 2b")
        if planes.rows > 1:
            asm("ldr r12, [sp, #12]", "subs r12, r12, #4", "bpl 4b")

    def _step(self, asm: Assembly, offset: int | None, *, first: bool = False) -> None:
        """Multiply one word of weights with all pixels.

        The first step adds to the biases, which are in the accumulators of pixel 0, and so
        leaves that pixel for last.
        """
        asm("ldr r2, [r0], #4", "sxtb16 r3, r2")
        if not self.raw:
            asm("sxtb16 r2, r2, ror #8")
        for load, pixels in self._loads(offset, backwards=first):
            asm(load)
            for pixel, word in reversed(pixels) if first else pixels:
                for which, weights in enumerate(("r3", "r2")):
                    total = self._accumulator(pixel, which)
                    start = self._accumulator(0, which) if first else total
                    asm(f"smlad {total}, {word}, {weights}, {start}")

    def _loads(
        self, offset: int | None, *, backwards: bool
    ) -> list[tuple[str, list[tuple[int, str]]]]:
        """Return loads of expanded pixels, each with the pixels that it brings."""
        pair = [(0, "r12"), (1, "lr")]
        second = [(2, "r12"), (3, "lr")]
        if offset is None:
            match self.pixels:
                case 1:
                    return [("ldr r12, [r1], #4", pair[:1])]
                case 2:
                    return [("ldrd r12, lr, [r1], #8", pair)]
                case 3:
                    three = [(0, "r10"), (1, "r11"), (2, "r12")]
                    return [("ldm r1!, {r10, r11, r12}", three)]
                case _ if backwards:
                    return [
                        ("ldrd r12, lr, [r1, #8]", second),
                        ("ldrd r12, lr, [r1], #16", pair),
                    ]
                case _:
                    load = "ldrd r12, lr, [r1], #8"
                    return [(load, pair), (load, second)]
        loads = {
            1: [(f"ldr r12, [r1, #{offset}]", pair[:1])],
            2: [(f"ldrd r12, lr, [r1, #{offset}]", pair)],
            3: [
                (f"ldrd r12, lr, [r1, #{offset}]", pair),
                (f"ldr r12, [r1, #{offset + 8}]", second[:1]),
            ],
            4: [
                (f"ldrd r12, lr, [r1, #{offset}]", pair),
                (f"ldrd r12, lr, [r1, #{offset + 8}]", second),
            ],
        }[self.pixels]
        return loads[::-1] if backwards else loads


@dataclass(frozen=True, slots=True)
class Packed:
    """A layer's weights in the order of its tiles, and what the code has to know of them."""

    table: Table
    output: Output
    raw: bool
    filters: int
    """Even: one of zeros is added if need be."""


def packed(sums: Sums, columns: Ints) -> Packed | None:
    """Return the weights of a layer for tiles.

    Parameters
    ----------
    columns
        The weights as ``[filters, inputs]`` in the order in which tiles see the inputs; an
        even number, filled up with zeros.

    Returns
    -------
    Packed or None
        ``None`` if no exact requantization is known.
    """
    rescaling, raw = None, fits_raw_words(columns)
    if raw:
        rescaling = sums.rescaling((1, 256))
    if rescaling is None:
        rescaling, raw = sums.rescaling((1,)), False
    if rescaling is None:
        return None
    odd = sums.filters % 2
    filters = sums.filters + odd
    weights = np.pad(columns, ((0, odd), (0, 0)))
    biases = np.pad(sums.biases_with(rescaling), (0, odd))
    constants = np.array([*rescaling.words, *(rescaling.words[-1:] * odd)], np.int64)
    stream = _stream(weights, biases, constants, raw=raw)
    table = sums.table(stream, rescaling)
    return Packed(table, Output.of(rescaling), raw, filters)


def fits_raw_words(columns: Ints) -> bool:
    """Whether ``256 * second + first`` has 16 bits for all pairs of filters."""
    lanes = 256 * columns[1::2] + columns[: len(columns) // 2 * 2 : 2]
    return bool(np.all((lanes >= -(2**15)) & (lanes < 2**15)))


def _stream(weights: Ints, biases: Ints, constants: Ints, *, raw: bool) -> Ints:
    """Return biases, weights and constants of each pair of filters one after the other."""
    first, second = weights[0::2], weights[1::2]
    if raw:
        lanes = (256 * second + first) & 0xFFFF
        starts = np.stack([biases[0::2], 256 * biases[1::2] + biases[0::2]], axis=1)
    else:
        lanes = (second & 0xFF) << 8 | (first & 0xFF)
        starts = np.stack([biases[0::2], biases[1::2]], axis=1)
    words = lanes[:, 0::2] | lanes[:, 1::2] << 16
    ends = constants.reshape(len(first), -1)
    return np.concatenate([starts, words, ends], axis=1).ravel()


def interleaved(weights: Sequence[int] | Ints) -> Ints:
    """Return the last axis in the order in which SXTB16 unpacks: 0, 2, 1, 3 of every four."""
    array = np.asarray(weights)
    fours = array.reshape(*array.shape[:-1], -1, 4)[..., [0, 2, 1, 3]]
    ordered: Ints = fours.reshape(array.shape)
    return ordered
