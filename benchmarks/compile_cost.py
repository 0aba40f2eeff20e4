"""What ``edgec compile`` costs beside other tools that do the same: CPU seconds and memory.

From the root of the checkout: ``python -m benchmarks.compile_cost [--peer-python PYTHON]``.
Whole processes, interleaved, CPU seconds and the peak resident memory of the process tree, the
least of several runs each. Exits with 1 where a bound does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.models import DATA, LABELLED
from benchmarks.processes import Usage, measure
from edgec.calibration import DEFAULT, METHODS

PEERS = Path(__file__).parent / "peers"
MODELS = ("efficientnet_lite0", "mobilenet_v2")

ORT_LIMIT = 0.7
TFLITE_LIMIT = 0.6
GROWTH_LIMIT = 1.05
HELP_LIMIT_S = 0.2


def main() -> int:
    """Measure everything; return how many bounds failed."""
    parser = argparse.ArgumentParser(description="cost of compiling, beside other tools")
    parser.add_argument("--peer-python", help="interpreter with onnx2tf and onnxslim")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for count in (32, 50, 200, 500):
            write_samples(root / f"{count}.npz", count)
        for name in MODELS:
            for count in (32, 200):
                failures += compare(name, count, root, arguments.peer_python, arguments.runs)
        failures += memory(root)
    failures += start_up()
    return int(failures > 0)


def write_samples(path: Path, count: int) -> None:
    """Write calibration samples: the first images, scaled as EfficientNet-Lite0 wants them."""
    from benchmarks.models import loader

    images, _ = loader().imagenet(224)
    chosen = images[np.arange(count) % len(images)].astype(np.float32)
    x = np.ascontiguousarray(((chosen - 127) / 128).transpose(0, 3, 1, 2))
    np.savez(path, input=x)


def edgec(
    model: Path, samples: Path, out: Path, targets: Sequence[str], ranges: str
) -> list[str]:
    """Return the command that compiles a model to int8, proof on."""
    command = [sys.executable, "-m", "edgec", "compile", str(model), "--quiet"]
    for target in targets:
        command += ["-t", target]
    return [
        *command,
        *("--recipe", "static_wi8_ai8", "--ranges", ranges),
        *("--calibration", str(samples), "-o", str(out)),
    ]


def compare(name: str, count: int, root: Path, peer_python: str | None, runs: int) -> int:
    """Print one block: ours and the peers', in turn; return the number of failures."""
    model, samples = DATA / "models" / LABELLED[name].file, root / f"{count}.npz"
    out = root / "out"
    commands = {
        "edgec onnxruntime minmax": edgec(model, samples, out, ["onnxruntime"], "minmax"),
        "edgec tflite minmax": edgec(model, samples, out, ["tflite"], "minmax"),
        f"edgec both {DEFAULT} (default)": edgec(
            model, samples, out, ["tflite", "onnxruntime"], DEFAULT
        ),
        "onnxruntime.quantization": [
            *(sys.executable, str(PEERS / "quantize_onnxruntime.py")),
            *(str(model), str(samples), str(count), str(root / "peer.onnx")),
        ],
    }
    if peer_python:
        commands["onnxslim+onnx2tf+calibrator"] = [
            *(peer_python, str(PEERS / "quantize_litert.py")),
            *(str(model), str(samples), str(count), str(root / "peer.tflite")),
        ]
    best = interleaved(commands, runs)
    print(f"{name}, {count} samples")
    for label, usage in best.items():
        print(
            f"  {label:34} {usage.cpu_s:6.2f} CPU s {usage.wall_s:6.2f} s "
            f"{usage.peak_bytes / 1e6:7.0f} MB"
        )
    return ratio(
        best, "edgec onnxruntime minmax", "onnxruntime.quantization", ORT_LIMIT
    ) + ratio(best, "edgec tflite minmax", "onnxslim+onnx2tf+calibrator", TFLITE_LIMIT)


def interleaved(commands: dict[str, list[str]], runs: int) -> dict[str, Usage]:
    """Return for each command the run with the least CPU time."""
    best: dict[str, Usage] = {}
    for _ in range(runs):
        for label, command in commands.items():
            usage = measure(command, {**os.environ, "PYTHONPATH": str(Path.cwd())})
            if usage.exit_code:
                raise SystemExit(f"{label} failed:\n{usage.output}")
            if label not in best or usage.cpu_s < best[label].cpu_s:
                best[label] = usage
    return best


def ratio(best: dict[str, Usage], ours: str, peer: str, limit: float) -> int:
    """Print how we compare with one peer; return 1 if that is more than allowed."""
    if peer not in best:
        print(f"  {ours} against {peer}: not measured, that tool is not here")
        return 0
    found = best[ours].cpu_s / best[peer].cpu_s
    print(f"  {ours} / {peer}: {found:.2f}x (limit {limit}x)" + flag(found <= limit))
    return int(found > limit)


def memory(root: Path) -> int:
    """Print how peak memory grows with the samples for every range method."""
    model = DATA / "models" / LABELLED["mobilenet_v2"].file
    failures = 0
    for method in METHODS:
        # The largest of three: a peak that one run misses would flatter the ratio.
        peaks = [
            max(
                measure(
                    edgec(model, root / f"{n}.npz", root / "out", ["tflite"], method)
                ).peak_bytes
                for _ in range(3)
            )
            for n in (50, 500)
        ]
        growth = peaks[1] / peaks[0]
        print(
            f"memory, {method:10} 50 samples {peaks[0] / 1e6:.0f} MB, 500 samples "
            f"{peaks[1] / 1e6:.0f} MB: {growth:.3f}x (limit {GROWTH_LIMIT}x)"
            + flag(growth <= GROWTH_LIMIT)
        )
        failures += growth > GROWTH_LIMIT
    return failures


def start_up() -> int:
    """Print what ``edgec --help`` costs."""
    best = min(measure([sys.executable, "-m", "edgec", "--help"]).cpu_s for _ in range(5))
    print(f"edgec --help: {best:.3f} CPU s (limit {HELP_LIMIT_S})" + flag(best < HELP_LIMIT_S))
    return int(best >= HELP_LIMIT_S)


def flag(holds: bool) -> str:
    """Return the end of a line that states a bound."""
    return "" if holds else "  FAIL"


if __name__ == "__main__":
    raise SystemExit(main())
