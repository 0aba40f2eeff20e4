from __future__ import annotations

import numpy as np
import pytest

from edgec.passes.factors import Cause, Factors

WHY = Cause("layer", "is what it is")


def test_number_zero_is_one() -> None:
    factors = Factors()
    assert not factors.free(np.zeros(1, np.int64)).any()
    assert factors.fresh(2, 3).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert factors.free(np.arange(7)).tolist() == [False, *[True] * 6]


@pytest.mark.parametrize(("fixed", "other"), [(0, 1), (1, 0)])
def test_what_is_tied_to_a_fixed_factor_is_fixed_for_its_cause(fixed: int, other: int) -> None:
    factors = Factors()
    numbers = factors.fresh(3)
    factors.fix(numbers[[fixed]], WHY)

    factors.tie(numbers[[other]], numbers[[fixed]])

    assert factors.free(numbers).tolist() == [False, False, True]
    assert factors.cause(int(numbers[other])) == WHY
    assert factors.cause(int(numbers[2])) is None


def test_ties_are_passed_on() -> None:
    factors = Factors()
    a, b, c = (factors.fresh(2) for _ in range(3))
    factors.tie(b, c)
    factors.tie(a, b)
    factors.fix(c[:1], WHY)

    assert (factors.find(a) == factors.find(c)).all()
    assert factors.free(a).tolist() == [False, True]


def test_arrays_that_are_tied_broadcast() -> None:
    factors = Factors()
    row, column = factors.fresh(1, 3), factors.fresh(2, 1)
    factors.tie(row, column)

    assert len(np.unique(factors.find(np.concatenate([row.ravel(), column.ravel()])))) == 1


def test_the_first_cause_stays() -> None:
    factors = Factors()
    numbers = factors.fresh(1)
    factors.fix(numbers, WHY)
    factors.fix(numbers, Cause("other", "comes later"))
    assert str(factors.cause(int(numbers[0]))) == "layer is what it is"
