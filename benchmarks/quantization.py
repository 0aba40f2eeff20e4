"""What quantization costs in accuracy, beside other tools: a command for each line of figures.

From the root of the checkout: ``python -m benchmarks.quantization COMMAND [--cache FOLDER]``.
Every tool gets the same samples, every artifact runs in its own runtime. A line ends with FAIL,
and the exit code is 1, where a bound does not hold.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.artifacts import Bench, Made, Settings
from benchmarks.fidelity import Interval, mean_difference, sqnr_difference
from benchmarks.models import LABELLED, UNLABELLED
from benchmarks.scoring import Case, Scores
from edgec.options import EFFORTS

__all__ = ["main"]

TARGETS = ("tflite", "onnxruntime")
MODELS = (*LABELLED, *UNLABELLED)

Row = tuple[Made, Scores]


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
    with tempfile.TemporaryDirectory() as folder:
        cache = arguments.cache or Path(folder)
        cache.mkdir(parents=True, exist_ok=True)
        bench = Bench(cache, arguments.samples, tuple(arguments.efforts), pythons)
        failures = sum(_COMMANDS[name](bench, arguments.models) for name in names)
    print(f"{failures} bounds failed" if failures else "all bounds hold")
    return int(failures > 0)


def peers(bench: Bench, case: Case) -> list[Made]:
    """Return what other tools make of a model."""
    found = [bench.peer(case, "onnxruntime", ("MinMax", "Entropy", "Percentile"))]
    plain = bench.float_tflite(case)
    if plain.path is None:
        found.append(plain)
    else:
        found.append(bench.peer(case, "calibrator", ("",), model=plain.path))
    if "aimet" in bench.pythons:
        found.append(bench.peer(case, "aimet", ("plain", "equalized")))
    if "quark" in bench.pythons:
        found.append(bench.peer(case, "quark", ("A8W8", "S8S8_AAWS")))
    return found


def models(bench: Bench, names: Sequence[str]) -> int:
    """Judge int8 of every model beside the best of the other tools."""
    return sum(_beside_peers(bench, bench.case(name)) for name in names)


def _beside_peers(bench: Bench, case: Case) -> int:
    heading(bench, case)
    others = rows(bench, case, peers(bench, case))
    failures = 0
    for target in TARGETS:
        ours = rows(
            bench, case, [bench.edgec(case, Settings(target, e)) for e in bench.efforts]
        )
        if not ours or ours[-1][0].label != str(Settings(target, bench.efforts[-1])):
            failures += 1
        elif others:
            failures += compared(case, ours[-1], others)
    return failures


def compared(case: Case, ours: Row, others: Sequence[Row]) -> int:
    """Print how an artifact compares with the best of the others; return how much fails.

    The bound is on what the model is judged by; the rest is told.
    """
    failures = 0
    for measure in _measures(case, ours[1]):
        what, value, difference = measure
        best = max(others, key=lambda row: value(row[1]))
        found = difference(ours[1], best[1])
        judged = what.split()[0] == case.measure
        bad = judged and found.is_worse
        failures += bad
        verdict = "FAIL" if bad else "holds" if judged else ""
        word = "worse" if found.is_worse else "better" if found.is_better else "equal"
        print(
            f"    {ours[0].label}: {what} {found} against {best[0].label}: {word}  {verdict}",
            flush=True,
        )
    return failures


Measure = tuple[str, Callable[[Scores], float], Callable[[Scores, Scores], Interval]]


def _measures(case: Case, scores: Scores) -> list[Measure]:
    found: list[Measure] = []
    if scores.right is not None:
        found.append(("accuracy", _accuracy, _of_shares("right")))
    if scores.agreed is not None:
        found.append(("agreement", _agreement, _of_shares("agreed")))
    kind = "psnr" if case.measure == "psnr" else "sqnr"
    found += [(f"{kind} of {name}", *_of_noise(name)) for name in scores.noise]
    return found


def _of_shares(field: str) -> Callable[[Scores, Scores], Interval]:
    return lambda a, b: mean_difference(getattr(a, field), getattr(b, field))


def _of_noise(
    name: str,
) -> tuple[Callable[[Scores], float], Callable[[Scores, Scores], Interval]]:
    return (
        lambda s: s.sqnr(name),
        lambda a, b: sqnr_difference(a.noise[name], b.noise[name]),
    )


def _accuracy(scores: Scores) -> float:
    return 0.0 if scores.right is None else float(100 * scores.right.mean())


def _agreement(scores: Scores) -> float:
    return 0.0 if scores.agreed is None else float(100 * scores.agreed.mean())


def heading(bench: Bench, case: Case) -> None:
    """Print what the float model reaches."""
    text = f"{case.name}: {len(case.calibration)} calibrate, {len(case.test)} score"
    if (reached := float_accuracy(bench, case)) is not None:
        text += f", float {reached:.2f} %"
    print(text, flush=True)
    print(
        f"  {'':38} {'acc':>6} {'drop':>6} {'agree':>6} {'SQNR':>6} {'bytes':>9} "
        f"{'CPU s':>6} {'s':>6} {'MB':>5}"
    )


def float_accuracy(bench: Bench, case: Case) -> float | None:
    """Return the accuracy of the float model in percent, if there are labels."""
    classes = bench.floating(case).classes
    if case.labels is None or classes is None:
        return None
    return float(100 * (classes.argmax(axis=1) == case.labels).mean())


def rows(bench: Bench, case: Case, made: Sequence[Made]) -> list[Row]:
    """Print a line for each artifact; return those that there are, with their scores."""
    found: list[Row] = []
    reached = float_accuracy(bench, case)
    for one in made:
        if one.path is None:
            print(f"  {one.label:38} failed: {one.reason}", flush=True)
            continue
        try:
            scores = bench.scores(one, case)
        except Exception as error:  # noqa: BLE001  (runtimes raise plain exceptions)
            print(f"  {one.label:38} does not run: {str(error).splitlines()[0]}", flush=True)
            continue
        found.append((one, scores))
        print(f"  {_line(one, scores, case, reached)}", flush=True)
    return found


def _line(one: Made, scores: Scores, case: Case, reached: float | None) -> str:
    right = drop = agreed = ""
    if scores.right is not None and reached is not None:
        right, drop = f"{_accuracy(scores):.2f}", f"{reached - _accuracy(scores):.2f}"
    if scores.agreed is not None:
        agreed = f"{_agreement(scores):.2f}"
    values = [
        scores.psnr(n) if case.measure == "psnr" else scores.sqnr(n) for n in scores.noise
    ]
    usage, size = one.usage, 0 if one.path is None else one.path.stat().st_size
    return (
        f"{one.label:38} {right:>6} {drop:>6} {agreed:>6} "
        f"{' '.join(f'{v:6.2f}' for v in values)} {size:9} "
        f"{usage.cpu_s:6.1f} {usage.wall_s:6.1f} {usage.peak_bytes / 1e6:5.0f}"
    )


def bound(text: str, holds: bool) -> int:
    """Print a bound and whether it holds; return 1 if not."""
    print(f"    {text}  {'holds' if holds else 'FAIL'}", flush=True)
    return int(not holds)


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
        if not ours:
            failures += 1
            continue
        label, scores = ours[-1][0].label, ours[-1][1]
        drop, agreed = reached - _accuracy(scores), _agreement(scores)
        ahead = scores.worst_sqnr - best[1].worst_sqnr
        failures += bound(f"{label}: drop {drop:.2f} points (at most 0.5)", drop <= 0.5 + 1e-9)
        failures += bound(f"{label}: agreement {agreed:.2f} % (at least 99)", agreed >= 99)
        text = f"{label}: SQNR {ahead:+.2f} dB against {best[0].label} (at least +1)"
        failures += bound(text, ahead >= 1)
    return failures


_COMMANDS: dict[str, Callable[[Bench, Sequence[str]], int]] = {
    "efficientnet": efficientnet,
    "models": models,
}


if __name__ == "__main__":
    raise SystemExit(main())
