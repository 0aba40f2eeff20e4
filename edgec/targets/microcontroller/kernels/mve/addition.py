"""Sums of two tensors of the same shape, eight numbers at a time.

One rounding in place of TFLite Micro's three, with constants that were searched, and compared
for all pairs of operands.
"""

from __future__ import annotations

from dataclasses import replace

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import Add
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly
from edgec.targets.microcontroller.kernels.portable.arithmetic import line_of

__all__ = ["add"]

_HALF = 16
"""Places that the first shift takes: from 32 bits to 16."""


def add(layer: Layer, core: Core) -> Code | None:
    """Operands of int8 that are both computed."""
    if "mve" not in core.tiers or not isinstance(layer.op, Add):
        return None
    a, b, y = layer.input(0), layer.input(1), layer.output
    if not a.dtype is b.dtype is y.dtype is DType.INT8 or not a.shape == b.shape == y.shape:
        return None
    line = line_of(layer)
    if line is None or not _HALF < line.shift <= _HALF + 8:
        return None
    function = _function(line.shift - _HALF, clamped=line.limits != (-128, 127))
    numbers = (*line.factors, line.start, *line.limits)
    return Code(
        f"static const int32_t line[{len(numbers)}] = {{{{{', '.join(map(str, numbers))}}}}};\n"
        f"{function.name}({{x0}}, {{x1}}, {{y0}}, {y.size}, line);",
        (function,),
        slack={0: 0, 1: 0},
    )


def _function(shift: int, *, clamped: bool) -> Function:
    """Return the loop; ``line`` is both factors, what is added, and the range."""
    name = f"$add_vectors_{shift}{'_clamped' if clamped else ''}"
    asm = Assembly(name, 0, "eight sums at a time, and then what is left, four at a time")
    # Behind the saved registers lies the fifth argument.
    asm("ldr r12, [sp, #36]", "vpush {d8-d11}")
    asm("ldrd r4, r5, [r12]", "ldr r6, [r12, #8]", "vdup.32 q4, r4")
    if clamped:
        asm("ldrd r8, r9, [r12, #12]", "vdup.16 q3, r8", "vdup.16 q5, r9")
    store = "vstrb.32 q0, [r2], #4"
    asm("lsr r7, r3, #3", "and r3, r3, #7", "wls lr, r7, 2f", "1:")
    asm(*_four("q0"), *_four("q2"))
    asm(f"vshrnb.i32 q0, q0, #{_HALF}", f"vshrnt.i32 q0, q2, #{_HALF}")
    asm(*_last(shift, clamped=clamped), store, "vshr.u32 q0, q0, #16", store, "le lr, 1b", "2:")
    asm("wlstp.32 lr, r3, 4f", "3:", *_four("q0"), f"vshrnb.i32 q0, q0, #{_HALF}")
    asm(*_last(shift, clamped=clamped), store, "letp lr, 3b", "4:", "vpop {d8-d11}")
    made = asm.function(
        f"void {name}(const int8_t *a, const int8_t *b, int8_t *y, int32_t count,\n"
        "    const int32_t *line)"
    )
    return replace(made, helium=True)


def _four(result: str) -> tuple[str, ...]:
    """Return the sums of four numbers of each operand; q1 is used."""
    return (
        f"vldrb.s32 {result}, [r0], #4",
        "vldrb.s32 q1, [r1], #4",
        f"vmlas.s32 {result}, q4, r6",
        f"vmla.s32 {result}, q1, r5",
    )


def _last(shift: int, *, clamped: bool) -> tuple[str, ...]:
    """Return the rest of the shift, and what brings q0 into its range."""
    if clamped:
        return (f"vshr.s16 q0, q0, #{shift}", "vmax.s16 q0, q0, q3", "vmin.s16 q0, q0, q5")
    # Not vqshrnb: assemblers of GCC 12 make vqrshrnb of it, which rounds.
    return (f"vshr.s16 q0, q0, #{shift}", "vqmovnb.s16 q0, q0")
