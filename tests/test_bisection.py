"""The set of layers to keep in float is enough, and none of it can be spared."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.bisection import Required, bisect
from edgec.ir import Array
from edgec.numerics import Agreement

LAYERS = [f"layer{i}" for i in range(8)]


class Model:
    """Layers that each add a noise of their own to the output while they are in integers."""

    def __init__(self, noises: Iterable[float]) -> None:
        self.noises = dict(zip(LAYERS, noises, strict=True))
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, kept: tuple[str, ...]) -> Agreement:
        self.asked.append(kept)
        noise = sum(v for k, v in self.noises.items() if k not in kept)
        want = np.full((1, 4), 0.5, np.float32)
        want[0, 2] = 1
        found = Agreement()
        found.add({"y": want}, {"y": _moved(want, noise)})
        return found


def _moved(want: Array, noise: float) -> Array:
    moved = want.copy()
    moved[0, 0] += np.float32(np.sqrt(noise))
    return moved


def test_nothing_is_kept_if_all_is_well() -> None:
    model = Model([1e-6] * 8)

    found = bisect(LAYERS, model, Required(sqnr_db=30))

    assert found.kept == ()
    assert model.asked == [()]


def test_the_worst_layers_are_kept_in_the_order_of_the_model() -> None:
    model = Model([1e-6, 1e-6, 1e-1, 1e-6, 1e-6, 1e-6, 2e-1, 1e-6])

    found = bisect(LAYERS, model, Required(sqnr_db=30))

    assert found.kept == ("layer2", "layer6")
    assert list(found.alone)[:2] == ["layer6", "layer2"]
    assert found.alone["layer6"].sqnr_db == pytest.approx(10 * np.log10(1.75 / 0.2), abs=0.01)
    assert found.before.sqnr_db < 10
    assert found.after.sqnr_db > 30
    assert found.runs == len(model.asked)


def most(noise: float) -> Required:
    """Return the goal that holds up to a sum of noises; the signal's energy is 1.75."""
    return Required(sqnr_db=10 * np.log10(1.75 / noise) - 0.01)


def test_one_that_does_much_is_better_than_many_that_do_little() -> None:
    found = bisect(LAYERS, Model([0.1, 0.1, 0.1, 0, 0, 0, 0, 0.3]), most(0.3))

    assert found.kept == ("layer7",)


def test_what_was_ranked_too_high_goes_back() -> None:
    ranking = Model([0.5, 0.4, 0.3, 0.2, 0, 0, 0, 0])

    found = bisect(LAYERS, Model([0, 0, 0, 0.5, 0, 0, 0, 0]), most(0.1), rank=ranking)

    assert found.kept == ("layer3",)


def test_of_two_that_could_go_back_the_lower_ranked_does() -> None:
    ranking = Model([0.5, 0.4, 0.3, 0, 0, 0, 0, 0])

    found = bisect(LAYERS, Model([0.2, 0.2, 0.5, 0, 0, 0, 0, 0]), most(0.25), rank=ranking)

    assert found.kept == ("layer0", "layer2")


@given(st.lists(st.floats(0, 1), min_size=8, max_size=8), st.floats(0, 40))
def test_the_set_is_enough_and_none_of_it_can_be_spared(
    noises: list[float], goal: float
) -> None:
    model, required = Model(noises), Required(sqnr_db=goal)

    found = bisect(LAYERS, model, required)

    assert required.holds(model(found.kept))
    for name in found.kept:
        assert not required.holds(model(tuple(k for k in found.kept if k != name)))


def test_agreement_is_a_goal_too() -> None:
    model = Model([0, 0, 0, 4.0, 0, 0, 0, 0])  # enough to make another class the first

    found = bisect(LAYERS, model, Required(agreement=1.0))

    assert found.before.top1 == 0
    assert found.kept == ("layer3",)
    assert found.after.top1 == 1


@pytest.mark.parametrize("required", [Required(sqnr_db=20, agreement=1.0), Required(20)])
def test_no_graph_is_measured_twice(required: Required) -> None:
    model, ranking = Model(np.linspace(0, 0.1, 8)), Model(np.linspace(0, 0.1, 8))

    found = bisect(LAYERS, model, required, rank=ranking)

    assert len(set(model.asked)) == len(model.asked)
    assert [set(LAYERS) - set(kept) for kept in ranking.asked] == [{name} for name in LAYERS]
    assert found.runs == len(model.asked) + len(LAYERS)


def test_progress_never_goes_back() -> None:
    seen: list[tuple[int, int]] = []

    bisect(
        LAYERS,
        Model([0.1] * 8),
        Required(sqnr_db=20),
        lambda done, of: seen.append((done, of)),
    )

    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert all(done <= of for done, of in seen)
