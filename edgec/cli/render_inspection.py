"""What is in a model, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgec.cli.numbers import bytes_text, count_text
from edgec.cli.render import console, table

__all__ = ["print_inspection", "print_tflite"]

_SHOWN = 20


def print_inspection(found: Mapping[str, Any]) -> None:
    """Print what :func:`edgec.cli.inspection.inspect_model` found."""
    out = console()
    out.print(f"{found['file']}: {bytes_text(found['bytes'])}, opset {found['opset']}")
    for kind in ("inputs", "outputs"):
        for port in found[kind]:
            dims = "?" if port["shape"] is None else ",".join(map(str, port["shape"]))
            shape = "" if "(" in port["dtype"] else f"[{dims}]"  # a sequence says it itself
            out.print(f"  {kind[:-1]} {port['name']}: {port['dtype']}{shape}")
    out.print(f"  quantization: {_quantization(found['quantization'])}\n")
    _print_cost(found)
    out.print()
    operators = table("operator", "as it is", "after lossless passes", "without a class")
    for entry in found["operators"]:
        counts = (entry[key] or "-" for key in ("count", "simplified", "untyped"))
        operators.add_row(entry["name"], *map(str, counts))
    out.print(operators)
    out.print()
    for name, refusals in found["targets"].items():
        _print_target(name, refusals)


def print_tflite(found: Mapping[str, Any]) -> None:
    """Print what :func:`edgec.cli.inspection.inspect_tflite` found."""
    out = console()
    out.print(f"{found['file']}: {bytes_text(found['bytes'])}, TFLite")
    for kind in ("inputs", "outputs"):
        for port in found[kind]:
            dims = ",".join(map(str, port["shape"]))
            line = f"  {kind[:-1]} {port['name']}: {port['dtype']}[{dims}]"
            if port["scale"]:
                line += f", scale {port['scale'][0]:.6g}, zero point {port['zero_point'][0]}"
            out.print(line)
    sizes = table("operators", "parameters", "MACs", "weights", text=0)
    sizes.add_row(
        count_text(found["nodes"]),
        count_text(found["parameters"]),
        count_text(found["macs"]),
        bytes_text(found["weight_bytes"]),
    )
    out.print()
    out.print(sizes)
    operators = table("operator", "computes", "version", "count", text=2)
    for entry in found["operators"]:
        numbers = (str(entry["version"]), str(entry["count"]))
        operators.add_row(entry["name"], entry["dtype"], *numbers)
    out.print()
    out.print(operators)
    said = found["delegate"]
    out.print(f"\nXNNPACK runs {said['delegated']} of {said['operators']} ({said['version']})")


def _print_cost(found: Mapping[str, Any]) -> None:
    after = found["simplified"]
    made = table("", "nodes", "parameters", "MACs", "weights", "peak activations")
    for label, source in (("as it is", found), ("after lossless passes", after)):
        macs, peak = source["macs"], source["peak_activation_bytes"]
        made.add_row(
            label,
            count_text(source["nodes"]),
            count_text(source["parameters"]),
            "unknown" if macs is None else count_text(macs),
            bytes_text(source["weight_bytes"]),
            "unknown" if peak is None else bytes_text(peak),
        )
    console().print(made)


def _quantization(state: Mapping[str, Any]) -> str:
    if state["state"] == "float":
        return "none, the model is float"
    parts = [
        (state["pairs"], "pairs of QuantizeLinear and DequantizeLinear"),
        (state["quantized_weights"], "quantized weights"),
        (state["integer_operators"], "integer operators"),
    ]
    return ", ".join(f"{count} {what}" for count, what in parts if count)


def _print_target(name: str, refusals: list[dict[str, str]]) -> None:
    out = console()
    if not refusals:
        out.print(f"{name} takes this model")
        return
    count = f"{len(refusals)} problem{'' if len(refusals) == 1 else 's'}"
    out.print(f"{name} refuses this model: {count}")
    for d in refusals[:_SHOWN]:
        place = f"{d['where']}: " if d["where"] else ""
        hint = f" ({d['hint']})" if d["hint"] else ""
        out.print(f"  {place}{d['message']}{hint}")
    if len(refusals) > _SHOWN:
        out.print(f"  and {len(refusals) - _SHOWN} more; --json lists them all")
