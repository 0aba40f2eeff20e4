"""What quantization costs in accuracy, beside other tools: a command for each line of figures.

From the root of the checkout: ``python -m benchmarks.quantization COMMAND [--cache FOLDER]``.
Every tool gets the same samples, every artifact runs in its own runtime. A line ends with FAIL,
and the exit code is 1, where a bound does not hold.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.artifacts import Bench, Made, Settings
from benchmarks.compile_cost import write_samples
from benchmarks.fidelity import agrees, packed_share
from benchmarks.kernels import kernels
from benchmarks.mixed import mixed
from benchmarks.models import LABELLED, UNLABELLED
from benchmarks.processes import measure
from benchmarks.scoring import Case
from benchmarks.tables import (
    accuracy,
    agreement,
    bound,
    compared,
    float_accuracy,
    heading,
    rows,
)
from edgec.options import EFFORTS
from edgec.targets.tflite.reader import read_tflite

__all__ = ["main"]

TARGETS = ("tflite", "onnxruntime")
MODELS = (*LABELLED, *UNLABELLED)


def main() -> int:
    """Run the commands named on the command line, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("commands", nargs="+", choices=[*_COMMANDS, "all"])
    parser.add_argument("--cache", type=Path, help="folder for what takes long to make")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--samples", type=int, help="test samples, at most")
    closed_form = [e for e in EFFORTS if e != "max"]
    parser.add_argument("--efforts", nargs="+", choices=EFFORTS, default=closed_form)
    parser.add_argument("--aimet-python", help="interpreter with aimet-onnx")
    parser.add_argument("--quark-python", help="interpreter with amd-quark")
    arguments = parser.parse_args()
    names = list(_COMMANDS) if "all" in arguments.commands else arguments.commands
    packages = ("onnx", "onnxruntime", "ai-edge-litert", "numpy")
    print(
        f"Python {platform.python_version()}",
        *(f"{p} {version(p)}" for p in packages),
        sep=", ",
    )
    given = {"aimet": arguments.aimet_python, "quark": arguments.quark_python}
    pythons = {tool: python for tool, python in given.items() if python}
    for tool, python in pythons.items():
        print(f"{tool} {_version(python, _PACKAGES[tool])}")
    with tempfile.TemporaryDirectory() as folder:
        cache = arguments.cache or Path(folder)
        cache.mkdir(parents=True, exist_ok=True)
        bench = Bench(cache, arguments.samples, tuple(arguments.efforts), pythons)
        failures = sum(_COMMANDS[name](bench, arguments.models) for name in names)
    print(f"{failures} bounds failed" if failures else "all bounds hold")
    return int(failures > 0)


_PACKAGES = {"aimet": "aimet-onnx", "quark": "amd-quark"}


