"""Calibration as the compiler needs it: until the range of every value is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType

from edgec.calibration import Calibration, CalibrationReport, calibrate
from edgec.errors import Diagnostic, OptionError
from edgec.ir import Graph
from edgec.options import CompileOptions, range_method
from edgec.passes import Scheme
from edgec.passes.quantization_plan import plan
from edgec.split import Split
from edgec.verdict import Progress, counter

__all__ = ["calibrated", "suspicions"]


def calibrated(
    graph: Graph,
    data: Split,
    schemes: Sequence[Scheme],
    options: CompileOptions,
    say: Progress,
    *,
    every: bool = False,
) -> Calibration:
    """Return the ranges of all values that any of the schemes needs.

    What the ranges show may keep layers in float, and then other values are needed.

    Parameters
    ----------
    every
        Whether to find those too that are needed only if further layers stay in float.
    """
    method = range_method(options)
    found = Calibration(MappingProxyType({}), "", 0)
    while True:
        plans = [plan(graph, options.keep_float, s, found.ranges) for s in schemes]
        if not any(p.nodes for p in plans):
            raise OptionError(
                "no layer of this model can be quantized; leave out --recipe", plans[0].reasons
            )
        values = dict.fromkeys(v for p in plans for v in (p.computed if every else p.measured))
        missing = tuple(v for v in values if v.name not in found.ranges)
        if not missing and found.samples:
            return found
        tick = counter(say, "calibrate", data.calibration_count)
        more = calibrate(graph, missing, data.calibration(), method, tick)
        ranges = MappingProxyType({**found.ranges, **more.ranges})
        report = more.report if found.report is None else found.report.joined(more.report)
        found = replace(more, ranges=ranges, report=report)


def suspicions(told: CalibrationReport | None) -> Iterator[Diagnostic]:
    """Yield what looks wrong with the samples: it may be why an artifact is broken."""
    for w in () if told is None else told.warnings:
        yield Diagnostic(f"the samples look wrong: {w.message}", w.where, w.hint)
