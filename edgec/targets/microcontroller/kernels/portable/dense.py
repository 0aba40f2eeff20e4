"""Fully connected layers of int8 in portable C."""

from __future__ import annotations

from edgec.ir import DType
from edgec.program import Layer
from edgec.program.operators import FullyConnected
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code
from edgec.targets.microcontroller.kernels.portable.columns import Filters
from edgec.targets.microcontroller.kernels.portable.layouts import all_are, constant
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
    data = constant(layer, 1).reshape(weights.shape[-2], weights.shape[-1])
    count, length = data.shape
    rows = y.size // count
    filters = Filters.of(layer, core, op.activation, data)
    there, here = ("", "") if rows == 1 else (f" + n * {length}", f" + n * {count}")
    rest = "{weights}, {constants}, &filters"
    call = f"{filters.one.name}({{x0}}{there}, {{y0}}{here}, {rest});"
    if rows > 1:
        call = f"for (int32_t n = 0; n < {rows}; n++) {{{{\n    {call}\n}}}}"
    return Code(
        f"static const $filters filters = {filters.fields};\n{call}",
        (filters.one,),
        filters.tables,
        slack={0: row_slack(rows, length, count) - length},
        macs=rows * data.size,
    )
