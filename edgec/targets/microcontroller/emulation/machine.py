"""An emulated Cortex-M: runs functions of a linked program and counts what they execute.

Instructions are counted, never cycles: the emulator knows nothing of pipelines and memories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any

from edgec.errors import InternalError, NumericsError, OptionError
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.emulation.extra import require
from edgec.targets.microcontroller.emulation.image import Image
from edgec.targets.microcontroller.emulation.startup import (
    FLASH,
    HALT,
    RAM,
    STACK_BYTES,
    STACK_TOP,
)
from edgec.targets.microcontroller.emulation.thumb import Block, decode

__all__ = ["PAINT", "Count", "Counts", "Machine", "painted_over", "require_emulator"]

_SYSTEM = (0xE000_0000, 1 << 20)  # where the registers of the processor itself are
PAINT = b"\xa5"
"""What lies in the stack before a run, to see how far down it is written."""

_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Count:
    """What a part of a run executed.

    Parameters
    ----------
    loaded_words
        An LDM of four registers is one instruction and four words. ``None`` where nobody
        counts them.
    """

    instructions: int = 0
    loaded_words: int | None = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """What one run executed.

    Parameters
    ----------
    parts
        By the name of the function that was asked for; what it calls counts for it.
    stack_bytes
        How far down the stack was written.
    """

    total: Count
    stack_bytes: int
    parts: Mapping[str, Count] = field(default_factory=lambda: MappingProxyType({}))


def painted_over(stack: bytes) -> int:
    """Return how many bytes of a stack were written since it was painted.

    Raises
    ------
    InternalError
        If all of it was.
    """
    left = len(stack) - len(stack.lstrip(PAINT))
    if not left:
        raise InternalError(f"The stack of {len(stack)} bytes was used up.")
    return -(-(len(stack) - left) // 4) * 4


def require_emulator(core: Core) -> None:
    """Raise ``OptionError`` if a core cannot be emulated here."""
    if not core.emulator:
        raise OptionError(f"There is no emulator for {core.name} that pip installs.")
    require("unicorn", "Emulating microcontrollers")


class Machine:
    """A core with a program in its flash, started: ``main`` has returned.

    Attributes
    ----------
    exit_code
        What ``main`` returned.

    Raises
    ------
    OptionError
        If the emulator is not installed or does not know the core.
    """

    def __init__(self, image: Image, core: Core, *, seconds: float = _SECONDS) -> None:
        require_emulator(core)
        unicorn: Any = import_module("unicorn")
        arm_const: Any = import_module("unicorn.arm_const")
        self.image = image
        self._seconds = seconds
        self._blocks: dict[int, Block] = {}
        self._registers = arm_const
        self._errors: type[Exception] = unicorn.UcError
        self._block_hook = unicorn.UC_HOOK_BLOCK
        self._code_hook = unicorn.UC_HOOK_CODE
        mode = unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS
        self._uc = unicorn.Uc(unicorn.UC_ARCH_ARM, mode)
        self._uc.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{core.emulator}"))
        code = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
        data = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
        self._uc.mem_map(FLASH.start, FLASH.size, code)
        self._uc.mem_map(RAM.start, RAM.size, data)
        self._uc.mem_map(*_SYSTEM, data)
        for segment in image.segments:
            self._uc.mem_write(segment.address, segment.contents)
        self._stack = image.symbol(STACK_TOP).address
        self._uc.hook_add(unicorn.UC_HOOK_INTR, self._exception)
        self._fault = ""
        if "-mfloat-abi=hard" in core.compiler:
            self._float_unit_on()
        self.exit_code = self.call("edgec_reset")

    def _float_unit_on(self) -> None:
        # The emulator has no register CPACR in memory, which the start-up code writes.
        key = self._registers.UC_ARM_REG_FPEXC
        self._uc.reg_write(self._registers.UC_ARM_REG_C1_C0_2, 0xF << 20)
        self._uc.reg_write(key, 1 << 30)

    def _exception(self, uc: Any, number: int, data: object) -> None:
        self._fault = f"exception {number}"
        uc.emu_stop()

    # ---- memory

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of the memory."""
        return bytes(self._uc.mem_read(address, size))

    def write(self, address: int, contents: bytes) -> None:
        """Put bytes into the memory."""
        self._uc.mem_write(address, contents)

    # ---- running

    def call(
        self,
        function: str,
        argument: int = 0,
        before: Mapping[str, Callable[[], None]] = MappingProxyType({}),
    ) -> int:
        """Run a function and return what it returns.

        Parameters
        ----------
        before
            What to do when a function is entered, by its name.

        Raises
        ------
        NumericsError
            If it faults, or does not return in time.
        """
        registers = self._registers
        entry = self.image.symbol(function).address
        halt = self.image.symbol(HALT).address
        self._uc.reg_write(registers.UC_ARM_REG_SP, self._stack)
        self._uc.reg_write(registers.UC_ARM_REG_LR, halt | 1)
        self._uc.reg_write(registers.UC_ARM_REG_R0, argument)
        self._fault = ""
        hooks = [self._entry_hook(name, action) for name, action in before.items()]
        try:
            self._uc.emu_start(entry | 1, halt, timeout=int(self._seconds * 1e6))
        except self._errors as error:
            self._fault = str(error)
        finally:
            for hook in hooks:
                self._uc.hook_del(hook)
        at = self._uc.reg_read(registers.UC_ARM_REG_PC) & ~1
        if self._fault:
            raise NumericsError(
                f"{function} failed at {self.image.around(at)} on the emulated core: "
                f"{self._fault}"
            )
        if at != halt:
            raise NumericsError(
                f"{function} did not return within {self._seconds:g} s on the emulated core; "
                f"it was at {self.image.around(at)}"
            )
        return int(self._uc.reg_read(registers.UC_ARM_REG_R0))

    def _entry_hook(self, name: str, action: Callable[[], None]) -> Any:
        def entered(uc: object, address: int, size: int, data: object) -> None:
            action()

        at = self.image.symbol(name).address
        return self._uc.hook_add(self._code_hook, entered, begin=at, end=at)

    def count(self, function: str, parts: Sequence[str] = (), argument: int = 0) -> Counts:
        """Run a function and return what it executed.

        Parameters
        ----------
        parts
            Functions to count alone, none of which calls another of them.
        """
        bottom = self._stack - STACK_BYTES
        self.write(bottom, PAINT * STACK_BYTES)
        total = dict[int, int]()
        tallies = {name: dict[int, int]() for name in parts}
        starts = {self.image.symbol(name).address: tally for name, tally in tallies.items()}
        own = self.image.symbol(function)
        tally = total

        def entered(uc: object, address: int, size: int, data: object) -> None:
            nonlocal tally
            if address in starts:
                tally = starts[address]
            elif own.address <= address < own.end:
                tally = total
            key = address << 16 | size
            tally[key] = tally.get(key, 0) + 1

        hook = self._uc.hook_add(self._block_hook, entered)
        try:
            self.call(function, argument)
        finally:
            self._uc.hook_del(hook)
        found = {name: self._sum(each) for name, each in tallies.items()}
        rest = self._sum(total)
        everything = Count(
            rest.instructions + sum(c.instructions for c in found.values()),
            sum(c.loaded_words or 0 for c in (rest, *found.values())),
        )
        stack = painted_over(self.read(bottom, STACK_BYTES))
        return Counts(everything, stack, MappingProxyType(found))

    def _sum(self, tally: Mapping[int, int]) -> Count:
        instructions = words = 0
        for key, times in tally.items():
            block = self._blocks.get(key)
            if block is None:
                block = self._blocks[key] = decode(self.read(key >> 16, key & 0xFFFF))
            instructions += times * block.instructions
            words += times * block.loaded_words
        return Count(instructions, words)
