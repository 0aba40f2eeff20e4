"""Bytes that are copied or written over and over, 16 at a time, and columns made of them."""

from __future__ import annotations

from dataclasses import replace

from edgec.targets.microcontroller.kernels.base import Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly
from edgec.targets.microcontroller.kernels.portable.conv import GATHER
from edgec.targets.microcontroller.kernels.portable.layouts import WINDOW_TYPE

__all__ = ["COLUMN", "DILATED_COLUMN", "FILL", "SHORT_COLUMN", "short_windows"]


_STRAIGHT = 4
"""Rows of a window that are written one after the other, without a loop."""


def _filled(asm: Assembly, to: str, count: str, label: int) -> None:
    """Write q1 over bytes from where r0 points, which moves behind them."""
    asm(f"mov {to}, r0", f"wlstp.8 lr, {count}, {label + 1}f", f"{label}:")
    asm(f"vstrb.8 q1, [{to}], #16", f"letp lr, {label}b", f"{label + 1}:")
    asm(f"add r0, r0, {count}")


def _fill() -> Function:
    asm = Assembly("$fill_vectors", about="a byte over and over")
    asm("vdup.8 q1, r1")
    _filled(asm, "r3", "r2", 1)
    made = asm.function("int8_t *$fill_vectors(int8_t *to, int32_t value, int32_t count)")
    return replace(made, helium=True)


def _copy() -> Function:
    asm = Assembly("$copy_vectors", about="bytes from the front")
    asm("mov r3, r0", "wlstp.8 lr, r2, 2f", "1:", "vldrb.u8 q0, [r1], #16")
    asm("vstrb.8 q0, [r3], #16", "letp lr, 1b", "2:", "add r0, r0, r2")
    prototype = "int8_t *$copy_vectors(int8_t *to, const int8_t *from, int32_t count)"
    return replace(asm.function(prototype), helium=True)


FILL = _fill()
"""Writes a byte over and over and returns where it ended."""

DILATED_COLUMN = replace(
    GATHER,
    name="$dilated_column",
    prototype=GATHER.prototype.replace("$gather", "$dilated_column"),
    body=GATHER.body.replace("$fill", "$fill_vectors").replace("$copy", "$copy_vectors"),
    needs=(FILL, _copy()),
)
"""The numbers under a filter, one after the other; the zero point outside the picture."""

_CLIP_TYPE = """\
/* How a window lies over a picture: rows above it, in it and below; bytes of a row beside it,
   in it and beside again, and from one row to the next. */
typedef struct {
    int32_t above, inside, below;
    int32_t before, middle, after;
    int32_t row, zero_point;
} $clip;
"""

_CLIPPED = Function(
    "$clipped",
    "int32_t $clipped($clip *clip, int32_t row, int32_t place, const $window *w)",
    """\
{
    /* Returns where the first byte is that is in the window and in the picture. */
    const int32_t length = w->kernel_x * w->channels;
    const int32_t top = row * w->stride_y - w->pad_top;
    const int32_t left = (place * w->stride_x - w->pad_left) * w->channels;
    const int32_t under = top + w->kernel_y - w->height;
    int32_t above = top < 0 ? -top : 0;
    int32_t below = under > 0 ? under : 0;
    int32_t before = left < 0 ? -left : 0;
    int32_t after;
    above = above > w->kernel_y ? w->kernel_y : above;
    below = below > w->kernel_y - above ? w->kernel_y - above : below;
    before = before > length ? length : before;
    clip->row = w->width * w->channels;
    after = left + length - clip->row;
    after = after < 0 ? 0 : after;
    after = after > length - before ? length - before : after;
    clip->above = above;
    clip->inside = w->kernel_y - above - below;
    clip->below = below;
    clip->before = before;
    clip->middle = length - before - after;
    clip->after = after;
    clip->zero_point = w->zero_point;
    return (top + above) * clip->row + left + before;
}
""",
    types=(WINDOW_TYPE, _CLIP_TYPE),
)


