"""Bytes that are copied or written over and over, 16 at a time, and columns made of them."""

from __future__ import annotations

from dataclasses import replace

from edgec.targets.microcontroller.kernels.base import Function
from edgec.targets.microcontroller.kernels.portable.conv import GATHER
from edgec.targets.microcontroller.kernels.portable.layouts import WINDOW_TYPE

__all__ = ["COLUMN", "FILL", "SHORT_COLUMN"]


def _loop(name: str, prototype: str, before: str, each: str) -> Function:
    body = f"""\
.syntax unified
.thumb
.pushsection .text.{name},"ax",%progbits
.global {name}
.type {name},%function
.p2align 2
.thumb_func
{name}:
push {{r4, lr}}
add r3, r0, r2
{before}
wlstp.8 lr, r2, 2f
1:
{each}
vstrb.8 q0, [r0], #16
letp lr, 1b
2:
mov r0, r3
pop {{r4, pc}}
.size {name}, .-{name}
.popsection
"""
    return Function(name, prototype, body, assembly=True, helium=True)


_COPY = _loop(
    "$copy_vectors",
    "int8_t *$copy_vectors(int8_t *to, const int8_t *from, int32_t count)",
    "",
    "vldrb.u8 q0, [r1], #16",
)

FILL = _loop(
    "$fill_vectors",
    "int8_t *$fill_vectors(int8_t *to, int32_t value, int32_t count)",
    "vdup.8 q0, r1",
    "",
)

COLUMN = replace(
    GATHER,
    name="$column",
    prototype=GATHER.prototype.replace("$gather", "$column"),
    body=GATHER.body.replace("$fill", "$fill_vectors").replace("$copy", "$copy_vectors"),
    needs=(FILL, _COPY),
)
"""The numbers under a filter, one after the other; the zero point outside the picture."""


_MASKED = Function(
    "$masked_rows",
    "void $masked_rows(int8_t *column, const int8_t *x, int32_t offset,\n"
    "    const int32_t *numbers)",
    """\
.syntax unified
.thumb
.pushsection .text.$masked_rows,"ax",%progbits
.global $masked_rows
.type $masked_rows,%function
.p2align 2
.thumb_func
$masked_rows:
push {r4-r7, lr}
@ which bytes of a row, rows above, in and below the picture; lengths of rows; the zero point
ldrd r12, r4, [r3]
ldrd r5, r6, [r3, #8]
ldr r7, [r3, #24]
vdup.8 q1, r7
ldr r7, [r3, #16]
ldr r3, [r3, #20]
add r1, r1, r2
vmsr p0, r12
wls lr, r4, 2f
1:
vstrb.8 q1, [r0]
add r0, r0, r7
le lr, 1b
2:
wls lr, r5, 4f
3:
vpst
vldrbt.u8 q0, [r1]
vpsel q0, q0, q1
vstrb.8 q0, [r0]
add r0, r0, r7
add r1, r1, r3
le lr, 3b
4:
wls lr, r6, 6f
5:
vstrb.8 q1, [r0]
add r0, r0, r7
le lr, 5b
6:
pop {r4-r7, pc}
.size $masked_rows, .-$masked_rows
.popsection
""",
    assembly=True,
    helium=True,
)

SHORT_COLUMN = Function(
    "$short_column",
    "void $short_column(const int8_t *x, int8_t *column, int32_t row, int32_t place,\n"
    "    const $window *w)",
    """\
{
    /* The same for windows whose rows are no longer than a vector: rows are loaded with those
       bytes alone that are in the picture, and stored as a whole. The last one is, too. */
    const int32_t length = w->kernel_x * w->channels;
    const int32_t top = row * w->stride_y - w->pad_top;
    const int32_t left = place * w->stride_x - w->pad_left;
    const int32_t width = w->width - left;
    const int32_t begin = (left < 0 ? -left : 0) * w->channels;
    const int32_t end = width < w->kernel_x ? width * w->channels : length;
    const uint32_t before = begin < 16 ? (1u << begin) - 1u : 0xFFFFu;
    const uint32_t inside = end > 0 ? (1u << end) - 1u : 0u;
    const int32_t over = top + w->kernel_y - w->height;
    int32_t above = top < 0 ? -top : 0;
    int32_t below = over > 0 ? over : 0;
    int32_t numbers[7];
    above = above > w->kernel_y ? w->kernel_y : above;
    below = below > w->kernel_y - above ? w->kernel_y - above : below;
    numbers[0] = (int32_t)(inside & ~before);
    numbers[1] = above;
    numbers[2] = w->kernel_y - above - below;
    numbers[3] = below;
    numbers[4] = length;
    numbers[5] = w->width * w->channels;
    numbers[6] = w->zero_point;
    $masked_rows(column, x, (top + above) * numbers[5] + left * w->channels, numbers);
}
""",
    needs=(_MASKED,),
    types=(WINDOW_TYPE,),
)
"""A column of short rows; bytes behind it are written, so that a vector more is needed."""
