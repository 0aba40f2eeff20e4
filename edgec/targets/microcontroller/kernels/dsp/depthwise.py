"""Depthwise convolutions of 3x3: four channels at a time, vertical pairs.

Two rows of four channels become four planes, one a channel: each word holds a pixel and the
one below it. One LDRD brings two columns of a pair of rows, and SMLAD multiplies two pixels
with two weights. From four columns of two pairs come two by two results, with 6 multiplications
each for 9 multiply-accumulates. The pairs take turns in two places, so every row is spread
once; code for each order saves swapping them.

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
from edgec.targets.microcontroller.kernels.dsp.tiling import slack_of
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
    if planes.filled <= 0 or not planes.reachable:
        return None
    rescaling = sums.rescaling((1,))
    if rescaling is None:
        return None
    output = Output.of(rescaling)
    call, functions = _call(window, planes, output, sums.zero)
    turns = _turns(window)
    pixels = window.height * window.width
    return Code(
        call,
        functions,
        {"weights": sums.table(_stream(sums, rescaling, window.strides[0]), rescaling)},
        scratch=planes.size,
        in_place=frozenset({0} if slack_of(pixels, turns) >= 0 else ()),
        macs=window.places * window.filters * 9,
    )


@dataclass(frozen=True, slots=True)
class Planes:
    """What four channels of two pairs of rows become: ``[channel][pair][column]`` words.

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
    def reachable(self) -> bool:
        """Whether offsets of LDRD reach from one pair to the other."""
        return 4 * self.width + 8 <= 1020

    @property
    def size(self) -> int:
        """Bytes of all."""
        return 4 * self.stride


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
        about = "rows of four channels, one after the other; r2 to r7 are the weights of 3x3"
        asm = Assembly(self.name, 40, about)
        # On the stack: bias, factor, addend, shift, end of the plane, what the last form needs,
        # and of the next channel weights and output; end of all planes.
        twos, rest = divmod(self.columns, 2)
        advance = 8 * self.stride
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


_SHAPE = """\
typedef struct {
    int32_t channels;
    int32_t height, row;   /* of the input: rows, and bytes of a row */
    int32_t top;           /* rows of padding before the picture */
    int32_t passes, step;  /* over the output's rows, and bytes of it in each */
    int32_t width, left;   /* columns of the planes, and those before the picture */
    int32_t words;         /* of weights and constants of four channels */
    uint32_t zero;         /* what stands for zero, twice */
    int32_t spread[4];     /* bytes filled in a plane, channels, bytes of a plane, zero */
    void (*both)(const int8_t *upper, const int8_t *lower, uint32_t *plane);
    void (*rows[3])(const uint32_t *planes, const uint32_t *weights, int8_t *output);
} $depthwise_shape;
"""


def _both(window: Window, planes: Planes) -> Function:
    """Return the function that spreads two rows of four channels over the planes."""
    channels, stride = window.channels, planes.stride
    name = f"$spread_both_{planes.filled}x{channels}_{stride}"
    asm = Assembly(name, about="two rows of four channels to vertical pairs of each channel")
    # r2 and r12 go through the planes of channels 0 and 2, those of 1 and 3 lie behind.
    asm("mov r12, r2")
    asm.advance("r12", 2 * stride)
    twos, rest = divmod(planes.filled, 2)
    if twos > 1:
        asm("mov r3, r2")
        asm.advance("r3", 8 * twos)
        asm("1:")
    if twos:
        _spread(asm, channels, stride, 2)
    if twos > 1:
        asm("cmp r2, r3", "bne 1b")
    if rest:
        _spread(asm, channels, stride, 1)
    return asm.function(
        f"void {name}(const int8_t *upper, const int8_t *lower, uint32_t *plane)"
    )


