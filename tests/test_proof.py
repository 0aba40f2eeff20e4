"""The proof of artifacts: what is measured, and what counts as broken."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typing_extensions import override

from benchmarks.models import DATA
from edgec.compiler import CompileOptions, compile_model
from edgec.demo import CALIBRATION, MODEL, TEST
from edgec.errors import DataError, OptionError, UnsupportedError
from edgec.evaluate import OnnxSession
from edgec.export import to_onnx
from edgec.ir import Array, Constant, Graph
from edgec.numerics import EXACT_DB, Agreement
from edgec.ops import Dequantize
from edgec.original import reference
from edgec.proof import (
    Evaluation,
    Limits,
    Recorded,
    evaluate_accuracy,
    faults,
    metric_named,
    prove,
)
from edgec.targets import Artifact, OnnxRuntime, Runner, Target, Tflite
from edgec.targets.onnxruntime.devices import DEVICES
from tests.targets.graphs import f32, quantized, random, tiny_cnn

SILERO = DATA / "models/audio/silero_vad_16k_op15.onnx"

Feeds = Mapping[str, Array]
VNNI = OnnxRuntime(DEVICES[0])
NONE = Artifact(b"", "", (), (), {})


class Told(Runner):
    """Returns what a test says, sample by sample."""

    def __init__(self, answers: Sequence[Feeds]) -> None:
        super().__init__(NONE)
        self.answers = iter(answers)

    @override
    def raw(self, feeds: Feeds) -> dict[str, Array]:
        return dict(feeds)

    @override
    def run(self, feeds: Feeds) -> dict[str, Array]:
        return dict(next(self.answers))


class Original(OnnxSession):
    """Stands for a model in ONNX Runtime: returns what it is fed."""

    def __init__(self) -> None:
        self.inputs = self.outputs = ()

    @override
    def run(self, feeds: Feeds) -> dict[str, Array]:
        return dict(feeds)


def compared(wants: Sequence[Feeds], gots: Sequence[Feeds]) -> Agreement:
    return prove(wants, {"told": Told(gots)}, iter(wants))["told"]


def one(want: Sequence[object], got: Sequence[object]) -> Agreement:
    """Compare one sample of one output."""
    return compared([{"y": f32(want)}], [{"y": f32(got)}])


class TestAgreement:
    def test_the_ratio_is_taken_of_sums_over_all_samples(self) -> None:
        wants = [{"y": f32([3, 4])}, {"y": f32([0, 1])}]
        gots = [{"y": f32([3, 4])}, {"y": f32([0.5, 1])}]

        found = compared(wants, gots)

        assert found.sqnr_db == pytest.approx(10 * math.log10(26 / 0.25))
        assert found.samples == 2
        assert found.max_error == 0.5
        assert found.max_relative_error == 0.5 / 4

    def test_the_worst_output_counts(self) -> None:
        want = {"good": f32([10, 20]), "bad": f32([1, 2])}
        got = {"good": f32([10, 20]), "bad": f32([1, 1])}

        found = compared([want], [got])

        assert found.sqnr_db == pytest.approx(10 * math.log10(5))
        assert found.max_relative_error == 1

    def test_no_noise_is_the_highest_ratio(self) -> None:
        assert one([1, 2], [1, 2]).sqnr_db == EXACT_DB
        assert one([0, 0], [0, 0]).sqnr_db == EXACT_DB

    def test_noise_without_signal_is_the_lowest(self) -> None:
        assert one([0, 0], [0, 1]).sqnr_db == -EXACT_DB

    def test_ties_count_as_agreement(self) -> None:
        want = [[1, 3, 2], [1, 3, 2], [3, 1, 3], [1, 2, 3]]
        got = [[3, 3, 0], [3, 0, 0], [0, 0, 3], [0, 0, 1]]

        found = one(want, got)

        # Tied first; plainly other; tied in the reference; the same.
        assert found.top1 == 3 / 4

    @pytest.mark.parametrize("shape", [(4,), (4, 1), (1, 2, 2)])
    def test_outputs_without_classes_have_no_top1(self, shape: tuple[int, ...]) -> None:
        x = random(*shape)

        assert compared([{"y": x}], [{"y": x}]).top1 is None

    def test_top1_is_a_share_of_all_rows(self) -> None:
        wants = [{"y": f32([[1, 0]])}, {"y": f32([[1, 0], [0, 1]])}]
        gots = [{"y": f32([[0, 1]])}, {"y": f32([[1, 0], [0, 1]])}]

        assert compared(wants, gots).top1 == pytest.approx(2 / 3)


def said(agreement: Agreement, *, quantized: bool = True, **limits: float) -> list[str]:
    return [str(d) for d in faults(agreement, quantized=quantized, limits=Limits(**limits))]


class TestFaults:
    def test_a_faithful_artifact_has_none(self) -> None:
        found = one([1, 2], [1, 2.0001])

        assert said(found) == said(found, quantized=False) == []

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_numbers_that_are_none(self, bad: float) -> None:
        found = one([1, 2], [1, bad])

        for kind in (True, False):
            assert "output y: has NaN or infinities" in said(found, quantized=kind)

    def test_a_constant_where_the_model_varies(self) -> None:
        found = compared([{"y": f32([1])}, {"y": f32([2])}], [{"y": f32([1])}] * 2)

        assert "output y: never varies, but the model's does" in said(found, min_sqnr_db=-99)
        assert "output y: never varies, but the model's does" in said(found, quantized=False)

    def test_a_constant_model_may_be_constant(self) -> None:
        assert said(one([2, 2], [2, 2])) == []

    def test_too_much_noise(self) -> None:
        found = one([1, 1], [1, 2])  # 3.01 dB

        assert said(found, min_sqnr_db=3) == []
        assert said(found) == [
            "signal-to-noise ratio is 3.0 dB, less than 5 (more samples, --keep-float LAYER or "
            "a recipe of more bits may help; edgec debug names the layers)"
        ]

    def test_too_large_an_error(self) -> None:
        found = one([0, 10], [0.02, 10])

        assert said(found, quantized=False, max_float_error=0.003) == []
        assert said(found, quantized=False) == [
            "largest error is 0.002 of the output's range, more than 0.001"
        ]
        assert said(found) == []

    def test_all_that_is_wrong_is_said_at_once(self) -> None:
        want = {"a": f32([1, 2]), "b": f32([1, 2])}

        found = compared([want], [{"a": f32([5, 5]), "b": f32([math.nan, 1])}])

        assert len(said(found)) == 3
        assert len(said(found, quantized=False)) == 3

    def test_progress_counts_samples(self) -> None:
        seen: list[int] = []
        feeds = [{"y": f32([1])}] * 3

        prove(feeds, {"told": Told(feeds)}, iter(feeds), seen.append)

        assert seen == [1, 2, 3]


def images(count: int) -> Iterator[Feeds]:
    return ({"image": random(1, 3, 8, 8, seed=seed)} for seed in range(count))


def original(graph: Graph, folder: Path) -> OnnxSession:
    path = folder / "model.onnx"
    path.write_bytes(to_onnx(graph).SerializeToString())
    return reference(path)


def proven(target: Target, graph: Graph, folder: Path) -> list[str]:
    """Compile a graph, and compare it with the float network that it should be."""
    runner = target.load(target.compile(graph))
    wants = Recorded(original(tiny_cnn()[0], folder), images(8))
    found = prove(wants, {"it": runner}, images(8))["it"]
    return said(found, quantized=any(isinstance(n.op, Dequantize) for n in graph.nodes))


def changed(graph: Graph, name: str, array: Array) -> Graph:
    assert array.dtype == graph.constants[name].array.dtype
    constants = {**graph.constants, name: Constant(array)}
    return Graph(graph.name, graph.inputs, graph.outputs, graph.nodes, constants)


def finished(target: Target) -> Graph:
    graph = quantized(tiny_cnn()[0], *images(4), scheme=target.scheme())
    for step in target.finish():
        graph = step.run(graph)
    return graph


TARGETS = pytest.mark.parametrize("target", [Tflite(), VNNI], ids=lambda t: t.name)


@TARGETS
class TestRealArtifacts:
    def test_good_ones_pass(self, target: Target, tmp_path: Path) -> None:
        assert proven(target, tiny_cnn()[0], tmp_path) == []
        assert proven(target, finished(target), tmp_path) == []

    def test_weights_of_zero_are_caught(self, target: Target, tmp_path: Path) -> None:
        graph = finished(target)
        broken = changed(graph, "scores.1.quantized", np.zeros((5, 4), np.int8))

        assert any("signal-to-noise ratio" in line for line in proven(target, broken, tmp_path))

    def test_a_wrong_bias_is_caught(self, target: Target, tmp_path: Path) -> None:
        graph = finished(target)
        bias = graph.constants["scores.2.quantized"].array
        broken = changed(graph, "scores.2.quantized", -64 * bias)

        assert any("signal-to-noise ratio" in line for line in proven(target, broken, tmp_path))

    def test_a_slip_in_a_float_artifact_is_caught(self, target: Target, tmp_path: Path) -> None:
        graph, _ = tiny_cnn()
        weight = graph.constants["scores.1"].array.copy()
        weight[0, 0] += np.float32(0.2)
        broken = changed(graph, "scores.1", weight)

        (only,) = proven(target, broken, tmp_path)
        assert only.startswith("largest error is ")

    def test_a_dead_output_is_caught(self, target: Target, tmp_path: Path) -> None:
        graph = finished(target)
        dead = {"scores.1.quantized": (5, 4), "scores.2.quantized": (5,)}
        for name, shape in dead.items():
            zeros = np.zeros(shape, graph.constants[name].array.dtype)
            graph = changed(graph, name, zeros)

        assert "output classes: never varies, but the model's does" in proven(
            target, graph, tmp_path
        )

    def test_a_wrong_scale_is_caught(self, target: Target, tmp_path: Path) -> None:
        graph = finished(target)
        nodes = list(graph.nodes)
        at = next(i for i, n in enumerate(nodes) if n.output.name == "image.dequantized")
        op = nodes[at].op
        assert isinstance(op, Dequantize)
        params = replace(op.params, scale=(op.params.scale[0] * 8,))
        nodes[at] = replace(nodes[at], op=replace(op, params=params))
        broken = replace(graph, nodes=tuple(nodes))

        if isinstance(target, Tflite):  # a tensor of TFLite has one scale
            with pytest.raises(UnsupportedError, match="dequantized as it was quantized"):
                target.compile(broken)
        else:
            assert any("ratio" in line for line in proven(target, broken, tmp_path))


LABELS = np.array([0, 1, 1, 0])
SCORES = [{"y": f32(row)} for row in ([[2, 1]], [[0, 3]], [[5, 1]], [[1, 0]])]


def judged(labels: Array | None, metric: str | None = None,
           answers: Sequence[Feeds] = SCORES) -> Evaluation:  # fmt: skip
    runners = {"told": Told(answers)}
    return evaluate_accuracy(Original(), runners, iter(SCORES), labels, metric)


class TestAccuracy:
    def test_is_the_share_of_labels_that_are_hit(self) -> None:
        worse = [SCORES[1], *SCORES[1:]]

        found = judged(LABELS, answers=worse)

        assert found == Evaluation(4, "accuracy", 0.75, {"told": 0.5}, {"told": 0.75})

    def test_labels_may_be_a_column(self) -> None:
        assert judged(LABELS.reshape(-1, 1)).reference == 0.75

    def test_missing_labels_are_refused(self) -> None:
        with pytest.raises(DataError) as caught:
            judged(None)

        assert str(caught.value) == (
            "the evaluation data have no 'labels'; add them, or give --metric"
        )

    @pytest.mark.parametrize("labels", [LABELS[:3], np.zeros(5, np.int64), LABELS[:0]])
    def test_labels_of_the_wrong_number_are_refused(self, labels: Array) -> None:
        with pytest.raises(DataError, match=f"there are {len(labels)} labels for 4 samples"):
            judged(labels)

    def test_no_samples_are_refused(self) -> None:
        with pytest.raises(DataError, match="there are no evaluation samples"):
            evaluate_accuracy(Original(), {}, iter(()), LABELS, None)

    def test_an_output_without_classes_is_refused(self) -> None:
        feeds = [{"map": random(1, 2, 3, 3), "box": random(1, 1)}]

        with pytest.raises(DataError) as caught:
            evaluate_accuracy(Original(), {"told": Told(feeds)}, iter(feeds), LABELS[:1], None)

        assert str(caught.value) == (
            "accuracy needs an output of shape [N, classes]\n"
            "  outputs are map [1, 2, 3, 3], box [1, 1] (give a --metric module:function)"
        )

    def test_the_first_output_with_classes_is_judged(self) -> None:
        feeds = [{"map": random(1, 2, 3), "y": f32([[0, 1]]), "z": f32([[1, 0]])}]

        found = evaluate_accuracy(
            Original(), {"t": Told(feeds)}, iter(feeds), np.array([1]), None
        )

        assert (found.reference, found.artifacts["t"]) == (1, 1)

    def test_ties_agree(self) -> None:
        tied = [SCORES[0], {"y": f32([[3, 3]])}, *SCORES[2:]]

        assert judged(LABELS, answers=tied).top1 == {"told": 1}

    def test_progress_counts_samples(self) -> None:
        seen: list[int] = []

        evaluate_accuracy(Original(), {}, iter(SCORES), LABELS, None, seen.append)

        assert seen == [1, 2, 3, 4]


@pytest.fixture
def metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's in the current folder."""
    (tmp_path / "my_metrics.py").write_text(
        "number = 3\n"
        "def shape(outputs, labels):\n"
        "    (y,) = outputs.values()\n"
        "    return 100 * y.shape[0] + y.shape[1] + (0 if labels is None else labels.sum())\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_metrics", raising=False)
    return tmp_path


