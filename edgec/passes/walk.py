"""A graph, run one node at a time on several samples."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import MappingProxyType

import numpy as np

from edgec.evaluate import Evaluator
from edgec.ir import Array, Constant, ContainerType, DType, Graph, Node, QuantParams, Value
from edgec.ops import Dequantize, Quantize, dequantize_array

__all__ = ["Walk", "each_of", "each_sample", "on_grid"]

_THREADS, _AHEAD = 2, 4
"""Samples are run in threads, each sample in one, so that the numbers are always the same."""

_HALF_MAX = 30000.0
"""Magnitude up to which numbers may be held in float16, with room for sums of two."""


class Walk:
    """Runs the nodes of a graph in order, each on all samples before the next.

    So a step may look at what a layer makes of the layers before it, change it, and go on.
    Held is only what later nodes read, and of what is quantized at once the integers: with
    ``n`` samples about a quarter of ``n`` times the peak activations of the float model.

    Parameters
    ----------
    feeds
        One array for each graph input, for each sample.
    half
        Whether real numbers are held in float16: half the memory, and an error that is nothing
        beside that of 8 bits.
    """

    def __init__(
        self, graph: Graph, feeds: Sequence[Mapping[str, Array]], *, half: bool = False
    ) -> None:
        self.graph, self.count, self._half = graph, len(feeds), half
        self._at_once = {
            v: users[0]
            for v, users in graph.users.items()
            if len(users) == 1 and isinstance(users[0].op, Quantize) and v not in graph.outputs
            # What comes from another grid is no node's result: it is quantized on its own.
            if v in graph.producers and not isinstance(graph.producers[v].op, Dequantize)
        }
        joined = {n.output for n in self._at_once.values()}
        self.nodes = tuple(
            n
            for n in graph.nodes
            if not isinstance(n.op, Dequantize) and n.outputs[0] not in joined
        )
        self._last = {
            source.name: i for i, n in enumerate(self.nodes) for source in self._sources(n)
        }
        self._position = {n.outputs[0].name: i for i, n in enumerate(self.nodes)}
        self._held = {
            v.name: [np.asarray(f[v.name]) for f in feeds]
            for v in graph.inputs
            if v.name in self._last
        }

    def _sources(self, node: Node) -> tuple[Value, ...]:
        """Return the computed values that a node reads, or that what it reads is made of."""
        found: dict[Value, None] = {}
        for value in node.reads:
            made = self.graph.producers.get(value)
            stored = made.inputs[0] if made and isinstance(made.op, Dequantize) else value
            if self.graph.constant(stored) is None:
                found[stored] = None
        return tuple(found)

    @property
    def held(self) -> tuple[str, ...]:
        """The names of values that later nodes will read."""
        return tuple(self._held)

    def keep(self, value: Value, until: Node) -> None:
        """Hold a value until a node has run, as if that read it."""
        self._last[value.name] = max(
            self._last.get(value.name, -1), self._position[until.outputs[0].name]
        )

    def at(self, sample: int) -> dict[str, Array]:
        """Return what is held of one sample, by name."""
        return {name: arrays[sample] for name, arrays in self._held.items()}

    def inputs(self, node: Node, operand: int) -> Iterator[Array]:
        """Yield an operand of a node on every sample, as real numbers if it is dequantized."""
        value = node.inputs[operand]
        made = self.graph.producers.get(value)
        if made is None or not isinstance(made.op, Dequantize):
            for array in self._held[value.name]:
                yield _whole(array, value)
            return
        for array in self._held[made.inputs[0].name]:
            yield _real(array, made.op)

    def run(
        self, node: Node, constants: Mapping[Value, Array] | None = None
    ) -> Iterator[dict[str, Array]]:
        """Yield the outputs of a node on every sample, by name.

        Parameters
        ----------
        node
            A node of the graph, or one with the same outputs to compute instead.
        constants
            Operands that are something else than in the graph, or new.
        """
        given = dict(constants or {})
        pairs: list[Node] = []
        read = [v for v in dict.fromkeys(node.reads) if v not in given]  # x * x reads one
        for value in read:
            made = self.graph.producers.get(value)
            if (array := self.graph.constant(value)) is not None:
                given[value] = array
            elif made is not None and isinstance(made.op, Dequantize):
                stored = self.graph.constant(made.inputs[0])
                if stored is None:
                    pairs.append(made)
                else:
                    given[value] = dequantize_array(stored, made.op.params)
        known = MappingProxyType({v.name: Constant(a) for v, a in given.items()})
        sources = self._sources(Node(node.op, tuple(read), node.outputs))
        graph = Graph(node.layer, sources, node.outputs, (*pairs, node), known)
        evaluator = Evaluator(graph)

        def result(k: int) -> dict[str, Array]:
            return evaluator.run({v.name: _whole(self._held[v.name][k], v) for v in sources})

        yield from each_of(result, self.count)

    def hold(self, node: Node, results: Iterable[Mapping[str, Array]]) -> None:
        """Take the outputs of a node for what they are from here on."""
        for _ in self.passed(node, results):
            pass

    def passed(
        self, node: Node, results: Iterable[Mapping[str, Array]]
    ) -> Iterator[Mapping[str, Array]]:
        """Hold the outputs of a node, and yield each result on its way; it may have more."""
        now = self._position[node.outputs[0].name]
        kept: dict[str, list[Array]] = {}
        for result in results:
            for value in node.outputs:
                pair = self._at_once.get(value)
                name = value.name if pair is None else pair.output.name
                if self._last.get(name, -1) > now:
                    kept.setdefault(name, []).append(self._stored(result[value.name], pair))
            yield result
        for name in [n for n in self._held if self._last[n] == now]:
            del self._held[name]
        self._held |= kept

    def _stored(self, array: Array, pair: Node | None) -> Array:
        if pair is not None and isinstance(pair.op, Quantize):
            return _quantized(array, pair.op)
        if not self._half or not isinstance(array, np.ndarray) or array.dtype != np.float32:
            return array  # a sequence may pass, too
        return array.astype(np.float16) if np.abs(array).max(initial=0) < _HALF_MAX else array


def _whole(array: Array, value: Value) -> Array:
    """Return what is held of a value as it was computed."""
    if isinstance(value.type, ContainerType):
        return array
    halved = value.type.dtype is DType.FLOAT32 and array.dtype == np.float16
    return array.astype(np.float32) if halved else array


def on_grid(x: Array, params: QuantParams, dtype: DType) -> Array:
    """Return the real numbers that are left of an array once it is quantized."""
    return _real(_quantized(x, Quantize(params, dtype)), Dequantize(params, dtype))


def _quantized(x: Array, op: Quantize) -> Array:
    """Return integers as ONNX Runtime computes them, in float32."""
    scale, zero = _along(x, op)
    steps = np.asarray(np.rint(x / scale) + zero)  # of a scalar numpy makes a number
    return np.asarray(np.clip(steps, *op.dtype.limits).astype(op.dtype.numpy))


def _real(x: Array, op: Dequantize) -> Array:
    if x.dtype.itemsize > 2:
        return dequantize_array(x, op.params)
    scale, zero = _along(x, op)
    return np.asarray((x.astype(np.float32) - zero) * scale)


def _along(x: Array, op: Quantize | Dequantize) -> tuple[Array, Array]:
    """Return scales and zero points in float32, in a shape that fits an array."""
    shape = [1] * x.ndim
    if op.params.axis is not None:
        shape[op.params.axis] = -1
    scale, zero = (np.array(p, np.float32) for p in (op.params.scale, op.params.zero_point))
    return scale.reshape(shape), zero.reshape(shape)


def each_sample(
    evaluator: Evaluator, feeds: Sequence[Mapping[str, Array]]
) -> Iterator[dict[str, Array]]:
    """Yield what an evaluator makes of each sample, in order."""
    return each_of(lambda k: evaluator.run(feeds[k]), len(feeds))


def each_of(
    result: Callable[[int], dict[str, Array]], count: int
) -> Iterator[dict[str, Array]]:
    """Yield a result for each of several samples in order, some of them computed ahead."""
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[Future[dict[str, Array]]] = deque()
        for k in range(count):
            ahead.append(pool.submit(result, k))
            if len(ahead) > _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
