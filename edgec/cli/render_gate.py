"""The verdict of the gate, as a table."""

from __future__ import annotations

from rich.text import Text

from edgec.cli.numbers import value_text
from edgec.cli.render import console, table
from edgec.gate import Line, Verdict

__all__ = ["print_verdict"]

_WORDS = {
    True: ("PASS", "green"),
    False: ("FAIL", "bold red"),
    None: ("MISSING", "bold yellow"),
}


def print_verdict(verdict: Verdict) -> None:
    """Print one line for each budget and artifact, and what it comes to."""
    made = table("", "artifact", "metric", "measured", "limit", "margin", text=3)
    for line in verdict.lines:
        word, style = _WORDS[line.passed]
        made.add_row(Text(word, style=style), line.target or "(none)", *_cells(line))
    out = console()
    out.print(made)
    if failed := len(verdict.failed):
        out.print(f"\nfailed: {failed} of {len(verdict.lines)} beyond the limit")
    elif missing := verdict.missing:
        out.print(f"\ninconclusive: {len(missing)} of {len(verdict.lines)} not in the report")
    else:
        out.print(f"\npassed: {len(verdict.lines)} of {len(verdict.lines)} within the limit")
    for hint in dict.fromkeys(map(_hint, verdict.missing)):
        out.print(f"  {hint}")


def _cells(line: Line) -> tuple[str, str, str, str]:
    budget, unit = line.budget, line.budget.metric.unit
    limit = f"{budget.relation} {value_text(budget.limit, unit)}"
    if line.value is None or line.margin is None:
        return budget.metric.name, "-", limit, "-"
    margin = value_text(line.margin, unit)
    percent = f" ({100 * line.margin / abs(budget.limit):+.1f} %)" if budget.limit else ""
    signed = margin if line.margin < 0 else f"+{margin}"
    return budget.metric.name, value_text(line.value, unit), limit, f"{signed}{percent}"


def _hint(line: Line) -> str:
    """Say how a number gets into the report."""
    name, wanted = line.budget.metric.name, line.budget.target
    if not line.has_artifact:
        way = f" for {wanted}; compile with -t {wanted}" if wanted else ""
        return f"{name}: the report has no artifact{way}"
    if name in ("latency_ms", "latency_p95_ms", "cold_ms", "peak_rss_bytes"):
        return f"{name}: run `edgec profile ARTIFACT --report` with this report first"
    if name in ("accuracy", "accuracy_drop"):
        return f"{name}: compile with --eval"
    return f"{name}: the report does not hold it"