def _spread(asm: Assembly, channels: int, stride: int, pixels: int) -> None:
    """Spread one or two neighbours of two rows.

    Channels 0 and 2 lie in the even bytes, 1 and 3 in the odd ones.
    """
    words = [("r4", "r5"), ("r6", "r7")][:pixels]
    for pair in words:
        for pointer, word in zip(("r0", "r1"), pair, strict=True):
            if channels < 256:
                asm(f"ldr {word}, [{pointer}], #{channels}")
            else:
                asm(f"ldr {word}, [{pointer}]")
                asm.advance(pointer, channels)
    odd = [("r8", "r9"), ("r10", "r11")][:pixels]
    for pair, into in zip(words, odd, strict=True):
        asm(*(f"sxtb16 {o}, {w}, ror #8" for o, w in zip(into, pair, strict=True)))
    _store_merged(asm, odd, f", #{stride}]", stride)
    for pair in words:
        asm(*(f"sxtb16 {w}, {w}" for w in pair))
    _store_merged(asm, words, f"], #{4 * pixels}", stride)


def _store_merged(
    asm: Assembly, pairs: list[tuple[str, str]], suffix: str, stride: int
) -> None:
    """Store two channels of one or two neighbours, whose rows come as pairs."""
    (upper, lower), *more = pairs
    asm(f"pkhbt lr, {upper}, {lower}, lsl #16", f"pkhtb {lower}, {lower}, {upper}, asr #16")
    if not more:
        asm(f"str lr, [r2{suffix}", f"str {lower}, [r12{suffix}")
        return
    ((above, below),) = more
    asm(
        f"pkhbt {upper}, {above}, {below}, lsl #16", f"pkhtb {below}, {below}, {above}, asr #16"
    )
    for pointer, first, second in (("r2", "lr", upper), ("r12", lower, below)):
        if suffix.startswith("]") or stride <= 1020:
            asm(f"strd {first}, {second}, [{pointer}{suffix}")
        else:
            asm(
                f"str {first}, [{pointer}, #{stride}]",
                f"str {second}, [{pointer}, #{stride + 4}]",
            )


def _single(which: str) -> Function:
    """Return the function for a pair of which only the upper or the lower row is inside."""
    name = f"$spread_{which}"
    asm = Assembly(name, about=f"a pair of rows of which the {which} one is in the picture")
    asm("mov r12, r2", "mov r2, r1", "ldm r12, {r4, r5, r11, lr}", "mov r10, r5", "mov r7, lr")
    asm("add r3, r2, r4", "lsl r12, r11, #1", "add lr, r12, r11", "1:")
    asm("ldr r4, [r0]", "add r0, r0, r10", "sxtb16 r6, r4", "sxtb16 r8, r4, ror #8")
    inside, outside = ("r6", "r8"), ("r7", "r7")
    pair = (inside, outside) if which == "upper" else (outside, inside)
    _store_pairs(asm, *pair)
    return asm.function(
        f"void {name}(const int8_t *row, uint32_t *plane, const int32_t *spread)"
    )


def _store_pairs(asm: Assembly, upper: tuple[str, str], lower: tuple[str, str]) -> None:
    """Store a word of each of four channels at r2, planes being r11 bytes apart, and loop.

    Channels 0 and 2 lie in the even bytes, 1 and 3 in the odd ones.
    """
    (even, odd), (even_below, odd_below) = upper, lower
    asm(f"pkhtb r4, {even_below}, {even}, asr #16", "str r4, [r2, r12]")
    asm(f"pkhbt r4, {odd}, {odd_below}, lsl #16", "str r4, [r2, r11]")
    asm(f"pkhtb r4, {odd_below}, {odd}, asr #16", "str r4, [r2, lr]")
    asm(f"pkhbt r4, {even}, {even_below}, lsl #16", "str r4, [r2], #4")
    asm("cmp r2, r3", "bne 1b")