@pytest.mark.usefixtures("metrics")
class TestMetric:
    def test_gets_all_outputs_joined_and_the_labels(self) -> None:
        before = list(sys.path)

        found = judged(LABELS, "my_metrics:shape")

        assert (found.metric, found.reference) == ("my_metrics:shape", 404)
        assert found.artifacts == {"told": 404}
        assert found.top1 == {"told": None}
        assert sys.path == before

    def test_needs_no_labels(self) -> None:
        assert judged(None, "my_metrics:shape").reference == 402

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("my_metrics", "--metric my_metrics: expected module:function"),
            (":shape", "--metric :shape: expected module:function"),
            ("my_metrics:", "--metric my_metrics:: expected module:function"),
            (
                "no_such:f",
                "--metric no_such:f: cannot be imported: ModuleNotFoundError: "
                "No module named 'no_such'",
            ),
            (
                "my_metrics:missing",
                "--metric my_metrics:missing: module my_metrics has no function missing",
            ),
            (
                "my_metrics:number",
                "--metric my_metrics:number: module my_metrics has no function number",
            ),
        ],
    )
    def test_that_does_not_exist_is_refused(self, text: str, message: str) -> None:
        before = list(sys.path)

        with pytest.raises(OptionError) as caught:
            metric_named(text)

        assert str(caught.value) == message
        assert caught.value.exit_code == 2
        assert sys.path == before


