"""Whole models with the DSP kernels: exact, and what they may take at most."""

from __future__ import annotations

import pytest

from edgec.program.operators import Add, Conv, DepthwiseConv, FullyConnected
from edgec.program.passes import LOSSLESS, run_passes
from edgec.program.reading import parse_program, read_program
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.measure import measure
from tests.program.files import FILES, MODELS
from tests.targets.microcontroller.operator_files import FAMILIES, feeds

pytest.importorskip("ziglang", reason="there is no compiler for microcontrollers")
pytest.importorskip("unicorn", reason="there is no emulator")
pytest.importorskip("tflite_micro", reason="the oracle is not installed")

HOT = {op.code for op in (Add, Conv, DepthwiseConv, FullyConnected)}

# Instructions, and bytes of RAM: what is there now, and a hundredth more for other compilers.
MOST = {
    "ad01_int8": (272_000, 2_100),
    "hello_world_int8": (800, 200),
    "kws_ds_cnn_int8": (2_730_000, 9_600),
    "micro_speech_int8": (350_000, 12_500),
    "person_detect_int8": (7_510_000, 39_000),
    "resnet8_cifar10_int8": (10_860_000, 36_600),
    "streaming_wakeword_int8": (870_000, 4_500),
    "vww_96_int8": (4_500_000, 39_000),
}

KNOWN = [path for path in FILES if path.stem in MOST]


@pytest.mark.skipif(not KNOWN, reason=f"no .tflite in {MODELS}; set EDGEC_DATA")
@pytest.mark.parametrize("stem", MOST)
def test_models_are_exact_and_small(stem: str) -> None:
    path = next((p for p in KNOWN if p.stem == stem), None)
    if path is None:
        pytest.skip(f"{stem} is not there")
    program = run_passes(read_program(path), LOSSLESS).program
    found = measure(program, path.read_bytes(), load_core("cortex-m4"))
    instructions, ram = MOST[stem]

    assert found.verification is not None
    assert found.verification.exact
    assert {layer.tier for layer in found.layers if layer.operator in HOT} == {"dsp"}
    assert found.instructions <= instructions
    assert found.ram.total <= ram
    assert found.flash.beyond_weights <= 24_000


@pytest.mark.parametrize("which", range(len(FAMILIES["depthwise"])))
def test_depthwise_convolutions_equal_the_oracle(which: int) -> None:
    """Few of them have their channels in fours, and some have several filters for each."""
    data = FAMILIES["depthwise"][which]
    program = parse_program(data, "layer")
    core = load_core("cortex-m4")
    samples = [feeds(program, seed) for seed in range(3)]
    found = measure(program, data, core, samples=samples)

    assert found.verification is not None
    assert found.verification.exact
    layer = next(program.layers())
    several = layer.input(1).shape[3] > layer.input(0).shape[3]
    assert not several or {part.tier for part in found.layers} == {"dsp"}
