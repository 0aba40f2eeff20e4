"""Reports, as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgec.cli.names import short
from edgec.cli.numbers import at, bytes_text, change_text, count_text, share_text
from edgec.cli.problems import problems
from edgec.cli.render_compression import compression_lines
from edgec.cli.render_device import device_lines
from edgec.cli.render_search import search_lines
from edgec.cli.render_sharing import sharing_lines
from edgec.files import json_bytes

__all__ = ["console", "print_list", "print_report", "score_text", "table"]

_LEAST_COLUMNS = 140


def console() -> Console:
    """Return a console on standard output that takes all text literally."""
    # Names of layers hold brackets, which rich would take for markup. Where there is no
    # terminal, or a narrow one, lines run over: cut or folded numbers are of no use.
    out = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    out.width = max(out.width, _LEAST_COLUMNS)
    return out


def table(*columns: str, text: int = 1) -> Table:
    """Return an empty table whose first `text` columns are words and the others numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i, name in enumerate(columns):
        right = i >= text
        made.add_column(name, justify="right" if right else "left", no_wrap=right)
    return made


def print_list(rows: Sequence[Mapping[str, str]], *, as_json: bool) -> None:
    """Print things that have a name and a few words each."""
    if as_json:
        click.echo(json_bytes([dict(row) for row in rows]), nl=False)
        return
    names = list(rows[0]) if rows else []
    listing = table(*names, text=len(names))
    for row in rows:
        listing.add_row(*(row[name] for name in names))
    console().print(listing)


def print_report(
    report: Mapping[str, Any],
    *,
    folder: Path,
    quiet: bool = False,
) -> None:
    """Print the ledger, the artifacts and what is wrong with them; the last comes first."""
    out = console()
    for problem in problems(report):
        out.print(Text("PROBLEM  ", style="bold red").append(problem, style="not bold default"))
    if quiet:
        return
    out.print(_ledger(report))
    out.print()
    out.print(_artifacts(report))
    for artifact in report["artifacts"]:
        for text in (
            *device_lines(artifact),
            *compression_lines(report, artifact),
            *search_lines(artifact),
            *sharing_lines(artifact),
        ):
            out.print(text)
    if told := at(report, "calibration", "report"):
        out.print(f"\n{_calibration(told)}")
    for line in _diagnostics(report):
        out.print(line)
    names = [str(a[k]) for a in report["artifacts"] for k in ("file", "weights") if k in a]
    names += [str(name) for a in report["artifacts"] for name in a.get("beside") or ()]
    golden = report.get("golden")
    names += [str(golden)] if golden else []
    out.print(f"\nwrote {', '.join([*names, 'report.json'])} to {folder}")


def _ledger(report: Mapping[str, Any]) -> Table:
    made = table("pass", "nodes", "parameters", "MACs", "weights", "fidelity", "seconds")
    seconds = at(report, "run", "seconds", "passes") or []
    model = report["model"]
    # Shapes that exporters compute in the graph are known only once constants are folded.
    counted = any(line["macs"][1] for line in report["ledger"])

    def macs(count: float) -> str:
        return count_text(count) if count or not counted else "?"

    made.add_row(
        f"{model['file']}",
        count_text(model["nodes"]),
        count_text(model["parameters"]),
        macs(model["macs"]),
        bytes_text(model["weight_bytes"]),
        "",
        "",
    )
    for i, line in enumerate(report["ledger"]):
        target = line.get("target")
        made.add_row(
            f"{target}: {line['pass']}" if target else line["pass"],
            change_text(line["nodes"], count_text),
            change_text(line["parameters"], count_text),
            change_text(line["macs"], macs),
            change_text(line["weight_bytes"], bytes_text),
            _fidelity(line),
            f"{seconds[i]:.2f}" if i < len(seconds) else "",
            style=None if line.get("changed") else "dim",
        )
    return made


def _fidelity(line: Mapping[str, Any]) -> str:
    """Return how close a pass kept to the model: exact, an error or an SQNR."""
    if not line.get("changed"):
        return "unchanged"
    if line.get("sqnr_db") is not None:
        return f"{line['sqnr_db']:.1f} dB"
    if line.get("error") is None:
        return str(line["promise"]) if line.get("verified") else f"{line['promise']}?"
    return "exact" if line["error"] == 0 else f"error {line['error']:.1e}"


def _calibration(told: Mapping[str, Any]) -> str:
    """Return a line about calibration; edgec calibrate has more."""
    tensors = told["tensors"]
    text = f"{len(tensors)} ranges by {told['method']} from {told['samples']} samples"
    if not tensors:
        return text
    apart = max(tensors, key=lambda t: t["disagreement"])
    far = max(tensors, key=lambda t: t["outliers"])
    return (
        f"{text}; methods are furthest apart at {short(apart['layer'])} "
        f"({apart['disagreement']:.1f}x), outliers at {short(far['layer'])} "
        f"({far['outliers']:.1f}x)"
    )


def _artifacts(report: Mapping[str, Any]) -> Table:
    score = str(at(report, "evaluation", "metric") or "accuracy")
    made = table("artifact", "size", "of model", "operators", "SQNR", "top-1 agreement", score)
    for artifact in report["artifacts"]:
        made.add_row(*artifact_cells(report, artifact))
    return made


def artifact_cells(report: Mapping[str, Any], artifact: Mapping[str, Any]) -> Iterator[str]:
    """Yield the cells that describe one artifact."""
    size, model_size = artifact["bytes"], report["model"]["bytes"]
    sqnr, agreement = (at(artifact, "fidelity", k) for k in ("sqnr_db", "top1_agreement"))
    yield str(artifact["file"])
    yield bytes_text(size)
    yield f"{size / model_size:.2f}x" if model_size else "-"
    transposes = len(artifact.get("transposes") or ())
    moved = f", {transposes} TRANSPOSE" if transposes else ""
    yield f"{sum((artifact.get('operators') or {}).values())}{moved}"
    yield "-" if sqnr is None else f"{sqnr:.1f} dB"
    yield "-" if agreement is None else share_text(agreement)
    yield score_text(report, artifact)


def score_text(report: Mapping[str, Any], artifact: Mapping[str, Any]) -> str:
    """Return the accuracy and how many points it is away from the float model's.

    What a user's own metric returns is shown as it is.
    """
    before, after = at(report, "evaluation", "float"), artifact.get("accuracy")
    if after is not None:
        points = "" if before is None else f" ({100 * (after - before):+.1f} to float)"
        return f"{share_text(after)}{points}"
    own = at(artifact, "metric", "value")
    if own is None:
        return "-"
    return f"{own:.4g}" if before is None else f"{own:.4g} (float {before:.4g})"


def _diagnostics(report: Mapping[str, Any]) -> Iterator[Text]:
    """Yield what was noticed: about the model, by each pass, about each artifact."""
    groups = [
        (None, report.get("diagnostics")),
        *((str(line["pass"]), line.get("diagnostics")) for line in report["ledger"]),
        *((str(a["file"]), a.get("diagnostics")) for a in report["artifacts"]),
    ]
    said: set[tuple[object, ...]] = set()  # a pass and a file may say the same
    for source, listed in groups:
        for d in listed or ():
            key = d.get("where"), d["message"], d.get("hint")
            if key in said:
                continue
            said.add(key)
            place = ": ".join(p for p in (source, d.get("where")) if p)
            text = Text("note  ", style="bold yellow")
            text.append(
                f"{place}: {d['message']}" if place else d["message"], "not bold default"
            )
            if d.get("hint"):
                text.append(f" ({d['hint']})", style="not bold default")
            yield text
