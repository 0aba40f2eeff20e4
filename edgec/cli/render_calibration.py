"""What calibration samples showed, as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from edgec.cli.names import short
from edgec.cli.problems import warning_text
from edgec.cli.render import console, table

__all__ = ["print_calibration"]

_BARS = " ▁▂▃▄▅▆▇█"
_COLUMNS = 16


def print_calibration(found: Mapping[str, Any]) -> None:
    """Print what :func:`edgec.preparation.calibration_report` found."""
    out = console()
    for w in found["warnings"]:
        text = Text("PROBLEM  ", style="bold red")
        out.print(text.append(warning_text(w), style="not bold default"))
    tensors = found["tensors"]
    made = table(
        "layer", "range", "seen", "methods apart", "outliers", "halves apart", "histogram"
    )
    made.columns[0].min_width = max((len(short(t["layer"])) for t in tensors), default=0)
    made.columns[-1].justify = "left"
    for t in tensors:
        made.add_row(
            short(t["layer"]),
            _ends(t["range"]),
            _ends(t["seen"]),
            f"{t['disagreement']:.2f}x",
            f"{t['outliers']:.2f}x",
            f"{t['halves_steps']:.0f} steps",
            _bars(t["histogram"]),
        )
    out.print(made)
    held = found.get("held_out", 0)
    besides = f" ({held} more are held out)" if held else ""
    out.print(
        f"\n{found['file']} for {found['target']}: {len(tensors)} ranges by {found['method']} "
        f"from {found['samples']} samples{besides}"
    )
    out.print(
        "methods apart: widest range of the methods over the narrowest; outliers: all that was "
        "seen over 99.9 % of it;\nhalves apart: how far ranges from half of the samples each "
        "differ, in steps of 8 bits; histogram: logarithmic, zeros left out"
    )
    for d in found["notes"]:
        out.print(Text("note  ", style="bold yellow").append(d["message"], "not bold default"))
    if not found["warnings"]:
        out.print("nothing looks wrong with the samples")


def _ends(ends: Sequence[float]) -> str:
    return f"{ends[0]:.4g} to {ends[1]:.4g}"


def _bars(counts: Sequence[int]) -> str:
    """Return a histogram of few columns, each as high as the logarithm of its count."""
    if not counts:
        return ""
    wide = len(counts) // _COLUMNS
    joined = [sum(counts[i : i + wide]) for i in range(0, len(counts), wide)]
    top = math.log1p(max(joined))
    return "".join(_BARS[math.ceil(math.log1p(c) / top * (len(_BARS) - 1))] for c in joined)
