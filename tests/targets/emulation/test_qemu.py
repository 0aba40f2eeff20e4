"""The self-test on boards that QEMU emulates, where it is installed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("ziglang", reason="of the extra mcu")
pytest.importorskip("elftools", reason="of the extra mcu")
pytest.importorskip("tflite_micro", reason="of the extra mcu")

from edgec.program.reading import parse_program
from edgec.targets.microcontroller.cores import Tier, load_core
from edgec.targets.microcontroller.emulation.inputs import random_inputs
from edgec.targets.microcontroller.emulation.oracle import oracle_runs
from edgec.targets.microcontroller.emulation.qemu import run_selftest_in_qemu
from edgec.targets.microcontroller.emulation.toolchain import compiler
from edgec.targets.microcontroller.generate import generate
from edgec.targets.microcontroller.selftest import Golden
from tests.targets.emulation.networks import residual_network

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed"
)


@needs_qemu
@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("cortex-m3", "portable"),
        ("cortex-m4", "dsp"),
        ("cortex-m7", "dsp"),
        ("cortex-m33", "dsp"),
        ("cortex-m55", "portable"),
        ("cortex-m55", "dsp"),
        ("cortex-m55", "mve"),
    ],
)
def test_boards_compute_what_the_oracle_says(name: str, tier: Tier) -> None:
    data, core = residual_network(), load_core(name)
    generated = generate(parse_program(data, "net"), core, tier=tier)
    (sample,) = random_inputs([place.tensor for place in generated.inputs], 1)
    (run,) = oracle_runs(data, [sample])
    right = Golden(tuple(sample), run.outputs)
    wrong = Golden(tuple(sample), tuple(np.roll(y, 1) for y in run.outputs))

    assert run_selftest_in_qemu(generated, right, core, compiler()) == 0
    assert run_selftest_in_qemu(generated, wrong, core, compiler()) == 1
