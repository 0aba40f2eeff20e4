"""What no output needs is left out, and reshapes that need not run."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.ir import QuantParams
from edgec.program import Program
from edgec.program import operators as ops
from edgec.program.checking import faults_of
from edgec.program.passes import FoldReshapes, RemoveDeadCode
from edgec.program.reading import parse_program
from edgec.program.writing import write_program
from edgec.targets.microcontroller.emulation.oracle import oracle
from tests.program.files import HALF, Sketch


def codes(program: Program) -> list[str]:
    return [step.op.code for step in program.steps]


def computes_alike(data: bytes, program: Program) -> None:
    pytest.importorskip("tflite_micro", reason="what is compared needs edgec[mcu]")
    assert faults_of(program) == ([], True)
    rng = np.random.default_rng(0)
    shapes = [program.tensors[k].shape for k in program.inputs]
    feed = [rng.integers(-128, 128, shape, dtype=np.int8) for shape in shapes]
    for a, b in zip(oracle(data, feed), oracle(write_program(program), feed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_that_nothing_reads_are_left_out() -> None:
    s = Sketch()
    x, y, z, u = s.input(1, 4), s.value(1, 4), s.value(1, 4), s.value(1, 3)
    s.op("RELU", [x], [y])
    s.op("RELU6", [x], [z])
    s.op("FULLY_CONNECTED", [z, s.weights(3, 4), s.bias(3)], [u], "FullyConnected")
    data = s.data(y)

    outcome = RemoveDeadCode().run(parse_program(data, "net"))

    assert codes(outcome.program) == ["RELU"]
    assert len(outcome.program.tensors) == 2
    assert [c.layer for c in outcome.changes] == ["t2", "t3"]
    assert outcome.changes[1].macs == (12, 0)
    computes_alike(data, outcome.program)


def test_programs_without_dead_code_stay_the_same_object() -> None:
    s = Sketch()
    x, y = s.input(1, 4), s.value(1, 4)
    s.op("RELU", [x], [y])
    program = parse_program(s.data(y), "net")

    assert RemoveDeadCode().run(program).program is program
    assert FoldReshapes().run(program).program is program


def test_reshapes_of_reshapes_are_one() -> None:
    s = Sketch()
    x, y, z, u = s.input(1, 4, 6), s.value(1, 24), s.value(1, 6, 4), s.value(1, 6, 4)
    s.op("RESHAPE", [x, s.ints(1, 24)], [y])
    s.op("RESHAPE", [y, s.ints(1, 6, 4)], [z])
    s.op("RELU", [z], [u])
    data = s.data(u)

    outcome = FoldReshapes().run(parse_program(data, "net"))

    assert codes(outcome.program) == ["RESHAPE", "RELU"]
    computes_alike(data, outcome.program)


def test_reshapes_to_the_same_shape_are_left_out() -> None:
    s = Sketch()
    x, y, z, u = s.input(1, 4, 6), s.value(1, 4, 6), s.value(1, 4, 6), s.value(1, 24)
    s.op("RESHAPE", [x, s.ints(1, 4, 6)], [y])
    s.op("RELU", [y], [z])
    s.op("RESHAPE", [z, s.ints(1, 24)], [u])
    data = s.data(u)

    outcome = FoldReshapes().run(parse_program(data, "net"))

    assert codes(outcome.program) == ["RELU", "RESHAPE"]
    assert outcome.program.steps[0].inputs == (x,)
    computes_alike(data, outcome.program)


def test_reshapes_to_another_grid_stay() -> None:
    s = Sketch()
    other = QuantParams((0.25,), (7,))
    x, y, z = s.input(1, 6), s.value(1, 6, grid=other), s.value(1, 6)
    s.op("RESHAPE", [x, s.ints(1, 6)], [y])
    s.op("QUANTIZE", [y], [z])
    program = parse_program(s.data(z), "net")

    assert FoldReshapes().run(program).program is program


def test_reshapes_of_constants_are_constants() -> None:
    s = Sketch()
    x, y, z = s.input(1, 2, 3), s.value(1, 2, 3), s.value(1, 2, 3)
    c = s.constant(s.rng.integers(-99, 99, 6).astype(np.int8), HALF)
    s.op("RESHAPE", [c, s.ints(1, 2, 3)], [y])
    s.op("ADD", [x, y], [z], "Add")
    data = s.data(z)

    outcome = FoldReshapes().run(parse_program(data, "net"))

    assert codes(outcome.program) == ["ADD"]
    assert outcome.program.tensors[y].data is not None
    computes_alike(data, outcome.program)


def test_fully_connected_layers_read_through_reshapes() -> None:
    s = Sketch()
    x, y, z = s.input(1, 2, 2, 3), s.value(1, 12), s.value(1, 5)
    s.op("RESHAPE", [x, s.ints(1, 12)], [y])
    s.op("FULLY_CONNECTED", [y, s.weights(5, 12), s.bias(5)], [z], "FullyConnected")
    data = s.data(z)

    outcome = FoldReshapes().run(parse_program(data, "net"))

    assert codes(outcome.program) == ["FULLY_CONNECTED"]
    computes_alike(data, outcome.program)


def test_transposes_that_move_nothing_are_reshapes() -> None:
    s = Sketch()
    x, y, z = s.input(1, 4, 1, 6), s.value(1, 1, 4, 6), s.value(1, 24)
    s.op("TRANSPOSE", [x, s.ints(2, 0, 1, 3)], [y])
    s.op("RESHAPE", [y, s.ints(1, 24)], [z])
    data = s.data(z)

    outcome = FoldReshapes().run(parse_program(data, "net"))

    assert [step.op for step in outcome.program.steps] == [ops.Reshape()]
    computes_alike(data, outcome.program)
