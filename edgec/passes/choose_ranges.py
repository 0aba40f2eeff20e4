"""Ranges of a quantized graph, chosen by what they do to its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Array, Graph
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.judging import LEAST_SAMPLES, Judge, surely_nearer
from edgec.passes.quantize import QuantizeGraph

__all__ = ["ChooseRanges"]


@dataclass(frozen=True, slots=True)
class ChooseRanges(Pass):
    """Quantize a graph again with the ranges of another method, if its outputs come nearer so.

    No way to find ranges is best for every model: calibration remembers what each method makes
    of every value, and here the outputs of the whole graph decide. Nothing changes if none
    brings them nearer to those of the float model, beyond what may be chance.

    Lossy. On record is a line for each method tried; the ratios are those of the outputs.

    Parameters
    ----------
    step
        The quantization that made the graph.
    reference
        The float graph that it was made from.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.
    methods
        Names of the range methods to try; see :data:`edgec.calibration.METHODS`.
    """

    name: ClassVar[str] = "choose-ranges"
    promise: ClassVar[Promise] = Lossy()
    step: QuantizeGraph
    reference: Graph = field(hash=False, repr=False)
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)
    methods: tuple[str, ...] = ("mse",)

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        old = self.step.calibration
        tried = [name for name in self.methods if name != old.method]
        if old.report is None or not tried or len(self.samples) < LEAST_SAMPLES:
            return graph, ()
        graphs = [graph]
        for name in tried:
            found = {t.name: t.methods[name] for t in old.report.tensors}
            ranges = MappingProxyType({**old.ranges, **found})
            other = replace(self.step, calibration=replace(old, ranges=ranges, method=name))
            graphs.append(other.run(self.reference))
        judge = Judge(self.reference, self.samples)
        errors = [judge.errors(g) for g in graphs]
        plainly, *others = (judge.ratio(e) for e in errors)
        best = 1 + others.index(max(others))
        best = best if surely_nearer(errors[best], errors[0]) else 0
        records = (
            LayerRecord(f"ranges: {name}", plainly, db, "chosen" if best == i else "plain")
            for i, (name, db) in enumerate(zip(tried, others, strict=True), 1)
        )
        return graphs[best], tuple(records)
