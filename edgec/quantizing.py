"""Recipes: what quantizes a model on its way through the compiler."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.calibrating import calibrated
from edgec.calibration import Calibration
from edgec.ir import Graph
from edgec.options import CompileOptions, calibrates
from edgec.passes import Pass, PassRecord, Pipeline, QuantizeGraph, Scheme, StoreWeights
from edgec.recovery import recovery
from edgec.split import Split
from edgec.targets import Target
from edgec.verdict import Progress

__all__ = ["quantization", "quantized"]


def quantized(
    target: Target,
    graph: Graph,
    data: Split,
    calibrations: list[tuple[Graph, Calibration]],
    schemes: Sequence[Scheme],
    options: CompileOptions,
    say: Progress,
) -> tuple[Graph, tuple[PassRecord, ...]]:
    """Quantize a graph for one target.

    Parameters
    ----------
    calibrations
        What was calibrated before, by graph: it is shared where the graph is the same. More is
        added here.
    schemes
        Of all targets, whose values are calibrated at once.
    """
    recipe, scheme = target.recipe, target.scheme()
    if calibrates(options):
        calibration = next((c for g, c in calibrations if g is graph), None)
        if calibration is None:
            calibration = calibrated(graph, data, schemes, options, say)
            calibrations.append((graph, calibration))
        steps = quantization(target, graph, calibration, data, options)
    else:
        bits, each = recipe.weight_bits, recipe.per_channel
        steps = (StoreWeights(bits, each, scheme.packed, options.keep_float),)
    return Pipeline(steps, None, lambda name: say(name, 0, 0)).run(graph)


def quantization(
    target: Target, graph: Graph, calibration: Calibration, data: Split, options: CompileOptions
) -> tuple[Pass, ...]:
    """Return the passes that quantize a graph, with the effort asked for."""
    step = QuantizeGraph(calibration, target.scheme(), options.keep_float)
    given = options.ranges is not None or options.percentile is not None
    return (step, *recovery(options.effort, step, graph, data, ranges=not given))
