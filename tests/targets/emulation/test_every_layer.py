"""What every layer of real models writes on the emulated core, beside TFLite Micro."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgec.program.reading import read_program
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.emulated_board import QEMU
from edgec.targets.microcontroller.emulation.inputs import random_inputs
from edgec.targets.microcontroller.emulation.model import EmulatedModel, build_model
from edgec.targets.microcontroller.emulation.oracle import oracle_runs
from edgec.targets.microcontroller.emulation.toolchain import compiler
from edgec.targets.microcontroller.generate import generate

for package in ("ziglang", "unicorn", "tflite_micro"):
    pytest.importorskip(package, reason="needs edgec[mcu]")

MODELS = Path(os.environ.get("EDGEC_DATA", "../shared/data")) / "models"
FILES = [
    *(f"mlperf_tiny/{n}_int8" for n in ("ad01", "kws_ds_cnn", "resnet8_cifar10", "vww_96")),
    "mlperf_tiny/streaming_wakeword_int8",
    *(f"tflite_micro/{n}_int8" for n in ("hello_world", "micro_speech", "person_detect")),
]


@pytest.mark.parametrize("on", ["cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("name", FILES)
def test_every_layer_writes_what_it_should(name: str, on: str) -> None:
    path = MODELS / f"{name}.tflite"
    if not path.is_file():
        pytest.skip("needs the models of the shared data")
    program, core = read_program(path), load_core(on)
    if not core.emulator and shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    samples = random_inputs([program.tensors[k] for k in program.inputs], 3)
    generated = generate(program, core)
    model = EmulatedModel(generated, build_model(generated, core, compiler()), core)
    expected = oracle_runs(path.read_bytes(), samples, layers=True)

    for sample, run in zip(samples, expected, strict=True):
        found = model.run_layers(sample, program)
        assert len(found) == sum(bool(layer.symbol) for layer in generated.layers)
        for number, got in found.items():
            np.testing.assert_array_equal(got, run.tensors[number].reshape(got.shape))
