"""How far rounding alone moves what a graph computes."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from edgec.evaluate import evaluate
from edgec.ir import Array, Builder, Constant, DType, Graph, Value
from edgec.numerics import relative_error
from edgec.ops import Add, Identity, Recurrent

__all__ = ["rounding_floor"]

_SINGLE = 2.0**-23
_CELLS = 2.0**-21
"""How far ONNX Runtime's LSTM, GRU and RNN are off in what they yield, however small that is:
their tanh is a polynomial."""
_HALVES = (DType.FLOAT16, DType.BFLOAT16)


def rounding_floor(
    graph: Graph, sample: Mapping[str, Array], want: Mapping[str, Array]
) -> float:
    """Return how far the outputs move when every input moves by its last bit, up or down.

    No rewrite can keep closer than that to a model that amplifies rounding itself, as deep
    models do on inputs far from what they were trained on. In 16-bit floats every value in
    between is rounded coarsely too: there the constants move as well, some up and some down.
    Where no input is a float, the constants move that the first floats are made of: tables of
    words, say. What recurrent layers yield moves by the error of their kernels.
    """
    single = any(v.type.dtype is DType.FLOAT32 for n in graph.nodes for v in n.outputs)
    least = _SINGLE if single else 0.0  # what is given in float64 may be computed in float32
    words = not any(v.type.dtype.is_float for v in graph.inputs)
    moving = _first_floats(graph) if words else frozenset[str]()
    moving |= {name for name, c in graph.constants.items() if c.type.dtype in _HALVES}
    floor = 0.0
    for sign in (1, -1):
        # Some up and some down: moved all alike, inputs cancel out as well as before.
        nudged = {n: _nudged(a, sign * _signs(n, a), least) for n, a in sample.items()}
        moved = _off(_moved(graph, moving, sign), sign)
        floor = max(floor, relative_error(want, evaluate(moved, nudged)))
    return floor


def _off(graph: Graph, sign: int) -> Graph:
    """Return the graph with what recurrent layers yield moved up and down."""
    if not any(isinstance(node.op, Recurrent) for node in graph.nodes):
        return graph
    b = Builder(graph)
    for node in graph.nodes:
        if not isinstance(node.op, Recurrent):
            b.copy(node)
            continue
        inputs = map(b.now, node.inputs)
        names = [b.fresh(v.name) for v in node.outputs]
        for old, new in zip(node.outputs, b.add(node.op, *inputs, names=names), strict=True):
            if new.type.dtype is DType.FLOAT32 and new.type.is_static:
                signs = _signs(old.name, np.empty(new.type.ints))
                step = b.constant(
                    np.float32(sign * _CELLS) * signs.astype(np.float32), old.name
                )
                b.add(Add(), new, step, like=replace(node, outputs=(old,)))
            else:
                b.add(Identity(), new, like=replace(node, outputs=(old,)))
    return b.finish()


def _first_floats(graph: Graph) -> frozenset[str]:
    """Return the constants that meet values which no other float went into."""
    found: set[str] = set()
    first: set[Value] = set()
    for node in graph.nodes:
        floats = [v for v in node.inputs if v.type.dtype.is_float]
        stored = {v.name for v in floats if v.name in graph.constants}
        if any(v.name not in stored and v not in first for v in floats):
            continue
        found |= stored
        if not stored:
            first.update(node.outputs)
    return frozenset(found)


def _moved(graph: Graph, names: Collection[str], sign: int) -> Graph:
    constants = {
        name: Constant(_nudged(c.array, sign * _signs(name, c.array))) if name in names else c
        for name, c in graph.constants.items()
    }
    return replace(graph, constants=MappingProxyType(constants))


def _signs(name: str, array: Array) -> Array:
    """Return ones of either sign, the same every time but others for every value."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return np.asarray(rng.integers(0, 2, np.shape(array))) * 2 - 1


def _nudged(array: Array, sign: int | Array, least: float = 0.0) -> Array:
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        return array  # a sequence, or texts
    if not DType.of(array.dtype).is_float or array.dtype.itemsize < 2:
        return array
    import ml_dtypes

    eps = float(ml_dtypes.finfo(array.dtype).eps)  # type: ignore[no-untyped-call]
    moved = array.astype(np.float64) * (1 + sign * max(eps, least))
    return np.asarray(moved).astype(array.dtype)
