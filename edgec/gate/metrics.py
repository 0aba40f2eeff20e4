"""Every number of a report that a budget can be set on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

__all__ = ["METRICS", "TARGET_NAMES", "Metric", "metric"]

TARGET_NAMES = ("tflite", "onnxruntime", "microcontroller")
"""Targets that a budget can name; here too, so that the gate loads no compiler."""

Report = Mapping[str, Any]
Reader = Callable[[Report, Report], float | None]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of an artifact.

    Parameters
    ----------
    unit
        ``""`` for a plain count; ``"share"`` for a number between 0 and 1.
    better
        Which direction is better; a budget may still limit either side.
    read
        Takes the report and one of its artifacts; ``None`` if the number is not there.
    """

    name: str
    unit: str
    better: Literal["lower", "higher"]
    description: str
    read: Reader


def metric(name: str) -> Metric | None:
    """Return the metric of that name."""
    return next((m for m in METRICS if m.name == name), None)


def _number(value: object) -> float | None:
    """Return a finite number, or ``None``: what is not a number can pass no gate."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON knows no largest integer
        return None
    return value if math.isfinite(number) else None


def _at(tree: object, *path: str) -> float | None:
    """Return the number at a path of keys, or ``None`` wherever the path ends early."""
    for key in path:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return _number(tree)


def _measured(key: str, report: Report, artifact: Report) -> float | None:
    return _at(report, "run", "profile", str(artifact.get("target")), key)


def _proven(key: str, report: Report, artifact: Report) -> float | None:
    del report
    return _at(artifact, "fidelity", key)


def _counted(key: str, report: Report, artifact: Report) -> float | None:
    del report
    return _at(artifact, key)


def _on_device(keys: Sequence[str], report: Report, artifact: Report) -> float | None:
    del report
    return _at(artifact, "device", *keys)


def _accuracy_drop(report: Report, artifact: Report) -> float | None:
    before, after = _at(report, "evaluation", "float"), _at(artifact, "accuracy")
    return None if before is None or after is None else before - after


def _own_metric(report: Report, artifact: Report) -> float | None:
    del report
    return _at(artifact, "metric", "value")


def _size_ratio(report: Report, artifact: Report) -> float | None:
    before, after = _at(report, "model", "bytes"), _at(artifact, "bytes")
    return None if not before or after is None else after / before


def _profile(name: str, unit: str, description: str) -> Metric:
    return Metric(name, unit, "lower", description, partial(_measured, name))


def _count(name: str, unit: str, description: str, *, key: str = "") -> Metric:
    return Metric(name, unit, "lower", description, partial(_counted, key or name))


def _device(name: str, unit: str, description: str, *parts: str) -> Metric:
    keys = (*parts, "total") if parts else (name,)
    return Metric(name, unit, "lower", description, partial(_on_device, keys))


METRICS: tuple[Metric, ...] = (
    _profile("latency_ms", "ms", "median time of one inference (edgec profile --report)"),
    _profile("latency_p95_ms", "ms", "95th percentile of the time of one inference"),
    _profile("cold_ms", "ms", "time from opening the artifact to its first result"),
    _profile("peak_rss_bytes", "bytes", "most memory of the process that ran the artifact"),
    _count("size_bytes", "bytes", "size of the artifact's files", key="bytes"),
    _device("instructions", "", "instructions of one inference on the emulated core"),
    _device("ram_bytes", "bytes", "arena, variables and stack on a microcontroller", "ram"),
    _device("flash_bytes", "bytes", "constants and code on a microcontroller", "flash"),
    Metric(
        "size_ratio", "", "lower", "size of the artifact over that of the model", _size_ratio
    ),
    Metric(
        "accuracy",
        "share",
        "higher",
        "correct answers on the evaluation samples (--eval)",
        partial(_counted, "accuracy"),
    ),
    Metric(
        "accuracy_drop",
        "share",
        "lower",
        "accuracy of the float model minus that of the artifact",
        _accuracy_drop,
    ),
    Metric(
        "metric",
        "",
        "higher",
        "your own measure on the evaluation samples (--metric module:function)",
        _own_metric,
    ),
    Metric(
        "sqnr_db",
        "dB",
        "higher",
        "signal to quantization noise, worst output",
        partial(_proven, "sqnr_db"),
    ),
    Metric(
        "max_error",
        "",
        "lower",
        "largest absolute difference to the float model",
        partial(_proven, "max_error"),
    ),
    Metric(
        "top1_agreement",
        "share",
        "higher",
        "samples with the same first class as the float model",
        partial(_proven, "top1_agreement"),
    ),
    _count("macs", "", "multiply-accumulates of one inference"),
    _count("parameters", "", "elements of all weights"),
    _count("weight_bytes", "bytes", "bytes of all weights"),
    _count("peak_activation_bytes", "bytes", "most bytes of activations alive at once"),
)
"""All metrics, in the order they are listed."""
