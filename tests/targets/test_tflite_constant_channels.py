"""TFLite files without channels that never change: smaller, and equal in LiteRT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from benchmarks.models import UNLABELLED
from edgec.compiler import CompileOptions, compile_model
from edgec.cost import Cost
from edgec.ir import Array, Graph, QuantParams
from edgec.passes import PassRecord
from edgec.program.passes import channel_removal
from edgec.program.tables import ANY
from edgec.targets.base import Artifact
from edgec.targets.tflite import Tflite, constant_channels
from edgec.targets.tflite.constant_channels import without_constant_channels
from edgec.targets.tflite.model import Model
from edgec.targets.tflite.run import interpreter
from edgec.targets.tflite.schema import serialize
from tests.models import info, onnx_model, save
from tests.program.files import HALF, MODELS, Sketch
from tests.program.networks import sketches

PRICE = Cost(1, 1000, 100_000, 1000, 0)
STEPS = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
FAR = 1 << 22
EMIT = Tflite.emit


def without(model: Model, multiple: int = 1) -> tuple[Model, PassRecord]:
    made, (record,) = without_constant_channels(model, PRICE, multiple)
    assert not record.diagnostics
    assert record.changed == (made is not model)
    return made, record


def conv(s: Sketch, x: int, bias: Sequence[int], weights: Array | None = None) -> int:
    """A 1x1 convolution; what it adds up counts hundredths of its result's integers."""
    edge, depth = s.model.tensors[x].shape[1], s.model.tensors[x].shape[3]
    y = s.value(1, edge, edge, len(bias))
    if weights is None:
        weights = s.rng.integers(-9, 10, (len(bias), 1, 1, depth)).astype(np.int8)
    w = s.constant(weights, QuantParams((0.01,) * len(bias), (0,) * len(bias), 0))
    b = s.constant(
        np.array(bias, np.int32), QuantParams((0.005,) * len(bias), (0,) * len(bias), 0)
    )
    s.op("CONV_2D", [x, w, b], [y], "Conv2D", STEPS)
    return y


def channels(model: Model) -> list[int]:
    return [model.tensors[op.outputs[0]].shape[-1] for op in model.operators]


def results(model: Model, seed: int = 0) -> list[Array]:
    """What LiteRT makes of random inputs and of extreme ones."""
    run = interpreter(serialize(model))
    (given,), rng, found = run.get_input_details(), np.random.default_rng(seed), []
    feeds = [rng.integers(-128, 128, given["shape"], np.int8) for _ in range(3)]
    for feed in (*feeds, *(np.full(given["shape"], v, np.int8) for v in (-128, 127))):
        run.set_tensor(given["index"], feed)
        run.invoke()
        found += [run.get_tensor(told["index"]) for told in run.get_output_details()]
    return found


