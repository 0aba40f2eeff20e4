"""What the operators of a program read and write."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from edgec.ir import Array, DType, QuantParams

__all__ = ["Tensor"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of a program, channels last.

    Parameters
    ----------
    shape
        Lengths of its axes, all known: a batch that the file leaves open is 1.
    grid
        How its integers stand for real numbers; ``None`` where they are no such integers.
    data
        Contents of a constant; ``None`` for what is computed or fed.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    grid: QuantParams | None = None
    data: Array | None = field(default=None, compare=False, repr=False)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes where it is computed."""
        return self.size * self.dtype.numpy.itemsize

    @property
    def scale(self) -> float:
        """The scale of the whole tensor, exactly a float32.

        Raises
        ------
        ValueError
            If it has none, or several.
        """
        if self.grid is None or len(self.grid.scale) != 1:
            raise ValueError(f"{self.name} has not one scale")
        return self.grid.scale[0]

    @property
    def zero_point(self) -> int:
        """The integer that stands for zero; raises as :attr:`scale` does."""
        if self.grid is None or len(self.grid.zero_point) != 1:
            raise ValueError(f"{self.name} has not one zero point")
        return self.grid.zero_point[0]
