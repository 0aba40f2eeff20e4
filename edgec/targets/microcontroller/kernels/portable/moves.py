"""Moves of numbers that stay as they are, in portable C."""

from __future__ import annotations

from edgec.program import Layer
from edgec.program.operators import Reshape
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code
from edgec.targets.microcontroller.kernels.portable.columns import COPY

__all__ = ["reshape"]


def reshape(layer: Layer, core: Core) -> Code | None:
    """Nothing is to be done: the numbers lie as they are."""
    if not isinstance(layer.op, Reshape):
        return None
    size = layer.output.size_bytes
    return Code(
        f"(void)$copy((int8_t *)(void *){{y0}}, (const int8_t *)(const void *){{x0}}, {size});",
        (COPY,),
        slack={0: 0},
        view=True,
    )
