"""Bytes of pixels become pairs of 16 bits, as SMLAD multiplies them."""

from __future__ import annotations

from edgec.targets.microcontroller.kernels.base import Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly

__all__ = ["expand", "expand_taps", "store_words"]


def expand(pixels: int) -> Function:
    """Return the function that expands 1 to 4 pixels at equal distances.

    It writes ``[size / 2][pixels]`` words, in the order of channels that SXTB16 gives.
    """
    name = f"$expand_{pixels}"
    asm = Assembly(
        name, about=f"bytes of {pixels} pixels at equal distances to pairs of 16 bits"
    )
    for k in range(1, pixels):
        asm(f"add r{3 + k}, r{2 + k if k > 1 else 0}, r1")
    asm("add r3, r3, r0")
    _expand_loop(asm, ["r0", "r4", "r5", "r6"][:pixels], "r2", ("r1", "r11", "r12", "lr"))
    return asm.function(
        f"void {name}(const int8_t *pixel, int32_t step, uint32_t *columns, int32_t size)"
    )


def expand_taps(pixels: int) -> Function:
    """Return the function that expands what 1 to 4 pointers lead to."""
    name = f"$expand_taps_{pixels}"
    asm = Assembly(name, about=f"bytes that {pixels} pointers lead to, to pairs of 16 bits")
    asm("mov r12, r0", "mov r3, r2", "mov r2, r1")
    pointers = ["r0", "r4", "r5", "r6"][:pixels]
    asm(*(f"ldr {p}, [r12, #{4 * k}]" for k, p in enumerate(pointers)))
    asm("add r3, r3, r0")
    _expand_loop(asm, pointers, "r2", ("r1", "r11", "r12", "lr"))
    return asm.function(
        f"void {name}(const int8_t *const *taps, uint32_t *columns, int32_t size)"
    )


def _expand_loop(
    asm: Assembly, pointers: list[str], columns: str, free: tuple[str, ...]
) -> None:
    """Expand until the first pointer comes to r3."""
    words = [f"r{7 + k}" for k in range(len(pointers))]
    asm("1:", *(f"ldr {w}, [{p}], #4" for w, p in zip(words, pointers, strict=True)))
    store_words(asm, words, columns, free[: len(words)])
    asm(f"cmp {pointers[0]}, r3", "bne 1b")


def store_words(
    asm: Assembly, words: list[str], columns: str, free: tuple[str, ...], *, odd: bool = True
) -> None:
    """Store the even bytes of some words as pairs, and then the odd bytes.

    `free` are as many registers to use; both lists ascend, as STM has it.
    """
    asm(*(f"sxtb16 {f}, {w}" for f, w in zip(free, words, strict=True)))
    asm(f"stm {columns}!, {{{', '.join(free)}}}" if len(free) > 1 else _one(columns, free[0]))
    if odd:
        asm(*(f"sxtb16 {w}, {w}, ror #8" for w in words))
        many = f"stm {columns}!, {{{', '.join(words)}}}"
        asm(many if len(words) > 1 else _one(columns, words[0]))


def _one(columns: str, register: str) -> str:
    return f"str {register}, [{columns}], #4"