def test_what_a_model_computes_is_recorded_once_and_read_as_often_as_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgec.proof._IN_MEMORY_BYTES", 100)  # the rest goes to the disk
    feeds = [{"y": f32(range(n))} for n in (3, 50, 1)]
    seen: list[int] = []
    found = Recorded(Original(), iter(feeds), seen.append)

    assert seen == [1, 2, 3]
    for _ in range(2):
        for want, got in zip(feeds, found, strict=True):
            np.testing.assert_array_equal(got["y"], want["y"])
    assert [len(a["y"]) + len(b["y"]) for a, b in zip(found, found, strict=True)] == [6, 100, 2]


def test_a_network_that_always_says_the_same_is_constant() -> None:
    agreement = Agreement()
    same = {"y": np.array([[0.1, 0.9]], np.float32)}
    for i in range(3):
        agreement.add({"y": np.array([[i / 2, 1 - i / 2]], np.float32)}, same)

    assert agreement.constant() == ("y",)


def test_changes_below_what_8_bits_resolve_may_be_lost() -> None:
    agreement = Agreement()
    same = {"y": np.array([[0.0, 1.0]], np.float32)}
    for i in range(3):
        agreement.add({"y": np.array([[i / 1000, 1.0]], np.float32)}, same)

    assert agreement.constant() == ()


