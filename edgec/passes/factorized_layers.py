"""Layers written as products of smaller ones, each fitted to what the original yields."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.cost import cost
from edgec.errors import Diagnostic
from edgec.ir import Array, Builder, Graph, Node, Value
from edgec.numerics import sqnr
from edgec.ops import Add, Conv, FullyConnected
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.compensated_rounding import Moments, damped, pulled
from edgec.passes.factor_form import Factors, Form, covariance_of
from edgec.passes.factor_layers import layers_of
from edgec.passes.judging import LEAST_SAMPLES, held_out, too_few
from edgec.passes.layer_recovery import MOST_INPUTS, Beside
from edgec.passes.linear_layers import LinearLayer, linear_layer, with_weights
from edgec.passes.patches import patches, places_of
from edgec.passes.walk import Walk

__all__ = ["Factorizing", "Original", "alone", "kernels", "refusal", "skeleton"]

_DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_ROWS_PER_INPUT, _LEAST_ROWS = 32, 8192
_OWN = 0.2
"""How much each error counts by itself, relative to how much they count on average."""


@dataclass(frozen=True, slots=True)
class Original:
    """What a graph that is made smaller is compared with.

    Parameters
    ----------
    graph
        Values have the same names.
    samples
        One array for each graph input, for each sample.
    kept
        Channels of the original that are left, by the name of a value; all where it is not
        named. A graph that lost others is compared with itself.
    """

    graph: Graph
    samples: Sequence[Mapping[str, Array]]
    kept: Mapping[str, Array] = field(default_factory=lambda: MappingProxyType({}))

    def left(self, name: str, array: Array) -> Array:
        """Return the channels that are left of a value."""
        kept = self.kept.get(name)
        return array if kept is None else np.asarray(array[:, kept])


@dataclass(frozen=True, slots=True)
class _Made:
    """What was found for one layer."""

    layer: LinearLayer
    form: Form
    factors: Factors
    bias: Array
    record: LayerRecord


def kernels(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of convolutions and products, by what they yield."""
    return {
        n.output.name: n.inputs[1].type.ints
        for n in graph.nodes
        if isinstance(n.op, Conv | FullyConnected) and n.inputs[1].type.is_static
    }


def refusal(graph: Graph, node: Node) -> str | None:
    """Return why a layer cannot be factorised; ``None`` if it can."""
    if not isinstance(node.op, Conv | FullyConnected):
        return f"is of the kind {type(node.op).__name__}, not a plain convolution or product"
    layer = linear_layer(graph, node)
    if layer is None:
        return "has weights that are not constant, or not in float32"
    if layer.shared:
        return "shares its weights with another layer"
    if layer.inputs > MOST_INPUTS:
        return f"has {layer.inputs} inputs to a sum, and {MOST_INPUTS} are the most"
    return None


class Factorizing(Pass):
    """What passes have in common that factorise the layers they are told, into what form.

    Those that have samples fit them to an original: the graph itself if there is no other.
    """

    promise: ClassVar[Promise] = Lossy()
    samples: Sequence[Mapping[str, Array]] | None
    original: Graph | None
    kept: Mapping[str, Array]

    @abstractmethod
    def forms(self, graph: Graph) -> dict[str, Form]:
        """Return the form of each layer, by the name of its result."""

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        beside = None
        if self.samples is not None:
            beside = Original(self.original or graph, self.samples, self.kept)
        return _factorized(graph, self.forms(graph), beside)

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        few = () if self.samples is None else too_few(len(self.samples), "nothing changes")
        return few or tuple(
            Diagnostic(f"stays as it is: it {problem}", where)
            for name, form in self.forms(graph).items()
            for problem, where in [_problem(graph, name, form)]
            if problem is not None
        )


def _problem(graph: Graph, name: str, form: Form) -> tuple[str | None, str]:
    node = next((n for n in graph.nodes if n.outputs[0].name == name), None)
    if node is None:
        return "is not a layer of the graph", name
    return refusal(graph, node) or form.problem(), node.layer


def _factorized(
    graph: Graph, forms: Mapping[str, Form], original: Original | None
) -> tuple[Graph, tuple[LayerRecord, ...]]:
    """Return a graph with some layers in the form of products of smaller ones.

    Parameters
    ----------
    forms
        By the name of the layer's result.
    original
        What the layers are fitted to, in order, each on what those before it yield by then.
        Layers behind the first of them that stay as they are follow: they are fitted, too.
        ``None`` makes the best of the weights alone.
    """
    found = {k: f for k, f in forms.items() if _problem(graph, k, f)[0] is None}
    if not found or (original is not None and len(original.samples) < LEAST_SAMPLES):
        return graph, ()
    fitting = None
    if original is None:
        made = [_plain(graph, n, found) for n in graph.nodes if n.outputs[0].name in found]
    else:
        fitting = _Fitting(graph, _beside(graph, original), found)
        made = list(fitting.layers())
    records = _recorded(graph, made)
    if fitting is not None:
        graph, records = with_weights(graph, fitting.moved), (*records, *fitting.followed)
    return _rewritten(graph, made), records


