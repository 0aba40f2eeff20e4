"""The cheapest offers within a budget, beside all that there are."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.precision import Allocator, Offer

_NUMBERS = st.integers(0, 50).map(float)
_LAYERS = st.lists(
    st.lists(st.builds(Offer, _NUMBERS, _NUMBERS), min_size=1, max_size=4),
    min_size=1,
    max_size=5,
)


@given(_LAYERS, st.integers(0, 200))
def test_nothing_within_the_budget_is_cheaper(layers: list[list[Offer]], budget: int) -> None:
    costs = [
        sum(o.cost for o in each)
        for each in product(*layers)
        if sum(o.error for o in each) <= budget
    ]

    picked = Allocator(layers).within(budget)

    assert (picked is None) == (not costs)
    if picked is not None:
        chosen = [each[i] for each, i in zip(layers, picked, strict=True)]
        assert sum(o.error for o in chosen) <= budget
        # Costs are rounded to steps of the most that can be spent.
        most = sum(max(o.cost for o in each) for each in layers)
        assert sum(o.cost for o in chosen) == pytest.approx(min(costs), abs=most / 2000)


def test_many_layers_are_no_trouble() -> None:
    layers = [[Offer(0, 1), Offer(1 + i % 7, 0.1), Offer(9, 0)] for i in range(300)]
    picked = Allocator(layers).within(100)
    assert picked is not None
    assert 0 < sum(i > 0 for i in picked) < 300


def test_a_layer_without_choice_takes_what_there_is() -> None:
    assert Allocator([[Offer(0, 3)], [Offer(0, 2), Offer(5, 0)]]).within(3) == (0, 1)
    assert Allocator([[Offer(0, 3)], [Offer(0, 2), Offer(5, 0)]]).within(5) == (0, 0)
    assert Allocator([[Offer(0, 3)]]).within(2) is None
