"""Tables of artifacts, and how one compares with others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.artifacts import Bench, Made
from benchmarks.fidelity import Interval, mean_difference, sqnr_difference
from benchmarks.scoring import Case, Scores

__all__ = [
    "Row",
    "accuracy",
    "agreement",
    "bound",
    "compared",
    "float_accuracy",
    "heading",
    "rows",
]

Row = tuple[Made, Scores]


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
        found.append(("accuracy", accuracy, _of_shares("right")))
    if scores.agreed is not None:
        found.append(("agreement", agreement, _of_shares("agreed")))
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


def accuracy(scores: Scores) -> float:
    """Return the accuracy in percent, 0 without labels."""
    return 0.0 if scores.right is None else float(100 * scores.right.mean())


def agreement(scores: Scores) -> float:
    """Return the top-1 agreement with float in percent, 0 without classes."""
    return 0.0 if scores.agreed is None else float(100 * scores.agreed.mean())


def heading(bench: Bench, case: Case) -> None:
    """Print what the float model reaches."""
    text = f"{case.name}: {len(case.calibration)} calibrate, {len(case.test)} score"
    if (reached := float_accuracy(bench, case)) is not None:
        text += f", float {reached:.2f} %"
    print(text, flush=True)
    ratio = "PSNR" if case.measure == "psnr" else "SQNR"
    print(
        f"  {'':38} {'acc':>6} {'drop':>6} {'agree':>6} {ratio:>6} {'bytes':>9} "
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
        right, drop = f"{accuracy(scores):.2f}", f"{reached - accuracy(scores):.2f}"
    if scores.agreed is not None:
        agreed = f"{agreement(scores):.2f}"
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