def test_nan_in_the_reference_is_not_the_artifacts_fault_but_hides_nothing() -> None:
    agreement = Agreement()
    want = {"y": np.array([[np.nan, 1.0, 2.0]], np.float32)}
    agreement.add(want, {"y": np.array([[np.nan, 1.0, 1.5]], np.float32)})

    assert agreement.not_finite() == ()
    assert agreement.max_error == 0.5


def test_a_metric_that_fails_is_the_users_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_judge.py").write_text("def f(outputs, labels):\n    return 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    options = CompileOptions(("tflite",), None, CALIBRATION, TEST, metric="failing_judge:f")

    with pytest.raises(OptionError, match=r"the metric failed on .* ZeroDivisionError"):
        compile_model(MODEL, options)


@pytest.mark.parametrize(
    ("want", "got", "broken"),
    [
        ([0.25, 0.25], [0.25, 0.25 + 6e-8], False),  # constant up to rounding
        ([1e5], [1e5 + 0.01], False),
        ([1e-5], [9e-4], True),
        ([0.00104782], [0.00104782 * (1 + 5e-6)], False),  # all there is of a probability
        ([0.00104782], [0.00104782 * (1 + 2e-3)], True),
        ([0.25, 0.25], [0.25, 0.25 + 1e-6], True),
    ],
)
def test_an_output_without_a_range_is_judged_by_its_magnitude(
    want: list[float], got: list[float], broken: bool
) -> None:
    assert bool(said(one(want, got), quantized=False)) == broken


@pytest.mark.skipif(not SILERO.exists(), reason="the model is not at hand; set EDGEC_DATA")
def test_a_model_that_says_how_likely_something_is_is_proven() -> None:
    shapes = {"input": (1, 512), "state": (2, 1, 128)}
    result = compile_model(SILERO, CompileOptions(("tflite",), shapes=shapes))

    assert "silero_vad_16k_op15.tflite" in result.files
