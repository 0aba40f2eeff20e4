from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

import edgec.speed
from edgec.cli.problems import problems
from edgec.compiler import CompileOptions, compile_model
from edgec.demo import CALIBRATION, MODEL
from edgec.errors import GateError, InconclusiveError, OptionError
from edgec.ir import Array
from edgec.speed import Speed, check_speed, compared, converting
from edgec.targets import Artifact, Runner
from edgec.targets.onnxruntime.devices import DEVICES, this_device


class Clock:
    """Time that passes only when a runner runs."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Timed(Runner):
    """Takes as long as it is told, in milliseconds, again and again."""

    def __init__(self, clock: Clock, *latencies: float, size: int = 100) -> None:
        super().__init__(Artifact(bytes(size), ".bin", (), (), {}))
        self.clock, self.latencies, self.runs = clock, cycle(latencies), 0

    @override
    def raw(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.clock.now += next(self.latencies) / 1e3
        self.runs += 1
        return {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(edgec.speed, "time", made)
    return made


def test_a_ratio_of_runs_in_turn(clock: Clock) -> None:
    made, plain = Timed(clock, 2.0), Timed(clock, 5.0, size=300)
    speed = compared(made, plain, {})

    assert speed.speedup == 2.5
    assert speed.noise == 0
    assert (speed.latency_ms, speed.float_latency_ms) == (2, 5)
    assert (speed.size_bytes, speed.float_size_bytes) == (100, 300)
    assert made.runs == plain.runs == speed.rounds + 1
    assert not speed.is_slower


def test_runs_are_many_but_not_for_ever(clock: Clock) -> None:
    assert compared(Timed(clock, 0.1), Timed(clock, 0.1), {}).rounds == 100
    assert compared(Timed(clock, 900), Timed(clock, 900), {}).rounds == 20


def test_noise_is_no_finding(clock: Clock) -> None:
    speed = compared(Timed(clock, 1.0, 2.0, 1.5), Timed(clock, 1.4, 1.4), {})

    assert speed.noise > 0.05
    assert not speed.is_slower
    assert speed.reaches(1)
    assert not speed.reaches(2)


SLOW = Speed(2.0, 1.0, 0.5, 0.01, 20, 100, 300)
FAST = Speed(1.0, 2.0, 2.0, 0.01, 20, 100, 300)


def test_what_is_too_slow_fails_by_name() -> None:
    check_speed({"tflite": FAST}, ["tflite"], 2)
    with pytest.raises(GateError) as caught:
        check_speed({"tflite": FAST, "onnxruntime": SLOW}, ["tflite", "onnxruntime"], 1)

    (problem,) = caught.value.diagnostics
    assert str(problem) == (
        "onnxruntime: is 0.50 times as fast as float32 (2 ms, 1 ms), 1 times is required"
    )
    assert caught.value.exit_code == 3


def test_what_was_not_timed_is_no_success() -> None:
    with pytest.raises(
        InconclusiveError, match="the artifact for tflite was not timed"
    ) as caught:
        check_speed({}, ["tflite"], 1)
    assert caught.value.exit_code == 4


def test_operators_that_convert() -> None:
    made = Artifact(b"", ".tflite", (), (), {"QUANTIZE": 3, "ADD": 2, "TRANSPOSE": 1})
    plain = Artifact(b"", ".tflite", (), (), {"ADD": 1, "TRANSPOSE": 1})

    assert converting(made, plain) == {"QUANTIZE": 3}


def report(speed: Speed) -> dict[str, Any]:
    found = {
        "slower": speed.is_slower, "speedup": speed.speedup, "latency_ms": speed.latency_ms,
        "float_latency_ms": speed.float_latency_ms, "size_bytes": speed.size_bytes,
        "float_size_bytes": speed.float_size_bytes, "converting": {"QUANTIZE": 3},
    }  # fmt: skip
    return {
        "artifacts": [{"target": "tflite", "file": "net.tflite"}],
        "run": {"speed": {"tflite": found}},
    }


def test_slower_and_no_smaller_is_said_first() -> None:
    assert problems(report(FAST)) == []
    assert problems(report(Speed(2.0, 1.0, 0.5, 0.01, 20, 300, 300))) == [
        "net.tflite is slower than float32 on this machine: 0.50 times as fast (2 ms, float "
        "1 ms). It has 3 QUANTIZE that the float file has not.",
        "net.tflite is no smaller than the float file: 300 B, 300 B.",
    ]


def test_artifacts_are_timed_beside_their_float_twins() -> None:
    options = CompileOptions(("tflite", "onnxruntime"), "static_wi8_ai8", CALIBRATION)
    found = compile_model(MODEL, options).report["run"]["speed"]

    assert found.keys() == {"tflite", "onnxruntime"}
    for speed in found.values():
        assert speed["size_bytes"] < 0.5 * speed["float_size_bytes"]
        assert speed["rounds"] >= 20
        assert np.isfinite([speed["speedup"], speed["noise"]]).all()
    assert found["tflite"]["converting"] == {"DEQUANTIZE": 1, "QUANTIZE": 1}


def test_a_speedup_can_be_required() -> None:
    options = CompileOptions(("tflite",), "static_wi8_ai8", CALIBRATION, require_speedup=1e6)
    with pytest.raises(GateError, match="a quantized artifact is not as fast as required"):
        compile_model(MODEL, options)


def test_what_is_for_another_machine_is_not_timed() -> None:
    other = next(d.name for d in DEVICES if d.name != this_device().name)
    settings: dict[str, Any] = {"device": other, "effort": "fast"}
    options = CompileOptions(("onnxruntime",), "static_wi8_ai8", CALIBRATION, **settings)

    assert compile_model(MODEL, options).report["run"]["speed"] == {}
    required = CompileOptions(
        ("onnxruntime",), "static_wi8_ai8", CALIBRATION, require_speedup=1.0, **settings
    )
    with pytest.raises(InconclusiveError):
        compile_model(MODEL, required)


@pytest.mark.parametrize(
    "bad",
    [
        {"require_speedup": 0.0, "recipe": "fp16"},
        {"require_speedup": float("nan"), "recipe": "fp16"},
        {"require_speedup": 1.0},
        {"require_speedup": 1.0, "recipe": "fp16", "prove": False},
        {"require_speedup": 1.0, "recipe": "fp16", "compare_speed": False},
    ],
)
def test_options_that_make_no_sense(bad: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="--require-speedup"):
        compile_model(MODEL, CompileOptions(("tflite",), **bad))


def test_nothing_is_timed_if_asked() -> None:
    options = CompileOptions(("tflite",), "fp16", compare_speed=False)

    assert compile_model(MODEL, options).report["run"]["speed"] == {}
