"""Ranges of a quantized graph, each chosen by what it alone does to the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from typing_extensions import override

from edgec.calibration import METHODS, Calibration
from edgec.evaluate import Evaluator
from edgec.ir import Array, DType, Graph, Node, QuantParams, Value
from edgec.numerics import sqnr
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.judging import LEAST_SAMPLES, Judge, held_out, judged
from edgec.passes.quantize import QuantizeGraph, activation_params
from edgec.passes.scheme import Scheme
from edgec.passes.walk import Walk, each_of, on_grid

__all__ = ["RefineRanges"]

_FINER = "half the scale"
_FAR = 1.02
"""How many times as wide as another a range is that is worth to be tried."""

_LEAST_DB = 0.25
"""By how much another range has to be better."""


@dataclass(frozen=True, slots=True)
class RefineRanges(Pass):
    """Quantize a graph again, each value with the range that brings the outputs nearest.

    Calibration remembers what each method makes of every value, and no method is best for all.
    Here a value alone is put on the grid that each of them makes, in the float model, and what
    that does to the outputs tells which to take: the mean magnitude of their errors over the
    samples, as squares would leave it to the few samples that a range cuts off much of. Values
    that share a grid are taken together. Errors of single values add up nearly, so that one
    round is enough.

    Every fourth sample is held out and judges: the whole graph is as it was if its outputs are
    no nearer beyond chance.

    Lossy. On record is each value whose methods differ; the ratios are those of the outputs
    with that value alone on a grid.

    Parameters
    ----------
    step
        The quantization that made the graph.
    reference
        The float graph that it was made from.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.
    methods
        Names of the range methods to try; see :data:`edgec.calibration.METHODS`. Where scales
        are powers of two, the next lower one is tried too.
    most_samples
        On how many samples each range is tried.
    most_values
        For how many values ranges are tried: those whose methods differ most.
    """

    name: ClassVar[str] = "refine-ranges"
    promise: ClassVar[Promise] = Lossy()
    step: QuantizeGraph
    reference: Graph = field(hash=False, repr=False)
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)
    methods: tuple[str, ...] = tuple(METHODS)
    most_samples: int = 16
    most_values: int = 128

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        old = self.step.calibration
        if old.report is None or len(self.samples) < LEAST_SAMPLES:
            return graph, ()
        offers = _offers(self)
        if not offers:
            return graph, ()
        fit = list(compress(self.samples, ~held_out(len(self.samples))))
        judge = Judge(self.reference, fit[: self.most_samples])
        dtype = self.step.scheme.activation
        errors = _errors(self.reference, judge, offers, dtype)
        layers = {t.name: t.layer for t in old.report.tensors}
        ranges, records = dict(old.ranges), list[LayerRecord]()
        for offer, tried in zip(offers, errors, strict=True):
            ratios = {name: _ratio(e) for name, e in tried.items()}
            plainly, best = ratios[old.method], max(ratios, key=ratios.__getitem__)
            found = ratios[best]
            if found < plainly + _LEAST_DB:
                best = "plain"
            else:
                ranges |= {v.name: offer.ranges[best][v.name] for v in offer.values}
            first = offer.values[0].name
            records.append(LayerRecord(layers.get(first, first), plainly, found, best))
        if ranges == old.ranges:
            return graph, tuple(records)
        refined = replace(old, ranges=MappingProxyType(ranges))
        made = replace(self.step, calibration=refined).run(self.reference)
        return judged(self.reference, graph, made, self.samples, records)


def _ratio(errors: Array) -> float:
    """Return a ratio of signal to noise by the mean magnitude of errors, in decibels."""
    means = np.sqrt(errors).mean(axis=0)
    return float(np.mean([sqnr(1.0, float(m * m)) for m in means])) if means.size else 0.0


@dataclass(frozen=True, slots=True)
class _Offer:
    """Values that share a grid, and what the methods make of it.

    Parameters
    ----------
    values
        Those whose ranges are measured.
    grids
        By the name of the method; that of the calibration is the first.
    ranges
        By the name of the method and of the value.
    """

    values: tuple[Value, ...]
    grids: Mapping[str, QuantParams]
    ranges: Mapping[str, Mapping[str, tuple[float, float]]]

    @property
    def reach(self) -> float:
        """How many times as wide as the narrowest the widest range is."""
        scales = [grid.scale[0] for grid in self.grids.values()]
        return max(scales) / min(scales)


def _offers(step: RefineRanges) -> list[_Offer]:
    """Return what is worth to be tried, in the order in which values are computed."""
    quantize, graph = step.step, step.reference
    old, plan = quantize.calibration, quantize.plan(graph)
    if old.report is None:
        return []
    tensors = old.report.tensors
    ranges = {old.method: old.ranges}
    for name in step.methods:
        if name != old.method:
            ranges[name] = {t.name: t.methods[name] for t in tensors if name in t.methods}
    if quantize.scheme.power_of_two:
        ranges[_FINER] = {
            t.name: _finer(*old.ranges[t.name], quantize.scheme)
            for t in tensors
            if t.name in old.ranges
        }
    grids: dict[str, Mapping[Value, QuantParams]] = {}
    for name, found in ranges.items():
        other = Calibration(MappingProxyType({**old.ranges, **found}), name, old.samples)
        grids[name] = replace(quantize, calibration=other).grids(graph)
    groups: dict[Value, list[Value]] = {}
    known = {t.name for t in tensors}
    for value in plan.measured:
        if value.name in known:
            groups.setdefault(plan.group_of[value], []).append(value)
    offers: list[_Offer] = []
    for values in groups.values():
        differing = _differing({name: g[values[0]] for name, g in grids.items()}, old.method)
        if len(differing) > 1:
            offers.append(_Offer(tuple(values), differing, ranges))
    chosen = sorted(offers, key=lambda o: -o.reach)[: step.most_values]
    return [o for o in offers if o in chosen]


def _finer(low: float, high: float, scheme: Scheme) -> tuple[float, float]:
    """Return as much of a range as half its scale covers, where scales are powers of two.

    The next power of two is up to twice what a range needs: the one below may cut off little.
    """
    plain, power = (
        activation_params(
            low, high, scheme.activation, symmetric=scheme.symmetric, power_of_two=powers
        )
        for powers in (False, True)
    )
    share = power.scale[0] / 2 / plain.scale[0]
    return share * low, share * high


def _differing(grids: Mapping[str, QuantParams], first: str) -> dict[str, QuantParams]:
    """Return the grids, without those that are nearly like others."""
    found = {first: grids[first]}
    for name, grid in grids.items():
        scales = [g.scale[0] for g in found.values()]
        if all(max(s, grid.scale[0]) / min(s, grid.scale[0]) > _FAR for s in scales):
            found[name] = grid
    return found


def _errors(
    graph: Graph, judge: Judge, offers: Sequence[_Offer], dtype: DType
) -> list[dict[str, Array]]:
    """Return for each offer what each of its grids does to the outputs, by method."""
    offered = {v: i for i, offer in enumerate(offers) for v in offer.values}
    none = np.zeros((len(judge.samples), len(judge.values)))
    errors = [dict.fromkeys(offer.grids, none) for offer in offers]
    walk, done = Walk(graph, judge.samples), {v.name for v in graph.inputs}

    def take(value: Value, arrays: Sequence[Array]) -> None:
        if (i := offered.get(value)) is not None:
            tail = _Tail(walk, judge, value, arrays, done)
            for name, grid in offers[i].grids.items():
                errors[i][name] = errors[i][name] + tail.errors(grid, dtype)

    for value in graph.inputs:
        take(value, [np.asarray(sample[value.name]) for sample in judge.samples])
    for node in walk.nodes:
        results = list(walk.run(node))
        walk.hold(node, results)
        done.update(v.name for v in node.outputs)
        for value in node.outputs:
            take(value, [r[value.name] for r in results])
    return errors


class _Tail:
    """What is left to compute of a graph, from where a walk stands, with one value changed.

    Parameters
    ----------
    arrays
        What the value is on every sample.
    done
        The names of all values that are computed.
    """

    def __init__(
        self, walk: Walk, judge: Judge, value: Value, arrays: Sequence[Array], done: set[str]
    ) -> None:
        self._walk, self._judge, self._value, self._arrays = walk, judge, value, arrays
        graph, missing = walk.graph, [n for n in judge.values if n not in done]
        found = {v.name: v for v in graph.values()}
        needed, nodes = {found[n]: None for n in missing}, list[Node]()
        for node in reversed(graph.nodes):
            if any(v in needed and v.name not in done for v in node.outputs):
                nodes.append(node)
                needed |= dict.fromkeys(node.reads)
        self._held = tuple(v for v in needed if v.name in done)
        constants = {
            v.name: c for v in needed if (c := graph.constants.get(v.name)) is not None
        }
        outputs = tuple(found[n] for n in missing)
        self._evaluator: Evaluator | None = None
        if outputs and value in self._held:
            rest = (self._held, outputs, tuple(reversed(nodes)), MappingProxyType(constants))
            self._evaluator = Evaluator(Graph(graph.name, *rest), optimize=True)

    def errors(self, grid: QuantParams, dtype: DType) -> Array:
        """Return the errors of the outputs with the value on a grid."""

        def result(k: int) -> dict[str, Array]:
            made = {self._value.name: on_grid(self._arrays[k], grid, dtype)}
            if self._evaluator is None:
                return made
            feeds = {**self._walk.at(k), **made}
            return made | self._evaluator.run({v.name: feeds[v.name] for v in self._held})

        return self._judge.errors_of(each_of(result, len(self._arrays)))
