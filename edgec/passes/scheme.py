"""How a device wants integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgec.ir import DType, Op

__all__ = ["Precision", "Scheme"]

Precision = Literal["int4", "int8", "int16", "float16", "float32"]
"""How a layer computes: with weights of 4 or 8 bits between 8-bit activations, with 8-bit
weights between 16-bit activations, or on floats with weights stored in 16 or 32 bits."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a device wants integers.

    Parameters
    ----------
    activation
        Element type of activations: int8 or uint8.
    weight_max
        Largest magnitude of a weight's integer. 127 is all of int8 without -128; 63 leaves
        kernels room that add pairs of products in 16 bits.
    packed
        Layers whose weights have 4 bits.
    per_channel
        Whether weights have a scale for each output channel, or one for all.
    floating
        Operators that the runtime has no integer kernel for: a pair of quantize and
        dequantize around them would only add work and error.
    """

    activation: DType = DType.INT8
    weight_max: int = 127
    floating: tuple[type[Op], ...] = ()
    packed: tuple[type[Op], ...] = ()
    per_channel: bool = True

    def weights_of(self, op: Op) -> tuple[DType, int]:
        """Return element type and largest integer of the weights of a layer."""
        if isinstance(op, self.packed):
            return DType.INT4, DType.INT4.limits[1]
        return DType.INT8, self.weight_max
