"""What gradients may change in a graph: real weights, or integers and their scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from edgec import ops
from edgec.differentiable.quantization import rounded
from edgec.differentiable.rule import along
from edgec.ir import (
    Array,
    Builder,
    Constant,
    DType,
    Graph,
    Node,
    Op,
    QuantParams,
    Value,
)

__all__ = ["Leaf", "Parameters", "Trained", "parameters_of", "with_changes"]

Trained = Literal["biases", "scales", "weights"]
"""What changes: biases alone; of what is stored as integers the scales too; or all weights."""

_LAYERS = (ops.Convolution, ops.ConvTranspose, ops.FullyConnected, ops.Gemm, ops.MatMul)
_NORMS = (ops.BatchNorm, ops.GroupNorm, ops.InstanceNorm, ops.LayerNorm, ops.RMSNorm)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A tensor that gradients change.

    Parameters
    ----------
    unit
        How large a change is beside it: steps are taken in proportion.
    """

    tensor: Tensor
    unit: float


class Parameters(Protocol):
    """What gradients change of one or two constants of a graph."""

    @property
    def leaves(self) -> Sequence[Leaf]:
        """The tensors that change."""

    def values(self) -> dict[str, Tensor]:
        """Return what the graph reads with the leaves as they are, by name."""

    def changes(self) -> dict[str, Constant | tuple[Constant, QuantParams]]:
        """Return constants, by name; of what is dequantized also the grid, by its result."""


class _Reals:
    """A constant of real numbers; zeros of a weight stay, as they were put there on purpose."""

    def __init__(self, name: str, array: Array, unit: float) -> None:
        self._name, self._array = name, array
        self._tensor = torch.from_numpy(np.array(array)).requires_grad_()
        self._unit = unit
        zeros = array.ndim > 1 and 0 < np.count_nonzero(array == 0) < array.size
        self._mask = torch.from_numpy((array != 0).astype(array.dtype)) if zeros else None

    @property
    def leaves(self) -> Sequence[Leaf]:
        return (Leaf(self._tensor, self._unit),)

    def values(self) -> dict[str, Tensor]:
        masked = self._tensor if self._mask is None else self._tensor * self._mask
        return {self._name: masked}

    def changes(self) -> dict[str, Constant | tuple[Constant, QuantParams]]:
        (value,) = self.values().values()
        return {self._name: Constant(value.detach().numpy().copy())}


class _Stored:
    """Weights that are stored as integers, and the bias that is stored in their steps.

    Parameters
    ----------
    weight, bias
        What dequantizes them; the bias may be missing.
    product
        The scale of what the layer reads, where the steps of the bias are the products of it
        and of those of the weights; else ``None``.
    """

    def __init__(
        self,
        graph: Graph,
        weight: Node,
        bias: Node | None,
        product: float | None,
        what: Trained,
    ) -> None:
        self._weight, self._bias, self._product = weight, bias, product
        self._grid = _grid(weight)
        stored = graph.constants[weight.inputs[0].name].array
        self._stored = stored
        rank, axis = stored.ndim, self._grid.axis or 0
        scale = torch.tensor(self._grid.scale, dtype=torch.float32)
        self._scale = along(scale, axis, rank) if self._grid.axis is not None else scale[0]
        whole = torch.from_numpy(stored.astype(np.float32))
        zero = torch.tensor(self._grid.zero_point, dtype=torch.float32)
        self._zero = along(zero, axis, rank) if self._grid.axis is not None else zero[0]
        self._real = (whole - self._zero).requires_grad_(what == "weights")
        self._factor = torch.ones_like(self._scale).requires_grad_(what != "biases")
        self._alive = (whole != self._zero).to(torch.float32)
        self._shift: Tensor | None = None
        self._unit = 0.0
        if bias is not None:
            integers = graph.constants[bias.inputs[0].name].array
            steps = np.array(_grid(bias).scale, np.float64)
            self._shift = torch.from_numpy((integers * steps).astype(np.float32))
            self._shift.requires_grad_()
            self._unit = max(_rms(self._shift), _rms(self._real * self._scale))

    @property
    def leaves(self) -> Sequence[Leaf]:
        found: list[Leaf] = []
        if self._real.requires_grad:
            found.append(Leaf(self._real, max(_rms(self._real), _INTEGER_UNIT)))
        if self._factor.requires_grad:
            found.append(Leaf(self._factor, _FACTOR_UNIT))
        if self._shift is not None:
            found.append(Leaf(self._shift, self._unit))
        return found

    def _integers(self) -> Tensor:
        """Return the integers less their zero point; those that are zero stay so."""
        low, high = _dtype(self._weight).limits
        inside = (rounded(self._real) + self._zero).clamp(low, high) - self._zero
        return inside * self._alive if self._real.requires_grad else inside

    def values(self) -> dict[str, Tensor]:
        found = {self._weight.output.name: self._integers() * (self._scale * self._factor)}
        if self._bias is not None and self._shift is not None:
            found[self._bias.output.name] = self._shift
        return found

    def changes(self) -> dict[str, Constant | tuple[Constant, QuantParams]]:
        with torch.no_grad():
            scale = (self._scale * self._factor).reshape(-1).to(torch.float32)
            whole = self._integers() + self._zero
        grid = replace(self._grid, scale=tuple(float(s) for s in scale))
        integers = whole.numpy().astype(self._stored.dtype)
        found: dict[str, Constant | tuple[Constant, QuantParams]] = {
            self._weight.output.name: (Constant(integers), grid)
        }
        if self._bias is not None and self._shift is not None:
            found[self._bias.output.name] = self._bias_as_stored(grid)
        return found

    def _bias_as_stored(self, grid: QuantParams) -> tuple[Constant, QuantParams]:
        assert self._bias is not None
        assert self._shift is not None
        old = _grid(self._bias)
        if self._product is not None:
            product = np.float32(self._product)
            steps = tuple(float(product * np.float32(s)) for s in grid.scale)
            old = replace(old, scale=steps)
        real = self._shift.detach().numpy().astype(np.float64)
        low, high = _dtype(self._bias).limits
        integers = np.clip(np.rint(real / np.array(old.scale)), low, high)
        return Constant(integers.astype(_dtype(self._bias).numpy)), old