def skeleton(graph: Graph, forms: Mapping[str, Form]) -> Graph:
    """Return a graph with the shapes that it has with some layers factorised, and zeros."""
    made = [
        _Made(layer, form, form.blank(), layer.bias[0], LayerRecord(name, 0.0, 0.0, str(form)))
        for name, form in forms.items()
        for layer in [linear_layer(graph, _named(graph, name))]
        if layer is not None
    ]
    return _rewritten(graph, made)


def alone(graph: Graph, node: Node) -> Graph:
    """Return a graph of one layer."""
    constants = {v.name: graph.constants[v.name] for v in node.reads[1:]}
    return Graph(
        node.layer, node.inputs[:1], node.outputs, (node,), MappingProxyType(constants)
    )


def _recorded(graph: Graph, made: Iterable[_Made]) -> tuple[LayerRecord, ...]:
    """Return what was done to each layer, with what the graph costs before and after it."""
    whole = cost(graph)
    macs, size = whole.macs, whole.weight_bytes
    found: list[LayerRecord] = []
    for each in made:
        one = alone(graph, each.layer.node)
        before, after = cost(one), cost(skeleton(one, {each.layer.name: each.form}))
        left = macs + after.macs - before.macs
        smaller = size + after.weight_bytes - before.weight_bytes
        record = replace(each.record, macs=(macs, left), weight_bytes=(size, smaller))
        found.append(record)
        macs, size = left, smaller
    return tuple(found)


def _named(graph: Graph, name: str) -> Node:
    return next(n for n in graph.nodes if n.outputs[0].name == name)


def _plain(graph: Graph, node: Node, forms: Mapping[str, Form]) -> _Made:
    layer = linear_layer(graph, node)
    assert layer is not None
    form = forms[layer.name]
    weight = layer.weight[0]
    factors = form.start(weight)
    ratio = sqnr(float((weight**2).sum()), float(((form.dense(factors) - weight) ** 2).sum()))
    record = LayerRecord(node.layer, ratio, ratio, str(form))
    balanced = form.balanced(factors, np.eye(layer.inputs))
    return _Made(layer, form, balanced, layer.bias[0], record)


def _beside(graph: Graph, original: Original) -> Original:
    """Return what a graph is fitted to: itself, if it is not known which channels it lost."""
    known = {v.name: v.type for v in original.graph.values()}
    for node in graph.nodes:
        for value in node.outputs:
            kind, kept = known.get(value.name), original.kept.get(value.name)
            if kind is None or kind.dims is None or value.type.dims is None:
                continue
            wide = kind.dims if kept is None else (kind.dims[0], len(kept), *kind.dims[2:])
            if wide[1:2] != value.type.dims[1:2]:
                return Original(graph, original.samples)
    return original


