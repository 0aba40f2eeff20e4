"""Depthwise convolutions of 3x3: four channels at a time, vertical pairs.

Two rows of four channels become four planes, one a channel: each word holds a pixel and the
one below it. The words of two pairs of rows alternate, so that one LDRD brings four pixels of
a column, and SMLAD multiplies two of them with two weights. From four columns come two by two
results, with 6 multiplications each for 9 multiply-accumulates.

Channels are the outer loop. All of a block's rows are read before results that lie over them
are written, and results of a block lie over the same channels of the operand if both start at
the same byte: so layers of equal width work in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgec.program import Layer
from edgec.program.operators import DepthwiseConv
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly, Output
from edgec.targets.microcontroller.kernels.dsp.sums import Ints, Sums, Window
from edgec.targets.microcontroller.kernels.dsp.tiling import block, slack_of
from edgec.targets.microcontroller.kernels.requantization import Rescaling

__all__ = ["depthwise"]


def depthwise(layer: Layer, core: Core) -> Code | None:
    """Kernels of 3x3 with strides of 1 or 2, over channels in blocks of four."""
    if "dsp" not in core.tiers or not isinstance(layer.op, DepthwiseConv):
        return None
    window, sums = Window.of(layer), Sums.of(layer)
    if window is None or sums is None or window.channels != window.filters:
        return None
    if window.kernel != (3, 3) or window.dilations != (1, 1) or window.channels % 4:
        return None
    if window.strides not in ((1, 1), (2, 2)):
        return None
    planes = Planes.of(window)
    if not planes.reachable:
        return None
    rescaling = sums.rescaling((1,))
    if rescaling is None:
        return None
    output = Output.of(rescaling)
    driver = _driver(window, planes, output, sums.zero)
    turns = _turns(window, planes)
    pixels = window.height * window.width
    return Code(
        f"{driver.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}});",
        (driver,),
        {"weights": sums.table(_stream(sums, rescaling, window.strides[0]), rescaling)},
        scratch=planes.size,
        in_place=frozenset({0} if slack_of(pixels, turns) >= 0 else ()),
        macs=window.places * window.filters * 9,
    )


@dataclass(frozen=True, slots=True)
class Planes:
    """What four channels of two pairs of rows become: ``[channel][column][pair]`` words.

    Parameters
    ----------
    width
        Columns, with those beside the picture.
    left
        Columns before the picture.
    filled
        Columns of the picture that are used.
    """

    width: int
    left: int
    filled: int

    @classmethod
    def of(cls, window: Window) -> Planes:
        """Return those of a layer."""
        width = (window.columns - 1) * window.strides[1] + 3
        left = window.pads[1][0]
        return cls(width, left, min(window.width, width - left))

    @property
    def stride(self) -> int:
        """Bytes from channel to channel."""
        return 8 * self.width

    @property
    def size(self) -> int:
        """Bytes of all."""
        return 4 * self.stride

    @property
    def reachable(self) -> bool:
        """Whether immediate offsets reach the last plane."""
        return self.filled > 0 and 3 * self.stride < 4096


def _stream(sums: Sums, rescaling: Rescaling, stride: int) -> Ints:
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


@dataclass(frozen=True, slots=True)
class Rows:
    """The function for a row or two of four channels: ``(planes, weights, output)``.

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
    """

    stride: int
    rows: int
    swapped: bool
    columns: int
    step: int
    plane: int
    output: Output

    @property
    def name(self) -> str:
        """It says all that the code depends on."""
        order = "odd" if self.swapped else "even"
        shape = f"{self.rows}x{self.columns}x{self.step}_{self.plane}"
        return f"$depthwise_s{self.stride}_{shape}_{order}_{self.output.label}"

    def function(self) -> Function:
        """Return the code."""
        asm = Assembly(self.name, frame=40)
        # On the stack: bias, factor, addend, shift, end of the plane, what the last form needs,
        # and of the next channel weights and output; end of all planes.
        twos, rest = divmod(self.columns, 2)
        advance = 2 * 8 * self.stride
        asm("mov r3, r0")
        asm.advance("r3", 4 * self.plane)
        asm("str r3, [sp, #32]")
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
            asm(f"add r0, r0, #{advance}")
        if twos > 1:
            asm("ldr r12, [sp, #16]", "cmp r0, r12", "bne 1b")
        if rest:
            self._block(asm, 1)
        asm("ldrd r1, r2, [sp, #24]", "add r2, r2, #1", "ldr r3, [sp, #32]")
        asm.advance("r0", self.plane - twos * advance)
        asm("cmp r0, r3", "bne 4b")
        return asm.function(
            f"void {self.name}(const uint32_t *planes, const uint32_t *weights, int8_t *output)"
        )

    def _block(self, asm: Assembly, columns: int) -> None:
        """Compute one or two columns of results."""
        upper, lower = ("lr", "r12") if self.swapped else ("r12", "lr")
        loads: list[list[tuple[str, tuple[int, int], str, str]]] = []
        for column in range((columns - 1) * self.stride + 3):
            uses: list[tuple[str, tuple[int, int], str, str]] = []
            for x in range(columns):
                k = column - x * self.stride
                if 0 <= k < 3:
                    uses += self._uses(x, upper, lower, f"r{2 + k}", f"r{5 + k}")
            loads.append(uses)
        started = list(dict.fromkeys(use[1] for uses in loads for use in uses))
        totals = {place: f"r{8 + k}" for k, place in enumerate(started)}
        # The bias waits in the accumulator that starts last.
        bias = totals[started[-1]]
        asm(f"ldr {bias}, [sp]")
        seen: set[tuple[int, int]] = set()
        for column, uses in enumerate(loads):
            asm(f"ldrd r12, lr, [r0, #{8 * column}]")
            for instruction, place, pixels, weights in uses:
                total = totals[place]
                start = total if place in seen else bias
                seen.add(place)
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
        self, x: int, upper: str, lower: str, first: str, second: str
    ) -> Iterator[tuple[str, tuple[int, int], str, str]]:
        """Yield multiplications of one column: instruction, place, pixels, weights."""
        yield "smlad", (0, x), upper, first
        if self.stride == 2:
            yield "smlabb", (0, x), lower, second
            return
        yield "smlabt", (0, x), lower, second
        if self.rows == 2:
            yield "smlatb", (1, x), upper, first
            yield "smlad", (1, x), lower, second

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


def _pair(window: Window, planes: Planes, zero: int, *, upper: bool, lower: bool) -> Function:
    """Return the function that spreads a pair of rows over the planes.

    A row outside the picture is a constant.
    """
    channels = window.channels
    which = {(True, True): "both", (True, False): "upper", (False, True): "lower"}
    name = f"$pair_{which[upper, lower]}_{planes.filled}x{channels}_{planes.stride}"
    name += "" if upper and lower else f"_z{zero & 0xFF}"
    asm = Assembly(name)
    rows = [("r0", "r4", "r6", "r8"), ("r1", "r5", "r7", "r9")]
    inside = [row for row, is_in in zip(rows, (upper, lower), strict=True) if is_in]
    outside = [row for row, is_in in zip(rows, (upper, lower), strict=True) if not is_in]
    for _, _, even, odd in outside:
        asm.constant(even, (zero & 0xFFFF) * 0x10001)
        asm(f"mov {odd}, {even}")
    asm("mov r3, r2")
    asm.advance("r3", 8 * planes.filled)
    asm("1:")
    for _ in range(1 if planes.filled % 2 else 2):
        for pointer, word, _, _ in inside:
            if channels < 256:
                asm(f"ldr {word}, [{pointer}], #{channels}")
            else:
                asm(f"ldr {word}, [{pointer}]")
                asm.advance(pointer, channels)
        for _, word, even, odd in inside:
            asm(f"sxtb16 {even}, {word}", f"sxtb16 {odd}, {word}, ror #8")
        # Channels 0 and 2 lie in the even bytes, 1 and 3 in the odd ones.
        asm("pkhtb r10, r7, r6, asr #16", f"str r10, [r2, #{2 * planes.stride}]")
        asm("pkhbt r10, r8, r9, lsl #16", f"str r10, [r2, #{planes.stride}]")
        asm("pkhtb r10, r9, r8, asr #16", f"str r10, [r2, #{3 * planes.stride}]")
        asm("pkhbt r10, r6, r7, lsl #16", "str r10, [r2], #8")
    asm("cmp r2, r3", "bne 1b")
    return asm.function(
        f"void {name}(const int8_t *upper, const int8_t *lower, uint32_t *plane)"
    )


def _pairs(window: Window) -> int:
    """Return how many times rows are computed: one or two of the result each time."""
    return window.rows if window.strides[0] == 2 else (window.rows + 1) // 2


def _driver(window: Window, planes: Planes, output: Output, zero: int) -> Function:
    stride, top = window.strides[0], window.pads[0][0]
    row = window.width * window.channels
    pairs = _pairs(window)
    firsts = [2 * j - top for j in range(pairs + 1)]
    height = window.height

    def used(upper: bool, lower: bool) -> bool:
        return any(
            (0 <= first < height, 0 <= first + 1 < height) == (upper, lower) for first in firsts
        )

    both = _pair(window, planes, zero, upper=True, lower=True)
    below = _pair(window, planes, zero, upper=False, lower=True)
    above = _pair(window, planes, zero, upper=True, lower=False)
    cases = [("0 <= row && row + 1 < $height", both, used(True, True))]
    cases += [("row + 1 == 0", below, used(False, True))]
    cases += [("row + 1 == $height", above, used(True, False))]
    needs: list[Function] = []
    fill = [
        f"for (int32_t i = 0; i < {4 * planes.width}; i++) {{",
        f"    planes[2 * i + slot] = {(zero & 0xFFFF) * 0x10001:#x}u;",
        "}",
    ]
    text: list[str] = []
    for condition, function, is_used in cases:
        if is_used:
            needs.append(function)
            head = "} else if" if text else "if"
            text.append(f"{head} ({condition.replace('$height', str(height))}) {{")
            upper = f"input + row * {row}" if function is not below else "input"
            lower = f"input + (row + 1) * {row}" if function is not above else "input"
            text.append(f"    {function.name}({upper}, {lower}, plane);")
    if used(False, False) or not text:
        text = [*text, "} else {", *(f"    {line}" for line in fill), "}"] if text else fill
    else:
        text.append("}")
    plane = f"uint32_t *plane = planes + {2 * planes.left} + slot;\n"
    shape = f"{height}x{window.width}x{window.channels}_p{planes.left}_{planes.width}"
    name = f"$rows_of_four_{shape}_z{zero & 0xFF}_{stride}_{top}_{window.rows}"
    spread = Function(
        name,
        f"void {name}(const int8_t *input, int32_t row, int32_t slot, uint32_t *planes)",
        block("", plane + "\n".join(text)).lstrip(),
        needs=tuple(needs),
    )
    return _walk(window, planes, output, zero, spread)


def _walk(
    window: Window, planes: Planes, output: Output, zero: int, spread: Function
) -> Function:
    stride, top = window.strides[0], window.pads[0][0]
    pairs, rows = _pairs(window), 1 if window.strides[0] == 2 else 2
    step = rows * window.columns * window.channels
    shape = (window.columns, window.channels, planes.stride, output)
    last = window.rows % 2 if stride == 1 else 0  # of the pairs is a single row
    tiles = [Rows(stride, rows, odd, *shape) for odd in (False, True)[: pairs - last]]
    calls = [f"{tile.name}(planes, weights, result);" for tile in tiles]
    if len(tiles) == 2:
        calls = [
            "if ((j & 1) != 0) {",
            f"    {calls[1]}",
            "} else {",
            f"    {calls[0]}",
            "}",
        ]
    lines = [
        f"{spread.name}(input + c, 2 * j + {2 - top}, (j + 1) & 1, planes);",
        *calls,
        f"result += {step};",
    ]
    loop = block(f"for (int32_t j = 0; j < {pairs - last}; j++)", "\n".join(lines))
    parts = [
        "int8_t *result = output + c;",
        f"{spread.name}(input + c, {-top}, 0, planes);",
        *([loop] if pairs > last else []),
    ]
    if last:
        tail = Rows(stride, 1, (pairs - 1) % 2 == 1, *shape)
        tiles.append(tail)
        parts.append(f"{spread.name}(input + c, {2 * pairs - top}, {pairs & 1}, planes);")
        parts.append(f"{tail.name}(planes, weights, result);")
    parts.append(f"weights += {4 * (4 + output.words)};")
    start = [
        "uint32_t *planes = (uint32_t *)(void *)scratch;",
        "/* Columns beside the picture keep what stands for zero. */",
        f"for (int32_t i = 0; i < {8 * planes.width}; i++) {{",
        f"    planes[i] = {(zero & 0xFFFF) * 0x10001:#x}u;",
        "}",
        block(f"for (int32_t c = 0; c < {window.channels}; c += 4)", "\n".join(parts)),
    ]
    label = f"{tiles[0].name.removeprefix('$depthwise_')}_{spread.name.removeprefix('$rows_')}"
    name = f"$depthwise_{label}"
    return Function(
        name,
        f"void {name}(const int8_t *input, int8_t *output, const uint32_t *weights,\n"
        "    int8_t *scratch)",
        block("", "\n".join(start)).lstrip(),
        needs=(spread, *(tile.function() for tile in tiles)),
    )


def _turns(window: Window, planes: Planes) -> Iterator[tuple[int, int]]:
    """Yield what is still needed and what was written, of one channel, in pixels."""
    rows = 1 if window.strides[0] == 2 else 2
    for j in range(_pairs(window)):
        read = min(max(2 * j + 4 - window.pads[0][0], 0), window.height)
        yield read * window.width, min((j + 1) * rows, window.rows) * window.columns
