"""From a graph to TFLite tensors: where values are stored, in which order, on which grid.

A value of the graph is stored as a tensor whose axes may be permuted: a channels-last runtime
keeps ``[N, C, H, W]`` as ``[N, H, W, C]``, and a ``Transpose`` of the graph often only renames
axes. A transpose is written only where a consumer insists on another order, and constants are
permuted here and now.

A layer between a dequantize and a quantize is written on integers, and the pair disappears.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.errors import Diagnostic, InternalError
from edgec.ir import Array, DType, Graph, Node, QuantParams, Value
from edgec.ops import (
    Cast,
    Conv,
    Dequantize,
    FullyConnected,
    Quantize,
    dequantize_array,
    quantize_array,
)
from edgec.targets.tflite.grids import kept_constant, misfits
from edgec.targets.tflite.model import Model, Operator, Tensor, is_wide
from edgec.targets.tflite.versions import least_version

__all__ = ["NHWC", "Lowering", "Perm", "Stored", "identity"]

Perm = tuple[int, ...]
"""Stored axis ``k`` is axis ``perm[k]`` of the value."""

NHWC: Perm = (0, 2, 3, 1)

_UNPACKED_BY_RUNTIME = {DType.INT8: 2, DType.INT4: 6, DType.FLOAT16: 3}
"""Types of constants that DEQUANTIZE reads, and its version."""

_LARGE = 1024
"""Elements from which on integers are worth an operator that makes floats of them."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a value is: the number of its tensor, and the order of its axes there."""

    tensor: int
    perm: Perm


def identity(rank: int) -> Perm:
    """Return the order in which nothing is permuted."""
    return tuple(range(rank))


