"""Sums of two tensors, element by element, without tables where three constants suffice.

TFLite Micro scales both operands, adds, and scales the sum: three multiplications, each
rounded. Often ``(a * A >> 16) + (b * B >> 16) + C``, shifted to 8 bits and saturated, gives the
same for all 65,536 pairs of operands; such constants are searched for, and all pairs compared.
Where none are found, each operand's part comes from a table of 256 words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.ir import DType
from edgec.program import Layer, Tensor
from edgec.program.operators import Add
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function, Table
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly, Output
from edgec.targets.microcontroller.kernels.dsp.sums import Ints
from edgec.targets.microcontroller.kernels.requantization import Multiplier, output_range

__all__ = ["add", "exact_sums"]

_TRIES = 1000


def add(layer: Layer, core: Core) -> Code | None:
    """Operands of equal shape."""
    op = layer.op
    if "dsp" not in core.tiers or not isinstance(op, Add):
        return None
    a, b, y = layer.input(0), layer.input(1), layer.output
    if not a.shape == b.shape == y.shape or not a.dtype == b.dtype == y.dtype == DType.INT8:
        return None
    if a.data is not None or b.data is not None or y.size == 0:
        return None
    if a.grid is None or b.grid is None or y.grid is None:
        return None
    found = search(a, b, exact_sums(layer, op), y)
    if found is None:
        return _by_tables(layer, op)
    function = found.function()
    size = y.size
    return Code(
        f"{function.name}({{x0}}, {{x1}}, {{y0}}, {size}, {found.first}, {found.second},\n"
        f"    {found.start});",
        (function,),
        slack={0: 0, 1: 0},
    )


def _by_tables(layer: Layer, op: Add) -> Code | None:
    """Return code that looks the scaled operands up, and scales their sum as TFLite does."""
    y = layer.output
    first, second, last = _scaled(layer)
    clamp = output_range(op.activation, y)
    right = -last.shift
    if not 1 <= right <= 23:
        return None
    output = Output("linear", (), None if clamp == (-128, 127) else clamp)
    name = f"$add_by_tables_{output.label}"
    asm = Assembly(name, about="operands from tables; their sum is scaled as TFLite does")
    # r0 and r1 the operands, r2 the result, r3 its end; the middle of both tables in r4 and r5.
    asm("add r3, r3, r2", "ldr r4, [sp, #36]", "add r4, r4, #512", "add r5, r4, #1024")
    asm("1:", "ldrsb r8, [r0], #1", "ldrsb r9, [r1], #1")
    asm("ldr r8, [r4, r8, lsl #2]", "ldr r9, [r5, r9, lsl #2]", "add r8, r8, r9")
    output.channel(asm, ["r8"], 0, ("r6", "r7", "r9"), ("[sp, #40]", "[sp, #48]"))
    asm("strb r8, [r2], #1", "cmp r2, r3", "bne 1b")
    function = asm.function(
        f"void {name}(const int8_t *a, const int8_t *b, int8_t *output, int32_t count,\n"
        "    const int32_t *parts, int32_t factor, int32_t addend, int32_t shift)"
    )
    parts = np.concatenate([first, second]).astype(np.int32)
    addend = (1 << right - 1) + (y.zero_point << right)
    return Code(
        f"{name}({{x0}}, {{x1}}, {{y0}}, {y.size},\n"
        f"    {{parts}}, {last.value}, {addend}, {right});",
        (function,),
        {"parts": Table(parts, {"other": parts.nbytes})},
        slack={0: 0, 1: 0},
    )


def _scaled(layer: Layer) -> tuple[Ints, Ints, Multiplier]:
    """Return all values of both operands as TFLite scales them, and the factor of their sum."""
    a, b, y = layer.input(0), layer.input(1), layer.output
    twice = 2 * max(a.scale, b.scale)
    numbers = np.arange(-128, 128, dtype=np.int64)
    first, second = (
        Multiplier.of(t.scale / twice).times((numbers - t.zero_point) << 20) for t in (a, b)
    )
    return first, second, Multiplier.of(twice / ((1 << 20) * y.scale))


def exact_sums(layer: Layer, op: Add) -> Ints:
    """Return what TFLite Micro gives for all pairs, ``[first, second]`` from -128 on."""
    y = layer.output
    first, second, last = _scaled(layer)
    total = last.times(first[:, None] + second)
    least, greatest = output_range(op.activation, y)
    return np.clip(total + y.zero_point, least, greatest)


@dataclass(frozen=True, slots=True)
class Constants:
    """Factors of both operands, what is added, and the shift to 8 bits."""

    first: int
    second: int
    start: int
    shift: int

    def of_all_pairs(self) -> Ints:
        """Return what the instructions give for all pairs."""
        numbers = np.arange(-128, 128, dtype=np.int64) << 8
        first, second = (numbers * factor >> 16 for factor in (self.first, self.second))
        levels: Ints = self.start + first[:, None] + second >> self.shift
        return np.clip(levels, -128, 127)

    def function(self) -> Function:
        """Return the code: ``(a, b, output, count, first, second, start)``."""
        name = f"$add_{self.shift}"
        asm = Assembly(name, about="a * first + b * second + start, shifted and saturated")
        # r0 and r1 the operands, r2 the result, r3 its end; r4 to r6 factors and start; r7
        # what is left after fours.
        asm("ldrd r4, r5, [sp, #36]", "ldr r6, [sp, #44]")
        asm("and r7, r3, #3", "bic r3, r3, #3", "add r3, r3, r2", "cmp r2, r3", "beq 2f", "1:")
        asm("ldr r8, [r0], #4", "ldr r9, [r1], #4")
        # A number in the upper byte of 16 bits is itself times 256.
        asm("and r10, r8, #0xff00ff00", "lsl r8, r8, #8", "and r8, r8, #0xff00ff00")
        asm("and r11, r9, #0xff00ff00", "lsl r9, r9, #8", "and r9, r9, #0xff00ff00")
        for half, to in (("b", "r12"), ("t", "lr")):
            asm(f"smlaw{half} {to}, r4, r8, r6", f"smlaw{half} {to}, r5, r9, {to}")
        asm("smlawb r8, r4, r10, r6", "smlawb r8, r5, r11, r8")
        asm("smlawt r9, r4, r10, r6", "smlawt r9, r5, r11, r9")
        asm(*(f"ssat {r}, #8, {r}, asr #{self.shift}" for r in ("r12", "r8", "lr", "r9")))
        asm("strb r8, [r2, #1]", "strb lr, [r2, #2]", "strb r9, [r2, #3]", "strb r12, [r2], #4")
        asm("cmp r2, r3", "bne 1b", "2:", "cbz r7, 4f", "3:")
        asm("ldrsb r8, [r0], #1", "ldrsb r9, [r1], #1", "lsl r8, r8, #8", "lsl r9, r9, #8")
        asm("smlawb r8, r4, r8, r6", "smlawb r8, r5, r9, r8")
        asm(f"ssat r8, #8, r8, asr #{self.shift}", "strb r8, [r2], #1")
        asm("subs r7, r7, #1", "bne 3b", "4:")
        return asm.function(
            f"void {name}(const int8_t *a, const int8_t *b, int8_t *output, int32_t count,\n"
            "    int32_t first, int32_t second, int32_t start)"
        )


def search(a: Tensor, b: Tensor, wanted: Ints, y: Tensor) -> Constants | None:
    """Return constants that give what is wanted for all pairs."""
    rng = np.random.default_rng(0)
    for shift in range(22, 14, -1):
        unit = 2.0**shift
        factors = [t.scale / y.scale * unit * 256 for t in (a, b)]
        if max(factors) >= 2**31:
            continue
        shares = [f * t.zero_point / 256 for f, t in zip(factors, (a, b), strict=True)]
        start = (y.zero_point + 0.5) * unit - sum(shares)
        if abs(start) + sum(factors) / 2 >= 2**31 - 2**24:
            continue
        for attempt in range(_TRIES):
            # Near what the scales say first, and then further and further away.
            reach = (attempt + 49) // 50
            first, second, third = (int(v) for v in rng.integers(-reach, reach + 1, 3))
            found = Constants(
                round(factors[0]) + first,
                round(factors[1]) + second,
                round(start) + third,
                shift,
            )
            if np.array_equal(found.of_all_pairs(), wanted):
                return found
    return None
