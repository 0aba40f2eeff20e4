"""Layers that change nothing: no code, no instructions, and the outputs of TFLite Micro."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("ziglang", reason="of the extra mcu")
pytest.importorskip("unicorn", reason="of the extra mcu")
pytest.importorskip("elftools", reason="of the extra mcu")
pytest.importorskip("tflite_micro", reason="of the extra mcu")

from edgec.ir import Array, DType, QuantParams
from edgec.program.reading import parse_program
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.measure import measure
from edgec.targets.microcontroller.emulation.model import EmulatedModel, build_model
from edgec.targets.microcontroller.emulation.toolchain import compiler
from edgec.targets.microcontroller.generate import generate
from tests.program.files import Sketch

LOWEST = QuantParams((0.05,), (-128,))
M4 = load_core("cortex-m4")


def single(code: str, *more: Array, table: str = "", **options: int) -> bytes:
    """A layer whose result is its operand."""
    s = Sketch()
    x = s.value(1, 8, grid=LOWEST, name="x")
    s.model.inputs.append(("x", x))
    y = s.value(1, 8, grid=LOWEST, name="y")
    s.op(code, [x, *(s.constant(array) for array in more)], [y], table, options)
    return s.data(y)


@pytest.mark.parametrize(
    "data",
    [
        single("RELU"),
        single("CONCATENATION", table="Concatenation", axis=1),
        single("PAD", np.zeros((2, 2), np.int32), table="Pad"),
    ],
    ids=["relu", "concatenation", "pad"],
)
def test_layers_that_change_nothing_take_nothing(data: bytes) -> None:
    found = measure(parse_program(data, "net"), data, M4)

    assert found.verification
    assert found.verification.exact
    assert [layer.instructions for layer in found.layers] == [0]
    assert found.ram.arena == 8


def test_constants_that_nothing_changes_are_copied() -> None:
    s = Sketch()
    constant = s.constant(np.arange(8, dtype=np.int8).reshape(1, 8), LOWEST)
    x, y = s.input(1, 8, dtype=DType.INT8), s.value(1, 8, grid=LOWEST)
    z = s.value(1, 8)
    s.op("PAD", [constant, s.constant(np.zeros((2, 2), np.int32))], [y], "Pad", {})
    s.op("CONCATENATION", [x], [z], "Concatenation", {"axis": 1})
    data = s.data(y, z)

    found = measure(parse_program(data, "net"), data, M4)

    assert found.verification
    assert found.verification.exact


def test_a_layer_that_the_compiler_left_out_counts_as_nothing() -> None:
    data = single("LEAKY_RELU", table="LeakyRelu", alpha=1)
    generated = generate(parse_program(data, "net"), M4)
    build = build_model(generated, M4, compiler())
    gone = replace(generated.layers[0], symbol="net_layer_01_left_out")
    model = EmulatedModel(replace(generated, layers=(*generated.layers, gone)), build, M4)
    inputs = [np.zeros((1, 8), np.int8)]

    _, counts = model.count(inputs)

    assert list(counts.parts) == [generated.layers[0].symbol]
    assert len(model.run_poisoned(inputs)) == 1
