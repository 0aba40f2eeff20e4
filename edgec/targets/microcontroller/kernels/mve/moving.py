"""Bytes that are copied or written over and over, 16 at a time, and columns made of them."""

from __future__ import annotations

from dataclasses import replace

from edgec.targets.microcontroller.kernels.base import Function
from edgec.targets.microcontroller.kernels.portable.conv import GATHER

__all__ = ["COLUMN", "FILL"]


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
