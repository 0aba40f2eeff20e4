"""Scales of channels, chosen by what quantization makes of the graph with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from edgec.calibration import DEFAULT, METHODS, Calibration, calibrate
from edgec.ir import Array, Graph
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.judging import LEAST_SAMPLES, Judge, held_out, surely_nearer
from edgec.passes.quantize import QuantizeGraph
from edgec.passes.round_weights import RoundWeights

__all__ = ["ChooseScales"]


@dataclass(frozen=True, slots=True)
class ChooseScales(Pass):
    """Rewrite a float graph in one of several ways, if that makes it easier to quantize.

    Each way is tried: the graph is quantized, and its outputs are compared with those of the
    float graph. The best way is kept if it is better than none beyond chance. Every fourth
    sample judges; ranges and roundings come from the others, and so should the ways: what was
    fitted to a sample is right there, whatever it does to others.

    Lossy if a way is. On record is a line for each way tried, whose ratios are those of the
    quantized outputs without it and with it, and then what the chosen one did to each layer.

    Parameters
    ----------
    ways
        Passes over float graphs that are run one after the other, by what they are called.
    step
        How the graph is to be quantized; ranges are found here.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes.
    rounds
        Whether weights are rounded by :class:`RoundWeights` before the outputs are compared,
        as they will be: it takes long, and undoes much of what other scales would prevent.
    """

    name: ClassVar[str] = "choose-scales"
    promise: ClassVar[Promise] = Lossy()
    ways: Mapping[str, tuple[Pass, ...]] = field(hash=False)
    step: QuantizeGraph
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)
    rounds: bool = False

    @override
    def run(self, graph: Graph) -> Graph:
        return self.run_recorded(graph)[0]

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        if len(self.samples) < LEAST_SAMPLES:
            return graph, ()
        tried = {name: _run(passes, graph) for name, passes in self.ways.items()}
        tried = {name: found for name, found in tried.items() if found[0] is not graph}
        if not tried or not self.step.plan(graph).nodes:
            return graph, ()
        judge = Judge(graph, list(compress(self.samples, held_out(len(self.samples)))))
        plainly = judge.errors(self.quantized(graph))
        errors = {name: judge.errors(self.quantized(g)) for name, (g, _) in tried.items()}
        best = max(errors, key=lambda name: judge.ratio(errors[name]))
        chosen = best if surely_nearer(errors[best], plainly) else None
        records = tuple(
            LayerRecord(
                f"scales: {name}",
                judge.ratio(plainly),
                judge.ratio(found),
                "chosen" if name == chosen else "plain",
            )
            for name, found in errors.items()
        )
        if chosen is None:
            return graph, records
        made, told = tried[chosen]
        return made, (*records, *told)

    def quantized(self, graph: Graph) -> Graph:
        """Return a float graph in integers, with ranges from the samples."""
        fitted = list(compress(self.samples, ~held_out(len(self.samples))))
        found = Calibration(MappingProxyType({}), "", 0)
        while True:
            step = replace(self.step, calibration=found)
            missing = [v for v in step.plan(graph).measured if v.name not in found.ranges]
            if not missing:
                break
            more = calibrate(graph, missing, fitted, METHODS[DEFAULT]())
            ranges = MappingProxyType({**found.ranges, **more.ranges})
            found = replace(more, ranges=ranges, report=None)
        made = step.run(graph)
        return RoundWeights(graph, fitted).run(made) if self.rounds else made


def _run(passes: Sequence[Pass], graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
    """Return what passes make of a graph, and what they say of its layers."""
    told: tuple[LayerRecord, ...] = ()
    for step in passes:
        graph, more = step.run_recorded(graph)
        told += more
    return graph, told
