"""TFLite Micro in a process of its own: outputs, what each layer wrote, and its crashes."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.errors import NumericsError
from edgec.ir import DType, QuantParams
from edgec.program.reading import parse_program
from edgec.targets.microcontroller.emulation.oracle import oracle, oracle_runs
from tests.program.files import Sketch

pytest.importorskip("tflite_micro", reason="what is compared needs edgec[mcu]")


def chain() -> tuple[bytes, int, int]:
    """Two fully connected layers; the numbers of their results."""
    s = Sketch()
    x, y, z = s.input(1, 6), s.value(1, 4), s.value(1, 3)
    for a, b in ((x, y), (y, z)):
        depth, count = s.model.tensors[a].shape[1], s.model.tensors[b].shape[1]
        s.op(
            "FULLY_CONNECTED",
            [a, s.weights(count, depth), s.bias(count)],
            [b],
            "FullyConnected",
        )
    return s.data(z), y, z


def test_every_layer_is_told() -> None:
    data, y, z = chain()
    samples = [[np.full((1, 6), k, np.int8)] for k in (-100, 0, 100)]

    runs = oracle_runs(data, samples, layers=True)

    assert [sorted(run.tensors) for run in runs] == [[y, z]] * 3
    program = parse_program(data, "net")
    for sample, run in zip(samples, runs, strict=True):
        assert run.tensors[y].shape == program.tensors[y].shape
        np.testing.assert_array_equal(run.outputs[0], run.tensors[z])
        np.testing.assert_array_equal(oracle(data, sample)[0], run.outputs[0])
    assert (runs[0].tensors[y] != runs[2].tensors[y]).any()


def memory() -> bytes:
    """A layer whose state is what it was fed before."""
    s = Sketch()
    x, y = s.input(1, 2), s.value(1, 2)
    state = s.value(1, 6, dtype=DType.INT16, grid=QuantParams((0.5,), (0,)))
    s.variables.add(state)
    times = s.constant(np.full((2, 3), 1000, np.int16), QuantParams((0.001,), (0,)))
    features = s.constant(np.eye(2, dtype=np.int8), QuantParams((1.0,), (0,)))
    bias = s.constant(np.array([40, -30], np.int32), QuantParams((0.0005,), (0,)))
    s.op("SVDF", [x, features, times, bias, state], [y], "SVDF", {"rank": 1})
    return s.data(y)


def test_states_are_kept_only_where_it_is_asked_for() -> None:
    sample = [np.array([[50, -20]], np.int8)]

    fresh = oracle_runs(memory(), [sample] * 3)
    kept = oracle_runs(memory(), [sample] * 3, keep_state=True)

    assert len({run.outputs[0].tobytes() for run in fresh}) == 1
    assert len({run.outputs[0].tobytes() for run in kept}) == 3


def test_what_it_refuses_is_an_error_with_its_reason() -> None:
    s = Sketch()
    x, y = s.input(1, 4), s.value(1, 4)
    s.op("SOFTMAX", [x], [y], "Softmax", {"beta": 1.0})  # its result is on another grid

    with pytest.raises(NumericsError, match="TFLite Micro ended") as caught:
        oracle(s.data(y), [np.zeros((1, 4), np.int8)])
    assert "RuntimeError" in str(caught.value.diagnostics[-1])


def test_crashes_are_errors() -> None:
    data, *_ = chain()
    with pytest.raises(NumericsError, match=r"crashed|exit code"):
        oracle(data[:200], [np.zeros((1, 6), np.int8)])


def test_endless_runs_are_errors() -> None:
    data, *_ = chain()
    with pytest.raises(NumericsError, match="more than"):
        oracle_runs(data, [[np.zeros((1, 6), np.int8)]], seconds=0.01)
