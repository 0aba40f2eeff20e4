from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

import edgec.compiler
import edgec.speed
from edgec.cli.problems import problems
from edgec.compiler import CompileOptions, compile_model
from edgec.demo import CALIBRATION, MODEL
from edgec.errors import GateError, InconclusiveError, OptionError
from edgec.hotspots import Hotspot
from edgec.ir import Array
from edgec.report import speed_entry
from edgec.speed import Speed, check_speed, compared
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


def test_who_runs_first_is_no_slower(clock: Clock) -> None:
    made, plain = Timed(clock), Timed(clock)
    made.latencies = plain.latencies = cycle([1.1, 1.0])  # whichever runs first takes longer

    speed = compared(made, plain, {})

    assert speed.speedup == pytest.approx(1, abs=0.01)
    assert not speed.is_slower


SLOW = Speed(2.0, 1.0, 0.5, 0.01, 20, 100, 300)
FAST = Speed(1.0, 2.0, 2.0, 0.01, 20, 100, 300)


def test_a_trifle_is_no_finding() -> None:
    assert not Speed(1.0, 0.99, 0.99, 0.001, 20, 100, 300).is_slower
    assert Speed(1.0, 0.95, 0.95, 0.001, 20, 100, 300).is_slower


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


ISLAND = "DEQUANTIZE, PRELU, QUANTIZE"
SPOTS = (
    Hotspot(
        "conv1", ("DEQUANTIZE", "PRELU", "QUANTIZE"), "edgec has no integer form", 2.0, 0.5
    ),
    Hotspot(
        "conv2", ("DEQUANTIZE", "PRELU", "QUANTIZE"), "edgec has no integer form", 1.0, 0.25
    ),
    Hotspot("add", ("QUANTIZE",), "converts only", None, None),
    Hotspot("pool", ("QUANTIZE",), "converts only", None, None),
)


def test_layers_that_cost_it_are_named_with_what_is_too_slow() -> None:
    with pytest.raises(GateError) as caught:
        check_speed({"tflite": replace(SLOW, hotspots=SPOTS)}, ["tflite"], 1)

    assert [str(d) for d in caught.value.diagnostics[1:]] == [
        f"conv1: {ISLAND} costs time: edgec has no integer form (2 ms, 0.5 ms in float)",
        f"conv2: {ISLAND} costs time: edgec has no integer form (1 ms, 0.25 ms in float)",
        "add: QUANTIZE costs time: converts only",
        "1 more layer costs time (without --require-speedup, report.json lists them)",
    ]


def report(speed: Speed, *, integers: bool = True) -> dict[str, Any]:
    return {
        "artifacts": [{"target": "tflite", "file": "net.tflite"}],
        "run": {"speed": {"tflite": speed_entry(speed, integers=integers)}},
    }


def test_slower_and_no_smaller_is_said_first() -> None:
    assert problems(report(FAST)) == []
    assert problems(report(Speed(2.0, 1.0, 0.5, 0.01, 20, 300, 300))) == [
        "net.tflite is slower than float32 on this machine: 0.50 times as fast (2 ms, float "
        "1 ms).",
        "net.tflite is no smaller than the float file: 300 B, 300 B.",
    ]


def test_what_costs_it_is_said_with_it_and_what_is_gained() -> None:
    (told,) = problems(report(replace(SLOW, hotspots=SPOTS)))

    assert told == (
        "net.tflite is slower than float32 on this machine: 0.50 times as fast (2 ms, float "
        f"1 ms). It loses time at conv1, conv2 ({ISLAND}: edgec has no integer form, "
        "3 ms, 0.75 ms in float); add (QUANTIZE: converts only); 1 more in report.json. It is "
        "smaller: 100 B, float 300 B."
    )


def test_no_faster_than_float_is_said_of_integers() -> None:
    even = Speed(1.0, 1.0, 1.02, 0.05, 20, 100, 300)
    assert not even.is_slower
    assert not even.is_faster

    assert problems(report(even)) == [
        "net.tflite is not measurably faster than float32 on this machine: 1.02 times as fast "
        "(1 ms, float 1 ms). It is smaller: 100 B, float 300 B."
    ]
    assert problems(report(even, integers=False)) == [], "floats are as fast as floats"


def test_artifacts_are_timed_beside_their_float_twins() -> None:
    options = CompileOptions(("tflite", "onnxruntime"), "static_wi8_ai8", CALIBRATION)
    found = compile_model(MODEL, options).report["run"]["speed"]

    assert found.keys() == {"tflite", "onnxruntime"}
    for speed in found.values():
        assert speed["size_bytes"] < 0.5 * speed["float_size_bytes"]
        assert speed["rounds"] >= 20
        assert np.isfinite([speed["speedup"], speed["noise"]]).all()


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


@pytest.mark.parametrize(
    ("speedup", "required", "named"),
    [(0.5, None, True), (3.0, None, False), (3.0, 2.0, False)],
)
def test_layers_are_looked_at_where_it_does_not_pay(
    speedup: float, required: float | None, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = Speed(1.0, speedup, speedup, 0.01, 20, 100, 300)
    monkeypatch.setattr(edgec.compiler, "compared", lambda *_: timed)
    options = CompileOptions(
        ("tflite",), "static_wi8_ai8", CALIBRATION, effort="fast", require_speedup=required
    )
    spots = compile_model(MODEL, options).report["run"]["speed"]["tflite"]["hotspots"]

    assert bool(spots) is named
    for spot in spots:
        assert spot.keys() == {"layer", "operators", "why", "ms", "float_ms"}


def test_an_unmet_speedup_names_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = Speed(1.0, 1.5, 1.5, 0.01, 20, 100, 300)
    monkeypatch.setattr(edgec.compiler, "compared", lambda *_: timed)
    options = CompileOptions(
        ("tflite",), "static_wi8_ai8", CALIBRATION, effort="fast", require_speedup=2.0
    )
    with pytest.raises(GateError) as caught:
        compile_model(MODEL, options)

    assert any("costs time" in d.message for d in caught.value.diagnostics)


def test_stored_weights_that_are_read_as_floats_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edgec.compiler, "compared", lambda *_: SLOW)
    speed = compile_model(MODEL, CompileOptions(("tflite",), "fp16")).report["run"]["speed"]

    spots = speed["tflite"]["hotspots"]
    assert spots
    for spot in spots:
        assert set(spot["operators"]) == {"DEQUANTIZE"}
        assert spot["why"] == "reads stored weights as floats"
