"""Compressed artifacts as the command line makes them: speed, cost, resumption, chains."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compression.bench import Bench, bound
from benchmarks.compression.cases import Case, Paired, paired
from benchmarks.models import DATA, Array
from benchmarks.processes import Usage, measure
from benchmarks.scoring import opened

__all__ = ["chain", "cost", "resume", "speed"]

TARGETS = {"tflite": ".tflite", "onnxruntime": ".onnx", "microcontroller": ".c"}
_TIMED = "tflite", "onnxruntime"
_INT8 = ("--recipe", "static_wi8_ai8")
_FOUR = ("--channel-multiple", "4")


@dataclass(frozen=True)
class Built:
    """An artifact and its report.

    Parameters
    ----------
    artifact
        Its entry in the report.
    """

    path: Path
    report: dict[str, Any]
    usage: Usage

    @property
    def artifact(self) -> dict[str, Any]:
        found: dict[str, Any] = self.report["artifacts"][0]
        return found

    @property
    def structure(self) -> dict[str, Any] | None:
        """How fast it is beside the artifact with all of its structure."""
        found: dict[str, Any] = self.report["run"]["structure"]
        return found.get(self.artifact["target"])


def speed(bench: Bench, names: Sequence[str]) -> int:
    """Time int8 artifacts beside the uncompressed ones, for each technique and target."""
    failures = 0
    for name, share in _SHARES:
        if name not in names:
            continue
        case = bench.case(name)
        print(f"{name}, --target-macs {share}x, int8")
        for target in _TIMED:
            plain = built(bench, case, target, _INT8)
            _row(f"{target}, whole", plain, scored(plain, case))
            for label, more in _WAYS.items():
                made = built(bench, case, target, (*_INT8, "--target-macs", f"{share}x", *more))
                _row(f"{target}, {label}", made, scored(made, case))
                if not more:
                    failures += _is_not_slower(made)
    return failures


_SHARES = (
    ("resnet56", 0.667),
    ("resnet20", 0.769),
    ("resnet8", 0.833),
    ("efficientnet_lite0", 0.926),
)
_WAYS: dict[str, tuple[str, ...]] = {
    "by default": (),
    "channels by fours": ("--technique", "prune-channels", *_FOUR),
    "separable": ("--technique", "factorize-separable"),
    "low rank": ("--technique", "factorize-low-rank"),
}


def _is_not_slower(made: Built) -> int:
    found = made.structure
    if found is None:
        reached = made.artifact["compression"]["left"]
        return bound(f"nothing was compressed ({reached})", holds=False)
    return bound("not slower than uncompressed, beyond noise", holds=not found["slower"])


def _row(label: str, made: Built, score: Paired) -> None:
    found, compression = made.structure, made.artifact.get("compression")
    told = "" if compression is None else f"{compression['left']}, "
    took = ""
    if found is not None:
        took = (
            f", {found['speedup']:.2f} +- {found['noise']:.2f} times as fast "
            f"({found['latency_ms']:g} ms, {found['float_latency_ms']:g} ms)"
        )
    print(
        f"  {label:32} {told}{made.artifact['bytes']:9,} bytes, accuracy {score}{took}, "
        f"{made.usage.wall_s:.0f} s",
        flush=True,
    )


def cost(bench: Bench, names: Sequence[str]) -> int:
    """Measure what ``--target-macs 0.67x`` takes on ResNet-56, nothing measured before."""
    if "resnet56" not in names:
        return 0
    case = bench.case("resnet56")
    found = built(bench, case, "tflite", (*_INT8, "--target-macs", "0.67x", *_FOUR), kept=None)
    usage = found.usage
    print(
        f"resnet56, --target-macs 0.67x: {usage.wall_s:.0f} s, {usage.cpu_s:.0f} s of CPU, "
        f"{usage.peak_bytes / 1e6:.0f} MB; {found.artifact['compression']['left']}"
    )
    failures = bound("under 8 minutes", holds=usage.wall_s < 480)
    return failures + bound("under 3 GB", holds=usage.peak_bytes < 3e9)


def resume(bench: Bench, names: Sequence[str]) -> int:
    """Stop runs by Ctrl-C and by force, let them go on, and compare the bytes."""
    failures = 0
    for name in ("resnet8", "resnet20"):
        if name not in names:
            continue
        case = bench.case(name)
        options = (*_INT8, "--target-macs", "0.8x", *_FOUR)
        whole = built(bench, case, "tflite", options, kept=None)
        print(f"{name}: {whole.usage.wall_s:.0f} s in one go")
        for how in (signal.SIGINT, signal.SIGKILL):
            folder = bench.cache / f"resumed-{name}-{how.name}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            stops = [
                _stopped(bench, case, options, folder, how, share * whole.usage.wall_s)
                for share in (0.2, 0.3, 0.4)
            ]
            left = sorted(p.name for p in (folder / "out").glob("*"))
            failures += bound(f"{how.name} left nothing half-written", holds=not left)
            again = built(bench, case, "tflite", options, kept=folder / "cache")
            same = again.path.read_bytes() == whole.path.read_bytes()
            text = f"{how.name} at {', '.join(f'{s:.1f} s' for s in stops)}: the same bytes"
            failures += bound(f"{text}, then {again.usage.wall_s:.0f} s", holds=same)
    return failures


def _stopped(
    bench: Bench,
    case: Case,
    options: Sequence[str],
    folder: Path,
    how: signal.Signals,
    after: float,
) -> float:
    """Start a run and stop it; return after how many seconds."""
    command = _command(bench, case, "tflite", options, folder / "out")
    process = subprocess.Popen(
        command,
        env=_environment(folder / "cache"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    start = time.perf_counter()
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.send_signal(how)
        process.wait()
    return time.perf_counter() - start


def chain(bench: Bench, names: Sequence[str]) -> int:
    """Print what structure and int8 do together to two small models, in one command."""
    failures = 0
    for name, share in (("kws_ds_cnn", 0.8), ("resnet8", 0.833)):
        if name not in names:
            continue
        case = bench.case(name)
        before = built(bench, case, "tflite", _INT8)
        options = (*_INT8, "--target-macs", f"{share}x", *_FOUR)
        after = built(bench, case, "tflite", options)
        print(f"{name}: int8, and int8 with --target-macs {share}x by fours")
        for label, made in (("int8", before), ("structure + int8", after)):
            entry = made.artifact
            print(
                f"  {label:18} {entry['macs']:10,} MACs, {entry['bytes']:8,} bytes of flash, "
                f"{entry['peak_activation_bytes']:7,} bytes of activations at once, "
                f"accuracy {scored(made, case)}"
            )
        less = after.artifact["macs"] <= share * before.artifact["macs"] * 1.001
        failures += bound("the goal holds", holds=less)
        failures += _on_a_core(bench, case, share)
    return failures


_CORE = ("--device", "cortex-m4")
_SCORED = 1000
"""Test samples of which the command line says how many an artifact for a core gets right."""


def _on_a_core(bench: Bench, case: Case, share: float) -> int:
    """Print what becomes of a chain on a microcontroller, as its reports say it."""
    name = case.graph.inputs[0].name
    test = bench.cache / f"test-{case.name}.npz"
    arrays: dict[str, Any] = {name: case.test[:_SCORED], "labels": case.labels[:_SCORED]}
    np.savez(test, **arrays)
    options = (*_INT8, *_CORE, "--eval", str(test))
    goal = ("--target-macs", f"{share}x", *_FOUR)
    reports = [
        built(bench, case, "microcontroller", o).artifact for o in (options, (*options, *goal))
    ]
    failures = 0
    for label, entry in zip(("int8", "structure + int8"), reports, strict=True):
        device = entry["device"]
        ram, flash = device["ram"]["total"], device["flash"]["total"]
        print(
            f"  {label:18} {device['instructions']:10,} instructions on a Cortex-M4, "
            f"{ram:7,} bytes of RAM, {flash:7,} of flash, "
            f"accuracy {100 * entry['accuracy']:.2f} of {len(arrays['labels'])}",
            flush=True,
        )
        failures += bound(
            "bit for bit what TFLite Micro computes", holds=device["verification"]["exact"]
        )
    fewer = reports[1]["device"]["instructions"] < reports[0]["device"]["instructions"]
    return failures + bound("fewer instructions than before", holds=fewer)


def built(
    bench: Bench,
    case: Case,
    target: str,
    options: Sequence[str],
    *,
    kept: Path | None = Path(),
) -> Built:
    """Return what the command line makes of a model.

    Parameters
    ----------
    kept
        Where measurements are kept: beside what the benchmark keeps unless said otherwise;
        ``None`` for nowhere.
    """
    words = "-".join([case.name, target, *(Path(o).name.strip("-") for o in options)])
    output = bench.cache / f"built-{words}{'' if kept == Path() else '-anew'}"
    report = output / "report.json"
    measured = bench.cache / "measured" if kept == Path() else kept
    command = _command(bench, case, target, options, output)
    usage = measure(command, _environment(measured))
    if usage.exit_code not in (0, 5):
        raise RuntimeError(f"{' '.join(command)} failed:\n{usage.output}")
    path = output / (Path(case.file).stem + TARGETS[target])
    return Built(path, json.loads(report.read_text()), usage)


def _command(
    bench: Bench, case: Case, target: str, options: Sequence[str], output: Path
) -> list[str]:
    samples = bench.cache / f"calibration-{case.name}.npz"
    name = case.graph.inputs[0].name
    if not samples.exists():
        arrays: dict[str, Any] = {name: case.calibration}
        np.savez(samples, **arrays)
    shape = f"{name}={','.join(map(str, (1, *case.test.shape[1:])))}"
    return [
        *(sys.executable, "-m", "edgec", "compile", str(DATA / "models" / case.file)),
        *("-t", target, "--calibration", str(samples), "--shape", shape, "-q"),
        *("-o", str(output), *options),
    ]


def _environment(kept: Path | None) -> dict[str, str]:
    return {**os.environ, "EDGEC_CACHE": "" if kept is None else str(kept)}


def scored(made: Built, case: Case) -> Paired:
    """Return how an artifact does on the test samples beside the float model."""
    run = opened(made.path)
    found: Array = np.array([int(run(x[None])[0].argmax()) for x in case.test])
    return paired(case.classes, found, case.labels)
