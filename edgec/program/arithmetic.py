"""TFLite Micro's arithmetic on integers: factors between scales, and rounding twice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

import numpy as np
import numpy.typing as npt

from edgec.program.operators import Activation, FullyConnected
from edgec.program.program import Layer
from edgec.program.tensors import Tensor

__all__ = [
    "Ints",
    "Multiplier",
    "multiplied",
    "multipliers_of",
    "output_range",
    "rounds_clearly",
]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Multiplier:
    """A factor in integers: ``value * 2 ** (shift - 31)``, where `value` has 31 bits."""

    value: int
    shift: int

    @classmethod
    def of(cls, factor: float) -> Self:
        """Return the closest one; 0 for factors too small to matter, as TFLite does.

        Raises
        ------
        ValueError
            If `factor` is negative or not finite.
        """
        if not 0 <= factor < math.inf:
            raise ValueError(f"{factor} cannot be a factor between scales")
        mantissa, shift = math.frexp(factor)
        value = math.floor(mantissa * 2**31 + 0.5)
        if value == 2**31:
            value, shift = 2**30, shift + 1
        return cls(0, 0) if shift < -31 else cls(value, shift)

    def times(self, numbers: npt.ArrayLike) -> Ints:
        """Return integers times this factor, rounded twice."""
        return multiplied(
            np.asarray(numbers, np.int64), np.int64(self.value), np.int64(self.shift)
        )


def multiplied(numbers: Ints, values: Ints | np.int64, shifts: Ints | np.int64) -> Ints:
    """Return integers times ``values * 2 ** (shifts - 31)``, rounded twice."""
    left, right = np.maximum(shifts, 0), np.maximum(-shifts, 0)
    high = (np.left_shift(numbers, left) * values + (1 << 30)) >> 31
    mask = np.left_shift(np.int64(1), right) - 1
    rest: Ints = high & mask
    return (high >> right) + (rest > (mask >> 1) + (high < 0))


def multipliers_of(layer: Layer) -> tuple[Multiplier, ...]:
    """Return the factor of each output channel of a convolution or a matrix product.

    Raises
    ------
    ValueError
        If a tensor has no scale, or a scale is 0.
    """
    weights, result = layer.input(1), layer.output
    if weights.grid is None:
        raise ValueError(f"{weights.name} has no scale")
    given, wanted = layer.input(0).scale, result.scale
    if wanted == 0:
        raise ValueError(f"{result.name} has the scale 0")
    scales = weights.grid.scale
    if isinstance(layer.op, FullyConnected) and len(scales) == 1:
        # TFLite Micro forms this product in float32, and only this one.
        product = float(np.float32(given) * np.float32(scales[0]))
        return (Multiplier.of(product / wanted),) * result.shape[-1]
    factors = tuple(Multiplier.of(given * scale / wanted) for scale in scales)
    return factors if len(factors) > 1 else factors * result.shape[-1]


_ENDS: Mapping[Activation, tuple[float | None, float | None]] = MappingProxyType(
    {
        "none": (None, None),
        "relu": (0.0, None),
        "relu6": (0.0, 6.0),
        "relu_n1_to_1": (-1.0, 1.0),
    }
)


def output_range(activation: Activation, result: Tensor) -> tuple[int, int]:
    """Return the least and the greatest integer that a layer stores after its activation."""
    low, high = result.dtype.limits
    least, greatest = _ENDS[activation]
    if least is not None:
        low = max(low, _on_grid(least, result))
    if greatest is not None:
        high = min(high, _on_grid(greatest, result))
    return low, high


def rounds_clearly(activation: Activation, result: Tensor) -> bool:
    """Whether where an activation ends is the same integer however it is rounded."""
    ends = (end for end in _ENDS[activation] if end is not None)
    places = (abs(end / result.scale) % 1 for end in ends)
    return all(abs(place - 0.5) > 1 / 64 for place in places)


def _on_grid(number: float, tensor: Tensor) -> int:
    quotient = float(np.float32(number) / np.float32(tensor.scale))
    return tensor.zero_point + math.floor(abs(quotient) + 0.5) * (1 if quotient >= 0 else -1)