def _version(python: str, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return measure([python, "-c", code]).output.strip()


def peers(bench: Bench, case: Case) -> list[Made]:
    """Return what other tools make of a model."""
    found = [onnxruntime_peer(bench, case)]
    plain = bench.float_tflite(case)
    if plain.path is None:
        found.append(plain)
    else:
        found.append(bench.peer(case, "calibrator", ("",), model=plain.path))
    if "aimet" in bench.pythons:
        found.append(bench.peer(case, "aimet", ("min_max", "tf_enhanced", "min_max+equalized")))
    if "quark" in bench.pythons:
        found.append(bench.peer(case, "quark", ("U8S8_AAWS", "INT8_CNN_DEFAULT")))
    return found


def onnxruntime_peer(bench: Bench, case: Case) -> Made:
    """Return what ``onnxruntime.quantization`` makes with the best of its methods."""
    return bench.peer(case, "onnxruntime", ("MinMax", "Entropy", "Percentile"))


def models(bench: Bench, names: Sequence[str]) -> int:
    """Judge int8 of every model beside the best of the other tools."""
    return sum(_beside_peers(bench, bench.case(name)) for name in names)


def _beside_peers(bench: Bench, case: Case) -> int:
    heading(bench, case)
    others = rows(bench, case, peers(bench, case))
    failures = 0
    for target in TARGETS:
        made = [bench.edgec(case, Settings(target, e)) for e in bench.efforts]
        ours = rows(bench, case, made)
        if not ours or ours[-1][0] is not made[-1]:
            failures += bound(f"{made[-1].label}: no artifact", holds=False)
        elif others:
            failures += compared(case, ours[-1], others)
    return failures


def efficientnet(bench: Bench, names: Sequence[str]) -> int:
    """Judge EfficientNet-Lite0 in int8 by the bounds of its own."""
    case = bench.case("efficientnet_lite0")
    heading(bench, case)
    others = rows(bench, case, peers(bench, case))
    best = max(others, key=lambda row: row[1].worst_sqnr)
    reached = float_accuracy(bench, case) or 0.0
    failures = 0
    for target in TARGETS:
        made = [bench.edgec(case, Settings(target, e)) for e in bench.efforts]
        ours = rows(bench, case, made)
        if not ours or ours[-1][0] is not made[-1]:
            failures += bound(f"{made[-1].label}: no artifact", holds=False)
            continue
        label, scores = ours[-1][0].label, ours[-1][1]
        drop, agreed = reached - accuracy(scores), agreement(scores)
        ahead = scores.worst_sqnr - best[1].worst_sqnr
        failures += bound(f"{label}: drop {drop:.2f} points (at most 0.5)", drop <= 0.5 + 1e-9)
        failures += bound(f"{label}: agreement {agreed:.2f} % (at least 99)", agreed >= 99)
        text = f"{label}: SQNR {ahead:+.2f} dB against {best[0].label} (at least +1)"
        failures += bound(text, ahead >= 1)
    return failures


def per_tensor(bench: Bench, names: Sequence[str]) -> int:
    """Judge weights with one scale a layer, plain and recovered."""
    failures = 0
    for name in chosen(names, ("efficientnet_lite0", "mobilenet_v1_025")):
        case = bench.case(name)
        heading(bench, case)
        for target in TARGETS:
            settings = [Settings(target, e, scheme="per-tensor") for e in bench.efforts]
            failures += _dropped(bench, case, settings, 1.5)
    return failures


def _dropped(bench: Bench, case: Case, settings: Sequence[Settings], most: float) -> int:
    """Print a row for each setting; return 1 if the last one falls too far below float."""
    made = [bench.edgec(case, one) for one in settings]
    ours = rows(bench, case, made)
    if not ours or ours[-1][0] is not made[-1]:
        return bound(f"{settings[-1]}: no artifact", holds=False)
    drop = (float_accuracy(bench, case) or 0.0) - accuracy(ours[-1][1])
    text = f"{ours[-1][0].label}: drop {drop:.2f} points (at most {most:g})"
    return bound(text, drop <= most + 1e-9)


_INT4 = {"resnet20": 1.5, "resnet56": 1.5, "efficientnet_lite0": 3.0}


def int4(bench: Bench, names: Sequence[str]) -> int:
    """Judge weights in 4 bits, beside those in 8."""
    failures = 0
    for name in chosen(names, tuple(_INT4)):
        case = bench.case(name)
        heading(bench, case)
        rows(bench, case, [bench.edgec(case, Settings("tflite", bench.efforts[-1]))])
        settings = [Settings("tflite", e, "static_wi4_ai8") for e in bench.efforts]
        failures += _dropped(bench, case, settings, _INT4[name])
        made = bench.edgec(case, settings[-1])
        if made.path is not None:
            share = packed_share(read_tflite(made.path))
            text = f"{made.label}: {100 * share:.1f} % of the weights that can have 4 bits do"
            failures += bound(f"{text} (at least 90)", share >= 0.9)
    return failures


_LIMITS = {"default": (30.0, None), "full": (180.0, 2e9)}


def cost(bench: Bench, names: Sequence[str]) -> int:
    """Judge what compiling EfficientNet-Lite0 on 200 samples takes."""
    failures = 0
    samples, case = bench.cache / "cost-200.npz", bench.case("efficientnet_lite0")
    if not samples.exists():
        write_samples(samples, 200)
    print(f"efficientnet_lite0, 200 samples, load {os.getloadavg()[0]:.1f}")
    for target in TARGETS:
        for effort in bench.efforts:
            options = ["--recipe", "static_wi8_ai8", "--calibration", str(samples)]
            made = bench.compiled(
                str(Settings(target, effort)),
                case.model,
                target,
                [*options, "--effort", effort],
            )
            if made.path is None:
                failures += bound(f"{made.label}: {made.reason}", holds=False)
                continue
            usage = made.usage
            text = f"{made.label}: {usage.cpu_s:.1f} CPU s, {usage.wall_s:.1f} s"
            text += f", {usage.peak_bytes / 1e6:.0f} MB"
            seconds, size = _LIMITS.get(effort, (None, None))
            good = (seconds is None or usage.wall_s < seconds) and (
                size is None or usage.peak_bytes < size
            )
            limits = [f"{seconds:g} s"] if seconds else []
            limits += [f"{size / 1e6:g} MB"] if size else []
            failures += bound(f"{text} (limits: {', '.join(limits) or 'none'})", good)
    return failures


def arrives(bench: Bench, names: Sequence[str]) -> int:
    """Judge TFLite made of models that another tool quantized."""
    failures = 0
    for name in chosen(names, tuple(LABELLED)):
        case = bench.case(name)
        heading(bench, case)
        found = rows(bench, case, [onnxruntime_peer(bench, case)])
        if not found or found[0][0].path is None:
            failures += 1
            continue
        theirs, source = found[0], found[0][0].path
        options = ["--shape", f"{case.input}={','.join(map(str, case.shape))}"]
        label = "edgec tflite of the same"
        ours = rows(bench, case, [bench.compiled(label, source, "tflite", options)])
        if not ours:
            failures += 1
            continue
        failures += compared(case, ours[0], [theirs])
        one, other = ours[0][1].classes, theirs[1].classes
        if one is not None and other is not None:
            print(f"    top-1 agreement of the two {100 * agrees(one, other).mean():.2f} %")
    return failures


def chosen(names: Sequence[str], of: Sequence[str]) -> list[str]:
    """Return those of a command's models that were asked for."""
    return [name for name in of if name in names]


_COMMANDS: dict[str, Callable[[Bench, Sequence[str]], int]] = {
    "efficientnet": efficientnet,
    "per-tensor": per_tensor,
    "int4": int4,
    "models": models,
    "cost": cost,
    "kernels": kernels,
    "arrives": arrives,
    "mixed": mixed,
}


if __name__ == "__main__":
    raise SystemExit(main())
