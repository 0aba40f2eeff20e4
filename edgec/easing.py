"""What is done to a float graph so that quantization takes less off it."""

from __future__ import annotations

from itertools import islice

from edgec.cost import cost
from edgec.ir import Graph
from edgec.options import CompileOptions, calibrates
from edgec.passes import (
    ChooseScales,
    EqualizeClippedLayers,
    EqualizeLayers,
    Pass,
    PassRecord,
    Pipeline,
    QuantizeGraph,
)
from edgec.split import Split
from edgec.targets import Target
from edgec.verdict import Progress

__all__ = ["eased", "easing"]

_SAMPLES, _LEAST_SAMPLES = 32, 8
_BYTES = 256 << 20
"""Of the activations of all samples, about: of large models fewer are taken."""


def easing(
    target: Target, graph: Graph, data: Split, options: CompileOptions
) -> tuple[Pass, ...]:
    """Return the passes that make a prepared graph easier to quantize, by effort.

    With a scale for each channel of the weights, there is nothing to gain from weights that are
    alike.
    """
    scheme = target.scheme()
    if options.effort == "fast" or scheme.per_channel or not calibrates(options):
        return ()
    room = _BYTES // max(cost(graph).peak_activation_bytes, 1)
    count = max(_LEAST_SAMPLES, min(_SAMPLES, room))
    samples = tuple(islice(data.calibration(), count))
    ways = (EqualizeLayers(), EqualizeClippedLayers(samples))
    step = QuantizeGraph(scheme=scheme, keep_float=options.keep_float)
    return (ChooseScales(ways, step, samples),)


def eased(
    target: Target, graph: Graph, data: Split, options: CompileOptions, say: Progress
) -> tuple[Graph, tuple[PassRecord, ...]]:
    """Return a prepared graph that is easier to quantize, and what was done to it."""
    steps = easing(target, graph, data, options)
    return Pipeline(steps, None, lambda name: say(name, 0, 0)).run(graph)
