"""The cheapest mix whose artifact loses no more than allowed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edgec.cache import Cache
from edgec.errors import NumericsError, UnsupportedError
from edgec.ops import Dequantize
from edgec.passes import Pipeline, Precision
from edgec.precision import Loss, Search, choices, search, sensitivities
from edgec.quantizing import Mix, Quantizing
from edgec.targets import Tflite
from edgec.targets.tflite.devices import device_named
from tests.precision.conftest import Way

NOTHING = Cache(None)


def silent(stage: str, done: int, total: int) -> None:
    pass


def found(
    way: Quantizing, limit: float, lost: Mapping[str, float], cache: Cache = NOTHING
) -> Search[Mix]:
    """Search with made-up losses: those of layers that are not raised add up."""

    def measure(mix: Mix) -> tuple[Loss, int]:
        return Loss(sum(v for k, v in lost.items() if k not in mix)), 1000 + len(mix)

    return search(way, dict, measure, limit, cache, silent)


class TestSearch:
    def test_what_holds_at_once_is_left_as_the_recipe_says(self, way: Way) -> None:
        result = found(way(), 1.0, {})
        assert result.holds
        assert not result.raised
        assert not result.made
        assert len(result.tries) == 1
        assert not result.sensitivities

    def test_raises_only_as_much_as_is_needed(self, way: Way) -> None:
        given = way()
        layers = [c for c in choices(given) if c.precisions[0] == "int4"]
        measured = sensitivities(given, choices(given), NOTHING, lambda done, total: None)
        noise = {s.choices.name: s.errors[0] for s in measured}
        worst = max(layers, key=lambda c: noise[c.name])

        result = found(given, 0.5, {worst.name: 1.0})

        assert result.holds
        assert worst.name in result.made
        assert len(result.raised) < len(choices(given))
        assert {r.before for r in result.raised} <= {"int4", "int8"}
        tried = [t for t in result.tries if t.lost.value <= 0.5]
        assert min(t.raised for t in tried) == len(result.raised)

    def test_the_best_is_kept_where_nothing_is_enough(self, way: Way) -> None:
        names = [c.name for c in choices(way())]
        result = found(way(), 0.5, {"never": 1.0, **dict.fromkeys(names, 0.01)})

        assert not result.holds
        assert result.lost.value == min(t.lost.value for t in result.tries)
        assert result.lost.value >= 1
        assert result.made
        # A model of floats alone is not what was asked for.
        everything = {p for c in choices(way()) if (p := result.made.get(c.name))}
        assert len(result.made) < len(names) or everything - {"float16", "float32"}

    def test_an_artifact_that_does_not_run_loses_everything(self, way: Way) -> None:
        def measure(mix: Mix) -> tuple[Loss, int]:
            if not mix:
                raise NumericsError("it does not run")
            return Loss(0.0), 1

        result = search(way(), dict, measure, 0.0, NOTHING, silent)

        assert result.holds
        assert result.tries[0].lost.value == math.inf
        assert json.dumps(result.to_dict(), allow_nan=False)

    def test_a_mix_that_the_target_cannot_express_is_one_that_loses_everything(
        self, way: Way
    ) -> None:
        def make(mix: Mix) -> Mix:
            if 0 < len(mix) < 4:
                raise UnsupportedError("not so")
            return mix

        def measure(mix: Mix) -> tuple[Loss, int]:
            return Loss(0.0 if mix else 1.0), 1

        result = search(way(), make, measure, 0.0, NOTHING, silent)

        assert result.holds
        assert len(result.raised) >= 4
        assert any(t.lost.value == math.inf for t in result.tries)

    def test_a_recipe_that_the_target_cannot_express_is_an_error(self, way: Way) -> None:
        def make(mix: Mix) -> Mix:
            raise UnsupportedError("not so")

        with pytest.raises(UnsupportedError):
            search(way(), make, lambda mix: (Loss(0.0), 1), 0.0, NOTHING, silent)


class TestSensitivities:
    def test_fewer_bits_make_more_noise_and_floats_none(self, way: Way) -> None:
        given = way()
        layers = choices(given)
        for s in sensitivities(given, layers, NOTHING, lambda done, total: None):
            errors = dict(zip(s.choices.precisions, s.errors, strict=True))
            assert errors["float32"] == 0
            if "int4" in errors:
                assert errors["int4"] > 2 * errors["int8"] > 0
            if "float16" in errors:
                assert errors["float16"] < errors["int8"] / 100

    def test_one_layer_is_measured_at_a_time(self, way: Way) -> None:
        given = way()
        layers = choices(given)
        mix: dict[str, Precision] = {c.name: "float32" for c in layers[1:]}
        graph, _ = Pipeline(given.passes(mix, "fast")).run(given.graph)
        weights = [
            n for n in graph.nodes if isinstance(n.op, Dequantize) and n.op.params.axis == 0
        ]
        assert len(weights) == 1 + sum(
            1 for n in graph.nodes if n.layer == layers[0].layer and len(n.inputs) > 2
        )

    def test_what_was_measured_is_not_measured_again(
        self, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given, cache = way(), Cache(tmp_path)
        first = sensitivities(given, choices(given), cache, lambda done, total: None)

        def refuse(*args: object, **options: object) -> None:
            raise AssertionError("measured again")

        monkeypatch.setattr("edgec.precision.sensitivity.Judge", refuse)
        assert sensitivities(given, choices(given), cache, lambda done, total: None) == first
        with pytest.raises(AssertionError, match="measured again"):
            sensitivities(way("static_wi8_ai8"), choices(given), cache, lambda d, t: None)

    def test_one_that_was_cut_off_goes_on(self, way: Way, tmp_path: Path) -> None:
        given, cache = way(), Cache(tmp_path)
        layers = choices(given)
        whole = sensitivities(given, layers, NOTHING, lambda done, total: None)

        def cut(done: int, total: int) -> None:
            if done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            sensitivities(given, layers, cache, cut)
        (file,) = tmp_path.iterdir()
        assert len(json.loads(file.read_text())) == 3
        assert sensitivities(given, layers, cache, lambda done, total: None) == whole


class TestChoices:
    def test_ladders_begin_with_the_recipe(self, way: Way) -> None:
        ladders = {c.operator: c.precisions for c in choices(way())}
        assert ladders["Conv"] == ("int4", "int8", "int16", "float16", "float32")
        ladders = {c.operator: c.precisions for c in choices(way("static_wi8_ai8"))}
        assert ladders["Conv"] == ("int8", "int16", "float16", "float32")

    def test_more_bits_cost_more(self, way: Way) -> None:
        for c in choices(way()):
            assert c.costs[0] == 0
            costs = dict(zip(c.precisions, c.costs, strict=True))
            slow = costs.pop("int16", 0.0)  # of all kernels the slowest
            assert slow >= 0
            assert list(costs.values()) == sorted(costs.values())

    def test_what_is_faster_than_16_bits_costs_no_less_than_nothing(self, way: Way) -> None:
        given = way("static_wi8_ai16")
        layers = choices(given)
        assert all(cost >= 0 for c in layers for cost in c.costs)
        result = found(given, 0.5, {layers[0].name: 1.0})
        assert result.holds
        assert layers[0].name in result.made

    def test_an_npu_computes_on_integers_only(self, way: Way) -> None:
        given = way("static_wi8_ai8")
        assert isinstance(given.target, Tflite)
        npu = replace(given, target=replace(given.target, device=device_named("ethos-u55")))
        ladders = {c.operator: c.precisions for c in choices(npu)}
        assert ladders["Conv"] == ("int8", "int16")
        slow = {c.operator: c for c in choices(given)}["Conv"]
        quick = {c.operator: c for c in choices(npu)}["Conv"]
        assert quick.costs[1] < slow.costs[1]

    def test_depthwise_layers_of_16_bits_cost_most(self, way: Way) -> None:
        found = {c.operator: c for c in choices(way("static_wi8_ai8"))}
        shares = {}
        for name in ("Conv", "DepthwiseConv"):
            costs = dict(zip(found[name].precisions, found[name].costs, strict=True))
            shares[name] = costs["int16"] / costs["float32"]
        assert shares["DepthwiseConv"] > 5 * shares["Conv"]

    def test_layers_of_16_bits_are_nearer_than_those_of_8(self, way: Way) -> None:
        given = way("static_wi8_ai8")
        layers = choices(given)
        found = sensitivities(given, layers, NOTHING, lambda done, total: None)
        wide = {
            s.choices.name: s.errors[1] for s in found if s.choices.precisions[1] == "int16"
        }
        narrow = {s.choices.name: s.errors[0] for s in found if s.choices.name in wide}
        assert sum(wide.values()) < sum(narrow.values())