_INTEGER_UNIT = 1.0
"""At least: integers are rounded, so that a weight moves on when it has gone half a step."""

_FACTOR_UNIT = 0.2


def parameters_of(graph: Graph, what: Trained) -> list[Parameters]:
    """Return what gradients may change in a graph, in the order of its nodes.

    Left out are constants that something else than layers reads, integers with more than one
    reader, and those whose dequantized value is read by a node that takes it for no weight.
    """
    return [*_reals(graph, what), *_all_stored(graph, what)]


def with_changes(graph: Graph, parameters: Sequence[Parameters]) -> Graph:
    """Return the graph with the parameters as they are now."""
    constants = dict(graph.constants)
    grids: dict[str, tuple[Constant, QuantParams]] = {}
    for each in parameters:
        for name, change in each.changes().items():
            if isinstance(change, Constant):
                constants[name] = change
            else:
                grids[name] = change
    made = replace(graph, constants=MappingProxyType(constants))
    if not grids:
        return made
    b = Builder(made)
    for node in made.nodes:
        now = grids.get(node.outputs[0].name)
        if now is None:
            b.copy(node)
            continue
        constant, grid = now
        stored = b.constant(constant.array, near=f"{node.inputs[0].name}.recovered")
        b.add(ops.Dequantize(grid, _dtype(node)), stored, like=node)
    return b.finish()


def _reals(graph: Graph, what: Trained) -> Iterator[_Reals]:
    found: dict[str, float] = {}
    fixed: set[str] = set()
    for node in graph.nodes:
        units = dict(_units(graph, node, what))
        for value in node.reads:
            if value.name in graph.constants and value not in units:
                fixed.add(value.name)
        for value, unit in units.items():
            found[value.name] = max(unit, found.get(value.name, 0.0))
    for name, unit in found.items():
        if name not in fixed:
            yield _Reals(name, graph.constants[name].array, unit)


def _units(graph: Graph, node: Node, what: Trained) -> Iterator[tuple[Value, float]]:
    """Yield the constants of a node that may change, and how large a change of each is."""
    weights, shifts = _operands(node.op)
    sizes: dict[int, float] = {}
    for k in (*weights, *shifts):
        array = graph.constant(node.inputs[k]) if k < len(node.inputs) else None
        if array is not None and array.dtype == np.float32:
            sizes[k] = _rms(array)
    most = max(sizes.values(), default=0.0)
    for k, size in sizes.items():
        if k in shifts and most:
            yield node.inputs[k], most
        elif k in weights and size and what == "weights":
            yield node.inputs[k], size


def _operands(op: Op) -> tuple[Sequence[int], Sequence[int]]:
    """Return which operands of an operator are weights, and which are shifts and factors.

    A shift may be zero: how far it moves follows from the weights beside it.
    """
    match op:
        case ops.Recurrent():
            return (1, 2), (3,)
        case ops.MatMul():
            return (0, 1), ()
        case ops.Convolution() | ops.ConvTranspose() | ops.FullyConnected() | ops.Gemm():
            return (1,), (2,)
        case _ if isinstance(op, _NORMS):
            return (), (1, 2)
        case ops.Add() | ops.Mul():
            return (), (0, 1)
        case ops.PRelu():
            return (), (1,)
    return (), ()


def _all_stored(graph: Graph, what: Trained) -> Iterator[_Stored]:
    for node in graph.nodes:
        if not isinstance(node.op, _LAYERS):
            continue
        x, w, *more = (graph.producers.get(v) for v in node.inputs)
        if not _is_own(graph, w):
            continue
        assert w is not None
        b = more[0] if more else None
        bias = b if _is_own(graph, b) else None
        if b is not None and bias is None:
            continue
        yield _Stored(graph, w, bias, _product(x, w, bias), what)


def _is_own(graph: Graph, made: Node | None) -> bool:
    """Whether a node dequantizes a constant, for one reader alone."""
    if made is None or not isinstance(made.op, ops.Dequantize):
        return False
    stored, real = made.inputs[0], made.output
    alone = len(graph.users.get(stored, ())) == 1 and len(graph.users.get(real, ())) == 1
    return alone and stored.name in graph.constants and real not in graph.outputs


def _product(x: Node | None, w: Node, bias: Node | None) -> float | None:
    """Return the scale of what a layer reads if the steps of its bias follow from it."""
    if x is None or bias is None or not isinstance(x.op, ops.Dequantize):
        return None
    given = x.op.params.scale
    if len(given) != 1:
        return None
    steps = np.float32(given[0]) * np.array(_grid(w).scale, np.float32)
    found = np.array(_grid(bias).scale, np.float32)
    same = steps.size in (1, found.size) and np.allclose(found, steps, rtol=1e-5, atol=0)
    return given[0] if same else None


def _grid(node: Node) -> QuantParams:
    assert isinstance(node.op, ops.Dequantize)
    return node.op.params


def _dtype(node: Node) -> DType:
    assert isinstance(node.op, ops.Dequantize)
    return node.op.dtype


def _rms(x: Array | Tensor) -> float:
    array = x.detach().numpy() if isinstance(x, Tensor) else x
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.size else 0.0
