"""Small C programs compiled for emulated cores, with known counts."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

pytest.importorskip("ziglang", reason="of the extra mcu")
pytest.importorskip("unicorn", reason="of the extra mcu")
pytest.importorskip("elftools", reason="of the extra mcu")

from edgec.errors import InternalError, NumericsError, OptionError
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.datafiles import Region
from edgec.targets.microcontroller.emulation import machine as machines
from edgec.targets.microcontroller.emulation.image import Image
from edgec.targets.microcontroller.emulation.machine import Count, Machine
from edgec.targets.microcontroller.emulation.startup import Memory
from edgec.targets.microcontroller.emulation.toolchain import Build, compiler

SOURCE = r"""
#include <stdint.h>
#define NAKED __attribute__((naked, noinline, used)) static

int8_t arena[64];
int started = 7;
int cleared;
int8_t *input(int k);
int8_t *input(int k) { return arena + 8 * k; }

NAKED void inner(void) { __asm__("movs r0, #3\n1: subs r0, #1\nbne 1b\nbx lr\n"); }
NAKED void layer_0(void) { __asm__("push {r4-r6, lr}\nbl inner\npop {r4-r6, pc}\n"); }
NAKED void layer_1(void) {
    __asm__("sub sp, #64\nstr r0, [sp]\nldm r1!, {r0, r2}\nadd sp, #64\nbx lr\n");
}
__attribute__((naked)) void run(void);
__attribute__((naked)) void run(void) {
    __asm__("push {r4, lr}\nldr r1, =arena\nbl layer_0\nldr r1, =arena\nbl layer_1\n"
            "bl inner\npop {r4, pc}\n.ltorg\n");
}

int sum(int seed);
int sum(int seed) {
    for (int k = 0; k < 64; k++) {
        arena[k] = (int8_t)(arena[k] * seed);
        seed += arena[k];
    }
    return seed / 3 + started + cleared;
}
int scaled(int x);
int scaled(int x) { volatile float f = (float)x * 1.5f; return (int)f; }

