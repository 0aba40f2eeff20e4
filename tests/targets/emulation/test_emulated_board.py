"""Boards in QEMU under a debugger: memory, calls, faults, and instructions by a timer."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ziglang", reason="of the extra mcu")
pytest.importorskip("elftools", reason="of the extra mcu")

from edgec.errors import InternalError, NumericsError, OptionError
from edgec.program.reading import parse_program
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.emulated_board import (
    QEMU,
    EmulatedBoard,
    Ticks,
    between,
    counted_by,
    require_qemu,
)
from edgec.targets.microcontroller.emulation.inputs import random_inputs
from edgec.targets.microcontroller.emulation.machine import Machine
from edgec.targets.microcontroller.emulation.measure import Settings, measure
from edgec.targets.microcontroller.emulation.model import memory_for
from edgec.targets.microcontroller.emulation.startup import Memory
from edgec.targets.microcontroller.emulation.toolchain import Build, compiler
from tests.targets.emulation.networks import residual_network

pytestmark = pytest.mark.skipif(shutil.which(QEMU) is None, reason=f"{QEMU} is not installed")

SOURCE = """\
#include <stdint.h>
int32_t numbers[1000];
void inner(int count);
__attribute__((naked, noinline)) void inner(int count __attribute__((unused))) {
    __asm__("1: subs r0, r0, #1\\nnop\\nnop\\nbne 1b\\nbx lr\\n");
}
void part(void);
__attribute__((naked, noinline)) void part(void) {
    __asm__("push {r4, lr}\\nmovs r0, #50\\nbl inner\\npop {r4, pc}\\n");
}
void last(void);
__attribute__((naked, noinline)) void last(void) { __asm__("nop\\nbx lr\\n"); }
void run(void);
__attribute__((naked)) void run(void) {
    __asm__("push {r4, lr}\\nnop\\nbl part\\nnop\\nnop\\npop {r4, lr}\\nb last\\n");
}
int32_t sum(int32_t count);
int32_t sum(int32_t count) {
    int32_t total = 0;
    for (int32_t k = 0; k < count; k++) { total += numbers[k] / (k + 1); }
    return total;
}
void undefined(void);
__attribute__((naked)) void undefined(void) { __asm__("nop\\nudf #1\\nbx lr"); }
void forever(void);
void forever(void) { for (;;) { __asm__ volatile(""); } }
"""
KEEP = ["run", "sum", "inner", "undefined", "forever", "numbers"]


def build(core: str, memory: Memory | None = None) -> Build:
    made = load_core(core)
    memory = memory or memory_for(made)
    return compiler().build({"a.c": SOURCE}, made, keep=KEEP, memory=memory)


def board(core: str = "cortex-m55", **options: Any) -> EmulatedBoard:
    made = build(core)
    return EmulatedBoard(made.image, made.elf, load_core(core), **options)


def test_counts_are_exact() -> None:
    emulated = board()

    for _ in range(2):
        run = emulated.count("run", ["part", "last"])
        inner = 50 * 4 + 1
        assert run.parts["part"].instructions == 3 + inner + 1
        assert run.parts["last"].instructions == 2
        assert run.total.instructions == 7 + 4 + inner + 2
        assert run.total.loaded_words is None
        assert run.stack_bytes == 16
    for count in (1, 2, 3, 1000, 250_000):
        assert emulated.count("inner", argument=count).total.instructions == 4 * count + 1


def test_counts_are_exact_however_often_the_timer_begins_again() -> None:
    core = load_core("cortex-m55")
    qemu = core.qemu
    assert qemu is not None
    assert qemu.timer is not None
    # The timer of 32 bits begins again after 838.9 million instructions, one of 24 after 3.3.
    core = replace(core, qemu=replace(qemu, timer=replace(qemu.timer, bits=24)))
    made = build("cortex-m55")
    emulated = EmulatedBoard(made.image, made.elf, core)

    for count in (1, 819_199, 819_200, 900_000, 1_700_000, 5_000_000):
        assert emulated.count("inner", argument=count).total.instructions == 4 * count + 1


@pytest.mark.parametrize(
    "name", ["cortex-m3", "cortex-m33", "cortex-m4", "cortex-m55", "cortex-m7"]
)
def test_both_timers_of_a_board_tell_the_same_time(name: str) -> None:
    qemu = load_core(name).qemu
    assert qemu is not None
    assert qemu.timer is not None
    assert qemu.slow_timer is not None
    fast, slow = qemu.timer, qemu.slow_timer
    assert slow.address == fast.address - 4
    start = Ticks(2**32 - 5, 2**32 - 7)
    for seconds in (0, 1, 150, 200, 1_000, 1_000_000):
        ticks, slowly = seconds * fast.hz, seconds * slow.hz
        for more in (-1, 0, 1):  # only part of the first tick and of the last is in it
            end = Ticks((start.fast + ticks) % 2**32, (start.slow + slowly + more) % 2**32)
            if slowly + more >= 0:
                assert between(start, end, fast, slow) == ticks

    with pytest.raises(InternalError, match="disagree"):
        between(start, Ticks(start.fast, (start.slow + 100 * slow.hz) % 2**32), fast, slow)


def test_another_emulator_counts_the_same() -> None:
    """Cortex-M4 is in both: what is linked for the board lies where the other has memory."""
    core = load_core("cortex-m4")
    assert core.qemu is not None
    made = build("cortex-m4", Memory(core.qemu.flash, core.qemu.ram))
    values = np.random.default_rng(0).integers(-(2**31), 2**31, 1000).astype("<i4").tobytes()
    found = []
    for emulated in (Machine(made.image, core), EmulatedBoard(made.image, made.elf, core)):
        place = emulated.image.symbol("numbers").address
        emulated.write(place, values)
        counts = emulated.count("sum", argument=1000)
        assert emulated.read(place, len(values)) == values
        found.append((counts.total.instructions, counts.stack_bytes, emulated.call("sum", 997)))

    assert found[0] == found[1]


def test_what_goes_wrong_is_told_with_its_place() -> None:
    with pytest.raises(NumericsError, match=r"undefined failed at undefined\+0x2 .*exception"):
        board().call("undefined")
    with pytest.raises(NumericsError, match=r"forever did not return within 0\.2 s .*forever"):
        board(seconds=0.2).call("forever")


def test_a_measurement_on_cortex_m55_says_how_it_was_counted() -> None:
    data, core = residual_network(), load_core("cortex-m55")
    program = parse_program(data, "net")
    samples = random_inputs([program.tensors[k] for k in program.inputs], 2)

    first, again = (measure(program, data, core, samples=samples) for _ in range(2))

    assert first.to_dict() == again.to_dict()
    assert first.tier == "mve"
    assert "mve" in {layer.tier for layer in first.layers}
    assert first.emulator == counted_by(core)
    assert "(mps3-an547), by a timer of the board" in first.emulator
    assert first.loaded_words is None
    assert sum(each.instructions for each in first.layers) + first.outside == first.instructions


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="GCC is not installed")
def test_assemblers_agree() -> None:
    """Assemblers have had faults in instructions of this extension: what they make is run."""
    data, core = residual_network(), load_core("cortex-m55")
    program = parse_program(data, "net")
    samples = random_inputs([program.tensors[k] for k in program.inputs], 3)
    settings = Settings(compiler="gcc")

    found = measure(program, data, core, samples=samples, settings=settings)

    assert found.compiler.startswith("GCC")
    assert {layer.tier for layer in found.layers if layer.macs} == {"mve"}
    assert found.verification is not None
    assert found.verification.exact


def test_a_board_that_qemu_does_not_have_is_told() -> None:
    made, core = build("cortex-m55"), load_core("cortex-m55")
    assert core.qemu is not None
    other = replace(core, qemu=replace(core.qemu, name="no-such-board"))

    with pytest.raises(OptionError, match="does not start") as raised:
        EmulatedBoard(made.image, made.elf, other)
    assert "machine type" in str(raised.value.diagnostics)


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)

    with pytest.raises(OptionError, match="qemu-system-arm is not installed"):
        require_qemu(load_core("cortex-m55"))
    with pytest.raises(OptionError, match="no board with a cortex-m0"):
        require_qemu(load_core("cortex-m0"))
