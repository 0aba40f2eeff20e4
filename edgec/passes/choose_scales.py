"""Scales of channels, chosen by what quantization makes of the graph with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from edgec.calibration import DEFAULT, METHODS, Calibration, calibrate
from edgec.ir import Array, Graph
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.judging import LEAST_SAMPLES, Judge, surely_nearer
from edgec.passes.quantize import QuantizeGraph

__all__ = ["ChooseScales"]


@dataclass(frozen=True, slots=True)
class ChooseScales(Pass):
    """Rewrite a float graph in one of several ways, if that makes it easier to quantize.

    Each way is tried: the graph is quantized with ranges only, and its outputs are compared
    with those of the float graph. The best way is kept if it is surely better than none.

    Lossy if a way is. On record is a line for each way tried, whose ratios are those of the
    quantized outputs without it and with it, and then what the chosen one did to each layer.

    Parameters
    ----------
    ways
        Passes over float graphs, such as :class:`EqualizeLayers`.
    step
        How the graph is to be quantized; ranges are found here.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.
    """

    name: ClassVar[str] = "choose-scales"
    promise: ClassVar[Promise] = Lossy()
    ways: tuple[Pass, ...]
    step: QuantizeGraph
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        if len(self.samples) < LEAST_SAMPLES:
            return graph, ()
        made = [(way, *way.run_recorded(graph)) for way in self.ways]
        made = [(way, other, told) for way, other, told in made if other is not graph]
        if not made or not self.step.plan(graph).nodes:
            return graph, ()
        judge = Judge(graph, self.samples)
        plainly = judge.errors(self._quantized(graph))
        errors = [judge.errors(self._quantized(other)) for _, other, _ in made]
        ratios = [judge.ratio(e) for e in errors]
        best = max(range(len(made)), key=ratios.__getitem__)
        chosen = surely_nearer(errors[best], plainly)
        records = [
            LayerRecord(
                f"scales: {way.name}",
                judge.ratio(plainly),
                ratio,
                "chosen" if chosen and i == best else "plain",
            )
            for i, ((way, *_), ratio) in enumerate(zip(made, ratios, strict=True))
        ]
        if not chosen:
            return graph, tuple(records)
        _, other, told = made[best]
        return other, (*records, *told)

    def _quantized(self, graph: Graph) -> Graph:
        """Return the graph in integers, with ranges from the samples."""
        found = Calibration(MappingProxyType({}), "", 0)
        while True:
            step = replace(self.step, calibration=found)
            missing = [v for v in step.plan(graph).measured if v.name not in found.ranges]
            if not missing:
                return step.run(graph)
            more = calibrate(graph, missing, self.samples, METHODS[DEFAULT]())
            ranges = MappingProxyType({**found.ranges, **more.ranges})
            found = replace(more, ranges=ranges, report=None)
