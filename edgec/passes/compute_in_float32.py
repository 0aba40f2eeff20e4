"""Compute in float32 what is written in other floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.frontend.floats import in_float32
from edgec.ir import DType, Graph
from edgec.passes.base import Pass, Promise, Within

__all__ = ["ComputeInFloat32"]


@dataclass(frozen=True, slots=True)
class ComputeInFloat32(Pass):
    """Convert constants and layers of `dtypes` to float32, for runtimes without their kernels.

    Inputs and outputs keep their types, with a cast beside each. Nodes with subgraphs, and
    untyped ones that name an element type, stay as they are, between casts.

    Within 1e-3, or what rounding does to a model of 16-bit floats: it is computed more exactly
    than it was. Constants beyond the range of float32 become its largest number.
    """

    name: ClassVar[str] = "compute-in-float32"
    promise: ClassVar[Promise] = Within(1e-3)
    dtypes: tuple[DType, ...] = (DType.FLOAT16, DType.FLOAT64)

    @override
    def run(self, graph: Graph) -> Graph:
        return in_float32(graph, self.dtypes)