def assert_equal(before: Model, after: Model) -> None:
    for a, b in zip(results(before), results(after), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- how much room rounding has


@pytest.mark.parametrize(
    ("hundredths", "kept"),
    [
        (-12_500, 4),  # -128 in TFLite Micro, and perhaps -127 elsewhere
        (-12_549, 4),  # just before it is rounded to the next
        (-12_600, 3),  # -129, which everybody clips
        (12_900, 4),  # 126 + 3 - 3
        (13_100, 3),
    ],
)
def test_a_channel_goes_only_if_no_rounding_can_move_it(hundredths: int, kept: int) -> None:
    s = Sketch()
    weights = s.rng.integers(-9, 10, (4, 1, 1, 3)).astype(np.int8)
    weights[1] = 0
    y = conv(s, s.input(1, 5, 5, 3), [0, hundredths, 0, 0], weights)
    s.model.outputs = [("y", conv(s, y, [5, 6]))]

    made, record = without(s.model)

    assert channels(made) == [kept, 2]
    assert record.changed == (kept < 4)
    assert_equal(s.model, made)


@pytest.mark.parametrize(("hundredths", "kept"), [(-12_600, 3), (-12_700, 2)])
def test_doubts_add_up_from_layer_to_layer(hundredths: int, kept: int) -> None:
    s = Sketch()
    first = np.array([5, 6, 0], np.int8).reshape(3, 1, 1, 1)
    second = np.array([[7, 0, 0], [0, 7, 0], [0, 0, 100]], np.int8).reshape(3, 1, 1, 3)
    y = conv(s, s.input(1, 5, 5, 1), [0, 0, 0], first)  # its last is -3 or one beside
    z = conv(s, y, [0, 0, hundredths], second)  # moves by as much, and by its own rounding
    s.model.outputs = [("y", conv(s, z, [5, 6]))]

    assert channels(without(s.model)[0]) == [kept, kept, 2]


@pytest.mark.parametrize(("scale", "kept"), [(6 / 100, 2), (6 / 100.5, 3)])
def test_activations_that_end_between_integers_end_anywhere(scale: float, kept: int) -> None:
    s = Sketch()
    y = conv(s, s.input(1, 5, 5, 3), [0, FAR, 0])
    s.model.tensors[y].quant = QuantParams((float(np.float32(scale)),), (0,))
    first = s.model.operators[0]
    s.model.operators[0] = replace(
        first, options=("Conv2D", {**STEPS, "fusedActivationFunction": 3})
    )
    s.model.outputs = [("y", conv(s, y, [5, 6]))]

    assert channels(without(s.model)[0]) == [kept, 2]


@pytest.mark.parametrize(("zero_point", "kept"), [(-29, 3), (-30, 2)])
def test_means_differ_by_two_integers(zero_point: int, kept: int) -> None:
    s = Sketch()
    y = conv(s, s.input(1, 5, 5, 3), [0, -FAR, 0])  # its second is -128 everywhere
    z = s.value(1, 1, 1, 3, grid=QuantParams((0.625,), (zero_point,)))  # below that here
    s.op("MEAN", [y, s.ints(1, 2)], [z], "Reducer", {"keepDims": True})
    s.model.outputs = [("y", conv(s, z, [5, 6]))]

    made, _ = without(s.model)

    assert channels(made) == [kept, kept, 2]
    assert_equal(s.model, made)


# ---- what stays as it was


def test_a_model_keeps_all_else() -> None:
    s = Sketch()
    x = s.input(1, 2, 2, 3, name="image")
    y = conv(s, x, [0, FAR, -FAR, 0])
    flat, z = s.value(1, 16), s.value(1, 3)
    s.op("RESHAPE", [y, s.ints(1, 16)], [flat], "Reshape", {"newShape": [1, 16]})
    s.op("FULLY_CONNECTED", [flat, s.weights(3, 16), s.bias(3)], [z], "FullyConnected")
    s.model.outputs = [("scores", z)]
    s.model.operators[0] = replace(s.model.operators[0], version=3)

    made, record = without(s.model)

    assert channels(made) == [2, 8, 3]
    assert (made.name, made.inputs[0][0], made.outputs[0][0]) == ("net", "image", "scores")
    assert [op.version for op in made.operators] == [3, 1, 1]
    _, reshape, _ = made.operators
    assert reshape.options == ("Reshape", {"newShape": [1, 8]})
    names = [
        [m.tensors[i].name for i in op.outputs] for m in (s.model, made) for op in m.operators
    ]
    assert names[:3] == names[3:]
    weights = made.tensors[made.operators[0].inputs[1]]
    assert weights.quant is not None
    assert (len(weights.quant.scale), weights.quant.axis) == (2, 0)
    assert record.promise == "exact"
    assert [layer.kept for layer in record.layers] == [
        "computes 2 of 4 channels",
        "reads 8 of 16, and has the others in its bias",
    ]
    assert record.before.macs - record.after.macs == (16 - 8) * 3 + 4 * (4 - 2) * 3
    assert record.before.weight_bytes - record.after.weight_bytes == 3 * 8 + 3 * 2
    assert_equal(s.model, made)


@settings(max_examples=15, deadline=None, phases=[Phase.generate])  # seeds do not shrink
@given(sketches(biased=True), st.sampled_from((1, 4)))
def test_litert_computes_the_same_without(s: Sketch, multiple: int) -> None:
    made, _ = without(s.model, multiple)

    assert_equal(s.model, made)


def test_a_smaller_model_that_differs_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    s = Sketch()
    y = conv(s, s.input(1, 5, 5, 3), [0, FAR, 0])
    s.model.outputs = [("y", conv(s, y, [5, 6]))]
    cut = constant_channels._cut

    def wrong(model: Model, *rest: object) -> Model:
        made = cut(model, *rest)  # type: ignore[arg-type]
        bias = made.tensors[made.operators[-1].inputs[2]]
        assert bias.data is not None
        bias.data = bias.data + np.int32(300)
        return made

    monkeypatch.setattr(constant_channels, "_cut", wrong)
    made, (record,) = without_constant_channels(s.model, PRICE, 1)

    assert made is s.model
    assert not record.changed
    assert "LiteRT computes something else" in record.diagnostics[0].message


def test_operators_that_nothing_is_known_of_need_all_they_read() -> None:
    s = Sketch()
    y = conv(s, s.input(1, 5, 5, 3), [0, FAR, 0])
    z = conv(s, y, [0, FAR, 0, 0])
    u = s.value(1, 5, 5, 2)
    s.op("GATHER", [z, s.ints(1, 3)], [u], "Gather", {"axis": 3})
    s.model.outputs = [("y", u)]

    made, _ = without(s.model)

    assert channels(made) == [2, 4, 2]
    assert_equal(s.model, made)


def test_what_cannot_be_looked_at_is_told_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    s = Sketch()
    y = conv(s, s.input(1, 5, 5, 3), [0, FAR, 0])
    s.model.outputs = [("y", conv(s, y, [5, 6]))]
    monkeypatch.setattr(constant_channels, "_MOST_BYTES", 10)

    made, (record,) = without_constant_channels(s.model, PRICE, 1)

    assert made is s.model
    assert not record.changed
    assert "not looked for in 35 bytes" in record.diagnostics[0].message


def test_operators_on_tensors_of_nothing_need_all_they_read() -> None:
    s = Sketch()
    y = conv(s, s.input(1, 5, 5, 3), [0, FAR, 0])
    z = conv(s, y, [0, FAR, 0])
    u, none = s.value(1, 5, 5, 3), s.constant(np.zeros((1, 0, 5, 3), np.int8), HALF)
    s.op("CONCATENATION", [z, none], [u], "Concatenation", {"axis": 1})
    s.model.outputs = [("y", u)]

    made, _ = without(s.model)

    assert channels(made) == [2, 3, 3]
    assert_equal(s.model, made)


def test_a_reshape_to_a_scalar_keeps_what_it_reads() -> None:
    s = Sketch()
    y = conv(s, s.input(1, 1, 1, 3), [0, FAR, 0])
    z, scalar = conv(s, y, [5]), s.value()
    shape = s.constant(np.zeros(0, np.int32))
    s.op("RESHAPE", [z, shape], [scalar], "Reshape", {"newShape": []})
    s.model.outputs = [("y", scalar)]

    made, _ = without(s.model)

    assert [made.tensors[op.outputs[0]].shape[-1:] for op in made.operators] == [(2,), (1,), ()]
    assert_equal(s.model, made)


def test_what_cannot_be_read_is_told_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    s = Sketch()
    y = conv(s, s.input(1, 5, 5, 3), [0, FAR, 0])
    s.model.outputs = [("y", conv(s, y, [5, 6]))]
    monkeypatch.setattr(constant_channels, "ANY", replace(ANY, least=4))

    made, (record,) = without_constant_channels(s.model, PRICE, 1)

    assert made is s.model
    (told,) = record.diagnostics
    assert told.message == (
        "constant channels are not looked for, as x has the shape [1, 5, 5, 3]"
    )


# ---- weights that layers share


def shared(first: Sequence[int], second: Sequence[int]) -> Sketch:
    """Two convolutions of as many results with the same weights, each read by another."""
    s = Sketch()
    x, ends = s.input(1, 5, 5, 16), []
    for bias in (first, second):
        y = conv(s, x, bias, s.rng.integers(-9, 10, (len(bias), 1, 1, 16)).astype(np.int8))
        op = s.model.operators[-1]
        weights = s.model.operators[0].inputs[1]
        s.model.operators[-1] = replace(op, inputs=(x, weights, op.inputs[2]))
        ends.append(conv(s, y, [5, 6]))
    s.model.outputs = [(f"y{k}", end) for k, end in enumerate(ends)]
    s.model = s.model.without_dead()
    return s


def test_weights_that_only_one_layer_cuts_are_stored_twice_and_it_is_told() -> None:
    s = shared([0, FAR] + 62 * [0], 64 * [0])

    made, (record,) = without_constant_channels(s.model, PRICE, 1)

    larger = len(serialize(made)) - len(serialize(s.model))
    assert channels(made) == [63, 2, 64, 2]
    assert larger > 700
    assert record.after.weight_bytes - record.before.weight_bytes == 63 * 16 - 2
    assert record.after.parameters - record.before.parameters == 63 * 16 - 2
    fewer = 25 * (16 + 2)
    assert record.before.macs - record.after.macs == fewer
    (told,) = record.diagnostics
    assert told.message == (
        f"the file is {larger:,} bytes larger, for {fewer} multiply-accumulates fewer: "
        "layers that shared their weights have different channels now"
    )
    assert_equal(s.model, made)


def test_weights_that_both_layers_cut_alike_stay_one() -> None:
    s = shared([0, FAR, 0, 0], [0, FAR, 0, 0])

    made, record = without(s.model)

    assert channels(made) == [3, 2, 3, 2]
    assert made.operators[0].inputs[1] == made.operators[2].inputs[1]
    assert record.before.weight_bytes - record.after.weight_bytes == 16 + 2 * 2
    assert_equal(s.model, made)


def test_a_larger_file_that_computes_as_much_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s = shared([0, FAR] + 62 * [0], 64 * [0])
    monkeypatch.setattr(channel_removal, "layer_macs", lambda layer: 0)

    made, (record,) = without_constant_channels(s.model, PRICE, 1)

    assert made is s.model
    assert not record.changed
    assert record.before == record.after
    assert "would be no smaller" in record.diagnostics[0].message


def test_floats_are_not_looked_at() -> None:
    s = Sketch()
    x, y = s.input(1, 3), s.value(1, 3)
    for t in s.model.tensors:
        t.quant = None
    s.op("RELU", [x], [y])

    assert without_constant_channels(s.model, PRICE, 1) == (s.model, ())


# ---- whole compilations


def dead_cnn() -> onnx.ModelProto:
    """Two convolutions; half of the channels between them are never above zero."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(32, 3, 3, 3)).astype(np.float32)
    bias = np.where(np.arange(32) % 2, -50, 1).astype(np.float32)
    second = rng.normal(size=(4, 32, 1, 1)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Conv", ["x", "first", "bias"], ["a"], "features/first"),
        onnx.helper.make_node("Relu", ["a"], ["b"], "features/relu"),
        onnx.helper.make_node("Conv", ["b", "second"], ["y"], "features/second"),
    ]
    weights = {"first": first, "bias": bias, "second": second}
    return onnx_model(nodes, [info("x", 1, 3, 10, 10)], [info("y", 1, 4, 8, 8)], weights)


def compiled(path: Path, **given: Any) -> tuple[dict[str, Any], Artifact, Artifact]:
    """The report, and the artifact with and without what is constant."""
    made: dict[bool, Artifact] = {}

    def emit(self: Tflite, graph: Graph) -> Artifact:
        for drops in (False, True):
            made[drops] = EMIT(replace(self, drop_constants=drops), graph)
        return made[True]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tflite, "emit", emit)
        options = CompileOptions(
            ("tflite",), "static_wi8_ai8", compare_speed=False, effort="fast", **given
        )
        report = compile_model(path, options).report
    return report, made[False], made[True]


def test_the_report_tells_what_is_gone(tmp_path: Path) -> None:
    x = np.random.default_rng(1).uniform(0, 1, (8, 3, 10, 10)).astype(np.float32)
    report, whole, made = compiled(save(dead_cnn(), tmp_path), calibration={"x": x})

    line = report["ledger"][-1]
    assert (line["pass"], line["promise"]) == ("remove-constant-channels", "exact")
    assert line["changed"]
    assert line["verified"]
    assert line["layers"][0]["layer"] == "features/relu"
    assert line["layers"][0]["kept"] == "computes 16 of 32 channels"
    assert "sqnr_db" not in line["layers"][0]
    assert line["macs"] == [64 * 32 * (27 + 4), 64 * 16 * (27 + 4)]
    assert report["artifacts"][0]["macs"] == line["macs"][1]
    assert report["artifacts"][0]["bytes"] == len(made.data) < len(whole.data)
    assert [p.name for p in made.inputs] == ["x"]
    assert made.layers == whole.layers


def test_code_for_microcontrollers_tells_it_once(tmp_path: Path) -> None:
    x = np.random.default_rng(1).uniform(0, 1, (8, 3, 10, 10)).astype(np.float32)
    options = CompileOptions(
        ("microcontroller",), "static_wi8_ai8", calibration={"x": x}, prove=False
    )

    report = compile_model(save(dead_cnn(), tmp_path), options).report

    lines = [r for r in report["ledger"] if r["pass"] == "remove-constant-channels"]
    assert [line["changed"] for line in lines] == [True]
    assert not lines[0]["verified"]  # nothing ran
    assert report["artifacts"][0]["macs"] == lines[0]["macs"][1]


def test_what_is_packed_for_tflite_micro_is_smaller(tmp_path: Path) -> None:
    for package in ("ziglang", "unicorn", "tflite_micro"):
        pytest.importorskip(package, reason="needs edgec[mcu]")
    x = np.random.default_rng(1).uniform(0, 1, (8, 3, 10, 10)).astype(np.float32)
    options = CompileOptions(
        ("microcontroller",), "static_wi8_ai8", calibration={"x": x}, project="tflm"
    )

    result = compile_model(save(dead_cnn(), tmp_path), options)

    changed = [r for r in result.report["ledger"] if r["pass"] == "remove-constant-channels"]
    assert [line["changed"] for line in changed] == [True, False]
    data = result.files["tflm/net_tflm_model.c"]
    assert data.count(b",") < 2800  # 3377 with all channels
    assert result.report["artifacts"][0]["device"]["verification"]["exact"]


@pytest.mark.skipif(not MODELS.exists(), reason=f"no {MODELS}; set EDGEC_DATA")
def test_person_detection_is_a_third_as_large() -> None:
    case = UNLABELLED["vww"]
    calibration, images = case.split()
    _, whole, made = compiled(
        MODELS / case.file, calibration={case.input: calibration[:32]}, prove=False
    )

    assert len(whole.data) > 290_000
    assert len(made.data) < 100_000
    runners = [Tflite().load(artifact) for artifact in (whole, made)]
    for image in images[:20]:
        a, b = (runner.run({case.input: image[None]}) for runner in runners)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
