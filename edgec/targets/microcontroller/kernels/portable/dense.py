"""Fully connected layers of int8 in portable C."""

from __future__ import annotations

import numpy as np

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import FullyConnected
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Table
from edgec.targets.microcontroller.kernels.portable.columns import (
    FILTERS_1,
    filter_constants,
)
from edgec.targets.microcontroller.kernels.portable.layouts import all_are, bias_of, constant
from edgec.targets.microcontroller.kernels.requantization import multipliers_of, output_range
from edgec.targets.microcontroller.kernels.traversal import row_slack

__all__ = ["fully_connected"]


def fully_connected(layer: Layer, core: Core) -> Code | None:
    """Rows of weights against rows of numbers."""
    op = layer.op
    if not isinstance(op, FullyConnected):
        return None
    x, weights, y = layer.input(0), layer.input(1), layer.output
    if not all_are(DType.INT8, x, weights, y) or weights.data is None:
        return None
    if weights.grid is None or any(weights.grid.zero_point):
        return None
    data = np.ascontiguousarray(constant(layer, 1)).reshape(
        weights.shape[-2], weights.shape[-1]
    )
    count, length = data.shape
    rows = y.size // count
    constants = filter_constants(data, bias_of(layer), x.zero_point, multipliers_of(layer))
    low, high = output_range(op.activation, y)
    there, here = ("", "") if rows == 1 else (f" + n * {length}", f" + n * {count}")
    call = f"$filters_1({{x0}}{there}, {{y0}}{here}, {{weights}}, {{constants}}, &filters);"
    if rows > 1:
        call = f"for (int32_t n = 0; n < {rows}; n++) {{{{\n    {call}\n}}}}"
    fields = f"{count}, {length}, {y.zero_point}, {low}, {high}"
    return Code(
        f"static const $filters filters = {{{{{fields}}}}};\n{call}",
        (FILTERS_1,),
        {"weights": Table(data.reshape(-1), {"weights": data.size}), "constants": constants},
        slack={0: row_slack(rows, length, count) - length},
        macs=rows * data.size,
    )
