"""Programs written as files again: they read back as they were, and compute the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgec.ir import Array, DType, QuantParams
from edgec.program import Program, Step
from edgec.program import operators as ops
from edgec.program.reading import parse_program, read_program
from edgec.program.writing import write_program
from edgec.targets.microcontroller.emulation.oracle import oracle_runs
from tests.program.files import FILES, MODELS, Sketch

needs_data = pytest.mark.skipif(not FILES, reason=f"no .tflite in {MODELS}; set EDGEC_DATA")
BYTE = QuantParams((1 / 256,), (-128,))
TANH = QuantParams((1 / 128,), (0,))


def convs(s: Sketch) -> list[int]:
    x, y, z = s.input(1, 7, 6, 3), s.value(1, 4, 3, 4), s.value(1, 2, 1, 8)
    steps = {"strideH": 2, "strideW": 2, "dilationHFactor": 1, "dilationWFactor": 1}
    s.op("CONV_2D", [x, s.weights(4, 3, 3, 3, axis=0), s.bias(4)], [y], "Conv2D",
         {**steps, "fusedActivationFunction": 3})  # fmt: skip
    s.op("DEPTHWISE_CONV_2D", [y, s.weights(1, 3, 3, 8, axis=3), s.bias(8)], [z],
         "DepthwiseConv2D",
         {**steps, "strideH": 1, "strideW": 1, "padding": 1, "depthMultiplier": 2})  # fmt: skip
    return [z]


def pools(s: Sketch) -> list[int]:
    x, y, z = s.input(1, 7, 6, 3), s.value(1, 4, 3, 3), s.value(1, 1, 1, 3)
    two = {"strideH": 2, "strideW": 2, "filterHeight": 3, "filterWidth": 3}
    s.op("MAX_POOL_2D", [x], [y], "Pool2D", two)
    s.op("AVERAGE_POOL_2D", [y], [z], "Pool2D",
         {**two, "filterHeight": 4, "padding": 1})  # fmt: skip
    return [z]


def arithmetic(s: Sketch) -> list[int]:
    x, w = s.input(1, 2, 4), s.input(1, 1, 4, name="w")
    a, b, c, d = s.value(1, 2, 4), s.value(1, 2, 4), s.value(1, 2, 4), s.value(2, 5)
    for code, table, pair in (("ADD", "Add", (x, w, a)), ("MUL", "Mul", (a, w, b)),
                              ("SUB", "Sub", (b, a, c))):  # fmt: skip
        s.op(code, pair[:2], pair[2:], table, {"fusedActivationFunction": 1})
    s.op("FULLY_CONNECTED", [c, s.weights(5, 4)], [d], "FullyConnected")
    return [d]


def moves(s: Sketch) -> list[int]:
    x = s.input(1, 4, 3, 2)
    a, b, c = s.value(1, 5, 3, 2), s.value(1, 3, 5, 2), s.value(1, 3, 2, 2)
    d, e, f = s.value(1, 2, 2, 2), s.value(1, 1, 2, 2), s.value(1, 3, 4, 2)
    pads = s.constant(np.array([[0, 0], [1, 0], [0, 0], [0, 0]], np.int32))
    s.op("PADV2", [x, pads, s.constant(np.array(7, np.int8), QuantParams((0.5,), (-3,)))], [a])
    s.op("TRANSPOSE", [a, s.ints(0, 2, 1, 3)], [b])
    s.op("STRIDED_SLICE", [b, s.ints(0, 0, 3, 0), s.ints(1, 3, -6, 2), s.ints(1, 1, -2, 1)],
         [c], "StridedSlice")  # fmt: skip
    s.op("SPLIT_V", [c, s.ints(2, 1), s.ints(1)], [d, e], "SplitV", {"numSplits": 2})
    s.op("CONCATENATION", [c, c], [f], "Concatenation", {"axis": 2})
    return [d, e, f]


def curves(s: Sketch) -> list[int]:
    x = s.input(1, 2, 6)
    found = []
    for code, table, grid in (
        ("LOGISTIC", "", BYTE),
        ("TANH", "", TANH),
        ("HARD_SWISH", "HardSwish", TANH),
        ("RELU6", "", TANH),
        ("SOFTMAX", "Softmax", BYTE),
        ("LEAKY_RELU", "LeakyRelu", TANH),
        ("QUANTIZE", "", TANH),
    ):
        y = s.value(1, 2, 6, grid=grid)
        options = {"SOFTMAX": {"beta": 0.5}, "LEAKY_RELU": {"alpha": 0.25}}.get(code, {})
        s.op(code, [x], [y], table, options)
        found.append(y)
    return found


def reductions(s: Sketch) -> list[int]:
    x, y = s.input(1, 3, 4, 2), s.value(1, 2)
    z, r = s.value(1, 1, 1, 2), s.value(1, 6, 4, 2)
    s.op("MEAN", [x, s.ints(1, 2)], [y], "Reducer", {"keepDims": False})
    s.op("MEAN", [x, s.ints(1, 2)], [z], "Reducer", {"keepDims": True})
    s.op("RESIZE_NEAREST_NEIGHBOR", [x, s.ints(6, 4)], [r], "ResizeNearestNeighbor",
         {"halfPixelCenters": True})  # fmt: skip
    return [y, z, r]


def samples(program: Program, count: int = 4) -> list[list[Array]]:
    """Random inputs over the whole range."""
    rng = np.random.default_rng(0)
    found: list[list[Array]] = []
    for _ in range(count):
        found.append([])
        for k in program.inputs:
            t = program.tensors[k]
            found[-1].append(
                rng.integers(*t.dtype.limits, t.shape, dtype=t.dtype.numpy, endpoint=True)
            )
    return found


def computes_alike(data: bytes, program: Program) -> None:
    """Compare every layer of a file with those of the program written."""
    pytest.importorskip("tflite_micro", reason="what is compared needs edgec[mcu]")
    feeds = samples(program)
    before = oracle_runs(data, feeds, layers=True)
    after = oracle_runs(write_program(program), feeds, layers=True)
    for a, b in zip(before, after, strict=True):
        for k in a.tensors:
            np.testing.assert_array_equal(a.tensors[k], b.tensors[k])


@pytest.mark.parametrize("write", [convs, pools, arithmetic, moves, curves, reductions])
def test_programs_read_back_as_they_were(write: Callable[[Sketch], list[int]]) -> None:
    s = Sketch()
    data = s.data(*write(s))
    program = parse_program(data, "net")

    again = parse_program(write_program(program), "net")

    assert again.steps == program.steps
    assert again.tensors[: len(program.tensors)] == program.tensors
    assert (again.inputs, again.outputs) == (program.inputs, program.outputs)
    assert write_program(program) == write_program(program)
    computes_alike(data, program)


def test_states_stay_variables() -> None:
    s = Sketch()
    x, y = s.input(1, 6), s.value(1, 4)
    state = s.value(1, 4 * 3, dtype=DType.INT16, grid=QuantParams((0.5,), (0,)))
    s.variables.add(state)
    times = s.constant(
        s.rng.integers(-99, 99, (4, 3), dtype=np.int16), QuantParams((0.5,), (0,))
    )
    s.op("SVDF", [x, s.weights(4, 6), times, -1, state], [y], "SVDF",
         {"rank": 2, "fusedActivationFunction": 1})  # fmt: skip
    s.model.tensors[y].shape = (1, 2)
    program = parse_program(s.data(y), "net")

    again = parse_program(write_program(program), "net")

    assert again.variables == (state,)
    assert again.steps == program.steps


def test_paddings_that_tflite_has_not_become_layers() -> None:
    s = Sketch()
    x, y = s.input(1, 5, 5, 3), s.value(1, 6, 5, 4)
    program = parse_program(_padded(s, x, y), "net")
    (pad, conv) = program.steps
    assert isinstance(conv.op, ops.Conv)
    fused = Program(
        "net",
        program.tensors,
        (
            Step(
                ops.Conv(pads=((2, 1), (1, 1))), (x, *conv.inputs[1:]), conv.outputs, conv.layer
            ),
        ),
        program.inputs,
        program.outputs,
    )

    again = parse_program(write_program(fused), "net")

    assert [step.op for step in again.steps] == [pad.op, conv.op]


def _padded(s: Sketch, x: int, y: int) -> bytes:
    wide = s.value(1, 8, 7, 3)
    pads = s.constant(np.array([[0, 0], [2, 1], [1, 1], [0, 0]], np.int32))
    s.op("PAD", [x, pads], [wide])
    s.op("CONV_2D", [wide, s.weights(4, 3, 3, 3), s.bias(4)], [y], "Conv2D",
         {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1,
          "padding": 1})  # fmt: skip
    return s.data(y)


@needs_data
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_real_files_read_back_as_they_were(path: Path) -> None:
    program = read_program(path)

    again = parse_program(write_program(program), program.name)

    assert again.steps == program.steps
    assert again.tensors[: len(program.tensors)] == program.tensors


@needs_data
@pytest.mark.parametrize("name", ["kws_ds_cnn_int8", "micro_speech_int8"])
def test_real_files_compute_what_they_did(name: str) -> None:
    (path,) = (path for path in FILES if path.stem == name)

    computes_alike(path.read_bytes(), read_program(path))
