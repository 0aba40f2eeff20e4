"""How far rounding alone moves a graph, which no pass can be held to less than."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Graph
from edgec.ops import RNN, Add, Cast, Equal, Gather, MatMul, Mul, ReduceSum, Relu, Sub
from edgec.passes.rounding import rounding_floor
from tests.models import Sketch


def cancelling(dtype: DType) -> Graph:
    """``1000 x - 999 x``: moving x moves it as little as x, moving a constant a lot."""
    s = Sketch(2, 3, dtype=dtype)
    a = s.add(Mul(), s.x, s.const(np.full(3, 1000, dtype.numpy)))
    b = s.add(Mul(), s.x, s.const(np.full(3, 999, dtype.numpy)))
    return s.graph(s.add(Sub(), a, b))


def floor(graph: Graph, x: Array) -> float:
    feeds = {"x": x}
    return rounding_floor(graph, feeds, evaluate(graph, feeds))


def test_in_float32_the_inputs_move() -> None:
    s = Sketch(2, 3)
    graph = s.graph(s.add(Mul(), s.x, s.const(np.full(3, 7, np.float32))))

    assert floor(graph, np.ones((2, 3), np.float32)) == pytest.approx(2**-23, rel=0.2)


def test_the_inputs_move_apart() -> None:
    """Moved all alike, what cancels out would go on doing so."""
    s = Sketch(1, 4)
    graph = s.graph(s.add(ReduceSum((1,)), s.x))

    assert floor(graph, np.array([[1, -1, 1, -1]], np.float32)) > 1e-7


def test_in_float16_the_constants_move_too() -> None:
    assert floor(cancelling(DType.FLOAT32), np.ones((2, 3), np.float32)) < 1e-3
    assert floor(cancelling(DType.FLOAT16), np.ones((2, 3), np.float16)) > 0.5


def test_integers_do_not_move_but_the_constants_they_meet_do() -> None:
    s = Sketch(4, dtype=DType.INT64)
    y = s.add(Mul(), s.add(Cast(DType.FLOAT16), s.x), s.const(np.ones(4, np.float16)))

    assert floor(s.graph(y), np.array([1, 1, 1, 1])) == pytest.approx(2**-10, rel=0.1)


def test_words_move_by_the_table_that_they_are_looked_up_in() -> None:
    s = Sketch(4, dtype=DType.INT64)
    words = s.add(Gather(), s.const(np.ones((3, 2), np.float32)), s.x)
    graph = s.graph(s.add(Mul(), words, s.const(np.full(2, 2, np.float32))))

    # The factors stay as they are: moved too, they would add as much again.
    assert floor(graph, np.array([0, 1, 2, 1])) == pytest.approx(2**-23, rel=0.2)


def test_one_hot_words_move_by_the_matrix_they_meet() -> None:
    s = Sketch(4, dtype=DType.INT64)
    hot = s.add(Cast(DType.FLOAT32), s.add(Equal(), s.x, s.const(np.arange(4))))
    graph = s.graph(s.add(MatMul(), hot, s.const(np.ones((4, 2), np.float32))))

    assert floor(graph, np.array([0, 9, 9, 9])) == pytest.approx(2**-23, rel=0.2)


def test_what_is_given_in_float64_may_be_computed_in_float32() -> None:
    s = Sketch(3, dtype=DType.FLOAT64)
    plain = s.graph(s.add(Add(), s.x, s.x))
    t = Sketch(3, dtype=DType.FLOAT64)
    x = t.add(Cast(DType.FLOAT32), t.x)
    single = t.graph(t.add(Cast(DType.FLOAT64), t.add(Add(), x, x)))
    ones = np.ones(3)

    assert floor(plain, ones) < 1e-15
    assert floor(single, ones) == pytest.approx(2**-23, rel=0.1)


@pytest.mark.parametrize(("size", "least", "most"), [(1e-6, 1e-2, 10), (1.0, 0, 1e-5)])
def test_recurrent_layers_are_off_however_little_they_yield(
    size: float, least: float, most: float
) -> None:
    s = Sketch(3, 1, 4)
    y, _ = s.adds(RNN(), s.x, s.random(1, 5, 4), s.random(1, 5, 5))
    graph = s.graph(s.add(Relu(), y))

    assert least < floor(graph, np.full((3, 1, 4), size, np.float32)) < most
