"""What quantization does to layers, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from edgec.cli.names import short
from edgec.cli.numbers import share_text
from edgec.cli.render import console, table

__all__ = ["print_debug"]


def print_debug(found: Mapping[str, Any]) -> None:
    """Print what :func:`edgec.debugging.debug_model` found."""
    out = console()
    layers = found["layers"]
    made = table(
        "layer",
        "operator",
        "alone",
        "accumulated",
        "cosine",
        "max error",
        "saturated",
        "range used",
        text=2,
    )
    made.columns[0].min_width = max((len(short(la["layer"])) for la in layers), default=0)
    made.columns[1].min_width = max((len(la["operator"]) for la in layers), default=0)
    for la in layers:
        alone, whole = la["alone"], la["accumulated"]
        made.add_row(
            short(la["layer"]),
            la["operator"],
            f"{alone['sqnr_db']:.1f} dB",
            f"{whole['sqnr_db']:.1f} dB",
            f"{whole['cosine']:.5f}",
            f"{whole['max_error']:.3g}",
            f"{100 * alone['saturated']:.2f} %",
            f"{100 * alone['range_used']:.0f} %",
        )
    out.print(made)
    out.print(
        "\nalone: signal-to-noise ratio with only this layer in integers; accumulated, cosine, "
        "max error: in the quantized\nmodel as it is; saturated: values beyond the range; "
        "range used: how much of it values reach"
    )
    out.print(
        f"{found['file']} for {found['target']}: outputs at {_output(found['output'])} on "
        f"{found['samples']} samples"
    )
    for d in found["in_float"]:
        text = Text("note  ", style="bold yellow")
        out.print(text.append(f"{short(d['where'])}: {d['message']}", "not bold default"))
    if found["bisect"] is not None:
        _print_search(found["bisect"])


def _output(figures: Mapping[str, Any]) -> str:
    top1 = figures["top1_agreement"]
    agreement = "" if top1 is None else f", {share_text(top1)} top-1 agreement"
    return f"{figures['sqnr_db']:.1f} dB{agreement}"


def _print_search(found: Mapping[str, Any]) -> None:
    out = console()
    kept = found["keep_float"]
    if not kept:
        out.print("\nThe goal holds with all layers in integers.")
        return
    out.print(
        f"\n{len(kept)} of {found['layers']} layers in float, with "
        f"{share_text(found['macs_share'])} of the MACs, bring the outputs from "
        f"{_output(found['before'])} to {_output(found['after'])}:"
    )
    for name in kept:
        out.print(f"  {name}")
    out.print(f"\n{found['command']}")
