"""Devices of TFLite files: what they refuse, and what they leave to the CPU beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler import CompileOptions, compile_model
from edgec.demo import CALIBRATION, MODEL
from edgec.errors import ModelError, OptionError, UnsupportedError
from edgec.ir import DType, QuantParams
from edgec.options import targets_for
from edgec.passes import RECIPES
from edgec.targets import OnnxRuntime, Tflite
from edgec.targets.onnxruntime.devices import this_device
from edgec.targets.tflite import ethos_u
from edgec.targets.tflite.devices import DEVICES, ETHOS_U, XNNPACK, device_named
from edgec.targets.tflite.ethos_u import (
    ethos_u_misfits,
    has_compiler,
    left_to_cpu,
    misfits_by_rules,
)
from edgec.targets.tflite.model import Model, Operator, Tensor
from edgec.targets.tflite.reader import read_tflite
from tests.targets.graphs import quantized, tiny_cnn

U55, U65, U85 = ETHOS_U
OF_TFLITE = "tflite has auto, xnnpack, ethos-u55, ethos-u65, ethos-u85"
HALF = {"halfPixelCenters": True}
WIDE = {"filterWidth": 9}
VELA = pytest.mark.skipif(not has_compiler(), reason="needs ethos-u-vela")


def chosen(*targets: str, **options: Any) -> list[Any]:
    given = {"recipe": "static_wi8_ai8", "calibration": CALIBRATION, **options}
    return list(targets_for(CompileOptions(targets, **given)))


# ---- names


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
def test_every_device_has_a_name(device: Any) -> None:
    assert device_named(device.name) is device


def test_a_file_is_for_the_cpu_unless_said() -> None:
    for name in (None, "auto", "xnnpack"):
        (target,) = chosen("tflite", device=name)
        assert target.device is XNNPACK
        assert target.runs_here
        assert target.scheme() == Tflite().scheme()
    assert device_named("auto") is XNNPACK
    with pytest.raises(OptionError, match="known are auto, xnnpack, ethos-u55"):
        device_named("arm64")


def test_a_device_is_heeded_by_the_target_that_has_it() -> None:
    tflite, ort = chosen("tflite", "onnxruntime", device="ethos-u55")
    assert (tflite.device, ort.device) == (U55, this_device())

    tflite, ort = chosen("tflite", "onnxruntime", device="arm64")
    assert (tflite.device, ort.device.name) == (XNNPACK, "arm64")


@pytest.mark.parametrize(
    ("targets", "device", "told"),
    [
        (("tflite",), "tpu", f"device 'tpu' is not known; {OF_TFLITE}"),
        (
            ("tflite",),
            "arm64",
            f"device 'arm64' is one of target onnxruntime, which is not asked for; {OF_TFLITE}",
        ),
        (
            ("onnxruntime", "tflite"),
            "x",
            "device 'x' is not known; onnxruntime has auto, x86-64-vnni, x86-64, arm64; "
            f"{OF_TFLITE}",
        ),
    ],
)
def test_a_device_that_no_target_has(targets: tuple[str, ...], device: str, told: str) -> None:
    with pytest.raises(OptionError) as caught:
        chosen(*targets, device=device)

    assert caught.value.summary == told


# ---- recipes


@pytest.mark.parametrize("device", ETHOS_U, ids=lambda d: d.name)
def test_an_npu_refuses_recipes_that_it_cannot_run(device: Any) -> None:
    taken = []
    for recipe in RECIPES:
        target = Tflite(recipe=recipe, device=device)
        if not device.refuses(recipe):
            assert target.scheme()
            taken.append(recipe.name)
            continue
        told = f"{device.name} cannot run recipe {recipe.name}: it .*; take static_wi8_ai8$"
        with pytest.raises(OptionError, match=told):
            target.scheme()

    assert "static_wi8_ai8" in taken
    assert not {"static_wi4_ai8", "fp16", "dynamic_wi8_afp32"}.intersection(taken)
    assert not [name for name in taken if name.startswith("weight_only")]


def test_the_reasons_say_what_is_wrong() -> None:
    four, dynamic = (next(r for r in RECIPES if r.name.startswith(n)) for n in
                     ("static_wi4", "dynamic"))  # fmt: skip

    assert U55.refuses(four) == "it takes weights of 8 bits, not 4"
    assert U55.refuses(dynamic).startswith("it computes on integers")


def test_an_npu_runs_no_float_model() -> None:
    options = CompileOptions(("tflite",), device="ethos-u55")
    with pytest.raises(UnsupportedError) as caught:
        compile_model(MODEL, options)

    (problem,) = caught.value.diagnostics
    assert "the model is float, and ethos-u55 runs operators" in problem.message
    assert problem.hint == "give --recipe static_wi8_ai8 and --calibration"


# ---- what is left to the CPU


def told(io_dtype: Any, device: Any = U55) -> list[str]:
    graph, feeds = tiny_cnn()
    artifact = Tflite(io_dtype=io_dtype).compile(quantized(graph, feeds))
    return [str(d) for d in left_to_cpu(artifact, device)]


@pytest.mark.parametrize("compiler", [False, pytest.param(True, marks=VELA)])
def test_operators_that_stay_on_the_cpu(
    compiler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ethos_u, "has_compiler", lambda: compiler)
    head, first, last = told("float32")

    assert head.startswith("ethos-u55: runs 8 of 10 operators (")
    assert ("ethos-u-vela is not installed" in head) is not compiler
    assert first.startswith("image.quantized: QUANTIZE stays on the CPU beside ethos-u55: ")
    assert last.startswith("classes: DEQUANTIZE stays on the CPU beside ethos-u55: ")
    for line in (first, last):
        assert line.endswith("(--io-dtype int8 leaves it out)")
    (head,) = told("int8")
    assert head.startswith("ethos-u55: runs 8 of 8 operators (")


def test_a_compiler_that_fails_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ModelError("ethos-u-vela fails on model.tflite")

    monkeypatch.setattr(ethos_u, "ethos_u_misfits", fail)
    (line,) = told("int8")

    assert line == (
        "ethos-u55: it is not known what ethos-u55 runs: ethos-u-vela fails on model.tflite"
    )


@VELA
@pytest.mark.parametrize("device", ETHOS_U, ids=lambda d: d.name)
@pytest.mark.parametrize("is_float", [False, True])
def test_the_rules_agree_with_the_compiler(device: Any, is_float: bool, tmp_path: Path) -> None:
    graph, feeds = tiny_cnn()
    path = tmp_path / "tiny.tflite"
    path.write_bytes(Tflite().compile(graph if is_float else quantized(graph, feeds)).data)
    model = read_tflite(path)

    said, found = ethos_u_misfits(path, model, device)
    assert said.startswith("ethos-u-vela ")
    assert found.keys() == misfits_by_rules(model, device).keys()
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.tflite"]


GRID = QuantParams((0.1,), (0,))


def layer(code: str = "CONV_2D", *, x: Any = (DType.INT8, GRID), weight: Any = None,
          bias: Any = None, fields: Any = None) -> Model:  # fmt: skip
    """Return a model of one layer that every Ethos-U runs, but for what is given."""
    dtype, grid = x
    weight = np.ones((4, 1, 1, 2), np.int8) if weight is None else weight
    kinds = {np.dtype(np.int8): DType.INT8, np.dtype(np.int16): DType.INT16,
             np.dtype(np.int32): DType.INT32, np.dtype(np.int64): DType.INT64,
             np.dtype(np.float32): DType.FLOAT32}  # fmt: skip
    bias = np.zeros(4, np.int32) if bias is None else bias
    tensors = [
        Tensor("x", dtype, (1, 8, 8, 2), None, grid),
        Tensor("w", kinds[weight.dtype], weight.shape, weight, GRID),
        Tensor("b", kinds[bias.dtype], bias.shape, bias, GRID),
        Tensor("y", DType.INT8, (1, 8, 8, 4), None, GRID),
    ]
    order = (2, 1, 0) if code == "TRANSPOSE_CONV" else (0, 1, 2)
    options = {"padding": 1, "strideH": 1, "strideW": 1, **(fields or {})}
    op = Operator(code, order, (3,), (code, options), 1, "y")
    return Model("net", tensors, [op], [("x", 0)], [("y", 3)])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, None),
        ({"x": (DType.INT16, GRID)}, None),
        ({"x": (DType.FLOAT32, None)}, "x is f32, and it computes on integers"),
        ({"x": (DType.INT8, None)}, "x has no scale"),
        ({"x": (DType.INT32, GRID)}, "x has 32 bits an element"),
        ({"x": (DType.INT64, GRID)}, "x has 64 bits an element"),
        ({"code": "CUSTOM:Odd"}, "is not among the operators that it runs"),
        ({"weight": np.ones((4, 1, 1, 2), np.int16)}, "its weights are i16, not of 8 bits"),
        ({"weight": np.full((1, 1, 1, 65536), -127, np.int8)}, None),
        (
            {"weight": np.full((1, 1, 1, 65537), -127, np.int8)},
            "the magnitudes of the weights of a channel sum to more than 8323072",
        ),
        ({"bias": np.zeros(4, np.float32)}, "its bias is f32, not i32"),
        ({"bias": np.full(4, 2**39, np.int64)}, None),
        ({"bias": np.full(4, 2**40, np.int64)}, "its bias has more than 40 bits"),
        ({"fields": {"strideH": 4}}, None),
        (
            {"fields": {"strideH": 4, "padding": 0}},
            "its stride is 4: above 3 only without padding and dilation",
        ),
        (
            {"fields": {"strideW": 4, "dilationWFactor": 2}},
            "its stride is 4: above 3 only without padding and dilation",
        ),
        (
            {"code": "DEPTHWISE_CONV_2D", "fields": {"strideH": 4}},
            "its stride is 4: above 3 only without padding and dilation",
        ),
        ({"code": "ADD", "bias": np.zeros(4, np.float32)}, None),
    ],
)
def test_a_rule_at_a_time(given: dict[str, Any], reason: str | None) -> None:
    assert misfits_by_rules(layer(**given), U55).get(0) == reason


def simple(code: str, before: Any, after: Any, options: Any = None, grid: Any = GRID) -> Model:
    tensors = [
        Tensor("x", DType.INT8, before, None, grid),
        Tensor("y", DType.INT8, after, None, GRID),
    ]
    op = Operator(code, (0,), (1,), (code, options or {}), 1, "y")
    return Model("net", tensors, [op], [("x", 0)], [("y", 1)])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (simple("MEAN", (2, 4, 4, 3), (2, 3)), "its batch is 2, not 1"),
        (simple("MEAN", (1, 4, 4, 3), (1, 3)), None),
        (simple("RELU", (1, 4), (1, 4), grid=QuantParams((1.0, 2.0), (0, 0), 1)),
         "it has a scale for each channel, which only layers with weights may"),
        (simple("RESIZE_BILINEAR", (1, 4, 4, 1), (1, 8, 8, 1), HALF), None),
        (simple("RESIZE_BILINEAR", (1, 4, 4, 1), (1, 16, 16, 1), HALF),
         "it resizes (4, 4) to (16, 16), not by 2, 4 or 8"),
        (simple("RESIZE_BILINEAR", (1, 4, 4, 1), (1, 16, 16, 1)), None),
        (simple("RESIZE_BILINEAR", (1, 4, 4, 1), (1, 13, 13, 1), {"alignCorners": True}), None),
        (simple("RESIZE_NEAREST_NEIGHBOR", (1, 4, 4, 1), (1, 8, 16, 1)),
         "it resizes (4, 4) to (8, 16), not by 2, 4 or 8"),
        (simple("AVERAGE_POOL_2D", (1, 9, 9, 1), (1, 9, 9, 1), {"padding": 0, **WIDE}),
         "its padded window is 9 wide, above 8"),
        (simple("AVERAGE_POOL_2D", (1, 9, 9, 1), (1, 9, 1, 1), {"padding": 1, **WIDE}),
         None),
    ],
)  # fmt: skip
def test_rules_of_other_operators(model: Model, reason: str | None) -> None:
    assert misfits_by_rules(model, U55).get(0) == reason


def test_the_youngest_runs_more() -> None:
    model = simple("GREATER", (1, 4), (1, 4))
    assert misfits_by_rules(model, U55) == {0: "is not among the operators that it runs"}
    assert misfits_by_rules(model, U85) == {}
    assert misfits_by_rules(layer(x=(DType.INT32, GRID)), U85) == {}


# ---- a compilation


def test_a_model_is_compiled_for_an_npu() -> None:
    options: dict[str, Any] = {"device": "ethos-u65", "io_dtype": "int8", "effort": "fast"}
    result = compile_model(
        MODEL,
        CompileOptions(("tflite", "onnxruntime"), "static_wi8_ai8", CALIBRATION, **options),
    )
    tflite, ort = result.report["artifacts"]

    assert tflite["settings"]["device"] == "ethos-u65"
    assert ort["settings"]["device"] == this_device().name
    notes = [d for d in tflite["diagnostics"] if d["where"] == "ethos-u65"]
    assert "runs" in notes[0]["message"]
    assert not [d for d in ort["diagnostics"] if "ethos" in json.dumps(d)]
    assert "tflite" not in result.report["run"]["speed"], "it runs elsewhere"
    assert OnnxRuntime.name in result.report["run"]["speed"]
