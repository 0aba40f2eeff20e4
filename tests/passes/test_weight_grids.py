from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgec.ir import Array, DType
from edgec.ops import dequantize_array, quantize_array
from edgec.passes.weight_grids import weight_params
from tests.targets.graphs import f32

WEIGHTS = hnp.arrays(
    np.float32,
    (3, 5),
    elements=st.floats(-8, 8, width=32).map(lambda v: v if abs(v) > 1e-3 else 0),
)


def error(w: Array, top: int, dtype: DType, channel: int | None) -> Array:
    params = weight_params(w, channel, top)
    on_grid = quantize_array(w, params, dtype, most=top)
    assert int(np.abs(on_grid.astype(int)).max(initial=0)) <= top
    off = dequantize_array(on_grid, params) - w.astype(np.float64)
    return np.asarray(np.square(off).sum(axis=1))


@given(WEIGHTS)
def test_eight_bits_reach_the_largest_weight(w: Array) -> None:
    params = weight_params(w, 0, 127)

    peaks = np.abs(w).max(axis=1)
    np.testing.assert_allclose(
        np.array(params.scale)[peaks > 0], peaks[peaks > 0] / 127, rtol=1e-6
    )
    assert set(params.zero_point) == {0}
    assert params.axis == 0


@given(WEIGHTS)
def test_four_bits_err_no_more_than_on_the_grid_of_the_largest_weight(w: Array) -> None:
    plain = np.maximum(np.abs(w).max(axis=1, keepdims=True) / 7, 1e-30).astype(np.float64)
    want = np.square(np.clip(np.rint(w / plain), -7, 7) * plain - w).sum(axis=1)

    assert (error(w, 7, DType.INT4, 0) <= want * (1 + 1e-5) + 1e-9).all()


def test_four_bits_cut_off_what_is_far_out() -> None:
    w = f32([[10.0, *np.linspace(-4, 4, 200)]])

    (scale,) = weight_params(w, 0, 7).scale
    assert 4 / 7 < scale < 9 / 7


def test_one_scale_for_all() -> None:
    w = f32([[1, -2], [4, 0.5]])
    params = weight_params(w, None, 127)

    assert params.axis is None
    assert params.scale == (float(np.float32(4 / 127)),)


@pytest.mark.parametrize("channel", [0, None])
def test_a_bias_fits_into_32_bits(channel: int | None) -> None:
    w, bias = f32([[1e-6], [1.0]]), f32([3e5, 0])
    params = weight_params(w, channel, 127, bias, x_scale=0.01)

    scales = np.array(params.scale) * 0.01
    assert (np.abs(bias / scales) <= 2**31 - 1).all()


@pytest.mark.parametrize(("channel", "axis"), [(0, 1), (1, 0)])
def test_the_axis_of_channels_is_that_of_the_rule(channel: int, axis: int) -> None:
    w = f32([[1, 2], [4, 8]])

    assert weight_params(w, channel, 1 << 20).scale == tuple(
        float(np.float32(v / 2**20)) for v in w.max(axis=axis)
    )
