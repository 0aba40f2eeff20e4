from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgec.ir import Array, Graph
from edgec.ops import Add, Mul, Relu, Softmax
from edgec.passes import LayerRecord
from edgec.passes.judging import Judge, judged, surely_nearer
from tests.targets.graphs import Feeds, Net, f32, random


def times(factor: float) -> Graph:
    net = Net(x=(1, 4))
    return net.graph(net.add("y", Mul(), "x", f32([factor])))


def error(reference: Graph, graph: Graph, feeds: Sequence[Feeds]) -> float:
    return float(Judge(reference, feeds).errors(graph).sum())


class TestErrors:
    def test_are_relative_to_each_output_and_sample(self) -> None:
        def graph(*moved: float) -> Graph:
            net = Net(x=(1, 4))
            net.add("a", Add(), "x", f32([moved]))
            net.add("b", Mul(), "x", f32([10]))
            return net.graph("a", "b")

        feeds: list[Feeds] = [{"x": np.full((1, 4), n, np.float32)} for n in (0, 1)]
        judge = Judge(graph(1, 1, 1, 1), feeds)

        assert not judge.errors(graph(1, 1, 1, 1)).any()
        errors = judge.errors(graph(1, 1, 1, 3))
        np.testing.assert_allclose(errors, [[4 / 4, 0], [4 / 16, 0]])
        assert judge.ratio(np.array([[0.1, 0.01], [0.1, 0.01]])) == pytest.approx(15)

    def test_a_sample_that_is_next_to_nothing_is_no_measure(self) -> None:
        feeds: list[Feeds] = [{"x": np.full((1, 4), n, np.float32)} for n in (1, 1e-4, 1)]
        errors = Judge(times(1), feeds).errors(times(2))
        np.testing.assert_allclose(errors[:, 0], [1, 1e-8 / (0.1 * 2 / 3), 1], rtol=1e-4)

    def test_a_softmax_is_judged_by_what_it_tells_apart(self) -> None:
        def made(*moved: float) -> Graph:
            net = Net(x=(1, 4))
            net.add("a", Add(), "x", f32([moved]))
            return net.graph(net.add("y", Softmax(-1), "a"))

        feeds: list[Feeds] = [{"x": f32([[-1, 1, 1, -1]])}]
        assert error(made(0, 0, 0, 0), made(2, 2, 2, 2), feeds) == 0
        assert error(made(0, 0, 0, 0), made(2, -2, 0, 0), feeds) == pytest.approx(8 / 4)


def column(*errors: float) -> Array:
    return np.array(errors)[:, None]


class TestSurelyNearer:
    noise = np.random.default_rng(0).lognormal(0, 1, (32, 1))

    def test_by_what_cannot_be_chance(self) -> None:
        before = self.noise
        assert surely_nearer(before * 0.9, before)
        assert not surely_nearer(before / 0.9, before)
        assert not surely_nearer(before, before)
        assert not surely_nearer(self.noise[::-1] * 0.9, before)

    def test_one_sample_with_a_large_error_does_not_decide(self) -> None:
        before, now = column(*[1.0] * 15, 100), column(*[1.05] * 15, 1)
        assert now.mean() < before.mean() / 3
        assert not surely_nearer(now, before)

    def test_nor_do_many_small_ones_against_it(self) -> None:
        before, now = column(*[1.0] * 15, 100), column(*[0.9] * 15, 130)
        assert not surely_nearer(now, before)

    def test_no_output_may_become_surely_worse(self) -> None:
        before = np.hstack([self.noise, self.noise])
        assert surely_nearer(before * [0.5, 1], before)
        assert not surely_nearer(before * [0.5, 1.1], before)

    def test_what_is_no_number_is_not_nearer(self) -> None:
        before = self.noise
        assert not surely_nearer(np.where(before == before[3], np.nan, before / 2), before)
        assert not surely_nearer(np.where(before == before[3], np.inf, before / 2), before)
        assert not surely_nearer(np.empty((8, 0)), np.empty((8, 0)))


@pytest.mark.parametrize(("made", "kept"), [(1.05, "rounded"), (1.2, "plain"), (1.1, "plain")])
def test_only_what_is_nearer_is_kept(made: float, kept: str) -> None:
    samples = [{"x": random(1, 4, seed=k)} for k in range(8)]
    graphs = times(1), times(1.1), times(made)
    graph, (record,) = judged(*graphs, samples, [LayerRecord("y", 10.0, 20.0, "rounded")])

    assert graph is (graphs[2] if kept == "rounded" else graphs[1])
    assert record.kept == kept
    assert record.after_db == (20 if kept == "rounded" else 10)


def signed(below: float, above: float) -> Graph:
    """Return a graph that multiplies negative numbers and positive ones."""
    net = Net(x=(1, 4))
    net.add("p", Mul(), net.add("a", Relu(), "x"), f32([above]))
    net.add("n", Mul(), net.add("b", Relu(), net.add("m", Mul(), "x", f32([-1]))), f32([below]))
    return net.graph(net.add("y", Add(), "p", "n"))


def test_it_has_to_be_nearer_on_samples_held_out_and_on_all() -> None:
    ones = np.ones((1, 4))
    samples = [{"x": f32(ones if k % 4 == 3 else -ones)} for k in range(16)]

    def kept(below: float, above: float) -> bool:
        made = signed(below, above)
        return judged(signed(1, 1), signed(1.1, 1.1), made, samples, [])[0] is made

    assert kept(1.05, 1.05)
    assert not kept(1.05, 1.11)
    assert not kept(1.115, 1.05)
