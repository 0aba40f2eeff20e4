"""Channels that never change are gone, and every output is what it was."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgec.ir import Array, QuantParams
from edgec.program import Program
from edgec.program import operators as ops
from edgec.program.bounds import bounds_of
from edgec.program.checking import faults_of
from edgec.program.counting import program_macs, program_weight_bytes, weight_bytes
from edgec.program.passes import (
    FoldReshapes,
    Outcome,
    RemoveConstantChannels,
    RemoveDeadCode,
    run_passes,
)
from edgec.program.reading import parse_program, read_program
from edgec.program.writing import write_program
from edgec.targets.microcontroller.emulation.oracle import OracleRun, oracle_runs
from tests.program.files import MODELS, Sketch
from tests.program.networks import networks

TINY = MODELS / "mlperf_tiny"
needs_data = pytest.mark.skipif(not TINY.exists(), reason=f"no {TINY}; set EDGEC_DATA")
needs_oracle = pytest.mark.skipif(
    find_spec("tflite_micro") is None, reason="what is compared needs edgec[mcu]"
)

LOW, HIGH = -(1 << 24), 1 << 24
STEPS = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


def feeds(program: Program, count: int = 3) -> list[list[Array]]:
    """Random inputs, and those that are extreme everywhere."""
    rng = np.random.default_rng(0)
    (k,) = program.inputs
    shape = program.tensors[k].shape
    found = [rng.integers(-128, 128, shape, dtype=np.int8) for _ in range(count)]
    found += [np.full(shape, v, np.int8) for v in (-128, 127)]
    found.append(rng.choice(np.array([-128, 127], np.int8), shape))
    return [[x] for x in found]


def equal_outputs(
    data: bytes, program: Program, samples: Sequence[list[Array]]
) -> list[OracleRun]:
    """Compare a file with a program made of it; return what the file computes."""
    before = oracle_runs(data, samples, layers=True)
    after = oracle_runs(write_program(program), samples)
    for a, b in zip(before, after, strict=True):
        for u, v in zip(a.outputs, b.outputs, strict=True):
            np.testing.assert_array_equal(u, v)
    return before


@needs_oracle
@settings(max_examples=6, phases=[Phase.generate])  # seeds do not shrink
@given(networks(), st.sampled_from((1, 4)))
def test_outputs_stay_what_they_are(data: bytes, multiple: int) -> None:
    program = parse_program(data, "net")

    outcome = run_passes(
        program, [FoldReshapes(), RemoveConstantChannels(multiple), RemoveDeadCode()]
    )

    assert faults_of(outcome.program) == ([], True)
    runs = equal_outputs(data, outcome.program, feeds(program))
    for k, bounds in bounds_of(program).items():
        for run in runs:
            if k in run.tensors:
                assert (bounds.low <= run.tensors[k]).all()
                assert (run.tensors[k] <= bounds.high).all()


# ---- real models


def pruned(name: str, multiple: int) -> tuple[Program, Outcome]:
    program = read_program(TINY / f"{name}.tflite")
    return program, run_passes(program, [RemoveConstantChannels(multiple)])


@needs_data
def test_person_detection_loses_half_of_its_work() -> None:
    program, outcome = pruned("vww_96_int8", 4)

    assert program_macs(program) == 7_489_664
    assert program_macs(outcome.program) == 3_766_476
    convs = [
        sum(weight_bytes(x) for x in p.layers() if not isinstance(x.op, ops.FullyConnected))
        for p in (program, outcome.program)
    ]
    assert convs == [207_600, 30_292]
    for layer in outcome.program.layers():
        if isinstance(layer.op, (ops.Conv, ops.DepthwiseConv)):
            assert layer.output.shape[3] % 4 == 0
    macs = [sum(c.macs[i] for c in outcome.changes) for i in (0, 1)]
    assert macs[0] - macs[1] == 7_489_664 - 3_766_476
    assert "computes 24 of 256 channels" in outcome.changes[-2].done


@needs_data
@needs_oracle
def test_person_detection_computes_what_it_did() -> None:
    program, outcome = pruned("vww_96_int8", 1)

    assert program_macs(outcome.program) == 3_727_313
    path = TINY / "vww_96_int8.tflite"
    equal_outputs(path.read_bytes(), outcome.program, feeds(program, 10))


@needs_data
@pytest.mark.parametrize("name", ["kws_ds_cnn_int8", "resnet8_cifar10_int8", "ad01_int8"])
def test_nothing_goes_where_all_channels_work(name: str) -> None:
    program, outcome = pruned(name, 1)

    assert outcome.program is program
    assert not outcome.changes


# ---- single cases


def constant_conv(
    s: Sketch, x: int, y: tuple[int, ...], bias: Sequence[int], size: int = 1, **options: int
) -> int:
    """A convolution whose biases push some channels to one number."""
    count, depth = y[-1], s.model.tensors[x].shape[-1]
    out = s.value(*y)
    b = s.constant(np.array(bias, np.int32), QuantParams((0.005,), (0,)))
    w = s.constant(
        s.rng.integers(-127, 128, (count, size, size, depth)).astype(np.int8),
        QuantParams((0.01,), (0,)),
    )
    s.op("CONV_2D", [x, w, b], [out], "Conv2D", {**STEPS, **options})
    return out


def shapes(program: Program) -> list[tuple[int, ...]]:
    return [layer.output.shape for layer in program.layers()]


@needs_oracle
@pytest.mark.parametrize(("size", "pad", "kept"), [(1, 0, 2), (3, 1, 2), (3, 0, 4)])
def test_biases_take_what_is_constant_if_no_border_is_padded(
    size: int, pad: int, kept: int
) -> None:
    s = Sketch()
    y = constant_conv(s, s.input(1, 5, 5, 3), (1, 5, 5, 4), [0, LOW, HIGH, 0])
    edge = 5 if not pad else 3
    z = constant_conv(s, y, (1, edge, edge, 2), [5, 6], size, padding=pad)
    data = s.data(z)
    program = parse_program(data, "net")

    outcome = RemoveConstantChannels().run(program)

    assert shapes(outcome.program)[0] == (1, 5, 5, kept)
    equal_outputs(data, outcome.program, feeds(program))


def test_channels_that_stand_for_zero_go_before_padding() -> None:
    s = Sketch()
    y = constant_conv(s, s.input(1, 5, 5, 3), (1, 5, 5, 3), [0, LOW, LOW],
                      fusedActivationFunction=1)  # fmt: skip
    z = constant_conv(s, y, (1, 5, 5, 2), [5, 6], 3)

    outcome = RemoveConstantChannels().run(parse_program(s.data(z), "net"))

    assert shapes(outcome.program) == [(1, 5, 5, 1), (1, 5, 5, 2)]


@pytest.mark.parametrize(("multiple", "kept"), [(1, 1), (4, 4), (5, 5), (16, 6)])
def test_as_many_channels_stay_as_are_asked_for(multiple: int, kept: int) -> None:
    s = Sketch()
    y = constant_conv(s, s.input(1, 5, 5, 3), (1, 5, 5, 6), [LOW] * 6)
    z = constant_conv(s, y, (1, 5, 5, 2), [5, 6])

    outcome = RemoveConstantChannels(multiple).run(parse_program(s.data(z), "net"))

    assert shapes(outcome.program) == [(1, 5, 5, kept), (1, 5, 5, 2)]


def test_channels_that_nothing_looks_at_go() -> None:
    s = Sketch()
    y = constant_conv(s, s.input(1, 5, 5, 3), (1, 5, 5, 3), [0, 0, 0])
    z = constant_conv(s, y, (1, 3, 3, 2), [5, 6], 3, padding=1)
    w = s.model.tensors[s.model.operators[1].inputs[1]]
    assert w.data is not None
    w.data[..., 1] = 0

    outcome = RemoveConstantChannels().run(parse_program(s.data(z), "net"))

    assert shapes(outcome.program)[0] == (1, 5, 5, 2)
    assert [c.done for c in outcome.changes] == [
        "computes 2 of 3 channels",
        "reads 2 of 3, and has the others in its bias",
    ]


def test_outputs_keep_their_channels() -> None:
    s = Sketch()
    y = constant_conv(s, s.input(1, 5, 5, 3), (1, 5, 5, 3), [LOW, LOW, 0])

    program = parse_program(s.data(y), "net")

    assert RemoveConstantChannels().run(program).program is program


def test_biases_without_room_take_nothing() -> None:
    s = Sketch()
    y = constant_conv(s, s.input(1, 5, 5, 3), (1, 5, 5, 2), [HIGH, 0])
    z = constant_conv(s, y, (1, 5, 5, 1), [2**31 - 1])
    w = s.model.tensors[s.model.operators[1].inputs[1]]
    assert w.data is not None
    w.data[:] = 127

    program = parse_program(s.data(z), "net")

    assert RemoveConstantChannels().run(program).program is program


@needs_oracle
def test_a_layer_without_a_bias_gets_one() -> None:
    s = Sketch()
    y = constant_conv(s, s.input(1, 5, 5, 3), (1, 5, 5, 3), [HIGH, 0, 0])
    z = constant_conv(s, y, (1, 5, 5, 2), [0, 0])
    last = s.model.operators[1]
    s.model.operators[1] = type(last)(
        last.code, last.inputs[:2], last.outputs, last.options, last.version, last.layer
    )
    data = s.data(z)
    program = parse_program(data, "net")

    outcome = RemoveConstantChannels().run(program)

    assert len(outcome.program.steps[1].inputs) == 3
    assert program_weight_bytes(outcome.program) == 2 * 3 + 2 * 2
    equal_outputs(data, outcome.program, feeds(program))


def test_endless_rows_are_left_alone() -> None:
    s = Sketch()
    x, y, z = s.input(1, 1 << 24), s.value(1, 1 << 24), s.value(1, 1 << 24)
    s.op("RELU", [x], [y])
    s.op("RELU", [y], [z])
    program = parse_program(s.data(z), "net")

    assert RemoveConstantChannels().run(program).program is program


def test_multiples_are_positive() -> None:
    with pytest.raises(ValueError, match="multiple of 0"):
        RemoveConstantChannels(0)


@needs_oracle
def test_joined_channels_go_where_they_come_from() -> None:
    s = Sketch()
    x = s.input(1, 5, 5, 3)
    a = constant_conv(s, x, (1, 5, 5, 3), [0, LOW, 0])
    b = constant_conv(s, x, (1, 5, 5, 4), [HIGH, 0, 0, LOW])
    y = s.value(1, 5, 5, 7)
    s.op("CONCATENATION", [a, b], [y], "Concatenation", {"axis": 3})
    z = constant_conv(s, y, (1, 5, 5, 2), [5, 6])
    data = s.data(z)
    program = parse_program(data, "net")

    outcome = RemoveConstantChannels().run(program)

    assert [shape[3] for shape in shapes(outcome.program)] == [2, 2, 4, 2]
    equal_outputs(data, outcome.program, feeds(program))


@needs_oracle
def test_stored_operands_of_additions_are_cut() -> None:
    s = Sketch()
    a = constant_conv(s, s.input(1, 5, 5, 3), (1, 5, 5, 4), [0, LOW, 0, HIGH])
    b = s.constant(np.array([1, 2, 3, 4], np.int8), QuantParams((0.5,), (0,)))
    y = s.value(1, 5, 5, 4)
    s.op("ADD", [a, b], [y], "Add")
    z = constant_conv(s, y, (1, 5, 5, 2), [5, 6])
    data = s.data(z)
    program = parse_program(data, "net")

    outcome = RemoveConstantChannels().run(program)

    assert [shape[3] for shape in shapes(outcome.program)] == [2, 2, 2]
    cut = outcome.program.layer(outcome.program.steps[1]).input(1)
    assert cut.data is not None
    assert cut.data.tolist() == [1, 3]
    equal_outputs(data, outcome.program, feeds(program))


@needs_oracle
def test_what_a_constant_depthwise_channel_reads_is_not_computed() -> None:
    s = Sketch()
    a = constant_conv(s, s.input(1, 5, 5, 3), (1, 5, 5, 3), [0, 0, 0])
    y = s.value(1, 5, 5, 6)
    bias = s.constant(
        np.array([0, 0, LOW, LOW, HIGH, 0], np.int32), QuantParams((0.005,), (0,))
    )
    s.op("DEPTHWISE_CONV_2D", [a, s.weights(1, 3, 3, 6), bias], [y], "DepthwiseConv2D",
         {**STEPS, "depthMultiplier": 2})  # fmt: skip
    z = constant_conv(s, y, (1, 5, 5, 2), [5, 6])
    data = s.data(z)
    program = parse_program(data, "net")

    outcome = RemoveConstantChannels().run(program)

    # Two results come from each channel: only if both are constant is it of no use.
    assert [shape[3] for shape in shapes(outcome.program)] == [2, 4, 2]
    equal_outputs(data, outcome.program, feeds(program))


@needs_oracle
def test_flattened_channels_go_at_every_place() -> None:
    s = Sketch()
    a = constant_conv(s, s.input(1, 2, 2, 3), (1, 2, 2, 3), [0, HIGH, LOW])
    y, z = s.value(1, 12), s.value(1, 3)
    s.op("RESHAPE", [a, s.ints(1, 12)], [y], "Reshape")
    s.op("FULLY_CONNECTED", [y, s.weights(3, 12), s.bias(3)], [z], "FullyConnected")
    data = s.data(z)
    program = parse_program(data, "net")

    outcome = RemoveConstantChannels().run(program)

    assert shapes(outcome.program) == [(1, 2, 2, 1), (1, 4), (1, 3)]
    equal_outputs(data, outcome.program, feeds(program))
