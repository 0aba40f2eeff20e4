"""Small ``.tflite`` files written operator by operator, as other converters write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from benchmarks.models import DATA
from edgec.ir import Array, DType, QuantParams
from edgec.targets.tflite.model import Model, Operator, Tensor
from edgec.targets.tflite.schema import serialize

__all__ = ["FILES", "HALF", "MODELS", "Sketch"]

MODELS = DATA / "models"
FILES = sorted(MODELS.rglob("*.tflite"))
HALF = QuantParams((0.5,), (-3,))
"""A grid as good as any other."""


class Sketch:
    """A file while it is written; tensors are their numbers."""

    def __init__(self, seed: int = 0) -> None:
        self.model = Model("net")
        self.variables: set[int] = set()
        self.rng = np.random.default_rng(seed)

    def value(
        self,
        *shape: int,
        dtype: DType = DType.INT8,
        grid: QuantParams | None = HALF,
        name: str = "",
    ) -> int:
        """A tensor that is fed or computed; -1 for a length that is left open."""
        n = len(self.model.tensors)
        self.model.tensors.append(Tensor(name or f"t{n}", dtype, shape, None, grid))
        return n

    def input(self, *shape: int, dtype: DType = DType.INT8, name: str = "x") -> int:
        """A tensor that is fed."""
        k = self.value(*shape, dtype=dtype, name=name)
        self.model.inputs.append((name, k))
        return k

    def constant(self, array: Array, grid: QuantParams | None = None) -> int:
        """A tensor with contents."""
        n, dtype = len(self.model.tensors), DType.of(array.dtype)
        self.model.tensors.append(Tensor(f"c{n}", dtype, array.shape, array, grid))
        return n

    def ints(self, *numbers: int) -> int:
        """A list of integers."""
        return self.constant(np.array(numbers, np.int32))

    def weights(self, *shape: int, axis: int | None = None) -> int:
        """Random weights, with one scale or one for each index of an axis."""
        count = 1 if axis is None else shape[axis]
        scale = tuple(float(np.float32(s)) for s in self.rng.uniform(0.001, 0.02, count))
        array = self.rng.integers(-127, 128, shape, dtype=np.int8)
        return self.constant(array, QuantParams(scale, (0,) * count, axis))

    def bias(self, count: int) -> int:
        """Random biases."""
        array = self.rng.integers(-2000, 2000, count, dtype=np.int32)
        return self.constant(array, QuantParams((0.001,), (0,)))

    def op(
        self,
        code: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        table: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """One operator."""
        self.model.operators.append(
            Operator(code, tuple(inputs), tuple(outputs), (table, options or {}))
        )

    def data(self, *outputs: int) -> bytes:
        """The file with these outputs."""
        self.model.outputs = [(f"y{k}", k) for k in outputs]
        data = serialize(self.model)
        if not self.variables:
            return data
        model = schema.ModelT.InitFromPackedBuf(data)
        for k in self.variables:
            model.subgraphs[0].tensors[k].isVariable = True
        builder = flatbuffers.Builder(len(data))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
