"""Rows of a depthwise convolution of 3x3 from planes of vertical pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgec.targets.microcontroller.kernels.base import Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly, Output
from edgec.targets.microcontroller.kernels.dsp.depthwise_planes import Planes, spread_both
from edgec.targets.microcontroller.kernels.dsp.sums import Ints, Sums, Window
from edgec.targets.microcontroller.kernels.requantization import Rescaling

__all__ = ["Rows", "passes", "shape_of", "stream", "turns"]


@dataclass(frozen=True, slots=True)
class Rows:
    """The function for a row or two of some channels: ``(planes, weights, output)``.

    Parameters
    ----------
    rows
        Of the result: 1 or 2; with a stride of 2 it is 1.
    swapped
        Whether the upper pair of rows comes second in the planes.
    columns
        Of the result.
    step
        Bytes from pixel to pixel of the result.
    plane
        Bytes from channel to channel of the planes.
    channels
        How many planes there are.
    multiple
        Filters of each channel.
    """

    stride: int
    rows: int
    swapped: bool
    columns: int
    step: int
    plane: int
    output: Output
    channels: int = 4
    multiple: int = 1

    @property
    def name(self) -> str:
        """It says all that the code depends on."""
        order = "odd" if self.swapped else "even"
        shape = f"{self.rows}x{self.columns}x{self.step}_{self.plane}"
        if (self.channels, self.multiple) != (4, 1):
            shape += f"_{self.channels}by{self.multiple}"
        return f"$depthwise_s{self.stride}_{shape}_{order}_{self.output.label}"

    def function(self) -> Function:
        """Return the code."""
        number = "four" if self.channels == 4 else self.channels
        about = (
            f"rows of {number} channels, one after the other; r2 to r7 are the weights of 3x3"
        )
        asm = Assembly(self.name, 40, about)
        # On the stack: bias, factor, addend, shift, end of the plane, what the last form needs,
        # and of the next filter weights and output; end of all planes, filters of this one.
        twos, rest = divmod(self.columns, 2)
        advance = 8 * self.stride
        asm("mov r3, r0")
        asm.advance("r3", self.channels * self.plane)
        asm("str r3, [sp, #32]")
        if self.multiple > 1:
            asm.constant("r3", self.multiple)
            asm("5:", "str r3, [sp, #36]")
        words = [f"r{8 + k}" for k in range(1 + self.output.words)]
        # r2 to r4 hold the first pairs of weights, r5 to r7 the second.
        asm("4:", "str r2, [sp, #28]")
        asm(f"ldm r1!, {{{', '.join(words)}}}", f"stm sp, {{{', '.join(words)}}}")
        asm("ldm r1!, {r5, r6, r7}", "str r1, [sp, #24]", "mov r1, r2")
        asm(*(f"sxtb16 r{2 + k}, r{5 + k}" for k in range(3)))
        asm(*(f"sxtb16 r{5 + k}, r{5 + k}, ror #8" for k in range(3)))
        if twos > 1:
            asm("mov r12, r0")
            asm.advance("r12", twos * advance)
            asm("str r12, [sp, #16]", "1:")
        if twos:
            self._block(asm, 2)
        if twos > 1:
            asm("ldr r12, [sp, #16]", "cmp r0, r12", "bne 1b")
        if rest:
            self._block(asm, 1)
        asm("ldrd r1, r2, [sp, #24]", "add r2, r2, #1", "ldr r3, [sp, #32]")
        if self.multiple == 1:
            asm.advance("r0", self.plane - twos * advance)
            asm("cmp r0, r3", "bne 4b")
        else:
            asm.advance("r0", -twos * advance)
            asm("ldr r12, [sp, #36]", "subs r12, r12, #1", "str r12, [sp, #36]", "bne 4b")
            asm.advance("r0", self.plane)
            asm("cmp r0, r3")
            asm.constant("r3", self.multiple)
            asm("bne 5b")
        return asm.function(
            f"void {self.name}(const uint32_t *planes, const uint32_t *weights, int8_t *output)"
        )

    def _block(self, asm: Assembly, columns: int) -> None:
        """Compute one or two columns of results."""
        count = (columns - 1) * self.stride + 3
        advance = 8 * self.stride if columns == 2 else 0
        loads: list[tuple[str, list[tuple[str, tuple[int, int], str, str]]]] = []
        for slot in (0, 1):
            for column in range(0, count, 2):
                pair = column + 1 < count
                at = slot * self.plane // 2 + 4 * column
                # The first load moves the plane on.
                first = not slot and not column and advance
                place = f"[r0], #{advance}" if first else f"[r0, #{at - advance}]"
                load = f"ldrd r12, lr, {place}" if pair else f"ldr r12, {place}"
                uses = [
                    use
                    for k, pixels in enumerate(["r12", "lr"][: 1 + pair])
                    for x in range(columns)
                    if 0 <= column + k - x * self.stride < 3
                    for use in self._uses(x, pixels, slot, column + k - x * self.stride)
                ]
                loads.append((load, uses))
        started = list(dict.fromkeys(use[1] for _, uses in loads for use in uses))
        totals = {place: f"r{8 + k}" for k, place in enumerate(started)}
        # The bias waits in the accumulator that starts last.
        bias = totals[started[-1]]
        asm(f"ldr {bias}, [sp]")
        seen: set[tuple[int, int]] = set()
        for load, uses in loads:
            asm(load)
            for instruction, result, pixels, weights in uses:
                total = totals[result]
                start = total if result in seen else bias
                seen.add(result)
                asm(f"{instruction} {total}, {pixels}, {weights}, {start}")
        linear = self.output.form == "linear"
        if linear:
            asm("str r0, [sp, #20]")
        every = list(totals.values())
        self.output.channel(asm, every, 0, ("r12", "lr", "r0"), ("[sp, #4]", "[sp, #12]"))
        if linear:
            asm("ldr r0, [sp, #20]")
        self._store(asm, totals, columns)

    def _uses(
        self, x: int, pixels: str, slot: int, k: int
    ) -> Iterator[tuple[str, tuple[int, int], str, str]]:
        """Yield multiplications of a column of one pair of rows with a column of weights."""
        first, second = f"r{2 + k}", f"r{5 + k}"
        if slot == self.swapped:  # the upper pair
            yield "smlad", (0, x), pixels, first
            if self.rows == 2:
                yield "smlatb", (1, x), pixels, first
        else:
            yield ("smlabt" if self.stride == 1 else "smlabb"), (0, x), pixels, second
            if self.rows == 2:
                yield "smlad", (1, x), pixels, second

    def _store(self, asm: Assembly, totals: dict[tuple[int, int], str], columns: int) -> None:
        row = self.columns * self.step
        far = row + self.step > 4095
        if far and self.rows == 2:
            asm.constant("r12", row)
            asm("add r12, r12, r1")
        for (y, x), total in sorted(totals.items(), reverse=True):
            if far and y:
                asm(f"strb {total}, [r12, #{x * self.step}]")
            elif (y, x) == (0, 0) and 2 * self.step < 256 and columns == 2:
                asm(f"strb {total}, [r1], #{2 * self.step}")
                return
            else:
                asm(f"strb {total}, [r1, #{y * row + x * self.step}]")
        if columns == 2:
            asm.advance("r1", 2 * self.step)


def stream(sums: Sums, rescaling: Rescaling, stride: int) -> Ints:
    """Return bias, constants and weights of each channel.

    A word of weights is a column of the kernel: SXTB16 gives the first two, and rotated by a
    byte the second and the third, or with a stride of 2 the third and nothing.
    """
    columns = sums.weights & 0xFF  # [channels, rows, columns]
    first, second, third = columns[:, 0], columns[:, 1], columns[:, 2]
    upper = (second, third) if stride == 1 else (third, np.zeros_like(third))
    words = first | second << 16 | upper[0] << 8 | upper[1] << 24
    constants = np.array(rescaling.words, np.int64)
    return np.concatenate(
        [sums.biases_with(rescaling)[:, None], constants, words], axis=1
    ).ravel()


def passes(window: Window) -> int:
    """Return how many times rows are computed: one or two of the result each time."""
    return window.rows if window.strides[0] == 2 else (window.rows + 1) // 2


def shape_of(
    window: Window, planes: Planes, output: Output, zero: int, block: int
) -> tuple[str, tuple[Function, ...]]:
    """Return the declaration of a layer's shape in C, and what it points to.

    Parameters
    ----------
    block
        Channels that are computed together.
    """
    stride, count = window.strides[0], passes(window)
    rows = 1 if stride == 2 else 2
    multiple = window.filters // window.channels
    shape = (window.columns, window.filters, planes.stride, output, block, multiple)
    # With several filters pairs are brought again in each pass, always the upper one first.
    orders = (False, multiple == 1)
    pair = [Rows(stride, rows, swapped, *shape) for swapped in orders]
    last = pair[(count - 1) & 1]
    if stride == 1 and window.rows % 2:
        last = Rows(stride, 1, last.swapped, *shape)
    # A function that no pass calls is not written.
    called = [pair[k] if count > k + 1 else last for k in range(2)] + [last]
    both = (spread_both(window, planes),) if window.channels >= 4 else ()
    word = (zero & 0xFFFF) * 0x10001
    numbers = [
        window.channels,
        window.height,
        window.width * window.channels,
        window.pads[0][0],
        count,
        rows * window.columns * window.filters,
        planes.width,
        planes.left,
        block * multiple * (4 + output.words),
        f"{word:#x}u",
    ]
    signed = word - 2**32 if word >= 2**31 else word
    spread = [4 * planes.filled, window.channels, planes.stride, signed]
    rows_of = ", ".join(part.name for part in called)
    text = (
        (
            "static const $depthwise_shape shape = {\n"
            f"    {', '.join(map(str, numbers))},\n"
            f"    {{{', '.join(map(str, spread))}}}, {both[0].name if both else 0},\n"
            f"    {{{rows_of}}}\n}};\n"
        )
        .replace("{", "{{")
        .replace("}", "}}")
    )
    return text, (*both, *(rows.function() for rows in dict.fromkeys(called)))


def turns(window: Window) -> Iterator[tuple[int, int]]:
    """Yield what is still needed and what was written, of one channel, in pixels."""
    rows = 1 if window.strides[0] == 2 else 2
    for j in range(passes(window)):
        read = min(max(2 * j + 4 - window.pads[0][0], 0), window.height)
        yield read * window.width, min((j + 1) * rows, window.rows) * window.columns
