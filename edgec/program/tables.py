"""The tables of a ``.tflite`` file as they stand there, with nothing trusted.

FlatBuffers are read in place: every number that leads elsewhere is one that a hostile file may
have chosen. The reader underneath is Python and raises where it would leave the file; here
lists are bounded as well, together, since many tables may name the same long list.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.errors import Diagnostic, ModelError
from edgec.ir import Array, DType, QuantParams
from edgec.program.faults import Fault
from edgec.program.tensors import Tensor

__all__ = ["ANY", "DTYPES", "MICROCONTROLLER", "Entry", "Room", "Tables", "read_tables"]

DTYPES = {
    schema.TensorType.FLOAT32: DType.FLOAT32,
    schema.TensorType.FLOAT16: DType.FLOAT16,
    schema.TensorType.INT4: DType.INT4,
    schema.TensorType.INT8: DType.INT8,
    schema.TensorType.UINT8: DType.UINT8,
    schema.TensorType.INT16: DType.INT16,
    schema.TensorType.INT32: DType.INT32,
    schema.TensorType.INT64: DType.INT64,
    schema.TensorType.BOOL: DType.BOOL,
}
"""Element types by their numbers in the schema."""

_CODES = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}


@dataclass(frozen=True, slots=True)
class Room:
    """What is believed of a file.

    Parameters
    ----------
    tables
        The most tensors, or operators.
    axes, elements
        The most that a tensor has.
    least
        The least length of an axis.
    """

    tables: int
    axes: int
    elements: int
    least: int


# TFLite Micro's shapes hold 6 axes. A tensor is smaller than that: sums of a few such sizes
# fit 32 bits.
MICROCONTROLLER = Room(1 << 16, 6, 1 << 28, 1)
"""Files that may run on microcontrollers."""

ANY = Room(1 << 22, 32, 1 << 48, 0)
"""All that numpy can hold."""

_NAME_BYTES = 1024

_AGAIN = "download the file again, or convert the model again"

_DAMAGE = (struct.error, IndexError, ValueError, TypeError, OverflowError)
"""What the reader of FlatBuffers raises where an offset or a length leads out of the file."""

_NUMPYS_WORDS = ("buffer is smaller", "offset must be", "negative dimensions")

# A table without fields: every option has its default.
_NO_OPTIONS = struct.pack("<HHi", 4, 4, 4)

_TINY_SCALE = 2.0**-120
"""Stands for a scale of 0: what is multiplied by it is 0 in TFLite's arithmetic, too."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One operator as the file has it.

    Parameters
    ----------
    code
        Name of the builtin, or ``CUSTOM:`` and a name.
    inputs, outputs
        Numbers of tensors that are there; -1 for an operand that is left out.
    layer
        The user's name for it: that of its first result.
    version
        Of the builtin.
    """

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    layer: str
    table: Any
    version: int = 1

    def options(self, name: str) -> Any:
        """Return its options as a table of the schema; the defaults if it has no such ones."""
        options = getattr(schema, name)()
        options.Init(_NO_OPTIONS, 4)
        with _reading():
            table = self.table.BuiltinOptions()
            kind = self.table.BuiltinOptionsType()
            if table is not None and kind == getattr(schema.BuiltinOptions, name):
                options.Init(table.Bytes, table.Pos)
        return _Options(options)


class _Options:
    """A table of options, each read when it is asked for."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __getattr__(self, name: str) -> Callable[[], Any]:
        def read() -> Any:
            with _reading():
                return getattr(self.table, name)()

        return read


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise Fault(f"its options are damaged: {_reason(error)}") from error


