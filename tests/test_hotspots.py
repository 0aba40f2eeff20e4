"""Which layers cost a quantized artifact its speed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import edgec.hotspots
from edgec.errors import Diagnostic
from edgec.hotspots import Hotspot, hotspots
from edgec.ir import Array, Graph
from edgec.passes import QuantizeGraph
from edgec.targets import Artifact, OnnxRuntime, Tflite
from edgec.targets.onnxruntime.devices import DEVICES
from tests.targets.graphs import quantized, tiny_cnn

GRAPH, FEEDS = tiny_cnn()
KEPT = ("conv2",)


def finished(target: Any, graph: Graph) -> Artifact:
    for step in target.finish():
        graph = step.run(graph)
    return target.compile(graph)  # type: ignore[no-any-return]


def found(target: Any, graph: Graph, notes: Any = (), plain: Any = None) -> dict[str, Hotspot]:
    plain = plain or finished(target, GRAPH)
    made = finished(target, graph)
    return {spot.layer: spot for spot in hotspots(made, plain, FEEDS, notes)}


def test_layers_of_a_tflite_file_that_stay_in_float() -> None:
    notes = QuantizeGraph(keep_float=KEPT).diagnostics(GRAPH)
    spots = found(Tflite(io_layout="nhwc"), quantized(GRAPH, FEEDS, keep_float=KEPT), notes)

    conv = spots["conv2"]
    assert conv.why == "as asked for with --keep-float"
    assert sorted(conv.operators) == ["CONV_2D", "DEQUANTIZE", "QUANTIZE"]
    assert (conv.ms, conv.float_ms) == (None, None)
    assert list(spots) == ["conv2", "input image", "classes"], "most elements first"
    assert spots["input image"].operators == ("QUANTIZE",)
    assert spots["input image"].why == (
        "converts only the input, which --io-dtype int8 leaves out"
    )
    # LiteRT's own kernel of softmax, and the output.
    assert spots["classes"].operators == ("SOFTMAX", "DEQUANTIZE")
    assert spots["classes"].why == "XNNPACK runs it on floats and not on these integers"


def test_a_float_layer_without_a_reason_is_told_too() -> None:
    spots = found(Tflite(), quantized(GRAPH, FEEDS, keep_float=KEPT))

    assert spots["conv2"].why == "computes on floats"


def test_nothing_is_lost_at_borders_of_integers() -> None:
    target = Tflite(io_dtype="int8", io_layout="nhwc")
    plain = finished(Tflite(io_layout="nhwc"), GRAPH)

    assert list(found(target, quantized(GRAPH, FEEDS), plain=plain)) == ["classes"]


def test_moves_count_that_the_float_file_has_not() -> None:
    plain = finished(Tflite(), GRAPH)
    moved = [layer for code, layer in plain.layers if code == "TRANSPOSE"]
    assert moved
    graph = quantized(GRAPH, FEEDS)

    def moves(plain: Artifact) -> list[str]:
        spots = found(Tflite(), graph, plain=plain)
        return [name for name, spot in spots.items() if "TRANSPOSE" in spot.operators]

    assert moves(plain) == []
    without = tuple(pair for pair in plain.layers if pair[0] != "TRANSPOSE")
    ops = {k: n for k, n in plain.operators.items() if k != "TRANSPOSE"}
    monkey = replace(plain, layers=without, operators=ops)
    assert moves(monkey) == moved[:1]


# ---- ONNX Runtime


def traced(target: OnnxRuntime, graph: Graph) -> dict[str, list[str]]:
    """Return the operators that run, by layer."""
    ran: dict[str, list[str]] = {}
    for entry in edgec.hotspots._traced(finished(target, graph), FEEDS):
        assert entry.ms > 0
        ran.setdefault(entry.layer, []).append(entry.operator)
    return ran


def test_what_onnxruntime_runs_is_told_by_layer() -> None:
    target = OnnxRuntime(DEVICES[0])
    graph = quantized(GRAPH, FEEDS, scheme=target.scheme(), keep_float=KEPT)
    ran = traced(target, graph)

    assert {name for name in ran if name} <= {
        *("input image", "conv1", "conv2", "add", "pool", "mean", "flat", "scores", "classes")
    }
    assert ran["input image"] == ["QuantizeLinear"]
    assert ran["conv1"] == ["QLinearConv"]
    assert sorted(ran["conv2"]) == ["Conv", "DequantizeLinear", "QuantizeLinear"]
    assert ran["classes"] == ["QLinearSoftmax", "DequantizeLinear"]


def test_operators_of_the_float_file_have_the_same_layers() -> None:
    ran = traced(OnnxRuntime(), GRAPH)

    assert {name for name in ran if name} <= {n.layer for n in GRAPH.nodes}
    assert {"conv1", "conv2", "scores", "classes"} <= ran.keys()


def spots_of(
    monkeypatch: pytest.MonkeyPatch, made: Any, plain: Any, notes: Any = ()
) -> list[Hotspot]:
    """Return what follows from two traces of pairs of layer and operator with a time."""

    def timed(artifact: Artifact, feeds: Mapping[str, Array]) -> list[Any]:
        rows = made if artifact.data == b"made" else plain
        return [edgec.hotspots._Timed(*row) for row in rows]

    monkeypatch.setattr(edgec.hotspots, "_traced", timed)
    first, second = (Artifact(data, ".onnx", (), (), {}) for data in (b"made", b"plain"))
    return list(hotspots(first, second, {}, notes))


def test_layers_are_ordered_by_what_they_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [
        ("a", "QLinearConv", False, 5.0),
        ("b", "DequantizeLinear", False, 1.0),
        ("b", "Gelu", True, 2.0),
        ("b", "QuantizeLinear", True, 1.0),
        ("c", "DequantizeLinear", False, 0.5),
        ("c", "Conv", True, 1.0),
        ("d", "QuantizeLinear", True, 0.25),
        ("", "Transpose", True, 0.125),
        ("e", "QLinearConv", False, 1.0),
        ("f", "QLinearAdd", False, 0.0625),
    ]
    plain = [("a", "Conv", True, 4.75), ("b", "Gelu", True, 2.0), ("c", "Conv", True, 0.5),
             ("e", "Conv", True, 3.0)]  # fmt: skip
    notes = (
        Diagnostic("Gelu() stays in float: the runtime has no integer kernel for it", "b"),
    )
    spots = spots_of(monkeypatch, made, plain, notes)

    kinds = ("DequantizeLinear", "Gelu", "QuantizeLinear")
    assert spots == [
        Hotspot("b", kinds, "the runtime has no integer kernel for it", 4.0, 2.0),
        Hotspot(
            "c",
            ("DequantizeLinear", "Conv"),
            "ONNX Runtime leaves its pairs alone and computes on floats",
            1.5,
            0.5,
        ),
        Hotspot(
            "a", ("QLinearConv",), "its integer kernel is slower than the float one", 5.0, 4.75
        ),
        Hotspot("d", ("QuantizeLinear",), "converts only", 0.25, 0.0),
        Hotspot(
            "between layers",
            ("Transpose",),
            "ONNX Runtime adds them between layers",
            0.125,
            0.0,
        ),
        Hotspot(
            "f", ("QLinearAdd",), "floats need no operator of their own for it", 0.0625, 0.0
        ),
    ]


def test_what_the_clock_does_not_tell_apart_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a", "QLinearConv", False, 0.051)]
    assert spots_of(monkeypatch, rows, [("a", "Conv", True, 0.05)]) == []


def test_renamed_operators_find_their_layer() -> None:
    target = OnnxRuntime(DEVICES[0])
    made = finished(target, quantized(GRAPH, FEEDS, scheme=target.scheme(), keep_float=KEPT))
    layer_of = edgec.hotspots._Layers(made.data)

    assert layer_of("conv1_token_12", "QLinearConv") == "conv1"
    assert layer_of("conv1/DequantizeLinear", "DequantizeLinear") == "add", "what needs it"
    assert layer_of("conv1", "DequantizeLinear") == "add"
    assert layer_of("conv1:0_nchwc", "Conv") == "conv1"
    assert layer_of("add.quantized", "QuantizeLinear") == "add"
    assert layer_of("conv12", "Conv") == ""
    assert layer_of("Transpose_token_3", "Transpose") == ""
