"""What each way to make a model smaller would cost and save, one place at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgec.budgets import TECHNIQUES
from edgec.cache import Cache
from edgec.compression import Technique, techniques_for
from edgec.compression.keys import key_of, numbers
from edgec.cost import cost
from edgec.errors import OptionError
from edgec.frontend import load
from edgec.interface import check_interface
from edgec.ir import Array, Graph
from edgec.latency import kernels_for, predicted_seconds
from edgec.making import Making
from edgec.options import CompileOptions, calibrates, targets_for
from edgec.passes import Pipeline, Precision, simplify
from edgec.passes.divergence import Divergence
from edgec.passes.judging import held_out, judging
from edgec.precision.choices import choices
from edgec.quantizing import quantizing
from edgec.shrinking import compression_samples
from edgec.split import Split
from edgec.targets import Target
from edgec.verdict import Progress

__all__ = ["sensitivity_report"]

_JUDGES = 64
_FLOAT_BYTES = 4


def sensitivity_report(
    model: Path, options: CompileOptions, progress: Progress | None = None
) -> dict[str, Any]:
    """Return for every place and every way what the outputs lose with that alone, in nats.

    What was measured once is read from the user's cache; a run that is stopped goes on where
    it was.

    Parameters
    ----------
    options
        With one target and calibration samples. With a recipe, what its integers cost each
        layer is measured too; times are those of its kernels.

    Returns
    -------
    dict
        ``rows`` hold ``technique``, ``layer``, ``option``, ``nats``, and what is saved:
        ``macs``, ``bytes`` of weights in float32, and ``seconds``, which are predicted from
        shapes; ``None`` where that depends on the layers beside.

    Raises
    ------
    ModelError, OptionError, DataError, UnsupportedError
        As compiling does.
    """
    say = progress or (lambda stage, done, total: None)
    targets = targets_for(options)
    if len(targets) != 1 or options.calibration is None:
        raise OptionError("sensitivity is measured for one target, with --calibration")
    (target,) = targets
    loaded = load(model, options.shapes)
    check_interface(loaded.graph, targets)
    data = Split(loaded, options.calibration, options.preprocess, calibrates=True)
    graph, _ = simplify(loaded.graph, None, lambda name: say(name, 0, 0))
    schemes = [target.scheme()]
    making = Making(data, None, schemes, None, options, loaded.size_bytes, say)
    graph, _ = making.prepared(target, graph)
    samples = compression_samples(data, graph)
    cache = Cache.of_user()
    kernels = kernels_for(target.name, graph, integers=calibrates(options))
    techniques = techniques_for(
        graph,
        samples,
        options.techniques or TECHNIQUES,
        multiple=options.channel_multiple or target.channel_multiple,
        kernels=kernels,
        cache=cache,
        say=say,
    )
    rows: list[dict[str, Any]] = []
    whole, took = cost(graph), predicted_seconds(graph, kernels)
    for row, smaller in _structural(techniques, graph):
        now = cost(smaller)
        row["macs"] = whole.macs - now.macs
        row["bytes"] = (whole.parameters - now.parameters) * _FLOAT_BYTES
        row["seconds"] = took - predicted_seconds(smaller, kernels)
        rows.append(row)
    if options.recipe is not None:
        rows += _quantized(making, target, graph, samples, cache)
    return {
        "file": model.name,
        "target": target.name,
        "samples": len(samples),
        "held_out": int(held_out(len(samples)).sum()),
        "macs": whole.macs,
        "bytes": whole.parameters * _FLOAT_BYTES,
        "seconds": took,
        "rows": rows,
    }


def _structural(
    techniques: Sequence[Technique], graph: Graph
) -> Iterator[tuple[dict[str, Any], Graph]]:
    """Yield a row for each option of each site, and the graph with it."""
    for technique in techniques:
        for site in technique.sites:
            for k, option in enumerate(site.options):
                if k:
                    row = {
                        "technique": technique.name,
                        "layer": site.layer,
                        "option": option.label,
                        "nats": option.nats,
                    }
                    yield row, technique.skeleton({site.name: k}, graph)


def _quantized(
    making: Making,
    target: Target,
    graph: Graph,
    samples: Sequence[Mapping[str, Array]],
    cache: Cache,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each layer with the integers of the recipe, all others in float."""
    # With a limit the ranges suffice to leave any other layers in float.
    options = replace(making.options, effort="fast", max_drop=0.0)
    say = making.say
    way = quantizing(target, graph, making.data, [], making.schemes, options, say)
    layers = choices(way)
    judges = judging(samples)[:_JUDGES]
    assert way.calibration is not None
    ranges = sorted(way.calibration.ranges.items())  # of all samples, not only of these
    key = key_of(
        way.graph,
        samples,
        f"quantize {target!r} {options.recipe} {options.keep_float} {ranges}",
    )
    known = numbers(cache.read(key))
    judge: Divergence | None = None
    by_name = {v.name: n for v, n in way.graph.producers.items()}
    for done, layer in enumerate(layers, 1):
        if layer.name not in known:
            judge = judge or Divergence(graph, judges)
            others: dict[str, Precision] = {
                c.name: "float32" for c in layers if c.name != layer.name
            }
            made, _ = Pipeline(way.passes(others, "fast")).run(way.graph)
            lost = float(judge.of(made).mean())
            known[layer.name] = max(lost, 0.0) if math.isfinite(lost) else 1e6
            cache.write(key, known)
        say("measure integers", done, len(layers))
        stored = [way.graph.constants.get(v.name) for v in by_name[layer.name].inputs]
        count = sum(c.array.size for c in stored if c is not None)
        yield {
            "technique": "quantize",
            "layer": layer.layer,
            "option": layer.precisions[0],
            "nats": known[layer.name],
            "macs": 0,
            "bytes": count * (_FLOAT_BYTES - making.weight_bits / 8),
            "seconds": None,
        }
