"""Accuracy of int8 artifacts against the float model they were made from.

From the root of the checkout:
``python -m benchmarks.accuracy [--ranges METHOD] [--effort EFFORT] [MODEL ...]``.
Every artifact runs in its own runtime, on the same samples as the float model; a line ends
with FAIL, and the exit code is 1, where a bound does not hold.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.models import DATA, LABELLED, Array, Labelled
from edgec.compiler import CompileOptions, compile_model


def main() -> int:
    """Measure the models named on the command line, all by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ranges", default=None)
    parser.add_argument("--effort", default="default")
    parser.add_argument("models", nargs="*", default=list(LABELLED))
    arguments = parser.parse_args()
    failed = False
    print(
        "model               target       samples   float    int8    drop   limit  agree  SQNR"
    )
    for name in arguments.models:
        failed |= not measure(name, arguments.ranges, arguments.effort)
    return int(failed)


def measure(name: str, ranges: str | None, effort: str) -> bool:
    """Print one line an artifact; return whether all bounds hold."""
    model = LABELLED[name]
    calibration, evaluation = model.samples()
    options = CompileOptions(
        ("tflite", "onnxruntime"),
        "static_wi8_ai8",
        calibration,
        evaluation,
        ranges=ranges,
        effort=effort,
    )
    start = time.process_time()
    report = compile_model(DATA / "models" / model.file, options).report
    seconds = time.process_time() - start
    good = measure_float(name, model, calibration)
    for artifact in report["artifacts"]:
        reference, value = report["evaluation"]["float"], artifact["accuracy"]
        drop = 100 * (reference - value)
        holds = drop <= model.points + 1e-9
        agreement = artifact["agreement"]
        holds &= model.agreement is None or agreement >= model.agreement
        good &= holds
        print(
            f"{name:19} {artifact['target']:12} {report['evaluation']['samples']:7} "
            f"{100 * reference:7.2f} {100 * value:7.2f} {drop:7.2f} {model.points:7.2f} "
            f"{100 * agreement:6.1f} {artifact['fidelity']['sqnr_db']:5.1f} dB"
            f"{'' if holds else '  FAIL'}",
            flush=True,
        )
    print(f"{name:19} {seconds:.1f} CPU s in all", flush=True)
    return good


def measure_float(name: str, model: Labelled, calibration: dict[str, Array]) -> bool:
    """Print how close float artifacts are; compiling them raises where that is too far."""
    options = CompileOptions(("tflite", "onnxruntime"), None, calibration)
    report = compile_model(DATA / "models" / model.file, options).report
    for artifact in report["artifacts"]:
        fidelity = artifact["fidelity"]
        print(
            f"{name:19} {artifact['target']:12} float32: largest error "
            f"{fidelity['max_relative_error']:.1e} of the output's range, "
            f"{fidelity['sqnr_db']:.0f} dB on {fidelity['samples']} held-out samples"
        )
    return True


if __name__ == "__main__":
    raise SystemExit(main())
