"""``--max-drop``: what it keeps and what it costs, on samples that it did not search on too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.artifacts import Bench, Made, Settings
from benchmarks.fidelity import is_right
from benchmarks.scoring import Case
from benchmarks.tables import bound, heading

__all__ = ["mixed"]

_MODELS = ("resnet8", "resnet20", "mobilenet_v1_025", "mobilenet_v2", "efficientnet_lite0")
_MOST = 0.5
_RECIPE = "static_wi4_ai8"
_EVERY = 3
"""Every third test sample is searched on."""


def mixed(bench: Bench, names: Sequence[str]) -> int:
    """Judge int4 weights raised until half a point holds, beside int4 and int8 alone."""
    failures = 0
    for name in (n for n in _MODELS if n in names):
        case = bench.case(name)
        heading(bench, case)
        failures += _searched(bench, case)
    return failures


def _searched(bench: Bench, case: Case) -> int:
    effort = bench.efforts[-1]
    recipes = (_RECIPE, "static_wi8_ai8")
    plain = [bench.edgec(case, Settings("tflite", effort, recipe)) for recipe in recipes]
    seen = np.arange(0, len(case.test), _EVERY)
    options = [
        *("--recipe", _RECIPE, "--effort", effort, "--no-speed"),
        *("--calibration", str(bench.calibration(case))),
        *("--eval", _labelled(bench, case, seen), "--max-drop", str(_MOST)),
        *("--shape", f"{case.input}={','.join(map(str, case.shape))}"),
    ]
    made = bench.compiled(f"--max-drop {_MOST}", case.model, "tflite", options)
    for one in (*plain, made):
        if one.path is None:
            return bound(f"{one.label}: {one.reason}", holds=False)
        _row(bench, case, one, seen)
    search = bench.last_report()["artifacts"][0]["search"]
    kinds = sorted({f"{r['before']} to {r['after']}" for r in search["raised"]})
    text = f"{len(search['raised'])} of {search['layers']} layers raised"
    print(f"    {text} ({', '.join(kinds) or 'none'}) in {len(search['tries'])} tries")
    holds = bound(f"{made.label}: {search['loses']} on {len(seen)}", holds=search["holds"])
    return holds + bound("no larger than int8", holds=_bytes(made) <= _bytes(plain[1]))


def _row(bench: Bench, case: Case, made: Made, seen: Any) -> None:
    """Print what an artifact loses on the samples that were searched on, and on the others."""
    floats, labels = bench.floating(case).classes, case.labels
    right = bench.scores(made, case).right
    assert floats is not None
    assert labels is not None
    assert right is not None
    lost = is_right(floats, labels).astype(float) - right
    unseen = np.delete(lost, seen)
    error = 100 * unseen.std() / np.sqrt(len(unseen))
    print(
        f"  {made.label:38} drop {100 * lost[seen].mean():6.2f}, unseen "
        f"{100 * unseen.mean():6.2f} +- {error:.2f}, {_bytes(made):9,} bytes, "
        f"{made.usage.wall_s:6.1f} s",
        flush=True,
    )


def _bytes(made: Made) -> int:
    assert made.path is not None
    return made.path.stat().st_size


def _labelled(bench: Bench, case: Case, chosen: Any) -> str:
    """Return a file of test samples with their labels."""
    assert case.labels is not None
    path = bench.cache / f"{case.name}-labelled-{len(chosen)}.npz"
    arrays: dict[str, Any] = {case.input: case.test[chosen], "labels": case.labels[chosen]}
    np.savez(path, **arrays)
    return str(path)
