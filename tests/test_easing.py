"""What is done to a float model before it is quantized, by effort."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler import CompileOptions, compile_model
from edgec.debugging import DebugOptions, debug_model
from edgec.easing import easing
from edgec.export import to_onnx
from edgec.frontend import Loaded
from edgec.ir import Builder, Graph
from edgec.ops import Activation, FullyConnected
from edgec.options import targets_for
from edgec.passes import ChooseScales, PassRecord
from edgec.preparation import calibration_report
from edgec.split import Split
from tests.models import feeds
from tests.passes.test_choose_scales import uneven
from tests.passes.test_migrate_scales import block
from tests.targets.graphs import Net, random

BOTH = ("tflite", "onnxruntime")
OPTIONS = CompileOptions(
    BOTH,
    "static_wi8_ai8",
    {"x": np.concatenate([random(1, 3, 8, 8, seed=seed) for seed in range(32)])},
    scheme="per-tensor",
    effort="full",
    min_sqnr_db=-99,
    compare_speed=False,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("easing") / "uneven.onnx"
    path.write_bytes(to_onnx(uneven()).SerializeToString())
    return path


def ledger(report: dict[str, Any], target: str = "tflite") -> dict[str, Any]:
    """The passes that a target's graph went through, by name and in order."""
    return {line["pass"]: line for line in report["ledger"] if line["target"] == target}


def test_one_scale_a_layer_makes_channels_alike_first(model: Path) -> None:
    report = compile_model(model, OPTIONS).report
    plain = compile_model(model, replace(OPTIONS, effort="fast")).report

    for k, target in enumerate(BOTH):
        names = list(ledger(report, target))
        assert names.index("choose-scales") < names.index("quantize")
        layers = ledger(report, target)["choose-scales"]["layers"]
        assert "chosen" in {line["kept"] for line in layers}
        assert "choose-scales" not in ledger(plain, target)
        now, before = (r["artifacts"][k]["fidelity"]["sqnr_db"] for r in (report, plain))
        assert now > before + 6


def test_targets_share_the_work_where_the_graph_is_the_same(model: Path) -> None:
    said: list[str] = []
    compile_model(model, OPTIONS, lambda stage, done, total: said.append(stage))

    assert said.count("choose-scales") == 1


def test_a_scale_for_each_channel_needs_none_of_it(model: Path) -> None:
    options = replace(OPTIONS, scheme=None, targets=("tflite",))
    layers = ledger(compile_model(model, options).report)["choose-scales"]["layers"]
    assert not any("equalize" in line["layer"] for line in layers)
    quick = replace(options, effort="default")
    assert "choose-scales" not in ledger(compile_model(model, quick).report)


def test_layers_are_debugged_beside_the_float_model(model: Path) -> None:
    options = replace(OPTIONS, targets=("tflite",))
    found = debug_model(model, options, DebugOptions())
    plain = debug_model(model, replace(options, effort="fast"), DebugOptions())

    assert [layer["layer"] for layer in found["layers"]] == ["a + a/Relu", "y"]
    assert found["output"]["sqnr_db"] > plain["output"]["sqnr_db"] + 6


def test_a_calibration_report_shows_the_values_of_the_model(model: Path) -> None:
    options = replace(OPTIONS, targets=("tflite",))
    names = {t["name"] for t in calibration_report(model, options)["tensors"]}

    assert names == {"x", "a", "y"}


def test_more_effort_tries_whatever_there_is(model: Path) -> None:
    options = replace(OPTIONS, targets=("tflite",))
    layers = ledger(compile_model(model, options).report)["choose-scales"]["layers"]

    tried = {line["layer"]: line["kept"] for line in layers if "scales: " in line["layer"]}
    assert set(tried) == {
        "scales: equalize-layers",
        *(f"scales: migrate-scales {strength}" for strength in (0.25, 0.5, 0.75)),
    }
    assert sorted(tried.values()) == ["chosen", "plain", "plain", "plain"]