def _rows(asm: Assembly) -> None:
    """Load a clip: lengths to r4 to r9, the way to the next row to r10, of a row to r11."""
    asm("add r1, r1, r2", "ldrd r4, r5, [r3]", "ldrd r6, r7, [r3, #8]")
    asm("ldrd r8, r9, [r3, #16]", "ldrd r10, r11, [r3, #24]", "vdup.8 q1, r11")
    asm("add r11, r7, r8", "add r11, r11, r9", "mul r12, r4, r11")


def _long_rows() -> Function:
    asm = Assembly("$long_rows", about="rows of a window, 16 bytes at a time")
    _rows(asm)
    _filled(asm, "r2", "r12", 1)
    asm("cbz r5, 12f", "3:")
    _filled(asm, "r2", "r7", 4)
    asm("mov r2, r0", "mov r3, r1", "wlstp.8 lr, r8, 7f", "6:", "vldrb.u8 q0, [r3], #16")
    asm("vstrb.8 q0, [r2], #16", "letp lr, 6b", "7:", "add r0, r0, r8")
    _filled(asm, "r2", "r9", 8)
    asm("add r1, r1, r10", "subs r5, #1", "bne 3b", "12:", "mul r12, r6, r11")
    _filled(asm, "r2", "r12", 10)
    return replace(asm.function(_prototype("$long_rows")), types=(_CLIP_TYPE,), helium=True)


def _short_rows() -> Function:
    """Rows are loaded with those bytes alone that are in the picture, and stored as a whole."""
    asm = Assembly("$short_rows", about="rows of a window of 16 bytes at most")
    _rows(asm)
    asm("sub r1, r1, r7", "mov r2, #1", "lsl r2, r2, r8", "sub r2, r2, #1", "lsl r2, r2, r7")
    asm("vmsr p0, r2")
    for count, label in (("r4", 1), ("r5", 3), ("r6", 5)):
        asm(f"wls lr, {count}, {label + 1}f", f"{label}:")
        if count == "r5":
            asm("vpst", "vldrbt.u8 q0, [r1]", "vpsel q0, q0, q1", "vstrb.8 q0, [r0]")
            asm("add r1, r1, r10")
        else:
            asm("vstrb.8 q1, [r0]")
        asm("add r0, r0, r11", f"le lr, {label}b", f"{label + 1}:")
    return replace(asm.function(_prototype("$short_rows")), types=(_CLIP_TYPE,), helium=True)


def short_windows(columns: int, rows: int, length: int) -> Function:
    """Return what puts columns together of windows that lie inside the picture.

    Parameters
    ----------
    columns
        One or two.
    length
        Bytes of a row of the window, up to a vector.
    """
    name = f"$windows_{columns}_{rows}x{length}"
    asm = Assembly(name, about="rows of windows inside the picture, of a vector at most")
    asm(f"mov r12, #{length}", "vctp.8 r12")
    for k in range(columns):
        asm("add r4, r1, r3" if k else "mov r4, r1")
        each = ("vpst", "vldrbt.u8 q0, [r4]", f"vstrb.8 q0, [r0], #{length}", "add r4, r4, r2")
        if rows <= _STRAIGHT:
            asm(*each * rows)
        else:
            asm(f"mov r5, #{rows}", "dls lr, r5", f"{k + 1}:", *each, f"le lr, {k + 1}b")
    made = asm.function(
        f"void {name}(int8_t *column, const int8_t *from, int32_t row, int32_t step)"
    )
    return replace(made, helium=True)


def _prototype(name: str) -> str:
    return f"void {name}(int8_t *column, const int8_t *x, int32_t offset, const $clip *clip)"


def _column(name: str, rows: Function) -> Function:
    return Function(
        name,
        f"void {name}(const int8_t *x, int8_t *column, int32_t row, int32_t place,\n"
        "    const $window *w)",
        f"""\
{{
    $clip clip;
    const int32_t offset = $clipped(&clip, row, place, w);
    {rows.name}(column, x, offset, &clip);
}}
""",
        needs=(_CLIPPED, rows),
        types=(WINDOW_TYPE, _CLIP_TYPE),
    )


COLUMN = _column("$column", _long_rows())
"""The same for windows without dilation."""

SHORT_COLUMN = _column("$short_column", _short_rows())
"""The same for rows of a vector at most; bytes behind it are written, up to a vector."""
