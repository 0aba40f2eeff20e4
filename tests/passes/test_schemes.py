"""Schemes a user may choose: what they do to scales and zero points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.compiler import CompileOptions, compile_model
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.errors import OptionError
from edgec.frontend import load
from edgec.ir import DType, Graph, QuantParams
from edgec.ops import Dequantize, FullyConnected, Quantize, Softmax, quantize_array
from edgec.options import targets_for
from edgec.passes import QuantizeGraph, Scheme, SchemeWishes, StoreWeights, scheme_wishes
from edgec.passes.quantize import activation_params
from edgec.passes.weight_grids import weight_params
from edgec.targets.tflite.reader import read_tflite
from tests.passes.quantization import grids
from tests.passes.test_weight_grids import WEIGHTS
from tests.targets.graphs import Net, quantized, random, tiny_cnn

TYPES = pytest.mark.parametrize("dtype", [DType.INT8, DType.UINT8])
RANGES = st.tuples(st.floats(-1e4, 0), st.floats(0, 1e4))


def is_power_of_two(scale: float) -> bool:
    return bool(np.frexp(np.float64(scale))[0] == 0.5)


def test_words_are_wishes() -> None:
    assert scheme_wishes(None) == SchemeWishes()
    assert scheme_wishes("symmetric, uint8") == SchemeWishes(DType.UINT8, symmetric=True)
    assert scheme_wishes("power-of-two,per-tensor,symmetric,symmetric") == SchemeWishes(
        symmetric=True, per_channel=False, power_of_two=True
    )
    assert scheme_wishes("asymmetric,per-channel,any-scale") == SchemeWishes(
        symmetric=False, per_channel=True, power_of_two=False
    )


def test_what_is_not_wished_stays_the_targets() -> None:
    scheme = Scheme(DType.UINT8, 63, symmetric=True)

    assert SchemeWishes().applied(scheme) == scheme
    assert scheme_wishes("power-of-two").applied(scheme) == Scheme(
        DType.UINT8, 63, symmetric=True, power_of_two=True
    )
    assert str(scheme) == "uint8,symmetric,per-channel,any-scale"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("per-layer", "there is no scheme 'per-layer'; known words: int8, uint8, asymmetric"),
        ("", "there is no scheme ''"),
        ("symmetric,asymmetric", "--scheme has both symmetric and asymmetric"),
        ("int8,per-tensor,uint8", "--scheme has both int8 and uint8"),
    ],
)
def test_words_that_make_no_sense(text: str, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        scheme_wishes(text)


@TYPES
@given(RANGES)
def test_zero_is_in_the_middle_of_a_symmetric_grid(
    dtype: DType, ends: tuple[float, float]
) -> None:
    low, high = ends
    params = activation_params(low, high, dtype, symmetric=True)

    assert params.zero_point == ((0,) if dtype is DType.INT8 else (128,))
    top = max(-low, high)
    if top > 1e-30:
        assert params.scale[0] == pytest.approx(top / 127, rel=1e-6)
    reached = quantize_array(np.array([-top, top], np.float32), params, dtype).astype(int)
    assert (np.abs(reached - params.zero_point[0]) <= 127).all()


@TYPES
@pytest.mark.parametrize("symmetric", [False, True])
@given(RANGES)
def test_the_next_power_of_two_covers_the_range(
    dtype: DType, symmetric: bool, ends: tuple[float, float]
) -> None:
    low, high = ends
    plain = activation_params(low, high, dtype, symmetric=symmetric)
    params = activation_params(low, high, dtype, symmetric=symmetric, power_of_two=True)

    assert is_power_of_two(params.scale[0])
    assert 1 - 1e-6 <= params.scale[0] / plain.scale[0] < 2
    least, most = dtype.limits
    (zero,) = params.zero_point
    assert (least - zero - 0.51) * params.scale[0] <= low
    assert high <= (most - zero + 0.51) * params.scale[0]


@pytest.mark.parametrize("scale", [0.25, 2.0**-7, 1.0])
def test_a_power_of_two_stays(scale: float) -> None:
    params = activation_params(-128 * scale, 127 * scale, DType.INT8, power_of_two=True)

    assert (params.scale, params.zero_point) == ((scale,), (0,))


@pytest.mark.parametrize("top", [127, 63, 7])
@pytest.mark.parametrize("channel", [0, None])
@given(WEIGHTS, st.floats(1e-4, 10))
def test_weights_on_powers_of_two(
    top: int, channel: int | None, w: Any, x_scale: float
) -> None:
    bias = np.full(3, 1e3, np.float32)
    params = weight_params(w, channel, top, bias, x_scale, 1e-3, power_of_two=True)

    assert all(map(is_power_of_two, params.scale))
    assert (1e3 / (x_scale * np.array(params.scale)) < 2.0**31).all()


def test_half_a_step_is_taken_where_it_errs_less() -> None:
    many = np.tile(f32_line(), (2, 1))
    many[0, 0] = 1.0  # alone beyond what 127 steps of 2^-7 reach
    params = weight_params(many, 0, 127, power_of_two=True)

    assert params.scale == (2.0**-7, 2.0**-7)
    many[0, 0] = 1.9
    assert weight_params(many, 0, 127, power_of_two=True).scale == (2.0**-6, 2.0**-7)


def f32_line() -> Any:
    return np.linspace(-0.99, 0.99, 50, dtype=np.float32)


def all_scales(graph: Graph) -> list[float]:
    pairs = [n.op for n in graph.nodes if isinstance(n.op, Quantize | Dequantize)]
    return [s for op in pairs for s in op.params.scale]


@pytest.mark.parametrize("scheme", [
    Scheme(DType.INT8, symmetric=True), Scheme(DType.UINT8, symmetric=True, prescribes=False),
    Scheme(DType.UINT8, 63, power_of_two=True), Scheme(power_of_two=True, per_channel=False),
    Scheme(symmetric=True, power_of_two=True),
], ids=str)  # fmt: skip
def test_a_small_network_obeys(scheme: Scheme) -> None:
    graph, feeds = tiny_cnn()
    made = quantized(graph, feeds, scheme=scheme)

    middle = 0 if scheme.activation is DType.INT8 else 128
    zeros = {name: grid.zero_point[0] for name, grid in grids(made).items()}
    if scheme.symmetric:
        prescribed = {"classes": -128} if scheme.prescribes else {}
        assert zeros == {**dict.fromkeys(zeros, middle), **prescribed}
    else:
        assert set(zeros.values()) - {middle}
    if scheme.power_of_two:
        assert all(map(is_power_of_two, all_scales(made)))
    else:
        assert not all(map(is_power_of_two, all_scales(made)))


def test_a_grid_that_kernels_prescribe_is_told() -> None:
    graph, _ = tiny_cnn()

    def told(**scheme: Any) -> list[str]:
        step = QuantizeGraph(scheme=Scheme(**scheme))
        return [str(d) for d in step.diagnostics(graph)]

    (line,) = told(symmetric=True)
    assert line == (
        "classes: Softmax(): its result is not symmetric, because the kernel prescribes scale "
        "0.00390625 and zero point -128"
    )
    assert told(symmetric=True, prescribes=False) == []
    assert told() == []


def test_a_result_below_one_step_of_its_products_stays_on_powers_of_two() -> None:
    net = Net(x=(1, 8))
    weight = random(4, 8) + np.float32(2)
    net.add("y", FullyConnected(), "x", weight, -weight.sum(axis=1))
    graph = net.graph("y")
    feeds = {"x": np.ones((1, 8), np.float32) * np.float32(1 + 1e-6)}
    made = quantized(graph, feeds, scheme=Scheme(power_of_two=True))

    assert all(map(is_power_of_two, all_scales(made)))
    found = grids(made)
    ops = [n.op for n in made.nodes if n.output.type.shape == (4, 8)]
    (top,) = (max(op.params.scale) for op in ops if isinstance(op, Dequantize))
    assert found["x"].scale[0] * top / found["y"].scale[0] <= 128


def test_files_hold_powers_of_two(tmp_path: Any) -> None:
    options: dict[str, Any] = {"effort": "full", "compare_speed": False}
    options["scheme"] = "symmetric,power-of-two"
    result = compile_model(
        MODEL,
        CompileOptions(
            ("tflite", "onnxruntime"), "static_wi8_ai8", CALIBRATION, TEST, **options
        ),
    )
    for artifact in result.report["artifacts"]:
        assert artifact["accuracy"] > 0.97
        assert artifact["settings"]["scheme"].endswith(
            "int8,symmetric,per-channel,power-of-two"
        )
    result.save(tmp_path)
    model = read_tflite(tmp_path / "digits.tflite")
    stored = [t.quant for t in model.tensors if t.quant is not None]

    assert stored
    for params in stored:
        assert all(map(is_power_of_two, params.scale))
        assert set(params.zero_point) == {0} or params == QuantParams((1 / 256,), (-128,))
    assert all(map(is_power_of_two, all_scales(load(tmp_path / "digits.onnx").graph)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"recipe": None}, "--scheme goes with a recipe only"),
        ({"recipe": "fp16"}, "recipe fp16 has no integers: leave out --scheme"),
        ({"recipe": "dynamic_wi8_afp32"}, "stores no activations as integers"),
        ({"scheme": "uint8", "calibration": CALIBRATION}, "--io-dtype uint8 makes inputs"),
    ],
)
def test_a_scheme_that_cannot_be(options: dict[str, Any], told: str) -> None:
    given = {"recipe": "static_wi8_ai8", "scheme": "symmetric", **options}
    with pytest.raises(OptionError, match=told):
        targets_for(CompileOptions(("tflite",), **given))


def test_weights_alone_have_schemes_too() -> None:
    options = CompileOptions(
        ("tflite",), "weight_only_wi8_afp32", scheme="power-of-two,per-tensor"
    )
    (target,) = targets_for(options)
    assert target.scheme().power_of_two
    result = compile_model(MODEL, options)

    assert "power-of-two" in result.report["artifacts"][0]["settings"]["scheme"]
    found = all_scales(StoreWeights(8, power_of_two=True).run(tiny_cnn()[0]))
    assert found
    assert all(map(is_power_of_two, found))


def test_softmax_of_a_target_that_prescribes_nothing() -> None:
    net = Net(x=(1, 8))
    graph = net.graph(net.add("y", Softmax(), "x"))
    scheme = Scheme(DType.UINT8, symmetric=True, power_of_two=True, prescribes=False)

    grid = grids(quantized(graph, {"x": random(1, 8)}, scheme=scheme))["y"]
    assert (grid.scale, grid.zero_point) == ((2.0**-7,), (128,))