def test_transformers_have_scales_migrated_by_default(tmp_path: Path) -> None:
    path = tmp_path / "block.onnx"
    graph = block()
    path.write_bytes(to_onnx(graph).SerializeToString())
    x = np.concatenate([feeds(graph, seed)["x"] for seed in range(32)])
    options = replace(OPTIONS, calibration={"x": x}, scheme=None, effort="default")

    report = compile_model(path, options).report
    plain = compile_model(path, replace(options, effort="fast")).report

    for k, target in enumerate(BOTH):
        tried = ledger(report, target)["choose-scales"]["layers"][:3]
        assert [line["layer"] for line in tried] == [
            f"scales: migrate-scales {strength}" for strength in (0.25, 0.5, 0.75)
        ]
        assert "chosen" in {line["kept"] for line in tried}
        now, before = (r["artifacts"][k]["fidelity"]["sqnr_db"] for r in (report, plain))
        assert now > before + 6


@pytest.mark.parametrize("count", [12, 32])
def test_what_only_fits_the_samples_is_not_kept(tmp_path: Path, count: int) -> None:
    # Every channel is above zero on the samples, by luck: what is taken off the bias there
    # cuts off results of others.
    rng = np.random.default_rng(0)
    bias = (rng.random(16) * 6 + 0.8).astype(np.float32)
    first, second = (rng.normal(0, 0.3, s).astype(np.float32) for s in ((16, 16), (8, 16)))
    net = Net(x=(1, 16))
    net.add("a", FullyConnected(Activation.RELU), "x", first, bias)
    graph = net.graph(net.add("y", FullyConnected(), "a", second, np.zeros(8, np.float32)))
    path = tmp_path / "biases.onnx"
    path.write_bytes(to_onnx(graph).SerializeToString())
    x = rng.normal(0, 0.7, (count, 16)).astype(np.float32)
    options = replace(OPTIONS, calibration={"x": x}, scheme=None, targets=("onnxruntime",))

    passes = ledger(compile_model(path, options).report, "onnxruntime")

    kept = {line["layer"]: line["kept"] for line in passes["choose-scales"]["layers"]}
    assert kept["scales: absorb-biases"] == "plain"


@pytest.mark.parametrize(
    ("scheme", "bits", "effort", "ways", "rounds"),
    [
        (None, 8, "default", 0, False),
        ("per-tensor", 8, "default", 0, False),
        ("per-tensor", 8, "full", 5, True),
        (None, 8, "full", 4, False),
        (None, 4, "full", 4, True),
    ],
)
def test_ways_follow_from_scheme_and_effort(
    scheme: str | None, bits: int, effort: str, ways: int, *, rounds: bool
) -> None:
    recipe = f"static_wi{bits}_ai8"
    options = replace(OPTIONS, targets=("tflite",), scheme=scheme, recipe=recipe, effort=effort)
    (target,) = targets_for(options)
    loaded = Loaded(uneven(), Path(), frozenset({"x"}), 18)
    data = Split(loaded, options.calibration, None, calibrates=True)

    steps = easing(target, loaded.graph, data, options)

    found = [(len(s.ways), s.rounds) for s in steps if isinstance(s, ChooseScales)]
    assert found == ([(ways, rounds)] if ways else [])
    assert not easing(target, loaded.graph, data, replace(options, effort="fast"))


def test_debugging_compares_with_the_model_itself(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(_: object, graph: Graph, *rest: object) -> tuple[Graph, tuple[PassRecord, ...]]:
        b = Builder(graph)
        for node in graph.nodes:
            weight = graph.constant(node.inputs[1])
            assert weight is not None
            b.add(node.op, b.now(node.inputs[0]), b.constant(2 * weight, "w"), like=node)
        return b.finish(), ()

    monkeypatch.setattr("edgec.preparation.eased", doubled)
    found = debug_model(model, replace(OPTIONS, targets=("tflite",)), DebugOptions())

    assert found["output"]["sqnr_db"] < 0  # four times as much is an error of three times
