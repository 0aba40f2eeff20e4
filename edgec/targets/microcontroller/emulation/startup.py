"""What runs before ``main`` on the emulated processor, and where everything lies in memory."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.targets.microcontroller.datafiles import Region

__all__ = [
    "FLASH",
    "HALT",
    "MAIN",
    "RAM",
    "STACK_BYTES",
    "STACK_TOP",
    "STARTUP",
    "Memory",
    "linker_script",
]


FLASH = Region(0x0000_0000, 16 << 20)
"""Larger than on any board, so that too large a model can be measured too."""

RAM = Region(0x2000_0000, 16 << 20)

STACK_BYTES = 64 << 10

HALT = "edgec_halt"
"""Where the processor stays when it has nothing to do."""

STACK_TOP = "edgec_stack_top"

STARTUP = """\
/* What runs before main: initial values into RAM, the floating-point unit on. */
#include <stdint.h>

extern uint32_t edgec_stack_top[], edgec_data_load[];
extern uint32_t edgec_data_start[], edgec_data_end[], edgec_bss_start[], edgec_bss_end[];
int main(void);
void edgec_reset(void);
void edgec_halt(int code);

__attribute__((noinline, noreturn, used, section(".startup"))) void edgec_halt(int code) {
#if defined(EDGEC_SEMIHOSTING)
    uint32_t reason[2] = {0x20026u, (uint32_t)code}; /* the application ended by itself */
    register uint32_t operation __asm__("r0") = 0x20u;
    register uint32_t *arguments __asm__("r1") = reason;
    __asm__ volatile("bkpt 0xAB" : "+r"(operation) : "r"(arguments) : "memory");
#endif
    for (;;) {
        __asm__ volatile("nop" : : "r"(code)); /* where the emulator finds it */
    }
}

__attribute__((noinline, noreturn, used, section(".startup"))) void edgec_reset(void) {
    volatile uint32_t *to;
    const uint32_t *from = edgec_data_load;
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* coprocessors 10 and 11 */
    __asm__ volatile("dsb\\n\\tisb");
#endif
    for (to = edgec_data_start; to < edgec_data_end;) {
        *to++ = *from++;
    }
    for (to = edgec_bss_start; to < edgec_bss_end;) {
        *to++ = 0;
    }
    edgec_halt(main());
}

__attribute__((used, section(".vectors"))) const void *const edgec_vectors[16] = {
    edgec_stack_top,        (const void *)edgec_reset, (const void *)edgec_halt,
    (const void *)edgec_halt, (const void *)edgec_halt,  (const void *)edgec_halt,
    (const void *)edgec_halt,
};
"""

MAIN = """\
/* Nothing to do at first: the emulator calls the functions of the model itself. */
int main(void);
int main(void) {
    return 0;
}
"""


@dataclass(frozen=True, slots=True)
class Memory:
    """What memory there is; more than on any board, if nothing else is said."""

    flash: Region = FLASH
    ram: Region = RAM
    stack_bytes: int = STACK_BYTES


def linker_script(memory: Memory) -> str:
    """Return what tells the linker where everything lies; it refuses what does not fit."""
    return f"""\
ENTRY(edgec_reset)
MEMORY {{
    FLASH (rx) : ORIGIN = {memory.flash.start:#x}, LENGTH = {memory.flash.size}
    RAM (rw) : ORIGIN = {memory.ram.start:#x}, LENGTH = {memory.ram.size}
}}
SECTIONS {{
    .startup : {{ KEEP(*(.vectors)) KEEP(*(.startup)) . = ALIGN(8); }} > FLASH
    .text : {{ *(.text .text.*) . = ALIGN(4); }} > FLASH
    .rodata : {{ *(.rodata .rodata.*) . = ALIGN(4); }} > FLASH
    .ARM.exidx : {{ *(.ARM.exidx* .ARM.extab*) . = ALIGN(4); }} > FLASH
    /* First in RAM, so that a stack that grows too far leaves it, and faults. */
    .stack (NOLOAD) : {{ . = . + {memory.stack_bytes}; {STACK_TOP} = .; }} > RAM
    .data : {{ edgec_data_start = .; *(.data .data.*) . = ALIGN(4); edgec_data_end = .; }}
        > RAM AT > FLASH
    edgec_data_load = LOADADDR(.data);
    .bss (NOLOAD) : {{ edgec_bss_start = .; *(.bss .bss.* COMMON) . = ALIGN(8);
        edgec_bss_end = .; }} > RAM
}}
"""