class _Fitting:
    """One graph on its way; dropped afterwards."""

    def __init__(self, graph: Graph, original: Original, forms: Mapping[str, Form]) -> None:
        self._graph, self._original, self._forms = graph, original, forms
        self._walk = Walk(_eager(graph), original.samples, half=True)
        self._beside = Beside(_eager(original.graph), original.samples)
        self._begun = False
        self.moved: dict[str, tuple[Array, Array]] = {}
        """Weights and biases of layers that follow, by the names of their results."""
        self.followed: list[LayerRecord] = []

    def layers(self) -> Iterator[_Made]:
        """Yield the layers that are factorised, in order, and see to the others on the way."""
        walk = self._walk
        for node in walk.nodes:
            layer = linear_layer(self._graph, node)
            form = self._forms.get(node.outputs[0].name)
            if layer is None or (form is None and not self._may_follow(layer)):
                walk.hold(node, walk.run(node))
            elif form is None:
                self._follow(layer)
            else:
                made = self._fitted(layer, form)
                yield made
                weight = form.dense(made.factors)
                walk.hold(node, self._run(node, weight, made.bias))
                self._begun = True

    def _may_follow(self, layer: LinearLayer) -> bool:
        """Whether a layer that stays as it is may make up for those before it."""
        return (
            self._begun
            and refusal(self._graph, layer.node) is None
            and len(layer.node.inputs) > 2
            and self._beside.has(layer.name)
        )

    def _follow(self, layer: LinearLayer) -> None:
        """Fit a layer to what the original yields, on what those before it yield now."""
        fit, judge = self._moments(layer)
        weight, bias = _wanted(layer, fit, judge), layer.bias
        if weight is not layer.weight:
            bias = fit.bias(weight)
            self.moved[layer.name] = weight, bias
            before, after = (
                sqnr(_power(judge), float(judge.error(w, b).sum()))
                for w, b in ((layer.weight, layer.bias), (weight, bias))
            )
            self.followed.append(LayerRecord(layer.node.layer, before, after, "fitted"))
        self._walk.hold(layer.node, self._run(layer.node, weight[0], bias[0]))

    def _run(self, node: Node, weight: Array, bias: Array) -> Iterator[dict[str, Array]]:
        """Yield what a layer makes with other weights: what its factors would make."""
        weight = weight.reshape(node.inputs[1].type.ints)
        values = {node.inputs[1]: weight.astype(np.float32)}
        if len(node.inputs) > 2:
            values[node.inputs[2]] = bias.astype(np.float32)
        else:
            kind = node.inputs[1].type.with_shape((len(bias),))
            added = Value(f"{node.inputs[1].name}.bias", kind)
            values[added] = bias.astype(np.float32)
            node = replace(node, inputs=(*node.inputs, added))
        yield from self._walk.run(node, values)

    def _fitted(self, layer: LinearLayer, form: Form) -> _Made:
        reader = _reader(self._graph, layer.node)
        passing = None if reader is None else _Passing(len(layer.bias[0]), layer.node)
        fit, judge = self._moments(layer, passing)
        metric = None if reader is None or passing is None else passing.metric(reader)
        covariance = covariance_of(fit)
        weight = _wanted(layer, fit, judge)[0]
        power = _power(judge)

        def ratio(factors: Factors) -> float:
            dense = form.dense(factors)[None]
            return sqnr(power, float(judge.error(dense, fit.bias(dense)).sum()))

        factors = form.fitted(weight, covariance, metric)
        bias = fit.bias(form.dense(factors)[None])[0]
        before = form.start(layer.weight[0])
        record = LayerRecord(layer.node.layer, ratio(before), ratio(factors), str(form))
        balanced = form.balanced(factors, fit.xx[0] / max(fit.count, 1))
        return _Made(layer, form, balanced, bias, record)

    def _moments(
        self, layer: LinearLayer, passing: _Passing | None = None
    ) -> tuple[Moments, Moments]:
        """Return what to fit to and to judge by."""
        node, walk = layer.node, self._walk
        groups, outputs, n = layer.weight.shape
        parts = Moments.empty(groups, outputs, n), Moments.empty(groups, outputs, n)
        held, rng = held_out(walk.count), np.random.default_rng(0)
        rows = -(-max(_ROWS_PER_INPUT * n, _LEAST_ROWS) // walk.count)
        kernel = node.inputs[1].type.ints
        wanted = self._targets(node)
        for k, (x, y) in enumerate(zip(walk.inputs(node, 0), wanted, strict=True)):
            count = places_of(y)
            at = np.sort(rng.choice(count, min(rows, count), replace=False))
            inner, results = patches(node.op, kernel, x, y, groups, at)
            parts[int(held[k])].add(inner, results)
            if passing is not None and not held[k]:
                passing.add(results[0])
        return parts

    def _targets(self, node: Node) -> Iterator[Array]:
        """Yield what a layer should yield before its activation, on each sample.

        What the original does; and where it is added to something that is off by now, what
        makes up for that.
        """
        real = self._beside.reach(node.output.name)
        if real is None:
            plain = replace(node, op=_without_activation(node))
            yield from (r[node.output.name] for r in self._walk.run(plain))
            return
        left, name = self._original.left, node.output.name
        off = self._off(node, real)
        results = (y for y, _ in self._beside.results(real))
        if off is None:
            yield from (left(name, y) for y in results)
        else:
            yield from (left(name, y) + d for y, d in zip(results, off, strict=True))

    def _off(self, node: Node, real: Node) -> Iterator[Array] | None:
        """Return how far the other operand of the sum is off that a layer goes into."""
        walk, beside = self._walk, self._beside
        here, there = _summed(walk.graph, node), _summed(beside.graph, real)
        if here is None or there is None or here[1].name != there[1].name:
            return None
        (mine, other), (theirs, right) = here, there
        if other.name not in walk.held or right.name not in beside.held:
            return None
        ours = walk.inputs(mine, mine.inputs.index(other))
        wanted = beside.inputs(theirs, theirs.inputs.index(right))
        return (
            self._original.left(right.name, w) - o for w, o in zip(wanted, ours, strict=True)
        )


class _Passing:
    """Which results of a layer pass its activation together, and so what their errors do."""

    def __init__(self, outputs: int, node: Node) -> None:
        assert isinstance(node.op, Conv | FullyConnected)
        self._low, self._high = node.op.activation.bounds
        self._together, self._count = np.zeros((outputs, outputs)), 0

    def add(self, results: Array) -> None:
        """Take results before the activation, ``[places, O]``."""
        passed = ((results > self._low) & (results < self._high)).astype(np.float32)
        self._together += passed.T @ passed
        self._count += len(passed)

    def metric(self, reader: LinearLayer) -> Array:
        """Return how much errors count for what reads the results, ``[O, O]``.

        Those of its own results, if errors at different places have nothing in common:
        ``G = E[m m^T] * sum_p V_p^T V_p`` for weights ``V_p`` at each place of its kernel and
        ``m`` what the activation lets pass; and a little of each error by itself.
        """
        outputs = len(self._together)
        weight = reader.weight[0].reshape(len(reader.weight[0]), outputs, -1)
        read = np.einsum("ocp,odp->cd", weight, weight)
        together = self._together / max(self._count, 1)
        return np.asarray(damped((together * read)[None], _OWN)[0])


def _reader(graph: Graph, node: Node) -> LinearLayer | None:
    """Return the one layer that reads a result, if it is a plain convolution or product."""
    users = graph.users.get(node.output, ())
    if len(users) != 1 or node.output in graph.outputs or users[0].inputs[0] != node.output:
        return None
    return None if refusal(graph, users[0]) else linear_layer(graph, users[0])


def _without_activation(node: Node) -> Conv | FullyConnected:
    assert isinstance(node.op, Conv | FullyConnected)
    return replace(node.op, activation=type(node.op)().activation)


def _summed(graph: Graph, node: Node) -> tuple[Node, Value] | None:
    """Return the sum that a layer without an activation goes into, and its other operand."""
    users = graph.users.get(node.output, ())
    if len(users) != 1 or not isinstance(users[0].op, Add) or node.output in graph.outputs:
        return None
    if not isinstance(node.op, Conv | FullyConnected) or node.op != _without_activation(node):
        return None
    others = [v for v in users[0].inputs if v != node.output]
    if len(others) != 1 or others[0].type.dims != node.output.type.dims:
        return None
    return users[0], others[0]


def _power(moments: Moments) -> float:
    """Return the variance of what a layer should yield, summed over its results."""
    count = max(moments.count, 1)
    return float((moments.yy - moments.y**2 / count).sum()) / count


def _wanted(layer: LinearLayer, fit: Moments, judge: Moments) -> Array:
    """Return the weights ``[1, O, n]`` that come nearest to what is wanted.

    Those that the layer has, moved by least squares with the damping that is best on samples
    held out; or those themselves, where none is better.
    """
    best = layer.weight
    least = judge.error(best, layer.bias).sum()
    covariances = fit.centred()
    for damping in _DAMPINGS:
        moved = pulled(layer.weight, *covariances, damping)
        error = judge.error(moved, fit.bias(moved)).sum()
        if error < least:
            best, least = moved, error
    return best


def _eager(graph: Graph) -> Graph:
    """Return a graph in an order in which layers come as late as they can.

    So that what a layer's result is added to is known when its turn comes.
    """
    known = {v.name for v in graph.inputs} | set(graph.constants)
    waiting, nodes = list(graph.nodes), list[Node]()
    while waiting:
        ready = [n for n in waiting if all(v.name in known for v in n.reads)]
        chosen = next(
            (n for n in ready if not isinstance(n.op, Conv | FullyConnected)), ready[0]
        )
        waiting.remove(chosen)
        nodes.append(chosen)
        known |= {v.name for v in chosen.outputs}
    return replace(graph, nodes=tuple(nodes))


def _rewritten(graph: Graph, made: Sequence[_Made]) -> Graph:
    """Return a graph with factors in place of layers."""
    by = {m.layer.name: m for m in made}
    b = Builder(graph)
    for node in graph.nodes:
        found = by.get(node.outputs[0].name)
        if found is None:
            b.copy(node)
            continue
        value = b.now(node.inputs[0])
        assert isinstance(node.op, Conv | FullyConnected)
        *before, last = layers_of(found.form, found.factors, node.op)
        near = node.inputs[1].name
        for piece in before:
            weight = b.constant(piece.weight.astype(np.float32), f"{near}.{piece.name}")
            value = b.step(
                piece.op, value, weight, of=node, near=f"{node.output.name}.{piece.name}"
            )
        weight = b.constant(last.weight.astype(np.float32), f"{near}.{last.name}")
        bias = b.constant(found.bias.astype(np.float32), f"{near}.bias")
        b.add(last.op, value, weight, bias, like=node)
    return b.finish()