_SPREAD = Function(
    "$spread_pair",
    "void $spread_pair(const int8_t *input, int32_t row, int32_t slot, uint32_t *planes,\n"
    "    const $depthwise_shape *shape)",
    """\
{
    /* A row and the one below it; what lies outside the picture stands for zero. */
    uint32_t *plane = planes + slot * shape->width + shape->left;
    if (0 <= row && row + 1 < shape->height) {
        input += row * shape->row;
        shape->both(input, input + shape->row, plane);
    } else if (row + 1 == 0) {
        $spread_lower(input, plane, shape->spread);
    } else if (row + 1 == shape->height) {
        $spread_upper(input + row * shape->row, plane, shape->spread);
    } else {
        plane -= shape->left;
        for (int32_t c = 0; c < 4; c++) {
            for (int32_t i = 0; i < shape->width; i++) {
                plane[2 * c * shape->width + i] = shape->zero;
            }
        }
    }
}
""",
    needs=(_single("lower"), _single("upper")),
    types=(_SHAPE,),
)

_WALK = Function(
    "$depthwise_3x3",
    "void $depthwise_3x3(const int8_t *input, int8_t *output, const uint32_t *weights,\n"
    "    int8_t *scratch, const $depthwise_shape *shape)",
    """\
{
    uint32_t *planes = (uint32_t *)(void *)scratch;
    /* Columns beside the picture keep what stands for zero. */
    for (int32_t i = 0; i < 8 * shape->width; i++) {
        planes[i] = shape->zero;
    }
    for (int32_t c = 0; c < shape->channels; c += 4) {
        int8_t *result = output + c;
        $spread_pair(input + c, -shape->top, 0, planes, shape);
        for (int32_t j = 0; j < shape->passes; j++) {
            const int32_t next = j + 1;
            $spread_pair(input + c, 2 * next - shape->top, next & 1, planes, shape);
            shape->rows[next == shape->passes ? 2 : j & 1](planes, weights, result);
            result += shape->step;
        }
        weights += shape->words;
    }
}
""",
    needs=(_SPREAD,),
)


def _passes(window: Window) -> int:
    """Return how many times rows are computed: one or two of the result each time."""
    return window.rows if window.strides[0] == 2 else (window.rows + 1) // 2


def _call(
    window: Window, planes: Planes, output: Output, zero: int
) -> tuple[str, tuple[Function, ...]]:
    """Return the call, and what it needs."""
    stride, passes = window.strides[0], _passes(window)
    rows = 1 if stride == 2 else 2
    shape = (window.columns, window.channels, planes.stride, output)
    pair = [Rows(stride, rows, odd, *shape) for odd in (False, True)]
    last = pair[(passes - 1) & 1]
    if stride == 1 and window.rows % 2:
        last = Rows(stride, 1, last.swapped, *shape)
    # A function that no pass calls is not written.
    called = [pair[k] if passes > k + 1 else last for k in range(2)] + [last]
    both = _both(window, planes)
    numbers = [
        window.channels,
        window.height,
        window.width * window.channels,
        window.pads[0][0],
        passes,
        rows * window.columns * window.channels,
        planes.width,
        planes.left,
        4 * (4 + output.words),
        f"{(zero & 0xFFFF) * 0x10001:#x}u",
    ]
    word = (zero & 0xFFFF) * 0x10001
    signed = word - 2**32 if word >= 2**31 else word
    spread = [4 * planes.filled, window.channels, planes.stride, signed]
    rows_of = ", ".join(part.name for part in called)
    table = (
        (
            "static const $depthwise_shape shape = {\n"
            f"    {', '.join(map(str, numbers))},\n"
            f"    {{{', '.join(map(str, spread))}}}, {both.name},\n"
            f"    {{{rows_of}}}\n}};\n"
        )
        .replace("{", "{{")
        .replace("}", "}}")
    )
    text = table + "$depthwise_3x3({x0}, {y0}, {weights}, {scratch}, &shape);"
    functions = [both, *(rows.function() for rows in dict.fromkeys(called)), _WALK]
    return text, tuple(functions)


def _turns(window: Window) -> Iterator[tuple[int, int]]:
    """Yield what is still needed and what was written, of one channel, in pixels."""
    rows = 1 if window.strides[0] == 2 else 2
    for j in range(_passes(window)):
        read = min(max(2 * j + 4 - window.pads[0][0], 0), window.height)
        yield read * window.width, min((j + 1) * rows, window.rows) * window.columns
