"""Damaged files are refused or harmless, whatever the damage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.fuzz.loader import Files, Outcome, artifacts, judge, originals

MODELS, TFLITE = 400, 150


def outcomes(paths: dict[str, Path], count: int) -> Sequence[Outcome]:
    """Damage files in turn; say which mutant went wrong."""
    files = Files(tuple(paths), paths, seed=20)
    found = [judge(files, number) for number in range(count)]
    wrong = [f"mutant {i}: {outcome.what}" for i, outcome in enumerate(found) if outcome.wrong]
    assert not wrong, "\n".join(wrong)
    return found


def test_damaged_models_are_refused_or_compile(tmp_path: Path) -> None:
    found = outcomes(originals(tmp_path, None), MODELS)

    assert sum(o.parsed for o in found) > 0.3 * MODELS
    assert {"compiled", "loaded and simplified", "refused: ModelError"} <= {
        o.what for o in found
    }


def test_damaged_tflite_files_are_refused_or_inspected(tmp_path: Path) -> None:
    found = outcomes(artifacts(tmp_path), TFLITE)

    assert {"inspected", "refused: ModelError"} <= {o.what for o in found}
