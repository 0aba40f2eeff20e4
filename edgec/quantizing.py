"""Recipes: what quantizes a model on its way through the compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from edgec.calibrating import calibrated
from edgec.calibration import Calibration
from edgec.easing import eased
from edgec.ir import Graph
from edgec.options import CompileOptions, Sharing, calibrates
from edgec.passes import (
    Pass,
    PassRecord,
    Precision,
    QuantizeGraph,
    Scheme,
    ShareWeights,
    StoreWeights,
)
from edgec.recovery import forewarning, recovery, walked_samples
from edgec.split import Split
from edgec.targets import Target
from edgec.verdict import SENTENCE, Progress

__all__ = ["AS_THE_RECIPE_SAYS", "Calibrated", "Mix", "Quantizing", "quantizing"]

Mix = Mapping[str, Precision]
"""The precision of layers that is not what the recipe says, by the name of what they yield."""

AS_THE_RECIPE_SAYS: Mix = MappingProxyType({})


class Calibrated(NamedTuple):
    """A graph with its ranges.

    Parameters
    ----------
    prepared
        As a target wants it.
    graph
        The same, made easier to quantize.
    records
        What that took.
    """

    prepared: Graph
    graph: Graph
    records: tuple[PassRecord, ...]
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class Quantizing:
    """A float graph, with all that is needed to quantize it for one target.

    Parameters
    ----------
    graph
        As the target wants it.
    calibration
        ``None`` for recipes that leave activations in float.
    records
        What was done to make the graph easier to quantize.
    """

    target: Target
    graph: Graph
    calibration: Calibration | None
    data: Split
    options: CompileOptions
    records: tuple[PassRecord, ...] = ()

    def passes(
        self, mix: Mix = AS_THE_RECIPE_SAYS, effort: str | None = None
    ) -> tuple[Pass, ...]:
        """Return the passes that quantize the graph, with the effort asked for or another."""
        recipe, scheme = self.target.recipe, self.target.scheme()
        kept, each = self.options.keep_float, scheme.per_channel
        halves = _named(mix, "float16")
        extra = (StoreWeights(16, only=halves),) if halves else ()
        if self.calibration is None:
            powers = scheme.power_of_two
            bits, spared = recipe.weight_bits, (*kept, *mix)
            first = StoreWeights(bits, each, scheme.packed, spared, power_of_two=powers)
            bytes_ = _named(mix, "int8")
            rest = StoreWeights(8, each, only=bytes_, power_of_two=powers)
            return (first, *((rest,) if bytes_ else ()), *extra)
        step = QuantizeGraph(
            self.calibration,
            scheme,
            kept,
            spared=(*halves, *_named(mix, "float32")),
            whole=_named(mix, "int8"),
            wide=_named(mix, "int16"),
        )
        given = self.options.ranges is not None or self.options.percentile is not None
        given = given or recipe.activations == "int16"  # nothing is to be cut off
        effort = effort or self.options.effort
        # A smaller graph has learned before it is quantized.
        train = self.options.recover if self.options.goal is None else None
        steps = recovery(effort, step, self.graph, self.data, ranges=not given, train=train)
        return (step, *steps, *extra)

    def sharing(self, asked: Sharing, mix: Mix = AS_THE_RECIPE_SAYS) -> ShareWeights:
        """Return the pass that lets the weights of the quantized graph share few values.

        Layers of a mix have more bits as they lose too much: they keep all their values.
        """
        effort = "max" if self.options.effort == "max" else "full"
        samples = walked_samples(effort, self.graph, self.data)
        kept = dict.fromkeys(mix, 0)
        return ShareWeights(self.graph, samples, asked.count, asked.per_channel, kept)


def _named(mix: Mix, precision: Precision) -> tuple[str, ...]:
    return tuple(name for name, found in mix.items() if found == precision)


def quantizing(
    target: Target,
    graph: Graph,
    data: Split,
    calibrations: list[Calibrated],
    schemes: Sequence[Scheme],
    options: CompileOptions,
    say: Progress,
) -> Quantizing:
    """Return what is needed to quantize a graph for one target.

    Parameters
    ----------
    calibrations
        What was calibrated before: it is shared where the graph is the same. More is added
        here.
    schemes
        Of all targets, whose values are calibrated at once.
    """
    if not calibrates(options):
        return Quantizing(target, graph, None, data, options)
    if options.effort == "max":
        each = ", for every try" if options.max_drop is not None else ""
        say(f"{target.name}, {forewarning(graph)}{each}", 0, SENTENCE)
    known = next((c for c in calibrations if c.prepared is graph), None)
    if known is None:
        every = options.max_drop is not None  # other layers may come to stay in float
        easier, records = eased(target, graph, data, options, say)
        calibration = calibrated(easier, data, schemes, options, say, every=every)
        known = Calibrated(graph, easier, records, calibration)
        calibrations.append(known)
    return Quantizing(target, known.graph, known.calibration, data, options, known.records)
