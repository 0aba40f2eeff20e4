"""Every ONNX model of the data folder, and of the onnx package, through both targets."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.architectures import ARCHITECTURES, written
from benchmarks.models import DATA, SHAPES, Array, sensible_feeds
from benchmarks.processes import measure
from benchmarks.workers import Died, judged
from edgec.compiler import CompileOptions, compile_model
from edgec.errors import EdgecError
from edgec.evaluate import OnnxSession, ort_session
from edgec.frontend import Loaded, load
from edgec.ops import Opaque
from edgec.passes import simplify
from edgec.proof import Limits

__all__ = ["architectures", "memory", "models"]

TFLITE_LIMIT, GELU_LIMIT, ORT_LIMIT = 1e-4, 1e-3, Limits().max_float_error
"""Largest errors, relative to the range of an output."""

NO_TFLITE = ("kws_gru_s", "silero_vad_16k_op15", "silero_vad_op18_ifless")
"""Models with loops and branches; they are tried, but need not come through."""

MEMORY_LIMIT = 2.5
SAMPLES = 4


@dataclass(frozen=True, slots=True)
class Made:
    """What came of one model for one target.

    Parameters
    ----------
    problem
        Why there is no artifact; empty if there is one.
    error
        Largest, relative to the range of the output.
    """

    problem: str
    error: float = 0.0
    operators: Mapping[str, int] | None = None
    transposes: int = 0


def models(pattern: str = "") -> int:
    """Compile every model of the data folder; return how many bounds failed."""
    paths = [p for p in sorted((DATA / "models").rglob("*.onnx")) if pattern in p.stem]
    failures = compiled(paths, optional=NO_TFLITE)
    return failures + typed(paths)


def architectures(cache: Path | None, pattern: str = "") -> int:
    """Compile the architectures of the onnx package; return how many bounds failed."""
    names = [name for name in ARCHITECTURES if pattern in name]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) if cache is None else cache / "architectures"
        return compiled([written(name, root) for name in names])


def memory(cache: Path | None) -> int:
    """Print what compiling VGG-19 takes, proof included; return 1 if that is too much."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) if cache is None else cache / "architectures"
        path = written("vgg19", root)
        weights = sum(c.array.nbytes for c in load(path).graph.constants.values())
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "edgec", "compile", str(path), "-q"]
        usage = measure([*command, "-t", "tflite", "-o", str(out)])
    if usage.exit_code:
        print(f"vgg19: edgec failed: {usage.output.strip()}  FAIL")
        return 1
    times = usage.peak_bytes / weights
    fails = times > MEMORY_LIMIT
    print(
        f"vgg19, {weights / 1e6:.0f} MB of weights, to float TFLite with proof: peak "
        f"{usage.peak_bytes / 1e6:.0f} MB = {times:.2f}x of the weights (at most "
        f"{MEMORY_LIMIT}x), {usage.cpu_s:.1f} CPU s{_flag(fails)}"
    )
    return int(fails)


def compiled(paths: Sequence[Path], optional: Sequence[str] = ()) -> int:
    """Print a line for each model and target; return how many bounds failed."""
    work = [(path, target) for path in paths for target in ("onnxruntime", "tflite")]
    failures = 0
    for number, found in judged(_judge, work, timeout_s=1800, recycle=1):
        path, target = work[number]
        made = Made(f"CRASH: {found.how}") if isinstance(found, Died) else found
        exempt = target == "tflite" and path.stem in optional
        failures += _line(path.stem, target, made, exempt=exempt)
    return failures


def _line(name: str, target: str, made: Made, *, exempt: bool) -> int:
    """Print one line; return 1 if its bound does not hold."""
    if made.problem:
        fails = not exempt
        print(f"{name:26} {target:12} {made.problem[:150]}{_flag(fails)}", flush=True)
        return int(fails)
    operators = made.operators or {}
    limit = ORT_LIMIT if target == "onnxruntime" else TFLITE_LIMIT
    note = ""
    if target == "tflite" and "GELU" in operators:
        limit, note = GELU_LIMIT, " (GELU is an approximation in this runtime)"
    fails = not made.error <= limit
    moved = f", {made.transposes} TRANSPOSE" if target == "tflite" else ""
    print(
        f"{name:26} {target:12} largest error {made.error:.1e} of the range (at most "
        f"{limit:g}), {sum(operators.values())} operators{moved}{note}{_flag(fails)}",
        flush=True,
    )
    return int(fails)


def _judge(item: tuple[Path, str]) -> Made:
    """Compile one model and compare the artifact with the original on a few samples."""
    path, target = item
    shapes = SHAPES.get(path.stem, {})
    try:
        samples = _samples(load(path, shapes), path)
        options = CompileOptions((target,), shapes=shapes, calibration=samples)
        report = compile_model(path, options).report
    except EdgecError as error:
        return Made(" ".join(str(error).split()))
    except Exception as error:  # noqa: BLE001  (that is what is looked for)
        return Made(f"internal error: {type(error).__name__}: {error}")
    (artifact,) = report["artifacts"]
    off = artifact["fidelity"]["max_relative_error"]
    return Made("", off, artifact["operators"], len(artifact["transposes"]))


def _samples(loaded: Loaded, path: Path) -> dict[str, Array]:
    """Return a few inputs that differ enough for the model's outputs to differ."""
    inputs = loaded.graph.inputs
    feeds = [sensible_feeds(path.stem, inputs, seed) for seed in range(SAMPLES)]
    OnnxSession(ort_session(str(path))).run(feeds[0])
    return {
        v.name: (np.concatenate if v.name in loaded.batched else np.stack)(
            [feed[v.name] for feed in feeds]
        )
        for v in inputs
    }


def typed(paths: Sequence[Path]) -> int:
    """Print the operators of the models that have no class of their own; none is allowed."""
    opaque: dict[str, set[str]] = {}
    kinds: Counter[str] = Counter()
    for path in paths:
        # As exporters write them, parameters are computed, and known only once folded.
        graph, _ = simplify(load(path, SHAPES.get(path.stem, {})).graph)
        for node in graph.nodes:
            if type(node.op) is Opaque:
                opaque.setdefault(node.op.op_type, set()).add(path.stem)
            else:
                kinds[node.op.onnx_name] += 1
    print(f"operators with a class: {len(kinds)}, without: {len(opaque)}{_flag(bool(opaque))}")
    for kind, stems in sorted(opaque.items()):
        print(f"  {kind}: {', '.join(sorted(stems))}")
    return int(bool(opaque))


def _flag(fails: bool) -> str:
    return "  FAIL" if fails else ""
