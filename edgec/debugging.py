"""Which layers quantization hurts, and which to keep in float so that it does not."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from edgec.bisection import Found, Required, bisect, fidelity
from edgec.compiler import CompileOptions
from edgec.errors import OptionError
from edgec.evaluate import Evaluator
from edgec.ir import Graph
from edgec.numerics import Agreement
from edgec.passes import Pipeline
from edgec.passes.quantization_plan import plan
from edgec.preparation import Prepared, prepare
from edgec.quantizing import Quantizing
from edgec.recovery import forewarning
from edgec.verdict import SENTENCE, Progress, counter
from edgec.waterfall import LayerError, waterfall

__all__ = ["DebugOptions", "debug_model"]


@dataclass(frozen=True, slots=True)
class DebugOptions:
    """What to look for.

    Parameters
    ----------
    samples
        How many samples to measure on, at most; those held out of calibration come first.
    bisect
        Whether to search the layers to keep in float.
    required
        What is enough.
    """

    samples: int = 32
    bisect: bool = False
    required: Required = field(default_factory=Required)


def debug_model(
    model: Path,
    options: CompileOptions,
    debug: DebugOptions,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return what quantization does to every layer of a model, and to its outputs.

    Everything is measured on real graphs in ONNX Runtime, on samples that were not calibrated
    on if there are enough of them.

    Raises
    ------
    ModelError, OptionError, DataError, UnsupportedError
        As compiling does.
    """
    if debug.bisect and debug.required == Required():
        raise OptionError("--bisect needs a goal: give --min-sqnr or --min-agreement")
    if not debug.bisect and debug.required != Required():
        raise OptionError("--min-sqnr and --min-agreement are goals of --bisect: give that too")
    say = progress or (lambda stage, done, total: None)
    study = _Study(
        prepare(model, options, progress, every=debug.bisect), options, debug.samples
    )
    if options.effort == "max":
        each = ", for every try" if debug.bisect else ""
        say(f"{forewarning(study.prepared.graph)}{each}", 0, SENTENCE)
    say("compare layers", 0, 0)
    quantized = study.quantized(options.keep_float, options.effort)
    layers = study.layers(quantized)
    whole = study.fidelity(quantized)
    if debug.required.agreement is not None and whole.top1 is None:
        raise OptionError("--min-agreement needs an output of shape [N, classes]")
    found: dict[str, Any] = {
        "file": model.name,
        "target": study.prepared.target.name,
        "samples": study.count,
        "output": _figures(whole),
        "layers": [layer.to_dict() for layer in layers],
        "in_float": [asdict(reason) for reason in study.plan.reasons],
        "bisect": None,
    }
    if debug.bisect:
        names = study.keepable(layers)
        total = sum(layer.macs for layer in layers)
        result = bisect(
            names,
            lambda kept: study.measured(kept, options.effort) if kept else whole,
            debug.required,
            lambda done, of: counter(say, "search", of)(done),
            rank=lambda kept: study.measured(kept, "fast"),
        )
        macs = sum(la.macs for la in layers if set(la.names) & set(result.kept))
        found["bisect"] = {
            **_search(result, debug.required),
            "macs_share": round(macs / total, 4) if total else 0.0,
            "layers": len(names),
            "command": _command(model, options, result),
        }
    return found


class _Study:
    """A prepared model, quantized in one way after another."""

    def __init__(self, prepared: Prepared, options: CompileOptions, samples: int) -> None:
        self.prepared, self.options = prepared, options
        self.count = min(samples, prepared.data.proof_count)
        float_model = Evaluator(prepared.plain, optimize=True)
        scheme, ranges = prepared.target.scheme(), prepared.calibration.ranges
        self.plan = plan(prepared.graph, options.keep_float, scheme, ranges)
        self.wants = [float_model.run(f) for f in islice(prepared.data.proof(), self.count)]

    def quantized(self, keep_float: Sequence[str], effort: str) -> Graph:
        """Return the model with all other layers in integers."""
        p = self.prepared
        options = replace(self.options, keep_float=tuple(keep_float), effort=effort)
        steps = Quantizing(p.target, p.graph, p.calibration, p.data, options).passes()
        return Pipeline(steps).run(p.graph)[0]

    def layers(self, quantized: Graph) -> tuple[LayerError, ...]:
        """Return the error of every layer, in the order of the model."""
        p = self.prepared
        return waterfall(p.graph, self.plan, quantized, p.data.proof(), self.count)

    def keepable(self, layers: Sequence[LayerError]) -> list[str]:
        """Return a name for every layer that the user's model has a name for.

        A layer may stand for several of the model; that of the same operator says most.
        """
        model = self.prepared.loaded.graph
        kinds = {name: type(node.op).__name__ for node in model.nodes for name in node.origin}
        found: dict[str, None] = {}
        for layer in layers:
            same = [name for name in layer.names if kinds.get(name) == layer.operator]
            found.update(dict.fromkeys((*same, *layer.names)[:1]))
        return list(found)

    def measured(self, kept: Sequence[str], effort: str) -> Agreement:
        """Return how close the model is with further layers in float."""
        return self.fidelity(self.quantized((*self.options.keep_float, *kept), effort))

    def fidelity(self, quantized: Graph) -> Agreement:
        """Return how close a quantized model is, as the target finishes it."""
        graph, _ = Pipeline(self.prepared.target.finish()).run(quantized)
        return fidelity(graph, self.wants, islice(self.prepared.data.proof(), self.count))


def _figures(found: Agreement) -> dict[str, float | None]:
    return {
        "sqnr_db": round(found.sqnr_db, 2),
        "max_error": float(f"{found.max_error:.6g}"),
        "top1_agreement": found.top1,
    }


def _search(found: Found, required: Required) -> dict[str, Any]:
    return {
        "required": {"sqnr_db": required.sqnr_db, "agreement": required.agreement},
        "keep_float": list(found.kept),
        "before": _figures(found.before),
        "after": _figures(found.after),
        "measured": found.runs,
        "alone": [{"layer": name, **_figures(a)} for name, a in found.alone.items()],
    }


def _command(model: Path, options: CompileOptions, found: Found) -> str:
    """Return the command line that compiles with these layers in float."""
    words = ["edgec", "compile", str(model), "-t", options.targets[0]]
    words += ["--recipe", str(options.recipe), "--effort", options.effort]
    if isinstance(options.calibration, Path):
        words += ["--calibration", str(options.calibration)]
    given = {
        "--scheme": options.scheme,
        "--ranges": options.ranges,
        "--percentile": options.percentile,
        "--preprocess": options.preprocess,
    }
    for option, value in given.items():
        words += [] if value is None else [option, str(value)]
    for name, dims in options.shapes.items():
        words += ["--shape", f"{name}={','.join(map(str, dims))}"]
    for name in (*options.keep_float, *found.kept):
        words += ["--keep-float", name]
    return shlex.join([*words, "-o", "out"])
