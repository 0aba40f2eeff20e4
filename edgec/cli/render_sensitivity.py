"""What each way to make a model smaller would cost and save, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from edgec.cli.names import short
from edgec.cli.numbers import bytes_text, count_text
from edgec.cli.render import console, table

__all__ = ["print_sensitivity"]

_LONGEST = 60  # letters of a layer's name


def print_sensitivity(found: Mapping[str, Any], most: int) -> None:
    """Print what :func:`edgec.sensitivity.sensitivity_report` found.

    Parameters
    ----------
    most
        Lines for each place.
    """
    out = console()
    made = table("layer", "technique", "option", "nats", "MACs", "weights", "time", text=3)
    for row in _spread(found["rows"], most):
        time = row["seconds"]
        made.add_row(
            short(row["layer"], _LONGEST),
            row["technique"],
            row["option"],
            f"{row['nats']:.2e}",
            _saved(row["macs"], found["macs"]),
            _saved(row["bytes"], found["bytes"]),
            "-" if time is None else _saved(time, found["seconds"]),
        )
    out.print(made)
    out.print(
        f"\n{found['file']} has {count_text(found['macs'])} multiply-accumulates and "
        f"{bytes_text(found['bytes'])} of weights. Nats are lost for each sample, measured or "
        f"estimated on {found['held_out']} held out of {found['samples']}; times are predicted "
        f"for {found['target']}, not measured."
    )


def _saved(saved: float, whole: float) -> str:
    """Return a change as a share of all there is: what is saved has a minus."""
    return f"{-100 * saved / whole:+.1f} %" if saved and whole else "-"


def _spread(rows: Sequence[Mapping[str, Any]], most: int) -> Iterator[Mapping[str, Any]]:
    """Yield some rows of each place, the middle one if there is one to be shown."""
    for _, group in groupby(rows, key=lambda r: (r["technique"], r["layer"])):
        options = list(group)
        count = min(most, len(options))
        for i in range(count):
            yield options[(2 * i + 1) * len(options) // (2 * count)]
