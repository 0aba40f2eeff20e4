"""What no output needs is left out, and reshapes that need not run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.ir import QuantParams
from edgec.program import Program
from edgec.program import operators as ops
from edgec.program.checking import faults_of
from edgec.program.passes import FoldPads, FoldReshapes, RemoveDeadCode
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


def padded(
    pads: tuple[tuple[int, int], ...] = ((0, 0), (1, 1), (2, 1), (0, 0)),
    *,
    code: str = "CONV_2D",
    stored: int = 0,
    value: int | None = None,
) -> bytes:
    """A pad before a convolution of steps of two, with 3 x 3 windows."""
    s = Sketch()
    x = s.input(1, 8, 7, 3)
    shape = [d + a + b for d, (a, b) in zip((1, 8, 7, 3), pads, strict=True)]
    y = s.value(*shape)
    operands = [x, s.constant(np.array(pads, np.int32))]
    if value is not None:
        operands.append(s.constant(np.array([value], np.int8), HALF))
    s.op(
        "PAD" if value is None else "PADV2", operands, [y], "Pad" if value is None else "PadV2"
    )
    lengths = [-(-n // 2) if stored == 0 else (n - 3) // 2 + 1 for n in shape[1:3]]
    depth = shape[3]
    z = s.value(1, *lengths, depth if code.startswith("DEPTH") else 4)
    steps = {"strideH": 2, "strideW": 2, "dilationHFactor": 1, "dilationWFactor": 1}
    steps["padding"] = stored
    if code == "CONV_2D":
        s.op(code, [y, s.weights(4, 3, 3, depth, axis=0), s.bias(4)], [z], "Conv2D", steps)
    else:
        weights = s.weights(1, 3, 3, depth, axis=3)
        s.op(code, [y, weights, s.bias(depth)], [z], "DepthwiseConv2D",
             {**steps, "depthMultiplier": 1})  # fmt: skip
    return s.data(z)


@pytest.mark.parametrize("code", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_convolutions_pad_themselves(code: str) -> None:
    data = padded(code=code, stored=1)

    outcome = FoldPads().run(parse_program(data, "net"))

    assert codes(outcome.program) == [code]
    (step,) = outcome.program.steps
    assert isinstance(step.op, (ops.Conv, ops.DepthwiseConv))
    assert step.op.pads == ((1, 1), (2, 1))
    assert [c.done for c in outcome.changes] == ["pads what it reads itself"]
    computes_alike(data, outcome.program)


def test_padding_adds_up() -> None:
    data = padded(((0, 0), (0, 0), (1, 0), (0, 0)))  # 8 x 8, and 1 behind of its own

    outcome = FoldPads().run(parse_program(data, "net"))

    (step,) = outcome.program.steps
    assert isinstance(step.op, ops.Conv)
    assert step.op.pads == ((0, 1), (1, 1))
    computes_alike(data, outcome.program)


@pytest.mark.parametrize(
    "given",
    [
        {"pads": ((0, 0), (3, 0), (0, 0), (0, 0))},  # wider than the window
        {"pads": ((0, 0), (1, 1), (1, 1), (0, 1))},  # channels that are read
        {"value": 5},  # not what stands for zero
    ],
)
def test_padding_of_another_kind_stays(given: dict[str, Any]) -> None:
    program = parse_program(padded(stored=1, **given), "net")

    assert FoldPads().run(program).program is program


def pad_and_convolve(s: Sketch, x: int, y: int, z: int) -> None:
    """Add a border of one pixel to x, which is y, and a convolution of that, which is z."""
    border = s.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    s.op("PAD", [x, border], [y], "Pad")
    ones = ("strideH", "strideW", "dilationHFactor", "dilationWFactor", "padding")
    operands = [y, s.weights(2, 3, 3, 3), s.bias(2)]
    s.op("CONV_2D", operands, [z], "Conv2D", dict.fromkeys(ones, 1))


def test_padding_onto_another_grid_stays() -> None:
    s = Sketch()
    x, y, z = s.input(1, 4, 4, 3), s.value(1, 6, 6, 3), s.value(1, 4, 4, 2)
    s.model.tensors[x].quant = QuantParams((0.25,), (-3,))
    pad_and_convolve(s, x, y, z)
    program = parse_program(s.data(z), "net")

    assert FoldPads().run(program).program is program


def test_what_others_read_is_still_padded() -> None:
    s = Sketch()
    x, y, z, u = s.input(1, 4, 4, 3), s.value(1, 6, 6, 3), s.value(1, 4, 4, 2), s.value(1, 3)
    pad_and_convolve(s, x, y, z)
    s.op("MEAN", [y, s.ints(1, 2)], [u], "Reducer", {"keepDims": False})
    data = s.data(z, u)

    outcome = FoldPads().run(parse_program(data, "net"))

    assert codes(outcome.program) == ["PAD", "CONV_2D", "MEAN"]
    assert outcome.program.steps[1].inputs[0] == x
    computes_alike(data, outcome.program)
