from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgec.ir import Array
from edgec.passes.clustering import Clustering
from edgec.passes.compensated_rounding import damped


def problem(
    groups: int = 1, outputs: int = 12, n: int = 27, *, free: bool = False
) -> Clustering:
    rng = np.random.default_rng(3)
    mixed = rng.standard_normal((groups, n, n)) + 0.5
    x = rng.standard_normal((groups, 8 * n, n)) @ mixed
    weight = rng.standard_normal((groups, outputs, n)) * rng.uniform(
        0.2, 3, (groups, outputs, 1)
    )
    scale = np.abs(weight).max(axis=2) / 127
    return Clustering(weight, x.transpose(0, 2, 1) @ x / (8 * n), scale, (-127, 127), free)


def error(p: Clustering, weight: Array) -> float:
    off = p.target - weight
    return float(np.einsum("gon,gnm,gom->", off, damped(p.hessian, 0.05), off))


@pytest.mark.parametrize("per_channel", [False, True], ids=["layer", "channel"])
@pytest.mark.parametrize("groups", [1, 6])
def test_all_integers_are_letters(per_channel: bool, groups: int) -> None:
    p = problem(groups, 8 if groups == 1 else 1)

    found = p.into(6, per_channel=per_channel)

    assert found.alphabet.shape == ((*p.target.shape[:2], 6) if per_channel else (6,))
    letters = np.broadcast_to(found.alphabet, (*p.target.shape[:2], 6))
    taken = (found.integers[..., None] == letters[:, :, None, :]).any(axis=-1)
    assert taken.all()
    assert np.abs(found.integers).max() <= 127
    got = found.integers * found.scale[:, :, None]
    assert found.error == pytest.approx(error(p, got))


@pytest.mark.parametrize("per_channel", [False, True], ids=["layer", "channel"])
def test_errors_make_up_for_each_other(per_channel: bool) -> None:
    p = problem()

    found = p.into(6, per_channel=per_channel)

    assert found.error < 0.8 * error(p, p.plainly(6, per_channel=per_channel))


@pytest.mark.parametrize("per_channel", [False, True], ids=["layer", "channel"])
def test_letters_follow_the_choices(per_channel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem()
    found = p.into(6, per_channel=per_channel)

    monkeypatch.setattr("edgec.passes.clustering._TURNS", 0)

    assert found.error < 0.97 * p.into(6, per_channel=per_channel).error


def test_more_letters_cost_less_and_all_integers_next_to_nothing() -> None:
    p = problem()

    errors = [p.into(k, per_channel=False).error for k in (2, 4, 16, 64, 255)]

    assert sorted(errors, reverse=True) == errors
    power = float(np.einsum("gon,gnm,gom->", p.target, p.hessian, p.target))
    assert errors[-1] < 1e-3 * power


def test_scales_are_fitted_where_they_are_free() -> None:
    p = problem()

    fixed, free = (replace(p, free=f).into(8, per_channel=False) for f in (False, True))

    np.testing.assert_array_equal(fixed.scale, p.scale)
    assert (free.scale != p.scale).any()
    assert (np.abs(free.scale / p.scale - 1) <= 0.4 + 1e-9).all()
    assert free.error < fixed.error


def test_letters_are_fitted_to_what_the_inputs_weigh() -> None:
    """Weights of inputs that are nearly always zero leave no trace in the alphabet."""
    p = problem(outputs=4, n=40)
    big = p.target.copy()
    big[:, :, 20:] *= 8
    hessian = np.diag(np.where(np.arange(40) < 20, 1.0, 1e-8))[None]
    p = replace(p, target=big, hessian=hessian, scale=np.abs(big).max(axis=2) / 127)

    found = p.into(16, per_channel=False)

    inner = (p.target / p.scale[:, :, None])[:, :, :20]
    off = np.abs(inner - found.integers[:, :, :20])
    assert off.mean() < 0.08 * np.abs(inner).max()


def test_the_same_comes_out_each_time() -> None:
    first, second = (problem().into(5, per_channel=True) for _ in range(2))

    np.testing.assert_array_equal(first.integers, second.integers)
    np.testing.assert_array_equal(first.alphabet, second.alphabet)
