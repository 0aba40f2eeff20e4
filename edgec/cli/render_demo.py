"""The end of the demo: float and int8 side by side, and what to try next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgec.cli.numbers import at, bytes_text
from edgec.cli.render import console, score_text, table

__all__ = ["print_summary"]


def print_summary(reports: Mapping[str, Mapping[str, Any]], output: Path) -> None:
    """Print every artifact of every report, and commands that take it from there."""
    made = table("artifact", "target", "accuracy", "size", "SQNR", text=2)
    for kind, report in reports.items():
        for artifact in report["artifacts"]:
            sqnr = at(artifact, "fidelity", "sqnr_db")
            made.add_row(
                f"{kind}/{artifact['file']}",
                str(artifact["target"]),
                score_text(report, artifact),
                bytes_text(artifact["bytes"]),
                "-" if sqnr is None else f"{sqnr:.1f} dB",
            )
    out = console()
    out.print("\nfloat and int8 side by side\n")
    out.print(made)
    out.print("\nnext:")
    for line in _next(reports, output):
        out.print(f"  {line}")


def _next(reports: Mapping[str, Mapping[str, Any]], output: Path) -> list[str]:
    folder = output / "int8"
    artifact = reports["int8"]["artifacts"][0]
    report = shlex.quote(str(folder / "report.json"))
    file = shlex.quote(str(folder / artifact["file"]))
    return [
        f"edgec profile {file} --report {report}",
        f'edgec gate {report} --budget "{artifact["target"]}.latency_ms<=1" '
        '--budget "accuracy>=0.9"',
        f"edgec compile YOUR.onnx -t {artifact['target']} -o out",
    ]