class Lowering:
    """Builds one model; the functions in ``kernels`` add the operators.

    Parameters
    ----------
    hybrid
        Whether kernels that can are to read stored weights as they are, and to quantize the
        activations themselves as they run.
    """

    def __init__(self, graph: Graph, *, hybrid: bool = False) -> None:
        self.graph, self._hybrid = graph, hybrid
        self.model = Model(graph.name)
        self.stored: dict[Value, Stored] = {}
        self._views: dict[tuple[int, Perm, Perm], int] = {}
        self._reshaped: dict[int, int] = {}  # from the result to what it is a reshape of
        self._constants: dict[Any, int] = {}
        self._unpacked: dict[int, int] = {}  # from stored integers to their floats
        self._names: set[str] = set()
        self.layer = ""
        self.notes: list[Diagnostic] = []

    # ---- tensors and operators ----------------------------------------------------------

    def tensor(
        self,
        name: str,
        dtype: DType,
        shape: Sequence[int],
        *,
        quant: QuantParams | None = None,
        data: Array | None = None,
    ) -> int:
        """Add a tensor and return its number."""
        unique, n = name, 1
        while unique in self._names:
            unique, n = f"{name};{n}", n + 1
        self._names.add(unique)
        self.model.tensors.append(Tensor(unique, dtype, tuple(shape), data, quant))
        return len(self.model.tensors) - 1

    def operator(
        self,
        code: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        version: int | None = None,
        **fields: Any,
    ) -> None:
        """Add an operator; `options` names its table, `fields` fill it.

        Its version is the lowest that takes the operands, unless given; one that is given is
        for 8 bits, and may be too low for 16.
        """
        given = [self.info(i) for i in inputs if i >= 0]
        results = [self.info(i) for i in outputs]
        if version is None or any(is_wide(t) for t in (*given, *results)):
            version = max(version or 1, least_version(code, given, results))
        op = Operator(
            code, tuple(inputs), tuple(outputs), (options, fields), version, self.layer
        )
        self.model.operators.append(op)

    def constant(self, name: str, array: Array, quant: QuantParams | None = None) -> int:
        """Add a constant tensor, once for equal contents, and return its number."""
        flat = np.ascontiguousarray(array).reshape(-1)  # types of 4 bits are no buffers
        digest = hashlib.sha256(flat.view(np.uint8).data).digest()
        key = (array.dtype.str, array.shape, digest, quant)
        if key not in self._constants:
            dtype = DType.of(array.dtype)
            self._constants[key] = self.tensor(
                name, dtype, array.shape, quant=quant, data=array
            )
        return self._constants[key]

    def ints(self, name: str, values: Any) -> int:
        """Add a constant of int32, such as axes or a shape."""
        return self.constant(f"{self.layer}/{name}", np.array(values, np.int32))

    def info(self, index: int) -> Tensor:
        """Return a tensor by its number."""
        return self.model.tensors[index]

    # ---- grids --------------------------------------------------------------------------

    def kept(self, value: Value) -> tuple[Array, QuantParams | None] | None:
        """Return the constant that `value` is read from, stored in fewer bits than a float."""
        return kept_constant(self.graph, value)

    def is_hybrid(self, node: Node) -> bool:
        """Whether a layer's kernel reads int8 weights, and activations as floats.

        XNNPACK takes no such depthwise convolution, and LiteRT's own is ten times slower.
        """
        if not self._hybrid or not isinstance(node.op, Conv | FullyConnected):
            return False
        kept = self.kept(node.inputs[1])
        if kept is None or kept[1] is None or kept[0].dtype != np.int8 or kept[0].ndim > 4:
            return False
        return not any(kept[1].zero_point) and self.output_grid(node)[1] is None

    def pair_before(self, value: Value) -> tuple[Value, QuantParams] | None:
        """Return the integer value that `value` is dequantized from, and its grid."""
        node = self.graph.producers.get(value)
        if node is None or not isinstance(node.op, Dequantize):
            return None
        return node.inputs[0], node.op.params

    def pair_after(self, value: Value) -> Node | None:
        """Return the one quantize that reads `value`, if nothing else does."""
        users = self.graph.users.get(value, ())
        if len(users) != 1 or not isinstance(users[0].op, Quantize):
            return None
        return users[0] if value not in self.graph.outputs else None

    def output_grid(self, node: Node) -> tuple[DType, QuantParams | None]:
        """Return how a node's first output is stored: on integers where a quantize follows.

        A node counts as an integer one only if all the activations it reads are dequantized
        integers, and all it gives are quantized; the kernels take no mixture.
        """
        first = node.outputs[0]
        found = [q.op for v in node.outputs if (q := self.pair_after(v)) is not None]
        pairs = [op for op in found if isinstance(op, Quantize)]
        read = [v for v in node.outputs if v in self.graph.users or v in self.graph.outputs]
        dequantized = [v for v in node.data if self.pair_before(v) is not None]
        if len(pairs) != len(read) or not pairs or not dequantized:
            return first.type.dtype, None
        if why := self._misfit(node, pairs):
            note = Diagnostic(f"{node.op} is computed in float: {why}", node.layer)
            if note not in self.notes:
                self.notes.append(note)
            return first.type.dtype, None
        return pairs[0].dtype, pairs[0].params

    def _misfit(self, node: Node, results: Sequence[Quantize]) -> str:
        """Return why a node between pairs has no integer kernel; empty if it has one."""
        if node.op.quant_rule() is None:
            return "it has no integer form"
        for position, value in enumerate(node.inputs):
            if value in node.data and self.pair_before(value) is None:
                return f"operand {position} is not quantized"
        return next((why for q in results for why in misfits(self.graph, node, q)), "")

    # ---- values -------------------------------------------------------------------------

    def get(self, value: Value, perm: Perm | None = None, *, integer: bool = False) -> int:
        """Return the tensor of a value in a given order of axes, converting if need be.

        Parameters
        ----------
        perm
            The order wanted; ``None`` for the one it is stored in.
        integer
            Whether the quantized form of the value is wanted.
        """
        if integer:
            before = self.pair_before(value)
            if before is None:
                raise InternalError(f"{value} has no integer form")
            source, grid = before
            if (array := self.graph.constant(source)) is not None:
                return self._permuted_constant(source.name, array, perm, grid)
            return self.in_order(self.stored[source], perm)
        array = self.graph.constant(value)
        if array is not None:
            return self._permuted_constant(value.name, array, perm, None)
        if (kept := self.kept(value)) is not None:
            return self._real_constant(value, *kept, perm)
        if value not in self.stored:
            self._dequantize(value)
        return self.in_order(self.stored[value], perm)

    def perm_of(self, value: Value, *, integer: bool = False) -> Perm | None:
        """Return the order a computed value is stored in; ``None`` for a constant."""
        before = self.pair_before(value)
        if before is not None and (integer or value not in self.stored):
            value = before[0]
        if self.graph.constant(value) is not None or self.kept(value) is not None:
            return None
        return self.stored[value].perm

    def order_of(self, value: Value, *, integer: bool = False) -> Perm:
        """Return the order a value is stored in; a constant's own order for one."""
        return self.perm_of(value, integer=integer) or identity(value.type.rank)

    def put(self, node: Node, perm: Perm, output: int = 0) -> int:
        """Add the tensor of one of a node's outputs, stored in the order `perm`."""
        value = node.outputs[output]
        dtype, params = self.output_grid(node)
        if params is None:
            dtype = value.type.dtype
        shape = [value.type.ints[axis] for axis in perm]
        index = self.tensor(value.name.removesuffix(".float"), dtype, shape, quant=params)
        self.alias(node, Stored(index, perm), quantized=params is not None, output=output)
        return index

    def alias(self, node: Node, stored: Stored, *, quantized: bool, output: int = 0) -> None:
        """Let one of a node's outputs, or its quantized form, be a tensor that exists."""
        value = node.outputs[output]
        after = self.pair_after(value) if quantized else None
        self.stored[value if after is None else after.output] = stored

    def put_empty(self, node: Node, output: int = 0) -> None:
        """Store an output that has no elements: nothing need compute it.

        Some kernels take a length of 0 for "all of it".
        """
        value = node.outputs[output]
        array = np.zeros(value.type.ints, value.type.dtype.numpy)
        index = self.tensor(value.name, value.type.dtype, array.shape, data=array)
        self.stored[value] = Stored(index, identity(array.ndim))

    def flat(self, node: Node, shape: Sequence[int]) -> int:
        """Add a tensor that holds a node's output in some order under another shape.

        `settle` must follow once the tensor is written.
        """
        dtype, params = self.output_grid(node)
        name = node.output.name.removesuffix(".float")
        return self.tensor(name, dtype, shape, quant=params)

    def settle(self, node: Node, tensor: int, perm: Perm | None = None) -> None:
        """Let a node's output be what `flat` gave and an operator has written since.

        Parameters
        ----------
        perm
            The order in which it was written; row-major unless given.
        """
        t = node.output.type
        perm = perm or identity(t.rank)
        index = self.reshaped(tensor, [t.ints[axis] for axis in perm])
        integer = self.info(tensor).quant is not None
        self.alias(node, Stored(index, perm), quantized=integer)

    def unreshaped(self, tensor: int) -> int:
        """Return the tensor that this one is a reshape of, or itself."""
        return self._reshaped.get(tensor, tensor)

    def _dequantize(self, value: Value) -> None:
        """Write the float form of a quantized value, because a float operator reads it."""
        before = self.pair_before(value)
        if before is None:
            raise InternalError(f"{value} is read before it is stored")
        held = self.stored[before[0]]
        index = self.tensor(value.name, DType.FLOAT32, self.info(held.tensor).shape)
        version = 2 if self.info(held.tensor).dtype is DType.INT8 else 1
        self.operator("DEQUANTIZE", [held.tensor], [index], "Dequantize", version)
        self.stored[value] = Stored(index, held.perm)

    def _real_constant(
        self, value: Value, array: Array, grid: QuantParams | None, perm: Perm | None
    ) -> int:
        """Return the float form of a constant that is stored on integers, or in float16.

        Large ones stay so in the file: the runtime unpacks them once, as it loads.
        It does not unpack what nothing but the caller reads.
        """
        dtype = DType.of(array.dtype)
        small = dtype not in _UNPACKED_BY_RUNTIME or array.size < _LARGE
        if small or value in self.graph.outputs:
            real = array.astype(np.float32) if grid is None else dequantize_array(array, grid)
            return self._permuted_constant(value.name, real, perm, None)
        source = self._permuted_constant(value.name, array, perm, grid)
        if source not in self._unpacked:
            info = self.info(source)
            index = self.tensor(f"{info.name}/real", DType.FLOAT32, info.shape)
            version = _UNPACKED_BY_RUNTIME[dtype]
            if grid is not None and grid.axis is not None:
                version = max(version, 5)
            self.operator("DEQUANTIZE", [source], [index], "Dequantize", version)
            self._unpacked[source] = index
        return self._unpacked[source]

    def quantize(self, node: Node, quantize: Quantize) -> None:
        """Write a quantize node that no integer operator has taken up."""
        if node.output in self.stored:
            return
        array = self.graph.constant(node.inputs[0])
        if array is not None:
            data = quantize_array(array, quantize.params, quantize.dtype)
            index = self.constant(node.output.name, data, quantize.params)
            self.stored[node.output] = Stored(index, identity(data.ndim))
            return
        before = self.pair_before(node.inputs[0])
        if before is not None and self.graph.constant(before[0]) is None:
            held = self.stored[before[0]]  # from one grid to another, without real numbers
            source, perm = held.tensor, held.perm
        else:
            source = self.get(node.inputs[0])
            perm = self.order_of(node.inputs[0])
        shape = self.info(source).shape
        name = node.output.name
        index = self.tensor(name, quantize.dtype, shape, quant=quantize.params)
        self.operator("QUANTIZE", [source], [index], "Quantize")
        self.stored[node.output] = Stored(index, perm)

    # ---- orders of axes -----------------------------------------------------------------

    def _permuted_constant(
        self, name: str, array: Array, perm: Perm | None, grid: QuantParams | None
    ) -> int:
        if perm is not None and perm != identity(array.ndim):
            array = np.ascontiguousarray(array.transpose(perm))
            if grid is not None and grid.axis is not None:
                grid = QuantParams(grid.scale, grid.zero_point, perm.index(grid.axis))
        return self.constant(name, array, grid)

    def in_order(self, stored: Stored, perm: Perm | None) -> int:
        """Return a tensor that holds what is stored, in the order `perm`."""
        if perm is None or perm == stored.perm:
            return stored.tensor
        key = (stored.tensor, stored.perm, perm)
        if key not in self._views:
            order = tuple(stored.perm.index(axis) for axis in perm)
            self._views[key] = self._transposed(stored.tensor, order)
        return self._views[key]

    def _transposed(self, tensor: int, order: Perm) -> int:
        """Return a tensor with its axes in another order; free if only ones change places."""
        info = self.info(tensor)
        shape = [info.shape[axis] for axis in order]
        moved = [axis for axis in order if info.shape[axis] != 1]
        if moved == sorted(moved):
            return self.reshaped(tensor, shape)
        index = self.tensor(f"{info.name}/transposed", info.dtype, shape, quant=info.quant)
        perm = self.ints("perm", order)
        self.operator("TRANSPOSE", [tensor, perm], [index], "Transpose")
        return index

    def reshaped(self, tensor: int, shape: Sequence[int], out: int | None = None) -> int:
        """Return the same elements in the same order under another shape.

        They are written to `out` if that is given.
        """
        tensor = self._reshaped.get(tensor, tensor)  # chains stay one operator
        info = self.info(tensor)
        if info.shape == tuple(shape) and out is None:
            return tensor
        if out is None:
            name = f"{info.name}/reshaped"
            out = self.tensor(name, info.dtype, shape, quant=info.quant)
        wanted = self.ints("shape", shape)
        self.operator("RESHAPE", [tensor, wanted], [out], "Reshape", newShape=list(shape))
        self._reshaped[out] = tensor
        return out

    def common_perm(self, node: Node, rank: int, *, integer: bool) -> Perm:
        """Return the order that the largest computed operand of full rank is stored in."""
        best, size = identity(rank), -1
        for value in node.inputs:
            perm = self.perm_of(value, integer=integer)
            if perm is not None and len(perm) == rank and value.type.size > size:
                best, size = perm, value.type.size
        return best

    def broadcastable(self, value: Value, rank: int, perm: Perm, *, integer: bool) -> int:
        """Return an operand that broadcasts in the order `perm` as it does in its own."""
        if value.type.rank == rank:
            return self.get(value, perm, integer=integer)
        full = (*(1,) * (rank - value.type.rank), *value.type.ints)
        before = self.pair_before(value) if integer else None
        array = self.graph.constant(before[0] if before else value)
        if array is not None:
            turned = np.ascontiguousarray(array.reshape(full).transpose(perm))
            return self.constant(value.name, turned, before[1] if before else None)
        if value.type.size == 1:
            return self.reshaped(self.get(value, integer=integer), ())
        wide = self.reshaped(self.row_major(value, integer=integer), full)
        return self.in_order(Stored(wide, identity(rank)), perm)

    def row_major(self, value: Value, *, integer: bool) -> int:
        """Return a tensor that holds a value's elements in row-major order, any shape."""
        perm = self.perm_of(value, integer=integer)
        tensor = self.get(value, perm, integer=integer)
        if perm is None:
            return tensor
        moved = [axis for axis in perm if value.type.ints[axis] != 1]
        if moved == sorted(moved):
            return tensor
        return self.get(value, identity(len(perm)), integer=integer)

    # ---- the whole ----------------------------------------------------------------------

    def run(self, kernels: Callable[[Lowering, Node], None]) -> None:
        """Lower every node, in order."""
        for node in self.graph.nodes:
            self.layer = node.origin[-1] if node.origin else node.outputs[0].name
            match node.op:
                case Quantize() as quantize:
                    self.quantize(node, quantize)
                case Dequantize():
                    pass  # written when something reads the float value
                case Cast() if self.kept(node.output) is not None:
                    pass
                case _:
                    kernels(self, node)
