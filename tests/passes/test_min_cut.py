"""The cheapest cut, against all cuts of small networks."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.passes.min_cut import Network

PLACES = ("s", "a", "b", "c", "t")

EDGES = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(PLACES), st.integers(0, 5)), max_size=14
)


@given(EDGES)
def test_no_cut_is_cheaper_and_none_as_cheap_has_fewer_on_the_side_of_the_sink(
    edges: list[tuple[str, str, int]],
) -> None:
    network = Network("s", "t")
    for edge in edges:
        network.add(*edge)
    total, side = network.cut()

    def cost(sink_side: set[str]) -> int:
        return sum(c for a, b, c in edges if a not in sink_side and b in sink_side)

    every = [
        {"t", *(p for p, chosen in zip("abc", bits, strict=True) if chosen)}
        for bits in product((False, True), repeat=3)
    ]
    assert total == cost({str(p) for p in side}) == min(map(cost, every))
    assert len(side) == min(len(s) for s in every if cost(s) == total)


def test_what_is_bound_together_cannot_be_parted() -> None:
    network = Network("s", "t")
    network.add("s", "a", float("inf"))
    network.add("a", "t", 1)
    assert network.cut() == (1, {"t"})

    network = Network("s", "t")
    network.add("s", "t", float("inf"))
    with pytest.raises(ValueError, match="cannot be parted"):
        network.cut()
