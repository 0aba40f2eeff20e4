"""What random graphs are held to: all that rounding leaves alone, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import run
from benchmarks.fuzz.composer import Case, Composer
from benchmarks.fuzz.judge import NOT_JUDGED, Verdict, judge
from benchmarks.fuzz.loader import Files, originals
from benchmarks.fuzz.noise import NotJudged, difference, reference
from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph, Op
from edgec.ops import (
    Add,
    ArgMax,
    Cast,
    Equal,
    Floor,
    IsInf,
    IsNaN,
    LpNorm,
    Mul,
    NonZero,
    ReduceMin,
    Relu,
    Resize,
    RoiAlign,
    Round,
    Softmax,
    TopK,
)
from tests.models import Sketch

X = np.array([[-1.5, 0.25, 2.0000002, 3.75]], np.float32)


def held(graph: Graph, x: Array = X) -> list[bool]:
    """Whether each element of the only output is held to a hundredth."""
    found = reference(graph, {"x": x}).tolerances(1e-5)[graph.outputs[0].name]
    return [] if found is None else [bool(t <= 0.01) for t in found.ravel()]


def test_a_step_that_rounding_may_take_is_not_judged() -> None:
    s = Sketch(1, 4)

    assert held(s.graph(s.add(Floor(), s.x))) == [True, True, False, True]


def test_the_larger_of_equals_is_not_judged() -> None:
    s = Sketch(1, 4)
    close = s.add(ArgMax(1), s.add(Softmax(), s.x))

    assert held(s.graph(close)) == [True]
    assert held(s.graph(close), np.array([[0.3, 0.7, 0.7, 0.1]], np.float32)) == [False]


def test_whole_numbers_and_zeros_stay() -> None:
    s = Sketch(1, 4)
    whole = s.add(
        Floor(), s.add(Mul(), s.add(Round(), s.x), s.const(np.full(1, 3, np.float32)))
    )
    same = s.add(Equal(), whole, s.add(Add(), whole, s.const(np.zeros(1, np.float32))))

    assert held(s.graph(same)) == [True] * 4
    places = Sketch(1, 4)
    graph = places.graph(places.add(NonZero(), places.add(Relu(), places.x)))
    assert held(graph) == [True] * 6


def test_results_of_uncertain_length_are_not_judged() -> None:
    s = Sketch(1, 4)
    graph = s.graph(s.add(NonZero(), s.add(Floor(), s.x)))

    assert held(graph, np.array([[1.0000001, 0.99999994, 1.5, 2.5]], np.float32)) == []


@pytest.mark.parametrize("index", range(4))
def test_any_other_number_is_wrong(index: int) -> None:
    s = Sketch(1, 4)
    graph = s.graph(s.add(Mul(), s.x, s.const(np.full(1, 3, np.float32))))
    want = reference(graph, {"x": X})
    got = {name: array.copy() for name, array in want.outputs.items()}
    assert not difference(want.outputs, got, want.tolerances(1e-5))

    got["v0"][0, index] += 2e-3
    assert f"v0[0, {index}]" in difference(want.outputs, got, want.tolerances(1e-5))
    assert "has shape" in difference(want.outputs, {"v0": got["v0"].T}, want.tolerances(1e-5))
    assert "is missing" in difference(want.outputs, {}, want.tolerances(1e-5))


def test_a_graph_that_does_not_run_under_noise_is_not_judged() -> None:
    """A region of no height that is turned over: with height it is refused."""
    s = Sketch(1, 1, 8, 8)
    boxes = s.const(np.array([[3.7, 0.3, 0.3, 0.3]], np.float32))
    pooled = s.add(RoiAlign(height=2, width=2), s.x, boxes, s.const(np.zeros(1, np.int64)))
    graph, feeds = s.graph(pooled), {"x": np.ones((1, 1, 8, 8), np.float32)}

    assert "v0" in evaluate(graph, feeds)
    with pytest.raises(NotJudged):
        reference(graph, feeds)
    assert judge(Case(graph, feeds)).tflite == NOT_JUDGED


@pytest.mark.parametrize(
    ("op", "fits", "not_so"),
    [
        (ArgMax(1), [0, 1], [np.nan, 1]),  # the largest, or none at all
        (Cast(DType.INT8), [-128.5, 127.5], [0, 128]),  # kept in range, or its last bits
        (Cast(DType.UINT8), [-0.5, 255], [-1, 0]),
        (Cast(DType.INT32), [-1e5, 2], [np.nan, 1]),
        (Resize(sizes=(2, 4), axes=(0, 1)), [0, 1], [np.inf, 1]),
        (ReduceMin((1,)), [0, np.inf], [0, np.nan]),
    ],
)
def test_what_the_standard_leaves_open_is_not_asked_for(
    op: Op, fits: list[float], not_so: list[float]
) -> None:
    c = Composer()
    x, y = (c.given(np.array([a], np.float32), constant=False) for a in (fits, not_so))

    assert c.add(op, x, wild=True) is not None
    assert c.add(op, y, wild=True) is None


def test_what_is_no_number_is_compared() -> None:
    c = Composer()
    x = c.given(np.array([np.nan, np.inf], np.float32), constant=False)

    assert all(c.add(op, x) is not None for op in (IsNaN(), IsInf()))
    assert c.add(Equal(), x, x) is not None


def test_a_judge_that_fails_is_a_fault_with_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(case: Case) -> Verdict:
        raise KeyError(str(len(case.graph.nodes)))

    monkeypatch.setattr(run, "judge", fails)
    monkeypatch.setattr(run, "_BATCH", 3)

    found = run._batch(tmp_path, tmp_path, 5)

    assert found.outcomes["WRONG"] == 3
    ((told, _, file),) = found.wrong.values()
    assert told.startswith("judge: KeyError")
    assert (tmp_path / file).exists()


def test_damage_is_the_same_every_time(tmp_path: Path) -> None:
    paths = originals(tmp_path, None)
    files = Files(tuple(paths), paths, seed=3)

    made = [files.damage(number).read_bytes() for number in (*range(30), *range(30))]
    assert made[:30] == made[30:]
    assert len(set(made)) == 30


def test_a_unit_that_a_norm_makes_moves_like_any_number() -> None:
    s = Sketch(1, 4)
    unit = s.add(LpNorm(axis=-2), s.x)  # of one element each: 1 or -1
    _, at = s.adds(TopK(axis=1, k=1), unit)
    want = reference(s.graph(unit, at), {"x": np.array([[3, 5, -2, 4]], np.float32)})
    moved = want.tolerances(1e-5)

    values, places = (moved[v] for v in want.outputs)
    assert values is not None
    assert (values > 1e-6).all()
    assert places is not None
    assert (places >= 1).all()  # which of those that are alike is first
