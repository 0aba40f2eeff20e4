"""Functions in GNU assembly text, for the loops that compilers do not get right.

All functions follow the procedure call standard: arguments in r0 to r3, r4 to r11 kept. Inner
loops use every register but the stack pointer, so what they do not need at each step lies on
the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgec.targets.microcontroller.kernels.base import Function
from edgec.targets.microcontroller.kernels.requantization import Rescaling

__all__ = ["Assembly", "Output"]


@dataclass(slots=True)
class Assembly:
    """The lines of one function.

    Parameters
    ----------
    name
        With its ``$``.
    frame
        Bytes of the stack for the function's own use, from ``sp`` on.
    about
        A comment for those who read the code, at the start.
    """

    name: str
    frame: int = 0
    about: str = ""
    lines: list[str] = field(default_factory=list)

    def __call__(self, *lines: str) -> None:
        """Add instructions or labels."""
        self.lines.extend(lines)

    def advance(self, register: str, step: int) -> None:
        """Add a constant of any size to a register; nothing for 0."""
        sign, size = ("add", step) if step >= 0 else ("sub", -step)
        for part in (size & 0xFFF, size & ~0xFFF):
            while part:
                # Thumb-2 takes 12 bits, or 8 bits anywhere.
                low = part & -part
                piece = part if part < 4096 else part & (low * 0xFF)
                self(f"{sign} {register}, {register}, #{piece}")
                part -= piece

    def constant(self, register: str, value: int) -> None:
        """Set a register."""
        self(f"movw {register}, #{value & 0xFFFF}")
        if value >> 16:
            self(f"movt {register}, #{value >> 16 & 0xFFFF}")

    def function(self, prototype: str) -> Function:
        """Return the function; the text saves registers and returns."""
        frame = (self.frame + 3) // 8 * 8 + 4  # with nine saved registers a multiple of 8
        body = [
            ".syntax unified",
            ".thumb",
            f'.pushsection .text.{self.name},"ax",%progbits',
            f".global {self.name}",
            f".type {self.name},%function",
            ".p2align 2",
            ".thumb_func",
            f"{self.name}:",
            *(f"@ {line}" for line in self.about.splitlines()),
            "push {r4-r11, lr}",
            *([f"sub sp, sp, #{frame}"] if self.frame else []),
            *self.lines,
            *([f"add sp, sp, #{frame}"] if self.frame else []),
            "pop {r4-r11, pc}",
            f".size {self.name}, .-{self.name}",
            ".popsection",
        ]
        return Function(self.name, prototype, "\n".join(body) + "\n", assembly=True)


@dataclass(frozen=True, slots=True)
class Output:
    """How accumulators become int8: the part of a rescaling that is code.

    Parameters
    ----------
    shifts
        In the form ``"shared"``: of the channels that come with scale 1 and 256.
    """

    form: str
    shifts: tuple[int, ...]
    clamp: tuple[int, int] | None

    @classmethod
    def of(cls, rescaling: Rescaling) -> Output:
        """Return that of a layer."""
        return cls(rescaling.form, rescaling.shifts, rescaling.clamp)

    @property
    def label(self) -> str:
        """For the names of functions; they are equal where the code is."""
        parts = [self.form, *map(str, self.shifts)]
        if self.clamp is not None:
            parts += [str(end).replace("-", "m") for end in self.clamp]
        return "_".join(parts)

    @property
    def words(self) -> int:
        """How many words of constants a channel has."""
        return 2 if self.form == "shared" else 3

    def channel(
        self,
        asm: Assembly,
        accumulators: Sequence[str],
        group: int,
        free: tuple[str, str, str],
        constants: tuple[str, str] = ("[r0], #8", "[r0], #4"),
    ) -> None:
        """Bring all accumulators of one channel to int8.

        Parameters
        ----------
        group
            0 for sums as they are, 1 for those that come multiplied with 256.
        free
            Three registers to use; the third only in the form ``"linear"``.
        constants
            Where factor and addend are, and then the shift, unless it is shared.
        """
        factor, addend, _ = free
        pair, last = constants
        asm(f"ldrd {factor}, {addend}, {pair}")
        if self.form == "linear":
            self._linear(asm, accumulators, group, free, last)
        else:
            asm(*(f"smmla {a}, {a}, {factor}, {addend}" for a in accumulators))
            if self.form == "own":
                asm(f"ldr {factor}, {last}")
                asm(*(f"asr {a}, {a}, {factor}" for a in accumulators))
            shift = self.shifts[group] if self.form == "shared" else 0
            suffix = f", asr #{shift}" if shift else ""
            asm(*(f"ssat {a}, #8, {a}{suffix}" for a in accumulators))
        self._bring_into_clamp(asm, accumulators)

    def _linear(
        self,
        asm: Assembly,
        accumulators: Sequence[str],
        group: int,
        free: tuple[str, str, str],
        last: str,
    ) -> None:
        factor, addend, third = free
        doubled = "lsl {0}, {0}, #1" if group == 0 else "asr {0}, {0}, #7"
        for a in accumulators:
            asm(
                f"add {third}, {addend}, {a}, asr #31",
                doubled.format(a),
                f"smmlar {a}, {a}, {factor}, {third}",
            )
        asm(f"ldr {third}, {last}")
        for a in accumulators:
            asm(f"asr {a}, {a}, {third}", f"ssat {a}, #8, {a}")

    def _bring_into_clamp(self, asm: Assembly, accumulators: Sequence[str]) -> None:
        if self.clamp is None:
            return
        least, greatest = self.clamp
        for a in accumulators:
            if least > -128:
                asm(f"cmp {a}, #{least}", "it lt", f"movlt {a}, #{least}")
            if greatest < 127:
                asm(f"cmp {a}, #{greatest}", "it gt", f"movgt {a}, #{greatest}")