@dataclass(frozen=True, slots=True)
class Tables:
    """What the first subgraph of a file holds.

    Parameters
    ----------
    variables
        Numbers of the tensors that keep their contents between runs.
    sparse
        Numbers of the tensors whose contents are stored without their zeros.
    """

    tensors: tuple[Tensor, ...]
    entries: tuple[Entry, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    variables: tuple[int, ...]
    sparse: frozenset[int]


def read_tables(data: bytes, called: str = "the file", room: Room = MICROCONTROLLER) -> Tables:
    """Return what a file holds.

    Raises
    ------
    ModelError
        If it is no TFLite file, or a damaged one.
    """
    if data[4:8] != b"TFL3":
        raise ModelError(f"{called} is not a TFLite file")
    try:
        return _File(data, room).tables()
    except _DAMAGE as error:
        found = Diagnostic(_reason(error), hint=_AGAIN)
        raise ModelError(f"{called} is damaged", [found]) from error


def _reason(error: Exception) -> str:
    """Return what was wrong, in words of this file's making where the reader below has none."""
    if type(error) is ValueError and not str(error).startswith(_NUMPYS_WORDS):
        return str(error)
    return "an offset leads out of the file"


class _File:
    def __init__(self, data: bytes, room: Room) -> None:
        self.data, self.room = data, room
        self.root = schema.Model.GetRootAs(data)
        # Files share lists at most here and there; more than this would take long to read.
        self.entries_left = 4 * len(data) + 1024

    def tables(self) -> Tables:
        if self.root.SubgraphsLength() < 1:
            raise ValueError("there is no subgraph")
        graph = self.root.Subgraphs(0)
        found = range(self.count(graph.TensorsLength(), "tensors"))
        tables = [graph.Tensors(i) for i in found]
        tensors = tuple(self.tensor(table) for table in tables)
        operators = range(self.count(graph.OperatorsLength(), "operators"))
        return Tables(
            tensors,
            tuple(self.entry(graph.Operators(i), i, tensors) for i in operators),
            self.indices(graph.InputsLength, graph.InputsAsNumpy, len(tensors)),
            self.indices(graph.OutputsLength, graph.OutputsAsNumpy, len(tensors)),
            tuple(i for i in found if tables[i].IsVariable() and tensors[i].data is None),
            frozenset(i for i in found if tables[i].Sparsity() is not None),
        )

    def count(self, length: int, of: str) -> int:
        if length > self.room.tables:
            raise ValueError(f"a list claims to hold {length} {of}")
        return self.spend(length)

    def spend(self, length: int) -> int:
        self.entries_left -= length
        if self.entries_left < 0:
            raise ValueError("its lists are longer than the file")
        return length

    def vector(self, length: Callable[[], int], read: Callable[[], Any]) -> list[int | float]:
        """Return a list of numbers."""
        if self.spend(length()) == 0:
            return []
        found: list[int | float] = read().tolist()
        return found

    def indices(
        self, length: Callable[[], int], read: Callable[[], Any], tensors: int
    ) -> tuple[int, ...]:
        found = tuple(int(i) for i in self.vector(length, read))
        for i in found:
            if not -1 <= i < tensors:
                raise ValueError(f"a tensor is named by the number {i} of {tensors}")
        return found

    def text(self, raw: bytes | None) -> str:
        raw = raw or b""
        self.spend(len(raw))
        found = raw[:_NAME_BYTES].decode("utf-8", "replace")
        return "".join(c if c.isprintable() else "?" for c in found)  # it goes to terminals

    def entry(self, table: Any, number: int, tensors: tuple[Tensor, ...]) -> Entry:
        index = table.OpcodeIndex()
        if not 0 <= index < self.root.OperatorCodesLength():
            raise ValueError(f"the operator {number} is of a kind that is not in the file")
        kind = self.root.OperatorCodes(index)
        builtin = max(kind.BuiltinCode(), kind.DeprecatedBuiltinCode())
        code = _CODES.get(builtin, f"builtin {builtin}")
        if builtin == schema.BuiltinOperator.CUSTOM:
            code = f"CUSTOM:{self.text(kind.CustomCode())}"
        inputs = self.indices(table.InputsLength, table.InputsAsNumpy, len(tensors))
        outputs = self.indices(table.OutputsLength, table.OutputsAsNumpy, len(tensors))
        named = outputs and outputs[0] >= 0 and tensors[outputs[0]].name
        layer = named or f"operator {number}"
        return Entry(code, inputs, outputs, layer, table, kind.Version())

    def tensor(self, table: Any) -> Tensor:
        name = self.text(table.Name())
        shape = self.shape(table, name)
        dtype = DTYPES.get(table.Type(), DType.UNDEFINED)
        index = table.Buffer()
        if not 0 <= index < self.root.BuffersLength():
            raise ValueError(f"{name} has the buffer {index} of {self.root.BuffersLength()}")
        raw = self.contents(self.root.Buffers(index), name)
        return Tensor(
            name, dtype, shape, self.grid(table, shape), _data(raw, dtype, shape, name)
        )

    def shape(self, table: Any, name: str) -> tuple[int, ...]:
        if table.ShapeLength() > self.room.axes:
            raise ValueError(f"{name} has {table.ShapeLength()} axes")
        lengths = [int(d) for d in self.vector(table.ShapeLength, table.ShapeAsNumpy)]
        if lengths and lengths[0] == -1:
            lengths[0] = 1  # a batch that is left open
        if any(d < self.room.least for d in lengths):
            raise ValueError(f"{name} has the shape {lengths}")
        if math.prod(lengths) > self.room.elements:
            raise ValueError(f"{name} has the shape {lengths}, which nothing holds")
        return tuple(lengths)

    def contents(self, buffer: Any, name: str) -> Array | None:
        """Return the bytes of a buffer, which lie behind the FlatBuffer where that is full."""
        place, size = buffer.Offset(), buffer.Size()
        if place > 1:  # schema.fbs: 0 where there are none, 1 while a file is being written
            if place + size > len(self.data):
                raise ValueError(f"{name} lies at {place} of {len(self.data)} bytes")
            return np.frombuffer(self.data, np.uint8, size, place)
        if buffer.DataLength() == 0:
            return None
        return np.asarray(buffer.DataAsNumpy().view(np.uint8))

    def grid(self, table: Any, shape: tuple[int, ...]) -> QuantParams | None:
        quantization = table.Quantization()
        if quantization is None or quantization.ScaleLength() == 0:
            return None
        scales = self.vector(quantization.ScaleLength, quantization.ScaleAsNumpy)
        points = self.vector(quantization.ZeroPointLength, quantization.ZeroPointAsNumpy)
        if not points:
            # LiteRT refuses this, and TFLite Micro takes it for a tensor without a grid.
            raise ValueError("there are scales, but no zero points")
        if len(points) == 1:
            points *= len(scales)
        zeros = tuple(int(p) for p in points)
        if len(scales) == 1:
            return QuantParams((_scale(scales[0]),), zeros)
        axis = quantization.QuantizedDimension()
        if not 0 <= axis < len(shape) or shape[axis] != len(scales):
            # Some converters leave the axis at 0, or at that of other weights.
            fitting = [i for i, length in enumerate(shape) if length == len(scales)]
            if not fitting:
                raise ValueError(f"there are {len(scales)} scales for the shape {list(shape)}")
            axis = fitting[-1]
        return QuantParams(tuple(map(_scale, scales)), zeros, axis)


def _scale(number: float) -> float:
    return _TINY_SCALE if number == 0 else float(number)


def _data(raw: Array | None, dtype: DType, shape: tuple[int, ...], name: str) -> Array | None:
    if raw is None or raw.size == 0:
        return None
    if dtype in (DType.UNDEFINED, DType.INT4):
        return raw  # refused where an operator reads it
    wanted = math.prod(shape) * dtype.numpy.itemsize
    if raw.size != wanted:
        raise ValueError(f"{name} has {raw.size} bytes where its shape needs {wanted}")
    return np.frombuffer(raw, dtype.numpy).reshape(shape)
