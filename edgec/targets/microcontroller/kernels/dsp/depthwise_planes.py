"""Planes of vertical pairs: two rows of four channels, a channel in each plane.

Each word of a plane holds a pixel and the one below it, as SMLAD multiplies them.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgec.targets.microcontroller.kernels.base import Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly
from edgec.targets.microcontroller.kernels.dsp.sums import Window

__all__ = ["SHAPE", "SPREAD_PAIR", "Planes", "spread_both"]


@dataclass(frozen=True, slots=True)
class Planes:
    """What channels of two pairs of rows become: ``[channel][pair][column]`` words.

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


SHAPE = """\
typedef struct {
    int32_t channels;
    int32_t height, row;   /* of the input: rows, and bytes of a row */
    int32_t top;           /* rows of padding before the picture */
    int32_t passes, step;  /* over the output's rows, and bytes of it in each */
    int32_t width, left;   /* columns of the planes, and those before the picture */
    int32_t words;         /* of weights and constants of what is computed together */
    uint32_t zero;         /* what stands for zero, twice */
    int32_t spread[4];     /* bytes filled in a plane, channels, bytes of a plane, zero */
    void (*both)(const int8_t *upper, const int8_t *lower, uint32_t *plane);
    void (*rows[3])(const uint32_t *planes, const uint32_t *weights, int8_t *output);
} $depthwise_shape;
"""


def spread_both(window: Window, planes: Planes) -> Function:
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


SPREAD_PAIR = Function(
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
    types=(SHAPE,),
)