void stray(void);
void stray(void) { *(volatile int *)0x40000000 = 1; }
void flash(void);
void flash(void) { *(volatile int *)0x100 = 1; }
__attribute__((naked)) void undefined(void);
__attribute__((naked)) void undefined(void) { __asm__("udf #1"); }
void forever(void);
void forever(void) { for (;;) { __asm__ volatile(""); } }
void deep(int size);
__attribute__((naked)) void deep(int size __attribute__((unused))) {
    __asm__("mov r1, sp\nsubs r1, r1, r0\nmovs r2, #0\n"
            "1: str r2, [r1]\nadds r1, #4\nmov r3, sp\ncmp r1, r3\nblo 1b\nbx lr\n");
}
"""

KEEP = ["run", "input", "sum", "scaled", "stray", "flash", "undefined", "forever", "deep"]
CORES = ["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33"]
_built: dict[str, Build] = {}


def build(core: str) -> Build:
    if core not in _built:
        _built[core] = compiler().build({"a.c": SOURCE}, load_core(core), keep=KEEP)
    return _built[core]


def machine(core: str = "cortex-m4", **options: Any) -> Machine:
    return Machine(build(core).image, load_core(core), **options)


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m33"])
def test_counts_are_exact(core: str) -> None:
    run = machine(core).count("run", ["layer_0", "layer_1"])

    inner = 1 + 3 * 2 + 1
    assert run.parts["layer_0"] == Count(3 + inner, 4)
    assert run.parts["layer_1"] == Count(5, 2)
    assert run.total == Count(7 + 3 + inner + 5 + inner, 2 + 2 + 4 + 2)
    assert run.stack_bytes == 8 + 64


@pytest.mark.parametrize("core", CORES)
def test_counts_equal_those_of_single_steps(core: str) -> None:
    emulated = machine(core)
    emulated.write(emulated.call("input"), bytes(range(64)))
    total = emulated.count("sum", argument=3).total.instructions
    emulated.write(emulated.call("input"), bytes(range(64)))
    steps = 0

    def step(uc: object, address: int, size: int, data: object) -> None:
        nonlocal steps
        steps += 1

    unicorn: Any = import_module("unicorn")
    hook = emulated._uc.hook_add(unicorn.UC_HOOK_CODE, step)
    emulated.call("sum", 3)
    emulated._uc.hook_del(hook)

    assert total == steps > 64


@pytest.mark.parametrize("core", CORES)
def test_programs_compute_what_they_say(core: str) -> None:
    emulated = machine(core)
    emulated.write(emulated.call("input", 1), bytes([1, 2, 255]))
    seed, arena = 3, [0] * 8 + [1, 2, -1] + [0] * 53
    for k, value in enumerate(arena):
        arena[k] = (value * seed + 128) % 256 - 128
        seed += arena[k]

    result = emulated.call("sum", 3)

    assert result == seed // 3 + 7
    assert emulated.read(emulated.call("input"), 64) == bytes(v % 256 for v in arena)
    assert emulated.call("scaled", 10) == 15


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("stray", "stray failed at stray.*unmapped|stray failed at stray.*UNMAPPED"),
        ("flash", "flash failed at flash.*protected"),
        ("undefined", "undefined failed at undefined"),
        ("forever", r"forever did not return within 0\.2 s .* at forever"),
    ],
)
def test_what_goes_wrong_is_told_with_its_place(function: str, said: str) -> None:
    with pytest.raises(NumericsError, match=said):
        machine(seconds=0.2).call(function)


def test_a_used_up_stack_is_an_error() -> None:
    with pytest.raises(InternalError, match="stack of 65536 bytes"):
        machine().count("deep", argument=65536)
    with pytest.raises(NumericsError, match="deep failed at deep"):
        machine().count("deep", argument=65540)


def test_equal_builds_give_equal_programs() -> None:
    core = load_core("cortex-m4")

    again = compiler().build({"a.c": SOURCE}, core, keep=KEEP)

    assert again.image == build("cortex-m4").image
    assert not any(name.startswith(".debug") for name in again.image.sections)
    assert "zig" in again.compiler
    assert "-mcpu=cortex_m4+vfp4d16sp" in again.flags
    assert again.image.sections[".data"] == 4


def test_what_the_compiler_refuses_is_told() -> None:
    with pytest.raises(InternalError, match="use of undeclared identifier") as caught:
        compiler().build({"a.c": "int f(void) { return y; }"}, load_core("cortex-m4"), keep=[])

    assert "a.c" in caught.value.dump


def test_the_linker_keeps_to_the_memory_that_there_is() -> None:
    core = load_core("cortex-m4")
    source = {"a.c": "char many[5000]; char *f(void); char *f(void) { return many; }"}
    flash = Region(0, 4096)
    enough = Memory(flash, Region(0x2000_0000, 8192), 256)
    little = Memory(flash, Region(0x2000_0000, 4096), 256)

    compiler().build(source, core, keep=["f"], memory=enough)

    with pytest.raises(InternalError, match="overflow"):
        compiler().build(source, core, keep=["f"], memory=little)


def test_warnings_are_part_of_a_build() -> None:
    source = "void f(int x);\nvoid f(int x) { volatile signed char c = x; }"

    found = compiler().build({"a.c": source}, load_core("cortex-m4"), keep=["f"])

    assert "conversion" in found.warnings
    assert not build("cortex-m4").warnings


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="no emulator for cortex-m55"):
        Machine(build("cortex-m4").image, load_core("cortex-m55"))
    with pytest.raises(InternalError, match="has no gone"):
        machine().call("gone")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(OptionError, match="gcc-arm-none-eabi"):
        compiler.__wrapped__("gcc")
    monkeypatch.setattr(
        "edgec.targets.microcontroller.emulation.extra.find_spec", lambda name: None
    )
    for make in (
        lambda: compiler.__wrapped__("zig"),
        lambda: Image.of(b""),
        lambda: machines.Machine(build("cortex-m4").image, load_core("cortex-m4")),
    ):
        with pytest.raises(OptionError, match=r"pip install 'edgec\[mcu\]'"):
            make()
